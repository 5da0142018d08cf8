"""Snapshot series: their points and rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import SERIES_COLUMNS
from indexer.store.catalog.catalog import Series
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.rows.blocks import Block, hold_block


@dataclass(frozen=True, slots=True)
class Reading:
    """What one contract answered to the calls of a series.

    Attributes:
        contract_address: who was asked, 20 bytes.
        item: place in the list of arguments.
        arguments: by the names of the snapshot's query; None: the calls have fixed ones.
        values: of the series' columns, in their order; None where the call failed.
        failures: reasons by call.
        unanswered: whether one of them is that no node would run the call: it is asked again later.
    """

    contract_address: bytes
    item: int
    arguments: Mapping[str, Any] | None
    values: Sequence[Any]
    failures: Mapping[str, str]
    unanswered: bool = False


def last_point(connection: Connection, series: Series, chain_id: int) -> int | None:
    """The newest block at which a series was read."""
    number: int | None = connection.execute(
        sa.text("SELECT max(block_number) FROM gapless.series_points WHERE series_id = :id AND chain_id = :chain_id"),
        {"id": series.series_id, "chain_id": chain_id},
    ).scalar_one()
    return number


def count_points(connection: Connection, series: Series, chain_id: int, first: int, last: int, step: int) -> int:
    """How many of the blocks from ``first`` to ``last`` that ``step`` divides a series was read at."""
    number: int = connection.execute(
        sa.text("""
            SELECT count(*) FROM gapless.series_points
            WHERE series_id = :id AND chain_id = :chain_id AND block_number BETWEEN :first AND :last
              AND block_number % :step = 0
        """),
        {"id": series.series_id, "chain_id": chain_id, "first": first, "last": last, "step": step},
    ).scalar_one()
    return number


def missing_points(
    connection: Connection, series: Series, chain_id: int, first: int, last: int, step: int, most: int
) -> list[int]:
    """The first few of the blocks ``first``, ``first + step``, ... up to ``last`` at which a series was not read."""
    rows = connection.execute(
        sa.text("""
            SELECT number
            FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint), CAST(:step AS bigint)) number
            WHERE NOT EXISTS (SELECT FROM gapless.series_points p
                              WHERE p.series_id = :id AND p.chain_id = :chain_id AND p.block_number = number)
            ORDER BY number LIMIT :most
        """),
        {"id": series.series_id, "chain_id": chain_id, "first": first, "last": last, "step": step, "most": most},
    )
    return list(rows.scalars())


def is_read_between(connection: Connection, series: Series, chain_id: int, after: datetime, until: datetime) -> bool:
    """Whether a series was read at a block of these times, the first one excluded."""
    row = psycopg_connection(connection).execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE chain_id = %s AND block_time > %s AND block_time <= %s)").format(
            series.identifier
        ),
        (chain_id, after, until),
    )
    return row.fetchone() == (True,)


def is_read_at(connection: Connection, series: Series, chain_id: int, number: int) -> bool:
    """Whether a series was read at a block, also where there was no contract to ask there."""
    row = connection.execute(
        sa.text(
            "SELECT 1 FROM gapless.series_points "
            "WHERE series_id = :id AND chain_id = :chain_id AND block_number = :number"
        ),
        {"id": series.series_id, "chain_id": chain_id, "number": number},
    )
    return row.first() is not None


@dataclass(frozen=True, slots=True)
class BranchLeft:
    """A reorganisation that may have taken points with it.

    Attributes:
        reorg_id: its id.
        common: the last block that both branches share.
        furthest: the newest block that either branch had then.
        noticed: when that was.
    """

    reorg_id: int
    common: int
    furthest: int
    noticed: datetime


def branches_left(
    connection: Connection, series: Series, chain_id: int, after: int, within: timedelta
) -> list[BranchLeft]:
    """The late reorganisations of a chain that happened while the series was being read, oldest first.

    Args:
        connection: the database.
        series: one that has no point older than a reorganisation is taken to have begun after it.
        chain_id: the chain.
        after: only those with a greater id.
        within: how far back.
    """
    rows = connection.execute(
        sa.text("""
            SELECT r.id, r.common_number, greatest(r.old_tip_number, r.new_tip_number), r.detected_at
            FROM gapless.reorgs r
            WHERE r.chain_id = :chain_id AND r.id > :after AND r.detected_at > now() - CAST(:within AS interval)
              AND EXISTS (SELECT FROM gapless.series_points p
                          WHERE p.series_id = :series AND p.chain_id = r.chain_id AND p.taken_at < r.detected_at)
            ORDER BY r.id
        """),
        {"series": series.series_id, "chain_id": chain_id, "after": after, "within": within},
    )
    return [BranchLeft(*row) for row in rows]


def store(
    connection: Connection,
    series: Series,
    chain_id: int,
    *,
    number: int,
    block: Block,
    readings: Sequence[Reading],
) -> bool:
    """Keeps a point of a series: all readings at one block, in the connection's transaction.

    Args:
        connection: in a transaction.
        series: the series.
        chain_id: the chain.
        number: the number for which it is due.
        block: the block that was read: that of the number, or the newest before it where the number has none.
        readings: what was read.

    Returns:
        False if that block was reorganised away while it was read, and nothing was written; or if the point was
        there already.
    """
    if not hold_block(connection, chain_id, block.number, block.hash, newest_until=number):
        return False
    added = connection.execute(
        sa.text("""
            INSERT INTO gapless.series_points (series_id, chain_id, block_number, block_hash, asked_again_at)
            VALUES (:id, :chain_id, :number, :hash, CASE WHEN :unanswered THEN now() + interval '1 minute' END)
            ON CONFLICT DO NOTHING
        """),
        {
            "id": series.series_id,
            "chain_id": chain_id,
            "number": number,
            "hash": block.hash,
            "unanswered": any(one.unanswered for one in readings),
        },
    ).rowcount
    if not added:
        return False
    # Left by a deletion that was cut off, where the points go before their rows.
    psycopg_connection(connection).execute(
        sql.SQL("DELETE FROM {} WHERE chain_id = %s AND block_number = %s").format(series.identifier),
        (chain_id, number),
    )
    columns = [column.name for column in SERIES_COLUMNS]
    columns += [column.name for column in series.columns]
    columns.append("failures")
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        series.identifier,
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
    )
    time = datetime.fromtimestamp(block.time, UTC)
    with psycopg_connection(connection).cursor() as cursor:
        cursor.executemany(
            statement,
            [
                (
                    chain_id, number, time, r.contract_address, r.item, jsonb(r.arguments),
                    *_values(series, r),
                    jsonb(dict(r.failures) or None),
                )
                for r in readings
            ],
        )  # fmt: skip
    connection.execute(
        sa.text("UPDATE gapless.series SET version = version + 1 WHERE id = :id"), {"id": series.series_id}
    )
    return True


@dataclass(frozen=True, slots=True)
class UnansweredPoint:
    """A point some of whose calls no node would run.

    Attributes:
        number: its block.
        block_hash: the block's.
        rows: address, item and arguments of the rows with such calls.
    """

    number: int
    block_hash: bytes
    rows: Sequence[tuple[bytes, int, Mapping[str, Any] | None]]


def unanswered(
    connection: Connection, series: Series, chain_id: int, beginning: str, most: int
) -> list[UnansweredPoint]:
    """The points of a series whose unanswered calls are to be asked again now, the one that waits longest first.

    Args:
        connection: the database.
        series: the series.
        chain_id: the chain.
        beginning: how the reason of such a call begins.
        most: how many points.
    """
    driver = psycopg_connection(connection)
    points = driver.execute(
        "SELECT block_number, block_hash FROM gapless.series_points "
        "WHERE series_id = %s AND chain_id = %s AND asked_again_at <= now() ORDER BY asked_again_at LIMIT %s",
        (series.series_id, chain_id, most),
    ).fetchall()
    statement = sql.SQL("""
        SELECT contract_address, item, arguments FROM {}
        WHERE chain_id = %s AND block_number = %s
          AND EXISTS (SELECT FROM jsonb_each_text(failures) f WHERE starts_with(f.value, %s))
        ORDER BY contract_address, item
    """).format(series.identifier)
    return [
        UnansweredPoint(
            number,
            bytes(block_hash),
            [
                (bytes(address), item, arguments)
                for address, item, arguments in driver.execute(statement, (chain_id, number, beginning))
            ],
        )
        for number, block_hash in points
    ]


def answer(
    connection: Connection,
    series: Series,
    chain_id: int,
    point: UnansweredPoint,
    readings: Sequence[Reading],
    *,
    block: Block,
    is_over: bool,
) -> bool:
    """Puts new readings in the place of a point's unanswered ones, and says when the rest is asked again.

    The pause grows with each attempt, up to a week.

    Args:
        connection: in a transaction.
        series: the series.
        chain_id: the chain.
        point: the point.
        readings: the new ones.
        block: the block that was read.
        is_over: whether what is unanswered still is never asked again.

    Returns:
        False if its block was reorganised away meanwhile, and nothing was written.
    """
    if not hold_block(connection, chain_id, block.number, block.hash, newest_until=point.number):
        return False
    columns = [*(column.name for column in series.columns), "failures"]
    statement = sql.SQL(
        "UPDATE {} SET {} WHERE chain_id = %s AND block_number = %s AND contract_address = %s AND item = %s"
    ).format(
        series.identifier, sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in columns)
    )
    with psycopg_connection(connection).cursor() as cursor:
        for one in readings:
            key = (chain_id, point.number, one.contract_address, one.item)
            cursor.execute(statement, (*_values(series, one), jsonb(dict(one.failures) or None), *key))
    connection.execute(
        sa.text("""
            UPDATE gapless.series_points SET attempts = least(attempts + 1, 1000),
                asked_again_at = CASE WHEN :again THEN
                    now() + least(interval '1 minute' * power(4, least(attempts, 10)), interval '7 days') END
            WHERE series_id = :id AND chain_id = :chain_id AND block_number = :number
        """),
        {
            "id": series.series_id,
            "chain_id": chain_id,
            "number": point.number,
            "again": not is_over and any(one.unanswered for one in readings),
        },
    )
    connection.execute(
        sa.text("UPDATE gapless.series SET version = version + 1 WHERE id = :id"), {"id": series.series_id}
    )
    return True


def _values(series: Series, reading: Reading) -> list[Any]:
    return [
        jsonb(value) if column.pg_type == "jsonb" else value
        for value, column in zip(reading.values, series.columns, strict=True)
    ]


def query_rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    """The rows of a snapshot's own query, which may only read.

    Raises:
        psycopg.Error: the query is wrong, writes, or takes too long.
    """
    driver = psycopg_connection(connection)
    driver.execute("SET TRANSACTION READ ONLY")
    driver.execute("SET LOCAL statement_timeout = '30s'")
    cursor = driver.execute(sql.SQL(query))
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
