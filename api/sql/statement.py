"""Statements: a text that depends on a request's shape only, and the names of the values that go with it.

Among them are expressions that yield JSON texts. ``format()`` over a template is the fastest of the ways that were
measured (100,000 transfers: format 255 ms, row_to_json 273, concatenation 318, json_build_object 340) and knows no
limit on the length of a key, which a column alias does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, assert_never

import orjson

from indexer.abi.columns import Column, Rendering

#: Postgres functions take 100 arguments at most.
_PIECES: Final = 90

FINALITY: Final = (
    "CASE WHEN t.block_number <= (SELECT finalized_number FROM chain) THEN 'finalized' "
    "WHEN t.block_number <= (SELECT safe_number FROM chain) THEN 'safe' ELSE 'latest' END"
)


class Binder:
    """Numbers the values of one statement while its text is written."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, pg_type: str) -> str:
        """The placeholder of a value, such as ``$3::bigint``; the same for the same name."""
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}::{pg_type}"


class Inline(Binder):
    """Puts values into a statement where a :class:`Binder` puts their numbers: COPY takes no parameters.

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


@dataclass(frozen=True, slots=True)
class Statement:
    """A text and the names of its values, in the order of their numbers."""

    text: bytes
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str, bind: Binder) -> "Statement":
        """The statement that was written with this binder."""
        return cls(text.encode(), tuple(bind.names))

    def values(self, by_name: Mapping[str, Any]) -> list[object]:
        """The values for one request, as the driver wants them.

        Numbers and times go as text, which Postgres reads as the type that the placeholder names: so a statement is
        prepared once, whatever the size of its numbers.
        """
        values = [by_name[name] for name in self.names]
        # Nearly all are numbers, which need no long look.
        return [str(value) if value.__class__ is int else sent(value) for value in values]


def sent(value: object) -> object:
    """A value as the driver is given it: text, bytes, or a list of them."""
    match value:
        case bytes() | str() | None:
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
        case list() | tuple():
            return [sent(item) for item in value]
        case _:
            return str(value)


def identifier(*parts: str) -> str:
    """A quoted, possibly qualified name."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str) -> str:
    """A quoted string, for texts that are part of the statement itself; needs standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"


def integers(values: Sequence[int]) -> str:
    """A list for ``IN``; an empty one matches nothing."""
    return f"({', '.join(map(str, values))})" if values else "(NULL)"


def object_text(members: Sequence[tuple[str, str]]) -> str:
    """An expression for the text of a JSON object.

    Args:
        members: keys, and expressions that yield JSON texts and never null.
    """
    parts = []
    for start in range(0, len(members), _PIECES):
        chunk = members[start : start + _PIECES]
        template = ("," if start else "{") + ",".join(f"{_key(key)}:%s" for key, _ in chunk)
        if start + _PIECES >= len(members):
            template += "}"
        parts.append(f"format({literal(template)}, {', '.join(expression for _, expression in chunk)})")
    return " || ".join(parts) if parts else "'{}'"


def _key(key: str) -> str:
    return orjson.dumps(key).decode().replace("%", "%%")


def quoted(expression: str) -> str:
    """The JSON text of an expression whose text needs no escaping: digits, hex, times."""
    return f"""'"' || {expression} || '"'"""


def hexadecimal(expression: str) -> str:
    """Bytes as ``0x...``."""
    return f"'0x' || encode({expression}, 'hex')"


def time(expression: str) -> str:
    """A time as ``2023-04-02T09:19:24Z``, in a session whose time zone is UTC."""
    return f"""to_char({expression}, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""


def hex_text(expression: str) -> str:
    """The JSON text of bytes: ``"0x..."``."""
    return quoted(hexadecimal(expression))


def value_text(column: Column, alias: str = "t") -> str:
    """The JSON text of an argument or output; the text ``null`` where it is null."""
    name = f"{alias}.{identifier(column.name)}"
    return f"coalesce({_value(column.rendering, name)}, 'null')"


def _value(rendering: Rendering, name: str) -> str:
    match rendering:
        case "hex":
            return hex_text(name)
        case "integer" | "bool" | "json":
            return f"{name}::text"
        case "string_integer" | "string_decimal":
            return quoted(f"{name}::text")
        case "hex[]":
            # to_json writes each of them as "\\x0a1b", and nothing else in it can look so.
            return rf"replace(to_json({name})::text, '\\x', '0x')"
        case "string_integer[]" | "string_decimal[]":
            return f"to_json({name}::text[])::text"
        case "text" | "integer[]" | "bool[]" | "text[]":
            return f"to_json({name})::text"
        case never:
            assert_never(never)
