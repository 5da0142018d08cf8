"""Rows of snapshot series."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from api.catalog import Series
from api.sql import json_text, scope
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


def page(series: Series, shape: Shape) -> Statement:
    """One page: state, rows, branches; as :func:`api.sql.events.page`."""
    bind = Binder()
    points = f"FROM gapless.series_points p WHERE p.series_id = {series.series_id} AND p.chain_id = {shape.chain_id}"
    newest = f"(SELECT max(p.block_number) {points})"
    parts = scope.ctes(
        shape.chain_id, [], bind, given=shape.given - {"address"}, finality=shape.finality, newest=newest
    )
    where = [f"t.chain_id = {shape.chain_id}"]
    if shape.latest:
        where.append(
            f"t.block_number = (SELECT max(p.block_number) {points} AND p.block_number <= (SELECT last FROM scope))"
        )
    else:
        where.append(scope.between(bind, cursor=shape.cursor is not None, forward=shape.forward))
    if "address" in shape.given:
        where.append(f"t.contract_address = ANY ({bind('address', 'bytea[]')})")
    if shape.cursor:
        sign = ">" if shape.forward else "<"
        after = f"{bind('cursor_block', 'bigint')}, {bind('cursor_address', 'bytea')}, {bind('cursor_item', 'integer')}"
        where.append(f"(t.block_number, t.contract_address, t.item) {sign} ({after})")
    direction = "ASC" if shape.forward else "DESC"
    parts.append(f"""page AS MATERIALIZED (
    SELECT t.block_number, t.contract_address, t.item,
           {_POSITION} || {literal(chr(9))} || {row_text(series, shape.fields)} AS row
    FROM (SELECT t.* FROM {identifier(series.schema_name, series.table_name)} t WHERE {" AND ".join(where)}
          ORDER BY t.block_number {direction}, t.contract_address {direction}, t.item {direction}
          LIMIT {shape.limit + 1}) t)""")
    checks = [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []
    version = f"(SELECT version FROM gapless.series WHERE id = {series.series_id})"
    order = f"ORDER BY block_number {shape.order}, contract_address {shape.order}, item {shape.order}"
    text = f"""WITH {", ".join(parts)}
SELECT {scope.state((version, "0"), checks)},
    (SELECT string_agg(row, {literal(chr(10))} {order}) FROM page),
    {scope.branches(shape.chain_id, "page")}"""
    return Statement.of(text, bind)
