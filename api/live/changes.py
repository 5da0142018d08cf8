"""The reader of changes: what has happened behind a position, up to where everything is there.

A reader (a stream's client, a webhook) stands at a :class:`~api.cursors.Position` and asks again and again. Each answer
is one snapshot of the database, and ends with the position to ask from next, so that nothing is told twice and nothing
is left out:

- was the position's block reorganised away, the answer is the last block that still holds (``common_block``): what the
  reader got of later blocks is void. Rows follow with the next answer;
- else the rows behind the position, in the chain's order, up to the *frontier* (see :mod:`api.sql.live`).

Where no row is left the reader stands at the *end* of a block, written as the largest log index there is, with the
beginning of that block's hash as long as the block can change: so a reorganisation is noticed even by who has got no
row for days, and coming back costs nothing.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import orjson

from api.catalog import Event
from api.cursors import END_OF_BLOCK, MAX_ITEM, Position
from api.database import Database
from api.sql.live import BEYOND
from api.sql.source import ANY_WINDOW
from api.sql.statement import Statement
from api.state import State

#: Ends of blocks as earlier versions wrote them, and as clients keep them.
_EARLIER_END: Final = 2**31 - 1

#: Most blocks of one answer where an index serves the request: as good as all.
ALL_BLOCKS: Final = 2**40


def end_of(block: int, branch: bytes | None = None) -> Position:
    """The place behind all logs of a block; to read from block N on, begin at ``end_of(N - 1)``.

    Block 0 bears no logs, so ``end_of(0)`` is before everything.
    """
    return Position(block, END_OF_BLOCK, None, branch)


@dataclass(frozen=True, slots=True)
class Signals:
    """One look at what has changed.

    Attributes:
        chains: by chain: for each finality what changes with the newest block that is so final, and more.
        events: by event, what changes when rows or coverage are added.
        series: by snapshot series, what changes with its points.
        derived: by ``name/chain`` of a stored derived table, what changes with its rows and its build.
    """

    chains: Mapping[int, Mapping[str, Any]]
    events: Mapping[int, int]
    series: Mapping[int, int]
    derived: Mapping[str, str] = field(default_factory=dict)


class Watched(Protocol):
    """What a reader asks for: events (:class:`Scope`), or what :mod:`api.live.views` has."""

    @property
    def chain_id(self) -> int:
        """The chain."""

    @property
    def span(self) -> int:
        """Most blocks of one answer."""

    def read(self, database: Database, position: Any, *, span: int | None = None) -> "Changes":
        """What has happened behind a position; None: from now on.

        Raises:
            ApiError: as :func:`read`.
        """

    def depends_on(self, signals: Signals) -> tuple[Hashable, Hashable]:
        """What must differ for there to be something new; the second part matters while something is waited for."""


@dataclass(frozen=True)
class Scope:
    """What a reader asks for, compiled for one version of the catalog.

    Attributes:
        chain_id: the chain.
        statement: made by :func:`api.sql.live.changes`.
        values: those of its filters.
        events: the events that are asked for, by id.
        finality: which blocks count.
        limit: most rows of one answer.
        merged: whether rows are of many events, so that their positions have an item and their JSON has names.
        span: most blocks of one answer: few where no index serves the filters.
    """

    chain_id: int
    statement: Statement
    values: Mapping[str, Any]
    events: Mapping[int, Event]
    limit: int
    merged: bool
    finality: str = "latest"
    span: int = ALL_BLOCKS

    @property
    def event_ids(self) -> tuple[int, ...]:
        """The events that are asked for."""
        return tuple(self.events)

    def read(self, database: Database, position: Position | None, *, span: int | None = None) -> "Changes":
        """As :func:`read`."""
        return read(database, self, position, span=span)

    def depends_on(self, signals: Signals) -> tuple[Hashable, Hashable]:
        """What changes with new blocks, and what changes when rows or coverage are added elsewhere."""
        latest = signals.chains.get(self.chain_id, {}).get(self.finality)
        return latest, tuple(signals.events.get(event, 0) for event in self.event_ids)


class StreamPosition(Protocol):
    """Where a reader stands. Its text is what the reader comes back with; equal places have equal texts."""

    @property
    def block(self) -> int:
        """The block that what was told before is of, or before it."""

    def __str__(self) -> str: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        position: its place, a :class:`StreamPosition`.
        data: the JSON that a page would have.
        kind: the name of the event that tells it.
    """

    position: Any
    data: bytes
    kind: str = "row"


