"""History of derived tables: counted behind backfill in bounded steps, the newest blocks first.

Here is also decided which build is served.

A step counts blocks that the inputs cover and the derived table does not, in one transaction with the coverage that it
adds. Any number of processes may take steps at once: a build is worked on by one of them on each chain.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.intervals import RangeSet, intersect, subtract
from indexer.store import database
from indexer.store.catalog.version import end_change, hold_for_change, load_version, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.derived import counting, generations, views
from indexer.store.derived.generations import DerivedProgress, Generation
from indexer.store.derived.replacing import ViewInTheWayError
from indexer.store.schema import layout

log = logging.getLogger(__name__)

STEP_ROWS: Final = 50_000
"""About how many rows one step counts. The head may have to wait for a step to end."""

_MOST_RANGES: Final = 100
"""Ranges of blocks that one step counts: each takes a statement."""

RETRY_AFTER: Final = 600
"""Seconds until a rule that could not be computed of some row is tried again: the row may have been replaced."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one step did.

    Attributes:
        name: of the derived table.
        blocks: how many were counted.
        is_last: whether nothing is left to count for now.
        problem: why it is counted no further.
    """

    name: str
    blocks: int
    is_last: bool
    problem: str | None = None


def covered(connection: Connection, one: DerivedProgress) -> RangeSet:
    """The blocks that may be counted: all that it reads is covered there, and what it looks up up to there."""
    if not one.source_ids:
        return ()
    value: Any = connection.execute(
        sa.text("""
            SELECT range_intersect_agg(
                       gapless.covered(s.coverage, s.end_block, n.tip_number)
                       + int8multirange(int8range(0, s.start_block))
                       + CASE WHEN s.end_block IS NULL THEN '{}'::int8multirange
                              ELSE int8multirange(int8range(s.end_block + 1, NULL)) END)
                   * int8multirange(int8range(min(s.start_block),
                                              greatest(coalesce(max(n.tip_number), -1) + 1, min(s.start_block))))
            FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
            WHERE s.active AND s.chain_id = :chain_id AND s.event_id = ANY(:ids)
        """),
        {"chain_id": one.chain_id, "ids": list(one.generation.event_ids)},
    ).scalar_one()
    ranges = () if value is None else layout.ranges_from_sql(value)
    if one.generation.lookup_ids:
        ranges = intersect(ranges, ((0, counting.looked_up_until(connection, one)),))
    return ranges


def lags(connection: Connection, one: DerivedProgress) -> bool:
    """Whether there may be something to do for :func:`advance`."""
    return bool(subtract(covered(connection, one), one.coverage))


def waiting(connection: Connection, chain_id: int) -> list[DerivedProgress]:
    """The builds that lag behind their inputs on a chain."""
    due = f"d.active AND (p.problem IS NULL OR p.updated_at < now() - make_interval(secs => {RETRY_AFTER}))"
    return [one for one in generations.progress(connection, chain_id, due) if lags(connection, one)]


def advance(connection: Connection, chain_id: int, derived_id: int, *, rows: int = STEP_ROWS) -> Counted | None:
    """Counts some more blocks of a build, the newest first.

    Args:
        connection: in a transaction that has done nothing yet; the caller commits.
        chain_id: the chain.
        derived_id: the build.
        rows: about how many rows of each of its events to count at most; a block is counted whole.

    Returns:
        What was done; None if another process is at it, or if it is gone.
    """
    with writing_by(connection, load_version(connection)):
        one = generations.try_lock(connection, chain_id, derived_id)
        if one is None or not one.generation.active:
            return None
        open_ = subtract(covered(connection, one), one.coverage)
        some = _newest(connection, one.generation, chain_id, open_, rows)
        name = one.generation.name
        if not some:
            return Counted(name, 0, is_last=True)
        try:
            with psycopg_connection(connection).transaction():
                counting.count(connection, one.generation, chain_id, some)
        except psycopg.Error as error:
            if not counting.is_fault(error):
                raise
            return _narrow(connection, one, some, rows, error)
        generations.add_coverage(connection, chain_id, [derived_id], some)
        if one.problem is not None:
            generations.note_problem(connection, chain_id, derived_id, None, None)
        blocks = sum(last - first + 1 for first, last in some)
        return Counted(name, blocks, is_last=some == open_)


def _narrow(connection: Connection, one: DerivedProgress, some: RangeSet, rows: int, error: psycopg.Error) -> Counted:
    """Looks for the newest block of which a rule cannot be computed, notes it, and counts what is above it."""
    driver = psycopg_connection(connection)
    derived_id, done = one.generation.derived_id, 0
    left = some
    while left:
        first, last = left[-1]
        width = last - first + 1
        while width > 0:
            part = (last - width + 1, last)
            try:
                with driver.transaction():
                    counting.count(connection, one.generation, one.chain_id, (part,))
            except psycopg.Error as found:
                if not counting.is_fault(found):
                    raise
                error = found
                if width == 1:
                    problem = counting.describe(error)
                    generations.note_problem(connection, one.chain_id, derived_id, problem, last)
                    return Counted(one.generation.name, done, is_last=True, problem=f"block {last}: {problem}")
                width //= 2
                continue
            generations.add_coverage(connection, one.chain_id, [derived_id], (part,))
            done += width
            break
        left = subtract(left, (part,))
    return Counted(one.generation.name, done, is_last=False)


def _newest(connection: Connection, one: Generation, chain_id: int, ranges: RangeSet, rows: int) -> RangeSet:
    """The newest blocks among some that have about so many rows."""
    taken: list[tuple[int, int]] = []
    left = rows
    for first, last in reversed(ranges[-_MOST_RANGES:]):
        begin, count = _begin(connection, one, chain_id, (first, last), left)
        taken.append((begin, last))
        left -= count
        if begin > first or left <= 0:
            break
    return tuple(reversed(taken))


def _begin(connection: Connection, one: Generation, chain_id: int, part: tuple[int, int], rows: int) -> tuple[int, int]:
    """The first block of a range's end that has about so many rows, and how many it has at most."""
    driver = psycopg_connection(connection)
    begin, most = part[0], 0
    for name in one.rule.events:
        found = driver.execute(
            sql.SQL(
                "SELECT min(block_number), count(*) FROM (SELECT block_number FROM {} WHERE chain_id = %s "
                "AND block_number BETWEEN %s AND %s ORDER BY block_number DESC LIMIT %s) newest"
            ).format(one.tables[name].identifier),
            (chain_id, *part, rows + 1),
        ).fetchone()
        if found is not None and found[1] > rows:
            begin = max(begin, min(found[0] + 1, part[1]))
        most = max(most, found[1] if found is not None else 0)
    return begin, most


