"""The follower's side of the store: the part of a chain that can still be reorganised.

One process follows a chain (:mod:`indexer.store.head.leader_epoch`). It alone writes above ``chains.finalized_number``.

A source is *followed* while its coverage is open at its end (:func:`follow`): it covers the blocks up to the chain's
tip, wherever that goes, so that a new block costs one row of ``chains`` however many sources there are. Each block is
read for all followed sources. Every transaction that moves the tip makes sure that these are the ones whose coverage is
open: ``chains.followed_mark`` changes whenever any transaction opens or closes a source.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange, RangeSet
from indexer.store.catalog import children
from indexer.store.catalog.catalog import CatalogEvent, Series, Source
from indexer.store.catalog.version import CatalogChangedError, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.head.leader_epoch import fenced
from indexer.store.rows import transactions as included
from indexer.store.rows import unfinalized, writer
from indexer.store.rows.blocks import Block, insert_blocks
from indexer.store.rows.writer import Rows
from indexer.store.schema.tables import SCHEMA
from indexer.store.tokens import balances


@dataclass(frozen=True, slots=True)
class HeadState:
    """How far a chain is followed, as the database says.

    Attributes:
        genesis_hash: of block 0; None before the first look, and where no node serves it.
        tip: the newest block whose logs are in the tables; None before the first.
        finalized: nothing at or below it is ever changed by the follower; None before the first look.
        finalized_hash: the hash of that block.
    """

    genesis_hash: bytes | None
    tip: Block | None
    finalized: int | None
    finalized_hash: bytes | None


@dataclass(frozen=True, slots=True)
class HeadReport:
    """What the nodes say the head is, and how following it goes.

    Attributes:
        head: the newest block of the nodes.
        state: ``following`` or ``waiting``.
        reason: for people; None: there is nothing to say.
    """

    head: Block
    state: str
    reason: str | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """The values of :data:`_REPORTED`."""
        moment = datetime.fromtimestamp(self.head.time, UTC)
        return {"head": self.head.number, "head_time": moment, "state": self.state, "reason": self.reason}


# A chain that is halted stays so.
_REPORTED: Final = (
    "head_number = :head, head_time = :head_time, head_seen_at = now(), "
    "state = CASE state WHEN 'halted' THEN state ELSE :state END, "
    "state_reason = CASE state WHEN 'halted' THEN state_reason ELSE :reason END"
)


def load_state(connection: Connection, chain_id: int) -> HeadState:
    """Reads how far a chain is followed."""
    row = connection.execute(
        sa.text("""
            SELECT genesis_hash, tip_number, tip_hash, tip_time, finalized_number, finalized_hash
            FROM gapless.chains WHERE chain_id = :chain_id
        """),
        {"chain_id": chain_id},
    ).one()
    tip = None
    if row.tip_number is not None:
        tip = Block(row.tip_number, bytes(row.tip_hash), int(row.tip_time.timestamp()))
    return HeadState(
        genesis_hash=None if row.genesis_hash is None else bytes(row.genesis_hash),
        tip=tip,
        finalized=row.finalized_number,
        finalized_hash=None if row.finalized_hash is None else bytes(row.finalized_hash),
    )


def load_headers(connection: Connection, chain_id: int, block_range: BlockRange) -> dict[int, bytes]:
    """The stored hashes of the blocks of a range, by number."""
    rows = connection.execute(
        sa.text(
            "SELECT number, hash FROM gapless.blocks WHERE chain_id = :chain_id AND number BETWEEN :first AND :last"
        ),
        {"chain_id": chain_id, "first": block_range[0], "last": block_range[1]},
    )
    return {number: bytes(block_hash) for number, block_hash in rows}


def load_block(connection: Connection, chain_id: int, number: int) -> Block:
    """A stored block.

    Raises:
        sqlalchemy.exc.NoResultFound: it is not stored.
    """
    row = connection.execute(
        sa.text("SELECT hash, parent_hash, time FROM gapless.blocks WHERE chain_id = :chain_id AND number = :number"),
        {"chain_id": chain_id, "number": number},
    ).one()
    parent_hash = None if row.parent_hash is None else bytes(row.parent_hash)
    return Block(number, bytes(row.hash), int(row.time.timestamp()), parent_hash)


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
    _close(connection, chain_id, ())
    _require_followed(connection, chain_id, ())
    fenced(
        connection,
        chain_id,
        epoch,
        "tip_number = :number, tip_hash = :hash, tip_time = :time, moved_at = now(), finalized_number = :number, "
        "finalized_hash = :hash",
        {"number": finalized.number, "hash": finalized.hash, "time": datetime.fromtimestamp(finalized.time, UTC)},
    )
    insert_blocks(connection, chain_id, [finalized])


def report_head(connection: Connection, chain_id: int, epoch: int, report: HeadReport) -> None:
    """Notes what the nodes say the head is, where no block says so with it (:func:`extend`)."""
    fenced(connection, chain_id, epoch, _REPORTED, report.parameters)


def report_state(connection: Connection, chain_id: int, state: str, reason: str | None) -> None:
    """Notes how a chain goes, for ``status``; not fenced, since one that stands by may say so too.

    A chain that is halted stays so, whatever was under way meanwhile says, until :func:`lift`.
    """
    connection.execute(
        sa.text(
            "UPDATE gapless.chains SET state = :state, state_reason = :reason, updated_at = now() "
            "WHERE chain_id = :chain_id AND (state <> 'halted' OR :state = 'halted')"
        ),
        {"chain_id": chain_id, "state": state, "reason": reason},
    )


def lift(connection: Connection, chain_id: int) -> None:
    """Ends the halt of a chain: what halted it is over, or is to be looked at by a process that has just begun."""
    connection.execute(
        sa.text(
            "UPDATE gapless.chains SET state = 'waiting', state_reason = NULL, updated_at = now() "
            "WHERE chain_id = :chain_id AND state = 'halted'"
        ),
        {"chain_id": chain_id},
    )


def follow(connection: Connection, chain_id: int, epoch: int, source_ids: Collection[int], version: int) -> int:
    """Makes some sources of a chain those that are followed, and no others.

    Those whose last block is at or below the tip have nothing to come: their coverage stays closed. After a
    reorganisation that may be otherwise, so this is called again.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.head.leader_epoch.become_follower` returned.
        source_ids: active sources that cover all that they want of the blocks between finalized and tip.
        version: of the catalog by which that was found.

    Returns:
        The mark to present with every block that is read for them.

    Raises:
        CatalogChangedError: the catalog is another one now, or sources are being changed.
        FollowerLostError: another process follows now.
    """
    with writing_by(connection, version):
        fenced(connection, chain_id, epoch, "tip_number = tip_number", {})
        ids = connection.execute(
            sa.text("""
                SELECT s.id FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
                WHERE s.id = ANY(:ids) AND s.active AND (s.end_block IS NULL OR s.end_block > n.tip_number)
                ORDER BY s.id
            """),
            {"ids": sorted(source_ids)},
        )
        opened = list(ids.scalars())
        _close(connection, chain_id, opened)
        connection.execute(
            sa.text("""
                WITH opened AS (SELECT id FROM gapless.sources
                                WHERE id = ANY(:ids) AND chain_id = :chain_id AND NOT followed
                                ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
                UPDATE gapless.sources s
                SET coverage = s.coverage + int8multirange(int8range(greatest(n.tip_number + 1, s.start_block), NULL))
                FROM opened, gapless.chains n WHERE s.id = opened.id AND n.chain_id = s.chain_id
            """),
            {"chain_id": chain_id, "ids": opened},
        )
        _require_followed(connection, chain_id, opened)
        return _mark(connection, chain_id)


def _close(connection: Connection, chain_id: int, kept: Sequence[int]) -> None:
    """Ends the coverage of followed sources, but for some, at the tip."""
    # Rows that another transaction has locked are passed over (and found by _require_followed): it may itself be
    # waiting for the chain's row, which is locked here.
    connection.execute(
        sa.text("""
            WITH closed AS (SELECT id FROM gapless.sources
                            WHERE chain_id = :chain_id AND followed AND NOT id = ANY(:kept)
                            ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE gapless.sources s SET coverage = gapless.covered(s.coverage, s.end_block, n.tip_number)
            FROM closed, gapless.chains n WHERE s.id = closed.id AND n.chain_id = s.chain_id
        """),
        {"chain_id": chain_id, "kept": list(kept)},
    )


def _require_followed(connection: Connection, chain_id: int, ids: Sequence[int]) -> None:
    followed = connection.execute(
        sa.text("SELECT id FROM gapless.sources WHERE chain_id = :chain_id AND followed ORDER BY id"),
        {"chain_id": chain_id},
    ).scalars()
    if list(followed) != list(ids):
        raise CatalogChangedError("sources are being changed at this moment; planning again")


def _mark(connection: Connection, chain_id: int) -> int:
    mark: int | None = connection.execute(
        sa.text("SELECT followed_mark FROM gapless.chains WHERE chain_id = :chain_id"), {"chain_id": chain_id}
    ).scalar_one()
    return mark or 0


def extend(
    connection: Connection,
    chain_id: int,
    epoch: int,
    *,
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
        blocks: consecutive, ascending, the first one's parent is the stored tip.
        sources: all followed sources of the chain.
        mark: what :func:`follow` returned for them.
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
        added = (blocks[0].number, blocks[-1].number)
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
        blocks: the new branch, consecutive from ``common`` on; may be shorter than the old one, or empty.
        sources: all followed sources of the chain.
        mark: what :func:`follow` returned for them.
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
        fenced(connection, chain_id, epoch, f"{moved}, {_REPORTED}", {**values, **report.parameters})
    if _mark(connection, chain_id) != mark:
        raise CatalogChangedError("other sources are followed now; planning again")
