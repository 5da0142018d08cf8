"""The ``blocks`` table: every block that bore a log, ends of chunks, and above finalized what reorgs are found by.

Followed blocks that no row refers to are pruned: a chain of four a second has a hundred million of them a year. Above
what is final every block is kept: a reorganisation is found by it. Below, a block that bore no log tells no more than
the time, and one for some seconds is enough for that. So old blocks are left as a backfill would have left them:
those that bore logs, and a few between them. On a chain whose blocks are as far apart as those few, all stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.block_records import BlockColumns
from indexer.errors import GaplessError
from indexer.intervals import BlockRange
from indexer.store.catalog.catalog import table_identifiers
from indexer.store.catalog.version import load_version, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.rows import copy_binary

#: Seconds between the blocks that stay.
BETWEEN: Final = 10
#: Days for which all stay: people may look into what has just happened.
PRUNING_AGE: Final = 7
#: Blocks that are looked through at once.
PRUNING_BATCH: Final = 20_000

#: Tables that are looked through by one statement.
_TABLES_AT_ONCE: Final = 200

# What refers to a block by its number, besides the tables of events.
_REFERRING: Final = ("undecoded_logs", "foreign_shapes", "children", "series_points", "transactions", "block_details")


class ForeignBlockError(GaplessError):
    """A finalized block has another hash than the one that was stored: not the chain that was indexed so far.

    Attributes:
        number: of the block.
        stored: the hash that was stored.
    """

    number: int
    stored: bytes

    @classmethod
    def of(cls, chain_id: int, block: "Block", stored: bytes) -> Self:
        """The error about a block that is stored with another hash."""
        error = cls(
            f"block {block.number} of chain {chain_id} is 0x{block.hash.hex()} at the node, but "
            f"0x{stored.hex()} is stored",
            hint="either the node serves another chain, or a finalized block was reorganised. Nothing was written. "
            "Compare with a second provider, then: gapless audit --against URL, and gapless repair",
        )
        error.number, error.stored = block.number, stored
        return error


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the ``blocks`` table keeps it; ``time`` in Unix seconds."""

    number: int
    hash: bytes
    time: int
    parent_hash: bytes | None = None


def insert_blocks(connection: Connection, chain_id: int, blocks: Sequence[Block]) -> None:
    """Keeps blocks, in ascending order (so that two workers never wait for each other in a circle).

    Afterwards every one of them is stored with this very hash, and stays so until the transaction ends, whatever others
    commit meanwhile.

    Raises:
        ForeignBlockError: one of them is stored with another hash.
    """
    while _insert(connection, chain_id, blocks) < len(blocks):
        # A row that was in the way may be gone when it is looked at: the follower swapped a branch.
        if _all_stored(connection, chain_id, blocks):
            return


def _insert(connection: Connection, chain_id: int, blocks: Sequence[Block]) -> int:
    # Arrays in binary form: as text, their bytes cost more than all else in a sparse backfill.
    inserted = psycopg_connection(connection).execute(
        """
        INSERT INTO gapless.blocks (chain_id, number, hash, parent_hash, time)
        SELECT %s, number, hash, parent_hash, to_timestamp(seconds)
        FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[], %b::bigint[]) AS given (number, hash, parent_hash, seconds)
        ORDER BY number
        ON CONFLICT (chain_id, number) DO NOTHING
        """,
        (
            chain_id,
            [block.number for block in blocks],
            [block.hash for block in blocks],
            [block.parent_hash for block in blocks],
            [block.time for block in blocks],
        ),
    )
    return inserted.rowcount


def _all_stored(connection: Connection, chain_id: int, blocks: Sequence[Block]) -> bool:
    # A statement of its own sees what was committed while the first one waited; the lock keeps it there.
    stored = dict(
        psycopg_connection(connection)
        .execute(
            "SELECT number, hash FROM gapless.blocks WHERE chain_id = %s AND number = ANY(%s) "
            "ORDER BY number FOR KEY SHARE",
            (chain_id, [block.number for block in blocks]),
        )
        .fetchall()
    )
    for block in blocks:
        found = stored.get(block.number, block.hash)
        if found != block.hash:
            raise ForeignBlockError.of(chain_id, block, found)
    return stored.keys() >= {block.number for block in blocks}


