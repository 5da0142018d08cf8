"""What to ask a node for, so that sources get all their logs in few requests.

Sources that can share a question share it: their addresses and their topics are united, and what the union brings too
much is sorted out locally (``sync.rows``).
"""

from collections.abc import Mapping, Sequence

from indexer.addresses import AddressList, Children, DiscoveryBlocks, united
from indexer.chain.records.log_filter import LogFilter, Topics
from indexer.store.catalog.catalog import Source

# For when only headers are wanted: no contract stands at the address of all ones.
NOTHING = LogFilter(addresses=("0x" + "ff" * 20,))


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
