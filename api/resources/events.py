"""Events of a contract: the list of them, their rows, one row."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import falcon
import orjson

from api import arguments, caching
from api.catalog import Catalog, Chain, Event, Series
from api.cursors import CursorError, Position
from api.errors import ApiError, Problem
from api.export import csv_head
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource, send_kept
from api.resources.exporting import send_export
from api.resources.waiting import wait_for
from api.schemas import ADDRESS, BLOCK, FINALITY, HASH, TIME, Schema, an_array, an_object, column_schema, ref
from api.sql import events as sql
from api.sql import exports, scope
from api.sql.statement import Binder, Statement
from api.state import State
from api.values import words

INCLUDE: Final = Param("include", words(("token",)), "What to add: token (symbol, name and decimals, by address).")


def event_params(catalog: Catalog, event: Event) -> Params:
    """The parameters of an event's rows: those of every collection, and its arguments."""

    def make() -> Params:
        names = [*sql.FIELDS, *(f"args.{c.argument}" for c in event.columns if "," not in c.argument)]
        return Params(
            (
                collection.CHAIN,
                *collection.PAGING,
                *collection.BOUNDS,
                collection.ADDRESS_LIST,
                collection.TX_HASH,
                *collection.FRESHNESS,
                INCLUDE,
                collection.fields(names),
                collection.COUNT,
                collection.FORMAT,
                *(param for _, param in arguments.filters(event.columns).values()),
            )
        )

    return catalog.once(("params", event.event_id), make)


_TOKENS: Final[Schema] = {
    "type": "object",
    "additionalProperties": ref("Token"),
    "description": "By address, with include=token.",
}


def row_schema(event: Event) -> Schema:
    """What a row looks like; the parameter ``fields`` may leave out any member."""
    arguments_schema = {column.argument: column_schema(column) for column in event.columns}
    members = {
        "id": {"type": "string"},
        "block_number": BLOCK,
        "block_time": TIME,
        "tx_hash": HASH,
        "tx_index": {"type": "integer", "minimum": 0},
        "log_index": {"type": "integer", "minimum": 0},
        "address": ADDRESS,
        "finality": FINALITY,
        "args": an_object(arguments_schema, required=()),
    }
    return an_object(members, required=())


class EventQuery:
    """A request for rows of an event, read and checked.

    Args:
        catalog: what is indexed.
        event: the event.
        chain: the chain.
        values: what :meth:`Params.read` made of the query string.
        address: the address that the path names, if it names one.
    """

    def __init__(
        self, catalog: Catalog, event: Event, chain: Chain, values: dict[str, Any], address: bytes | None
    ) -> None:
        collection.check_together(values)
        if address is not None:
            asked = values.get("address")
            values["address"] = [address] if asked is None or address in asked else []
        filters = catalog.once(("filters", event.event_id), lambda: arguments.filters(event.columns))
        cursor: Position | None = values.get("after") or values.get("before")
        self.catalog = catalog
        self.event = event
        self.chain = chain
        self.values = values | collection.cursor_values(cursor)
        self.filters = [filters[name][0] for name in values if name in filters]
        self.explicit_end = collection.explicit_end(values)
        self.shape = sql.Shape(
            chain_id=chain.chain_id,
            given=frozenset(name for name in (*scope.BOUNDS, "address", "tx_hash") if name in values),
            addresses=_addresses(event, chain.chain_id, values.get("address")),
            filters=frozenset(f.name for f in self.filters),
            order=values["order"],
            cursor=collection.cursor_side(values),
            branch=cursor is not None and cursor.branch is not None,
            finality=values["finality"],
            limit=values.get("limit", collection.DEFAULT_LIMIT),
            fields=values.get("fields", frozenset()),
            tokens="token" in values.get("include", ()),
            count=values["count"],
        )

    def statement(self, window: int) -> Statement:
        """The statement of the page."""
        return self.catalog.once(
            ("page", self.event.event_id, self.shape), lambda: sql.page(self.event, self.shape, self.filters, window)
        )

    def state_statement(self) -> Statement:
        """The statement of the state alone."""
        return self.catalog.once(
            ("state", self.event.event_id, self.shape), lambda: sql.state_only(self.event, self.shape)
        )

    def check(self, state: State, window: int) -> None:
        """Refuse what the state does not allow.

        Raises:
            ApiError: BLOCK_NOT_INDEXED, REORGED, INVALID_CURSOR or QUERY_TOO_EXPENSIVE.
        """
        state.require_block(self.values.get("at_block"), "at_block")
        state.require_block(self.values.get("min_block"), "min_block")
        state.require_cursor()
        if self.gated():
            names = [f.name for f in self.filters] + [n for n in ("tx_hash", "address") if n in self.shape.given]
            state.require_window(window, f"no index serves {' with '.join(names)}")

    def gated(self) -> bool:
        """Whether no index serves the filters."""
        return self.catalog.once(
            ("gated", self.event.event_id, self.shape), lambda: sql.is_gated(self.event, self.shape, self.filters)
        )

    def etag(self, state: State, *salt: object) -> str:
        """The entity tag of an answer in this state."""
        return state.etag(self.explicit_end, self.catalog.version, *salt)

    def cache_control(self, state: State) -> str:
        """How long an answer in this state may be kept."""
        return caching.cache_control(settled=state.settled(self.explicit_end), block_seconds=self.chain.block_seconds)


def _addresses(event: Event, chain_id: int, asked: list[bytes] | None) -> Any:
    """Which rows a filter on addresses leaves, as far as that is known without looking."""
    known = event.addresses.get(chain_id)
    if asked is None or (known is not None and known and known.issubset(asked)):
        return "all"
    if not asked or (known is not None and known.isdisjoint(asked)):
        return "none"
    return "some"


