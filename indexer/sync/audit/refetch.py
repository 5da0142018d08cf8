"""Ranges of history fetched anew: the blocks that are different are replaced, once their replacement is in hand.

Nothing finalized is taken away on the word of one endpoint: blocks that are different are proven against their receipts
roots; where a chain cannot be proven, a second endpoint must agree. Readers see the old rows or the new ones, never
neither.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.chain.client import ChainClient
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.validation import RawLog
from indexer.intervals import RangeSet, format_ranges, intersect, size, union
from indexer.store.catalog import children
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import writing_by
from indexer.store.derived import counting
from indexer.store.integrity import compare, digests, findings
from indexer.store.integrity.compare import Expected
from indexer.store.integrity.findings import Finding
from indexer.store.rows import writer
from indexer.store.rows.blocks import Block, insert_blocks
from indexer.store.rows.writer import Rows
from indexer.store.tokens import balances
from indexer.sync.audit.comparison import NoBlock, Prover, Unproven, compare_hashes
from indexer.sync.audit.scope import AuditScope, load_scope, ranges_of
from indexer.sync.rows.gaps import log_filters

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RefetchResult:
    """What a repair did.

    Attributes:
        blocks: blocks (of all sources together) whose rows were replaced.
        checked: blocks that were fetched and compared.
        removed: rows without coverage, which were deleted.
        filled: blocks of gaps that were filled.
        repaired: findings that are settled.
        left: what was not repaired, and why.
    """

    blocks: int = 0
    checked: int = 0
    removed: int = 0
    filled: int = 0
    repaired: list[Finding] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Refetch:
    """Fetches ranges of one chain anew.

    Attributes:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.
        other: a second endpoint, whose agreement allows to take logs away where nothing can be proven.
        stop: ends after the chunk at hand when set.
        outcome: what was done, and what was left.
        taken: events (``contract.Event``) of factories' children whose coverage was taken back, since the logs that
            were found announce others: what they said is to be fetched.
    """

    engine: Engine
    client: ChainClient
    chain_id: int
    other: ChainClient | None
    stop: threading.Event
    outcome: RefetchResult = field(default_factory=RefetchResult)
    taken: set[str] = field(default_factory=set)

    def fetch(self, scope: AuditScope, sources: Sequence[Source], ranges: RangeSet, suspect: Iterable[int]) -> None:
        """Fetches ranges of sources and replaces the blocks that are different.

        Args:
            scope: one look at the chain.
            sources: whose rows may be wrong.
            ranges: where.
            suspect: blocks that are proven in any case: the endpoint that answers for them may have lost logs of them.
        """
        history = union(*(intersect(scope.covered_history(source), ranges) for source in sources))
        if history:
            self._fetch_history(scope, sources, ranges, history, suspect)
        above = intersect(union(*(source.coverage for source in sources)), ranges)
        if above and above[-1][1] > scope.finalized:
            # Also where the rest was repaired: who asked for all of it must come again for this part.
            above = intersect(above, ((scope.finalized + 1, above[-1][1]),))
            self.outcome.left.append(
                f"{format_ranges(above)}: not finalized yet; the follower watches over these blocks"
            )

    def _fetch_history(
        self, scope: AuditScope, sources: Sequence[Source], ranges: RangeSet, history: RangeSet, suspect: Iterable[int]
    ) -> None:
        filters = log_filters(sources, scope.children)
        suspects = set(suspect)
        for chunk in self.client.scan(history, filters, stop=self.stop) if filters else ():
            if not self.check_blocks(scope, chunk.blocks):
                continue
            if self._repair_chunk(scope, sources, chunk, suspects):
                scope, sources = self._anew(scope, sources)
        for source in sources:
            self._renew_digests(scope, source, ranges)

    def _anew(self, scope: AuditScope, sources: Sequence[Source]) -> tuple[AuditScope, Sequence[Source]]:
        """One more look, after children were found: less of them is covered than before."""
        with self.engine.connect() as connection:
            fresh = load_scope(connection, scope.chain_id, scope.chain, within=scope.within)
        wanted = {source.source_id for source in sources}
        return fresh, [source for source in fresh.every if source.source_id in wanted]

    def check_blocks(self, scope: AuditScope, blocks: Mapping[int, tuple[bytes, int]]) -> bool:
        """Compares fetched blocks with the stored ones: a time is corrected, another hash is left to a person."""
        hashes = {number: block_hash for number, (block_hash, _) in blocks.items()}
        foreign = compare_hashes(self.engine, scope, "proof", hashes, "the node")
        for finding in foreign:
            self.outcome.left.append(
                f"block {finding.first}: {finding.detail}. A finalized block that changed is another chain, or an "
                "endpoint that lies: nothing was touched; compare with a second provider (gapless audit --against URL)"
            )
        if foreign:
            return False
        with self.engine.begin() as connection:
            insert_blocks(connection, self.chain_id, [Block(n, h, t) for n, (h, t) in sorted(blocks.items())])
            connection.execute(
                sa.text("""
                    UPDATE gapless.blocks b SET time = to_timestamp(given.time)
                    FROM unnest(CAST(:numbers AS bigint[]), CAST(:times AS bigint[])) AS given (number, time)
                    WHERE b.chain_id = :chain_id AND b.number = given.number
                      AND b.time <> to_timestamp(given.time)
                """),
                {
                    "chain_id": self.chain_id,
                    "numbers": list(blocks),
                    "times": [time for _, time in blocks.values()],
                },
            )
        return True

    def _repair_chunk(self, scope: AuditScope, sources: Sequence[Source], chunk: LogChunk, suspects: set[int]) -> bool:
        """Returns whether the scope is outdated now."""
        block_range: RangeSet = ((chunk.first, chunk.last),)
        times = {number: time for number, (_, time) in chunk.blocks.items()}
        wanted = {s.source_id: intersect(scope.covered_history(s), block_range) for s in sources}
        with self.engine.begin() as connection:
            expected = Expected(connection, scope.rows(chunk.logs, times, sources))
            differing = {n for s in sources for n in expected.differing(s, wanted[s.source_id])}
            connection.rollback()
        self.outcome.checked += size(block_range)
        differing |= {n for n in suspects if chunk.first <= n <= chunk.last}
        return bool(differing) and self._replace(scope, sources, chunk, sorted(differing))

    def _replace(self, scope: AuditScope, sources: Sequence[Source], chunk: LogChunk, numbers: Sequence[int]) -> bool:
        """Replaces the rows of blocks by what is proven of them, or else by what was fetched.

        Returns:
            Whether children were found or forgotten: the scope is outdated then.
        """
        logs: list[RawLog] = []
        times: dict[int, int] = {number: time for number, (_, time) in chunk.blocks.items()}
        proven: set[int] = set()
        for answer in Prover(self.client).read(numbers):
            if isinstance(answer, Unproven):
                logs += [one for one in chunk.logs if one.block_number == answer.number]
                continue
            proven.add(answer.number)
            if isinstance(answer, NoBlock):
                continue  # which bears no logs
            times[answer.number] = answer.time
            logs += answer.logs
        rows = scope.rows(logs, times, sources)
        doubtful = [number for number in numbers if number not in proven]
        with self.engine.begin() as connection, writing_by(connection, scope.version) as writing:
            digests.lock_rewrites(connection, [source.source_id for source in sources])
            expected = Expected(connection, rows)
            changes: dict[int, list[int]] = {}
            for source in sources:
                asked = intersect(scope.covered_history(source), ranges_of(numbers))
                blocks = expected.differing(source, asked)
                unsure = [n for n in blocks if n in doubtful and expected.takes_away(source, [n])]
                refused = set(unsure) - self._confirmed(scope, source, unsure, rows)
                for number in sorted(refused):
                    self.outcome.left.append(
                        f"{source.event.label}, block {number}: the endpoint has fewer logs than the table, and the "
                        "block cannot be proven here; with a second endpoint that agrees: gapless repair --against URL"
                    )
                if kept := [n for n in blocks if n not in refused]:
                    changes[source.source_id] = kept
            self._swap(connection, [s for s in sources if s.source_id in changes], changes, rows, proven)
            # A process that stops from here on leaves gaps, which history fills.
            announcing = children.announcing([s.event for s in sources if s.source_id in changes])
            blocks_changed = ranges_of(number for numbers in changes.values() for number in numbers)
            reconciled = children.reconcile(connection, self.chain_id, announcing, blocks_changed, rewritten=True)
            writing.forgets = reconciled.outdated
        self.taken |= set(reconciled.taken)
        return reconciled.outdated

    def _confirmed(self, scope: AuditScope, source: Source, numbers: Sequence[int], rows: Rows) -> set[int]:
        """Those of the blocks of which a second endpoint says the same."""
        if self.other is None or not numbers:
            return set()
        logs: list[RawLog] = []
        times: dict[int, int] = {}
        for chunk in self.other.scan(ranges_of(numbers), log_filters([source], scope.children)):
            logs += chunk.logs
            times |= {number: time for number, (_, time) in chunk.blocks.items()}
        second = scope.rows(logs, times, [source])
        return {number for number in numbers if _said(rows, source, number) == _said(second, source, number)}

    def _swap(
        self,
        connection: Connection,
        sources: Sequence[Source],
        changes: Mapping[int, Sequence[int]],
        rows: Rows,
        proven: set[int],
    ) -> None:
        changed = ranges_of(number for numbers in changes.values() for number in numbers)
        event_ids = [source.event.event_id for source in sources]
        with ExitStack() as stack:
            for each in (balances, counting):
                stack.enter_context(each.rewriting(connection, self.chain_id, event_ids, changed))
            for source in sources:
                ranges = ranges_of(changes[source.source_id])
                stack.enter_context(digests.rewriting(connection, source, ranges))
                writer.delete_rows(connection, self.chain_id, source.event, source.place, ranges)
            for source in sources:
                blocks = changes[source.source_id]
                writer.insert_rows(connection, self.chain_id, compare.of_source(rows, source, blocks))
                findings.remove_proven(connection, source.source_id, ranges_of(blocks))
                findings.add_proven(connection, source.source_id, ranges_of(n for n in blocks if n in proven))
                self.outcome.blocks += len(blocks)
                log.info("%s: replaced the rows of blocks %s", source.event.label, format_ranges(ranges_of(blocks)))
        if sources:
            writer.bump_versions(connection, [source.event.event_id for source in sources], rewritten=True)

    def _renew_digests(self, scope: AuditScope, source: Source, ranges: RangeSet) -> None:
        """A digest all of whose blocks were fetched anew, and that still does not match, was wrong itself."""
        if self.outcome.left or self.stop.is_set():
            return
        with self.engine.begin() as connection, writing_by(connection, scope.version):
            digests.lock_rewrites(connection, [source.source_id])
            for digest in digests.load(connection, source.source_id):
                block_range = (digest.first, digest.last)
                if intersect(ranges, (block_range,)) == (block_range,) and (
                    digests.measure(connection, source, block_range) != digest.sum
                ):
                    digests.replace(connection, source, digest)


def _said(rows: Rows, source: Source, number: int) -> tuple[object, ...]:
    """What a source's logs of a block come to, in a form that can be compared."""
    part = compare.of_source(rows, source, [number])
    return (
        [table_rows for _, table_rows in part.by_table.values()],
        [(one.log_index, one.topics, one.data) for one in part.undecoded],
        sorted((one.topics, address) for one in part.foreign for address in one.addresses),
    )
