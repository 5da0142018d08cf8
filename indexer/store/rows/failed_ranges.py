"""Blocks of history that nodes did not give: why, and when they are asked for again. The rest of history goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange, RangeSet, normalise

FIRST_PAUSE = 15.0
"""Seconds until a range that failed for the first time is asked for again; doubled with each failure."""
LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class FailedRange:
    """Blocks that could not be read, of one event.

    Attributes:
        chain: the chain's name.
        contract: the contract's.
        event: the event's API name.
        first: the first block.
        last: the last block.
        reason: what the nodes said.
        failures: how often in a row.
        retry_at: not asked for again before.
    """

    chain: str
    contract: str
    event: str
    first: int
    last: int
    reason: str
    failures: int
    retry_at: datetime


def note(connection: Connection, source_ids: Sequence[int], failed: BlockRange, reason: str) -> None:
    """Keep that blocks of some sources could not be read; what was kept of them before is replaced.

    Args:
        connection: in a transaction.
        source_ids: the sources that lack the blocks.
        failed: the blocks.
        reason: for people, without secrets.
    """
    values = {"ids": sorted(source_ids), "first": failed[0], "last": failed[1], "reason": reason}
    before = connection.execute(
        sa.text("""
            DELETE FROM gapless.failed_ranges
            WHERE source_id = ANY(:ids) AND first_block <= :last AND last_block >= :first
            RETURNING source_id, first_block, last_block, reason, failures, failed_at, retry_at
        """),
        values,
    ).all()
    failures = dict.fromkeys(source_ids, 1)
    insert = sa.text("""
        INSERT INTO gapless.failed_ranges (source_id, first_block, last_block, reason, failures, failed_at, retry_at)
        VALUES (:source_id, :first, :last, :reason, :failures, :failed_at, :retry_at)
    """)
    for row in before:
        failures[row.source_id] = max(failures[row.source_id], row.failures + 1)
        for first, last in ((row.first_block, failed[0] - 1), (failed[1] + 1, row.last_block)):
            if first <= last:
                connection.execute(insert, dict(row._mapping) | {"first": first, "last": last})
    for source_id in sorted(source_ids):
        connection.execute(
            sa.text("""
                INSERT INTO gapless.failed_ranges (source_id, first_block, last_block, reason, failures, retry_at)
                VALUES (:source_id, :first, :last, :reason, :failures, now() + make_interval(secs => :pause))
            """),
            values
            | {
                "source_id": source_id,
                "failures": failures[source_id],
                "pause": min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures[source_id] - 1, 20)),
            },
        )


def resting(connection: Connection, chain_id: int) -> Mapping[int, RangeSet]:
    """By source: the blocks that are not to be asked for yet."""
    rows = connection.execute(
        sa.text("""
            SELECT f.source_id, f.first_block, f.last_block
            FROM gapless.failed_ranges f JOIN gapless.sources s ON s.id = f.source_id
            WHERE s.chain_id = :chain_id AND f.retry_at > now()
        """),
        {"chain_id": chain_id},
    )
    found: dict[int, list[BlockRange]] = {}
    for source_id, first, last in rows:
        found.setdefault(source_id, []).append((first, last))
    return {source_id: normalise(ranges) for source_id, ranges in found.items()}


def forget_covered(connection: Connection, chain_id: int) -> None:
    """Drop what has been read since, or is not wanted any more."""
    connection.execute(
        sa.text("""
            DELETE FROM gapless.failed_ranges f USING gapless.sources s
            WHERE s.id = f.source_id AND s.chain_id = :chain_id
              AND (NOT s.active OR int8multirange(int8range(f.first_block, f.last_block, '[]')) <@ s.coverage)
        """),
        {"chain_id": chain_id},
    )


def forget(connection: Connection, source_ids: Sequence[int], last: int) -> None:
    """Drop what is kept of some sources' blocks up to one, which are not wanted any more."""
    connection.execute(
        sa.text("DELETE FROM gapless.failed_ranges WHERE source_id = ANY(:ids) AND last_block <= :last"),
        {"ids": list(source_ids), "last": last},
    )


def retry_now(connection: Connection, chain_id: int) -> None:
    """Let all be asked for again at once."""
    connection.execute(
        sa.text("""
            UPDATE gapless.failed_ranges f SET retry_at = now() FROM gapless.sources s
            WHERE s.id = f.source_id AND s.chain_id = :chain_id AND f.retry_at > now()
        """),
        {"chain_id": chain_id},
    )


LOAD = """
    SELECT n.name AS chain, c.name AS contract, e.api_name AS event, f.first_block AS first, f.last_block AS last,
           f.reason, f.failures, f.retry_at
    FROM gapless.failed_ranges f JOIN gapless.sources s ON s.id = f.source_id AND s.active
    JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c ON c.id = e.contract_id
    JOIN gapless.chains n ON n.chain_id = s.chain_id
    WHERE NOT int8multirange(int8range(f.first_block, f.last_block, '[]')) <@ s.coverage
    ORDER BY s.chain_id, c.name, e.api_name, f.first_block
"""


def load(connection: Connection, chain_id: int | None = None, *, resting: bool = False) -> list[FailedRange]:
    """Read what could not be read and is still lacking.

    Args:
        connection: to the database.
        chain_id: of this chain; None: of all.
        resting: only what is not to be asked for yet.
    """
    named = ("" if chain_id is None else "AND s.chain_id = :chain_id ") + ("AND f.retry_at > now() " if resting else "")
    rows = connection.execute(
        sa.text(LOAD.replace("ORDER BY", f"{named}ORDER BY")), {} if chain_id is None else {"chain_id": chain_id}
    )
    return [FailedRange(**row._mapping) for row in rows]


def note_compared(connection: Connection, chain_id: int, compared: int, undecided: int) -> None:
    """Adds blocks of history that were compared with blooms, and those whose blooms did not decide."""
    connection.execute(
        sa.text(
            "UPDATE gapless.chains SET history_compared = history_compared + :compared, "
            "history_undecided = history_undecided + :undecided WHERE chain_id = :chain_id"
        ),
        {"chain_id": chain_id, "compared": compared, "undecided": undecided},
    )