def hold_block(
    connection: Connection, chain_id: int, number: int, block_hash: bytes, *, newest_until: int | None = None
) -> bool:
    """Makes sure that a block is of the branch that is indexed, and that it stays so until the transaction ends.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        number: the block.
        block_hash: its hash.
        newest_until: a number up to which no other block may follow it on that branch; None: the block's own.

    Returns:
        False if it is not. A finalized block that is not stored is taken to be: of history only some are kept.
    """
    driver = psycopg_connection(connection)
    # A reorganisation moves the tip first: it waits for us and finds what we wrote, or we see its work.
    row = driver.execute(
        "SELECT finalized_number, tip_number FROM gapless.chains WHERE chain_id = %s FOR SHARE", (chain_id,)
    ).fetchone()
    if newest_until is not None and newest_until > number:
        follows = driver.execute(
            "SELECT EXISTS (SELECT FROM gapless.blocks WHERE chain_id = %s AND number > %s AND number <= %s)",
            (chain_id, number, newest_until),
        ).fetchone()
        # Above finalized every block is stored, up to the tip.
        if follows != (False,) or row is None or row[1] is None or newest_until > row[1]:
            return False
    stored = driver.execute(
        "SELECT hash FROM gapless.blocks WHERE chain_id = %s AND number = %s", (chain_id, number)
    ).fetchone()
    # Also of a final one: it may have been read before, when another block had its place.
    if stored is not None:
        return bool(bytes(stored[0]) == block_hash)
    return row is not None and row[0] is not None and bool(number <= row[0])


def copy_blocks(connection: Connection, chain_id: int, blocks: BlockColumns) -> None:
    """Keeps blocks of history: by COPY where none of them is stored yet, which costs Postgres half of an INSERT.

    Raises:
        ForeignBlockError: one of them is stored with another hash.
    """
    if not len(blocks):
        return
    driver = psycopg_connection(connection)
    stored = driver.execute(
        "SELECT EXISTS (SELECT FROM gapless.blocks WHERE chain_id = %s AND number BETWEEN %s AND %s)",
        (chain_id, int(blocks.numbers[0]), int(blocks.numbers[-1])),
    ).fetchone()
    if stored == (False,):
        try:
            with driver.transaction():
                _copy(driver, chain_id, blocks)
        except psycopg.errors.UniqueViolation:
            # Another worker has written some of them meanwhile.
            pass
        else:
            return
    insert_blocks(
        connection, chain_id, [Block(number, block_hash, time) for number, block_hash, time in blocks.items()]
    )


def _copy(driver: psycopg.Connection[Any], chain_id: int, blocks: BlockColumns) -> None:
    rows = copy_binary.encode(
        [
            ("bigint", np.full(len(blocks), chain_id, dtype=np.int64)),
            ("bigint", blocks.numbers),
            ("bytea", blocks.hashes),
            ("timestamptz", copy_binary.timestamps(blocks.times)),
        ],
        len(blocks),
    )
    statement = "COPY gapless.blocks (chain_id, number, hash, time) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(copy_binary.SIGNATURE)
        copy.write(rows.data)
        copy.write(copy_binary.TRAILER)


@dataclass(frozen=True, slots=True)
class PrunedBlocks:
    """What came of one look.

    Attributes:
        through: blocks up to here are done with.
        removed: so many are gone.
    """

    through: int
    removed: int


def prune_blocks(
    connection: Connection, chain_id: int, *, age: float = PRUNING_AGE, batch: int = PRUNING_BATCH
) -> PrunedBlocks | None:
    """Looks through the next blocks of a chain, and removes those that tell no more than their neighbours.

    Args:
        connection: in a transaction that has done nothing yet.
        chain_id: the chain.
        age: days that a block must be old.
        batch: blocks to look through at most.

    Returns:
        None: all that are old enough have been looked through.

    Raises:
        CatalogChangedError: the manifest is being applied; nothing was done.
    """
    with writing_by(connection, load_version(connection)):
        within = _next_old(connection, chain_id, age, batch)
        if within is None:
            return None
        removed = 0
        if (step := _kept_step(connection, chain_id, within)) > 1:
            numbers = _lock_candidates(connection, chain_id, within, step)
            removed = _remove_unreferred(connection, chain_id, within, numbers) if numbers else 0
        psycopg_connection(connection).execute(
            "UPDATE gapless.chains SET thinned_number = greatest(thinned_number, %s) WHERE chain_id = %s",
            (within[1], chain_id),
        )
        return PrunedBlocks(within[1], removed)


