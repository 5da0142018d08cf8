"""Balances: what every holder has of every token, exact, kept in step with the transfers in the tables.

Holdings are sums: a transfer takes from one holder and gives to another, the zero address has nothing (what comes from
it was minted, what goes to it was burned). So transfers may be added in any order, and taken back. A ledger
(``store.catalog.ledgers``) says which transfers are in the sums: those up to its ``through_block``.

* *History*: :func:`advance` adds the transfers of the next blocks, in steps bounded by rows.
* *The head*: a ledger that has reached the tip goes on in the follower's own transactions (:func:`extend`), which take
  back what a reorganisation drops (:func:`take_back`).
* *Changed rows* below: :func:`rewriting`, around the change.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.token_standards import CONSECUTIVE_TRANSFER, TRANSFER_BATCH
from indexer.intervals import BlockRange, RangeSet, frontier, intersect
from indexer.store.catalog import ledgers, transfer_standards
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.ledgers import Ledger
from indexer.store.catalog.version import load_version, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.programs import disturbances
from indexer.store.rows.writer import Rows
from indexer.store.tokens import daily_balances, transfers
from indexer.store.tokens.transfers import TransferEvent

STEP_ROWS = 20_000
"""About how many transfer logs one step of a ledger counts. A reorganisation may have to wait for a step to end."""

_CONSECUTIVE_WEIGHS = 100
"""As how many other logs a ``ConsecutiveTransfer`` counts in a step: it is as many rows as it moves tokens."""

ZERO_ADDRESS = bytes(20)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a ledger did.

    Attributes:
        contract: whose ledger it is.
        through: the block that it is true at now.
        counted: whether it got further.
        is_last: whether nothing is left to count for now.
        restarted: whether it had to be begun anew instead.
    """

    contract: str
    through: int
    counted: bool
    is_last: bool
    restarted: bool = False


# -- sums ----------------------------------------------------------------------------------------------------------


def add(
    connection: Connection, ledger: Ledger, events: Iterable[CatalogEvent], ranges: RangeSet, *, sign: int = 1
) -> None:
    """Counts the transfers of some blocks, as they are in the tables at this moment.

    Args:
        connection: in a transaction that holds the ledger's lock.
        ledger: the ledger.
        events: those of the ledger's that are counted.
        ranges: the blocks.
        sign: 1 to count, -1 to take back.
    """
    driver = psycopg_connection(connection)
    events = list(events)
    statement = sql.SQL("""
        INSERT INTO gapless.holdings AS held (ledger_id, token, token_id, holder, amount)
        SELECT %(ledger)s, token, token_id, holder, delta FROM ({deltas}) moved ORDER BY token, token_id, holder
        ON CONFLICT (ledger_id, token, token_id, holder) DO UPDATE SET amount = held.amount + excluded.amount
    """).format(deltas=deltas(ledger, events))
    for first, last in ranges:
        values = {
            "ledger": ledger.ledger_id,
            "chain_id": ledger.chain_id,
            "addresses": ledger.addresses,
            "first": first,
            "last": last,
            "sign": sign,
        }
        driver.execute(statement, values)
        if ledger.daily:
            daily_balances.add(driver, deltas(ledger, events, by_day=True), values)
        for event in events:
            if event.signature == CONSECUTIVE_TRANSFER:
                driver.execute(_NOTE_TOO_LONG.format(_odd(event, transfer_standards.too_long)), values)
            elif event.signature == TRANSFER_BATCH:
                driver.execute(_NOTE_UNEVEN.format(_odd(event, transfer_standards.uneven)), values)
    # An index of the empty ones alone finds them; kept, they would soon be most of the table.
    driver.execute("DELETE FROM gapless.holdings WHERE ledger_id = %s AND amount = 0", (ledger.ledger_id,))
    if ledger.daily:
        daily_balances.forget_unchanged(driver, ledger.ledger_id)


_COUNTED = sql.SQL(
    "r.chain_id = %(chain_id)s AND r.block_number BETWEEN %(first)s AND %(last)s "
    "AND (%(addresses)s::bytea[] IS NULL OR r.contract_address = ANY(%(addresses)s::bytea[]))"
)
_NOTE_TOO_LONG = sql.SQL("""
    INSERT INTO gapless.balance_problems (ledger_id, token, detail, block_number)
    SELECT %(ledger)s, f.token,
           'one ConsecutiveTransfer moves ' || f.tokens || ' tokens, more than are counted', f.block_number
    FROM ({}) f ON CONFLICT (ledger_id, token) DO NOTHING
""")