@dataclass(frozen=True, slots=True)
class Changes:
    """One answer.

    Attributes:
        position: where to ask from next, of the kind that was asked from; None while it is not known where "now" is,
            since nothing is indexed.
        common_block: what the reader got of blocks above this one is void; None: nothing is.
        rows: what follows, in order.
        more: there may be more right now.
        through: the last block up to which everything has been told now; None if nothing can be told yet.
        waiting_for: the first block that is missing and holds up those behind it, which are indexed; None: none does.
        state: how far the collection is indexed up to ``through``.
        catalog: the version of the indexer's catalog at this moment; None: it does not matter.
        unsaid: what ``meta`` does not have.
    """

    position: Any
    common_block: int | None
    rows: Sequence[Row]
    more: bool
    through: int | None
    waiting_for: int | None
    state: State = field(repr=False)
    catalog: int | None = 0
    unsaid: frozenset[str] = frozenset()


def read(database: Database, scope: Scope, position: Position | None, *, span: int | None = None) -> Changes:
    """What has happened behind a position.

    Args:
        database: where from.
        scope: what is asked for.
        position: where the reader stands; None: at the end of what is there now.
        span: most blocks to look through, where that should be fewer than the scope's.

    Raises:
        ApiError: INVALID_CURSOR if the position's block was never there; whatever :meth:`Database.query` raises,
            such as QUERY_TOO_EXPENSIVE, after which fewer blocks can be asked for.
    """
    statement = scope.statement
    values = {
        **scope.values,
        **_cursor(scope, position),
        "span": min(span or scope.span, scope.span),
        "take": scope.limit,
        "window": ANY_WINDOW,
    }
    raw, rows, branches = database.query(statement.text, statement.values(values))[0]
    body: dict[str, Any] = orjson.loads(raw or b"{}")
    state = State.read(raw or b"{}")
    if state.cursor is not None and state.cursor["common_block"] is None:
        state.require_cursor()
    if state.cursor is not None:
        common = state.cursor["common_block"] or 0
        return Changes(
            position=end_of(common, _bytes(body["common_branch"])),
            common_block=common,
            rows=(),
            more=True,
            through=None,
            waiting_for=None,
            state=state,
            catalog=body["catalog"],
        )
    found = _rows(scope, rows, branches)
    full = len(found) >= scope.limit
    reached: StreamPosition | None = found[-1].position if full else _later(position, _stands(body))
    last, bound, gap = body["last"], body["bound"], body["gap"]
    frontier = None if bound is None else min(bound, bound if gap is None else gap - 1)
    behind = frontier is not None and last < frontier and reached != position
    return Changes(
        position=reached,
        common_block=None,
        rows=found,
        more=full or behind,
        through=None if bound is None or full else last,
        waiting_for=gap,
        state=state,
        catalog=body["catalog"],
    )


def _cursor(scope: Scope, position: Position | None) -> dict[str, Any]:
    """The values that name the position in the statement."""
    if position is None:
        return {
            "cursor_block": BEYOND,
            "cursor_log": END_OF_BLOCK,
            "cursor_item": MAX_ITEM,
            "cursor_branch": None,
            "covered_from": BEYOND,
        }
    return {
        "cursor_block": position.block,
        "cursor_log": position.log,
        # A row's id is a place behind all rows of its log.
        "cursor_item": MAX_ITEM if position.item is None else position.item,
        "cursor_branch": position.branch,
        "covered_from": min(position.block + (position.log in (END_OF_BLOCK, _EARLIER_END)), BEYOND),
    }


def _rows(scope: Scope, text: bytes | None, branches: bytes | None) -> list[Row]:
    known: dict[str, str] = orjson.loads(branches) if branches else {}
    found = []
    for line in text.split(b"\n") if text else ():
        place, _, data = line.partition(b"\t")
        position = Position.parse_id(place.decode())
        branch = _bytes(known.get(str(position.block)))
        item = position.item if scope.merged else None
        found.append(Row(replace(position, item=item, branch=branch), data))
    return found


def _stands(body: Mapping[str, Any]) -> Position | None:
    if body["bound"] is None:
        return None
    return end_of(max(0, body["stands"]), _bytes(body["stands_branch"]))


def _later(position: Position | None, stands: Position | None) -> Position | None:
    """Where reading goes on; never before where it began."""
    if position is None or stands is None:
        return position or stands
    return stands if (stands.block, stands.log) > (position.block, position.log) else position


def _bytes(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None
