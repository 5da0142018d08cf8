"""What a subscription asks for, and what the messages say that it gets.

It asks for a contract, an event and filters, read and compiled like the URL of a page of rows. A message has the form
of
Standard Webhooks: type, timestamp, data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import orjson

from api import arguments
from api.catalog import Catalog, Chain, Event
from api.errors import ApiError, Problem
from api.live.changes import Scope
from api.live.scopes import event_scope, feed_scope
from api.parameters import joined
from api.resources.common_parameters import AddressParameters

FINALITIES: Final = ("latest", "safe", "finalized")

ROWS: Final = "event.rows"
REVERTED: Final = "event.reverted"
TEST: Final = "webhook.test"

#: Bytes of rows in a message; one row alone may have more.
MAX_ROWS_BYTES: Final = 256 * 1024


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


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is kept until it is acknowledged.

    Attributes:
        position: where the subscription stands once it is.
        told_block: no row of a later block was ever in a message; None: none at all was.
    """

    message_id: str
    kind: str
    body: bytes
    position: str
    told_block: int | None


def message_id(webhook: str, sequence: int) -> str:
    """The id of a subscription's message: by its number, so that no two have the same, whatever happens to the chain.

    The message is kept under it before it is first sent: the id is the same at every attempt, of any process.
    """
    return f"msg_{webhook.removeprefix('wh_')}_{sequence}"


def rows(
    webhook: str, sequence: int, chain_id: int, data: Sequence[bytes], *, position: str, told_block: int, now: datetime
) -> Message:
    """Rows in the chain's order.

    Args:
        webhook: the subscription's id.
        sequence: of the message.
        chain_id: the chain.
        data: the rows' JSON.
        position: the cursor behind them.
        told_block: the newest block of which a row was told, these included.
        now: the time.
    """
    body = b"".join(
        (
            _head(ROWS, webhook, sequence, now),
            b',"chain_id":%d,"cursor":%b,"rows":[' % (chain_id, orjson.dumps(position)),
            b",".join(data),
            b"]}}",
        )
    )
    return Message(message_id(webhook, sequence), ROWS, body, position, told_block)


def reverted(
    webhook: str,
    sequence: int,
    chain_id: int,
    common_block: int,
    *,
    position: str,
    why: Literal["reorg", "replay"],
    now: datetime,
) -> Message:
    """Rows of later blocks than ``common_block`` that were told do not hold any more; what holds follows.

    Args:
        webhook: the subscription's id.
        sequence: of the message.
        chain_id: the chain.
        common_block: the last block that holds.
        position: the cursor from which it goes on.
        why: the chain was reorganised, or the owner asked to be told again.
        now: the time.
    """
    facts = {"chain_id": chain_id, "cursor": position, "common_block": common_block, "reason": why}
    body = _head(REVERTED, webhook, sequence, now) + b"," + orjson.dumps(facts)[1:] + b"}"
    return Message(message_id(webhook, sequence), REVERTED, body, position, common_block)


def test(webhook: str, now: datetime) -> bytes:
    """The body of a test message, which says nothing."""
    return orjson.dumps({"type": TEST, "timestamp": _time(now), "data": {"webhook": webhook}})


def fitting(sizes: Sequence[int], limit: int = MAX_ROWS_BYTES) -> int:
    """How many of the first rows fit into a message; one at least.

    Args:
        sizes: bytes of each.
        limit: bytes together.
    """
    together = 0
    for count, size in enumerate(sizes):
        together += size
        if together > limit:
            return max(1, count)
    return len(sizes)


def _head(kind: str, webhook: str, sequence: int, now: datetime) -> bytes:
    """The beginning of a message, up to its data's own members."""
    head: dict[str, Any] = {
        "type": kind,
        "timestamp": _time(now),
        "data": {"webhook": webhook, "sequence": sequence},
    }
    return orjson.dumps(head)[:-2]


def _time(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