_NOTE_UNEVEN = sql.SQL("""
    INSERT INTO gapless.balance_problems (ledger_id, token, detail, block_number)
    SELECT %(ledger)s, f.token, 'the TransferBatch in block ' || f.block_number ||
           ' names more tokens than amounts, or fewer: what has no counterpart is not counted', f.block_number
    FROM ({}) f ON CONFLICT (ledger_id, token) DO NOTHING
""")


def _odd(event: CatalogEvent, of: Callable[..., sql.Composed]) -> sql.Composed:
    return of(event.table.identifier, event.table.columns, _COUNTED)


def deltas(ledger: Ledger, events: Iterable[CatalogEvent], *, by_day: bool = False) -> sql.Composed:
    """A SELECT of what transfers change: token, token_id, holder, delta; only what does change.

    Its parameters: ``chain_id``, ``addresses``, ``first``, ``last``, ``sign``.

    Args:
        ledger: whose.
        events: those of its events that are read.
        by_day: what each day (UTC) changes, with one more column, ``day``.
    """
    day = sql.SQL(", gapless.day(m.block_time)" if by_day else "")
    selects = [transfers.select(TransferEvent(event, ledger.kind), _COUNTED) for event in events]
    return sql.SQL("""
        SELECT m.token, m.token_id, side.holder, sum(side.delta) AS delta{shown}
        FROM ({transfers}) m
        CROSS JOIN LATERAL (VALUES (m.from_address, -%(sign)s * m.amount), (m.to_address, %(sign)s * m.amount))
             AS side (holder, delta)
        WHERE m.from_address <> m.to_address AND side.holder <> {nobody}
        GROUP BY m.token, m.token_id, side.holder{day} HAVING sum(side.delta) <> 0
    """).format(
        shown=day + sql.SQL(" AS day") if by_day else day,
        transfers=sql.SQL(" UNION ALL ").join(selects),
        nobody=sql.Literal(ZERO_ADDRESS),
        day=day,
    )


# -- the head ------------------------------------------------------------------------------------------------------


def extend(
    connection: Connection, chain_id: int, block_range: BlockRange, sources: Collection[Source], rows: Rows
) -> None:
    """Counts the transfers of blocks that have just been appended, for the ledgers that had come to the tip.

    A ledger that lags behind, or that is being worked on, is left to :func:`advance`.

    Args:
        connection: in the transaction that appends the blocks, after their rows and coverage.
        chain_id: the chain.
        block_range: the new blocks.
        sources: those that they were covered for.
        rows: what they bore.
    """
    first, last = block_range
    every = ledgers.try_lock(connection, chain_id, at=first - 1)
    if not every:
        return
    covered = {source.source_id for source in sources}
    events = {
        event_id: event
        for event_id, event in {source.event.event_id: source.event for source in sources}.items()
        if rows.by_table.get(event_id, (None, ()))[1]
    }
    moved = []
    for ledger in every:
        if not ledger.source_ids or not ledger.source_ids <= covered:
            continue
        if bearing := [events[event_id] for event_id in ledger.event_ids if event_id in events]:
            add(connection, ledger, bearing, (block_range,))
        moved.append(ledger.ledger_id)
    if moved:
        ledgers.move(connection, moved, last)


def take_back(connection: Connection, chain_id: int, common: int, events: Iterable[CatalogEvent]) -> None:
    """Takes back what was counted above a block, before the rows there are deleted.

    No ledger of the chain goes on until the transaction ends.

    Args:
        connection: in the transaction that swaps branches, its rows still untouched.
        chain_id: the chain.
        common: the last block that stays.
        events: all that have a table.
    """
    known = {event.event_id: event for event in events}
    every = ledgers.lock(connection, chain_id)
    successors = {ledger.contract_id for ledger in every if ledger.live}
    moved = []
    for ledger in every:
        if ledger.through_block <= common or ledger.through_block < ledger.start_block:
            continue
        # The rows that a stale ledger counted may have been replaced by others meanwhile.
        is_superseded = not ledger.live and ledger.contract_id in successors
        if is_superseded or not known.keys() >= set(ledger.event_ids):
            ledgers.forget(connection, ledger)
            continue
        own = [known[event_id] for event_id in ledger.event_ids]
        add(connection, ledger, own, _within(ledger, ((common + 1, ledger.through_block),)), sign=-1)
        moved.append(ledger.ledger_id)
    ledgers.move(connection, moved, common)
    for ledger in every:
        if ledger.live and not ledger.served:
            ledgers.serve(connection, ledger)


