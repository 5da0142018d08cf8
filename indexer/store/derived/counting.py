"""Counting the rows of blocks, and taking back what they gave: what all writers of event rows call.

* *The head*: :func:`extend`, in the follower's transaction, after the rows of new blocks; :func:`take_back` before
  a reorganisation deletes rows.
* *Changed rows* below: :func:`rewriting`, around the change.
* *New rows in counted blocks*, of addresses that came late: :func:`uncount`, before they are written.

What looks other rows up depends on all rows before its own: where those change, everything behind them is uncounted.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import ALWAYS, BlockRange, RangeSet, frontier, intersect, subtract
from indexer.store.catalog.catalog import Source
from indexer.store.database import psycopg_connection
from indexer.store.derived import generations
from indexer.store.derived.generations import DerivedProgress, Generation
from indexer.store.schema import layout

log = logging.getLogger(__name__)

#: Seconds that the head waits for steps of history that have derived tables locked; then it goes on without them: their
#: next steps count the block.
HEAD_WAIT: Final = 1.0

#: What a rule itself may be at fault for: a division by zero, a number that is too large, a function that is gone.
FAULTS: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    psycopg.errors.ProgramLimitExceeded,
)
#: Of these, what says that an input was dropped meanwhile, which writers know by themselves.
_GONE: Final = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)


def is_fault(error: BaseException) -> bool:
    """Whether an error says that a rule cannot be computed of some row."""
    return isinstance(error, FAULTS) and not isinstance(error, _GONE)


def count(connection: Connection, one: Generation, chain_id: int, ranges: RangeSet) -> None:
    """Counts the rows of some blocks, as they are in the tables at this moment; says nothing of coverage."""
    driver = psycopg_connection(connection)
    for first, last in ranges:
        driver.execute(one.count, {"chain_id": chain_id, "first": first, "last": last})


def _take_back(connection: Connection, one: Generation, chain_id: int, part: BlockRange, rest: RangeSet) -> None:
    driver = psycopg_connection(connection)
    values = {"chain_id": chain_id, "first": part[0], "last": part[1], "rest": layout.ranges_to_sql(rest)}
    if empty := [str(place) for (place,) in driver.execute(one.take_back, values).fetchall()]:
        driver.execute(sql.SQL("DELETE FROM {} WHERE ctid = ANY(%s::tid[])").format(one.identifiers[0]), (empty,))


def _uncount(connection: Connection, one: DerivedProgress, ranges: RangeSet) -> RangeSet:
    """Takes back what some blocks gave, as far as they are counted; returns which those were."""
    counted = intersect(one.coverage, ranges)
    if not counted:
        return ()
    rest = one.coverage
    for part in counted:
        rest = subtract(rest, (part,))
        _take_back(connection, one.generation, one.chain_id, part, rest)
    generations.remove_coverage(connection, one.chain_id, [one.generation.derived_id], counted)
    return counted


# -- the head ------------------------------------------------------------------------------------------------------


def extend(
    connection: Connection,
    chain_id: int,
    block_range: BlockRange,
    sources: Collection[Source],
    bearing: Collection[int],
) -> None:
    """Counts blocks that have just been appended.

    Args:
        connection: in the transaction that appends the blocks, after all else but :func:`~.version.hold_version`.
        chain_id: the chain.
        block_range: the new blocks.
        sources: those that they were covered for.
        bearing: the events that have rows in them.
    """
    counting = "d.active AND p.problem IS NULL"
    if not generations.is_any(connection, chain_id, counting):
        return
    followed = {source.source_id for source in sources}
    known = {source.event.event_id: source.event for source in sources}
    every = [
        one
        for one in generations.lock_briefly(connection, chain_id, counting, HEAD_WAIT, known) or ()
        if one.source_ids and one.source_ids <= followed and one.problem is None
        and _is_looked_up(connection, one, block_range[0] - 1)
    ]  # fmt: skip
    if not every:
        return
    touched = [one for one in every if not set(one.generation.event_ids).isdisjoint(bearing)]
    failed = _count_all(connection, chain_id, touched, block_range)
    counted = [one.generation.derived_id for one in every if one.generation.derived_id not in failed]
    generations.add_coverage(connection, chain_id, counted, (block_range,))
    for derived_id, problem in failed.items():
        generations.note_problem(connection, chain_id, derived_id, problem, block_range[0])


def _is_looked_up(connection: Connection, one: DerivedProgress, last: int) -> bool:
    """Whether what a rule looks up is known up to a block."""
    return not one.generation.lookup_ids or looked_up_until(connection, one) >= last


def looked_up_until(connection: Connection, one: DerivedProgress) -> int:
    """The block up to which all events that a rule looks up are covered from their start without a gap."""
    rows = psycopg_connection(connection).execute(
        """
        SELECT s.start_block, s.end_block, gapless.covered(s.coverage, s.end_block, n.tip_number)
        FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
        WHERE s.active AND s.chain_id = %s AND s.event_id = ANY(%s)
        """,
        (one.chain_id, list(one.generation.lookup_ids)),
    )
    until = ALWAYS
    for start, end, coverage in rows.fetchall():
        reached = frontier(layout.ranges_from_sql(coverage), start)
        until = min(until, ALWAYS if end is not None and reached >= end else reached)
    return until


def _count_all(
    connection: Connection, chain_id: int, some: Iterable[DerivedProgress], block_range: BlockRange
) -> dict[int, str]:
    """Counts blocks for some generations; returns why those failed that did, of which nothing is counted."""
    some = list(some)
    if not some:
        return {}
    driver = psycopg_connection(connection)
    try:
        with driver.transaction():
            together = generations.count_together(tuple(one.generation for one in some))
            driver.execute(together, {"chain_id": chain_id, "first": block_range[0], "last": block_range[1]})
    except psycopg.Error as error:
        if not is_fault(error):
            raise
        if len(some) > 1:
            return {
                key: text for one in some for key, text in _count_all(connection, chain_id, [one], block_range).items()
            }
        name = some[0].generation.name
        problem = describe(error)
        log.error("derived table %s is counted no further on chain %d: %s", name, chain_id, problem)
        return {some[0].generation.derived_id: problem}
    return {}


def describe(error: BaseException) -> str:
    """What was wrong with a row, for those who wrote the rule."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = said or str(error)
    hints = {"division by zero": "write nullif(divisor, 0), which makes it null", "out of range": "cast it to numeric"}
    hint = next((hint for part, hint in hints.items() if part in text), "change the rule")
    return f"its rule cannot be computed: {text}; {hint}, and run: gapless apply"


