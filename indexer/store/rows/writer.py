"""Writing: rows and coverage in one transaction (invariant 1).

Two writers share the tables without ever waiting for one another's work:

* *backfill* (:func:`write_history`), any number of them, at and below ``chains.finalized_number``. A chunk locks its
  sources (advisory, in the order of their ids), writes only if all of it is still uncovered, and touches the rows of
  coverage and version last, so that those locks are held for a moment only.
* *the follower* (``store.head``), one for each chain, above ``chains.finalized_number``. It alone moves that number.

Every function works in the transaction of the connection it is given and leaves the commit to the caller.
"""

import enum
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import POSITION_OF
from indexer.block_records import BlockColumns
from indexer.intervals import BlockRange, RangeSet, intersect
from indexer.store.catalog import children, ledgers
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.declaration import Place
from indexer.store.catalog.version import writing_by
from indexer.store.database import psycopg_connection
from indexer.store.derived import counting
from indexer.store.rows import transactions as included
from indexer.store.rows import undecoded_logs
from indexer.store.rows.blocks import copy_blocks
from indexer.store.rows.copy_binary import BinaryRows, copy_accepted, copy_batches, copy_rows
from indexer.store.rows.undecoded_logs import ForeignLogs, LogAsRead, UndecodedLog, insert_undecoded, refused_log
from indexer.store.schema import layout
from indexer.store.schema.layout import EventTable

# First key of the two-part advisory locks; the second is the id of a source (or, for followers, of a chain's row).
_SOURCE_LOCK = 0x67610001


class WriteOutcome(enum.Enum):
    """What became of a chunk."""

    WRITTEN = "written"
    OVERTAKEN = "overtaken"
    """Another worker covered part of it meanwhile, or its sources changed: nothing was written, plan again."""


@dataclass(slots=True)
class Rows:
    """What a range of blocks adds to the tables, decoded, and the logs that it was decoded from."""

    by_table: dict[int, tuple[EventTable, list[tuple[Any, ...]]]] = field(default_factory=dict)
    undecoded: list[UndecodedLog] = field(default_factory=list)
    logs: Sequence[LogAsRead] = ()
    binary: dict[int, tuple[EventTable, list[BinaryRows]]] = field(default_factory=dict)
    """More rows, of history only, in the form in which they are copied."""
    foreign: list[ForeignLogs] = field(default_factory=list)
    """Logs of foreign shapes, which are only counted."""

    @property
    def count(self) -> int:
        """Rows for event tables, without undecoded logs and those of foreign shapes."""
        return sum(len(rows) for _, rows in self.by_table.values()) + sum(
            batch.count for _, batches in self.binary.values() for batch in batches
        )

    @property
    def event_ids(self) -> set[int]:
        """The events that have rows or undecoded logs among these."""
        return {*self.by_table, *self.binary, *(log.event_id for log in self.undecoded)}

    def add(self, other: "Rows") -> None:
        """Takes in what the blocks behind these add."""
        for event_id, (table, rows) in other.by_table.items():
            self.by_table.setdefault(event_id, (table, []))[1].extend(rows)
        for event_id, (table, batches) in other.binary.items():
            self.binary.setdefault(event_id, (table, []))[1].extend(batches)
        self.undecoded += other.undecoded
        self.foreign += other.foreign
        self.logs = [*self.logs, *other.logs]

    def within(self, ranges: RangeSet) -> "Rows":
        """The part of it that lies in some blocks."""

        def inside(number: int) -> bool:
            return any(first <= number <= last for first, last in ranges)

        return Rows(
            by_table={
                event_id: (table, [row for row in rows if inside(row[POSITION_OF["block_number"]])])
                for event_id, (table, rows) in self.by_table.items()
            },
            undecoded=[log for log in self.undecoded if inside(log.block_number)],
            foreign=[logs for logs in self.foreign if inside(logs.block_number)],
            logs=self.logs,
        )


