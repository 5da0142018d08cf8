"""The follower's side of the store: the part of a chain that can still be reorganised.

One process follows a chain (:mod:`indexer.store.head.leader_epoch`). It alone writes above ``chains.finalized_number``.

A new block costs one row of ``chains`` however many sources there are: which of them it is read for, and covers, stands
in :mod:`indexer.store.head.followed_sources`. Each transaction that moves the tip presents the mark of those.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange, RangeSet
from indexer.store.catalog import children
from indexer.store.catalog.catalog import CatalogEvent, Series, Source
from indexer.store.catalog.version import CatalogChangedError, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.head import followed_sources
from indexer.store.head.leader_epoch import fenced
from indexer.store.head.state import REPORTED, HeadReport
from indexer.store.rows import transactions as included
from indexer.store.rows import unfinalized, writer
from indexer.store.rows.blocks import Block, insert_blocks
from indexer.store.rows.writer import Rows
from indexer.store.schema.tables import SCHEMA
from indexer.store.tokens import balances


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
    followed_sources.close_all(connection, chain_id)
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
        epoch: what :func:`~indexer.store.head.leader_epoch.become_follower` returned.
        after: the number of the stored tip.
        blocks: ascending, each the child of the one before, the first one of the stored tip; their numbers need not be
            consecutive.
        sources: all followed sources of the chain.
        mark: what :func:`~indexer.store.head.followed_sources.follow` returned for them.
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
        unfinalized.note(connection, chain_id, rows)
        announcing = children.announcing([source.event for source in sources], rows.event_ids)
        added = (after + 1, blocks[-1].number)
        children.reconcile(connection, chain_id, announcing, (added,), appended=True)
        balances.extend(connection, chain_id, added, sources, rows)


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
        epoch: what :func:`~indexer.store.head.leader_epoch.become_follower` returned.
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
        displaced = writer.displace_retired(connection, chain_id, ranges, sources)
        writer.insert_rows(connection, chain_id, rows)
        unfinalized.note(connection, chain_id, rows)
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
        epoch: what :func:`~indexer.store.head.leader_epoch.become_follower` returned.
        common: the last block that both branches share; at or above ``chains.finalized_number``.
        old_tip: the stored tip.
        blocks: the new branch from ``common`` on, each block the child of the one before; may be shorter than the old
            one, or empty.
        sources: all followed sources of the chain.
        mark: what :func:`~indexer.store.head.followed_sources.follow` returned for them.
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
        unfinalized.note(connection, chain_id, rows)
        writer.uncover_above(connection, chain_id, common.number)
        included.forget_above(connection, chain_id, common.number)
        above = ((common.number + 1, children.ALWAYS),)
        children.reconcile(connection, chain_id, children.announcing(known.values()), above, appended=True)
        if blocks:
            added = (common.number + 1, new_tip.number)
            _cover_ended(connection, sources, added)
            balances.extend(connection, chain_id, added, sources, rows)
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
    bearing = unfinalized.bearing(connection, chain_id, common)
    removed = 0
    for event_id in sorted(events if bearing is None else bearing):
        if event_id not in events:
            raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")
        removed += driver.execute(where.format(events[event_id].table.identifier), (chain_id, common)).rowcount
    if bearing is None:
        unfinalized.noted(connection, chain_id, common)
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
    unfinalized.forget_through(connection, chain_id, finalized.number)


def _move_tip(
    connection: Connection, chain_id: int, epoch: int, tip: Block, mark: int, report: HeadReport | None
) -> None:
    """Moves the tip, and says that the rows above the old one are noted (:mod:`indexer.store.rows.unfinalized`)."""
    moved = f"tip_number = :number, tip_hash = :hash, tip_time = :time, moved_at = now(), {unfinalized.NOTED}"
    values = {"number": tip.number, "hash": tip.hash, "time": datetime.fromtimestamp(tip.time, UTC)}
    if report is None:
        fenced(connection, chain_id, epoch, moved, values)
    else:
        fenced(connection, chain_id, epoch, f"{moved}, {REPORTED}", {**values, **report.parameters})
    if followed_sources.mark(connection, chain_id) != mark:
        raise CatalogChangedError("other sources are followed now; planning again")
