"""The follower's side of the store: the part of a chain that can still be reorganised.

One process follows a chain (:mod:`indexer.store.head.state`). It alone writes above ``chains.finalized_number``. A
new block costs one row of ``chains`` however many sources there are; each transaction that moves the tip presents the
mark of the followed ones.

``unfinalized_rows`` says which events have rows in blocks that can still be reorganised, so that a reorganisation
touches their tables only. It is written in the transactions that write such rows, and forgotten as blocks become
final. Rows that were written by a version of Gapless that noted nothing are not in it. Hence ``chains.noted_above``:
above that block all are. A follower whose predecessor in ``follower_epoch`` did not note begins at its own first tip.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import POSITION_OF
from indexer.intervals import ALWAYS, BlockRange, RangeSet
from indexer.store.catalog import children
from indexer.store.catalog.catalog import CatalogEvent, Series, Source
from indexer.store.catalog.version import CatalogChangedError, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.derived import counting
from indexer.store.head import state
from indexer.store.head.state import REPORTED, HeadReport, fenced
from indexer.store.programs import disturbances
from indexer.store.rows import transactions as included
from indexer.store.rows import writer
from indexer.store.rows.blocks import Block, insert_blocks
from indexer.store.rows.writer import Rows
from indexer.store.schema.tables import SCHEMA
from indexer.store.tokens import balances

#: Assignments to a chain's row, beside those of a new tip, by a follower that notes the rows above the old one.
_NOTED: Final = (
    "noted_above = CASE WHEN follower_epoch - noted_epoch <= 1 THEN noted_above ELSE tip_number END, "
    "noted_epoch = follower_epoch"
)

_BLOCK_NUMBER: Final = POSITION_OF["block_number"]


def start(connection: Connection, chain_id: int, epoch: int, genesis_hash: bytes | None, finalized: Block) -> None:
    """Begins to follow at a finalized block: what is at or below it is history, and backfill's."""
    fenced(
        connection,
        chain_id,
        epoch,
        "genesis_hash = :genesis, tip_number = :number, tip_hash = :hash, tip_time = :time, "
        "moved_at = now(), finalized_number = :number, finalized_hash = :hash",
        {
            "genesis": genesis_hash,
            "number": finalized.number,
            "hash": finalized.hash,
            "time": datetime.fromtimestamp(finalized.time, UTC),
        },
    )
    insert_blocks(connection, chain_id, [finalized])


def jump(connection: Connection, chain_id: int, epoch: int, finalized: Block) -> None:
    """Goes on following at a newer finalized block; what lies between the old tip and it is left to backfill.

    The caller has made sure that the old tip is an ancestor of that block. No source is followed any more: what lies
    between was not read for any.

    Raises:
        CatalogChangedError: sources are being changed.
        FollowerLostError: another process follows now.
    """
    fenced(connection, chain_id, epoch, "tip_number = tip_number", {})
    state.close_sources(connection, chain_id)
    fenced(
        connection,
        chain_id,
        epoch,
        "tip_number = :number, tip_hash = :hash, tip_time = :time, moved_at = now(), finalized_number = :number, "
        "finalized_hash = :hash",
        {"number": finalized.number, "hash": finalized.hash, "time": datetime.fromtimestamp(finalized.time, UTC)},
    )
    insert_blocks(connection, chain_id, [finalized])


