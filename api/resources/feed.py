"""The merged feed: all events of a chain in order."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import unquote

from pydantic import Field

from api.arguments import ANY_FILTERS, PREFIX, Filter
from api.catalog import Catalog, Chain, Event
from api.errors import ApiError, Problem
from api.parameters import Parameters, joined, parted
from api.resources import common_parameters as common
from api.resources.collection import Collection
from api.resources.row_page import Query
from api.schemas import Schema
from api.sql.events import ANY_EVENT, AnyOf, EventSource, event_source, filters_of
from api.sql.feed import FeedSource
from api.sql.query_shape import BY_LOG
from api.values import BadValueError, list_of
from api.values import text as short_text

_NAMES: Final = list_of(short_text(300))
_TEXT: Final = short_text(8000)


#: Most selections of one request: each is a reading of its event's table.
MOST_SELECTIONS: Final = 20
#: One selection: an event, perhaps with its contract, and conditions in parentheses.
_SELECTION: Final = re.compile(r"(?:(?P<contract>[^().]+)\.)?(?P<event>[^().]+)(?:\((?P<conditions>.*)\))?", re.DOTALL)


class FeedFilters(Parameters):
    """Which events."""

    contract: Annotated[list[str] | None, _NAMES] = Field(
        None, description="Only events of these contracts (comma list of names)."
    )
    event: Annotated[list[str] | None, _NAMES] = Field(None, description="Only these events (comma list of names).")
    where: Annotated[str | None, short_text(8000)] = Field(
        None,
        description="Rows of any of these, each an event with conditions on its arguments: "
        "`coins.Transfer(from=0x…);coins.Transfer(to=0x…);pair.Swap(to=0x…)`.",
    )


class Feed(Collection):
    """``/v1/events``: the rows of all events of a chain, in the chain's order."""

    summary: ClassVar = "All events of a chain in order"
    tag: ClassVar = "events"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CHAIN_NOT_FOUND",
        "BLOCK_NOT_INDEXED",
        "REORGED",
    )
    # Events have different columns: there is no CSV.
    formats: ClassVar = ("json", "ndjson")
    filters: ClassVar = (
        common.BoundParameters,
        FeedFilters,
        common.AddressParameters,
        common.TransactionParameters,
    )
    include: ClassVar = ("token", "tx")
    order: ClassVar = BY_LOG
    members: ClassVar = ANY_EVENT

    @classmethod
    def any_extras(cls) -> Sequence[Schema]:
        """The parameter objects for the arguments of the events that take part."""
        return [ANY_FILTERS]

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        conditions, rest = parted(text, PREFIX)
        values = self.params.read(rest).given()
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        parts, values = feed_sources(catalog, chain, values, conditions)
        return Query(catalog, chain, values, FeedSource(parts), name=f"{chain.name}-events")


def feed_query(catalog: Catalog, chain: Chain, events: Iterable[Event], values: Mapping[str, Any]) -> Query:
    """A request for the rows of some events."""
    rows = FeedSource([event_source(catalog, event, chain.chain_id, values, named=True) for event in events])
    return Query(catalog, chain, values, rows, name=f"{chain.name}-events")


@dataclass(frozen=True, slots=True)
class _Selection:
    """Rows that are asked for: of which contract (None: of any) and event, under which conditions, as text."""

    contract: str | None
    event: str | None
    conditions: Mapping[str, str]

    def is_of(self, event: Event) -> bool:
        return self.contract in (None, event.contract) and self.event in (None, event.name, event.api_name)

    def __str__(self) -> str:
        return ".".join(name for name in (self.contract, self.event) if name)


