"""Events by day."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final

import falcon
import orjson

from api import arguments, caching
from api.catalog import Catalog, Event, Series
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource, send_kept
from api.resources.events import EventQuery, Events
from api.resources.exporting import send_export, told_of_state
from api.resources.waiting import wait_for
from api.schemas import DIGITS, Schema, an_array, an_object, ref
from api.sql import daily as sql
from api.state import State
from api.values import DATE, Kind, integer, words

DEFAULT_DAYS: Final = 30
#: Seconds for which a page of days is kept in Redis under the versions that it was made from.
KEPT_SECONDS: Final = 3600

_days = integer(1, collection.MAX_LIMIT)
_PAGING: Final = (
    Param("limit", Kind(_days.parse, {**_days.schema, "default": DEFAULT_DAYS}), "Days of a page."),
    Param("after", DATE, "Days that follow this one in the answer's order."),
    Param("before", DATE, "The days just before this one in the answer's order."),
    collection.ORDER,
)

_COUNT: Final = Param("count", collection.COUNT.kind, "Count all days of the request; always exact.", default="none")


def _params(catalog: Catalog, event: Event) -> Params:
    def make() -> Params:
        summable = [column.argument for column in sql.summable(event) if "," not in column.argument]
        sums = Param("sum", words(summable), "Arguments to sum up (comma list).")
        return Params(
            (
                collection.CHAIN,
                *_PAGING,
                *collection.BOUNDS,
                collection.ADDRESS_LIST,
                collection.TX_HASH,
                *collection.FRESHNESS,
                collection.fields(sql.FIELDS),
                _COUNT,
                collection.FORMAT,
                *((sums,) if summable else ()),
                *(param for _, param in arguments.filters(event.columns).values()),
            )
        )

    return catalog.once(("daily params", event.event_id), make)


class Daily(Resource):
    """``/v1/contracts/{c}/events/{e}/daily``: how many events there were each day, and sums of their arguments."""

    summary: ClassVar = "Events by day (UTC)"
    tag: ClassVar = "events"
    codes: ClassVar = tuple(code for code in Events.codes if code not in ("REORGED", "INVALID_CURSOR"))
    conditional: ClassVar = True
    formats: ClassVar = ("json", "csv", "ndjson")

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        assert event is not None
        sums = {column.argument: DIGITS for column in sql.summable(event)}
        row = an_object(
            {
                "date": {"type": "string", "format": "date"},
                "events": {"type": "integer", "minimum": 0},
                "sums": an_object(sums, required=(), description="With sum=..."),
            },
            required=(),
        )
        answer = an_object({"data": an_array(row), "page": ref("Page"), "meta": ref("Meta")})
        return _params(catalog, event).all, answer

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page of days."""
        catalog, contract, event = self.event(path["contract"], path["event"])
        values = _params(catalog, event).read(request.query_string)
        values["format"] = self.format(request, values.get("format"))
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        collection.check_together(values)
        cursor = collection.cursor_side(values)
        day = values.pop(cursor) if cursor else None
        rows = {name: value for name, value in values.items() if name not in ("count", "fields")}
        query = EventQuery(catalog, event, chain, {**rows, "count": "none"}, contract.address)
        shape = sql.Shape(
            rows=query.shape,
            sums=tuple(sorted(values.get("sum", ()))),
            order=values["order"],
            cursor=cursor,
            limit=values.get("limit", DEFAULT_DAYS if values["format"] == "json" else None),
            fields=values.get("fields", frozenset()),
        )
        if "min_block" in values:
            wait_for(self.context, query.state_statement(), query.values)
        if values["format"] != "json":
            self._export(request, response, query, shape, day)
            return
        before, known = self._state(query)
        etag = query.etag(before, known)
        control = query.cache_control(before)
        if caching.not_modified(request, etag):
            caching.answer_not_modified(response, etag, control)
            return
        # Counting reads every row of the days, so they are kept as long as nothing has changed; `meta` is of now.
        asked = (etag, chain.chain_id, event.event_id, contract.address, request.query_string)
        key = blake2b(repr(asked).encode(), digest_size=16).hexdigest()
        name = f"gapless:api:days:{key}"
        counted, state = self.context.cache.get_many([name]).get(name), before
        if counted is None:
            counted, state, known = self._counted(query, shape, day, is_counted=values["count"] != "none")
            if query.etag(state, known) == etag:
                self.context.cache.set_many({name: counted}, KEPT_SECONDS)
            etag, control = query.etag(state, known), query.cache_control(state)
        link = orjson.loads(counted + b"}")["page"]["next"]
        collection.link_next(request, response, link)
        body = b"".join([counted, b',"meta":', orjson.dumps(state.meta(chain.chain_id)), b"}"])
        send_kept(request, response, body, etag, control)

    def _export(
        self, request: falcon.Request, response: falcon.Response, query: EventQuery, shape: sql.Shape, day: str | None
    ) -> None:
        as_csv = query.values["format"] == "csv"
        send_export(
            self.context,
            request,
            response,
            first=query.state_statement(),
            values={**query.values, "cursor_day": day},
            told=told_of_state(lambda state: _check(state, query.values)),
            select=lambda bind: sql.export(query.event, shape, query.filters, bind, as_csv=as_csv),
            names=list(sql.csv_columns(query.event, shape)),
            name=f"{query.name}-daily",
        )

    def _state(self, query: EventQuery) -> tuple[State, bytes | None]:
        """The state of a request, and which days it can tell of."""
        rows = query.shape
        statement = query.catalog.once(
            ("daily state", query.event.event_id, rows), lambda: sql.state_only(query.event, rows)
        )
        raw, known = self.context.database.query(statement.text, statement.values(query.values))[0]
        state = State.read(raw or b"")
        _check(state, query.values)
        return state, known

    def _counted(
        self, query: EventQuery, shape: sql.Shape, day: str | None, *, is_counted: bool
    ) -> tuple[bytes, State, bytes | None]:
        """The answer up to its member ``meta``; the state of the same snapshot, and which days it can tell of."""
        statement = query.catalog.once(
            ("daily", query.event.event_id, shape), lambda: sql.page(query.event, shape, query.filters)
        )
        values: dict[str, Any] = {**query.values, "cursor_day": day}
        raw, known, rows, more, days = self.context.database.query(statement.text, statement.values(values))[0]
        state = State.read(raw or b"")
        lines = [line.partition(b"\t") for line in rows.split(b"\n")] if rows else []
        onwards = more == b"t" or shape.cursor == "before"
        backwards = shape.cursor == "after" or (more == b"t" and shape.cursor == "before")
        page = {
            "next": lines[-1][0].decode() if lines and onwards else None,
            "prev": lines[0][0].decode() if lines and backwards else None,
            "last": lines[-1][0].decode() if lines else None,
            "limit": shape.limit,
        }
        if is_counted:
            page |= {"count": int(days or 0), "count_is": "exact"}
        data = b",\n".join([row for _, _, row in lines])
        return b"".join([b'{"data":[', data, b'],"page":', orjson.dumps(page)]), state, known


def _check(state: State, values: Mapping[str, Any]) -> None:
    state.require_block(values.get("at_block"), "at_block")
    state.require_block(values.get("min_block"), "min_block")
