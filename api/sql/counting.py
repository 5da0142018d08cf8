"""How many rows a request has: counted, or estimated by the planner where there are very many."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias

import orjson

from api.sql.statement import Binder, Statement

Counting: TypeAlias = Literal["none", "estimated", "exact"]

#: Up to here an estimated count is exact: that costs 1 ms.
COUNT_LIMIT: Final = 10_000


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
