"""Query parameters: one list a resource drives reading, checking and the OpenAPI document.

A parameter that is unknown, or given twice, is refused: a typo in a filter must not answer unfiltered data.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from api.errors import ApiError, Problem
from api.values import BadValueError, Kind

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter.

    Attributes:
        name: in the URL.
        kind: how its value is read, and its schema.
        description: for the OpenAPI document.
        default: the value, already read, where the parameter is left out.
        required: whether leaving it out is an error.
    """

    name: str
    kind: Kind[Any]
    description: str
    default: Any = None
    required: bool = False

    def openapi(self) -> dict[str, Any]:
        """The parameter object of the OpenAPI document."""
        schema = dict(self.kind.schema)
        if self.default is not None and isinstance(self.default, int | str):
            schema["default"] = self.default
        document: dict[str, Any] = {
            "name": self.name,
            "in": "query",
            "description": self.description,
            "schema": schema,
        }
        if self.required:
            document["required"] = True
        if schema.get("type") == "array":
            document |= {"style": "form", "explode": False}
        return document


class Params:
    """The parameters of one resource."""

    def __init__(self, params: Iterable[Param]) -> None:
        self.all: tuple[Param, ...] = tuple(params)
        self._by_name: Mapping[str, Param] = {param.name: param for param in self.all}

    def read(self, query_string: str) -> dict[str, Any]:
        """Read a query string.

        Returns:
            Only the parameters that were given or have a default, by name.

        Raises:
            ApiError: one that lists everything that is wrong.
        """
        values: dict[str, Any] = {p.name: p.default for p in self.all if p.default is not None}
        problems: list[Problem] = []
        seen: set[str] = set()
        for name, text in _pairs(query_string, problems):
            param = self._by_name.get(name)
            if param is None:
                problems.append(Problem(name, self._unknown(name), "UNKNOWN_PARAMETER"))
            elif name in seen:
                problems.append(Problem(name, "is given twice", "UNKNOWN_PARAMETER"))
            else:
                seen.add(name)
                try:
                    values[name] = param.kind.parse(text)
                except BadValueError as error:
                    problems.append(Problem(name, str(error), error.code))
        problems += [Problem(p.name, "is required") for p in self.all if p.required and p.name not in seen]
        if problems:
            raise ApiError.invalid(problems)
        return values

    def _unknown(self, name: str) -> str:
        if not self._by_name:
            return "is not a parameter here: this path takes none"
        close = get_close_matches(name, self._by_name, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(self._by_name)}"
        return f"is not a parameter here; {hint}"


def _pairs(query_string: str, problems: list[Problem]) -> list[tuple[str, str]]:
    pairs = []
    for part in query_string.split("&") if query_string else ():
        name, _, value = part.partition("=")
        try:
            pairs.append((_decode(name), _decode(value)))
        except ValueError:
            problems.append(Problem(name, "is not percent-encoded UTF-8"))
    return pairs


def _decode(text: str) -> str:
    if "%" not in text and "+" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise ValueError("a percent sign that begins no escape")
    # WSGI hands over bytes dressed as latin-1.
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
