"""Query shapes: what decides the text of a request's statements.

To a shape belong the order of a collection's rows, with the keys that sort them both ways and the cursors that name a
place there; and how many rows a request has: counted, or estimated by the planner where there are very many.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import orjson

from api.cursors import HASH_BYTES
from api.sql.statement import Binder, Statement, hexadecimal
from api.values import ADDRESS, CURSOR, DATE, MAX_BLOCK, BadValueError, Kind

Counting: TypeAlias = Literal["none", "estimated", "exact"]

#: Up to here an estimated count is exact: that costs 1 ms.
COUNT_LIMIT: Final = 10_000

KeyType: TypeAlias = Literal["bigint", "integer", "numeric", "signed numeric", "bytea", "date"]

#: How a cursor writes a key of a type in Postgres, and how that is read; ``bytea`` are addresses.
_FORMS: Final[dict[KeyType, tuple[str, Callable[[str], Any]]]] = {
    "bigint": (r"(0|[1-9][0-9]{0,18})", int),
    "integer": (r"(0|[1-9][0-9]{0,8})", int),
    "numeric": (r"(0|[1-9][0-9]{0,77})", int),
    "signed numeric": (r"(0|-?[1-9][0-9]{0,98})", int),
    "bytea": (r"0x([0-9a-f]{40})", bytes.fromhex),
    "date": (r"([0-9]{4}-[0-9]{2}-[0-9]{2})", str),
}
#: Where one key is the whole cursor, people write it themselves.
_ALONE: Final[dict[KeyType, tuple[Kind[Any], str]]] = {"bytea": (ADDRESS, "an address"), "date": (DATE, "a day")}
_BRANCH: Final = rf"(?:\.([0-9a-f]{{{2 * HASH_BYTES}}}))?"

Direction: TypeAlias = Literal["asc", "desc"]
CursorSide: TypeAlias = Literal["after", "before"]


def counted(how: Counting, found: Callable[[int | None], Iterable[str]]) -> str:
    """An expression for the number of rows; null where the request does not count.

    Args:
        how: whether to count all of them, or one more than :data:`COUNT_LIMIT` at most.
        found: the queries of the rows, each of so many at most.
    """
    if how == "none":
        return "NULL"
    most = COUNT_LIMIT + 1 if how == "estimated" else None
    return " + ".join(f"(SELECT count(*) FROM ({rows}) t)" for rows in found(most)) or "0"


def estimate(parts: Sequence[str], found: Iterable[str], bind: Binder) -> Statement:
    """What the planner believes how many rows some queries have together.

    Args:
        parts: the common table expressions that stand before them.
        found: the queries.
        bind: numbered their values.
    """
    together = " UNION ALL ".join(f"SELECT 1 FROM ({rows}) t" for rows in found)
    before = f"WITH {', '.join(parts)} " if parts else ""
    return Statement.of(f"EXPLAIN (FORMAT JSON) {before}{together}", bind)


def count_members(count: bytes | None, how: Counting, estimated: Callable[[], bytes | None]) -> dict[str, Any]:
    """The members of ``page`` that say it; none where the request does not count.

    Args:
        count: what :func:`counted` came to.
        how: as there.
        estimated: runs :func:`estimate`.
    """
    if count is None:
        return {}
    if how == "exact" or int(count) <= COUNT_LIMIT:
        return {"count": int(count), "count_is": "exact"}
    rows = orjson.loads(estimated() or b"")[0]["Plan"]["Plan Rows"]
    return {"count": max(int(count), int(rows)), "count_is": "estimated"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        column: of the rows.
        type: its type in Postgres, which says how a cursor writes it; ``signed numeric`` may be negative.
        value: name of the bound value that holds a cursor's; left out, ``cursor_`` and the column.
    """

    column: str
    type: KeyType
    value: str = ""

    @property
    def pg_type(self) -> str:
        """The type that a bound value is cast to."""
        return self.type.removeprefix("signed ")

    @property
    def bound(self) -> str:
        """Name of the value that a statement compares with."""
        return self.value or f"cursor_{self.column}"