# -- which build is served -----------------------------------------------------------------------------------------


def serve_caught_up(engine: Engine) -> list[str]:
    """Serves builds in place of stale ones, where they have come as far; returns their names.

    Where something of a user reads what would have to be dropped, the stale one stays, and its remark names that.

    Raises:
        BusyError: what is replaced is read all the time.
    """
    with engine.connect() as connection:
        ready = [one for one in _unserved(connection) if _has_come_as_far(connection, one)]
    served = []
    for one in ready:
        try:
            database.attempt(
                engine, f"derived table {one.name} cannot be replaced by its new build", partial(_serve, derived=one)
            )
        except ViewInTheWayError as error:
            with engine.begin() as connection:
                is_news = generations.note_remark(connection, one.name, f"its new build waits: {error}; {error.hint}")
            if is_news:
                log.error("derived table %s: its new build is not served: %s. %s", one.name, error, error.hint)
            continue
        served.append(one.name)
    return served


def _unserved(connection: Connection) -> list[Generation]:
    return generations.load(connection, "NOT d.served AND d.active AND d.kind IN ('rows', 'aggregate')")


def _has_come_as_far(connection: Connection, one: Generation) -> bool:
    rows = connection.execute(
        sa.text("""
            SELECT p.chain_id, p.coverage, o.coverage AS served FROM gapless.derived_progress o
            JOIN gapless.derived d ON d.id = o.derived_id AND d.name = :name AND d.served
            LEFT JOIN gapless.derived_progress p ON p.chain_id = o.chain_id AND p.derived_id = :id
        """),
        {"name": one.name, "id": one.derived_id},
    ).all()
    for row in rows:
        if row.coverage is None:
            continue  # it is not counted on that chain any more
        (mine,) = generations.progress(connection, row.chain_id, "d.id = %(id)s", id=one.derived_id) or (None,)
        there = covered(connection, mine) if mine is not None else ()
        wanted = intersect(layout.ranges_from_sql(row.served), there)
        if subtract(wanted, layout.ranges_from_sql(row.coverage)):
            return False
    return True


def _serve(connection: Connection, derived: Generation) -> None:
    if not generations.load(connection, "d.id = %(id)s AND NOT d.served AND d.active", id=derived.derived_id):
        return
    views.show(connection, derived.derived_id)
    hold_for_change(connection, wait=database.WAIT)
    end_change(connection)
