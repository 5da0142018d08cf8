"""A request for rows, read, and the page that answers it: from what Postgres made to the body of the answer."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import falcon
import orjson

from api import caching
from api.catalog import Catalog, Chain
from api.cursors import MAX_ITEM
from api.resources import common_parameters as common
from api.sql import source
from api.sql.query_shape import QueryShape
from api.sql.source import ANY_WINDOW, ROWS_BETWEEN, Source, page_values
from api.sql.statement import Statement
from api.state import State

T = TypeVar("T")

DEFAULT_LIMIT: Final = 100

# A query string that may stand in a header as it is: nothing in it is escaped, or would have to be.
_PLAIN_QUERY: Final = re.compile(r"[A-Za-z0-9._~=&-]*")


class Query:
    """A request for rows, read.

    Args:
        catalog: what is indexed.
        chain: the chain.
        values: those of the request's parameters.
        rows: where its rows are.
        name: of the file that an export is saved as.
        limit: rows of a page, where the request has no ``limit``.
        settles: whether an answer of final blocks only changes by a rewrite.

    Attributes:
        values: with those of the cursor and of the page: all that statements read.
        shape: of the request.
    """

    def __init__(
        self,
        catalog: Catalog,
        chain: Chain,
        values: Mapping[str, Any],
        rows: Source,
        *,
        name: str = "",
        limit: int = DEFAULT_LIMIT,
        settles: bool = True,
    ) -> None:
        self.catalog = catalog
        self.chain = chain
        self.source = rows
        self.name = name
        self.is_limited = "limit" in values
        self.limit: int = values.get("limit", limit)
        self.explicit_end = settles and common.explicit_end(values)
        cursor: Mapping[str, Any] = values.get("after") or values.get("before") or {}
        self.values: dict[str, Any] = page_values({**values, **cursor}, self.limit, ANY_WINDOW)
        include = values.get("include", ())
        self.shape = QueryShape(
            chain_id=chain.chain_id,
            given=frozenset(name for name in values if name not in _NOT_FILTERS),
            order=values["order"],
            cursor=common.cursor_side(values),
            branch=cursor.get("cursor_branch") is not None,
            finality=values.get("finality", "latest"),
            fields=values.get("fields", frozenset()),
            tokens="token" in include,
            transactions="tx" in include,
            count=values.get("count", "none"),
        )
        if self.values.get("cursor_item", 0) is None:
            # A cursor without an item is the id of a whole log: a place before or after all of its items.
            self.values["cursor_item"] = MAX_ITEM if self.shape.forward else -1

    def _once(self, what: str, make: Callable[[], T]) -> T:
        """Make what depends on the source and the shape alone, once for each version of the catalog."""
        return self.catalog.for_shape((what, self.source.key, self.shape), make)

    @cached_property
    def _page(self) -> tuple[Statement, str | None]:
        """The statement of the page, and the conditions that no index serves: one look for both."""
        rows, shape = self.source, self.shape
        return self._once("page", lambda: (source.page_statement(rows, shape), rows.unserved(shape)))

    def page_statement(self) -> Statement:
        """The statement of the page."""
        return self._page[0]

    def state_statement(self) -> Statement:
        """The statement of the state alone."""
        return self._once("state", lambda: source.state_statement(self.source, self.shape))

    def unserved(self) -> str | None:
        """The conditions that no index serves, or None."""
        return self._page[1]

    def etag(self, state: State, *salt: object) -> str:
        """The entity tag of an answer in this state."""
        return state.etag(self.explicit_end, self.catalog.version, self.source.key, *salt)

    def cache_control(self, state: State, included: Mapping[str, bytes] | None = None) -> str:
        """How long an answer in this state may be kept.

        Args:
            state: the state.
            included: what goes with the rows.
        """
        settled = state.settled(self.explicit_end) and not is_lacking(included or {})
        return caching.cache_control(settled=settled, block_seconds=self.chain.block_seconds)


#: Parameters that are no filters of rows: the shape has them otherwise, or they decide nothing about its texts.
_NOT_FILTERS: Final = frozenset(
    ("chain", "limit", "order", "finality", "min_block", "wait", "include", "fields", "count", "format", "sum")
)


class Page:
    """The rows of a page as Postgres made them: one text, a line of their positions and the JSON of each on a line.

    It is cut as a whole and copied once, into the answer: a list of its rows would cost half of all that Python does
    for a page.

    Args:
        text: the rows in the answer's order, one more than ``limit`` if there is more.
        limit: rows of a page.
        cursor: which cursor led here: ``after``, ``before`` or None.
        branches: beginnings of the hashes of unfinalised blocks, by number.
    """

    def __init__(self, text: bytes | None, limit: int, cursor: str | None, branches: bytes | None) -> None:
        text = text or b""
        begin, end = text.find(b"\n") + 1, len(text)
        positions = text[: max(begin - 1, 0)]
        self.count = positions.count(b" ") + 1 if positions else 0
        more = self.count > limit
        if more:  # by one
            self.count -= 1
            if cursor == "before":
                positions = positions.partition(b" ")[2]
                begin = text.find(b"\n", begin) + 1 or end
            else:
                positions = positions.rpartition(b" ")[0]
                end = max(text.rfind(ROWS_BETWEEN, begin), begin)
        #: The JSON of the rows with commas between them.
        self.data = memoryview(text)[begin:end]
        self._positions = positions
        known: dict[str, str] = orjson.loads(branches) if branches else {}
        self._known = known
        # The side that the cursor came from has rows: at least the cursor's own.
        onwards = more or cursor == "before"
        backwards = cursor == "after" or (more and cursor == "before")
        self.last = _cursor(positions.rpartition(b" ")[2], known) if positions else None
        self.next = self.last if onwards else None
        self.prev = _cursor(positions.partition(b" ")[0], known) if positions and backwards else None

    def each(self) -> Iterator[tuple[str, bytes]]:
        """Each row: its cursor and its JSON."""
        # Without rows the text is one empty line.
        each = zip(self._positions.split(b" "), bytes(self.data).split(ROWS_BETWEEN), strict=False)
        return ((_cursor(position, self._known), row) for position, row in each if position)

    def described(self, limit: int) -> dict[str, Any]:
        """The member ``page`` of an answer.

        ``last`` is there even where there is no next page: from it a client goes on when there is more.
        """
        return {"next": self.next, "prev": self.prev, "last": self.last, "limit": limit}


def _cursor(position: bytes, branches: Mapping[str, str]) -> str:
    text = position.decode()
    branch = branches.get(text.partition("-")[0])
    return f"{text}.{branch}" if branch else text


def page_text(page: Page, limit: int, count: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    """The answer of a page up to its member ``meta``, without its end.

    Args:
        page: its rows.
        limit: rows of a page.
        count: what :func:`api.sql.query_shape.count_members` made.
    """
    return b"".join([b'{"data":[', page.data, b'],"page":', orjson.dumps({**page.described(limit), **count})])


def body(begun: bytes, meta: Mapping[str, Any], included: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """A whole answer.

    Args:
        begun: the JSON text of its first members, without its end.
        meta: the member ``meta``.
        included: further members, as JSON texts: what the request wants with the rows.
    """
    parts = [begun, b',"meta":', orjson.dumps(meta), *(_member(name, text) for name, text in included.items()), b"}"]
    return b"".join(parts)


def _member(name: str, text: bytes) -> bytes:
    return f',"{name}":'.encode() + text


def is_lacking(included: Mapping[str, bytes]) -> bool:
    """Whether a transaction is not there that may come yet, without any version saying so."""
    transactions = orjson.loads(included.get("transactions", b"{}")).values()
    return any(one is None or not one["complete"] for one in transactions)


def link_next(request: falcon.Request, response: falcon.Response, cursor: str | None) -> None:
    """Say where the next page is (RFC 8288), relative to this one."""
    if cursor is None:
        return
    given = request.query_string
    if _PLAIN_QUERY.fullmatch(given):
        kept = [part for part in given.split("&") if part and part.partition("=")[0] not in ("after", "before")]
        query = "&".join([*kept, f"after={cursor}"])
    else:
        pairs = parse_qsl(given, keep_blank_values=True)
        kept_pairs = [(name, value) for name, value in pairs if name not in ("after", "before")]
        query = urlencode([*kept_pairs, ("after", cursor)])
    response.set_header("Link", f'<{quote(request.path)}?{query}>; rel="next"')
