"""Rows of snapshot series."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from api.catalog import Series
from api.sql import counting, included, json_text, scope
from api.sql.counting import Counting
from api.sql.exports import csv_value
from api.sql.statement import Binder, Statement, identifier, literal

FIELDS: Final = (
    "id",
    "block_number",
    "block_time",
    "address",
    "item",
    "finality",
    "arguments",
    "values",
    "failures",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a request that decides the text of its statement.

    Attributes:
        chain_id: the chain.
        given: names of the bounds and of ``address``, where the request has them.
        order: of the answer.
        cursor: the cursor that the request has, if any.
        branch: whether that cursor carries a branch.
        finality: which blocks count.
        limit: rows of a page.
        fields: members of a row; empty for all.
        latest: only the newest point.
        tokens: whether what tokens say of themselves is asked for.
        count: whether the rows are to be counted.
    """

    chain_id: int
    given: frozenset[str] = frozenset()
    order: Literal["asc", "desc"] = "desc"
    cursor: Literal["after", "before"] | None = None
    branch: bool = False
    finality: str = "latest"
    limit: int = 100
    fields: frozenset[str] = frozenset()
    latest: bool = False
    tokens: bool = False
    count: Counting = "none"

    @property
    def forward(self) -> bool:
        """Whether rows are read towards newer blocks."""
        return (self.order == "asc") == (self.cursor != "before")


def row_text(series: Series, fields: frozenset[str]) -> str:
    """The expression for one row's JSON."""
    values = [(c.argument, json_text.value_text(c)) for c in series.columns]
    members: Mapping[str, str] = {
        "id": json_text.quoted(_POSITION),
        "block_number": "t.block_number::text",
        "block_time": json_text.time_text("t.block_time"),
        "address": json_text.hex_text("t.contract_address"),
        "item": "t.item::text",
        "finality": json_text.quoted(json_text.FINALITY),
        "arguments": "coalesce(t.arguments::text, 'null')",
        "values": json_text.object_text(values),
        "failures": "coalesce(t.failures::text, 'null')",
    }
    return json_text.object_text([(k, text) for k, text in members.items() if not fields or k in fields])


_POSITION: Final = "t.block_number || '-0x' || encode(t.contract_address, 'hex') || '-' || t.item"


def _parts(series: Series, shape: Shape, bind: Binder) -> list[str]:
    """The common table expressions of a request."""
    newest = f"(SELECT max(p.block_number) {_points(series, shape)})"
    return scope.ctes(shape.chain_id, [], bind, given=shape.given - {"address"}, finality=shape.finality, newest=newest)


def _points(series: Series, shape: Shape) -> str:
    return f"FROM gapless.series_points p WHERE p.series_id = {series.series_id} AND p.chain_id = {shape.chain_id}"


def _newest(series: Series, shape: Shape, bind: Binder) -> str:
    """The block of the newest point. A page that follows another stays with the point of that one.

    Else a point that came between two pages would be sent from its beginning, or where the order is turned round not
    at all, as if nothing were left.
    """
    last = "(SELECT last FROM scope)"
    if shape.cursor:
        last = f"least({last}, {bind('cursor_block', 'bigint')})"
    return f"(SELECT max(p.block_number) {_points(series, shape)} AND p.block_number <= {last})"


def _all(series: Series, shape: Shape, bind: Binder, most: int | None) -> str:
    """The query of all rows of a request, wherever a page of it stands."""
    return _found(series, shape, bind, limit=most, whole=True)