def _next_old(connection: Connection, chain_id: int, age: float, batch: int) -> BlockRange | None:
    driver = psycopg_connection(connection)
    first = driver.execute(
        """
        SELECT b.number, c.finalized_number FROM gapless.chains c JOIN gapless.blocks b USING (chain_id)
        WHERE chain_id = %s AND b.number > coalesce(c.thinned_number, -1) AND b.number < c.finalized_number
        ORDER BY b.number LIMIT 1
        """,
        (chain_id,),
    ).fetchone()
    if first is None:
        return None
    number, finalized = first
    last = min(number + batch, finalized) - 1
    young = driver.execute(
        """
        SELECT number FROM gapless.blocks WHERE chain_id = %s AND number BETWEEN %s AND %s
          AND time > now() - make_interval(secs => %s) ORDER BY number LIMIT 1
        """,
        (chain_id, number, last, age * 86_400),
    ).fetchone()
    if young is not None:
        last = young[0] - 1
    return (number, last) if last >= number else None


def _kept_step(connection: Connection, chain_id: int, within: BlockRange) -> int:
    """Of so many followed blocks one stays."""
    row = (
        psycopg_connection(connection)
        .execute(
            """
            SELECT count(*), extract(epoch FROM max(time) - min(time))::float8 FROM gapless.blocks
            WHERE chain_id = %s AND number BETWEEN %s AND %s AND parent_hash IS NOT NULL
            """,
            (chain_id, *within),
        )
        .fetchone()
    )
    assert row is not None
    count, seconds = row
    return int(BETWEEN * count / seconds) if seconds else int(count)


def _lock_candidates(connection: Connection, chain_id: int, within: BlockRange, step: int) -> list[int]:
    """Candidates, which no other transaction can refer to any more until the transaction ends.

    Only followed ones, which have a parent: a backfill's ends of chunks stay, by which another chain is recognised.
    """
    rows = psycopg_connection(connection).execute(
        """
        SELECT number FROM gapless.blocks WHERE chain_id = %s AND number BETWEEN %s AND %s
          AND parent_hash IS NOT NULL AND number %% %s <> 0
        ORDER BY number FOR UPDATE SKIP LOCKED
        """,
        (chain_id, *within, step),
    )
    return [number for (number,) in rows]


def _remove_unreferred(connection: Connection, chain_id: int, within: BlockRange, numbers: list[int]) -> int:
    # Statements of their own: they see what was committed before the candidates were locked, and a later transaction
    # waits for the lock, finds the block gone and stores it again.
    tables = table_identifiers(connection)
    tables += [sql.Identifier("gapless", name) for name in _REFERRING]
    left = set(numbers)
    for at in range(0, len(tables), _TABLES_AT_ONCE):
        left -= _referred(connection, chain_id, within, tables[at : at + _TABLES_AT_ONCE])
    return (
        psycopg_connection(connection)
        .execute("DELETE FROM gapless.blocks WHERE chain_id = %s AND number = ANY(%s)", (chain_id, sorted(left)))
        .rowcount
    )


def _referred(connection: Connection, chain_id: int, within: BlockRange, tables: Sequence[sql.Identifier]) -> set[int]:
    """The blocks of a range that rows of some tables refer to."""
    one = sql.SQL(
        "SELECT block_number FROM {} WHERE chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s"
    )
    # Taken back, so that it locks no table any more: the server has no room for a lock of each of many thousand.
    nested = connection.begin_nested()
    rows = (
        psycopg_connection(connection)
        .execute(
            sql.SQL(" UNION ").join([one.format(table) for table in tables]),
            {"chain_id": chain_id, "first": within[0], "last": within[1]},
        )
        .fetchall()
    )
    nested.rollback()
    return {number for (number,) in rows}
