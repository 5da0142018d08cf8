"""What a subscription asks for: contract, event and filters, read and compiled like the URL of a page of rows."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from api import arguments
from api.catalog import Catalog, Chain, Event
from api.errors import ApiError, Problem
from api.live.changes import Scope
from api.live.scopes import event_scope, feed_scope
from api.parameters import joined
from api.resources.common_parameters import AddressParameters

FINALITIES: Final = ("latest", "safe", "finalized")


def compile_scope(
    catalog: Catalog,
    chain: Chain,
    contract: str | None,
    event: str | None,
    filters: Mapping[str, str],
    finality: str,
    *,
    limit: int,
    window: int,
) -> Scope:
    """Compile a subscription.

    Args:
        catalog: what is indexed.
        chain: the chain.
        contract: its name; None: all of the chain.
        event: name of its event; None: all of the contract.
        filters: ``address`` and ``arg.*``, each as it would stand in the URL of the rows.
        finality: which blocks count.
        limit: most rows of one answer.
        window: most blocks to look through at once where no index serves the filters.

    Raises:
        ApiError: something is not indexed (any more), or a filter is wrong.
    """
    events = find_events(catalog, chain, contract, event)
    values = {**read_filters(events, event, filters), "finality": finality}
    if event is not None:
        # The names are part of each row: a receiver may have several subscriptions.
        return event_scope(catalog, events[0], chain, values, named=True, window=window, limit=limit)
    return feed_scope(catalog, events, chain, values, window=window, limit=limit)


def find_events(catalog: Catalog, chain: Chain, contract: str | None, event: str | None) -> list[Event]:
    """The events that are meant, one at least.

    Raises:
        ApiError: INVALID_PARAMETER, CONTRACT_NOT_FOUND, EVENT_NOT_FOUND or AMBIGUOUS_EVENT.
    """
    if contract is None:
        if event is not None:
            raise ApiError.invalid([Problem("event", "needs contract")])
        deployed = [c for c in catalog.contracts.values() if chain.chain_id in c.deployments]
        return [each for found in deployed for each in found.events.values()]
    found = catalog.contracts.get(contract)
    if found is None or chain.chain_id not in found.deployments:
        raise ApiError("CONTRACT_NOT_FOUND", f"no contract {contract!r} is indexed on {chain.name}")
    return list(found.events.values()) if event is None else [catalog.event(found, event)]


def read_filters(events: list[Event], event: str | None, filters: Mapping[str, str]) -> dict[str, Any]:
    """The values of filters, read as the parameters of a URL are.

    Raises:
        ApiError: with all that is wrong.
    """
    own = () if event is None else arguments.filters(events[0].columns).values()
    try:
        return joined("Filters", AddressParameters, extras=own).read(urlencode(filters, quote_via=quote)).given()
    except ApiError as error:
        raise ApiError.invalid(
            [Problem(f"filters.{p.parameter}", p.message, _code(error, p)) for p in error.details]
        ) from None


def _code(error: ApiError, problem: Problem) -> str:
    return problem.code if error.code == "INVALID_PARAMETER" else error.code