def extend(
    connection: Connection,
    chain_id: int,
    epoch: int,
    *,
    after: int,
    blocks: Sequence[Block],
    sources: Sequence[Source],
    mark: int,
    rows: Rows,
    catalog_version: int,
    report: HeadReport | None = None,
) -> None:
    """Appends new blocks to the tip: their headers, rows and the new tip, in one transaction.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.head.state.become_follower` returned.
        after: the number of the stored tip.
        blocks: ascending, each the child of the one before, the first one of the stored tip; their numbers need not be
            consecutive.
        sources: all followed sources of the chain.
        mark: what :func:`~indexer.store.head.state.follow_sources` returned for them.
        rows: what those sources' logs say in these blocks.
        catalog_version: of the catalog by which they were decoded.
        report: what the head is, for the same change of the chain's row: a block without rows changes no other row.

    Raises:
        CatalogChangedError: the catalog is another one now, or other sources are followed.
        FollowerLostError: another process follows now.
    """
    with writing_by(connection, catalog_version):
        _move_tip(connection, chain_id, epoch, blocks[-1], mark, report)
        insert_blocks(connection, chain_id, blocks)
        writer.insert_rows(connection, chain_id, rows)
        _note_events(connection, chain_id, rows)
        announcing = children.announcing([source.event for source in sources], rows.event_ids)
        added = (after + 1, blocks[-1].number)
        children.reconcile(connection, chain_id, announcing, (added,), appended=True)
        balances.extend(connection, chain_id, added, sources, rows)
        counting.extend(connection, chain_id, added, sources, rows.event_ids)


def fill(
    connection: Connection,
    chain_id: int,
    epoch: int,
    *,
    sources: Sequence[Source],
    ranges: RangeSet,
    rows: Rows,
    catalog_version: int,
) -> None:
    """Adds unfinalised blocks, which other sources have already, to sources that came late.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.head.state.become_follower` returned.
        sources: those that came late.
        ranges: what each of them lacks and gets now; all at or below the tip.
        rows: what those sources' logs say in those ranges.
        catalog_version: of the catalog by which they were decoded.

    Raises:
        CatalogChangedError: the catalog is another one now.
        FollowerLostError: another process follows now.
    """
    with writing_by(connection, catalog_version) as writing:
        fenced(connection, chain_id, epoch, "tip_number = tip_number", {})
        counting.uncount(connection, chain_id, {source.event.event_id for source in sources}, ranges)
        displaced = writer.displace_retired(connection, chain_id, ranges, sources)
        writer.insert_rows(connection, chain_id, rows)
        _note_events(connection, chain_id, rows)
        announcing = children.announcing([source.event for source in sources], None if displaced else rows.event_ids)
        changed = children.reconcile(connection, chain_id, announcing, ranges, rewritten=displaced)
        writing.forgets = changed.outdated
        writer.cover(connection, {source.source_id: ranges for source in sources})
        writer.bump_versions(connection, {source.event.event_id for source in sources}, rewritten=False)


