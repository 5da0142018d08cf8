"""Events by day (UTC)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from api.arguments import Filter
from api.catalog import Event
from api.sql import events, json_text, scope
from api.sql.statement import Binder, Statement, identifier
from indexer.abi.columns import Column

FIELDS: Final = ("date", "events", "sums")


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a request that decides the text of its statement.

    Attributes:
        rows: which events are counted.
        sums: names of the arguments that are summed.
        order: of the days.
        cursor: the cursor that the request has, if any.
        limit: days of a page; None: all.
        fields: members of a row; empty for all.
    """

    rows: events.Shape
    sums: tuple[str, ...] = field(default=())
    order: Literal["asc", "desc"] = "desc"
    cursor: Literal["after", "before"] | None = None
    limit: int | None = 30
    fields: frozenset[str] = frozenset()

    @property
    def forward(self) -> bool:
        """Whether days are read towards newer ones."""
        return (self.order == "asc") == (self.cursor != "before")


def summable(event: Event) -> tuple[Column, ...]:
    """The arguments whose sum means something: whole numbers."""
    return tuple(c for c in event.columns if c.json in ("integer", "string_integer") and not c.hashed)


def _parts(event: Event, shape: Shape, filters: Sequence[Filter], bind: Binder) -> list[str]:
    """The common table expressions of a request; the last are ``days`` and ``counted``.

    Every day between the first and the last known block has a row: one without events says so. The events of a page's
    days are found by block numbers, which the key's index knows, not by time.
    """
    rows = shape.rows
    how = events.plan(event, rows, filters, bind)
    parts = scope.ctes(rows.chain_id, [event.event_id], bind, given=rows.given, finality=rows.finality)
    known = _known(rows.chain_id)
    cut = f" LIMIT {shape.limit}" if shape.limit else ""
    direction, sign = ("ASC", ">") if shape.forward else ("DESC", "<")
    cursor = f"WHERE d.day {sign} {bind('cursor_day', 'date')}" if shape.cursor else ""
    sums = _summed(event, shape)
    columns = "".join(f", sum(t.{identifier(c.name)}) AS sum_{i}" for i, c in enumerate(sums))
    where = [
        f"t.chain_id = {rows.chain_id}",
        "t.block_number BETWEEN (SELECT first FROM span) AND (SELECT last FROM span)",
        *(c.text for c in ((how.driver,) if how.driver else ())),
        *(c.text for c in how.rest),
    ]
    parts += [
        _ends(rows.chain_id),
        f"""days AS MATERIALIZED (
    SELECT d.day FROM ends, LATERAL (SELECT s::date AS day FROM generate_series(first_day, last_day, '1 day') s) d
    {cursor} ORDER BY d.day {direction}{cut})""",
        f"""span AS MATERIALIZED (
    SELECT greatest(first, (SELECT b.number + 1 {known} AND b.time < (SELECT min(day) FROM days)::timestamptz
                            ORDER BY b.time DESC, b.number DESC LIMIT 1)) AS first,
           least(last, (SELECT b.number - 1 {known} AND b.time >= (SELECT max(day) + 1 FROM days)::timestamptz
                        ORDER BY b.time, b.number LIMIT 1)) AS last
    FROM scope)""",
        f"""counted AS MATERIALIZED (
    SELECT t.block_time::date AS day, count(*) AS events{columns}
    FROM {identifier(event.schema_name, event.table_name)} t WHERE {" AND ".join(where)} GROUP BY 1)""",
    ]
    return parts


def _known(chain_id: int) -> str:
    return f"FROM gapless.blocks b WHERE b.chain_id = {chain_id}"


def _ends(chain_id: int) -> str:
    """``ends``: the days of the first and of the last known block of the request."""
    known = _known(chain_id)
    return f"""ends AS MATERIALIZED (
    SELECT (SELECT b.time {known} AND b.number >= greatest(first, start) ORDER BY b.number LIMIT 1)::date AS first_day,
           (SELECT b.time {known} AND b.number <= last ORDER BY b.number DESC LIMIT 1)::date AS last_day
    FROM scope WHERE first <= last)"""


#: The days of which the answer can tell, as one text: blocks that other contracts make known change them.
_KNOWN_DAYS: Final = "(SELECT concat_ws('/', first_day, last_day) FROM ends)"


def _summed(event: Event, shape: Shape) -> list[Column]:
    return [c for c in summable(event) if c.argument in shape.sums]


_DAYS: Final = "FROM days d LEFT JOIN counted n ON n.day = d.day"


def _row_text(event: Event, shape: Shape) -> str:
    sums = _summed(event, shape)
    totals = json_text.object_text(
        [(c.argument, json_text.quoted(f"coalesce(n.sum_{i}, 0)::text")) for i, c in enumerate(sums)]
    )
    members = [("date", json_text.quoted("d.day")), ("events", "coalesce(n.events, 0)::text")]
    if sums:
        members.append(("sums", totals))
    return json_text.object_text([(name, text) for name, text in members if _is_shown(name, shape)])


def _is_shown(name: str, shape: Shape) -> bool:
    return not shape.fields or name in shape.fields


def state_only(event: Event, rows: events.Shape) -> Statement:
    """The state of a request without its days, and which days it can tell of."""
    bind = Binder()
    parts = scope.ctes(rows.chain_id, [event.event_id], bind, given=rows.given, finality=rows.finality)
    state = scope.state(scope.event_versions([event.event_id]))
    return Statement.of(f"WITH {', '.join([*parts, _ends(rows.chain_id)])} SELECT {state}, {_KNOWN_DAYS}", bind)


def page(event: Event, shape: Shape, filters: Sequence[Filter]) -> Statement:
    """One page of days: state, which days it can tell of, rows, whether there are more, and how many there are."""
    bind = Binder()
    text = f"""WITH {", ".join(_parts(event, shape, filters, bind))}
SELECT {scope.state(scope.event_versions([event.event_id]))}, {_KNOWN_DAYS},
    (SELECT string_agg(d.day || chr(9) || {_row_text(event, shape)}, chr(10) ORDER BY d.day {shape.order}) {_DAYS}),
    (SELECT CASE WHEN {str(shape.forward).lower()} THEN last_day > (SELECT max(day) FROM days)
                 ELSE first_day < (SELECT min(day) FROM days) END FROM ends),
    (SELECT last_day - first_day + 1 FROM ends)"""
    return Statement.of(text, bind)


def export(event: Event, shape: Shape, filters: Sequence[Filter], bind: Binder, *, as_csv: bool) -> str:
    """All days of a request: CSV's columns, or one of JSON."""
    parts = _parts(event, shape, filters, bind)
    shown = ", ".join(csv_columns(event, shape).values()) if as_csv else _row_text(event, shape)
    return f"WITH {', '.join(parts)} SELECT {shown} {_DAYS} ORDER BY d.day {shape.order}"


def csv_columns(event: Event, shape: Shape) -> dict[str, str]:
    """The columns of a CSV: names, and expressions. Sums are ``sums.<name>``."""
    sums = {f"sums.{c.argument}": f"coalesce(n.sum_{i}, 0)" for i, c in enumerate(_summed(event, shape))}
    columns = {"date": "d.day", "events": "coalesce(n.events, 0)", **sums}
    return {name: text for name, text in columns.items() if _is_shown(name.partition(".")[0], shape)}
