"""What people and monitoring are shown, each read in one snapshot of the database.

:func:`load_overview` is how the indexing stands (``gapless status``); :func:`load_gauges` is cheap, since monitoring
asks for it every few seconds, for years.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet, intersect, size, subtract
from indexer.store.apply import drop
from indexer.store.catalog import catalog
from indexer.store.credits import usage
from indexer.store.credits.usage import CreditUse
from indexer.store.lag import lag, shown_reason, shown_state, stalled
from indexer.store.rows import failed_ranges, history_sources, indexes, transaction_rows
from indexer.store.rows.failed_ranges import FailedRange
from indexer.store.rows.history_sources import SourceTotals
from indexer.store.rows.transaction_rows import MissingDetails


@dataclass(frozen=True, slots=True)
class ChainOverview:
    """One chain; see the table ``chains``. ``lag_seconds``: from the tip's time to now.

    ``history_compared``, ``history_undecided``: blocks of history (``check_history``), each as often as it was read.
    """

    chain_id: int
    name: str
    state: str
    reason: str | None
    head: int | None
    tip: int | None
    finalized: int | None
    lag_seconds: float | None
    bloom_checks: bool
    follower: str | None
    reorgs: int
    deepest_reorg: int | None
    history_compared: int = 0
    history_undecided: int = 0


@dataclass(frozen=True, slots=True)
class EventOverview:
    """One event on one chain, all of its sources together.

    Attributes:
        wanted: blocks that the manifest wants up to the tip.
        covered: how many of them are covered.
        missing: the ranges that are not.
        rows: an estimate by Postgres' statistics, for all chains together.
        undecoded: logs with the event's topic that cannot be decoded.
        foreign: logs that another declaration's indexed arguments explain, which are only counted.
        proven: how many of the covered blocks were proven against receipts roots (``gapless audit --deep``).
    """

    chain_id: int
    contract: str
    event: str
    wanted: int
    covered: int
    missing: RangeSet
    rows: int
    undecoded: int
    foreign: int
    proven: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything."""

    at: datetime
    chains: Sequence[ChainOverview]
    events: Sequence[EventOverview]
    endpoints: Sequence[dict[str, Any]]
    series: Sequence[dict[str, Any]]
    balances: Sequence[dict[str, Any]]
    indexes: Sequence[dict[str, Any]] = ()
    """Those that are wanted and not there yet, or there and no longer wanted."""
    derived: Sequence[dict[str, Any]] = ()
    programs: Sequence[dict[str, Any]] = ()
    """What follows from events: by name, build and chain."""
    retired: Sequence[dict[str, Any]] = ()
    """What the manifest names no longer, and whose data stays; ``rows`` is an estimate."""
    unread: Sequence[FailedRange] = ()
    """Blocks of history that nodes did not give, and when they are asked for again."""
    history_sources: Sequence[SourceTotals] = ()
    """What became of the sources of history that are not nodes."""
    missing_details: Sequence[MissingDetails] = ()
    """Blocks, transactions and receipts of events that nodes did not give, and when they are asked for again."""

    credits: Sequence[dict[str, Any]] = ()
    """What endpoints have cost today."""

    @property
    def is_complete(self) -> bool:
        """Whether every wanted block up to the tips is covered; of a chain never followed, none is known."""
        return all(chain.tip is not None for chain in self.chains) and not any(event.missing for event in self.events)


_CHAINS = sa.text(f"""
    SELECT c.chain_id, c.name, {shown_state("c")} AS state, {shown_reason("c")} AS state_reason,
           c.head_number, c.tip_number, c.finalized_number,
           CASE WHEN c.tip_time IS NOT NULL THEN greatest(extract(epoch FROM now() - c.tip_time), 0) END::float8 AS lag,
           c.bloom_checks, c.follower, c.history_compared, c.history_undecided,
           (SELECT count(*) FROM gapless.reorgs r WHERE r.chain_id = c.chain_id) AS reorgs,
           (SELECT max(depth) FROM gapless.reorgs r WHERE r.chain_id = c.chain_id) AS deepest
    FROM gapless.chains c WHERE c.active ORDER BY c.chain_id
""")

