"""Snapshots: series of multicall reads."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import falcon

from api import caching
from api.catalog import Catalog, Contract, Event, Series
from api.cursors import HASH_BYTES
from api.database import Row
from api.errors import ApiError
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource, send_json, send_kept
from api.resources.events import BESIDE
from api.resources.exporting import send_export
from api.resources.rows import INCLUDE_TOKEN
from api.resources.waiting import wait_for
from api.schemas import (
    ADDRESS,
    BLOCK,
    FINALITY,
    TIME,
    Schema,
    an_array,
    an_object,
    column_schema,
    nullable,
    ref,
)
from api.sql import counting, scope
from api.sql import series as sql
from api.sql.statement import Statement
from api.state import State
from api.values import MAX_BLOCK, BadValueError, Kind

_CURSOR: Final = re.compile(
    rf"(0|[1-9][0-9]{{0,18}})-0x([0-9a-f]{{40}})-(0|[1-9][0-9]{{0,8}})(?:\.([0-9a-f]{{{2 * HASH_BYTES}}}))?"
)


def _parse_cursor(text: str) -> dict[str, Any]:
    match = _CURSOR.fullmatch(text)
    if not match or int(match[1]) > MAX_BLOCK:
        raise BadValueError("must be a row's id, or page.next or page.prev as they were given", "INVALID_CURSOR")
    return {
        "cursor_block": int(match[1]),
        "cursor_address": bytes.fromhex(match[2]),
        "cursor_item": int(match[3]),
        "cursor_branch": bytes.fromhex(match[4]) if match[4] else None,
    }


_POSITION: Final = Kind(_parse_cursor, {"type": "string"})
AFTER: Final = Param("after", _POSITION, collection.AFTER.description)
BEFORE: Final = Param("before", _POSITION, collection.BEFORE.description)


_SERIES: Final = an_object(
    {
        "name": {"type": "string"},
        "calls": an_array({"type": "string"}),
        "every": {"type": "string"},
        "active": {"type": "boolean"},
        "values": an_array(
            an_object({"name": {"type": "string"}, "type": {"type": "string"}, "column": {"type": "string"}})
        ),
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
    }
)


class SeriesList(Resource):
    """``/v1/contracts/{c}/snapshots``: the series of a contract."""

    summary: ClassVar = "The snapshot series of a contract"
    tag: ClassVar = "snapshots"
    codes: ClassVar = ("INVALID_ADDRESS", "CONTRACT_NOT_FOUND", "AMBIGUOUS_CONTRACT")
    answer: ClassVar = an_object({"data": an_array(_SERIES)})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the list."""
        self.params.read(request.query_string)
        self.format(request)
        _, found = self.contract(path["contract"])
        send_json(
            response,
            {"data": [describe(series) for series in found.contract.series.values()]},
            cache_control="public, max-age=2",
        )


