"""Events by day (UTC).

Every day between the first and the last known block has a row: one without events says so. The events of a page's days
are found by block numbers, which the key's index knows, not by time.
"""

from collections.abc import Hashable, Sequence
from typing import Final

from api.schemas import DIGITS, Schema
from api.sql import json_text, members
from api.sql.events import EventSource
from api.sql.members import Member
from api.sql.query_shape import QueryShape
from api.sql.row_order import Key, RowOrder
from api.sql.source import CoveredSource, Cut
from api.sql.statement import Binder, identifier
from indexer.abi.columns import Column

BY_DAY: Final = RowOrder(Key("day", "date", "date"))
_SUMS: Final[Schema] = {
    "type": "object",
    "additionalProperties": DIGITS,
    "description": "By the argument's name, with sum=...",
}


def summable(columns: Sequence[Column]) -> list[Column]:
    """The arguments whose sum means something: whole numbers."""
    return [c for c in columns if c.json in ("integer", "string_integer") and not c.hashed]


def day_members(sums: Sequence[Column]) -> list[Member]:
    """The members of a day with the sums of some arguments."""
    totals = [f"coalesce(t.sum_{i}, 0)" for i, _ in enumerate(sums)]
    parts = [
        Member(column.argument, json_text.quoted(f"{total}::text"), total, DIGITS)
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

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query of all known days."""
        after = f"WHERE {self.order.beyond(bind, forward=shape.forward)}" if shape.cursor else ""
        days = f"""SELECT t.day FROM ends,
        LATERAL (SELECT s::date AS day FROM generate_series(first_day, last_day, '1 day') s) t {after}"""
        return [cut.of(days, self.order, bind, forward=shape.forward)]

    def rows(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The query of the days, each with what was counted."""
        (days,) = self.readings(shape, bind, cut)
        known, how = _known(shape), self._rows.plan(shape, bind)
        sums = "".join(f", sum(t.{identifier(c.name)}) AS sum_{i}" for i, c in enumerate(self._sums))
        where = [
            f"t.chain_id = {shape.chain_id}",
            "t.block_number BETWEEN (SELECT first FROM span) AND (SELECT last FROM span)",
            *(c.text for c in ((how.driver,) if how.driver else ())),
            *(c.text for c in how.rest),
        ]
        # The day that only says that there is more is not counted.
        cut_off = "" if cut.value is None else f" LIMIT {bind('limit', 'bigint')}"
        order = self.order.by(ascending=shape.forward)
        return f"""WITH days AS MATERIALIZED ({days}),
    sent AS MATERIALIZED (SELECT t.day FROM days t {order}{cut_off}),
    span AS MATERIALIZED (
        SELECT greatest(first, (SELECT b.number + 1 {known} AND b.time < (SELECT min(day) FROM sent)::timestamptz
                                ORDER BY b.time DESC, b.number DESC LIMIT 1)) AS first,
               least(last, (SELECT b.number - 1 {known} AND b.time >= (SELECT max(day) + 1 FROM sent)::timestamptz
                            ORDER BY b.time, b.number LIMIT 1)) AS last
        FROM scope),
    counted AS MATERIALIZED (
        SELECT t.block_time::date AS day, count(*) AS events{sums}
        FROM {self._rows.table} t WHERE {" AND ".join(where)} GROUP BY 1)
    SELECT d.day, n.events{"".join(f", n.sum_{i}" for i, _ in enumerate(self._sums))}
    FROM days d LEFT JOIN counted n ON n.day = d.day"""


def _known(shape: QueryShape) -> str:
    return f"FROM gapless.blocks b WHERE b.chain_id = {shape.chain_id}"
