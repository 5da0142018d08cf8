"""The ``blocks`` table: every block that bore a log, ends of chunks, and above finalized what reorgs are found by.

Those that were followed stay when they become final, until :mod:`indexer.store.rows.block_retention` makes them fewer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import psycopg
from sqlalchemy.engine import Connection

from indexer.block_columns import BlockColumns
from indexer.errors import GaplessError
from indexer.store.database import psycopg_connection
from indexer.store.rows import copy_binary


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
