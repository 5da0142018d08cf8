"""The logs that bear an event's topic but not its shape: listing them, and moving them into their tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.abi.columns import FIXED_COLUMNS
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.rows import rejected_rows, writer
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
    """How many logs of an event cannot be decoded for one reason, and where."""

    chain: str
    contract: str
    event: str
    reason: str
    has_row: bool
    logs: int
    first: int
    last: int


def reasons(connection: Connection, contract: str | None = None) -> list[Reason]:
    """The undecoded logs of all events (or one contract's), by reason, the most frequent first."""
    rows = connection.execute(
        sa.text("""
            SELECT n.name AS chain, c.name AS contract, e.api_name AS event, u.reason, u.has_row, count(*) AS logs,
                   min(u.block_number) AS first, max(u.block_number) AS last
            FROM gapless.undecoded_logs u JOIN gapless.events e ON e.id = u.event_id
            JOIN gapless.contracts c ON c.id = e.contract_id JOIN gapless.chains n ON n.chain_id = u.chain_id
            WHERE CAST(:contract AS text) IS NULL OR c.name = :contract
            GROUP BY n.name, c.name, e.api_name, u.reason, u.has_row
            ORDER BY logs DESC, n.name, c.name, e.api_name, u.reason
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
