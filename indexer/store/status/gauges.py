"""What monitoring wants to know of the database, cheaply: it is asked every few seconds, for years."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.lag import lag, shown_reason, shown_state, stalled
from indexer.store.rows import failed_ranges

#: Undecoded logs are counted no further, for each chain.
MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gauges:
    """One look.

    Attributes:
        chains: a row for each active chain, see the query.
        missing: by chain, contract and event: blocks that are wanted up to the tip and not covered.
        jobs: by kind and state (queued or running): how many.
        unread: by chain, contract and event: blocks of history that nodes did not give, and that are asked for again.
        findings: by chain and kind: rows or blocks that audits found wrong and are not repaired.
    """

    chains: Sequence[Mapping[str, Any]]
    missing: Mapping[tuple[str, str, str], int]
    unread: Mapping[tuple[str, str, str], int]
    jobs: Mapping[tuple[str, str], int]
    findings: Mapping[tuple[str, str], int]


_CHAINS = sa.text(f"""
    SELECT c.chain_id, c.name, {shown_state("c")} AS state, {stalled("c")} AS stalled,
           c.head_number AS head, c.tip_number AS tip, c.safe_number AS safe,
           c.finalized_number AS finalized,
           ({lag("c.head_time", "c.tip_time", "c.head_seen_at")})::float8 AS lag,
           (SELECT count(*) FROM gapless.reorgs r WHERE r.chain_id = c.chain_id) AS reorgs,
           (SELECT count(*) FROM (SELECT FROM gapless.undecoded_logs u WHERE u.chain_id = c.chain_id
                                  LIMIT {MOST_COUNTED}) u) AS undecoded,
           (SELECT least(coalesce(sum(f.logs), 0), {MOST_COUNTED})
            FROM (SELECT logs FROM gapless.foreign_shapes WHERE chain_id = c.chain_id
                  LIMIT {MOST_COUNTED}) f) AS foreign_logs
    FROM gapless.chains c WHERE c.active ORDER BY c.chain_id
""")
_MISSING = sa.text("""
    SELECT n.name, c.name, e.api_name, sum(missing.blocks)
    FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
    JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c ON c.id = e.contract_id,
    LATERAL (SELECT coalesce(sum(upper(r) - lower(r)), 0) AS blocks
             FROM unnest(int8multirange(int8range(s.start_block, greatest(
                      s.start_block, coalesce(least(s.end_block, n.tip_number) + 1, s.start_block))))
                  - s.coverage) r) missing
    WHERE s.active AND n.active GROUP BY s.chain_id, n.name, c.name, e.id, e.api_name ORDER BY s.chain_id, e.id
""")
_JOBS = sa.text("SELECT kind, state, count(*) FROM gapless.jobs WHERE state IN ('queued', 'running') GROUP BY 1, 2")
_FINDINGS = sa.text("""
    SELECT n.name, f.kind, sum(f.count) FROM gapless.findings f JOIN gapless.chains n USING (chain_id)
    WHERE f.repaired_at IS NULL GROUP BY 1, 2
""")


def load(connection: Connection) -> Gauges:
    """Look.

    Args:
        connection: in a transaction that has done nothing yet.
    """
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    chains = [dict(row._mapping) for row in connection.execute(_CHAINS)]
    missing = Counter(
        {(chain, contract, event): int(blocks) for chain, contract, event, blocks in connection.execute(_MISSING)}
    )
    unread: Counter[tuple[str, str, str]] = Counter()
    for one in failed_ranges.load(connection):
        unread[one.chain, one.contract, one.event] += one.last - one.first + 1
    return Gauges(
        chains=chains,
        unread=unread,
        missing=missing,
        jobs={(kind, state): count for kind, state, count in connection.execute(_JOBS)},
        findings={(name, kind): int(count) for name, kind, count in connection.execute(_FINDINGS)},
    )


_STALLED = sa.text(f"""
    SELECT c.chain_id, c.name, {shown_reason("c")} FROM gapless.chains c WHERE c.active AND {stalled("c")}
    ORDER BY c.chain_id
""")


def load_stalled(connection: Connection) -> dict[str, str]:
    """The active chains whose heads stand still, by name, with what is known of why."""
    return {name: reason or "" for _, name, reason in connection.execute(_STALLED)}
