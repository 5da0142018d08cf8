"""Streams of derived rows: which table, and which of its rows."""

from typing import Annotated, Any, ClassVar

import falcon
from pydantic import Field

from api.bounded_cache import BoundedCache
from api.context import Context
from api.errors import ApiError
from api.live.derived_rows import KEPT, DerivedPlace, DerivedRowsStream
from api.parameters import Parameters, joined
from api.resources import common_parameters as common
from api.resources.derived import DerivedRows, SortParameters, table_of
from api.resources.stream import OWN_CODES, CollectionPath, text_of
from api.schemas import Schema
from api.sql import derived as sql
from api.sql.source import MAX_LIMIT
from api.values import choice


class _OrderParameters(Parameters):
    order: Annotated[str, choice("asc", "desc")] = Field(DerivedRows.first, description=DerivedRows.ordered_by)


class _AfterParameters(Parameters):
    after: Annotated[DerivedPlace | None, text_of(DerivedPlace.parse)] = Field(
        None, description="The id of the event that was heard last: what has changed since is told."
    )


class DerivedStream(CollectionPath):
    """``/v1/derived/{table}/stream``."""

    tag: ClassVar = "derived"
    summary: ClassVar = "Rows of a derived table, whenever they change"
    answer: ClassVar[Schema] = {
        "type": "string",
        "description": "Server-sent events: `derived` (`data`: rows that are new or changed; `gone`: keys of those "
        "that the page has no more; `reset`: forget what was told before; `all`: whether there are no more rows) "
        "and `status`. Each has an `id` to come back with.",
    }
    codes: ClassVar = (*(code for code in DerivedRows.codes if code != "BLOCK_NOT_INDEXED"), *OWN_CODES)
    params: ClassVar = joined(
        "DerivedStream",
        common.ChainParameters,
        _AfterParameters,
        SortParameters,
        _OrderParameters,
        extras=[common.page_limit("Rows", MAX_LIMIT, MAX_LIMIT)],
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._told: BoundedCache[Any, Any] = BoundedCache(KEPT)

    @classmethod
    def described(cls) -> tuple[list[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        parameters, answer = super().described()
        return [*parameters, sql.ANY_FILTERS], answer

    def request(self, request: falcon.Request, **path: str) -> Any:
        """Read a request."""
        derived = table_of(self.context.catalog.current(), path["table"])
        if not derived.stored:
            raise ApiError(
                "KIND_UNSUPPORTED",
                f"{derived.name} has no stream of changes, since it is computed when it is read: aggregates, tables of "
                f"programs and rows with `stored = true` have one. {sql.instead(derived)}",
            )
        params = joined("DerivedStream", self.params, extras=list(sql.filters(derived).values()))
        values = params.read(request.query_string).given()
        collection = DerivedRows(self.context)
        ask = self._asking(collection, request.query_string, path, leaving=("limit",))
        chain_id = ask({}).chain.chain_id
        about = ("derived", derived.name, derived.generation, chain_id)
        given = repr(sorted((name, value) for name, value in values.items() if name not in ("chain", "after")))
        view = DerivedRowsStream(
            chain_id,
            collection,
            ask,
            table=derived.name,
            limit=values.get("limit", MAX_LIMIT),
            about=(*about, given),
            told=self._told,
        )
        return self._request(request, values, about, lambda _: view, DerivedPlace.parse)
