"""What to ask a node for, so that sources get all their logs in few requests.

Sources that can share a question share it: their addresses and their topics are united, and what the union brings too
much is sorted out locally (``sync.rows``).
"""

from collections.abc import Iterable, Mapping, Sequence

from indexer.chain.filters import LogFilter
from indexer.store.catalog import Source
from indexer.sync.rows import Children

# For when only headers are wanted: no contract stands at the address of all ones.
NOTHING = LogFilter(addresses=("0x" + "ff" * 20,))

Topics = tuple[tuple[str, ...] | None, ...]


def log_filters(sources: Sequence[Source], children: Children) -> tuple[LogFilter, ...]:
    """The questions that together bring every log of some sources of one chain.

    Args:
        sources: of one chain.
        children: the addresses that factories have announced so far.

    Returns:
        At least one filter for sources that can have logs; none for a factory without children. Equal input gives
        equal filters in equal order.
    """
    listed: dict[Topics, set[str]] = {}
    anywhere: set[Topics] = set()
    shared_topics: set[str] = set()
    shared_addresses: set[str] = set()
    for source in sources:
        addresses = _addresses(source, children)
        plain = not source.place.filters and not source.event.anonymous
        if plain and source.place.kind == "addresses":
            shared_topics.add(_topic0(source))
            shared_addresses |= set(addresses or ())
            continue
        for topics in _topics(source):
            if addresses is None:
                anywhere.add(topics)
            else:
                listed.setdefault(topics, set()).update(addresses)
    filters = []
    if shared_addresses:
        filters.append(LogFilter(tuple(sorted(shared_addresses)), (tuple(sorted(shared_topics)),)))
    filters += _united_by_addresses(listed)
    if plain_anywhere := {topics[0] for topics in anywhere if len(topics) == 1 and topics[0] is not None}:
        filters.append(LogFilter(None, (tuple(sorted(t for group in plain_anywhere for t in group)),)))
    filters += [LogFilter(None, topics) for topics in sorted(anywhere, key=repr) if len(topics) != 1 or not topics[0]]
    return tuple(filters)


def _united_by_addresses(listed: Mapping[Topics, Iterable[str]]) -> list[LogFilter]:
    """One filter for all plain topics that are wanted of the same addresses (the events of a factory's children)."""
    together: dict[tuple[str, ...], list[str]] = {}
    filters: list[LogFilter] = []
    for topics, given in sorted(listed.items(), key=lambda item: repr(item[0])):
        addresses = tuple(sorted(given))
        if not addresses:
            continue
        if len(topics) == 1 and topics[0] is not None:
            together.setdefault(addresses, []).extend(topics[0])
        else:
            filters.append(LogFilter(addresses, topics))
    united = [LogFilter(addresses, (tuple(sorted(set(topics))),)) for addresses, topics in together.items()]
    return united + filters


def _topic0(source: Source) -> str:
    return "0x" + source.event.topic0.hex()


def _addresses(source: Source, children: Children) -> tuple[str, ...] | None:
    match source.place.kind:
        case "addresses":
            return source.place.addresses
        case "factory":
            return tuple(children.get(source.event.contract_id, ()))
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