def write_history(
    connection: Connection,
    chain_id: int,
    block_range: BlockRange,
    sources: Sequence[Source],
    *,
    rows: Rows,
    blocks: BlockColumns,
    catalog_version: int,
    durable: bool = True,
) -> WriteOutcome:
    """Writes a finalized chunk and covers its range for its sources.

    Args:
        connection: in a transaction that has done nothing yet; nothing but its commit may follow.
        chain_id: the chain.
        block_range: all of it finalized.
        sources: all that the chunk serves; each wants the whole range.
        rows: everything that the sources' logs say in the range.
        blocks: those that bore the logs, and the range's last one.
        catalog_version: of the catalog by which the chunk was planned.
        durable: whether the commit waits for the disk. Where it does not, a crash of Postgres may undo the last
            commits: rows and coverage together, so that the chunk is only fetched again.

    Raises:
        CatalogChangedError: the catalog is another one now.
        ForeignBlockError: one of the blocks is stored with another hash.
    """
    if not durable:
        connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
    with writing_by(connection, catalog_version) as writing:
        ids = sorted(source.source_id for source in sources)
        if not _lock_uncovered(connection, chain_id, block_range, ids):
            return WriteOutcome.OVERTAKEN
        counting.uncount(connection, chain_id, {source.event.event_id for source in sources}, (block_range,))
        displaced = displace_retired(connection, chain_id, (block_range,), sources)
        copy_blocks(connection, chain_id, blocks)
        insert_rows(connection, chain_id, rows)
        announcing = children.announcing([s.event for s in sources], None if displaced else rows.event_ids)
        changed = children.reconcile(connection, chain_id, announcing, (block_range,), rewritten=displaced)
        writing.forgets = changed.outdated
        cover(connection, dict.fromkeys(ids, (block_range,)))
        bump_versions(connection, [source.event.event_id for source in sources], rewritten=displaced)
        return WriteOutcome.WRITTEN


def _lock_uncovered(connection: Connection, chain_id: int, block_range: BlockRange, ids: list[int]) -> bool:
    connection.execute(
        sa.text("SELECT count(pg_advisory_xact_lock(:lock, id)) FROM unnest(CAST(:ids AS integer[])) AS given (id)"),
        {"lock": _SOURCE_LOCK, "ids": ids},
    )
    free = connection.execute(
        sa.text("""
            SELECT count(*) FROM gapless.sources s JOIN gapless.chains c ON c.chain_id = s.chain_id
            WHERE s.id = ANY(:ids) AND s.chain_id = :chain_id AND s.active
              AND NOT s.coverage && CAST(:range AS int8multirange)
              AND c.finalized_number >= :last
        """),
        {"ids": ids, "chain_id": chain_id, "range": layout.ranges_to_sql((block_range,)), "last": block_range[1]},
    ).scalar_one()
    return bool(free == len(ids))


def displace_retired(connection: Connection, chain_id: int, ranges: RangeSet, sources: Sequence[Source]) -> bool:
    """Takes ranges away from retired sources whose where overlaps ours: a filter or a kind of place was changed.

    Their rows there go: what of them is still wanted is among ours, which follow in this very transaction.

    Returns:
        Whether there were any.
    """
    literal = layout.ranges_to_sql(ranges)
    # Locked, and looked at again after a wait: another worker that displaces the same one may have written its own rows
    # there meanwhile, and those must not be deleted.
    retired = connection.execute(
        sa.text("""
            SELECT id, event_id, place, coverage FROM gapless.sources
            WHERE chain_id = :chain_id AND NOT active AND event_id = ANY(:events)
              AND coverage && CAST(:ranges AS int8multirange)
            ORDER BY id FOR NO KEY UPDATE
        """),
        {"chain_id": chain_id, "events": [s.event.event_id for s in sources], "ranges": literal},
    ).all()
    displaced: list[int] = []
    for row in retired:
        place = Place.from_json(row.place)
        event = next((s.event for s in sources if s.event.event_id == row.event_id and s.place.overlaps(place)), None)
        if event is not None:
            displaced.append(row.id)
            # Only where it is covered by this one: elsewhere the rows are those of sources that displaced it before.
            theirs = intersect(layout.ranges_from_sql(row.coverage), ranges)
            delete_rows(connection, chain_id, event, place, theirs)
    if displaced:
        uncover(connection, displaced, ranges)
        connection.execute(sa.text("DELETE FROM gapless.digests WHERE source_id = ANY(:ids)"), {"ids": displaced})
        ledgers.cannot_resume(connection, chain_id, {source.event.event_id for source in sources})
    return bool(displaced)