def take_back(connection: Connection, chain_id: int, common: int) -> None:
    """Takes back what was counted above a block, before the rows there are deleted."""
    above: RangeSet = ((common + 1, ALWAYS),)
    for one in _locked(connection, chain_id, above):
        _uncount(connection, one, above)


# -- changed rows --------------------------------------------------------------------------------------------------


def uncount(connection: Connection, chain_id: int, event_ids: Collection[int], ranges: RangeSet) -> None:
    """Takes back what some blocks gave, before rows of these events are changed or added there; steps count them anew.

    Args:
        connection: in the transaction that changes the rows.
        chain_id: the chain.
        event_ids: the events.
        ranges: the blocks.
    """
    for one, affected in _affected(connection, chain_id, event_ids, ranges):
        _uncount(connection, one, affected)


@contextmanager
def rewriting(connection: Connection, chain_id: int, event_ids: Collection[int], ranges: RangeSet) -> Iterator[None]:
    """Around a change of rows that may be counted: takes them back before, counts what is there after.

    Args:
        connection: in the transaction that changes the rows.
        chain_id: the chain.
        event_ids: the events whose rows are changed.
        ranges: the blocks in which they are changed.
    """
    again = [
        (one, counted)
        for one, affected in _affected(connection, chain_id, event_ids, ranges)
        # What looks them up may be much more than the rows that are changed: its steps count it anew.
        if (counted := _uncount(connection, one, affected)) and affected == ranges
    ]
    yield
    for one, counted in again:
        failed: dict[int, str] = {}
        for part in counted:
            failed |= _count_all(connection, chain_id, [one], part)
            if failed:
                generations.note_problem(connection, chain_id, *next(iter(failed.items())), part[0])
                break
            generations.add_coverage(connection, chain_id, [one.generation.derived_id], (part,))


def _affected(
    connection: Connection, chain_id: int, event_ids: Collection[int], ranges: RangeSet
) -> list[tuple[DerivedProgress, RangeSet]]:
    """What has counted such blocks, locked, and the blocks of which it is to be taken back."""
    if not event_ids or not ranges:
        return []
    behind: RangeSet = ((ranges[0][0], ALWAYS),)
    found = []
    for one in _locked(connection, chain_id, behind):
        if not set(one.generation.lookup_ids).isdisjoint(event_ids):
            found.append((one, behind))
        elif not set(one.generation.event_ids).isdisjoint(event_ids):
            found.append((one, ranges))
    return found


def _locked(connection: Connection, chain_id: int, ranges: RangeSet) -> list[DerivedProgress]:
    """All that have counted some of these blocks, locked; nothing is locked where there are none."""
    condition = "p.coverage && %(ranges)s::int8multirange"
    literal = layout.ranges_to_sql(ranges)
    if not generations.is_any(connection, chain_id, condition, ranges=literal):
        return []
    return generations.lock(connection, chain_id, condition, ranges=literal)
