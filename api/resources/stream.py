"""Streams: rows as they are indexed, as server-sent events."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

import falcon
from pydantic import Field

from api.catalog import Catalog
from api.context import Context
from api.cursors import CursorError, Position
from api.errors import ApiError, Problem
from api.live.changes import Scope
from api.live.hub import Hub, StreamRequest
from api.live.scopes import event_scope, feed_scope
from api.parameters import Parameters, joined
from api.resources import common_parameters as common
from api.resources.base import Columns, Resource, send_json
from api.resources.events import Events
from api.resources.feed import Feed, FeedFilters, events_of
from api.schemas import Schema
from api.values import CURSOR

EVENT_STREAM: Final = "text/event-stream"

_OWN_CODES: Final = ("BAD_REQUEST", "STREAMS_FULL")
_LAST_EVENT_ID: Final = "Last-Event-ID"
_HOST: Final = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ANSWER: Final[Schema] = {
    "type": "string",
    "description": "Server-sent events: `row` (the JSON of a row), `revert` (`common_block`: what was sent of later "
    "blocks is void) and `status` (how far the stream is, and what it waits for). Each has an `id` to go on from.",
}
#: A header that goes before ``after``.
_HEADER: Final[Schema] = {
    "name": _LAST_EVENT_ID,
    "in": "header",
    "description": "Where the client was; goes before `after`.",
    "schema": dict(CURSOR.schema),
}


class AfterParameters(Parameters):
    """Where a stream begins."""

    after: Annotated[Position | None, CURSOR] = Field(
        None, description="Begin behind this row: an id or a cursor. Left out: with what comes next."
    )


_EventStreamParameters: Final = joined(
    "EventStream", common.ChainParameters, AfterParameters, common.AddressParameters, common.FinalityParameters
)


class StreamResource(Resource):
    """A stream. Without a hub, its paths say where the streams' listener is.

    Args:
        context: what the resources share.
        hub: of the listener that this resource belongs to.
    """

    tag: ClassVar = "events"
    takes_query_token: ClassVar = True
    media: ClassVar = EVENT_STREAM
    answer: ClassVar = _ANSWER
    redirects: ClassVar = True

    def __init__(self, context: Context, hub: Hub | None = None) -> None:
        super().__init__(context)
        self._hub = hub

    def _answer(
        self,
        request: falcon.Request,
        response: falcon.Response,
        values: Mapping[str, Any],
        key: Sequence[Hashable],
        compiled: Callable[[Catalog], Scope],
    ) -> None:
        position = _last_event_id(request) or values.get("after")
        wanted = {name: value for name, value in values.items() if name not in ("after", "chain")}
        if not self.context.settings.streams_max:
            raise ApiError("STREAMS_FULL", "this server has no streams: STREAMS_MAX is 0")
        if self._hub is None:
            self._redirect(request, response)
            return
        response.content_type = EVENT_STREAM
        # A proxy that collects answers before it passes them on would hold every event back.
        response.set_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        if request.method == "HEAD":
            response.stream = ()  # without one, the answer would say that the stream has 0 bytes
            return
        stream = StreamRequest(
            key=(*key, repr(sorted(wanted.items(), key=lambda item: item[0]))),
            compiled=compiled,
            position=position,
            path=request.path,
            private=bool(request.context.get("private")),
        )
        response.stream = self._hub.open(stream)

    def _redirect(self, request: falcon.Request, response: falcon.Response) -> None:
        settings = self.context.settings
        base = settings.streams_url or f"{request.scheme}://{_host(request)}:{settings.streams_port_number}"
        # As it came: an access_token is the client's own, and is needed there again.
        query = request.env.get("QUERY_STRING") or ""
        location = base.rstrip("/") + quote(request.path) + (f"?{query}" if query else "")
        response.status = falcon.HTTP_307
        response.set_header("Location", location)
        send_json(response, {"location": location})


class EventStream(StreamResource):
    """``/v1/contracts/{c}/events/{e}/stream``."""

    summary: ClassVar = "Rows of an event as they are indexed"
    codes: ClassVar = (*(code for code in Events.codes if code not in ("BLOCK_NOT_INDEXED", "REORGED")), *_OWN_CODES)

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        return [*_EventStreamParameters.openapi(), *Events.any_extras(), _HEADER], cls.answer

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Begin to stream, or say where that is done."""
        catalog, found, event = self.event(path["contract"], path["event"], request.query_string)
        values = event_parameters(event.columns).read(request.query_string).given()
        chain = catalog.chain(values.get("chain"), found.contract.deployments)
        contract, name, address = event.contract, event.api_name, found.address
        window = self.context.settings.api_unindexed_window

        def compiled(catalog: Catalog) -> Scope:
            try:
                now = catalog.contracts[contract].events[name]
                chain_now = catalog.chains[chain.chain_id]
            except KeyError:
                raise ApiError("EVENT_NOT_FOUND", f"{contract}.{name} is not indexed any more") from None
            return event_scope(catalog, now, chain_now, values, address=address, window=window)

        self._answer(request, response, values, ("event", contract, name, chain.chain_id, address), compiled)


class FeedStream(StreamResource):
    """``/v1/events/stream``."""

    summary: ClassVar = "All events of a chain as they are indexed"
    codes: ClassVar = (*(code for code in Feed.codes if code not in ("BLOCK_NOT_INDEXED", "REORGED")), *_OWN_CODES)
    params: ClassVar = joined(
        "FeedStreamParameters",
        common.ChainParameters,
        AfterParameters,
        FeedFilters,
        common.AddressParameters,
        common.FinalityParameters,
        extras=[common.chosen_fields(Feed.fields)],
    )

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        return [*cls.params.openapi(), _HEADER], cls.answer

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Begin to stream, or say where that is done."""
        values = self.params.read(request.query_string).given()
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        events_of(catalog, chain, values)  # refuses names that are not there
        window = self.context.settings.api_unindexed_window

        def compiled(catalog: Catalog) -> Scope:
            now = catalog.chain(str(chain.chain_id))
            return feed_scope(catalog, events_of(catalog, now, values), now, values, window=window)

        self._answer(request, response, values, ("feed", chain.chain_id), compiled)


@lru_cache(maxsize=1000)
def event_parameters(columns: Columns) -> type[Parameters]:
    """The parameters of a stream of an event with such arguments."""
    return joined("EventStream", _EventStreamParameters, extras=Events.extras(columns))


def _last_event_id(request: falcon.Request) -> Position | None:
    text = request.get_header(_LAST_EVENT_ID)
    if not text:
        return None
    try:
        return Position.parse(text)
    except CursorError as error:
        raise ApiError.invalid([Problem(_LAST_EVENT_ID, str(error), "INVALID_CURSOR")]) from None


def _host(request: falcon.Request) -> str:
    """The name under which the client has found this server, without the port.

    Raises:
        ApiError: BAD_REQUEST if it says none, or something else.
    """
    match = _HOST.fullmatch(request.get_header("Host") or "")
    if not match:
        raise ApiError("BAD_REQUEST", "the header Host names no host, so nobody can say where the streams are")
    return str(match[1])
