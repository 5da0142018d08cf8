"""What is asked: paths, names, parameters; how a walk goes on and stays consistent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import quote

from gapless_client.document import Document, Page, Schema, page_of

EVENT: Final = "/v1/contracts/{contract}/events/{event}"
SERIES: Final = "/v1/contracts/{contract}/snapshots/{series}"
DERIVED: Final = "/v1/derived/{table}"
DAILY: Final = f"{EVENT}/daily"
STREAM: Final = f"{EVENT}/stream"
FEED: Final = "/v1/events"
FEED_STREAM: Final = f"{FEED}/stream"
BALANCES: Final = "/v1/addresses/{address}/balances"
BALANCES_STREAM: Final = f"{BALANCES}/stream"
#: Rows of a page of a walk, where the caller does not say.
WALK_LIMIT: Final = 1000

Where = Mapping[str, Any]


@dataclass(frozen=True)
class Query:
    """A question.

    Attributes:
        path: as the document has it, with names in braces.
        names: their values.
        parameters: all others.
        kind: of which the rows are, where the path alone does not say.
        name: of the event, the series or the derived table.
    """

    path: str
    names: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["event", "series", "derived", ""] = ""
    name: str = ""

    @property
    def target(self) -> str:
        """The path with its names filled in."""
        filled = self.path
        for name, value in self.names.items():
            filled = filled.replace(f"{{{name}}}", quote(value, safe="~"))
        return filled

    @property
    def asked(self) -> dict[str, str]:
        """The parameters as they stand in a URL."""
        return {name: _text(value) for name, value in self.parameters.items() if value is not None}

    @property
    def fields(self) -> frozenset[str]:
        """The members of rows that are asked for; empty for the usual ones."""
        return frozenset(self.asked.get("fields", "").split(",")) - {""}

    def of_contract(self, name: str) -> "Query":
        """The same question, to the contract of this name."""
        return replace(self, names={**self.names, "contract": name})

    def row_schema(self, document: Document) -> Schema | None:
        """The schema of a row; None where the document does not (yet) know it."""
        if self.kind == "event":
            return document.of_event(self.names["contract"], self.name)
        if self.kind == "derived":
            return document.of_derived(self.name)
        return document.of_series(self.names["contract"], self.name)

    def page(self, answer: Mapping[str, Any], document: Document, row: Schema | None) -> Page:
        """The page that an answer is."""
        return page_of(answer, document.of_answer(self.path), row, self.fields)


def query(path: str, parameters: Mapping[str, Any], *, where: Where | None = None, prefix: str = "arg.") -> Query:
    """A question to any path.

    Args:
        path: as the document has it: ``/v1/tokens/{address}/holders``.
        parameters: its names and its parameters. A trailing underscore is none of the name (``from_``).
        where: conditions on arguments: ``{"from": ..., "value.gte": ...}``.
        prefix: in front of the conditions' names.

    Raises:
        TypeError: a name of the path is missing.
    """
    given = {name.removesuffix("_"): value for name, value in parameters.items()}
    names = {}
    for part in path.split("{")[1:]:
        name = part.partition("}")[0]
        if given.get(name) in (None, ""):
            raise TypeError(f"{path} needs {name}")
        names[name] = str(given.pop(name))
    return Query(path, names, given | {f"{prefix}{name}": value for name, value in (where or {}).items()})


def of_event(path: str, contract: str, event: str, parameters: Mapping[str, Any], where: Where | None) -> Query:
    """A question for rows of an event, or for its days."""
    asked = query(path, {**parameters, "contract": contract, "event": event}, where=where)
    return asked if path == DAILY else replace(asked, kind="event", name=event)


def of_series(contract: str, series: str, parameters: Mapping[str, Any], path: str = SERIES) -> Query:
    """A question for points of a series."""
    return replace(query(path, {**parameters, "contract": contract, "series": series}), kind="series", name=series)


def of_derived(table: str, parameters: Mapping[str, Any], where: Where | None, path: str = DERIVED) -> Query:
    """A question for rows of a derived table."""
    asked = query(path, {**parameters, "table": table}, where=where, prefix="col.")
    return replace(asked, kind="derived", name=table)


class Walk:
    """A walk over all pages of a query.

    Cursors of events, transfers and points know their branch: the API refuses one whose block was reorganised away.
    Those of balances, holders and days do not: there all pages are as of one block. Derived tables have their newest
    state only: each page is of the moment at which it was asked for.

    Args:
        query: without ``before``.
    """

    def __init__(self, query: Query) -> None:
        parameters: dict[str, Any] = {"limit": WALK_LIMIT, **query.parameters}
        self._is_of_ledgers = query.path.endswith(("/balances", "/holders"))
        if self._is_of_ledgers and parameters.get("at_block") is None:
            parameters.setdefault("finality", "finalized")
        self.next: Query | None = replace(query, parameters=parameters)

    def turn(self, page: Page) -> None:
        """Go on behind a page: :attr:`next` is what to ask then, None at the end."""
        assert self.next is not None
        if page.next is None:
            self.next = None
            return
        parameters = {**self.next.parameters, "after": page.next}
        at = "at_block" if self._is_of_ledgers else "indexed_block" if self.next.path == DAILY else None
        if at is not None and parameters.get("at_block") is None:
            parameters["at_block"] = page.meta[at]
        self.next = replace(self.next, parameters=parameters)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes | bytearray):
        return "0x" + value.hex()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(_text, value))
    return str(value)
