"""The logs that bear an event's topic but not its shape: listing them, and moving them to where they belong."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.abi.columns import FIXED_COLUMNS
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.rows import foreign_shapes, rejected_rows, writer
from indexer.store.rows.foreign_shapes import ForeignLogs
from indexer.store.rows.writer import UndecodedLog
from indexer.store.schema.layout import EventTable


@dataclass(frozen=True, slots=True)
class StoredLog(UndecodedLog):
    """A raw log as it is kept."""

    chain_id: int = 0


class Decoded(NamedTuple):
    """A log that can be decoded now: its row, and what had to be altered in it (empty: nothing)."""

    log: StoredLog
    row: rejected_rows.Row
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


def places(connection: Connection) -> list[tuple[int, int]]:
    """The events (and chains) that have undecoded logs without a row."""
    rows = connection.execute(
        sa.text("SELECT DISTINCT event_id, chain_id FROM gapless.undecoded_logs WHERE NOT has_row ORDER BY 1, 2")
    )
    return [(row.event_id, row.chain_id) for row in rows]


def load(connection: Connection, event_id: int, chain_id: int) -> Iterator[StoredLog]:
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


def note(
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


def move(connection: Connection, table: EventTable, decoded: Sequence[Decoded]) -> int:
    """Moves logs that can be decoded now into their table; one whose text was altered stays noted.

    Returns:
        How many of them Postgres refused; they stay, with that reason.
    """
    driver = psycopg_connection(connection)
    rejected = {
        id(row): reason
        for row, reason in rejected_rows.copy_accepted(
            driver, [one.row for one in decoded], lambda rows: writer.copy_rows(driver, table, rows)
        )
    }
    for one in decoded:
        if (reason := rejected.get(id(one.row))) is not None:
            values = one.row[len(FIXED_COLUMNS) :]
            announced = rejected_rows.addresses(table.columns, values)
            note(connection, one.log, reason, has_row=False, announced=announced)
        elif one.notes:
            note(connection, one.log, one.notes, has_row=True)
        else:
            driver.execute(
                "DELETE FROM gapless.undecoded_logs WHERE (event_id, chain_id, block_number, log_index) = "
                "(%s, %s, %s, %s)",
                (one.log.event_id, one.log.chain_id, one.log.block_number, one.log.log_index),
            )
    return len(rejected)


def count(connection: Connection, chain_id: int, logs: Iterable[StoredLog]) -> None:
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
    foreign_shapes.insert(
        driver,
        chain_id,
        [ForeignLogs(log.event_id, log.block_number, len(log.topics), [log.contract_address]) for log in given],
    )
