"""The merged feed: rows of many events of a chain, in the chain's order.

One log can be in two tables (two contracts may share an address), so a position here has an item beside block and log:
the event's id. A page is made in two steps: positions from all tables first, then the JSON of those that are sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from api.catalog import Event
from api.sql import counting, scope
from api.sql import events as rows
from api.sql.statement import Binder, Statement, identifier

FIELDS: Final = ("id", "contract", "event", *(field for field in rows.FIELDS if field != "id"))
DEFAULT_FIELDS: Final = frozenset(field for field in FIELDS if field != "tx_index")


@dataclass(frozen=True, slots=True)
class Branch:
    """One event of the feed, and the shape of the request as it concerns that event."""

    event: Event
    shape: rows.Shape


def branches(events: Sequence[Event], shape: rows.Shape, addresses: Sequence[str]) -> list[Branch]:
    """The events that can have rows.

    Args:
        events: those that the request is about.
        shape: of the request.
        addresses: for each of them, which rows the filter on addresses leaves.
    """
    return [
        Branch(event, replace(shape, addresses=rule))  # type: ignore[arg-type]
        for event, rule in zip(events, addresses, strict=True)
        if rule != "none"
    ]


def page(event_ids: Sequence[int], feed: Sequence[Branch], shape: rows.Shape, window: int) -> Statement:
    """One page: state, rows, branches, tokens, count, transactions; as :func:`api.sql.events.page`."""
    bind = Binder()
    parts = _ctes(event_ids, shape, bind)
    limit = shape.limit + 1
    direction = "ASC" if shape.forward else "DESC"
    keys = "block_number, log_index, item, contract_address, tx_hash"
    each = [f"(SELECT {keys} FROM ({_found(branch, bind, window, limit=limit)}) t)" for branch in feed]
    texts = [
        f"WHEN {b.event.event_id} THEN (SELECT {rows.row_text(b.event, shape.fields or DEFAULT_FIELDS)} "
        f"FROM {identifier(b.event.schema_name, b.event.table_name)} t WHERE t.chain_id = {shape.chain_id} "
        "AND t.block_number = k.block_number AND t.log_index = k.log_index)"
        for b in feed
    ]
    text_of = f"CASE k.item {' '.join(texts)} END" if texts else "NULL"
    parts.append(f"""page AS MATERIALIZED (
    SELECT k.block_number, k.log_index, k.item, k.contract_address, k.tx_hash,
           k.block_number || '-' || k.log_index || '-' || k.item || chr(9) || {text_of} AS row
    FROM (SELECT {keys} FROM ({" UNION ALL ".join(each) or _NO_KEYS}) u
          ORDER BY block_number {direction}, log_index {direction}, item {direction} LIMIT {limit}) k)""")
    checks = [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []
    order = f"ORDER BY block_number {shape.order}, log_index {shape.order}, item {shape.order}"
    text = f"""WITH {", ".join(parts)}
SELECT {scope.state(scope.event_versions(event_ids), checks)},
    (SELECT string_agg(row, chr(10) {order}) FROM page),
    {scope.branches(shape.chain_id, "page")},
    {rows.tokens_of_page(shape)},
    {_counted(feed, shape, bind, window)},
    {rows.transactions_of_page(shape)}"""
    return Statement.of(text, bind)


_NO_KEYS: Final = (
    "SELECT NULL::bigint AS block_number, NULL::bigint AS log_index, NULL::integer AS item, "
    "NULL::bytea AS contract_address, NULL::bytea AS tx_hash WHERE false"
)


def _ctes(event_ids: Sequence[int], shape: rows.Shape, bind: Binder) -> list[str]:
    return scope.ctes(shape.chain_id, event_ids, bind, given=shape.given, finality=shape.finality, together=True)


def _found(branch: Branch, bind: Binder, window: int, *, limit: int | None, ordered: bool = True) -> str:
    how = rows.plan(branch.event, branch.shape, (), bind)
    found = rows.found(
        branch.event, branch.shape, how, bind, window, limit=limit, ordered=ordered, item=branch.event.event_id
    )
    return f"SELECT t.*, {branch.event.event_id} AS item FROM ({found}) t"


def _counted(feed: Sequence[Branch], shape: rows.Shape, bind: Binder, window: int) -> str:
    return counting.counted(
        shape.count, lambda most: [_found(_uncut(b), bind, window, limit=most, ordered=False) for b in feed]
    )


def _uncut(branch: Branch) -> Branch:
    return replace(branch, shape=replace(branch.shape, cursor=None, branch=False))


def state_only(event_ids: Sequence[int], shape: rows.Shape) -> Statement:
    """The state of a request without its rows."""
    bind = Binder()
    parts = _ctes(event_ids, shape, bind)
    checks = [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []
    return Statement.of(f"WITH {', '.join(parts)} SELECT {scope.state(scope.event_versions(event_ids), checks)}", bind)


def estimate(event_ids: Sequence[int], feed: Sequence[Branch], shape: rows.Shape) -> Statement:
    """What the planner believes how many rows a request has."""
    bind = Binder()
    parts = _ctes(event_ids, shape, bind)
    each = [_found(_uncut(b), bind, 2**62, limit=None, ordered=False) for b in feed]
    return counting.estimate(parts, each, bind)


def is_gated(feed: Sequence[Branch]) -> bool:
    """Whether no index serves the conditions of a request in one of the tables."""
    return any(rows.is_gated(branch.event, branch.shape, ()) for branch in feed)


def export(
    event_ids: Sequence[int], feed: Sequence[Branch], shape: rows.Shape, bind: Binder, *, limit: int | None
) -> str:
    """All rows of a request, one JSON text each. The window must have been checked before."""
    parts = _ctes(event_ids, shape, bind)
    direction = "ASC" if shape.forward else "DESC"
    each = [
        f"(SELECT t.block_number, t.log_index, t.item, {rows.row_text(b.event, shape.fields or DEFAULT_FIELDS)} AS row "
        f"FROM ({_found(b, bind, 2**62, limit=limit)}) t)"
        for b in feed
    ]
    everything = (
        " UNION ALL ".join(each) or "SELECT 0 AS block_number, 0 AS log_index, 0 AS item, '' AS row WHERE false"
    )
    order = f"ORDER BY block_number {direction}, log_index {direction}, item {direction}"
    cut = f" LIMIT {limit}" if limit else ""
    return f"WITH {', '.join(parts)} SELECT row FROM ({everything}) u {order}{cut}"
