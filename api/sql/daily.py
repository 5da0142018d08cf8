"""Events by day (UTC).

Every day between the first and the last known block has a row: one without events says so. The events of a page's days
are found by block numbers, which the key's index knows, not by time, and are read in order up to a bound: the day at
which it is reached is the last row of the page, and has no JSON.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Final

from api.schemas import DIGITS, Schema
from api.sql import members, statement
from api.sql.events import EventSource
from api.sql.members import Member
from api.sql.query_shape import Key, QueryShape, RowOrder
from api.sql.source import PAGE, CoveredSource, Cut
from api.sql.statement import Binder, identifier
from indexer.abi.columns import Column

#: Most rows that a page counts; about a second of Postgres. A page whose days have more ends before them.
MOST_COUNTED: Final = 500_000
BY_DAY: Final = RowOrder(Key("day", "date"))
_SUMS: Final[Schema] = {
    "type": "object",
    "additionalProperties": DIGITS,
    "description": "By the argument's name, with sum=...",
}


def summable(columns: Sequence[Column]) -> list[Column]:
    """The arguments whose sum means something: whole numbers."""
    return [c for c in columns if c.rendering in ("integer", "string_integer") and not c.hashed]


def day_members(sums: Sequence[Column]) -> list[Member]:
    """The members of a day with the sums of some arguments."""
    totals = [f"coalesce(t.sum_{i}, 0)" for i, _ in enumerate(sums)]
    parts = [
        Member(column.argument, statement.quoted(f"{total}::text"), total, DIGITS)
        for column, total in zip(sums, totals, strict=True)
    ]
    return [
        members.plain("date", "t.day", {"type": "string", "format": "date"}),
        members.value("events", "coalesce(t.events, 0)", {"type": "integer", "minimum": 0}),
        members.group("sums", parts, schema=_SUMS, fields=False),
    ]


class DailySource(CoveredSource):
    """How many events there were each day, and sums of their arguments.

    Args:
        rows: the events that are counted.
        sums: names of the arguments that are summed.
    """

    order = BY_DAY
    together = False

    def __init__(self, rows: EventSource, sums: Sequence[str] = ()) -> None:
        self._rows = rows
        self._sums = [column for column in summable(rows.event.columns) if column.argument in sums]
        self.event_ids = rows.event_ids
        self.members = day_members(self._sums)[: 3 if self._sums else 2]

    @property
    def key(self) -> Hashable:
        """The events, and the sums."""
        return ("daily", self._rows.key, tuple(column.argument for column in self._sums))

    def state_tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """The scope, and ``ends``: the days of the first and of the last known block of the request."""
        known = _known(shape)
        return [
            *super().state_tables(shape, bind),
            f"""ends AS MATERIALIZED (
    SELECT (SELECT b.time {known} AND b.number >= greatest(first, start) ORDER BY b.number LIMIT 1)::date AS first_day,
           (SELECT b.time {known} AND b.number <= last ORDER BY b.number DESC LIMIT 1)::date AS last_day
    FROM scope WHERE first <= last)""",
        ]

    def facts(self, shape: QueryShape) -> Sequence[tuple[str, str]]:
        """The days of which the answer can tell: blocks that other contracts make known change them."""
        return [("days", "(SELECT concat_ws('/', first_day, last_day) FROM ends)")]

    def unserved(self, shape: QueryShape) -> str | None:
        """The filters that no index serves, or None: counting may look through no more blocks than rows may."""
        return self._rows.unserved(shape)

    def row(self, shape: QueryShape) -> str:
        """The JSON of a day; empty for the one before which the page ends."""
        return f"CASE WHEN t.is_counted THEN {super().row(shape)} ELSE '' END"

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query of all known days."""
        after = f"WHERE {self.order.beyond(bind, forward=shape.forward)}" if shape.cursor else ""
        days = f"""SELECT t.day FROM ends,
        LATERAL (SELECT s::date AS day FROM generate_series(first_day, last_day, '1 day') s) t {after}"""
        return [cut.of(days, self.order, bind, forward=shape.forward)]

    def rows(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The query of the days, each with what was counted."""
        (days,) = self.readings(shape, bind, cut)
        known = _known(shape)
        sums = "".join(f", sum(t.{identifier(c.name)}) AS sum_{i}" for i, c in enumerate(self._sums))
        totals = "".join(f", n.sum_{i}" for i, _ in enumerate(self._sums))
        # An export counts all: it has a time-out of its own.
        bound = Cut(most=MOST_COUNTED + 1) if cut is PAGE else Cut(ordered=False)
        whole = replace(shape.uncut(), order="asc" if shape.forward else "desc")
        counted = self._rows.reading(whole, bind, bound)
        too_many = f"sum(events) > {MOST_COUNTED}" if cut is PAGE else "false"
        last_read = "max(day)" if shape.forward else "min(day)"
        # The day that only says that there is more is not counted.
        cut_off = "" if cut.value is None else f" LIMIT {bind('limit', 'bigint')}"
        order = self.order.by(ascending=shape.forward)
        return f"""WITH days AS MATERIALIZED ({days}),
    sent AS MATERIALIZED (SELECT t.day FROM days t {order}{cut_off}),
    scope AS MATERIALIZED (
        SELECT ends, indexed, start,
               greatest(first, (SELECT b.number + 1 {known} AND b.time < (SELECT min(day) FROM sent)::timestamptz
                                ORDER BY b.time DESC, b.number DESC LIMIT 1)) AS first,
               least(last, (SELECT b.number - 1 {known} AND b.time >= (SELECT max(day) + 1 FROM sent)::timestamptz
                            ORDER BY b.time, b.number LIMIT 1)) AS last
        FROM scope),
    counted AS MATERIALIZED (
        SELECT t.block_time::date AS day, count(*) AS events{sums} FROM ({counted}) t GROUP BY 1),
    border AS MATERIALIZED (
        SELECT CASE WHEN {too_many} THEN {last_read} END AS day FROM counted)
    SELECT d.day, n.events{totals}, d.day IS DISTINCT FROM b.day AS is_counted
    FROM border b CROSS JOIN days d LEFT JOIN counted n ON n.day = d.day
    WHERE (d.day {">" if shape.forward else "<"} b.day) IS NOT TRUE"""


def _known(shape: QueryShape) -> str:
    return f"FROM gapless.blocks b WHERE b.chain_id = {shape.chain_id}"