class Events(Resource):
    """``/v1/contracts/{c}/events/{e}``: rows of an event."""

    summary: ClassVar = "Rows of an event"
    tag: ClassVar = "events"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CONTRACT_NOT_FOUND",
        "EVENT_NOT_FOUND",
        "AMBIGUOUS_CONTRACT",
        "AMBIGUOUS_EVENT",
        "BLOCK_NOT_INDEXED",
        "REORGED",
    )
    conditional: ClassVar = True

    formats: ClassVar = ("json", "csv", "ndjson")

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        assert event is not None
        members = {"data": an_array(row_schema(event)), "page": ref("Page"), "meta": ref("Meta"), "tokens": _TOKENS}
        return event_params(catalog, event).all, an_object(members, required=("data", "page", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        catalog, contract, event = self.event(path["contract"], path["event"])
        values = event_params(catalog, event).read(request.query_string)
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        values["format"] = self.format(request, values.get("format"))
        query = EventQuery(catalog, event, chain, values, contract.address)
        if values["format"] == "json":
            self._page(request, response, query)
        else:
            self._export(request, response, query)

    def _export(self, request: falcon.Request, response: falcon.Response, query: EventQuery) -> None:
        as_csv = query.values["format"] == "csv"
        window = self.context.settings.api_unindexed_window
        state_statement = query.state_statement()
        if "min_block" in query.values:
            wait_for(self.context, state_statement, query.values)

        def select(bind: Binder) -> str:
            limit = query.values.get("limit")
            return exports.event_rows(query.event, query.shape, query.filters, bind, limit=limit, as_csv=as_csv)

        head = csv_head(exports.csv_columns(query.event, query.shape.fields)) if as_csv else b""
        name = f"{query.event.contract}-{query.event.api_name}"
        send_export(
            self.context,
            request,
            response,
            state=state_statement,
            values=query.values,
            check=lambda state: query.check(state, window),
            select=select,
            head=head,
            name=name,
        )

    def _page(self, request: falcon.Request, response: falcon.Response, query: EventQuery) -> None:
        window = self.context.settings.api_unindexed_window
        state_statement = query.state_statement()
        if "min_block" in query.values:
            wait_for(self.context, state_statement, query.values)
        # What tokens say is not versioned: with it, the tag is known with the answer only.
        if request.get_header("If-None-Match") and not query.shape.tokens:
            state = State.read(self._one(state_statement, query)[0] or b"")
            query.check(state, window)
            etag = query.etag(state)
            if caching.not_modified(request, etag):
                caching.answer_not_modified(response, etag, query.cache_control(state))
                return
        raw, rows, branches, tokens, counted = self._one(query.statement(window), query)
        state = State.read(raw or b"")
        query.check(state, window)
        shape = query.shape
        page = collection.Page(rows, shape.limit, shape.cursor, branches)
        tokens = (tokens or b"{}") if shape.tokens else None
        body = collection.body(
            page, shape.limit, query.chain.chain_id, state, count=self._count(query, counted), tokens=tokens
        )
        collection.link_next(request, response, page.next)
        etag = query.etag(state) if tokens is None else query.etag(state, tokens)
        send_kept(request, response, body, etag, query.cache_control(state))

    def _one(self, statement: Statement, query: EventQuery) -> tuple[bytes | None, ...]:
        return self.context.database.query(statement.text, statement.values(query.values))[0]

    def _count(self, query: EventQuery, counted: bytes | None) -> dict[str, Any] | None:
        if counted is None:
            return None
        count = int(counted)
        if query.shape.count == "exact" or count <= sql.COUNT_LIMIT:
            return {"count": count, "count_is": "exact"}
        estimate = sql.estimate(query.event, query.shape, query.filters)
        plan = orjson.loads(self._one(estimate, query)[0] or b"")
        return {"count": max(count, int(plan[0]["Plan"]["Plan Rows"])), "count_is": "estimated"}


class EventRow(Resource):
    """``/v1/contracts/{c}/events/{e}/{id}``: one row."""

    summary: ClassVar = "One row of an event"
    tag: ClassVar = "events"
    codes: ClassVar = (*Events.codes, "NOT_FOUND")
    conditional: ClassVar = True

    params: ClassVar = Params((collection.CHAIN, INCLUDE))

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        assert event is not None
        members = {"data": row_schema(event), "meta": ref("Meta"), "tokens": _TOKENS}
        return cls.params.all, an_object(members, required=("data", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the row."""
        catalog, contract, event = self.event(path["contract"], path["event"])
        values = self.params.read(request.query_string)
        self.format(request)
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        try:
            position = Position.parse_id(path["id"])
        except CursorError as error:
            raise ApiError.invalid([Problem("id", str(error))]) from None
        values |= {"from_block": position.block, "to_block": position.block, "log": position.log}
        values["only"] = contract.address
        tokens, address = "token" in values.get("include", ()), contract.address is not None
        statement = catalog.once(
            ("row", event.event_id, chain.chain_id, tokens, address),
            lambda: sql.one(event, chain.chain_id, tokens=tokens, address=address),
        )
        raw, row, told = self.context.database.query(statement.text, statement.values(values))[0]
        state = State.read(raw or b"")
        if row is None:
            where = f"{event.contract}.{event.api_name} has no row {position.id}"
            raise ApiError("NOT_FOUND", where if state.complete else f"{where}: its block is not indexed yet")
        parts = [b'{"data":', row, b',"meta":', orjson.dumps(state.meta(chain.chain_id))]
        if tokens:
            parts += [b',"tokens":', told or b"{}"]
        parts.append(b"}")
        etag = state.etag(True, catalog.version, told)
        control = caching.cache_control(settled=state.settled(True), block_seconds=chain.block_seconds)
        send_kept(request, response, b"".join(parts), etag, control)
