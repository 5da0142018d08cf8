"""Repair: what an audit found wrong is fetched anew, and replaced where it is different.

Ranges are fetched anew in :mod:`indexer.sync.audit.refetch`; here is what each kind of finding asks for. Where a
factory's logs were found, the coverage of its children was taken back with them (``catalog.children``), and is filled
in again.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.chain.client import ChainClient
from indexer.intervals import ALWAYS, RangeSet, format_ranges, intersect
from indexer.store import database
from indexer.store.catalog import children, ledgers
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import writing_by
from indexer.store.database import psycopg_connection
from indexer.store.derived import counting
from indexer.store.integrity import checks, findings
from indexer.store.integrity.findings import Finding
from indexer.store.programs import disturbances
from indexer.store.rows import writer
from indexer.sync.audit import derived_rows, program_rows
from indexer.sync.audit.refetch import Refetch, RefetchResult
from indexer.sync.audit.scope import AuditScope, load_scope
from indexer.sync.audit.table_checks import factory_rules
from indexer.sync.history.backfill import Backfill, Selection


@dataclass(slots=True)
class Repair:
    """Repairs one chain.

    Attributes:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.
        chain: its name.
        other: a second endpoint, whose agreement allows to take logs away where nothing can be proven.
        stop: ends after the chunk at hand when set.
    """

    engine: Engine
    client: ChainClient
    chain_id: int
    chain: str
    other: ChainClient | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _refetch: Refetch = field(init=False)

    def __post_init__(self) -> None:
        self._refetch = Refetch(self.engine, self.client, self.chain_id, self.other, self.stop)

    @property
    def outcome(self) -> RefetchResult:
        """What was done so far."""
        return self._refetch.outcome

    def findings(self, contract: str | None = None) -> RefetchResult:
        """Repair what audits found and is not repaired yet.

        Raises:
            ProviderError: no node answers; what was repaired before stays so.
            CatalogChangedError: the manifest was applied meanwhile; run it again.
        """
        with self.engine.connect() as connection:
            open_ = findings.load_open(connection, self.chain_id, contract)
        every = self._scope().every
        generations = {source.source_id: _generation(source, every) for source in every}
        for finding in sorted(open_, key=lambda one: _rank(one, generations)):
            if self.stop.is_set():
                break
            left = len(self.outcome.left)
            self._repair(finding)
            if len(self.outcome.left) == left and not self.stop.is_set():
                with self.engine.begin() as connection:
                    findings.mark_repaired(connection, finding)
                self.outcome.repaired.append(finding)
        return self.outcome

    def range(self, contract: str, first: int, last: int) -> RefetchResult:
        """Fetches a range of a contract anew, and replaces what is different.

        Raises:
            ProviderError, CatalogChangedError: as :meth:`findings`.
        """
        scope = self._scope(contract)
        for event in scope.events:
            # Each may make the look before it outdated.
            self._remove_unclaimed(self._scope(contract), event.event_id, first, last)
        scope = self._scope(contract)
        self._fetch_anew(scope, scope.sources, ((first, last),), suspect=())
        return self.outcome

    def _scope(self, contract: str | None = None) -> AuditScope:
        with self.engine.connect() as connection:
            return load_scope(connection, self.chain_id, self.chain, contract)

    def _repair(self, finding: Finding) -> None:
        scope = self._scope()
        block_range = ((finding.first, finding.last),)
        sources = [
            source
            for source in scope.every
            if source.event.event_id == finding.event_id and finding.source_id in (None, source.source_id)
        ]
        match finding.kind:
            case "gap":
                for source in sources:
                    self._fill(source, block_range)
            case "outside" if finding.source_id is None and finding.event_id is not None:
                self._remove_unclaimed(scope, finding.event_id, finding.first, finding.last)
            case "outside" if not self._are_strangers(scope, sources, finding):
                pass  # their factory's children were repaired meanwhile
            case "balance":
                self._count_anew(scope, finding)
            case "derived" if finding.event_id is not None:
                with self.engine.begin() as connection, writing_by(connection, scope.version):
                    derived_rows.mend(connection, self.chain_id, finding.event_id)
            case "program":
                with self.engine.begin() as connection:
                    program_rows.build_anew(connection, finding)
            case "child":
                for source in sources[:1]:
                    self._reconcile(scope, source)
                self._fill_taken()
            case _ if finding.event_id is None:
                self._mend_blocks(scope, block_range)
            case _:
                suspect = range(finding.first, finding.last + 1) if finding.kind in ("against", "proof") else ()
                self._fetch_anew(scope, sources, block_range, suspect)

    def _fill(self, source: Source, block_range: RangeSet) -> None:
        selection = Selection(source.event.contract, source.event.api_name, block_range[0])
        done = Backfill(self.engine, self.client, self.chain_id, selection, stop=self.stop).run()
        self.outcome.filled += done.blocks
        scope = self._scope()
        now = next((one for one in scope.every if one.source_id == source.source_id), None)
        if now is not None and (lacking := intersect(now.gap(scope.tip), block_range)):
            is_above = lacking[0][0] > scope.finalized
            self.outcome.left.append(
                f"{source.event.label}, blocks {format_ranges(lacking)}: "
                + ("the follower fills them" if is_above else "they wait for a factory's history, or for the nodes")
            )

    def _remove_unclaimed(self, scope: AuditScope, event_id: int, first: int, last: int) -> None:
        event = next(event for event in scope.events if event.event_id == event_id)

        def remove(connection: Connection) -> tuple[int, tuple[str, ...]]:
            with writing_by(connection, scope.version) as writing:
                # A writer under way finishes first: rows and coverage are seen together.
                psycopg_connection(connection).execute(
                    sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(event.table.identifier)
                )
                claims = checks.load_claims(connection, event_id, self.chain_id)
                with counting.rewriting(connection, self.chain_id, [event_id], ((first, last),)):
                    removed = checks.delete_unclaimed(connection, event.table, self.chain_id, claims, (first, last))
                if not removed:
                    return 0, ()
                writer.bump_versions(connection, [event_id], rewritten=True)
                disturbances.note_changed(
                    connection, self.chain_id, [event_id], ((first, last),), "rows that nothing covers were deleted"
                )
                changed = children.reconcile(
                    connection, self.chain_id, children.announcing([event]), ((first, last),), rewritten=True
                )
                writing.forgets = changed.outdated
                return removed, changed.taken

        what = f"{event.label}: rows that nothing covers cannot be deleted"
        removed, taken = database.attempt(self.engine, what, remove)
        self._refetch.taken |= set(taken)
        self.outcome.removed += removed
        self._fill_taken()

    def _reconcile(self, scope: AuditScope, source: Source) -> None:
        """Makes the children of a contract what its factories' events say; what was fetched by others is a gap then."""
        announcing = {event.event_id for _, event in factory_rules(scope.every, source)}
        with self.engine.begin() as connection, writing_by(connection, scope.version) as writing:
            changed = children.reconcile(connection, self.chain_id, announcing, ((0, ALWAYS),), rewritten=True)
            writing.forgets = changed.outdated
        self._refetch.taken |= set(changed.taken)

    def _fill_taken(self) -> None:
        """Fetches what factories' children said whose coverage was taken back; above finalized the follower does."""
        while self._refetch.taken and not self.stop.is_set():
            every = self._scope().every
            # A factory's own children may announce the next ones: theirs go first.
            source = min(
                (one for one in every if one.event.label in self._refetch.taken),
                key=lambda one: _generation(one, every),
                default=None,
            )
            if source is None:
                self._refetch.taken.clear()
                return
            self._refetch.taken.discard(source.event.label)
            selection = Selection(source.event.contract, source.event.api_name)
            done = Backfill(self.engine, self.client, self.chain_id, selection, stop=self.stop).run()
            self.outcome.filled += done.blocks

    def _count_anew(self, scope: AuditScope, finding: Finding) -> None:
        """Has the balances of the finding's contract counted anew from the first transfer on."""
        with self.engine.begin() as connection, writing_by(connection, scope.version):
            for ledger in ledgers.lock(connection, self.chain_id):
                if ledger.live and finding.event_id in ledger.event_ids:
                    ledgers.restart(connection, ledger, "an audit found it wrong: it is built anew")

    def _are_strangers(self, scope: AuditScope, sources: Iterable[Source], finding: Finding) -> bool:
        with self.engine.connect() as connection:
            return any(checks.strangers(connection, source, (finding.first, finding.last)) for source in sources)

    def _mend_blocks(self, scope: AuditScope, ranges: RangeSet) -> None:
        """Corrects stored times; a stored hash is never replaced."""
        for number in (n for first, last in ranges for n in range(first, last + 1)):
            header = self.client.header(number)
            if header is not None:
                self._refetch.check_blocks(scope, {number: (header.hash, header.time)})

    def _fetch_anew(
        self, scope: AuditScope, sources: Sequence[Source], ranges: RangeSet, suspect: Iterable[int]
    ) -> None:
        self._refetch.fetch(scope, sources, ranges, suspect)
        self._fill_taken()


def _generation(source: Source, every: Sequence[Source], below: frozenset[int] = frozenset()) -> int:
    """How many factories stand above a source: their history goes before its own."""
    above = [
        other
        for factory in source.place.factories
        for other in every
        if factory.announced_by(other.event) and other.source_id not in below
    ]
    return max((1 + _generation(other, every, below | {source.source_id}) for other in above), default=0)


def _rank(finding: Finding, generations: Mapping[int, int]) -> tuple[int, int, int]:
    """The order of repairs: what is in the way of others goes first.

    Rows that belong to no source could stand where others are inserted; digests reach over gaps, and a gap of a
    factory's children waits for the factory's own; children follow from their factory's events, which must be right by
    then; and a stranger may turn out to be a child.
    """
    order = (
        "outside",
        "gap",
        "duplicate",
        "dangling",
        "digest",
        "against",
        "proof",
        "child",
        "balance",
        "derived",
        "program",
    )
    stranger = finding.kind == "outside" and finding.source_id is not None
    waits = generations.get(finding.source_id or 0, 0) if finding.kind == "gap" else 0
    return (len(order) if stranger else order.index(finding.kind)), waits, finding.first
