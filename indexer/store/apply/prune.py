"""``gapless prune``: old rows of events deleted, below the block from which the manifest wants them.

A step is a transaction of about :data:`ROWS` rows, the lowest blocks first: rows, undecoded logs and foreign shapes go,
and with them the coverage, the digests and the proofs of their blocks. So a killed prune leaves what is covered
complete, and the next run goes on with what is there. Nothing fetches the blocks again, since no source wants them:
what would change that (a manifest with an earlier ``start_block``) ends the steps (:class:`CatalogChangedError`).

What was counted from the rows that would go is not made wrong: such events are refused (:func:`check`).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import database
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.catalog.declaration import Place
from indexer.store.catalog.version import CatalogChangedError, load_version, writing_by
from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.integrity import digests, findings
from indexer.store.rows import failed_ranges, writer

log = logging.getLogger(__name__)

#: Rows, undecoded logs and foreign shapes each that one transaction deletes; one block is not divided.
ROWS: Final = 50_000

#: How often in a row a step is tried where other processes change the catalog at the same time.
_MOST_CHANGES: Final = 20

_EVERYWHERE: Final = Place("any")


@dataclass(frozen=True, slots=True)
class Prunable:
    """An event on one chain, and how many rows are below a block.

    Attributes:
        event: the event.
        chain_id: the chain.
        before: the first block that stays.
        rows: about so many rows would go, by the planner.
    """

    event: CatalogEvent
    chain_id: int
    before: int
    rows: int


def find(connection: Connection, name: str, chain: str | None, before: int) -> list[Prunable]:
    """What a prune of a contract, or of one event (``usdc.Transfer``), would delete.

    Args:
        connection: to read with.
        name: of the contract or the event, in the manifest or not.
        chain: the chain's name; None: the only one that they are indexed on.
        before: the first block that stays.

    Raises:
        DatabaseError: there is no such event, the chain is not said, or one of them cannot be pruned (:func:`check`).
    """
    contract, _, event = name.partition(".")
    every = catalog.load_events(connection, contracts={contract}).values()
    events = {one.event_id: one for one in every if event in ("", one.api_name)}
    if not events:
        raise DatabaseError(
            f"the database has no contract or event {name}",
            hint="events are named like usdc.Transfer; gapless db size lists what is there",
        )
    places = connection.execute(
        sa.text("""
            SELECT DISTINCT s.event_id, s.chain_id, n.name FROM gapless.sources s JOIN gapless.chains n USING (chain_id)
            WHERE s.event_id = ANY(:ids) ORDER BY s.chain_id, s.event_id
        """),
        {"ids": list(events)},
    ).all()
    chains = {row.name: row.chain_id for row in places}
    if chain not in (chains if chain is not None or len(chains) > 1 else {None}):
        raise DatabaseError(
            f"{name} is indexed on {', '.join(chains)}" + ("" if chain is None else f", not on {chain}"),
            hint=f"say which with --chain; block {before:,} is another one on each",
        )
    found = []
    for row in places:
        if chain in (None, row.name):
            check(connection, events[row.event_id], row.chain_id, before)
            found.append(_measured(connection, events[row.event_id], row.chain_id, before))
    return found


def _measured(connection: Connection, event: CatalogEvent, chain_id: int, before: int) -> Prunable:
    statement = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} WHERE chain_id = {} AND block_number < {}").format(
        event.table.identifier, chain_id, before
    )
    row = psycopg_connection(connection).execute(statement).fetchone()
    assert row is not None
    return Prunable(event, chain_id, before, row[0][0]["Plan"]["Plan Rows"])


def check(connection: Connection, event: CatalogEvent, chain_id: int, before: int) -> None:
    """Refuses what would be fetched again, can still be reorganised, or was counted somewhere.

    Args:
        connection: to read with.
        event: whose rows would go.
        chain_id: the chain.
        before: the first block that stays.

    Raises:
        DatabaseError: says why, and what to do.
    """
    chain = connection.execute(
        sa.text("SELECT name, finalized_number FROM gapless.chains WHERE chain_id = :chain_id"), {"chain_id": chain_id}
    ).one()
    what = f"{event.label} on {chain.name} cannot be pruned before block {before:,}"
    start = connection.execute(
        sa.text(
            "SELECT min(start_block) FROM gapless.sources WHERE chain_id = :chain_id AND event_id = :id AND active"
        ),
        {"chain_id": chain_id, "id": event.event_id},
    ).scalar_one()
    if start is not None and start < before:
        raise DatabaseError(
            f"{what}: the manifest wants it from block {start:,} on, so it would be fetched again",
            hint=f"write start_block = {before} for the contract in the manifest, and run: gapless apply",
        )
    if before > (-1 if chain.finalized_number is None else chain.finalized_number) + 1:
        newest = "none" if chain.finalized_number is None else f"{chain.finalized_number:,}"
        raise DatabaseError(
            f"{what}: blocks that are not final can still be reorganised (the newest final one: {newest})",
            hint="prune before an older block",
        )
    if event.announces:
        raise DatabaseError(
            f"{what}: it announces the children of a factory, which follow from all of its rows",
            hint="prune the events of the children instead",
        )
    for reader, hint in connection.execute(
        _READERS, {"chain_id": chain_id, "id": event.event_id, "before": before}
    ).all():
        raise DatabaseError(f"{what}: {reader} follow from the rows that would go", hint=hint)


_READERS: Final = sa.text("""
    SELECT 'the balances of ' || c.name,
           CASE WHEN EXISTS (SELECT FROM gapless.ledgers o WHERE o.contract_id = l.contract_id AND o.live
                             AND o.chain_id = l.chain_id AND o.start_block >= :before)
                THEN 'they are being counted anew from start_block on: run it again once gapless status shows that done'
                ELSE 'balances that are not kept any more stay until gapless drop deletes their contract' END
    FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
    WHERE l.chain_id = :chain_id AND l.event_ids @> ARRAY[CAST(:id AS integer)] AND l.start_block < :before
    UNION ALL
    SELECT 'the rows of the derived table ' || d.name,
           'take it out of the manifest, run gapless apply, and gapless drop ' || d.name
    FROM gapless.derived d
    WHERE (d.event_ids || d.lookup_ids) @> ARRAY[CAST(:id AS integer)]
    UNION ALL
    SELECT 'the rows of the program ' || p.name,
           'take it out of the manifest: gapless run or gapless programs ends it then'
    FROM gapless.programs p
    WHERE p.live AND p.chain_id = :chain_id AND p.event_ids @> ARRAY[CAST(:id AS integer)]
    LIMIT 1
