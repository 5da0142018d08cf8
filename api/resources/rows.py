"""Answering a request for rows of events, whether of one event or of many: a page, or an export."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, TypeVar

import falcon

from api import caching
from api.catalog import Catalog, Chain, Event
from api.context import Context
from api.cursors import MAX_ITEM
from api.params import Param
from api.resources import collection
from api.resources.base import send_kept
from api.resources.exporting import send_export, told_of_state
from api.resources.waiting import wait_for
from api.sql import counting, scope
from api.sql import events as sql
from api.sql.statement import Binder, Statement
from api.state import State
from api.values import words

T = TypeVar("T")

INCLUDE: Final = Param(
    "include",
    words(("token", "tx")),
    "What to add: token (symbol, name and decimals, by address), tx (the rows' transactions, by hash).",
)
INCLUDE_TOKEN: Final = Param(
    "include", words(("token",)), "What to add: token (symbol, name and decimals, by address)."
)


class RowsQuery(ABC):
    """A request for rows, read and checked.

    Args:
        catalog: what is indexed.
        chain: the chain.
        values: what :meth:`Params.read` made of the query string, and the format.

    Attributes:
        shape: all of the request that decides the texts of its statements, but for the events.
        name: of the file that an export is saved as.
    """

    shape: sql.Shape
    name: str
    #: All that decides the texts of its statements, the events too.
    _key: Hashable

    def __init__(self, catalog: Catalog, chain: Chain, values: dict[str, Any]) -> None:
        collection.check_together(values)
        self.catalog = catalog
        self.chain = chain
        self.values = values | self._cursor_values(values.get("after") or values.get("before"))
        self.explicit_end = collection.explicit_end(values)

    def _cursor_values(self, cursor: Any) -> dict[str, Any]:
        """The values that statements name ``cursor_...``; nothing where there is no cursor."""
        return collection.cursor_values(cursor)

    def _place_among_items(self) -> None:
        """Read a cursor without an item, the id of a whole log, as the place before or after all of its items."""
        if "cursor_item" in self.values and self.values["cursor_item"] is None:
            self.values["cursor_item"] = MAX_ITEM if self.shape.forward else -1

    def _shape(self, **more: Any) -> sql.Shape:
        values = self.values
        return sql.Shape(
            chain_id=self.chain.chain_id,
            given=frozenset(name for name in (*scope.BOUNDS, "address", "tx_hash") if name in values),
            order=values["order"],
            cursor=collection.cursor_side(values),
            branch=values.get("cursor_branch") is not None,
            finality=values["finality"],
            limit=values.get("limit", collection.DEFAULT_LIMIT),
            fields=values.get("fields", frozenset()),
            tokens="token" in values.get("include", ()),
            transactions="tx" in values.get("include", ()),
            count=values["count"],
            **more,
        )

    def _once(self, what: str, make: Callable[[], T]) -> T:
        """Make what depends on the request's shape alone, once for each version of the catalog."""
        return self.catalog.once((what, self._key), make)

    @abstractmethod
    def state_statement(self) -> Statement:
        """The statement of the state alone."""

    @abstractmethod
    def page_statement(self, window: int) -> Statement:
        """The statement of the page."""

    @abstractmethod
    def estimate_statement(self) -> Statement:
        """The statement of the planner's estimate of how many rows there are."""

    @abstractmethod
    def unserved(self) -> str | None:
        """The filters that no index serves, or None."""

    @abstractmethod
    def csv_names(self) -> list[str]:
        """The columns of a CSV."""

    @abstractmethod
    def export_query(self, bind: Binder, *, as_csv: bool) -> str:
        """The query of an export."""

    def check(self, state: State, window: int) -> None:
        """Refuse what the state does not allow.

        Raises:
            ApiError: BLOCK_NOT_INDEXED, REORGED, INVALID_CURSOR or QUERY_TOO_EXPENSIVE.
        """
        state.require_block(self.values.get("at_block"), "at_block")
        state.require_block(self.values.get("min_block"), "min_block")
        state.require_cursor()
        if unserved := self.unserved():
            state.require_window(window, f"no index serves {unserved}")

    def etag(self, state: State, *salt: object) -> str:
        """The entity tag of an answer in this state."""
        return state.etag(self.explicit_end, self.catalog.version, *salt)

    def cache_control(self, state: State, beside: Mapping[str, bytes] | None = None) -> str:
        """How long an answer in this state may be kept.

        Args:
            state: the state.
            beside: what goes with the rows.
        """
        settled = state.settled(self.explicit_end) and not collection.is_lacking(beside or {})
        return caching.cache_control(settled=settled, block_seconds=self.chain.block_seconds)


def addresses_rule(event: Event, chain_id: int, asked: list[bytes] | None) -> Any:
    """Which rows a filter on addresses leaves, as far as that is known without looking: all, none, or some."""
    known = event.addresses.get(chain_id)
    if asked is None or (known and known.issubset(asked)):
        return "all"
    if not asked or (known is not None and known.isdisjoint(asked)):
        return "none"
    return "some"


def answer_rows(context: Context, request: falcon.Request, response: falcon.Response, query: RowsQuery) -> None:
    """Answer in the format that the request asks for."""
    if "min_block" in query.values:
        wait_for(context, query.state_statement(), query.values)
    if query.values["format"] == "json":
        _page(context, request, response, query)
    else:
        _export(context, request, response, query)


def _export(context: Context, request: falcon.Request, response: falcon.Response, query: RowsQuery) -> None:
    as_csv = query.values["format"] == "csv"
    send_export(
        context,
        request,
        response,
        first=query.state_statement(),
        values=query.values,
        told=told_of_state(lambda state: query.check(state, context.settings.api_unindexed_window)),
        select=lambda bind: query.export_query(bind, as_csv=as_csv),
        names=query.csv_names() if as_csv else (),
        name=query.name,
    )


def _page(context: Context, request: falcon.Request, response: falcon.Response, query: RowsQuery) -> None:
    window = context.settings.api_unindexed_window
    # What tokens say is not versioned, nor when transactions come: with them, the tag is known with the answer only.
    if request.get_header("If-None-Match") and not (query.shape.tokens or query.shape.transactions):
        state = State.read(_one(context, query.state_statement(), query)[0] or b"")
        query.check(state, window)
        etag = query.etag(state)
        if caching.not_modified(request, etag):
            caching.answer_not_modified(response, etag, query.cache_control(state))
            return
    raw, rows, branches, tokens, counted, transactions = _one(context, query.page_statement(window), query)
    state = State.read(raw or b"")
    query.check(state, window)
    shape = query.shape
    page = collection.Page(rows, shape.limit, shape.cursor, branches)
    beside = collection.beside(
        tokens=context.tokens.beside(query.chain.chain_id, tokens) if shape.tokens else None,
        transactions=(transactions or b"{}") if shape.transactions else None,
    )
    count = counting.told(counted, shape.count, lambda: _one(context, query.estimate_statement(), query)[0])
    body = collection.body(page, shape.limit, state.meta(query.chain.chain_id), count=count, beside=beside)
    collection.link_next(request, response, page.next)
    etag = query.etag(state, *beside.values())
    send_kept(request, response, body, etag, query.cache_control(state, beside))


def _one(context: Context, statement: Statement, query: RowsQuery) -> tuple[bytes | None, ...]:
    return context.database.query(statement.text, statement.values(query.values))[0]
