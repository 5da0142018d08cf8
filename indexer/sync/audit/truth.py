"""Comparing the tables with logs from elsewhere: decoded by the same router, summed up by the same SQL."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.engine import Connection, Engine

from indexer.chain.records.validation import RawLog
from indexer.intervals import RangeSet, intersect, subtract
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import writing_by
from indexer.store.integrity import checks, digests, findings
from indexer.store.integrity.compare import Expected
from indexer.store.integrity.findings import Finding, Kind
from indexer.sync.audit.scope import Scope, ranges_of

LINES_SHOWN = 5


def compare(
    engine: Engine,
    scope: Scope,
    kind: Kind,
    blocks: RangeSet,
    logs: Sequence[RawLog],
    times: Mapping[int, int],
    *,
    proven: bool = False,
) -> list[Finding]:
    """Compares what the tables hold of some blocks with what logs from elsewhere say.

    Args:
        engine: the database.
        scope: what is audited.
        kind: how the findings are called.
        blocks: those that ``logs`` are complete for.
        logs: in order.
        times: Unix seconds of the blocks that bore them.
        proven: whether the logs are proven: then the blocks that agree are noted as verified, the others as not.

    Raises:
        CatalogChangedError: the manifest was applied meanwhile.
    """
    rows = scope.rows(logs, times, scope.sources)
    found: list[Finding] = []
    with engine.begin() as connection, writing_by(connection, scope.version):
        digests.lock_rewrites(connection, [source.source_id for source in scope.sources])
        expected = Expected(connection, rows)
        for source in scope.sources:
            ranges = intersect(scope.covered_history(source), blocks)
            differing = expected.differing(source, ranges)
            if differing:
                found += _findings(scope, source, kind, expected, differing)
            if proven:
                _note(connection, source, ranges, ranges_of(differing))
    return found


def compare_hashes(engine: Engine, scope: Scope, kind: Kind, hashes: Mapping[int, bytes], whose: str) -> list[Finding]:
    """Compares the stored hashes of blocks with those that another source has."""
    if not hashes:
        return []
    with engine.connect() as connection:
        stored = {n: block_hash for n, (block_hash, _) in checks.blocks(connection, scope.chain_id, hashes).items()}
    return [
        about_chain(
            scope, kind, number, f"block 0x{stored[number].hex()} is stored, {whose} has 0x{hashes[number].hex()}"
        )
        for number in sorted(stored.keys() & hashes.keys())
        if stored[number] != hashes[number]
    ]


def about_chain(scope: Scope, kind: Kind, number: int, detail: str) -> Finding:
    """A finding about a block, whatever it bore."""
    return Finding(kind, scope.chain_id, scope.chain, None, None, number, number, 1, detail)


def _findings(
    scope: Scope, source: Source, kind: Kind, expected: Expected, differing: Sequence[int]
) -> Iterable[Finding]:
    for first, last in ranges_of(differing):
        lines = expected.describe(source, range(first, last + 1))
        shown = "; ".join(lines[:LINES_SHOWN])
        more = f"; and {len(lines) - LINES_SHOWN} more" if len(lines) > LINES_SHOWN else ""
        yield scope.finding(kind, source, first, last, max(1, len(lines)), shown + more)


def _note(connection: Connection, source: Source, ranges: RangeSet, differing: RangeSet) -> None:
    findings.add_proven(connection, source.source_id, subtract(ranges, differing))
    findings.remove_proven(connection, source.source_id, differing)