def _found(series: Series, shape: Shape, bind: Binder, *, limit: int | None, whole: bool = False) -> str:
    """The query of the rows, in the order of reading; with ``whole`` those before the cursor too."""
    where = [f"t.chain_id = {shape.chain_id}"]
    cursor = shape.cursor is not None and not whole
    if shape.latest:
        where.append(f"t.block_number = {_newest(series, shape, bind)}")
    else:
        where.append(scope.between(bind, cursor=cursor, forward=shape.forward))
    if "address" in shape.given:
        where.append(f"t.contract_address = ANY ({bind('address', 'bytea[]')})")
    if cursor:
        sign = ">" if shape.forward else "<"
        after = f"{bind('cursor_block', 'bigint')}, {bind('cursor_address', 'bytea')}, {bind('cursor_item', 'integer')}"
        where.append(f"(t.block_number, t.contract_address, t.item) {sign} ({after})")
    cut = f" LIMIT {limit}" if limit else ""
    table = identifier(series.schema_name, series.table_name)
    return f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)} {_order('ASC' if shape.forward else 'DESC')}{cut}"


def _order(direction: str) -> str:
    return f"ORDER BY t.block_number {direction}, t.contract_address {direction}, t.item {direction}"


def _state(series: Series, shape: Shape, bind: Binder) -> str:
    checks = [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []
    return scope.state((f"(SELECT version FROM gapless.series WHERE id = {series.series_id})", "0"), checks)


def page(series: Series, shape: Shape) -> Statement:
    """One page: state, rows, branches, tokens, count; as :func:`api.sql.events.page`."""
    bind = Binder()
    parts = _parts(series, shape, bind)
    parts.append(f"""page AS MATERIALIZED (
    SELECT t.block_number, t.contract_address, t.item,
           {_POSITION} || {literal(chr(9))} || {row_text(series, shape.fields)} AS row
    FROM ({_found(series, shape, bind, limit=shape.limit + 1)}) t)""")
    direction = "ASC" if shape.forward else "DESC"
    sent = f"SELECT t.contract_address FROM page t {_order(direction)} LIMIT {shape.limit}"
    text = f"""WITH {", ".join(parts)}
SELECT {_state(series, shape, bind)},
    (SELECT string_agg(row, {literal(chr(10))} {_order(shape.order)}) FROM page t),
    {scope.branches(shape.chain_id, "page")},
    {included.tokens(sent) if shape.tokens else "NULL"},
    {counting.counted(shape.count, lambda most: [_all(series, shape, bind, most)])}"""
    return Statement.of(text, bind)


def estimate(series: Series, shape: Shape) -> Statement:
    """What the planner believes how many rows a request has."""
    bind = Binder()
    parts = _parts(series, shape, bind)
    return counting.estimate(parts, [_all(series, shape, bind, None)], bind)


def state_only(series: Series, shape: Shape) -> Statement:
    """The state of a request without its rows."""
    bind = Binder()
    return Statement.of(f"WITH {', '.join(_parts(series, shape, bind))} SELECT {_state(series, shape, bind)}", bind)


def export(series: Series, shape: Shape, bind: Binder, *, limit: int | None, as_csv: bool) -> str:
    """All rows of a request: CSV's columns, or one of JSON."""
    parts = _parts(series, shape, bind)
    shown = ", ".join(csv_columns(series, shape.fields).values()) if as_csv else row_text(series, shape.fields)
    found = _found(series, shape, bind, limit=limit)
    order = _order("ASC" if shape.forward else "DESC")
    return f"WITH {', '.join(parts)} SELECT {shown} FROM ({found}) t {order}"


def csv_columns(series: Series, fields: frozenset[str]) -> dict[str, str]:
    """The columns of a CSV: names, and expressions. Values are ``values.<name>``."""
    columns = {
        "id": _POSITION,
        "block_number": "t.block_number",
        "block_time": json_text.time("t.block_time"),
        "address": json_text.hexadecimal("t.contract_address"),
        "item": "t.item",
        "finality": json_text.FINALITY,
        "arguments": "t.arguments::text",
    }
    shown = {name: text for name, text in columns.items() if not fields or name in fields}
    if not fields or "values" in fields:
        shown |= {f"values.{column.argument}": csv_value(column) for column in series.columns}
    if not fields or "failures" in fields:
        shown["failures"] = "t.failures::text"
    return shown
