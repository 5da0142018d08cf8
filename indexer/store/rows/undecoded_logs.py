"""Logs that have no row in their event's table, or none as they came.

* *Foreign shapes* (:mod:`indexer.abi.batch`): counted by block and address, not kept. A row of ``foreign_shapes``
  has the logs of one event, block and number of topics that one transaction wrote: an address for each. That is 24
  bytes a log; a row for each log would take five times as much. Rows of one block may be several: the addresses of an
  event may belong to several sources, which are written apart.
* *Undecoded logs* bear an event's topic but not its shape, or have a row that Postgres refused. They are kept raw, and
  moved to where they belong when they can be decoded.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import FIXED_COLUMNS, Column, Component
from indexer.intervals import RangeSet, intersect
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.rows import copy_binary
from indexer.store.rows.copy_binary import Row, copy_accepted
from indexer.store.schema.layout import EventTable

#: Block, how many topics, and the address (20 bytes) of a log.
Counted: TypeAlias = tuple[int, int, bytes]

#: A row for each log, with its address alone; in the FROM of a statement.
EACH: Final = sql.SQL(
    "(SELECT f.event_id, f.chain_id, f.block_number, f.topics, one.contract_address "
    "FROM gapless.foreign_shapes f CROSS JOIN unnest(f.addresses) AS one (contract_address))"
)


@dataclass(frozen=True, slots=True)
class ForeignLogs:
    """Logs of one event and block that have the same foreign shape.

    Attributes:
        event_id: whose first topic they bear.
        block_number: the block.
        topics: how many topics each has, the first included.
        addresses: of each log, 20 bytes; an address occurs as often as it has such logs.
    """

    event_id: int
    block_number: int
    topics: int
    addresses: Sequence[bytes]


def insert_foreign(driver: psycopg.Connection[Any], chain_id: int, logs: Iterable[ForeignLogs]) -> None:
    """Counts logs that were not counted before."""
    rows: dict[tuple[int, int, int], list[bytes]] = {}
    for one in logs:
        rows.setdefault((one.event_id, one.block_number, one.topics), []).extend(one.addresses)
    if not rows:
        return
    statement = (
        "COPY gapless.foreign_shapes (event_id, chain_id, block_number, topics, addresses) FROM STDIN (FORMAT BINARY)"
    )
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["integer", "bigint", "bigint", "smallint", "bytea[]"])
        for (event_id, block_number, topics), addresses in sorted(rows.items()):
            copy.write_row((event_id, chain_id, block_number, topics, addresses))


def delete_foreign(
    driver: psycopg.Connection[Any], chain_id: int, event_id: int, first: int, last: int, addresses: list[bytes] | None
) -> None:
    """Deletes what is counted of an event in some blocks.

    Args:
        driver: in a transaction.
        chain_id: the chain.
        event_id: the event.
        first: the first block.
        last: the last block.
        addresses: only of these; None: of all.
    """
    values = {"event": event_id, "chain_id": chain_id, "first": first, "last": last, "addresses": addresses}
    where = "event_id = %(event)s AND chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s"
    if addresses is not None:
        driver.execute(
            f"""
            UPDATE gapless.foreign_shapes
            SET addresses = ARRAY(SELECT one FROM unnest(addresses) one WHERE one <> ALL(%(addresses)s::bytea[]))
            WHERE {where} AND addresses && %(addresses)s::bytea[]
            """,
            values,
        )
        where += " AND addresses = '{}'"
    driver.execute(f"DELETE FROM gapless.foreign_shapes WHERE {where}", values)


def load_foreign(
    driver: psycopg.Connection[Any], chain_id: int, event_id: int, ranges: RangeSet, addresses: list[bytes] | None
) -> Counter[Counted]:
    """What is counted of an event in some blocks.

    Args:
        driver: in a transaction.
        chain_id: the chain.
        event_id: the event.
        ranges: the blocks.
        addresses: only of these; None: of all.
    """
    found: Counter[Counted] = Counter()
    if not ranges:
        return found
    rows = driver.execute(
        sql.SQL("""
            SELECT block_number, topics, contract_address, count(*) FROM {} AS each
            WHERE event_id = %s AND chain_id = %s AND block_number BETWEEN %s AND %s
              AND (%s::bytea[] IS NULL OR contract_address = ANY(%s::bytea[]))
            GROUP BY block_number, topics, contract_address
        """).format(EACH),
        (event_id, chain_id, ranges[0][0], ranges[-1][1], addresses, addresses),
    )
    for number, topics, address, count in rows:
        if intersect(ranges, ((number, number),)):
            found[number, topics, bytes(address)] = count
    return found


def announced_addresses(columns: Sequence[Column], values: Sequence[Any]) -> dict[str, str]:
    """The addresses among the arguments of a row: what it announces, though it is in no table.

    Args:
        columns: of the arguments.
        values: of the arguments, in the same order.

    Returns:
        ``0x`` and 40 digits by the column's name, which never changes; ``key.pool`` for a component of a tuple.
    """
    found: dict[str, str] = {}
    for column, value in zip(columns, values, strict=True):
        if column.abi_type == "address" and not column.hashed and isinstance(value, bytes):
            found[column.name] = "0x" + value.hex()
        elif isinstance(value, Mapping):
            found |= dict(_within(column.name, column.components, value))
    return found


def _within(path: str, components: Sequence[Component], value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for component in components:
        part, name = value.get(component.name), f"{path}.{component.name}"
        if component.abi_type == "address" and isinstance(part, str):
            yield name, part
        elif isinstance(part, Mapping):
            yield from _within(name, component.components, part)


@dataclass(frozen=True, slots=True)
class UndecodedLog:
    """A log that bears an event's topic but not its shape, raw."""

    event_id: int
    block_number: int
    log_index: int
    block_time: datetime
    tx_hash: bytes
    tx_index: int
    contract_address: bytes
    topics: list[bytes]
    data: bytes
    reason: str
    has_row: bool
    announced: Mapping[str, str] | None = None
    """The addresses in a row that Postgres refused, by column."""


