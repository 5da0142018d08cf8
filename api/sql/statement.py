"""Statements: a text that depends on a request's shape only, and the names of the values that go with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
        return [sent(by_name[name]) for name in self.names]


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