def swap(
    connection: Connection,
    chain_id: int,
    epoch: int,
    *,
    common: Block,
    old_tip: Block,
    blocks: Sequence[Block],
    sources: Sequence[Source],
    mark: int,
    events: Iterable[CatalogEvent],
    series: Iterable[Series],
    rows: Rows,
    catalog_version: int,
    report: HeadReport | None = None,
) -> int:
    """Replaces the branch above a common block by another one, in one transaction, and records the reorganisation.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.head.state.become_follower` returned.
        common: the last block that both branches share; at or above ``chains.finalized_number``.
        old_tip: the stored tip.
        blocks: the new branch from ``common`` on, each block the child of the one before; may be shorter than the old
            one, or empty.
        sources: all followed sources of the chain.
        mark: what :func:`~indexer.store.head.state.follow_sources` returned for them.
        events: all events that have a table, the retired ones too.
        series: all snapshot series, the retired ones too; their points above ``common`` go, and are taken again later.
        rows: what the followed sources' logs say in the new branch.
        catalog_version: of the catalog by which they were decoded.
        report: what the head is, for the same change of the chain's row.

    Returns:
        The id of the record in ``reorgs``.

    Raises:
        CatalogChangedError: the catalog is another one now, or other sources are followed.
        FollowerLostError: another process follows now.
    """
    with writing_by(connection, catalog_version):
        new_tip = blocks[-1] if blocks else common
        _move_tip(connection, chain_id, epoch, new_tip, mark, report)
        known = {event.event_id: event for event in events}
        balances.take_back(connection, chain_id, common.number, known.values())
        counting.take_back(connection, chain_id, common.number)
        disturbances.take_back(connection, chain_id, common.number)
        removed = _drop_branch(connection, chain_id, common.number, known, {one.series_id: one for one in series})
        reorg_id: int = connection.execute(
            sa.text("""
                INSERT INTO gapless.reorgs (chain_id, common_number, common_hash, old_tip_number, old_tip_hash,
                                            new_tip_number, new_tip_hash, depth, rows_removed, rows_added)
                VALUES (:chain_id, :common, :common_hash, :old, :old_hash, :new, :new_hash, :depth, :removed, :added)
                RETURNING id
            """),
            {
                "chain_id": chain_id,
                "common": common.number,
                "common_hash": common.hash,
                "old": old_tip.number,
                "old_hash": old_tip.hash,
                "new": new_tip.number,
                "new_hash": new_tip.hash,
                "depth": old_tip.number - common.number,
                "removed": removed,
                "added": rows.count,
            },
        ).scalar_one()
        connection.execute(
            sa.text("""
                WITH gone AS (DELETE FROM gapless.blocks WHERE chain_id = :chain_id AND number > :common
                              RETURNING number, hash)
                INSERT INTO gapless.orphans (chain_id, number, hash, reorg_id)
                SELECT :chain_id, number, hash, :reorg_id FROM gone
            """),
            {"chain_id": chain_id, "common": common.number, "reorg_id": reorg_id},
        )
        if blocks:
            insert_blocks(connection, chain_id, blocks)
        writer.insert_rows(connection, chain_id, rows)
        _note_events(connection, chain_id, rows)
        writer.uncover_above(connection, chain_id, common.number)
        included.forget_above(connection, chain_id, common.number)
        above = ((common.number + 1, ALWAYS),)
        children.reconcile(connection, chain_id, children.announcing(known.values()), above, appended=True)
        if blocks:
            added = (common.number + 1, new_tip.number)
            _cover_ended(connection, sources, added)
            balances.extend(connection, chain_id, added, sources, rows)
            counting.extend(connection, chain_id, added, sources, rows.event_ids)
        return reorg_id


def _cover_ended(connection: Connection, sources: Sequence[Source], added: BlockRange) -> None:
    """Covers a new branch for sources that had their last block when they were followed: they are closed."""
    ending = {s.source_id: s.within(added) for s in sources if s.end_block is not None}
    if ending:
        closed = connection.execute(
            sa.text("SELECT id FROM gapless.sources WHERE id = ANY(:ids) AND NOT followed"), {"ids": list(ending)}
        ).scalars()
        writer.cover(connection, {source_id: ending[source_id] for source_id in closed})


def _drop_branch(
    connection: Connection,
    chain_id: int,
    common: int,
    events: Mapping[int, CatalogEvent],
    series: Mapping[int, Series],
) -> int:
    """Deletes all that was said above a block, and all that was derived from it; counts the event rows."""
    driver = psycopg_connection(connection)
    where = sql.SQL("DELETE FROM {} WHERE chain_id = %s AND block_number > %s")
    bearing = _events_above(connection, chain_id, common)
    removed = 0
    for event_id in sorted(events if bearing is None else bearing):
        if event_id not in events:
            raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")
        removed += driver.execute(where.format(events[event_id].table.identifier), (chain_id, common)).rowcount
    if bearing is None:
        _all_are_noted(connection, chain_id, common)
    points = driver.execute(
        "SELECT DISTINCT series_id FROM gapless.series_points WHERE chain_id = %s AND block_number > %s",
        (chain_id, common),
    )
    for (series_id,) in points.fetchall():
        if series_id not in series:
            raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")
        driver.execute(where.format(series[series_id].identifier), (chain_id, common))
    driver.execute(
        "DELETE FROM gapless.undecoded_logs "
        "WHERE chain_id = %s AND block_number > %s AND (%s::integer[] IS NULL OR event_id = ANY(%s::integer[]))",
        (chain_id, common, bearing, bearing),
    )
    driver.execute(
        "DELETE FROM gapless.foreign_shapes "
        "WHERE chain_id = %s AND block_number > %s AND (%s::integer[] IS NULL OR event_id = ANY(%s::integer[]))",
        (chain_id, common, bearing, bearing),
    )
    for table in ("unfinalized_rows", "series_points", "tokens", "block_details", "transactions"):
        driver.execute(where.format(sql.Identifier(SCHEMA, table)), (chain_id, common))
    return removed


