"""What audits found: findings, kept until they are repaired; and the blocks whose logs were proven."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet
from indexer.store.schema import layout

Kind: TypeAlias = Literal[
    "gap", "outside", "duplicate", "dangling", "child", "digest", "balance", "derived", "program", "against", "proof"
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: which check found it.
        chain_id: the chain.
        label: the event, ``usdc.Transfer``, or the chain where all of it is concerned.
        event_id: the event; None: the chain as a whole.
        source_id: the source; None: the rows belong to none.
        first: the first block that is concerned.
        last: the last one.
        count: how many rows, or blocks, are concerned.
        detail: what is wrong, for people.
        finding_id: its id once it is stored.
        program_id: the build of a program that is concerned; None: none is.
    """

    kind: Kind
    chain_id: int
    label: str
    event_id: int | None
    source_id: int | None
    first: int
    last: int
    count: int
    detail: str
    finding_id: int | None = None
    program_id: int | None = None


def replace_open(
    connection: Connection,
    chain_id: int,
    examined: Mapping[Kind, RangeSet],
    event_ids: Collection[int],
    found: Iterable[Finding],
) -> list[Finding]:
    """Keeps an audit's findings in place of what earlier audits of the same things had left open.

    Args:
        connection: in a transaction.
        chain_id: the chain that was audited.
        examined: by check, the blocks for which it was made.
        event_ids: the events that they were made for.
        found: what they found.

    Returns:
        The findings with their ids.
    """
    for kind, ranges in examined.items():
        connection.execute(
            sa.text("""
                DELETE FROM gapless.findings
                WHERE chain_id = :chain_id AND repaired_at IS NULL AND kind = :kind
                  AND (event_id IS NULL OR event_id = ANY(:events))
                  AND int8range(first_block, last_block + 1) <@ CAST(:examined AS int8multirange)
            """),
            {
                "chain_id": chain_id,
                "kind": kind,
                "events": list(event_ids),
                "examined": layout.ranges_to_sql(ranges),
            },
        )
    return [add_finding(connection, finding) for finding in found]


def add_finding(connection: Connection, finding: Finding) -> Finding:
    """Keeps one finding; returns it with its id."""
    finding_id: int = connection.execute(
        sa.text("""
            INSERT INTO gapless.findings (chain_id, event_id, source_id, kind, first_block, last_block, count, detail,
                                          program_id)
            VALUES (:chain_id, :event_id, :source_id, :kind, :first, :last, :count, :detail, :program_id)
            RETURNING id
        """),
        {
            "chain_id": finding.chain_id,
            "event_id": finding.event_id,
            "source_id": finding.source_id,
            "kind": finding.kind,
            "first": finding.first,
            "last": finding.last,
            "count": finding.count,
            "detail": finding.detail,
            "program_id": finding.program_id,
        },
    ).scalar_one()
    return replace(finding, finding_id=finding_id)


def load_open(connection: Connection, chain_id: int, contract: str | None = None) -> list[Finding]:
    """The findings of a chain (or of one contract on it) that are not repaired yet, in the order they were found."""
    rows = connection.execute(
        sa.text("""
            SELECT f.*, coalesce(c.name || '.' || e.api_name, n.name) AS label
            FROM gapless.findings f JOIN gapless.chains n ON n.chain_id = f.chain_id
            LEFT JOIN gapless.events e ON e.id = f.event_id LEFT JOIN gapless.contracts c ON c.id = e.contract_id
            WHERE f.chain_id = :chain_id AND f.repaired_at IS NULL
              AND (CAST(:contract AS text) IS NULL OR c.name = :contract)
            ORDER BY f.id
        """),
        {"chain_id": chain_id, "contract": contract},
    )
    return [
        Finding(
            kind=row.kind,
            chain_id=row.chain_id,
            label=row.label,
            event_id=row.event_id,
            source_id=row.source_id,
            first=row.first_block,
            last=row.last_block,
            count=row._mapping["count"],
            detail=row.detail,
            finding_id=row.id,
            program_id=row.program_id,
        )
        for row in rows
    ]


def mark_repaired(connection: Connection, finding: Finding) -> None:
    """Notes that what a finding told of is repaired."""
    connection.execute(
        sa.text("UPDATE gapless.findings SET repaired_at = now() WHERE id = :id"), {"id": finding.finding_id}
    )


def forget(connection: Connection, chain_id: int, event_id: int, last: int) -> None:
    """Deletes what is open of an event's blocks up to one, whose rows are gone."""
    connection.execute(
        sa.text("""
            DELETE FROM gapless.findings
            WHERE chain_id = :chain_id AND event_id = :id AND last_block <= :last AND repaired_at IS NULL
        """),
        {"chain_id": chain_id, "id": event_id, "last": last},
    )


def add_proven(connection: Connection, source_id: int, ranges: RangeSet) -> None:
    """Notes that the rows of some blocks are proven; what is not covered (any more) is left out."""
    _update_proven(connection, source_id, ranges, "verified + CAST(:ranges AS int8multirange) * coverage")


def remove_proven(connection: Connection, source_id: int, ranges: RangeSet) -> None:
    """Notes that the rows of some blocks are not proven (any more)."""
    _update_proven(connection, source_id, ranges, "verified - CAST(:ranges AS int8multirange)")


def _update_proven(connection: Connection, source_id: int, ranges: RangeSet, verified: str) -> None:
    if ranges:
        connection.execute(
            sa.text(f"UPDATE gapless.sources SET verified = {verified} WHERE id = :id"),
            {"id": source_id, "ranges": layout.ranges_to_sql(ranges)},
        )
