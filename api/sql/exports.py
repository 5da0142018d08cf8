"""Queries of exports: as those of pages, but all rows, and values as literals, because COPY takes no parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from api.arguments import Filter
from api.catalog import Event
from api.sql import events, json_text, scope
from api.sql.statement import Binder, identifier, sent
from indexer.abi.columns import Column


class Inline(Binder):
    """Puts values into a statement where a :class:`Binder` puts their numbers.

    Args:
        values: by name.
        literal: how the driver writes a value.
    """

    def __init__(self, values: Mapping[str, Any], literal: Callable[[object], str]) -> None:
        super().__init__()
        self._values = values
        self._literal = literal

    def __call__(self, name: str, pg_type: str) -> str:
        """The value with its type."""
        return f"{self._literal(sent(self._values[name]))}::{pg_type}"


def event_rows(
    event: Event, shape: events.Shape, filters: Sequence[Filter], bind: Binder, *, limit: int | None, as_csv: bool
) -> str:
    """All rows of a request: CSV's columns, or one of JSON.

    The window of a filter without an index must have been checked before.
    """
    how = events.plan(event, shape, filters, bind)
    parts = scope.ctes(shape.chain_id, [event.event_id], bind, given=shape.given, finality=shape.finality)
    rows = events.found(event, shape, how, bind, 2**62, limit=limit)
    shown = ", ".join(csv_columns(event, shape.fields).values()) if as_csv else events.row_text(event, shape.fields)
    direction = "ASC" if shape.forward else "DESC"
    order = f"ORDER BY t.block_number {direction}, t.log_index {direction}"
    return f"WITH {', '.join(parts)} SELECT {shown} FROM ({rows}) t {order}"


def csv_columns(event: Event, fields: frozenset[str]) -> dict[str, str]:
    """The columns of a CSV: names, and expressions. Arguments are ``args.<name>``."""
    wanted = fields or frozenset(events.DEFAULT_FIELDS)
    columns = {
        "id": "t.block_number || '-' || t.log_index",
        "block_number": "t.block_number",
        "block_time": json_text.time("t.block_time"),
        "tx_hash": json_text.hexadecimal("t.tx_hash"),
        "tx_index": "t.tx_index",
        "log_index": "t.log_index",
        "address": json_text.hexadecimal("t.contract_address"),
        "finality": json_text.FINALITY,
    }
    shown = {name: expression for name, expression in columns.items() if name in wanted}
    for column in event.columns:
        if "args" in wanted or f"args.{column.argument}" in wanted:
            shown[f"args.{column.argument}"] = csv_value(column)
    return shown


def csv_value(column: Column) -> str:
    """The expression for an argument or output in a CSV."""
    name = f"t.{identifier(column.name)}"
    match column.json:
        case "hex":
            return json_text.hexadecimal(name)
        case "bool":
            return f"{name}::text"
        case "integer" | "string_integer" | "string_decimal" | "text":
            return name
        case _:
            return json_text.value_text(column)