# -- changed rows --------------------------------------------------------------------------------------------------


@contextmanager
def rewriting(connection: Connection, chain_id: int, event_ids: Collection[int], ranges: RangeSet) -> Iterator[None]:
    """Around a change of rows that may have been counted: takes them back before, counts what is there after.

    Programs that may have handled them hear of it.

    Args:
        connection: in the transaction that changes the rows.
        chain_id: the chain.
        event_ids: the events whose rows are changed.
        ranges: the blocks in which they are changed.
    """
    disturbances.note_changed(connection, chain_id, event_ids, ranges, "its rows were replaced")
    touched = [one for one in ledgers.lock(connection, chain_id) if not set(one.event_ids).isdisjoint(event_ids)]
    plan = [(ledger, _within(ledger, ranges), _changed(connection, ledger, event_ids)) for ledger in touched]
    for ledger, counted, events in plan:
        add(connection, ledger, events, counted, sign=-1)
    yield
    for ledger, counted, events in plan:
        add(connection, ledger, events, counted)
        ledgers.move(connection, [ledger.ledger_id], ledger.through_block)


def _changed(connection: Connection, ledger: Ledger, event_ids: Collection[int]) -> list[CatalogEvent]:
    return [event for event_id, event in ledgers.events_of(connection, ledger).items() if event_id in event_ids]


def _within(ledger: Ledger, ranges: RangeSet) -> RangeSet:
    """The blocks among some that a ledger has counted."""
    if ledger.through_block < ledger.start_block:
        return ()
    return intersect(ranges, ((ledger.start_block, ledger.through_block),))


# -- history -------------------------------------------------------------------------------------------------------


def advance(connection: Connection, chain_id: int, ledger_id: int, *, rows: int = STEP_ROWS) -> Step | None:
    """Takes a live ledger one step further through what is covered.

    Args:
        connection: in a transaction that has done nothing yet; the caller commits.
        chain_id: the chain.
        ledger_id: the ledger.
        rows: about how many logs of each of its events to count at most; a block is counted whole.

    Returns:
        What was done; None if another process is at it, or if the ledger is gone.
    """
    with writing_by(connection, load_version(connection)):
        ledger = ledgers.try_lock_one(connection, chain_id, ledger_id)
        if ledger is None or not ledger.source_ids:
            return None
        covered_until = frontier(ledgers.coverage(connection, ledger), ledger.start_block)
        if covered_until < ledger.through_block:
            # The writer that took coverage away may bring other rows.
            ledgers.restart(connection, ledger, "blocks that were counted are not covered any more: it is built anew")
            return Step(ledger.contract, ledger.start_block - 1, counted=False, is_last=False, restarted=True)
        through = covered_until
        if ledger.through_block < covered_until:
            events = ledgers.events_of(connection, ledger)
            through = _reach(connection, ledger, events, covered_until, rows)
            add(connection, ledger, events.values(), ((ledger.through_block + 1, through),))
            ledgers.move(connection, [ledger_id], through)
        if not ledger.served:
            (now,) = [one for one in ledgers.load(connection, chain_id) if one.ledger_id == ledger_id]
            ledgers.serve(connection, now)
        return Step(ledger.contract, through, counted=through > ledger.through_block, is_last=through == covered_until)


def lags(connection: Connection, ledger: Ledger) -> bool:
    """Whether there may be something to do for :func:`advance`."""
    if not ledger.live:
        return False
    return not ledger.served or ledger.through_block != frontier(
        ledgers.coverage(connection, ledger), ledger.start_block
    )


def _reach(connection: Connection, ledger: Ledger, events: Mapping[int, CatalogEvent], last: int, rows: int) -> int:
    """The last block of a step: the one before which as many rows as wanted have come together."""
    first = ledger.through_block + 1
    for event in events.values():
        weight = _CONSECUTIVE_WEIGHS if event.signature == CONSECUTIVE_TRANSFER else 1
        full = (
            psycopg_connection(connection)
            .execute(
                sql.SQL(
                    "SELECT block_number FROM {} WHERE chain_id = %s AND block_number BETWEEN %s AND %s "
                    "ORDER BY block_number OFFSET %s LIMIT 1"
                ).format(event.table.identifier),
                (ledger.chain_id, first, last, max(1, rows // weight)),
            )
            .fetchone()
        )
        if full is not None:
            last = max(first, full[0] - 1)
    return last


# -- looking at them -----------------------------------------------------------------------------------------------
