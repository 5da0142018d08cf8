"""Streams: rows as they are indexed, as server-sent events."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlencode

import falcon
from pydantic import Field

from api.arguments import PREFIX
from api.catalog import Catalog
from api.cursors import CursorError, Position
from api.errors import ApiError, Problem
from api.live.changes import Scope, StreamPosition, Watched
from api.live.hub import StreamRequest
from api.live.scopes import event_scope, merged_scope
from api.live.views import AddressBalances, BalancesPlace, PointPlace, Points
from api.parameters import Parameters, joined, parted
from api.resources import common_parameters as common
from api.resources.balances import Balances
from api.resources.base import Columns, Resource
from api.resources.collection import Collection
from api.resources.events import Events
from api.resources.feed import Feed, FeedFilters, feed_sources
from api.resources.row_page import Query
from api.resources.snapshots import SeriesRows
from api.resources.transfers import AssetParameters
from api.schemas import Schema
from api.sql.series import SeriesSource
from api.values import CURSOR, BadValueError, Kind

EVENT_STREAM: Final = "text/event-stream"

#: What every stream may answer beside what pages do.
OWN_CODES: Final = ("STREAMS_FULL",)
_LAST_EVENT_ID: Final = "Last-Event-ID"
_ANSWER: Final[Schema] = {
    "type": "string",
    "description": "Server-sent events: `row` (the JSON of a row; of balances `balances`: all of them), `revert` "
    "(`common_block`: what was sent of later blocks is void) and `status` (how far the stream is, and what it waits "
    "for). Each has an `id` to go on from.",
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
    """A stream: what is asked for. The event loop carries it (:mod:`api.live.application`)."""

    tag: ClassVar = "events"
    takes_query_token: ClassVar = True
    media: ClassVar = EVENT_STREAM
    answer: ClassVar = _ANSWER

    def request(self, request: falcon.Request, **path: str) -> StreamRequest:
        """Read a request.

        Raises:
            ApiError: it is wrong, names what is not there, or this server has no streams.
        """
        raise NotImplementedError

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Refuse a request that has not come to the event loop."""
        self.request(request, **path)
        raise ApiError(
            "STREAMS_FULL", "this server has no streams: `gapless serve` has them, a bare WSGI server has not"
        )

    def _request(
        self,
        request: falcon.Request,
        values: Mapping[str, Any],
        key: Sequence[Hashable],
        compiled: Callable[[Catalog], Watched],
        parse: Callable[[str], StreamPosition] = Position.parse,
    ) -> StreamRequest:
        position = _last_event_id(request, parse) or values.get("after")
        wanted = {name: value for name, value in values.items() if name not in ("after", "chain")}
        if not self.context.settings.streams_max:
            raise ApiError("STREAMS_FULL", "this server has no streams: STREAMS_MAX is 0")
        return StreamRequest(
            key=(*key, repr(sorted(wanted.items(), key=lambda item: item[0]))),
            compiled=compiled,
            position=position,
            path=request.path,
            client=request.context.get("client"),
            private=bool(request.context.get("private")),
        )


class EventStream(StreamResource):
    """``/v1/contracts/{c}/events/{e}/stream``."""

    summary: ClassVar = "Rows of an event as they are indexed"
    codes: ClassVar = (*(code for code in Events.codes if code not in ("BLOCK_NOT_INDEXED", "REORGED")), *OWN_CODES)

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        return [*_EventStreamParameters.openapi(), *Events.any_extras(), _HEADER], cls.answer

    def request(self, request: falcon.Request, **path: str) -> StreamRequest:
        """Read a request."""
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

        return self._request(request, values, ("event", contract, name, chain.chain_id, address), compiled)


class FeedStream(StreamResource):
    """``/v1/events/stream``."""

    summary: ClassVar = "All events of a chain as they are indexed"
    codes: ClassVar = (*(code for code in Feed.codes if code not in ("BLOCK_NOT_INDEXED", "REORGED")), *OWN_CODES)
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
        return [*cls.params.openapi(), *Feed.any_extras(), _HEADER], cls.answer

    def request(self, request: falcon.Request, **path: str) -> StreamRequest:
        """Read a request."""
        conditions, rest = parted(request.query_string, PREFIX)
        values = self.params.read(rest).given()
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        feed_sources(catalog, chain, values, conditions)  # refuses names that are not there
        window = self.context.settings.api_unindexed_window

        def compiled(catalog: Catalog) -> Scope:
            now = catalog.chain(str(chain.chain_id))
            parts, asked = feed_sources(catalog, now, values, conditions)
            return merged_scope(catalog, parts, now, asked, window=window)

        return self._request(request, values, ("feed", chain.chain_id, conditions), compiled)


