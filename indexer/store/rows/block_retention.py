"""Pruning followed blocks that no row refers to: a chain of four a second has a hundred million of them a year.

Above what is final every block is kept: a reorganisation is found by it. Below, a block that bore no log tells no more
than the time, and one for some seconds is enough for that. So old blocks are left as a backfill would have left them:
those that bore logs, and a few between them. On a chain whose blocks are as far apart as those few, all stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange
from indexer.store.catalog.catalog import table_identifiers
from indexer.store.catalog.version import load_version, writing_by
from indexer.store.database import psycopg_connection

#: Seconds between the blocks that stay.
BETWEEN: Final = 10
#: Days for which all stay: people may look into what has just happened.
AGE: Final = 7
#: Blocks that are looked through at once.
BATCH: Final = 20_000

#: Tables that are looked through by one statement.
_AT_ONCE: Final = 200

# What refers to a block by its number, besides the tables of events.
_REFERRING: Final = ("undecoded_logs", "foreign_shapes", "children", "series_points", "transactions", "block_details")


@dataclass(frozen=True, slots=True)
class PrunedBlocks:
    """What came of one look.

    Attributes:
        through: blocks up to here are done with.
        removed: so many are gone.
    """

    through: int
    removed: int


def prune(connection: Connection, chain_id: int, *, age: float = AGE, batch: int = BATCH) -> PrunedBlocks | None:
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
        within = _next(connection, chain_id, age, batch)
        if within is None:
            return None
        removed = 0
        if (step := _step(connection, chain_id, within)) > 1:
            numbers = _locked(connection, chain_id, within, step)
            removed = _removed(connection, chain_id, within, numbers) if numbers else 0
        psycopg_connection(connection).execute(
            "UPDATE gapless.chains SET thinned_number = greatest(thinned_number, %s) WHERE chain_id = %s",
            (within[1], chain_id),
        )
        return PrunedBlocks(within[1], removed)


def _next(connection: Connection, chain_id: int, age: float, batch: int) -> BlockRange | None:
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


def _step(connection: Connection, chain_id: int, within: BlockRange) -> int:
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


def _locked(connection: Connection, chain_id: int, within: BlockRange, step: int) -> list[int]:
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


def _removed(connection: Connection, chain_id: int, within: BlockRange, numbers: list[int]) -> int:
    # Statements of their own: they see what was committed before the candidates were locked, and a later transaction
    # waits for the lock, finds the block gone and stores it again.
    tables = table_identifiers(connection)
    tables += [sql.Identifier("gapless", name) for name in _REFERRING]
    left = set(numbers)
    for at in range(0, len(tables), _AT_ONCE):
        left -= _referred(connection, chain_id, within, tables[at : at + _AT_ONCE])
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
