"""From what a client asked for to a :class:`~api.live.changes.Scope`: of one event, or of many."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from api.catalog import Catalog, Chain, Event
from api.live.changes import ALL_BLOCKS, Scope
from api.resources import common_parameters as common
from api.sql import live as sql
from api.sql.events import EventSource, event_source
from api.sql.feed import FeedSource
from api.sql.query_shape import QueryShape

#: Rows of one answer: many clients may hold one each while they catch up.
LIMIT: Final = 200


def event_scope(
    catalog: Catalog,
    event: Event,
    chain: Chain,
    values: Mapping[str, Any],
    *,
    address: bytes | None = None,
    named: bool = False,
    window: int,
    limit: int = LIMIT,
) -> Scope:
    """The rows of one event.

    Args:
        catalog: what is indexed.
        event: the event.
        chain: the chain.
        values: parameters as they were read: ``address``, ``arg.*``, ``finality`` and ``fields``, where given.
        address: the address that the path names, if it names one.
        named: whether rows name their contract and event.
        window: most blocks to look through at once where no index serves the filters.
        limit: most rows of one answer.
    """
    given = dict(values)
    if address is not None:
        given["address"] = common.narrowed(given.get("address"), address)
    part = event_source(catalog, event, chain.chain_id, given, named=named)
    return _scope(catalog, chain, given, [part], window=window, limit=limit, merged=False)


def feed_scope(
    catalog: Catalog,
    events: Sequence[Event],
    chain: Chain,
    values: Mapping[str, Any],
    *,
    window: int,
    limit: int = LIMIT,
) -> Scope:
    """The rows of many events in the chain's order; arguments as in :func:`event_scope`."""
    parts = [event_source(catalog, event, chain.chain_id, values, named=True) for event in events]
    return merged_scope(catalog, parts, chain, values, window=window, limit=limit)


def merged_scope(
    catalog: Catalog,
    parts: Sequence[EventSource],
    chain: Chain,
    values: Mapping[str, Any],
    *,
    window: int,
    limit: int = LIMIT,
) -> Scope:
    """The rows of many sources in the chain's order; further arguments as in :func:`event_scope`."""
    return _scope(catalog, chain, values, parts, window=window, limit=limit, merged=True)


def _scope(
    catalog: Catalog,
    chain: Chain,
    values: Mapping[str, Any],
    parts: Sequence[EventSource],
    *,
    window: int,
    limit: int,
    merged: bool,
) -> Scope:
    source = FeedSource(parts)
    shape = QueryShape(
        chain_id=chain.chain_id,
        given=frozenset(name for name in values if name == "address"),
        order="asc",
        cursor="after",
        branch=True,
        finality=values.get("finality", "latest"),
        fields=values.get("fields", frozenset()),
    )
    statement, gated = catalog.for_shape(
        ("live", source.key, shape), lambda: (sql.changes(source, shape), source.is_gated(shape))
    )
    return Scope(
        chain_id=chain.chain_id,
        statement=statement,
        values=dict(values),
        events={part.event.event_id: part.event for part in parts},
        limit=limit,
        merged=merged,
        finality=shape.finality,
        span=window if gated else ALL_BLOCKS,
    )