_ROWS = sa.text("""
    SELECT e.id, greatest(coalesce(s.n_live_tup, 0), t.reltuples)::bigint AS rows,
           (SELECT count(*) FROM gapless.undecoded_logs u WHERE u.event_id = e.id) AS undecoded,
           (SELECT coalesce(sum(f.logs), 0) FROM gapless.foreign_shapes f WHERE f.event_id = e.id) AS foreign_logs
    FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    JOIN pg_class t ON t.oid = to_regclass(format('%I.%I', c.schema_name, e.table_name))
    LEFT JOIN pg_stat_user_tables s ON s.relid = t.oid
""")

_ENDPOINTS = sa.text("""
    SELECT n.name AS chain, e.host, e.state, e.head_number AS head, e.details, e.updated_at
    FROM gapless.endpoints e JOIN gapless.chains n USING (chain_id)
    WHERE n.active ORDER BY e.chain_id, e.position
""")

_SERIES = sa.text("""
    SELECT s.name, c.name AS contract, s.every, s.calls,
           (SELECT max(p.block_number) FROM gapless.series_points p WHERE p.series_id = s.id) AS last_block,
           (SELECT count(*) FROM gapless.series_points p WHERE p.series_id = s.id) AS points
    FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id WHERE s.active ORDER BY s.id
""")

# What is served, how far behind it is, and what is built in its place.
_BALANCES = sa.text("""
    SELECT n.name AS chain, c.name AS contract, l.kind, l.through_block AS true_at_block, NOT l.live AS stale, l.remark,
           greatest(n.tip_number - greatest(l.through_block, l.start_block - 1), 0) AS blocks_behind,
           (SELECT b.through_block FROM gapless.ledgers b
            WHERE b.contract_id = l.contract_id AND b.chain_id = l.chain_id AND b.live AND NOT b.served) AS rebuilt_to,
           (SELECT count(*) FROM gapless.balance_problems p WHERE p.ledger_id = l.id) AS marked_tokens
    FROM gapless.ledgers l JOIN gapless.chains n ON n.chain_id = l.chain_id
    JOIN gapless.contracts c ON c.id = l.contract_id
    WHERE l.served AND n.active ORDER BY l.chain_id, c.name
""")


_DERIVED = sa.text("""
    SELECT n.name AS chain, d.name, d.kind, d.generation, d.served, d.stale, d.remark, d.problem, d.problem_block,
           d.wanted::text AS wanted, d.covered::text AS covered, d.wanted - d.covered = '{}' AS complete,
           (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(d.wanted - d.covered) r)::bigint AS missing_blocks,
           (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(d.wanted) r)::bigint AS wanted_blocks
    FROM gapless.derived_coverage d JOIN gapless.chains n ON n.chain_id = d.chain_id
    WHERE n.active AND d.kind <> 'program' AND (d.served OR NOT d.stale)
    UNION ALL
    SELECT '', v.name, v.kind, v.generation, false, true,
           coalesce(v.remark, 'it waits for a table that it reads, and that is not there yet'), NULL, NULL,
           '{}', '{}', false, 0, 0
    FROM gapless.derived v WHERE v.kind = 'view' AND v.active AND NOT v.served
    ORDER BY 2, 4, 1
""")

_PROGRAMS = sa.text("""
    SELECT p.name, coalesce(n.name, p.chain_id::text) AS chain, p.block_number, p.stale, p.problem, p.rebuilt_to,
           p.tables, n.tip_number - p.block_number AS blocks_behind
    FROM gapless.program_states p LEFT JOIN gapless.chains n ON n.chain_id = p.chain_id
    ORDER BY p.name, p.chain_id
""")


