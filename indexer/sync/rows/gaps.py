"""From sources to questions: what of history is missing, in which order it may be fetched, and what to ask a node for.

Pure. Sources that can share a question share it: their addresses and their topics are united, and what the union brings
too much is sorted out locally (:mod:`indexer.sync.rows.router`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.addresses import AddressList, Children, DiscoveryBlocks, united
from indexer.chain.records.log_filter import LogFilter, Topics
from indexer.intervals import EMPTY, BlockRange, RangeSet, intersect, shared, size, subtract
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.factory_coverage import announcers, known_until

# For when only headers are wanted: no contract stands at the address of all ones.
NOTHING = LogFilter(addresses=("0x" + "ff" * 20,))


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of blocks that the same sources lack: they are fetched together.

    Attributes:
        ranges: in ascending order.
        sources: each lacks every block of ``ranges``.
    """

    ranges: RangeSet
    sources: tuple[Source, ...]

    @property
    def blocks(self) -> int:
        """How many blocks that is."""
        return size(self.ranges)


def gaps(
    sources: Sequence[Source],
    finalized: int,
    within: BlockRange | None = None,
    resting: Mapping[int, RangeSet] | None = None,
) -> list[Gap]:
    """What history lacks, grouped so that each block is fetched as few times as may be.

    A factory's children are only known where the factory's own events are covered from their start without a break;
    beyond that their gap does not count yet.

    Args:
        sources: the active sources of one chain that may lack something, and all by which children are found.
        finalized: history ends here.
        within: only this range, if given.
        resting: by source: blocks that could not be read lately and are not asked for yet.

    Returns:
        The gaps that can be worked on now, those of address lists before those of factories' children.
    """
    groups: dict[bool, list[tuple[int, RangeSet]]] = {False: [], True: []}
    by_id = {source.source_id: source for source in sources}
    announcing = announcers(sources)
    for source in sources:
        missing = source.gap(min(finalized, known_until(source, announcing)))
        if within is not None:
            missing = intersect(missing, (within,))
        if resting:
            missing = subtract(missing, resting.get(source.source_id, EMPTY))
        if missing:
            groups[source.place.kind == "factory"].append((source.source_id, missing))
    found: list[Gap] = []
    for is_child in (False, True):
        together: dict[tuple[int, ...], list[BlockRange]] = {}
        for block_range, owners in shared(groups[is_child]):
            together.setdefault(owners, []).append(block_range)
        found += [Gap(tuple(ranges), tuple(by_id[owner] for owner in owners)) for owners, ranges in together.items()]
    return found


def waiting(sources: Sequence[Source], finalized: int) -> list[Source]:
    """The sources that lack history which cannot be fetched yet, since their factory's own lacks some."""
    announcing = announcers(sources)
    return [source for source in sources if source.gap(finalized) and known_until(source, announcing) < finalized]


def log_filters(sources: Sequence[Source], children: Children) -> tuple[LogFilter, ...]:
    """The questions that together bring every log of some sources of one chain.

    Args:
        sources: of one chain.
        children: the addresses that factories have announced so far.

    Returns:
        At least one filter for sources that can have logs; none for a factory without children. Equal input gives
        equal filters in equal order.
    """
    listed: dict[Topics, list[AddressList]] = {}
    anywhere = {topics for source in sources if source.place.kind == "any" for topics in _topics(source)}
    # What is asked of any address needs not be asked of some, too.
    everyones = {topics[0][0] for topics in anywhere if len(topics) == 1 and topics[0] is not None}
    shared_topics: set[str] = set()
    shared_addresses: set[str] = set()
    for source in sources:
        addresses = _addresses(source, children)
        if addresses is None or (not source.event.anonymous and _topic0(source) in everyones):
            continue
        plain = not source.place.filters and not source.event.anonymous
        if plain and source.place.kind == "addresses":
            shared_topics.add(_topic0(source))
            shared_addresses |= set(addresses)
            continue
        for topics in _topics(source):
            listed.setdefault(topics, []).append(addresses)
    filters = []
    if shared_addresses:
        filters.append(LogFilter(tuple(sorted(shared_addresses)), (tuple(sorted(shared_topics)),)))
    filters += _united_by_addresses(listed)
    if everyones:
        filters.append(LogFilter(None, (tuple(sorted(everyones)),)))
    filters += [LogFilter(None, topics) for topics in sorted(anywhere, key=repr) if len(topics) != 1 or not topics[0]]
    return tuple(filters)


def _united_by_addresses(listed: Mapping[Topics, Sequence[AddressList]]) -> list[LogFilter]:
    """One filter for all plain topics that are wanted of the same addresses (the events of a factory's children)."""
    together: dict[AddressList, list[str]] = {}
    filters: list[LogFilter] = []
    for topics, given in sorted(listed.items(), key=lambda item: repr(item[0])):
        addresses = united(given)
        if not addresses:
            continue
        if len(topics) == 1 and topics[0] is not None:
            together.setdefault(addresses, []).extend(topics[0])
        else:
            filters.append(LogFilter(addresses, topics))
    plain = [LogFilter(addresses, (tuple(sorted(set(topics))),)) for addresses, topics in together.items()]
    return plain + filters


def _topic0(source: Source) -> str:
    return "0x" + source.event.topic0.hex()


def _addresses(source: Source, children: Children) -> AddressList | None:
    match source.place.kind:
        case "addresses":
            return source.place.addresses
        case "factory":
            born = children.get(source.event.contract_id)
            return born.addresses() if isinstance(born, DiscoveryBlocks) else tuple(sorted(born or ()))
        case "any":
            return None


def _topics(source: Source) -> list[Topics]:
    first: tuple[str, ...] | None = None if source.event.anonymous else (_topic0(source),)
    if not source.place.filters:
        return [(first,) if first else ()]
    return [
        tuple(f.get(i) if i in f else (first if i == 0 else None) for i in range(max(f) + 1))
        for f in source.place.filters
    ]
