"""Pages of rows: from what Postgres made to the body of an answer."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import falcon
import orjson

# A query string that may stand in a header as it is: nothing in it is escaped, or would have to be.
_PLAIN_QUERY: Final = re.compile(r"[A-Za-z0-9._~=&-]*")


class Page:
    """The rows of a page as Postgres made them: one text, a line of their positions and the JSON of each on a line.

    It is cut and joined as a whole: a list of its rows would cost half of all that Python does for a page.

    Args:
        text: the rows in the answer's order, one more than ``limit`` if there is more.
        limit: rows of a page.
        cursor: which cursor led here: ``after``, ``before`` or None.
        branches: beginnings of the hashes of unfinalised blocks, by number.
    """

    def __init__(self, text: bytes | None, limit: int, cursor: str | None, branches: bytes | None) -> None:
        first_line, _, rows = (text or b"").partition(b"\n")
        positions = first_line.split(b" ") if text else []
        more = len(positions) > limit
        if more:  # by one
            before = cursor == "before"
            positions = positions[1:] if before else positions[:-1]
            rows = rows.partition(b"\n")[2] if before else rows[: max(rows.rfind(b"\n"), 0)]
        self.data = rows.replace(b"\n", b",\n")
        self.count = len(positions)
        self._positions, self._rows = positions, rows
        known: dict[str, str] = orjson.loads(branches) if branches else {}
        self._known = known
        # The side that the cursor came from has rows: at least the cursor's own.
        onwards = more or cursor == "before"
        backwards = cursor == "after" or (more and cursor == "before")
        self.next = _cursor(positions[-1], known) if positions and onwards else None
        self.prev = _cursor(positions[0], known) if positions and backwards else None
        self.last = _cursor(positions[-1], known) if positions else None

    def each(self) -> Iterator[tuple[str, bytes]]:
        """Each row: its cursor and its JSON."""
        each = zip(self._positions, self._rows.split(b"\n"), strict=False)  # without rows the text is one empty line
        return ((_cursor(position, self._known), row) for position, row in each)

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
