"""Rows of one event, and one row alone."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import falcon

from api import arguments
from api.cursors import CursorError, Position
from api.errors import ApiError, Problem
from api.parameters import Extra, Parameters, joined
from api.resources import common_parameters as common
from api.resources import row_page
from api.resources.base import Columns, Resource, send_kept
from api.resources.collection import Collection, included_schemas
from api.resources.row_page import Query
from api.schemas import Schema, an_object, ref
from api.sql import events as sql
from api.sql.members import Member, field_names, row_schema
from api.sql.query_shape import BY_LOG


class Events(Collection):
    """``/v1/contracts/{c}/events/{e}``: rows of an event."""

    summary: ClassVar = "Rows of an event"
    tag: ClassVar = "events"
    codes: ClassVar[Sequence[str]] = (
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
    filters: ClassVar = (common.BoundParameters, common.AddressParameters, common.TransactionParameters)
    include: ClassVar[Sequence[str]] = ("token", "tx")

    order: ClassVar = BY_LOG

    @classmethod
    def members_of(cls, columns: Columns) -> Sequence[Member]:
        """The members of a row."""
        return sql.row_members(columns)

    @classmethod
    def extras(cls, columns: Columns) -> Sequence[Extra]:
        """The parameters that depend on the arguments of an event."""
        return [common.chosen_fields(field_names(cls.members_of(columns))), *arguments.filters(columns).values()]

    @classmethod
    def any_extras(cls) -> Sequence[Schema]:
        """The parameter objects for the arguments of any event."""
        return [common.ANY_FIELDS, arguments.ANY_FILTERS]

    @classmethod
    @lru_cache(maxsize=1000)
    def event_parameters(cls, columns: Columns) -> type[Parameters]:
        """The parameters of the rows of an event with such arguments, the same model for all that have the same."""
        return joined(cls.__name__, cls.params, extras=cls.extras(columns))

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        catalog, contract, event = self.event(path["contract"], path["event"], text)
        # To look for the columns themselves would cost more than to read the parameters.
        model = catalog.once((type(self), event.event_id), lambda: self.event_parameters(event.columns))
        values = model.read(text).given()
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        if contract.address is not None:
            values["address"] = common.narrowed(values.get("address"), contract.address)
        rows = sql.event_source(catalog, event, chain.chain_id, values)
        return Query(catalog, chain, values, rows, name=f"{event.contract}-{event.api_name}")


class EventRow(Resource):
    """``/v1/contracts/{c}/events/{e}/{id}``: one row."""

    summary: ClassVar = "One row of an event"
    tag: ClassVar = "events"
    codes: ClassVar = (*Events.codes, "NOT_FOUND")
    conditional: ClassVar = True

    params: ClassVar = joined("EventRow", common.ChainParameters, extras=[common.included(Events.include)])

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        members = {"data": row_schema(sql.row_members(())), "meta": ref("Meta")}
        members |= included_schemas(Events.include)
        return cls.params.openapi(), an_object(members, required=("data", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the row."""
        catalog, contract, event = self.event(path["contract"], path["event"], request.query_string)
        given = self.params.read(request.query_string).given()
        self.format(request)
        chain = catalog.chain(given.get("chain"), contract.contract.deployments)
        position = _id_of_row(path["id"])
        values = {
            **{name: given[name] for name in ("include",) if name in given},
            **({} if contract.address is None else {"address": [contract.address]}),
            "from_block": position.block,
            "to_block": position.block,
            "after": {"cursor_block": position.block, "cursor_log": position.log - 1},
            "order": "asc",
            "limit": 1,
            "fields": frozenset(field_names(sql.row_members(event.columns))),
        }
        query = Query(catalog, chain, values, sql.event_source(catalog, event, chain.chain_id, values))
        state, page, _, included = Events(self.context).page(query)
        assert state is not None
        if page.last is None or Position.parse(page.last).log != position.log:
            missing = f"{event.contract}.{event.api_name} has no row {position.id}"
            is_known = state.complete and state.has_come_to(position.block)
            raise ApiError("NOT_FOUND", missing if is_known else f"{missing}: its block is not indexed yet")
        body = row_page.body(b'{"data":' + page.data, state.meta(chain.chain_id), included)
        etag = query.etag(state, *included.values())
        send_kept(request, response, body, etag, query.cache_control(state, included))


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