def text_of(place: Callable[[str], StreamPosition]) -> Kind[StreamPosition]:
    """A parameter that is a place in a stream."""

    def parse(text: str) -> StreamPosition:
        try:
            return place(text)
        except CursorError as error:
            raise BadValueError(str(error), "INVALID_CURSOR") from None

    return Kind(parse, {"type": "string"})


class _AfterPoint(Parameters):
    after: Annotated[PointPlace | None, text_of(PointPlace.parse)] = Field(
        None, description="Begin behind this row: an id or a cursor of the series. Left out: with what comes next."
    )


class _AfterBalances(Parameters):
    after: Annotated[BalancesPlace | None, text_of(BalancesPlace.parse)] = Field(
        None, description="The id of the event that was heard last: nothing is told until something has changed."
    )


class CollectionPath(StreamResource):
    """A collection that is streamed by asking for its pages."""

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        return [*cls.params.openapi(), _HEADER], cls.answer

    @staticmethod
    def _asking(
        collection: Collection, query_string: str, path: Mapping[str, str], *, leaving: Sequence[str] = ()
    ) -> Callable[..., Query]:
        left = ("after", *leaving)
        kept = [pair for pair in query_string.split("&") if pair and pair.partition("=")[0] not in left]

        def ask(parameters: Mapping[str, str]) -> Query:
            return collection.query("&".join([*kept, *(urlencode([one]) for one in parameters.items())]), path)

        return ask


class SeriesStream(CollectionPath):
    """``/v1/contracts/{c}/snapshots/{series}/stream``."""

    tag: ClassVar = "snapshots"
    summary: ClassVar = "Points of a snapshot series as they are taken"
    codes: ClassVar = (
        *(code for code in SeriesRows.codes if code not in ("BLOCK_NOT_INDEXED", "REORGED")),
        *OWN_CODES,
    )
    params: ClassVar = joined("SeriesStream", common.ChainParameters, _AfterPoint, common.AddressParameters)

    def request(self, request: falcon.Request, **path: str) -> StreamRequest:
        """Read a request."""
        values = self.params.read(request.query_string).given()
        collection = SeriesRows(self.context)
        ask = self._asking(collection, request.query_string, path)
        query = ask({})
        assert isinstance(query.source, SeriesSource)
        view = Points(query.chain.chain_id, collection, ask, series_id=query.source.series_id)
        key = ("series", view.series_id, view.chain_id, path["contract"])
        return self._request(request, values, key, lambda _: view, PointPlace.parse)


class BalancesStream(CollectionPath):
    """``/v1/addresses/{address}/balances/stream``."""

    tag: ClassVar = "tokens"
    summary: ClassVar = "What an address has, whenever that changes"
    codes: ClassVar = (*(code for code in Balances.codes if code != "BLOCK_NOT_INDEXED"), *OWN_CODES)
    params: ClassVar = joined("BalancesStream", common.ChainParameters, _AfterBalances, AssetParameters)

    def request(self, request: falcon.Request, **path: str) -> StreamRequest:
        """Read a request."""
        values = self.params.read(request.query_string).given()
        collection = Balances(self.context)
        ask = self._asking(collection, request.query_string, path)
        view = AddressBalances(ask({}).chain.chain_id, collection, ask)
        key = ("balances", view.chain_id, self.address(path["address"]))
        return self._request(request, values, key, lambda _: view, BalancesPlace.parse)


@lru_cache(maxsize=1000)
def event_parameters(columns: Columns) -> type[Parameters]:
    """The parameters of a stream of an event with such arguments."""
    return joined("EventStream", _EventStreamParameters, extras=Events.extras(columns))


def _last_event_id(request: falcon.Request, parse: Callable[[str], StreamPosition]) -> StreamPosition | None:
    text = request.get_header(_LAST_EVENT_ID)
    if not text:
        return None
    try:
        return parse(text)
    except CursorError as error:
        raise ApiError.invalid([Problem(_LAST_EVENT_ID, str(error), "INVALID_CURSOR")]) from None