def load_overview(connection: Connection) -> Overview:
    """Reads the overview.

    Args:
        connection: in a transaction that has done nothing yet.
    """
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    at = connection.execute(sa.text("SELECT now()")).scalar_one()
    chains = [
        ChainOverview(
            row.chain_id, row.name, row.state, row.state_reason, row.head_number, row.tip_number, row.finalized_number,
            row.lag, row.bloom_checks, row.follower, row.reorgs, row.deepest,
            row.history_compared, row.history_undecided,
        )
        for row in connection.execute(_CHAINS)
    ]  # fmt: skip
    tips = {chain.chain_id: chain.tip for chain in chains}
    return Overview(
        at=at,
        chains=chains,
        events=_events(connection, tips),
        endpoints=[dict(row._mapping) for row in connection.execute(_ENDPOINTS)],
        series=[dict(row._mapping) for row in connection.execute(_SERIES)],
        unread=failed_ranges.load(connection),
        history_sources=history_sources.load(connection),
        missing_details=transaction_rows.load_missing(connection),
        credits=[
            dataclasses.asdict(one) | {"used": one.used, "money": one.money or None, "remark": one.remark or None}
            for one in usage.today(connection)
        ],
        balances=[dict(row._mapping) for row in connection.execute(_BALANCES)],
        indexes=[
            {"index": index.label, "state": index.state, "percent": index.percent}
            for index in indexes.amiss(connection)
        ],
        derived=[dict(row._mapping) for row in connection.execute(_DERIVED)],
        programs=[dict(row._mapping) for row in connection.execute(_PROGRAMS)],
        retired=[
            {"kind": one.kind, "name": one.name, "rows": None if one.kind == "chain" else one.rows}
            for one in drop.retired(connection)
        ],
    )


def _events(connection: Connection, tips: dict[int, int | None]) -> list[EventOverview]:
    counts = {row.id: row for row in connection.execute(_ROWS)}
    found: dict[tuple[int, int], EventOverview] = {}
    for source in catalog.load_sources(connection):
        tip = tips.get(source.chain_id)
        wanted = source.wanted(-1 if tip is None else tip)
        covered = intersect(wanted, source.coverage)
        key = (source.chain_id, source.event.event_id)
        before = found.get(key)
        found[key] = EventOverview(
            chain_id=source.chain_id,
            contract=source.event.contract,
            event=source.event.api_name,
            wanted=size(wanted) + (before.wanted if before else 0),
            covered=size(covered) + (before.covered if before else 0),
            missing=tuple(sorted({*subtract(wanted, covered), *(before.missing if before else ())})),
            rows=counts[source.event.event_id].rows,
            undecoded=counts[source.event.event_id].undecoded,
            foreign=counts[source.event.event_id].foreign_logs,
            proven=size(intersect(covered, source.verified)) + (before.proven if before else 0),
        )
    return list(found.values())


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
        credits: what endpoints have cost today.
    """

    chains: Sequence[Mapping[str, Any]]
    missing: Mapping[tuple[str, str, str], int]
    unread: Mapping[tuple[str, str, str], int]
    jobs: Mapping[tuple[str, str], int]
    findings: Mapping[tuple[str, str], int]
    credits: Sequence[CreditUse]


_CHAIN_GAUGES = sa.text(f"""
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


def load_gauges(connection: Connection) -> Gauges:
    """Look.

    Args:
        connection: in a transaction that has done nothing yet.
    """
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    chains = [dict(row._mapping) for row in connection.execute(_CHAIN_GAUGES)]
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
        credits=usage.today(connection),
    )


_STALLED = sa.text(f"""
    SELECT c.chain_id, c.name, {shown_reason("c")} FROM gapless.chains c WHERE c.active AND {stalled("c")}
    ORDER BY c.chain_id
""")


def load_stalled(connection: Connection) -> dict[str, str]:
    """The active chains whose heads stand still, by name, with what is known of why."""
    return {name: reason or "" for _, name, reason in connection.execute(_STALLED)}
