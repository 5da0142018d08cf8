"""What of a chain is followed at its head: by one look at the catalog, and as more sources get what they need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from indexer.addresses import Children, DiscoveryBlocks
from indexer.chain.client import ChainClient
from indexer.chain.records.errors import BranchMovedError
from indexer.chain.records.messages import Header
from indexer.intervals import RangeSet, intersect
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent, Series, Source
from indexer.store.catalog.factory_coverage import announcers, known_until
from indexer.store.catalog.version import load_version
from indexer.store.head import state as head_state
from indexer.store.head.state import HeadState
from indexer.store.rows.writer import Rows
from indexer.sync.rows.gaps import NOTHING, log_filters
from indexer.sync.rows.router import Log, Router

Fill = Callable[[Sequence[Source], RangeSet], None]
"""Brings sources the unfinalised blocks that they lack, or raises."""


@dataclass(slots=True)
class View:
    """What is followed, by one look at the catalog.

    Attributes:
        version: of the catalog.
        sources: all active ones of the chain.
        events: all that have a table, the retired ones too.
        series: all snapshot series, the retired ones too.
        children: of all factories.
        followed: those sources whose unfinalised blocks are in the tables up to the tip.
    """

    version: int
    sources: list[Source]
    events: list[CatalogEvent]
    series: list[Series]
    children: Children
    followed: list[Source] = field(default_factory=list)
    _reading: "_Reading | None" = None

    def reading(self, sources: Sequence[Source]) -> "_Reading":
        """How some sources are read; the same object until it is for other sources, or a child was born or forgotten.

        Made anew for each block it would cost more than all the rest, where thousands of events are followed.
        """
        reading = self._reading
        if reading is None or not reading.holds(sources, self.children):
            before, reading = reading, _Reading(sources, self.children, self.sources)
            reading.take_over(before)
            self._reading = reading
        return reading


class _Reading:
    """What is asked for some sources, and where the answers go."""

    def __init__(self, sources: Sequence[Source], children: Children, among: Sequence[Source]) -> None:
        self._sources, self._children, self._among = sources, children, among
        self._router: Router | None = None
        self._known: list[DiscoveryBlocks] = []
        self._lists = [born.addresses() for born in children.values()]
        self.filters = log_filters(sources, children)

    def holds(self, sources: Sequence[Source], children: Children) -> bool:
        """Whether it is right for these sources and children."""
        if sources is not self._sources or children is not self._children or len(children) != len(self._lists):
            return False
        return all(was is born.addresses() for was, born in zip(self._lists, children.values(), strict=True))

    def take_over(self, before: "_Reading | None") -> None:
        """Goes on with another one's router, if that is for the same sources and looks at the same children."""
        if before is not None and before._sources is self._sources and before._children is self._children:
            known = list(self._children.values())
            if len(known) == len(before._known) and all(a is b for a, b in zip(known, before._known, strict=True)):
                self._router, self._known = before._router, before._known

    def rows(self, logs: Sequence[Log], times: Mapping[int, int]) -> Rows:
        """What logs say; children are added as they are announced."""
        if not logs or not self._sources:
            return Rows()
        if self._router is None:
            self._router = Router(self._sources[0].chain_id, self._sources, self._children, among=self._among)
        self._router.learn(logs)
        rows = self._router.rows(logs, times)
        self._known = list(self._children.values())
        return rows


def load(engine: Engine, chain_id: int) -> tuple[View, HeadState]:
    """What there is to follow (nothing is followed yet), and how far the chain is followed."""
    with engine.connect() as connection:
        version = load_version(connection)
        state = head_state.load_state(connection, chain_id)
        sources, events = catalog.load_with_events(connection, chain_id)
        view = View(
            version=version,
            sources=sources,
            events=list(events.values()),
            series=catalog.load_series(connection, retired=True),
            children={},
        )
    return view, state