def feed_sources(
    catalog: Catalog, chain: Chain, values: Mapping[str, Any], conditions: str = ""
) -> tuple[list[EventSource], dict[str, Any]]:
    """What a request for rows of many events reads, and its values with those of the conditions on arguments.

    Args:
        catalog: what is indexed.
        chain: the chain.
        values: of the request's other parameters.
        conditions: the parameters ``arg.*``, as a query string. Only events that have all of these arguments take part.

    Raises:
        ApiError: something in it is not there, or has a value that its argument cannot have.
    """
    events = events_of(catalog, chain, values)
    asked = dict(values)
    where = asked.pop("where", None)
    if where is None and not conditions:
        return [event_source(catalog, event, chain.chain_id, asked, named=True) for event in events], asked
    if where is not None and conditions:
        raise ApiError.invalid([Problem("where", "cannot be combined with arg.*: conditions stand in it")])
    if where is not None:
        selections = _selections(where)
    else:
        names = {name for event in events for name in filters_of(catalog, event)}
        given = joined("Conditions", extras=[common.CollectionParameter(name, _TEXT, "") for name in sorted(names)])
        selections = [_Selection(None, None, given.read(conditions).given())]
    parts: dict[int, list[EventSource]] = {}
    for number, selection in enumerate(selections):
        found = _matching(catalog, [event for event in events if selection.is_of(event)], selection, where is not None)
        for event, chosen in found:
            kept = [replace(one, name=f"{number}/{event.event_id}/{one.name}") for one, _ in chosen]
            asked |= {one.name: value for one, (_, value) in zip(kept, chosen, strict=True)}
            part = event_source(catalog, event, chain.chain_id, asked, named=True, chosen=kept)
            parts.setdefault(event.event_id, []).append(part)
    return [each[0] if len(each) == 1 else AnyOf(each) for each in parts.values()], asked


def _selections(text: str) -> list[_Selection]:
    """Read the parameter ``where``.

    Raises:
        ApiError: INVALID_PARAMETER.
    """
    selections, problems = [], []
    for one in text.split(";"):
        match = _SELECTION.fullmatch(one.strip())
        if match is None:
            problems.append(Problem("where", f"{one.strip()!r} is not like contract.Event(argument=value,…)"))
            continue
        conditions: dict[str, str] = {}
        for condition in (match["conditions"] or "").split(",") if match["conditions"] else ():
            name, equals, value = condition.partition("=")
            key = PREFIX + name.strip().removeprefix(PREFIX)
            if not equals or key in conditions:
                wrong = "is there twice" if equals else "is not like argument=value"
                problems.append(Problem("where", f"{condition!r} {wrong}"))
            conditions[key] = unquote(value.strip().replace("|", ",") if key.endswith(".in") else value.strip())
        selections.append(_Selection(match["contract"], match["event"], conditions))
    if len(selections) > MOST_SELECTIONS:
        problems = [Problem("where", f"has {len(selections)} selections, and may have {MOST_SELECTIONS}")]
    if problems:
        raise ApiError.invalid(problems)
    return selections


def _matching(
    catalog: Catalog, events: Iterable[Event], selection: _Selection, is_where: bool
) -> list[tuple[Event, list[tuple[Filter, Any]]]]:
    """The events of a selection that have all of its arguments, with its conditions and their values.

    Raises:
        ApiError: there is none.
    """
    found, problems = [], dict[str, Problem]()
    for event in events:
        known = filters_of(catalog, event)
        if not selection.conditions.keys() <= known.keys():
            continue
        chosen = []
        for name, text in selection.conditions.items():
            try:
                chosen.append((known[name], known[name].kind.parse(text)))
            except BadValueError as error:
                shown = f"{selection}: {name.removeprefix(PREFIX)} {error}" if is_where else str(error)
                problems[name] = Problem("where" if is_where else name, shown, error.code)
        if len(chosen) == len(selection.conditions):
            found.append((event, chosen))
    if not found and not problems:
        lacking = ", ".join(name.removeprefix(PREFIX) for name in selection.conditions)
        what = f"{selection} " if str(selection) else ""
        text = f"no event {what}is indexed here" + (f" that can be filtered by {lacking}" if lacking else "")
        problems[""] = Problem("where" if is_where else next(iter(selection.conditions)), text)
    if not found:
        raise ApiError.invalid(list(problems.values()))
    return found


def events_of(catalog: Catalog, chain: Chain, values: Mapping[str, Any]) -> list[Event]:
    """The events that a request is about.

    Raises:
        ApiError: if it names one that is not there.
    """
    contracts, names = values.get("contract"), values.get("event")
    deployed = {name: c for name, c in catalog.contracts.items() if chain.chain_id in c.deployments}
    problems = [
        Problem("contract", f"{n!r} is not indexed on {chain.name}") for n in contracts or () if n not in deployed
    ]
    candidates = [
        event
        for name, contract in deployed.items()
        if contracts is None or name in contracts
        for event in contract.events.values()
    ]
    known = {event.name for event in candidates} | {event.api_name for event in candidates}
    problems += [Problem("event", f"{n!r} is not indexed here") for n in names or () if n not in known]
    if problems:
        raise ApiError.invalid(problems)
    return [event for event in candidates if names is None or event.name in names or event.api_name in names]