""")


def prune(engine: Engine, given: Prunable, *, patience: float = database.PATIENCE) -> int:
    """Deletes an event's rows below a block. Killed, the next run goes on where it was.

    Args:
        engine: the database.
        given: what :func:`find` found.
        patience: seconds for which each step is tried while others hold what goes.

    Returns:
        How many rows went.

    Raises:
        DatabaseError: it cannot be pruned (any more); what went before is gone.
        BusyError: others hold its rows all the time; the same.
        CatalogChangedError: other processes change the catalog all the time; the same.
    """
    what = f"{given.event.label} cannot be pruned"
    first, deleted, changes = 0, 0, 0
    while first < given.before:
        step = partial(_step, given=given, first=first)
        try:
            last, rows = database.attempt(engine, what, step, patience=patience)
        except CatalogChangedError:
            # Also a factory that announces a child changes it; whether the rows may still go is asked anew.
            changes += 1
            if changes == _MOST_CHANGES:
                raise
            continue
        first, deleted, changes = last + 1, deleted + rows, 0
        log.info("%s: %d rows deleted, up to block %d", given.event.label, deleted, last)
    return deleted


def _step(connection: Connection, given: Prunable, first: int) -> tuple[int, int]:
    """Deletes the lowest blocks that are there; returns the last one, and how many rows went."""
    chain_id = given.chain_id
    with writing_by(connection, load_version(connection)):
        sources = catalog.load_sources(connection, chain_id, event_ids={given.event.event_id}, retired=True)
        if not sources:
            raise DatabaseError(f"{given.event.label} is gone already")
        event, ids = sources[0].event, [source.source_id for source in sources]
        digests.lock_rewrites(connection, ids)
        check(connection, event, chain_id, given.before)
        last = _last_block(connection, given, first)
        for source in sources:
            digests.cut(connection, source, last)
        # From where the step before ended: what it deleted is not read over again.
        deleted = writer.delete_rows(connection, chain_id, event, _EVERYWHERE, ((first, last),))
        failed_ranges.forget(connection, ids, last)
        findings.forget(connection, chain_id, event.event_id, last)
        writer.uncover(connection, ids, ((0, last),))
        writer.bump_versions(connection, [event.event_id], rewritten=True)
    return last, deleted


def _last_block(connection: Connection, given: Prunable, first: int) -> int:
    """The block with which a step from a block on ends."""
    driver = psycopg_connection(connection)
    lowest: list[int] = []
    ends: list[int] = []
    for table, extra in _tables(given.event):
        ordered = sql.SQL(
            "SELECT block_number FROM {} WHERE {} chain_id = %s AND block_number >= %s AND block_number < %s "
            "ORDER BY block_number OFFSET %s LIMIT 1"
        ).format(table, extra)
        for offset, blocks in ((0, lowest), (ROWS, ends)):
            row = driver.execute(ordered, (given.chain_id, first, given.before, offset)).fetchone()
            blocks.extend(row or ())
    if not ends:
        return given.before - 1
    return max(min(ends) - 1, min(lowest))


def _tables(event: CatalogEvent) -> Sequence[tuple[sql.Identifier, sql.Composable]]:
    own = sql.SQL("event_id = {} AND").format(sql.Literal(event.event_id))
    shared = [(sql.Identifier("gapless", name), own) for name in ("undecoded_logs", "foreign_shapes")]
    return [(event.table.identifier, sql.SQL("")), *shared]
