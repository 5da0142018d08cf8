"""Digests: do the tables still hold what was once written?"""

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection, Engine

from indexer.intervals import intersect, size
from indexer.store.catalog import catalog
from indexer.store.catalog.version import load_version, writing_by
from indexer.store.head import state as head_state
from indexer.store.integrity import digests
from indexer.store.integrity.findings import Finding
from indexer.sync.audit.scope import Scope


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


def check(connection: Connection, scope: Scope) -> DigestCheck:
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


def take(engine: Engine, chain_id: int, *, most: int | None = None) -> int:
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