class LogAsRead(Protocol):
    """A log as it came (``chain.logs.RawLog``), hex as text."""

    block_number: int
    log_index: int
    topics: list[str]
    data: str


def refused_log(table: EventTable, row: Row, reason: str, logs: Iterable[LogAsRead]) -> UndecodedLog:
    """The log of a row that Postgres refused, as it came.

    Args:
        table: the row's.
        row: in the order of the table's columns.
        reason: for people.
        logs: those that the rows were decoded from.
    """
    _, number, time, tx_hash, tx_index, log_index, address, *values = row
    raw = next((log for log in logs if (log.block_number, log.log_index) == (number, log_index)), None)
    topics = [bytes.fromhex(topic[2:]) for topic in raw.topics] if raw else []
    data = bytes.fromhex(raw.data[2:]) if raw else b""
    return UndecodedLog(
        table.event_id, number, log_index, time, tx_hash, tx_index, address, topics, data, reason, has_row=False,
        announced=announced_addresses(table.columns, values),
    )  # fmt: skip


def insert_undecoded(driver: psycopg.Connection[Any], chain_id: int, logs: Sequence[UndecodedLog]) -> None:
    """Keeps logs raw; what is said of one that is there already is replaced."""
    with driver.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO gapless.undecoded_logs (event_id, chain_id, block_number, log_index, block_time, tx_hash,
                tx_index, contract_address, topics, data, reason, has_row, announced)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (event_id, chain_id, block_number, log_index)
            DO UPDATE SET reason = excluded.reason, has_row = excluded.has_row, announced = excluded.announced
            """,
            [
                (
                    log.event_id, chain_id, log.block_number, log.log_index, log.block_time, log.tx_hash, log.tx_index,
                    log.contract_address, log.topics, log.data, log.reason, log.has_row, jsonb(log.announced or None),
                )
                for log in logs
            ],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredLog(UndecodedLog):
    """A raw log as it is kept."""

    chain_id: int = 0


class Decoded(NamedTuple):
    """A log that can be decoded now: its row, and what had to be altered in it (empty: nothing)."""

    log: StoredLog
    row: Row
    notes: str


@dataclass(frozen=True, slots=True)
class Reason:
    """How many logs of an event have no row for one reason, and where.

    Attributes:
        has_row: whether there is a row all the same, with a text altered.
        counted: whether they have a foreign shape, and are not kept raw.
    """

    chain: str
    contract: str
    event: str
    reason: str
    has_row: bool
    logs: int
    first: int
    last: int
    counted: bool


def reasons(connection: Connection, contract: str | None = None) -> list[Reason]:
    """The undecoded and foreign logs of all events (or one contract's), by reason, the most frequent first."""
    rows = connection.execute(
        sa.text("""
            WITH found AS (
                SELECT event_id, chain_id, reason, has_row, count(*) AS logs, min(block_number) AS first,
                       max(block_number) AS last, false AS counted
                FROM gapless.undecoded_logs GROUP BY event_id, chain_id, reason, has_row
                UNION ALL
                SELECT event_id, chain_id, 'other arguments are indexed: ' || topics || ' topics', false, sum(logs),
                       min(block_number), max(block_number), true
                FROM gapless.foreign_shapes GROUP BY event_id, chain_id, topics
            )
            SELECT n.name AS chain, c.name AS contract, e.api_name AS event, f.reason, f.has_row, f.logs, f.first,
                   f.last, f.counted
            FROM found f JOIN gapless.events e ON e.id = f.event_id
            JOIN gapless.contracts c ON c.id = e.contract_id JOIN gapless.chains n ON n.chain_id = f.chain_id
            WHERE CAST(:contract AS text) IS NULL OR c.name = :contract
            ORDER BY f.logs DESC, n.name, c.name, e.api_name, f.reason
        """),
        {"contract": contract},
    )
    return [Reason(*row) for row in rows]


def waiting_events(connection: Connection) -> list[tuple[int, int]]:
    """The events and chains that have undecoded logs without a row."""
    rows = connection.execute(
        sa.text("SELECT DISTINCT event_id, chain_id FROM gapless.undecoded_logs WHERE NOT has_row ORDER BY 1, 2")
    )
    return [(row.event_id, row.chain_id) for row in rows]


def load_undecoded(connection: Connection, event_id: int, chain_id: int) -> Iterator[StoredLog]:
    """The undecoded logs of an event without a row, in order."""
    rows = psycopg_connection(connection).execute(
        """
        SELECT event_id, block_number, log_index, block_time, tx_hash, tx_index, contract_address, topics, data, reason,
               has_row, announced, chain_id
        FROM gapless.undecoded_logs WHERE event_id = %s AND chain_id = %s AND NOT has_row
        ORDER BY block_number, log_index FOR UPDATE
        """,
        (event_id, chain_id),
    )
    for row in rows:
        yield StoredLog(*row)


def note_undecoded(
    connection: Connection,
    log: StoredLog,
    reason: str,
    *,
    has_row: bool,
    announced: Mapping[str, str] | None = None,
) -> None:
    """Changes what is said of a log; ``announced``: the addresses in a row of it that Postgres refused."""
    psycopg_connection(connection).execute(
        "UPDATE gapless.undecoded_logs SET reason = %s, has_row = %s, announced = %s "
        "WHERE (event_id, chain_id, block_number, log_index) = (%s, %s, %s, %s)",
        (reason, has_row, jsonb(announced or None), log.event_id, log.chain_id, log.block_number, log.log_index),
    )


def move_decoded(connection: Connection, table: EventTable, decoded: Sequence[Decoded]) -> int:
    """Moves logs that can be decoded now into their table; one whose text was altered stays noted.

    Returns:
        How many of them Postgres refused; they stay, with that reason.
    """
    driver = psycopg_connection(connection)
    rejected = {
        id(row): reason
        for row, reason in copy_accepted(
            driver, [one.row for one in decoded], lambda rows: copy_binary.copy_rows(driver, table, rows)
        )
    }
    for one in decoded:
        if (reason := rejected.get(id(one.row))) is not None:
            values = one.row[len(FIXED_COLUMNS) :]
            announced = announced_addresses(table.columns, values)
            note_undecoded(connection, one.log, reason, has_row=False, announced=announced)
        elif one.notes:
            note_undecoded(connection, one.log, one.notes, has_row=True)
        else:
            driver.execute(
                "DELETE FROM gapless.undecoded_logs WHERE (event_id, chain_id, block_number, log_index) = "
                "(%s, %s, %s, %s)",
                (one.log.event_id, one.log.chain_id, one.log.block_number, one.log.log_index),
            )
    return len(rejected)


def count_foreign(connection: Connection, chain_id: int, logs: Iterable[StoredLog]) -> None:
    """Counts logs of foreign shapes, which are kept raw no longer: earlier versions kept all of them."""
    driver = psycopg_connection(connection)
    given = list(logs)
    driver.execute(
        """
        DELETE FROM gapless.undecoded_logs u USING unnest(%s::integer[], %s::bigint[], %s::bigint[])
            AS given (event_id, block_number, log_index)
        WHERE u.chain_id = %s AND (u.event_id, u.block_number, u.log_index) = (given.event_id, given.block_number,
            given.log_index)
        """,
        (
            [log.event_id for log in given], [log.block_number for log in given], [log.log_index for log in given],
            chain_id,
        ),
    )  # fmt: skip
    insert_foreign(
        driver,
        chain_id,
        [ForeignLogs(log.event_id, log.block_number, len(log.topics), [log.contract_address]) for log in given],
    )
