"""Filters on the arguments of events: ``arg.<name>`` and its operators, for each type of argument."""

import re
from dataclasses import dataclass
from typing import Any, Final, assert_never

from api.schemas import Schema
from api.values import BOOL, Kind, decimal, hex_bytes, integer, list_of, parse_address, text
from indexer.abi.columns import Column

PREFIX: Final = "arg."
_SQL_OPERATORS: Final = {"ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MEANINGS: Final = {
    "eq": "is this",
    "in": "is one of these (comma list)",
    "ne": "is not this",
    "gt": "is greater",
    "gte": "is this or greater",
    "lt": "is less",
    "lte": "is this or less",
}


#: All filters for the OpenAPI document, where the arguments depend on the event: each member is a parameter of its own.
ANY_FILTERS: Final[Schema] = {
    "name": "filters",
    "in": "query",
    "description": "Conditions on arguments, each a parameter of its own: `arg.<name>`, `arg.<name>.<operator>`. "
    "Which there are for a type is in `x-filters` of its schema, for an event in `/v1/contracts/{contract}/events`.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    "example": {},  # or a page made of the document would invent some
    "style": "form",
    "explode": True,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one argument.

    Attributes:
        name: of the parameter, and of its value in a statement.
        column: the argument.
        operator: ``eq``, ``in``, ``ne``, ``gt``, ``gte``, ``lt`` or ``lte``.
        kind: how the parameter's value is written.
    """

    name: str
    column: Column
    operator: str
    kind: Kind[Any]

    @property
    def description(self) -> str:
        """For the OpenAPI document."""
        return f"{self.column.argument} ({self.column.abi_type}) {_MEANINGS[self.operator]}"

    @property
    def pg_type(self) -> str:
        """The Postgres type of the value, without modifiers."""
        return self.column.pg_type.partition("(")[0]

    def condition(self, placeholder: str, alias: str = "t") -> str:
        """The SQL of the condition, for a placeholder that has its type already."""
        name = f'{alias}."{self.column.name.replace(chr(34), chr(34) * 2)}"'
        if self.operator == "eq":
            return f"{name} = {placeholder}"
        if self.operator == "in":
            return f"{name} = ANY ({placeholder})"
        return f"{name} {_SQL_OPERATORS[self.operator]} {placeholder}"


def filters(columns: tuple[Column, ...]) -> dict[str, Filter]:
    """All filters that an event's arguments allow, by the name of their parameter.

    Arrays and tuples have none. Those of bytes and texts know equality only, those of numbers order too.
    """
    result: dict[str, Filter] = {}
    for column in columns:
        kind = argument_kind(column)
        if kind is None:
            continue
        name = PREFIX + column.argument
        result[name] = Filter(name, column, "eq", kind)
        for operator in _operators(column):
            key = f"{name}.{operator}"
            result[key] = Filter(key, column, operator, list_of(kind) if operator == "in" else kind)
    return result


def _operators(column: Column) -> tuple[str, ...]:
    match column.rendering:
        case "hex":
            return ("in", "ne")
        case "integer" | "string_integer" | "string_decimal":
            return ("in", "ne", "gt", "gte", "lt", "lte")
        case "text":
            return ("ne",)  # a text may hold commas
        case "bool" | "hex[]" | "integer[]" | "string_integer[]" | "string_decimal[]" | "bool[]" | "text[]" | "json":
            return ()
        case never:
            assert_never(never)


def argument_kind(column: Column) -> Kind[Any] | None:  # noqa: PLR0911  # one line a case reads best
    """How a value of an argument is written in a URL, or None where it cannot be filtered."""
    if column.hashed:
        return hex_bytes(32)
    match column.rendering:
        case "integer" | "string_integer":
            return _integer(column.abi_type)
        case "string_decimal":
            return decimal(int(column.abi_type.rpartition("x")[2]))
        case "bool":
            return BOOL
        case "text":
            return text()
        case "hex" if column.abi_type == "address":
            return _ADDRESS
        case "hex":
            size = re.fullmatch(r"bytes([0-9]+)", column.abi_type)
            return hex_bytes(int(size[1]) if size else 24 if column.abi_type == "function" else None)
        case "hex[]" | "integer[]" | "string_integer[]" | "string_decimal[]" | "bool[]" | "text[]" | "json":
            return None
        case never:
            assert_never(never)


_ADDRESS: Final = Kind(parse_address, {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"})


def _integer(abi_type: str) -> Kind[int]:
    match = re.fullmatch(r"(u?)int([0-9]+)", abi_type)
    assert match is not None, abi_type
    bits = int(match[2])
    return integer(0, 2**bits - 1) if match[1] else integer(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
