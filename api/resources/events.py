"""Rows of one event, and one row alone."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import falcon

from api import arguments, caching
from api.catalog import Catalog, Chain, Event, Series
from api.cursors import CursorError, Position
from api.errors import ApiError, Problem
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource, send_kept
from api.resources.rows import INCLUDE, RowsQuery, addresses_rule, answer_rows
from api.schemas import ADDRESS, BLOCK, FINALITY, HASH, TIME, Schema, an_array, an_object, column_schema, nullable, ref
from api.sql import events as sql
from api.sql import exports
from api.sql.statement import Binder, Statement
from api.state import State


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


#: What goes with rows beside them, as the document tells it.
BESIDE: Final[dict[str, Schema]] = {
    "tokens": {
        "type": "object",
        "additionalProperties": ref("Token"),
        "description": "By address, with include=token.",
    },
    "transactions": {
        "type": "object",
        "additionalProperties": nullable(ref("Transaction")),
        "description": "By hash, with include=tx; null where the manifest does not ask for it, it is not fetched yet, "
        "or no node gives it.",
    },
}


def fixed_members() -> dict[str, Schema]:
    """What the rows of all events have."""
    return {
        "id": {"type": "string"},
        "block_number": BLOCK,
        "block_time": TIME,
        "tx_hash": HASH,
        "tx_index": {"type": "integer", "minimum": 0},
        "log_index": {"type": "integer", "minimum": 0},
        "address": ADDRESS,
        "finality": FINALITY,
    }


def row_schema(event: Event) -> Schema:
    """What a row looks like; the parameter ``fields`` may leave out any member."""
    arguments_schema = {column.argument: column_schema(column) for column in event.columns}
    return an_object({**fixed_members(), "args": an_object(arguments_schema, required=())}, required=())


class EventQuery(RowsQuery):
    """A request for rows of one event.

    Args:
        catalog: what is indexed.
        event: the event.
        chain: the chain.
        values: what :meth:`Params.read` made of the query string, and the format.
        address: the address that the path names, if it names one.
    """

    def __init__(
        self, catalog: Catalog, event: Event, chain: Chain, values: dict[str, Any], address: bytes | None
    ) -> None:
        if address is not None:
            values["address"] = collection.narrowed(values.get("address"), address)
        super().__init__(catalog, chain, values)
        known = catalog.once(("filters", event.event_id), lambda: arguments.filters(event.columns))
        self.event = event
        self.filters = [known[name][0] for name in values if name in known]
        self.name = f"{event.contract}-{event.api_name}"
        self.shape = self._shape(
            addresses=addresses_rule(event, chain.chain_id, values.get("address")),
            filters=frozenset(f.name for f in self.filters),
        )
        self._key = (event.event_id, self.shape)

    def state_statement(self) -> Statement:
        """The statement of the state alone."""
        return self._once("state", lambda: sql.state_only(self.event, self.shape))

    def page_statement(self, window: int) -> Statement:
        """The statement of the page."""
        return self._once("page", lambda: sql.page(self.event, self.shape, self.filters, window))

    def estimate_statement(self) -> Statement:
        """The statement of the planner's estimate of how many rows there are."""
        return sql.estimate(self.event, self.shape, self.filters)

    def unserved(self) -> str | None:
        """The filters that no index serves, or None."""
        if not self._once("gated", lambda: sql.is_gated(self.event, self.shape, self.filters)):
            return None
        return " with ".join([f.name for f in self.filters] + [n for n in ("tx_hash", "address") if n in self.values])

    def csv_names(self) -> list[str]:
        """The columns of a CSV."""
        return list(exports.csv_columns(self.event, self.shape.fields))

    def export_query(self, bind: Binder, *, as_csv: bool) -> str:
        """The query of an export."""
        limit = self.values.get("limit")
        return exports.event_rows(self.event, self.shape, self.filters, bind, limit=limit, as_csv=as_csv)


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
        members = {"data": an_array(row_schema(event)), "page": ref("Page"), "meta": ref("Meta"), **BESIDE}
        return event_params(catalog, event).all, an_object(members, required=("data", "page", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        catalog, contract, event = self.event(path["contract"], path["event"])
        values = event_params(catalog, event).read(request.query_string)
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        values["format"] = self.format(request, values.get("format"))
        answer_rows(self.context, request, response, EventQuery(catalog, event, chain, values, contract.address))


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
        members = {"data": row_schema(event), "meta": ref("Meta"), **BESIDE}
        return cls.params.all, an_object(members, required=("data", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the row."""
        catalog, contract, event = self.event(path["contract"], path["event"])
        values = self.params.read(request.query_string)
        self.format(request)
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        position = _id_of_row(path["id"])
        values |= {"from_block": position.block, "to_block": position.block, "log": position.log}
        values["only"] = contract.address
        address, include = contract.address is not None, values.get("include", frozenset())
        statement = catalog.once(
            ("row", event.event_id, chain.chain_id, include, address),
            lambda: sql.one(
                event, chain.chain_id, tokens="token" in include, transactions="tx" in include, address=address
            ),
        )
        raw, row, told, transactions = self.context.database.query(statement.text, statement.values(values))[0]
        state = State.read(raw or b"")
        if row is None:
            where = f"{event.contract}.{event.api_name} has no row {position.id}"
            is_known = state.complete and state.has_come_to(position.block)
            raise ApiError("NOT_FOUND", where if is_known else f"{where}: its block is not indexed yet")
        beside = collection.beside(
            tokens=self.context.tokens.beside(chain.chain_id, told) if "token" in include else None,
            transactions=transactions if "tx" in include else None,
        )
        body = collection.row_body(row, chain.chain_id, state, beside)
        control = caching.cache_control(
            settled=state.settled(True) and not collection.is_lacking(beside), block_seconds=chain.block_seconds
        )
        send_kept(request, response, body, state.etag(True, catalog.version, *beside.values()), control)


def _id_of_row(text: str) -> Position:
    """The id in a path. One with an item is a transfer's, or a place in the feed: no row of an event has it.

    Raises:
        ApiError: INVALID_PARAMETER.
    """
    try:
        position = Position.parse_id(text)
        if position.item is not None:
            raise CursorError(f"must be a row's id without an item, such as {position.block}-{position.log}")
    except CursorError as error:
        raise ApiError.invalid([Problem("id", str(error))]) from None
    return position