def finalize(connection: Connection, chain_id: int, epoch: int, finalized: Block, safe: int | None) -> None:
    """Moves the border between the follower and backfill upwards; never downwards."""
    fenced(
        connection,
        chain_id,
        epoch,
        "safe_number = :safe, "
        "finalized_hash = CASE WHEN finalized_number < :number THEN :hash ELSE finalized_hash END, "
        "finalized_number = greatest(finalized_number, :number)",
        {"number": finalized.number, "hash": finalized.hash, "safe": safe},
    )
    _forget_through(connection, chain_id, finalized.number)


def _move_tip(
    connection: Connection, chain_id: int, epoch: int, tip: Block, mark: int, report: HeadReport | None
) -> None:
    """Moves the tip, and says that the rows above the old one are noted (:mod:`indexer.store.head.branch`)."""
    moved = f"tip_number = :number, tip_hash = :hash, tip_time = :time, moved_at = now(), {_NOTED}"
    values = {"number": tip.number, "hash": tip.hash, "time": datetime.fromtimestamp(tip.time, UTC)}
    if report is None:
        fenced(connection, chain_id, epoch, moved, values)
    else:
        fenced(connection, chain_id, epoch, f"{moved}, {REPORTED}", {**values, **report.parameters})
    if state.followed_mark(connection, chain_id) != mark:
        raise CatalogChangedError("other sources are followed now; planning again")


def _note_events(connection: Connection, chain_id: int, rows: Rows) -> None:
    """Notes which events have rows, undecoded or foreign logs in which blocks; nothing is written where there are none.

    Args:
        connection: in the transaction that writes the rows.
        chain_id: the chain.
        rows: of unfinalised blocks.
    """
    found = {(row[_BLOCK_NUMBER], event_id) for event_id, (_, own) in rows.by_table.items() for row in own}
    found |= {(log.block_number, log.event_id) for log in rows.undecoded}
    found |= {(logs.block_number, logs.event_id) for logs in rows.foreign}
    if found:
        psycopg_connection(connection).execute(
            "INSERT INTO gapless.unfinalized_rows (chain_id, block_number, event_id) "
            "SELECT %s, * FROM unnest(%s::bigint[], %s::integer[]) ON CONFLICT DO NOTHING",
            (chain_id, *map(list, zip(*sorted(found), strict=True))),
        )


def _events_above(connection: Connection, chain_id: int, common: int) -> list[int] | None:
    """The events that have rows, undecoded or foreign logs above a block; None: not known, it may be any.

    Args:
        connection: in the transaction of a follower that has moved the tip already.
        chain_id: the chain.
        common: the block.
    """
    noted = connection.execute(
        sa.text("SELECT noted_above <= :common FROM gapless.chains WHERE chain_id = :chain_id"),
        {"chain_id": chain_id, "common": common},
    ).scalar_one()
    if not noted:
        return None
    found: Iterable[int] = connection.execute(
        sa.text(
            "SELECT DISTINCT event_id FROM gapless.unfinalized_rows "
            "WHERE chain_id = :chain_id AND block_number > :common ORDER BY event_id"
        ),
        {"chain_id": chain_id, "common": common},
    ).scalars()
    return list(found)


def _all_are_noted(connection: Connection, chain_id: int, common: int) -> None:
    """Says that all rows above a block are noted from now on, since there are none any more."""
    connection.execute(
        sa.text("UPDATE gapless.chains SET noted_above = :common WHERE chain_id = :chain_id"),
        {"chain_id": chain_id, "common": common},
    )


def _forget_through(connection: Connection, chain_id: int, finalized: int) -> None:
    """Forgets what is known of blocks that can no longer be reorganised."""
    connection.execute(
        sa.text("DELETE FROM gapless.unfinalized_rows WHERE chain_id = :chain_id AND block_number <= :finalized"),
        {"chain_id": chain_id, "finalized": finalized},
    )
