"""The checks that need nothing but the tables: are they whole, consistent in themselves, and as they were written?"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlalchemy.engine import Connection, Engine

from indexer.intervals import ALWAYS, BlockRange, intersect, size
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.declaration import FactoryRule
from indexer.store.catalog.version import load_version, writing_by
from indexer.store.head import state as head_state
from indexer.store.integrity import checks, digests
from indexer.store.integrity.checks import CheckResult, ChildDifference
from indexer.store.integrity.findings import Finding, Kind
from indexer.sync.audit import derived_rows, holdings
from indexer.sync.audit.scope import AuditScope

Check: TypeAlias = Callable[[Connection, AuditScope], Iterable[Finding]]


def looked_at(scope: AuditScope) -> BlockRange:
    """The audited blocks, and all above the tip where they reach as far.

    A row above the tip is as wrong as one before the start: only asked-for blocks narrow this.
    """
    first, last = scope.within
    return first, ALWAYS if last == scope.tip else last


def gaps(_connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Blocks that the manifest wants and that are not indexed."""
    for source in scope.sources:
        for first, last in intersect(source.gap(scope.tip), (scope.within,)):
            yield scope.finding("gap", source, first, last, last - first + 1, "wanted by the manifest and not covered")


def outside(connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Rows without coverage, and rows of a factory's children that are none."""
    within = looked_at(scope)
    for event in scope.events:
        claims = checks.load_claims(connection, event.event_id, scope.chain_id)
        for found in checks.coalesced(checks.unclaimed(connection, event.table, scope.chain_id, claims, within)):
            yield _about_event("outside", scope, event, found)
    for source in scope.sources:
        if source.place.kind == "factory":
            for found in checks.strangers(connection, source, scope.within):
                yield scope.finding("outside", source, found.first, found.last, found.count, _rows(found))


def duplicates(connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Logs that are in a table twice."""
    for event in scope.events:
        for found in checks.duplicates(connection, event.table, scope.chain_id, scope.within):
            yield _about_event("duplicate", scope, event, found)


def dangling(connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Rows whose block is not kept, or was at another time."""
    for event in scope.events:
        for found in checks.dangling(connection, event.table, scope.chain_id, scope.within):
            yield _about_event("dangling", scope, event, found)


def children(connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Children that are not as the factories' events in the tables announce them."""
    done: set[int] = set()
    for source in scope.sources:
        contract_id = source.event.contract_id
        if source.place.kind != "factory" or contract_id in done or not source.adopted:
            continue
        done.add(contract_id)
        rules = factory_rules(scope.every, source)
        if len(rules) < len(source.place.factories):
            continue  # the announcing event is not indexed any more: its rows say nothing of today's children
        for found in checks.child_differences(connection, contract_id, scope.chain_id, rules):
            block = min(n for n in (found.announced, found.known) if n is not None)
            if scope.within[0] <= block <= scope.within[1]:
                yield scope.finding("child", source, block, block, 1, _child(source, found))


def factory_rules(every: Iterable[Source], source: Source) -> list[tuple[FactoryRule, CatalogEvent]]:
    """The rules that find a source's addresses, each with the event that announces them."""
    events = {s.event.event_id: s.event for s in every}.values()
    return [(factory, event) for factory in source.place.factories for event in events if factory.announced_by(event)]


CHECKS: tuple[tuple[Kind, Check], ...] = (
    ("gap", gaps),
    ("outside", outside),
    ("duplicate", duplicates),
    ("dangling", dangling),
    ("child", children),
    ("balance", holdings.counted),
    ("derived", derived_rows.counted),
)
"""Every check of this kind; one more is a function added here."""


def _about_event(kind: Kind, scope: AuditScope, event: CatalogEvent, found: CheckResult) -> Finding:
    owners = [source.source_id for source in scope.sources if source.event.event_id == event.event_id]
    # What is twice or dangling is fetched anew; rows without coverage belong to no source.
    source_id = owners[0] if len(owners) == 1 and kind != "outside" else None
    return Finding(
        kind,
        scope.chain_id,
        event.label,
        event.event_id,
        source_id,
        found.first,
        found.last,
        found.count,
        _rows(found),
    )


def _rows(found: CheckResult) -> str:
    return f"{found.count} {'row' if found.count == 1 else 'rows'} {found.what}"


def _child(source: Source, found: ChildDifference) -> str:
    address = f"0x{found.address.hex()}"
    if found.known is None:
        return f"{address} was announced in block {found.announced} and is no known child of {source.event.contract}"
    if found.announced is None:
        return f"{address} is kept as a child of {source.event.contract}, and no event in the tables announces it"
    return f"{address} was announced in block {found.announced}, and is kept as a child since block {found.known}"


@dataclass(slots=True)
class DigestCheck:
    """What became of it.

    Attributes:
        findings: the ranges whose rows are not what they were.
        blocks: blocks (of all sources together) whose rows are unchanged.
        rows: rows in them.
        without: blocks that are covered and have no digest yet.
        incomparable: digests by another version of Postgres or of the layout.
        examined: the ranges that were looked at.
    """

    findings: list[Finding] = field(default_factory=list)
    blocks: int = 0
    rows: int = 0
    without: int = 0
    incomparable: int = 0
    examined: list[tuple[int, int]] = field(default_factory=list)


def check_digests(connection: Connection, scope: AuditScope) -> DigestCheck:
    """Sums up the tables anew, wherever a digest was taken that touches the audited blocks."""
    done = DigestCheck()
    how = digests.method(connection)
    for source in scope.sources:
        stored = digests.load(connection, source.source_id)
        covered = scope.covered_history(source)
        done.without += size(covered) - size(intersect(digests.digested(stored), covered))
        for digest in stored:
            block_range = (digest.first, digest.last)
            if not intersect((block_range,), (scope.within,)):
                continue
            done.examined.append(block_range)
            if digest.method != how:
                done.incomparable += 1
                continue
            found = digests.measure(connection, source, block_range)
            if found == digest.sum:
                done.blocks += digest.last - digest.first + 1
                done.rows += found.rows
                continue
            detail = f"the rows are not those that were digested: {found.rows} now, {digest.sum.rows} then"
            if found.rows == digest.sum.rows:
                detail = f"the {found.rows} rows have other values than when they were digested"
            done.findings.append(scope.finding("digest", source, *block_range, abs(found.rows), detail))
    return done


def take_digests(engine: Engine, chain_id: int, *, most: int | None = None) -> int:
    """Digests what is covered, finalized and has no digest yet: a maintenance job, and part of every audit.

    Args:
        engine: the database.
        chain_id: the chain.
        most: of so many sources at most, those with the most blocks first; None: of all. Each takes a transaction, and
            each has more to digest whenever more blocks are final.

    Returns:
        How many blocks (of all sources together) were digested.
    """
    taken: Counter[int] = Counter()
    with engine.connect() as connection:
        version = load_version(connection)
        finalized = head_state.load_state(connection, chain_id).finalized
        if finalized is None:
            return 0
        waiting = digests.waiting(connection, chain_id, finalized, most)
        sources = catalog.load_sources(connection, chain_id, ids=waiting)
    for source in sources:
        with engine.begin() as connection, writing_by(connection, version):
            taken[source.source_id] = size(digests.take(connection, source, finalized))
    return taken.total()
