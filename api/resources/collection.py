"""Parameters and pages that all collections have in common."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlencode

import falcon
import orjson

from api.cursors import Position
from api.errors import ApiError, Problem
from api.params import Param
from api.state import State
from api.values import ADDRESS, BLOCK, CURSOR, HASH, TIME, Kind, choice, integer, list_of, text, words

MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 100
MAX_WAIT: Final = 10

_limit = integer(1, MAX_LIMIT)

CHAIN: Final = Param("chain", text(100), "Name or id of the chain; needed where several are possible.")
LIMIT: Final = Param(
    "limit",
    Kind(_limit.parse, {**_limit.schema, "default": DEFAULT_LIMIT}),
    "Rows of a page. An export (CSV, NDJSON) without it has all rows.",
)
AFTER: Final = Param("after", CURSOR, "Rows that follow this one in the answer's order: an id or a cursor.")
BEFORE: Final = Param("before", CURSOR, "The rows just before this one in the answer's order: an id or a cursor.")
ORDER: Final = Param("order", choice("asc", "desc"), "Oldest or newest first.", default="desc")
FROM_BLOCK: Final = Param("from_block", BLOCK, "First block.")
TO_BLOCK: Final = Param("to_block", BLOCK, "Last block.")
FROM_TIME: Final = Param("from_time", TIME, "First moment.")
TO_TIME: Final = Param("to_time", TIME, "Last moment.")
ADDRESS_LIST: Final = Param("address", list_of(ADDRESS), "Addresses that emitted the events (comma list).")
TX_HASH: Final = Param("tx_hash", HASH, "Hash of the transaction.")
FINALITY: Final = Param(
    "finality",
    choice("latest", "safe", "finalized"),
    "Only blocks that are at least this final.",
    default="latest",
)
AT_BLOCK: Final = Param("at_block", BLOCK, "Answer as of this block; 409 if it is not indexed yet.")
MIN_BLOCK: Final = Param("min_block", BLOCK, "Answer only once this block is indexed, else 409.")
WAIT: Final = Param("wait", integer(0, MAX_WAIT), "Seconds to wait for min_block.")
COUNT: Final = Param(
    "count",
    choice("none", "estimated", "exact"),
    "Count all rows of the request: exactly, or exactly up to 10,000 and estimated above.",
    default="none",
)
FORMAT: Final = Param("format", choice("json", "csv", "ndjson"), "Instead of Accept. CSV and NDJSON are exports.")
# A query string that may stand in a header as it is: nothing in it is escaped, or would have to be.
_PLAIN_QUERY: Final = re.compile(r"[A-Za-z0-9._~=&-]*")
BOUNDS: Final = (FROM_BLOCK, TO_BLOCK, FROM_TIME, TO_TIME)
PAGING: Final = (LIMIT, AFTER, BEFORE, ORDER)
FRESHNESS: Final = (FINALITY, AT_BLOCK, MIN_BLOCK, WAIT)


def fields(names: Iterable[str]) -> Param:
    """The parameter ``fields`` for a collection whose rows can have these."""
    return Param("fields", words(tuple(names)), "Which members of a row to send (comma list).")


def check_together(values: Mapping[str, Any]) -> None:
    """Refuse parameters that contradict one another.

    Raises:
        ApiError: that lists them.
    """
    problems = []
    if "after" in values and "before" in values:
        problems.append(Problem("before", "cannot be combined with after"))
    for first, last in (("from_block", "to_block"), ("from_time", "to_time")):
        if first in values and last in values and values[first] > values[last]:
            problems.append(Problem(first, f"must not be above {last}"))
    if "wait" in values and "min_block" not in values:
        problems.append(Problem("wait", "needs min_block"))
    if values.get("format", "json") != "json":
        for name in ("before", "include"):
            if name in values:
                problems.append(Problem(name, f"cannot be combined with format={values['format']}"))
        if values.get("count", "none") != "none":
            problems.append(Problem("count", f"cannot be combined with format={values['format']}"))
    if problems:
        raise ApiError.invalid(problems)


def cursor_side(values: Mapping[str, Any]) -> Literal["after", "before"] | None:
    """Which cursor a request has, if any."""
    return "after" if "after" in values else "before" if "before" in values else None


def narrowed(asked: list[bytes] | None, address: bytes) -> list[bytes]:
    """The addresses of a request whose path names one: that one, or none where the parameter asks for others only."""
    return [address] if asked is None or address in asked else []


def explicit_end(values: Mapping[str, Any]) -> bool:
    """Whether a request says itself at which block it ends."""
    return any(name in values for name in ("to_block", "to_time", "at_block"))


class Page:
    """The rows of a page as Postgres made them: one text, each row a position, a tab and its JSON.

    Args:
        text: the rows in the answer's order, one more than ``limit`` if there is more.
        limit: rows of a page.
        cursor: which cursor led here: ``after``, ``before`` or None.
        branches: beginnings of the hashes of unfinalised blocks, by number.
    """

    def __init__(self, text: bytes | None, limit: int, cursor: str | None, branches: bytes | None) -> None:
        lines = text.split(b"\n") if text else []
        more = len(lines) > limit
        if more:
            lines = lines[1:] if cursor == "before" else lines[:limit]
        rows = [line.partition(b"\t") for line in lines]
        self.data = b",\n".join([row for _, _, row in rows])
        self.count = len(rows)
        known: dict[str, str] = orjson.loads(branches) if branches else {}
        # The side that the cursor came from has rows: at least the cursor's own.
        onwards = more or cursor == "before"
        backwards = cursor == "after" or (more and cursor == "before")
        self.next = _cursor(rows[-1][0], known) if rows and onwards else None
        self.prev = _cursor(rows[0][0], known) if rows and backwards else None
        self.last = _cursor(rows[-1][0], known) if rows else None

    def described(self, limit: int) -> dict[str, Any]:
        """The member ``page`` of an answer.

        ``last`` is there even where there is no next page: from it a client goes on when there is more.
        """
        return {"next": self.next, "prev": self.prev, "last": self.last, "limit": limit}


def _cursor(position: bytes, branches: Mapping[str, str]) -> str:
    text = position.decode()
    branch = branches.get(text.partition("-")[0])
    return f"{text}.{branch}" if branch else text


def cursor_values(cursor: Position | None) -> dict[str, Any]:
    """The values that statements name ``cursor_...``."""
    if cursor is None:
        return {}
    return {
        "cursor_block": cursor.block,
        "cursor_log": cursor.log,
        "cursor_item": cursor.item,
        "cursor_branch": cursor.branch,
    }


def body(
    page: Page,
    limit: int,
    meta: Mapping[str, Any],
    *,
    count: Mapping[str, Any] = MappingProxyType({}),
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """The answer of a page.

    Args:
        page: its rows.
        limit: rows of a page.
        meta: the member ``meta``.
        count: what :func:`api.sql.counting.told` made.
        beside: what :func:`beside` made.
    """
    parts = [
        b'{"data":[',
        page.data,
        b'],"page":',
        orjson.dumps({**page.described(limit), **count}),
        b',"meta":',
        orjson.dumps(meta),
    ]
    parts += [_member(name, text) for name, text in beside.items()]
    parts.append(b"}")
    return b"".join(parts)


def row_body(row: bytes, chain_id: int, state: State, beside: Mapping[str, bytes]) -> bytes:
    """The answer of one row."""
    parts = [b'{"data":', row, b',"meta":', orjson.dumps(state.meta(chain_id))]
    return b"".join([*parts, *(_member(name, text) for name, text in beside.items()), b"}"])


def beside(**texts: bytes | None) -> dict[str, bytes]:
    """What goes with rows beside them: those members, JSON texts, that were asked for."""
    return {name: text for name, text in texts.items() if text is not None}


def _member(name: str, text: bytes) -> bytes:
    return f',"{name}":'.encode() + text


def is_lacking(beside: Mapping[str, bytes]) -> bool:
    """Whether a transaction is not there that may come yet, without any version saying so."""
    transactions = orjson.loads(beside.get("transactions", b"{}")).values()
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
