"""Collections: one description of a kind of rows, from which its pages, counts, exports and OpenAPI document follow.

A collection is a :class:`Collection`: what it is called, which parameters it has of its own, and which
:class:`~api.sql.source.Source` a request reads. Everything else is here.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import quote

import falcon
import orjson
from pydantic import Field, create_model

from api import caching
from api.caching import accepts_gzip
from api.catalog import Chain
from api.export import CSV_OPTIONS, NDJSON_OPTIONS, Export, csv_head, require_parquet
from api.live.waits import Awaited
from api.parameters import Parameters, joined
from api.resources import common_parameters as common
from api.resources import row_page
from api.resources.base import MEDIA_TYPES, Columns, Resource, body_tag, send_kept
from api.resources.row_page import DEFAULT_LIMIT, Query
from api.schemas import INCLUDED, Schema, an_array, an_object, ref
from api.sql import query_shape, source
from api.sql.members import Member, field_names, row_schema
from api.sql.query_shape import RowOrder
from api.sql.source import ANY_WINDOW, MAX_LIMIT, Source
from api.sql.statement import Inline, Statement
from api.state import State
from api.values import choice

T = TypeVar("T")


class Collection(Resource):
    """A kind of rows.

    A subclass says what it is by the class variables, and by :meth:`query` where a request's rows are. Its
    parameters are those that all collections have, and those of :attr:`filters`.
    """

    conditional: ClassVar = True
    #: Where its rows are, where that is the same for all requests.
    rows: ClassVar[Source | None] = None
    #: The order and the members of its rows, where they are the same for all requests.
    order: ClassVar[RowOrder]
    members: ClassVar[Sequence[Member]] = ()
    #: What ``fields`` may name, where the members differ.
    fields: ClassVar[Sequence[str]] = ()
    formats: ClassVar[Sequence[str]] = ("json", "csv", "ndjson", "parquet")
    #: Models of the parameters that are its own: each name is a bound, or a filter that the source knows.
    filters: ClassVar[Sequence[type[Parameters]]] = ()
    #: Model of what bounds the answer by the chain's state; None: rows are of no blocks.
    freshness: ClassVar[type[Parameters] | None] = common.FreshnessParameters
    #: What can be added to a page.
    include: ClassVar[Sequence[str]] = ()
    #: The order where the request says none, and what it is by.
    first: ClassVar[str] = "desc"
    ordered_by: ClassVar[str] = "Oldest or newest first."
    #: What a page is made of, and how many where the request says nothing.
    unit: ClassVar[str] = "Rows"
    page_limit: ClassVar[int] = DEFAULT_LIMIT
    counting: ClassVar[type[Parameters]] = common.CountParameters
    #: How long an answer may be kept whose rows are of no blocks.
    kept: ClassVar[str] = "no-store"
    #: Seconds for which Redis keeps a page under the versions it was made from; 0: each is read anew.
    kept_seconds: ClassVar[int] = 0
    #: What ``meta`` does not have.
    unsaid: ClassVar[frozenset[str]] = frozenset()

    # -- what a collection says ---------------------------------------------------------------------------------------

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request: by default, of the chain's rows in :attr:`rows`.

        Args:
            text: its query string.
            path: the names in its path.

        Raises:
            ApiError: it is wrong, or names what is not there.
        """
        assert self.rows is not None
        values = self.params.read(text).given()
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        return Query(catalog, chain, values, self.rows, name=type(self).__name__.lower(), limit=self.page_limit)

    def check(self, query: Query, state: State) -> None:
        """Refuse what the state does not allow.

        Raises:
            ApiError: BLOCK_NOT_INDEXED, REORGED, INVALID_CURSOR or QUERY_TOO_EXPENSIVE.
        """
        state.require_block(query.values.get("at_block"), "at_block")
        state.require_block(query.values.get("min_block"), "min_block")
        state.require_cursor()
        if unserved := query.unserved():
            state.require_window(self.context.settings.api_unindexed_window, f"no index serves {unserved}")

    @classmethod
    def members_of(cls, columns: Columns) -> Sequence[Member]:
        """The members of a row of the event or the series that has such columns, where the path names one."""
        return cls.members

    @classmethod
    def any_extras(cls) -> Sequence[Schema]:
        """The parameter objects for what depends on the event that the path names, of whichever it is."""
        return ()

    # -- what follows from it -----------------------------------------------------------------------------------------

    params: ClassVar[type[Parameters]] = Parameters

    def __init_subclass__(cls) -> None:
        if cls.rows is not None:
            cls.order, cls.members = cls.rows.order, cls.rows.members
        if cls.members:
            cls.fields = field_names(cls.members)
        if hasattr(cls, "order"):
            cls.params = cls._common_parameters()
        if cls.fields:
            cls.params = joined(cls.__name__, cls.params, extras=[common.chosen_fields(cls.fields)])

    @classmethod
    def _common_parameters(cls) -> type[Parameters]:
        """The model of the parameters that do not depend on the members of rows."""
        order, unit = cls.order, cls.unit
        beyond = f"in the answer's order: {order.written}."
        paging = (
            common.page_limit(unit, MAX_LIMIT, cls.page_limit),
            common.CollectionParameter("after", order.cursor, f"{unit} that follow this one {beyond}"),
            common.CollectionParameter("before", order.cursor, f"{unit} just before this one {beyond}"),
        )
        direction = Annotated[str, choice("asc", "desc")]
        order_field: dict[str, Any] = {"order": (direction, Field(cls.first, description=cls.ordered_by))}
        sorting = create_model("Sorting", __base__=Parameters, **order_field)
        included = [common.included(cls.include)] if cls.include else []
        return joined(
            cls.__name__,
            common.ChainParameters,
            joined("Paging", extras=paging),
            sorting,
            *cls.filters,
            *((cls.freshness,) if cls.freshness else ()),
            joined("Answer", extras=[*included, common.answer_format(cls.formats)]),
            cls.counting,
        )

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        members = {
            "data": an_array(row_schema(cls.members_of(()))),
            "page": ref("Page"),
            "meta": ref("Meta"),
            **included_schemas(cls.include),
        }
        answer = an_object(members, required=("data", "page", "meta"))
        return [*cls.params.openapi(), *cls.any_extras()], answer

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        query = self.query(request.query_string, path)
        form = query.values["format"] = self.format(request, query.values.get("format"))
        common.check_together(query.values)
        if form != "json":
            self._export(request, response, query)
            return
        query.values["window"] = self.context.settings.api_unindexed_window
        if self.freshness is None:
            self._plain_page(request, response, query)
        else:
            self._page(request, response, query)

    def awaited(self, text: str, path: Mapping[str, str]) -> Awaited | None:
        """What a request waits for, if it does; the event loop waits, and then the request is read.

        Args:
            text: its query string.
            path: the names in its path.

        Raises:
            ApiError: as :meth:`query`.
        """
        query = self.query(text, path)
        block, seconds = query.values.get("min_block"), query.values.get("wait")
        if block is None or not seconds:
            return None
        statement = query.state_statement()
        return Awaited(
            chain_id=query.chain.chain_id,
            block=block,
            seconds=seconds,
            block_seconds=query.chain.block_seconds,
            look=lambda: State.read(self._one(statement, query)[0] or b""),
        )

    def page(self, query: Query) -> tuple[State | None, row_page.Page, bytes, dict[str, bytes]]:
        """A page: its state, its rows, the answer up to ``meta``, and what goes with the rows, all of one snapshot.

        Raises:
            ApiError: as :meth:`check`.
        """
        raw, rows, branches, tokens, counted, transactions = self._one(query.page_statement(), query)
        state = None if raw is None else State.read(raw)
        if state is not None:
            self.check(query, state)
        shape = query.shape
        page = row_page.Page(rows, self.page_length(rows, query.limit), shape.cursor, branches)
        included: dict[str, bytes] = {}
        if shape.tokens:
            included["tokens"] = self.context.tokens.of_addresses(shape.chain_id, tokens)
        if shape.transactions:
            included["transactions"] = transactions or b"{}"
        count = query_shape.count_members(counted, shape.count, lambda: self._estimate(query))
        return state, page, row_page.page_text(page, query.limit, count), included

    def page_length(self, rows: bytes | None, limit: int) -> int:
        """How many rows a page has at most.

        Args:
            rows: the text of the page, one row more than it has if there are more.
            limit: what the request wants.
        """
        return limit

    def meta(self, state: State, chain: Chain) -> dict[str, Any]:
        """The member ``meta`` of an answer."""
        return {name: value for name, value in state.meta(chain.chain_id).items() if name not in self.unsaid}

    def _plain_page(self, request: falcon.Request, response: falcon.Response, query: Query) -> None:
        _, page, begun, included = self.page(query)
        body = row_page.body(begun, {"chain_id": query.chain.chain_id}, included)
        row_page.link_next(request, response, page.next)
        send_kept(request, response, body, body_tag(body), self.kept)

    def _page(self, request: falcon.Request, response: falcon.Response, query: Query) -> None:
        # Neither what tokens say is versioned nor when transactions come: the tag is known with the answer only.
        is_versioned = not (query.shape.tokens or query.shape.transactions)
        key = ""
        if is_versioned and (self.kept_seconds or request.get_header("If-None-Match")):
            state = State.read(self._one(query.state_statement(), query)[0] or b"")
            self.check(query, state)
            etag = query.etag(state)
            if caching.not_modified(request, etag):
                caching.answer_not_modified(response, etag, query.cache_control(state))
                return
            key = self._key(query, etag)
            if key and (kept := self.context.cache.get_many([key]).get(key)) is not None:
                # `meta` is of now.
                body = row_page.body(kept, self.meta(state, query.chain))
                row_page.link_next(request, response, orjson.loads(kept + b"}")["page"]["next"])
                send_kept(request, response, body, etag, query.cache_control(state))
                return
        found, page, begun, included = self.page(query)
        assert found is not None
        body = row_page.body(begun, self.meta(found, query.chain), included)
        etag = query.etag(found, *included.values())
        if key and key == self._key(query, etag):
            self.context.cache.set_many({key: begun}, self.kept_seconds)
        row_page.link_next(request, response, page.next)
        send_kept(request, response, body, etag, query.cache_control(found, included))

    def is_kept(self, query: Query) -> bool:
        """Whether Redis keeps a page: only where few others are like it, since each takes room of its own."""
        shape = query.shape
        return not (shape.given or shape.fields or shape.count != "none" or query.is_limited)

    def _key(self, query: Query, etag: str) -> str:
        """The key under which Redis keeps a page; empty if it keeps none. Nothing in it is what a client wrote."""
        if not self.kept_seconds or not self.is_kept(query):
            return ""
        shape = query.shape
        parts = (etag, shape.chain_id, query.source.key, shape.order, shape.finality)
        return f"gapless:api:{self.unit.lower()}:{blake2b(repr(parts).encode(), digest_size=16).hexdigest()}"

    def _export(self, request: falcon.Request, response: falcon.Response, query: Query) -> None:
        """Make an export the response: the state first, then the rows, on one snapshot of the database."""
        rows, shape, ending = query.source, query.shape, query.values["format"]
        context, first, is_csv = self.context, query.state_statement(), ending == "csv"
        client = request.context.get("client")
        export = Export(context.exports, context.export_slots, first.text, first.values(query.values), client)
        try:
            if export.state and export.state[0] is not None:
                state = State.read(export.state[0])
                self.check(query, state)
                said = {name: value for name, value in state.headers().items() if name not in self.unsaid}
                response.set_headers(said)
            is_parquet = ending == "parquet"
            if is_parquet:
                require_parquet()
            gzip = not is_parquet and accepts_gzip(request.get_header("Accept-Encoding"))
            response.content_type = MEDIA_TYPES[ending] + ("; charset=utf-8" if is_csv else "")
            response.set_header("Cache-Control", "no-store")
            name = quote(query.name, safe="~-")
            response.set_header("Content-Disposition", f'attachment; filename="{name}.{ending}"')
            if gzip:
                response.set_header("Content-Encoding", "gzip")
            if request.method == "HEAD":
                export.close()
                response.stream = ()  # without one, the answer would say that the export has 0 bytes
                return
            bind = Inline(query.values, export.literal)
            text = source.export_query(rows, shape, bind, limited=query.is_limited, as_csv=is_csv or is_parquet)
            if is_parquet:
                export.start_parquet(text, source.csv_schemas(rows, shape))
                response.stream = export
                return
            head = csv_head(source.csv_names(rows, shape)) if is_csv else b""
            export.start(text, options=CSV_OPTIONS if is_csv else NDJSON_OPTIONS, head=head, gzip=gzip)
        except BaseException:
            export.close()
            raise
        response.stream = export

    def _estimate(self, query: Query) -> bytes | None:
        statement = source.estimate_statement(query.source, query.shape)
        values = {**query.values, "window": ANY_WINDOW}
        return self.context.database.query(statement.text, statement.values(values))[0][0]

    def _one(self, statement: Statement, query: Query) -> tuple[bytes | None, ...]:
        return self.context.database.query(statement.text, statement.values(query.values))[0]


def included_schemas(names: Iterable[str]) -> dict[str, Schema]:
    """What goes with rows, as the document tells it."""
    members = {"token": "tokens", "tx": "transactions"}
    return {members[name]: INCLUDED[members[name]] for name in names}