def join(engine: Engine, chain_id: int, view: View, tip: int, floor: int, fill: Fill | None) -> None:
    """Lets more sources be followed, now that what they need is there.

    A factory's children join when its own events are followed and all of their history is there. A source that lacks
    unfinalised blocks (since it is new) gets them first.

    Args:
        engine: the database.
        chain_id: the chain.
        view: by the newest version of the catalog.
        tip: the newest block that is in the tables.
        floor: the finalized block.
        fill: how they get them; None: only those that lack nothing join.
    """
    if len(view.followed) == len(view.sources):
        return
    _refresh(engine, chain_id, view)
    while newcomers := _newcomers(view, floor):
        _load_children(engine, chain_id, view, newcomers)
        lacking: dict[RangeSet, list[Source]] = {}
        for source in newcomers:
            lacking.setdefault(intersect(source.gap(tip), ((floor + 1, tip),)), []).append(source)
        complete = lacking.pop((), [])
        if not complete:
            if fill is None:
                return
            for missing, sources in lacking.items():
                fill(sources, missing)
            complete = newcomers
        joined = {source.source_id for source in (*view.followed, *complete)}
        view.followed = [source for source in view.sources if source.source_id in joined]


def _newcomers(view: View, floor: int) -> list[Source]:
    followed = {source.source_id for source in view.followed}
    late = [source for source in view.sources if source.source_id not in followed]
    announcing = announcers(view.sources)

    def announced(source: Source) -> bool:
        return all(
            other.source_id in followed
            for factory in source.place.factories
            for other in announcing.get((factory.contract, factory.event), ())
        )

    return [source for source in late if announced(source) and known_until(source, announcing) >= floor]


def _refresh(engine: Engine, chain_id: int, view: View) -> None:
    """Reads anew how far those sources are covered that are not followed yet, and those that find their children."""
    followed = {source.source_id for source in view.followed}
    late = [source for source in view.sources if source.source_id not in followed]
    rules = {(factory.contract, factory.event) for source in late for factory in source.place.factories}
    asked = {source.source_id for source in late}
    asked |= {source.source_id for source in view.sources if (source.event.contract, source.event.signature) in rules}
    with engine.connect() as connection:
        found = {source.source_id: source for source in catalog.load_sources(connection, chain_id, ids=asked)}
    view.sources = [
        found.get(source.source_id, source)
        for source in view.sources
        if source.source_id in found or source.source_id not in asked
    ]
    if not followed <= {source.source_id for source in view.sources}:
        view.followed = [source for source in view.sources if source.source_id in followed]


def _load_children(engine: Engine, chain_id: int, view: View, newcomers: Sequence[Source]) -> None:
    """Reads the children of sources that are about to join, now that all of them are known.

    After the sources, so that no child of what they cover is missing; and in place of what was known: others may have
    been forgotten. Nothing is read of contracts that do not join: an idle chain costs no look at a million children.
    """
    contracts = {s.event.contract_id for s in newcomers if s.place.kind == "factory"}
    if contracts:
        with engine.connect() as connection:
            found = catalog.load_children(connection, chain_id, contracts)
        for contract_id in contracts:
            view.children[contract_id] = found.get(contract_id, DiscoveryBlocks())


def read(
    client: ChainClient,
    view: View,
    sources: Sequence[Source],
    block_range: tuple[int, int],
    parent_hash: bytes,
    *,
    span: int,
    blooms: bool,
    known: Sequence[Header] = (),
) -> tuple[list[Header], Rows]:
    """Reads a branch for some sources; again, with their addresses, when it announces children.

    Args:
        client: the chain's nodes.
        view: what is followed; learns the children that the branch announces.
        sources: whose logs are wanted.
        block_range: the branch, both ends included. Where the last number has no block, the next block is the last.
        parent_hash: of the block before it.
        span: the most blocks to ask for at once.
        blooms: whether the chain's blooms can be trusted.
        known: the headers of the whole branch, where they are known; at most ``span``.

    Returns:
        The headers, each the parent of the next, and what the sources' logs say.

    Raises:
        BranchMovedError: the chain moved meanwhile.
        ProviderError: no endpoint answers.
    """
    last_hash: bytes | None = None
    while True:
        reading = view.reading(sources)
        headers: list[Header] = []
        logs = []
        first = block_range[0]
        while first <= block_range[1]:
            branch = client.branch(
                first,
                min(block_range[1], first + span - 1),
                reading.filters or NOTHING,
                # Each piece must join the one before it, whichever endpoint brought that.
                parent_hash=headers[-1].hash if headers else parent_hash,
                blooms=blooms,
                known=known,
            )
            headers += branch.headers
            logs += branch.logs
            first = branch.last + 1
        if last_hash not in (None, headers[-1].hash):
            raise BranchMovedError(f"{client.name}: the branch moved while its newborn children were asked for")
        last_hash = headers[-1].hash
        rows = reading.rows(logs, {header.number: header.time for header in headers})
        if view.reading(sources).filters == reading.filters:
            return headers, rows
