"""The merged feed: all events of a chain in order."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import falcon

from api.catalog import Catalog, Chain, Event, Series
from api.errors import ApiError, Problem
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource
from api.resources.events import BESIDE, fixed_members
from api.resources.rows import INCLUDE, RowsQuery, addresses_rule, answer_rows
from api.schemas import Schema, an_array, an_object, ref
from api.sql import feed as sql
from api.sql.statement import Binder, Statement
from api.values import choice, list_of, text

_NAMES: Final = list_of(text(300))
CONTRACTS: Final = Param("contract", _NAMES, "Only events of these contracts (comma list of names).")
EVENTS: Final = Param("event", _NAMES, "Only these events (comma list of names).")


class FeedQuery(RowsQuery):
    """A request for rows of many events.

    Args:
        catalog: what is indexed.
        events: those that it is about.
        chain: the chain.
        values: what :meth:`Params.read` made of the query string, and the format.
    """

    def __init__(self, catalog: Catalog, events: Sequence[Event], chain: Chain, values: dict[str, Any]) -> None:
        super().__init__(catalog, chain, values)
        self.name = f"{chain.name}-events"
        self.shape = self._shape()
        self._events = tuple(event.event_id for event in events)
        rules = tuple(addresses_rule(event, chain.chain_id, values.get("address")) for event in events)
        self._feed = sql.branches(events, self.shape, rules)
        self._key = (self._events, rules, self.shape)
        self._place_among_items()

    def state_statement(self) -> Statement:
        """The statement of the state alone."""
        return self._once("feed state", lambda: sql.state_only(self._events, self.shape))

    def page_statement(self, window: int) -> Statement:
        """The statement of the page."""
        return self._once("feed page", lambda: sql.page(self._events, self._feed, self.shape, window))

    def estimate_statement(self) -> Statement:
        """The statement of the planner's estimate of how many rows there are."""
        return sql.estimate(self._events, self._feed, self.shape)

    def unserved(self) -> str | None:
        """The filters that no index serves, or None."""
        if not self._once("feed gated", lambda: sql.is_gated(self._feed)):
            return None
        return " with ".join(name for name in ("tx_hash", "address") if name in self.values)

    def csv_names(self) -> list[str]:
        """The columns of a CSV: there is none, the events have different ones."""
        raise NotImplementedError

    def export_query(self, bind: Binder, *, as_csv: bool) -> str:
        """The query of an export."""
        return sql.export(self._events, self._feed, self.shape, bind, limit=self.values.get("limit"))


class Feed(Resource):
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
    conditional: ClassVar = True
    formats: ClassVar = ("json", "ndjson")
    params: ClassVar = Params(
        (
            collection.CHAIN,
            *collection.PAGING,
            *collection.BOUNDS,
            CONTRACTS,
            EVENTS,
            collection.ADDRESS_LIST,
            collection.TX_HASH,
            *collection.FRESHNESS,
            INCLUDE,
            collection.fields(sql.FIELDS),
            collection.COUNT,
            Param("format", choice("json", "ndjson"), "Instead of Accept. NDJSON is an export."),
        )
    )

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        names = {"contract": {"type": "string"}, "event": {"type": "string"}}
        arguments = {"type": "object", "description": "By name; see the event's own path."}
        row = an_object({**names, **fixed_members(), "args": arguments}, required=())
        members = {"data": an_array(row), "page": ref("Page"), "meta": ref("Meta"), **BESIDE}
        return cls.params.all, an_object(members, required=("data", "page", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        values = self.params.read(request.query_string)
        values["format"] = self.format(request, values.get("format"))
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        events = events_of(catalog, chain, values)
        answer_rows(self.context, request, response, FeedQuery(catalog, events, chain, values))


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