def delete_rows(connection: Connection, chain_id: int, event: CatalogEvent, place: Place, ranges: RangeSet) -> int:
    """Deletes what is stored of an event's logs of a place in ranges; says nothing about coverage or children.

    Returns:
        How many rows of the event's table went.
    """
    driver = psycopg_connection(connection)
    included.forget(connection, chain_id, event.contract_id, ranges)
    addresses = [bytes.fromhex(address[2:]) for address in place.addresses] or None
    deleted = 0
    for first, last in ranges:
        parameters = {"chain_id": chain_id, "first": first, "last": last, "addresses": addresses}
        condition = sql.SQL(
            "chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s "
            "AND (%(addresses)s::bytea[] IS NULL OR contract_address = ANY(%(addresses)s::bytea[]))"
        )
        deleted += driver.execute(
            sql.SQL("DELETE FROM {} WHERE {}").format(event.table.identifier, condition), parameters
        ).rowcount
        driver.execute(
            sql.SQL("DELETE FROM gapless.undecoded_logs WHERE event_id = %(event)s AND {}").format(condition),
            parameters | {"event": event.event_id},
        )
        undecoded_logs.delete_foreign(driver, chain_id, event.event_id, first, last, addresses)
    return deleted


def insert_rows(connection: Connection, chain_id: int, rows: Rows) -> None:
    """Copies decoded rows into their tables, counts foreign shapes, and keeps what could not be decoded or stored."""
    driver = psycopg_connection(connection)
    undecoded_logs.insert_foreign(driver, chain_id, rows.foreign)
    for table, batches in rows.binary.values():
        copy_batches(driver, table, batches)
    undecoded = {(log.event_id, log.block_number, log.log_index): log for log in rows.undecoded}
    for event_id, (table, table_rows) in rows.by_table.items():
        if table_rows:
            copy = functools.partial(copy_rows, driver, table)
            for row, reason in copy_accepted(driver, table_rows, copy):
                log = refused_log(table, row, reason, rows.logs)
                undecoded[event_id, log.block_number, log.log_index] = log
    if undecoded:
        insert_undecoded(driver, chain_id, list(undecoded.values()))


def cover(connection: Connection, added: Mapping[int, RangeSet]) -> None:
    """Adds ranges to the coverage of sources; rows are locked in the order of their ids."""
    given = {source_id: layout.ranges_to_sql(ranges) for source_id, ranges in sorted(added.items()) if ranges}
    if given:
        connection.execute(
            sa.text("""
                UPDATE gapless.sources s SET coverage = coverage + CAST(given.range AS int8multirange)
                FROM unnest(CAST(:ids AS integer[]), CAST(:ranges AS text[])) AS given (id, range)
                JOIN (SELECT id FROM gapless.sources WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE) locked
                    ON locked.id = given.id
                WHERE s.id = given.id
            """),
            {"ids": list(given), "ranges": list(given.values())},
        )


def uncover(connection: Connection, source_ids: Sequence[int], ranges: RangeSet) -> None:
    """Takes ranges from what sources cover, and from what is proven of them."""
    connection.execute(
        sa.text("""
            UPDATE gapless.sources s SET coverage = coverage - CAST(:ranges AS int8multirange),
                                         verified = verified - CAST(:ranges AS int8multirange)
            FROM (SELECT id FROM gapless.sources WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE) locked
            WHERE s.id = locked.id
        """),
        {"ranges": layout.ranges_to_sql(ranges), "ids": list(source_ids)},
    )


def uncover_above(connection: Connection, chain_id: int, common: int) -> None:
    """Takes all blocks above one from what the sources of a chain cover, the retired ones too.

    Not those that are followed: they cover the new branch up to its tip.
    """
    connection.execute(
        sa.text("""
            UPDATE gapless.sources s
            SET coverage = CASE WHEN followed THEN coverage ELSE coverage - int8multirange(int8range(:above, NULL)) END,
                verified = verified - int8multirange(int8range(:above, NULL))
            FROM (SELECT id FROM gapless.sources
                  WHERE chain_id = :chain_id
                    AND (verified && int8multirange(int8range(:above, NULL))
                         OR NOT followed AND coverage && int8multirange(int8range(:above, NULL)))
                  ORDER BY id FOR NO KEY UPDATE) locked
            WHERE s.id = locked.id
        """),
        {"chain_id": chain_id, "above": common + 1},
    )


def bump_versions(connection: Connection, event_ids: Iterable[int], *, rewritten: bool) -> None:
    """Makes cached answers about events stale: all of them, or only those that the head can change.

    The head's own transactions need not: every such answer depends on the chain's tip, which they move.

    Args:
        connection: the writing transaction.
        event_ids: the events whose rows or coverage changed.
        rewritten: whether answers about finalized ranges may have changed too.
    """
    connection.execute(
        sa.text("""
            UPDATE gapless.events e SET version = version + 1, rewrite_version = rewrite_version + :rewritten
            FROM (SELECT id FROM gapless.events WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE) locked
            WHERE e.id = locked.id
        """),
        {"ids": sorted(set(event_ids)), "rewritten": int(rewritten)},
    )
