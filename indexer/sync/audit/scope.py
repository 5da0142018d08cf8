"""What an audit is about: one chain, the sources that are looked at, the blocks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from indexer.addresses import Children
from indexer.chain.records.validation import RawLog
from indexer.intervals import EMPTY, BlockRange, RangeSet, intersect, subtract, union
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.version import load_version
from indexer.store.head import state as head_state
from indexer.store.integrity.findings import Finding, Kind
from indexer.store.rows.writer import Rows
from indexer.sync.rows.router import Router


@dataclass(frozen=True, slots=True)
class AuditScope:
    """One look at a chain's catalog, and which part of it is audited.

    Attributes:
        chain_id: the chain.
        chain: its name.
        version: of the catalog.
        every: all active sources of the chain.
        sources: those that are audited.
        events: all events that have a table and are audited, the retired ones too.
        children: of all factories.
        finalized: the last finalized block; -1: none is known yet.
        tip: the newest block that is indexed; -1: none.
        within: the audited blocks, at most up to ``tip``.
    """

    chain_id: int
    chain: str
    version: int
    every: Sequence[Source]
    sources: Sequence[Source]
    events: Sequence[CatalogEvent]
    children: Children
    finalized: int
    tip: int
    within: BlockRange

    @property
    def history(self) -> BlockRange:
        """The audited blocks that are finalized; ``first > last`` where there are none."""
        return self.within[0], min(self.within[1], self.finalized)

    def covered_history(self, source: Source) -> RangeSet:
        """The audited, finalized blocks that a source has covered."""
        first, last = self.history
        return intersect(source.coverage, ((first, last),)) if first <= last else EMPTY

    def history_of_all(self) -> RangeSet:
        """The audited, finalized blocks that any audited source has covered."""
        return union(*(self.covered_history(source) for source in self.sources))

    def looked_at(self) -> dict[str, RangeSet]:
        """By contract: the audited blocks that are covered. Of others the tables hold nothing, and nothing is said."""
        found: dict[str, RangeSet] = {}
        for source in self.sources:
            contract = source.event.contract
            found[contract] = union(found.get(contract, EMPTY), intersect(source.coverage, (self.within,)))
        return found

    def proven(self) -> RangeSet:
        """The finalized blocks that are proven for every audited source that has them."""
        rest = self.history_of_all()
        for source in self.sources:
            rest = subtract(rest, subtract(self.covered_history(source), source.verified))
        return rest

    def rows(self, logs: Sequence[RawLog], times: Mapping[int, int], sources: Iterable[Source]) -> Rows:
        """Decodes logs into the rows of some sources.

        The router knows all sources of the chain: only so can it tell whose an anonymous event's log is not.
        """
        children = {contract_id: born.copy() for contract_id, born in self.children.items()}
        router = Router(self.chain_id, self.every, children, among=self.every)
        router.learn(logs)
        rows = router.rows(logs, times)
        wanted = {source.event.event_id for source in sources}
        rows.by_table = {event_id: found for event_id, found in rows.by_table.items() if event_id in wanted}
        rows.undecoded = [log for log in rows.undecoded if log.event_id in wanted]
        rows.foreign = [logs for logs in rows.foreign if logs.event_id in wanted]
        return rows

    def finding(self, kind: Kind, source: Source, first: int, last: int, count: int, detail: str) -> Finding:
        """A finding about a source."""
        return Finding(
            kind, self.chain_id, source.event.label, source.event.event_id, source.source_id, first, last, count, detail
        )


def load_scope(
    connection: Connection, chain_id: int, chain: str, contract: str | None = None, within: BlockRange | None = None
) -> AuditScope:
    """Reads what is to be audited.

    Args:
        connection: in a transaction with one snapshot, so that rows and coverage are seen together.
        chain_id: the chain.
        chain: its name, for people.
        contract: only this contract's events; None: all.
        within: only these blocks; None: all.
    """
    version = load_version(connection)
    state = head_state.load_state(connection, chain_id)
    every, events = catalog.load_with_events(connection, chain_id)
    tip = -1 if state.tip is None else state.tip.number
    first, last = within or (0, tip)
    return AuditScope(
        chain_id=chain_id,
        chain=chain,
        version=version,
        every=every,
        sources=[source for source in every if contract in (None, source.event.contract)],
        events=[e for e in events.values() if contract in (None, e.contract)],
        children=catalog.load_children(connection, chain_id),
        finalized=-1 if state.finalized is None else state.finalized,
        tip=tip,
        within=(first, min(last, tip)),
    )


def ranges_of(numbers: Iterable[int]) -> RangeSet:
    """Block numbers as a range set."""
    return union((number, number) for number in numbers)
