"""The merged feed: all events of a chain in order."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from api.catalog import Catalog, Chain, Event
from api.errors import ApiError, Problem
from api.parameters import Parameters
from api.resources import common_parameters as common
from api.resources.collection import Collection, Query
from api.sql.events import ANY_EVENT, event_source
from api.sql.feed import FeedSource
from api.sql.row_order import BY_LOG
from api.values import list_of
from api.values import text as short_text

_NAMES: Final = list_of(short_text(300))


class FeedFilters(Parameters):
    """Which events."""

    contract: Annotated[list[str] | None, _NAMES] = Field(
        None, description="Only events of these contracts (comma list of names)."
    )
    event: Annotated[list[str] | None, _NAMES] = Field(None, description="Only these events (comma list of names).")


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

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        values = self.params.read(text).given()
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        return feed_query(catalog, chain, events_of(catalog, chain, values), values)


def feed_query(catalog: Catalog, chain: Chain, events: Iterable[Event], values: Mapping[str, Any]) -> Query:
    """A request for the rows of some events."""
    rows = FeedSource([event_source(catalog, event, chain.chain_id, values, named=True) for event in events])
    return Query(catalog, chain, values, rows, name=f"{chain.name}-events")


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
