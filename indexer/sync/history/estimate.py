"""What filling history will take, before it is begun (``gapless plan``), with what ``include`` adds.

The gaps are those of the manifest, applied or not; what they cost is found out from samples of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from indexer.addresses import Children
from indexer.chain.client import ChainClient
from indexer.chain.history.estimate import SourceEstimate, estimate
from indexer.chain.history.reader import SourcedHistory
from indexer.chain.logs import sampling
from indexer.chain.logs.sampling import Estimate
from indexer.intervals import EMPTY, RangeSet, intersect, size, subtract
from indexer.manifest.model import Chain, Manifest
from indexer.store.apply.planned import Planned
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import Source
from indexer.store.rows import failed_ranges
from indexer.store.rows.failed_ranges import FailedRange
from indexer.store.rows.transactions import Including
from indexer.sync.history import estimate_derived, estimate_snapshots
from indexer.sync.history.estimate_derived import Backlog
from indexer.sync.history.estimate_snapshots import Past, PastForecast
from indexer.sync.history.transactions import MOST_BLOCKS
from indexer.sync.rows.gaps import gaps, log_filters, waiting


@dataclass(frozen=True, slots=True)
class IncludeForecast:
    """What one contract's ``include`` will take, as if no other contract brought any of it.

    Attributes:
        contract: its name.
        include: what it names.
        blocks: the blocks to fetch, where they are named.
        transactions: likewise.
        receipts: likewise.
        questions: JSON-RPC questions.
        requests: HTTP requests in which these travel.
        waits: nothing can be said before the history of its factory is there.
        calls: the questions, by method.
    """

    contract: str
    include: tuple[str, ...]
    blocks: int = 0
    transactions: int = 0
    receipts: int = 0
    questions: int = 0
    requests: int = 0
    waits: bool = False
    calls: Mapping[str, int] = field(default_factory=dict)


def forecast_include(
    client: ChainClient, including: Sequence[Including], sources: Sequence[Source], children: Children, finalized: int
) -> Iterator[IncludeForecast]:
    """Samples the blocks whose events lack what ``include`` names.

    Args:
        client: the chain's nodes.
        including: the deployments that include anything.
        sources: all active ones of the chain.
        children: known so far.
        finalized: history ends here.

    Yields:
        A forecast for each deployment that lacks anything.

    Raises:
        ProviderError: a sample could not be read.
    """
    for one in including:
        own = [source for source in sources if source.event.contract_id == one.contract_id]
        wanted = own[0].wanted(finalized) if own else ()
        for source in own[1:]:
            wanted = intersect(wanted, source.wanted(finalized))
        if not (lacking := subtract(wanted, one.included)):
            continue
        if not (filters := log_filters(own, children)):
            yield IncludeForecast(one.contract, one.include, waits=True)
            continue
        found = sampling.estimate_details(client, lacking, filters, one.include)
        if not found.questions:
            continue
        # As many questions travel together as a batch takes, and as belong to the blocks of one go.
        goes = -(-max(found.blocks, found.transactions, found.receipts) // MOST_BLOCKS)
        requests = max(goes, -(-found.questions // client.settings.batch_size))
        yield IncludeForecast(
            contract=one.contract,
            include=one.include,
            blocks=found.blocks,
            transactions=found.transactions,
            receipts=found.receipts,
            questions=found.questions,
            requests=requests,
            calls=found.calls,
        )


@dataclass(frozen=True, slots=True)
class SourceGap:
    """What one source lacks.

    Attributes:
        label: ``usdc.Transfer``.
        place: where its logs come from, for people.
        missing: wanted blocks, up to the finalized one, that are neither covered nor resting.
        waits: the history of its factory goes first, so what it will take cannot be said yet.
    """

    label: str
    place: str
    missing: RangeSet
    waits: bool

    @property
    def blocks(self) -> int:
        """How many blocks are missing."""
        return size(self.missing)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Sources that are fetched together, and what that will take.

    Attributes:
        labels: their events.
        ranges: what is fetched.
        estimate: what it takes from the nodes alone.
        by_source: what it takes from each of the sources of history that are not nodes.
    """

    labels: tuple[str, ...]
    ranges: RangeSet
    estimate: Estimate
    by_source: tuple[SourceEstimate, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainKnowledge:
    """What the database knows of one chain.

    Attributes:
        sources: all active ones of the chain.
        children: known so far.
        including: the deployments with ``include``.
        pasts: the snapshots with ``start_block``.
        resting: by source: blocks that nodes did not give lately, and that are not asked for yet.
        unread: the same for people, with the reasons.
        backlogs: what derived tables and programs have left to do.
    """

    sources: Sequence[Source]
    children: Children
    including: Sequence[Including]
    pasts: Sequence[Past]
    resting: Mapping[int, RangeSet]
    unread: Sequence[FailedRange]
    backlogs: Sequence[Backlog]


@dataclass(frozen=True, slots=True)
class Forecast:
    """One chain.

    Attributes:
        chain: its name.
        finalized: history ends here.
        gaps: what sources lack, without what rests.
        fetches: what filling that takes.
        includes: what ``include`` adds.
        pasts: the past of snapshots.
        unread: what nodes did not give lately, and when it is asked for again; not in the numbers.
        backlogs: what derived tables and programs have left to do.
    """

    chain: str
    finalized: int
    gaps: tuple[SourceGap, ...]
    fetches: tuple[Fetch, ...]
    includes: tuple[IncludeForecast, ...]
    pasts: tuple[PastForecast, ...]
    unread: tuple[FailedRange, ...]
    backlogs: tuple[Backlog, ...] = ()

    @property
    def calls(self) -> Mapping[str, int]:
        """JSON-RPC calls that all of it takes from the nodes alone, by method."""
        calls: Counter[str] = Counter()
        for part in (*(fetch.estimate.calls for fetch in self.fetches), *(include.calls for include in self.includes)):
            calls.update(part)
        for past in self.pasts:
            # The calls of a point travel together, between two looks at its header.
            calls.update({"eth_call": past.requests})
        return calls


def load(connection: Connection, manifest: Manifest, chain: Chain, finalized: int, planned: Planned) -> ChainKnowledge:
    """Reads what the forecast of a chain begins with.

    Args:
        connection: to read with.
        manifest: says which snapshots have a past.
        chain: one of its chains.
        finalized: history ends here.
        planned: the chain's part of the catalog, as the manifest would have it.
    """
    children = catalog.load_children(connection, chain.chain_id)
    return ChainKnowledge(
        sources=planned.sources,
        children=children,
        including=planned.including,
        pasts=estimate_snapshots.load(connection, manifest, chain, children, finalized, planned.series),
        resting=failed_ranges.resting(connection, chain.chain_id),
        unread=failed_ranges.load(connection, chain.chain_id, resting=True),
        backlogs=estimate_derived.load(connection, manifest, chain, finalized, planned),
    )


def forecast(
    client: ChainClient,
    chain: str,
    known: ChainKnowledge,
    finalized: int,
    *,
    in_flight: int,
    history: SourcedHistory | None = None,
) -> Forecast:
    """Says what history lacks and what that will take.

    Args:
        client: the chain's nodes; asked for a few small ranges of each gap.
        chain: its name.
        known: what the database knows.
        finalized: history ends here.
        in_flight: requests that will be under way at once.
        history: what is read, where that is not the nodes alone.

    Raises:
        ProviderError: a sample could not be read.
    """
    sources, children = known.sources, known.children
    late = {source.source_id for source in waiting(sources, finalized)}
    missing = tuple(
        SourceGap(source.event.label, _where(source, children), lacks, source.source_id in late)
        for source in sources
        if (lacks := subtract(source.gap(finalized), known.resting.get(source.source_id, EMPTY)))
    )
    fetches: list[Fetch] = []
    for gap in gaps(sources, finalized, resting=known.resting):
        filters = log_filters(gap.sources, children)
        if filters:
            labels = tuple(dict.fromkeys(source.event.label for source in gap.sources))
            cost = sampling.estimate(client, gap.ranges, filters, in_flight=in_flight)
            others, one = [], history
            while one is not None:
                others.append(estimate(one, gap.ranges, filters, in_flight=in_flight))
                one = one.rest
            fetches.append(Fetch(labels, gap.ranges, cost, tuple(others)))
    return Forecast(
        chain=chain,
        finalized=finalized,
        gaps=missing,
        fetches=tuple(fetches),
        includes=tuple(forecast_include(client, known.including, sources, children, finalized)),
        pasts=tuple(estimate_snapshots.forecast(client, one, finalized) for one in known.pasts),
        unread=tuple(known.unread),
        backlogs=tuple(known.backlogs),
    )


def _where(source: Source, children: Children) -> str:
    match source.place.kind:
        case "any":
            return "any address"
        case "factory":
            count = len(children.get(source.event.contract_id, ()))
            return f"{count:,} children so far" if count else "no children known yet"
        case "addresses":
            count = len(source.place.addresses)
            return "1 address" if count == 1 else f"{count:,} addresses"