class RowOrder:
    """Keys that no two rows share.

    Args:
        keys: the keys, the most significant first.
        branch: whether a cursor carries the beginning of its block's hash, so that a reorganisation is noticed.
        position: SQL of a row's position, where that is not its keys with dashes between them.
        cursor: how a cursor is read; left out, as the keys with dashes between them.
    """

    def __init__(
        self,
        *keys: Key,
        branch: bool = False,
        position: str | None = None,
        cursor: Kind[dict[str, Any]] | None = None,
    ) -> None:
        self.keys = keys
        self.position = position or " || '-' || ".join(map(_written, keys))
        self.cursor = cursor or _cursor(keys, branch=branch)
        #: What a cursor is, for people.
        self.written = "an id or a cursor" if cursor or branch else "a cursor"
        if len(keys) == 1 and keys[0].type in _ALONE:
            self.written = _ALONE[keys[0].type][1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys' columns."""
        return tuple(key.column for key in self.keys)

    def by(self, *, ascending: bool, alias: str = "t.") -> str:
        """An ``ORDER BY``."""
        direction = "ASC" if ascending else "DESC"
        return "ORDER BY " + ", ".join(f"{alias}{key.column} {direction}" for key in self.keys)

    def beyond(self, bind: Binder, *, forward: bool, columns: Sequence[str] | None = None) -> str:
        """The condition that rows are beyond the cursor.

        Args:
            bind: numbers the values.
            forward: whether rows are read in ascending order.
            columns: SQL of the keys, where they are not columns of ``t``.
        """
        row = ", ".join(columns or [f"t.{key.column}" for key in self.keys])
        cursor = ", ".join(bind(key.bound, key.pg_type) for key in self.keys)
        return f"({row}) {'>' if forward else '<'} ({cursor})"


def _written(key: Key) -> str:
    return hexadecimal(f"t.{key.column}") if key.type == "bytea" else f"t.{key.column}"


def _cursor(keys: Sequence[Key], *, branch: bool) -> Kind[dict[str, Any]]:
    if len(keys) == 1 and keys[0].type in _ALONE:
        only, _ = _ALONE[keys[0].type]
        return Kind(lambda text: {keys[0].bound: only.parse(text)}, only.schema)
    pattern = re.compile("-".join(_FORMS[key.type][0] for key in keys) + (_BRANCH if branch else ""))

    allowed = "a row's id, or page.next or page.prev" if branch else "page.next, page.prev or page.last"

    def parse(text: str) -> dict[str, Any]:
        match = pattern.fullmatch(text)
        parts = match.groups() if match else ()
        found = {key.bound: _FORMS[key.type][1](part) for key, part in zip(keys, parts, strict=False)}
        if match is None or any(key.type == "bigint" and found[key.bound] > MAX_BLOCK for key in keys):
            raise BadValueError(f"must be {allowed} as they were given", "INVALID_CURSOR")
        if branch:
            found["cursor_branch"] = bytes.fromhex(match[len(keys) + 1]) if match[len(keys) + 1] else None
        return found

    return Kind(parse, {"type": "string"})


def _chain_cursor(text: str) -> dict[str, Any]:
    position = CURSOR.parse(text)
    return {
        "cursor_block": position.block,
        "cursor_log": position.log,
        "cursor_item": position.item,
        "cursor_branch": position.branch,
    }


#: A cursor in a chain's order of events: a row's id, or one with the beginning of its block's hash.
CHAIN_CURSOR: Final = Kind(_chain_cursor, CURSOR.schema)
_BLOCK: Final = Key("block_number", "bigint", "cursor_block")
_LOG: Final = Key("log_index", "bigint", "cursor_log")
_ITEM: Final = Key("item", "integer", "cursor_item")
#: By block and log.
BY_LOG: Final = RowOrder(_BLOCK, _LOG, cursor=CHAIN_CURSOR)
#: By block, log, and a place within the log.
BY_ITEM: Final = RowOrder(_BLOCK, _LOG, _ITEM, cursor=CHAIN_CURSOR)
#: As before, where only the rows of batches have the item in their id.
BY_BATCH_ITEM: Final = RowOrder(
    _BLOCK,
    _LOG,
    _ITEM,
    cursor=CHAIN_CURSOR,
    position="t.block_number || '-' || t.log_index || CASE WHEN t.batch THEN '-' || t.item ELSE '' END",
)


@dataclass(frozen=True, slots=True)
class QueryShape:
    """All of a request that decides the text of its statements, but for the source of its rows.

    Numbers, names and times are bound values and no part of it: requests repeat few shapes.

    Attributes:
        chain_id: the chain.
        given: names of the bounds, cursors and filters that the request has.
        order: of the answer.
        cursor: the cursor that the request has, if any.
        branch: whether that cursor carries a branch.
        finality: which blocks count.
        fields: members of a row; empty for the usual ones.
        tokens: whether the request includes what tokens say of themselves.
        transactions: whether the request includes the rows' transactions.
        count: whether the rows are to be counted, all or up to :data:`api.sql.query_shape.COUNT_LIMIT`.
    """

    chain_id: int
    given: frozenset[str] = frozenset()
    order: Direction = "desc"
    cursor: CursorSide | None = None
    branch: bool = False
    finality: str = "latest"
    fields: frozenset[str] = frozenset()
    tokens: bool = False
    transactions: bool = False
    count: Counting = "none"

    @property
    def forward(self) -> bool:
        """Whether rows are read in ascending order."""
        return (self.order == "asc") == (self.cursor != "before")

    def uncut(self) -> "QueryShape":
        """The shape of the whole request, wherever a page of it stands."""
        return replace(self, cursor=None, branch=False)
