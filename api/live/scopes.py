"""From what a client asked for to a :class:`~api.live.changes.Scope`: of one event, or of many."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from api import arguments
from api.catalog import Catalog, Chain, Event
from api.live.changes import ALL_BLOCKS, Scope
from api.resources import collection
from api.resources.rows import addresses_rule
from api.sql import events as rows
from api.sql import live as sql

#: Rows of one answer: many clients may hold one each while they catch up.
LIMIT: Final = 200


def event_scope(
    catalog: Catalog,
    event: Event,
    chain: Chain,
    values: Mapping[str, Any],
    *,
    address: bytes | None = None,
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
        window: most blocks to look through at once where no index serves the filters.
        limit: most rows of one answer.
    """
    given = dict(values)
    if address is not None:
        given["address"] = collection.narrowed(given.get("address"), address)
    known = catalog.once(("filters", event.event_id), lambda: arguments.filters(event.columns))
    filters = tuple(known[name][0] for name in given if name in known)
    shape = _shape(
        chain,
        given,
        limit,
        addresses=addresses_rule(event, chain.chain_id, given.get("address")),
        filters=frozenset(f.name for f in filters),
    )
    part = sql.Part(event, shape, filters)
    return _scope(catalog, chain, given, [event], [part], shape, window=window, merged=False)


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
    shape = _shape(chain, values, limit)
    rules = [addresses_rule(event, chain.chain_id, values.get("address")) for event in events]
    parts = [
        sql.Part(event, _shape(chain, values, limit, addresses=rule))
        for event, rule in zip(events, rules, strict=True)
        if rule != "none"
    ]
    return _scope(catalog, chain, values, events, parts, shape, window=window, merged=True)


def _shape(chain: Chain, values: Mapping[str, Any], limit: int, **more: Any) -> rows.Shape:
    return rows.Shape(
        chain_id=chain.chain_id,
        given=frozenset(("address",)) if "address" in values else frozenset(),
        order="asc",
        cursor="after",
        branch=True,
        finality=values.get("finality", "latest"),
        limit=limit,
        fields=values.get("fields", frozenset()),
        **more,
    )


def _scope(
    catalog: Catalog,
    chain: Chain,
    values: Mapping[str, Any],
    events: Sequence[Event],
    parts: Sequence[sql.Part],
    shape: rows.Shape,
    *,
    window: int,
    merged: bool,
) -> Scope:
    ids = [event.event_id for event in events]
    key = ("live", tuple(ids), tuple((part.event.event_id, part.shape) for part in parts), shape, merged)
    statement, gated = catalog.once(key, lambda: (sql.changes(ids, parts, shape, merged=merged), sql.is_gated(parts)))
    return Scope(
        chain_id=chain.chain_id,
        statement=statement,
        values=dict(values),
        events={event.event_id: event for event in events},
        limit=shape.limit,
        merged=merged,
        finality=shape.finality,
        span=window if gated else ALL_BLOCKS,
    )
