"""The types of rows, from the API's OpenAPI document.

Integers of more than 48 bits are strings of digits on the wire. The document says where; here they become ``int``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Schema = Mapping[str, Any]
Decode = Callable[[Any], Any]

DIGITS: Final = "^(0|-?[1-9][0-9]*)$"
FIXED: Final = r"^-?[0-9]+(\.[0-9]+)?$"
_NULL: Final[Schema] = {"type": "null"}


@dataclass(frozen=True)
class Page:
    """One page of rows.

    Attributes:
        rows: as the API sends them, with every integer an ``int``.
        next: pass it as ``after``; None on the last page.
        prev: pass it as ``before``.
        last: pass it as ``after`` for what may follow later.
        count: all rows of the request, with ``count="exact"`` or ``"estimated"``.
        count_is: ``exact`` or ``estimated``.
        meta: how fresh and how complete the answer is.
        tokens: by address, with ``include=["token"]``.
        transactions: by hash, with ``include=["tx"]``; None where there is none (yet).
        schema: of a row.
    """

    rows: list[dict[str, Any]]
    next: str | None
    prev: str | None
    last: str | None
    count: int | None
    count_is: str | None
    meta: dict[str, Any]
    tokens: dict[str, Any]
    transactions: dict[str, Any]
    schema: "RowSchema" = field(repr=False)

    def to_arrow(self, *, binary: bool = False) -> "pa.Table":
        """The rows as an Arrow table, see :func:`gapless_client.tables.arrow_table`."""
        from gapless_client import tables

        return tables.arrow_table([self.rows], self.schema, binary=binary)

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a data frame, see :func:`gapless_client.tables.data_frame`."""
        from gapless_client import tables

        return tables.data_frame([self.rows], self.schema)


class RowSchema:
    """The type of a row.

    Args:
        members: the schemas of its members, with no references in them.
        fields: those that are asked for; empty for the usual ones.
    """

    def __init__(self, members: Mapping[str, Schema], fields: frozenset[str] = frozenset()) -> None:
        self.members = members
        self.fields = fields

    def columns(self) -> dict[tuple[str, ...], Schema]:
        """The columns of a table: the members, and instead of an object its own members (``args``, ``value``)."""
        found: dict[tuple[str, ...], Schema] = {}
        for name, schema in self.members.items():
            if not (name in self.fields if self.fields else schema.get("x-usual", True)):
                chosen = [part for part in schema.get("properties", ()) if f"{name}.{part}" in self.fields]
                found |= {(name, part): schema["properties"][part] for part in chosen}
            elif "properties" in schema:
                found |= {(name, part): each for part, each in schema["properties"].items()}
            else:
                found[(name,)] = schema
        return found


class Document:
    """The OpenAPI document.

    Args:
        body: the document.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._kinds: Mapping[str, Any] = body.get("x-gapless", {})

    def of_event(self, contract: str, event: str) -> Schema | None:
        """The schema of an event's rows; an overloaded event is known by its full name only."""
        return self._of("events", contract, event)

    def of_series(self, contract: str, series: str) -> Schema | None:
        """The schema of the points of a series."""
        return self._of("series", contract, series)

    def of_derived(self, table: str) -> Schema | None:
        """The schema of the rows of a derived table."""
        component = self._kinds.get("derived", {}).get(table)
        return None if component is None else self.resolved({"$ref": f"#/components/schemas/{component}"})

    def _of(self, kind: str, contract: str, name: str) -> Schema | None:
        names: Mapping[str, str] = self._kinds.get(kind, {}).get(contract, {})
        full = [known for known in names if known == name or known.partition("~")[0] == name]
        chosen = name if name in names else full[0] if len(full) == 1 else None
        return None if chosen is None else self.resolved({"$ref": f"#/components/schemas/{names[chosen]}"})

    def of_answer(self, path: str) -> Schema:
        """The schema of what a path answers; of anything, where the document does not know it.

        Args:
            path: as the document has it: ``/v1/tokens/{address}/holders``.
        """
        try:
            content = self._body["paths"][path]["get"]["responses"]["200"]["content"]
            return self.resolved(content["application/json"]["schema"])
        except KeyError:
            return {}

    def resolved(self, schema: Schema) -> Schema:
        """The schema with nothing referred to. A type of an ABI keeps its name, as ``x-name``."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return {**self.resolved(self._body["components"]["schemas"][name]), "x-name": name}
        if "allOf" in schema:
            members: dict[str, Schema] = {}
            for part in schema["allOf"]:
                members |= self.resolved(part).get("properties", {})
            return {"type": "object", "properties": members}
        if "anyOf" in schema:
            (one,) = [self.resolved(each) for each in schema["anyOf"] if each != _NULL] or [{}]
            return one
        found = dict(schema)
        if "properties" in found:
            found["properties"] = {name: self.resolved(each) for name, each in found["properties"].items()}
        for inner in ("items", "additionalProperties"):
            if isinstance(found.get(inner), dict):
                found[inner] = self.resolved(found[inner])
        return found


def decoder(schema: Schema) -> Decode | None:
    """A function that makes ``int`` (or ``Decimal``) of the digits in a value; None where there are none.

    Args:
        schema: without references.
    """
    match schema.get("type"):
        case "string" if schema.get("pattern") == DIGITS:
            return _or_none(int)
        case "string" if schema.get("pattern") == FIXED:
            return _or_none(Decimal)
        case "array":
            inner = decoder(schema.get("items", {}))
            return None if inner is None else _or_none(lambda value: [inner(item) for item in value])
        case "object":
            members = {
                name: decode
                for name, each in schema.get("properties", {}).items()
                if (decode := decoder(each)) is not None
            }
            others = schema.get("additionalProperties")
            other = decoder(others) if isinstance(others, dict) else None
            if not members and other is None:
                return None
            return _or_none(lambda value: _members(value, members, other))
    return None


def _members(value: Mapping[str, Any], members: Mapping[str, Decode], other: Decode | None) -> dict[str, Any]:
    found = {}
    for name, each in value.items():
        decode = members.get(name, other)
        found[name] = each if decode is None else decode(each)
    return found


def _or_none(decode: Decode) -> Decode:
    return lambda value: None if value is None else decode(value)


def bits(schema: Schema) -> int:
    """How many bits an integer of a schema has at most; 0: no bound is known."""
    found = re.fullmatch(r"u?int([0-9]+)", schema.get("x-name", ""))
    return int(found[1]) if found else 0


def page_of(answer: Mapping[str, Any], whole: Schema, row: Schema | None, fields: frozenset[str]) -> Page:
    """A page from an answer.

    Args:
        answer: as it came.
        whole: the schema of the path's answer.
        row: the schema of a row, where the path's does not know it.
        fields: those that were asked for.
    """
    members = dict(whole.get("properties", {}))
    item = row or members.get("data", {}).get("items", {})
    members["data"] = {"type": "array", "items": item}
    decode = decoder({"type": "object", "properties": members})
    body = answer if decode is None else decode(answer)
    page = body["page"]
    return Page(
        rows=body["data"],
        next=page["next"],
        prev=page["prev"],
        last=page["last"],
        count=page.get("count"),
        count_is=page.get("count_is"),
        meta=body["meta"],
        tokens=body.get("tokens", {}),
        transactions=body.get("transactions", {}),
        schema=RowSchema(item.get("properties", {}), fields),
    )