class SeriesRows(Resource):
    """``/v1/contracts/{c}/snapshots/{series}``: the rows of a series."""

    summary: ClassVar[str] = "The rows of a snapshot series"
    tag: ClassVar = "snapshots"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CONTRACT_NOT_FOUND",
        "AMBIGUOUS_CONTRACT",
        "NOT_FOUND",
        "BLOCK_NOT_INDEXED",
        "REORGED",
    )
    conditional: ClassVar = True

    params: ClassVar = Params(
        (
            collection.CHAIN,
            collection.LIMIT,
            AFTER,
            BEFORE,
            collection.ORDER,
            *collection.BOUNDS,
            collection.ADDRESS_LIST,
            *collection.FRESHNESS,
            INCLUDE_TOKEN,
            collection.fields(sql.FIELDS),
            collection.COUNT,
            collection.FORMAT,
        )
    )
    latest: ClassVar = False
    formats: ClassVar = ("json", "csv", "ndjson")

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        assert series is not None
        values = {column.argument: nullable(column_schema(column)) for column in series.columns}
        # `fields` may leave out any member.
        row = an_object(
            {
                "id": {"type": "string"},
                "block_number": BLOCK,
                "block_time": TIME,
                "address": ADDRESS,
                "item": {"type": "integer", "description": "Place in the list of arguments."},
                "finality": FINALITY,
                "arguments": nullable({"type": "object"}),
                "values": an_object(values),
                "failures": nullable({"type": "object", "description": "Why a value is null, by call."}),
            },
            required=(),
        )
        members = {"data": an_array(row), "page": ref("Page"), "meta": ref("Meta"), "tokens": BESIDE["tokens"]}
        return cls.params.all, an_object(members, required=("data", "page", "meta"))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page."""
        catalog, found = self.contract(path["contract"])
        series = _series(found.contract, path["series"])
        values = self.params.read(request.query_string)
        form = self.format(request, values.get("format"))
        chain = catalog.chain(values.get("chain"), found.contract.deployments)
        collection.check_together({**values, "format": form})
        cursor = values.get("after") or values.get("before") or {}
        if found.address is not None:
            values["address"] = collection.narrowed(values.get("address"), found.address)
        shape = sql.Shape(
            chain_id=chain.chain_id,
            given=frozenset(name for name in (*scope.BOUNDS, "address") if name in values),
            order=values.get("order", "asc"),
            cursor=collection.cursor_side(values),
            branch=cursor.get("cursor_branch") is not None,
            finality=values["finality"],
            limit=values.get("limit", collection.DEFAULT_LIMIT),
            fields=values.get("fields", frozenset()),
            latest=self.latest,
            tokens="token" in values.get("include", ()),
            count=values["count"],
        )
        values = {**values, **cursor, "format": form}
        if "min_block" in values:
            wait_for(self.context, sql.state_only(series, shape), values)
        if form != "json":
            self._export(request, response, series, shape, values)
            return
        statement = catalog.once(("series", series.series_id, shape), lambda: sql.page(series, shape))
        raw, rows, branches, tokens, counted = self._one(statement, values)
        state = State.read(raw or b"")
        _check(state, values)
        page = collection.Page(rows, shape.limit, shape.cursor, branches)
        count = counting.told(counted, shape.count, lambda: self._one(sql.estimate(series, shape), values)[0])
        beside = collection.beside(tokens=self.context.tokens.beside(chain.chain_id, tokens) if shape.tokens else None)
        body = collection.body(page, shape.limit, _meta(state, chain.chain_id), count=count, beside=beside)
        collection.link_next(request, response, page.next)
        control = caching.cache_control(settled=False, block_seconds=chain.block_seconds)
        send_kept(request, response, body, state.etag(False, catalog.version, *beside.values()), control)

    def _one(self, statement: Statement, values: dict[str, Any]) -> Row:
        return self.context.database.query(statement.text, statement.values(values))[0]

    def _export(
        self,
        request: falcon.Request,
        response: falcon.Response,
        series: Series,
        shape: sql.Shape,
        values: dict[str, Any],
    ) -> None:
        as_csv = values["format"] == "csv"

        def told(row: Row) -> dict[str, str]:
            state = State.read(row[0] or b"")
            _check(state, values)
            return {"X-Indexed-Block": "" if state.indexed is None else str(state.indexed)}

        send_export(
            self.context,
            request,
            response,
            first=sql.state_only(series, shape),
            values=values,
            told=told,
            select=lambda bind: sql.export(series, shape, bind, limit=values.get("limit"), as_csv=as_csv),
            names=list(sql.csv_columns(series, shape.fields)),
            name=f"{series.contract}-{series.name}" + ("-latest" if self.latest else ""),
        )


class SeriesLatest(SeriesRows):
    """``/v1/contracts/{c}/snapshots/{series}/latest``: the newest point, or the last one up to ``at_block``."""

    summary: ClassVar = "The newest point of a snapshot series"

    params: ClassVar = Params(
        (
            collection.CHAIN,
            collection.LIMIT,
            AFTER,
            BEFORE,
            Param("order", collection.ORDER.kind, "By address.", default="asc"),
            collection.ADDRESS_LIST,
            *collection.FRESHNESS,
            INCLUDE_TOKEN,
            collection.fields(sql.FIELDS),
            collection.COUNT,
            collection.FORMAT,
        )
    )
    latest: ClassVar = True


def describe(series: Series) -> dict[str, Any]:
    """A series for a list."""
    link = f"/v1/contracts/{series.contract}/snapshots/{series.name}"
    return {
        "name": series.name,
        "calls": series.calls,
        "every": series.every,
        "active": series.active,
        "values": [{"name": c.argument, "type": c.abi_type, "column": c.name} for c in series.columns],
        "links": {"rows": link, "latest": f"{link}/latest"},
    }


def _check(state: State, values: dict[str, Any]) -> None:
    state.require_block(values.get("at_block"), "at_block")
    state.require_block(values.get("min_block"), "min_block")
    state.require_cursor()


def _series(contract: Contract, name: str) -> Series:
    if series := contract.series.get(name):
        return series
    names = ", ".join(contract.series) or "none"
    raise ApiError("NOT_FOUND", f"{contract.name} has no snapshot {name!r}; there is {names}")


def _meta(state: State, chain_id: int) -> dict[str, Any]:
    # A series has points, not coverage: what is missing between them is by design.
    meta = state.meta(chain_id)
    return {name: value for name, value in meta.items() if name not in ("complete", "missing", "missing_ranges")}
