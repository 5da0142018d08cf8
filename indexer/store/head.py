"""The follower's side of the store: the part of a chain that can still be reorganised.

One process follows a chain (:mod:`indexer.store.following`). It alone writes above ``chains.finalized_number``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange, RangeSet
from indexer.store import balances, included, unannounced, writer
from indexer.store.blocks import Block, insert_blocks
from indexer.store.catalog import CatalogEvent, Series, Source, writing_by
from indexer.store.database import psycopg_connection
from indexer.store.following import fenced
from indexer.store.tables import SCHEMA
from indexer.store.writer import Rows


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
        "finalized_number = :number, finalized_hash = :hash",
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

    The caller has made sure that the old tip is an ancestor of that block.
    """
    fenced(
        connection,
        chain_id,
        epoch,
        "tip_number = :number, tip_hash = :hash, tip_time = :time, finalized_number = :number, finalized_hash = :hash",
        {"number": finalized.number, "hash": finalized.hash, "time": datetime.fromtimestamp(finalized.time, UTC)},
    )
    insert_blocks(connection, chain_id, [finalized])


def report_head(
    connection: Connection, chain_id: int, epoch: int, head: Block, *, state: str, reason: str | None = None
) -> None:
    """Notes what the nodes say the head is, and how following goes; a chain that is halted stays so."""
    fenced(
        connection,
        chain_id,
        epoch,
        "head_number = :number, head_time = :time, head_seen_at = now(), "
        "state = CASE state WHEN 'halted' THEN state ELSE :state END, "
        "state_reason = CASE state WHEN 'halted' THEN state_reason ELSE :reason END",
        {"number": head.number, "time": datetime.fromtimestamp(head.time, UTC), "state": state, "reason": reason},
    )


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


def extend(
    connection: Connection,
    chain_id: int,
    epoch: int,
    *,
    blocks: Sequence[Block],
    sources: Iterable[Source],
    rows: Rows,
    catalog_version: int,
) -> None:
    """Appends new blocks to the tip: their headers, rows, coverage and the new tip, in one transaction.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.following.become_follower` returned.
        blocks: consecutive, ascending, the first one's parent is the stored tip.
        sources: all followed sources of the chain.
        rows: what those sources' logs say in these blocks.
        catalog_version: of the catalog by which they were decoded.

    Raises:
        CatalogChangedError: the catalog is another one now.
        FollowerLostError: another process follows now.
    """
    with writing_by(connection, catalog_version):
        block_range = (blocks[0].number, blocks[-1].number)
        sources = list(sources)
        _move_tip(connection, chain_id, epoch, blocks[-1])
        insert_blocks(connection, chain_id, blocks)
        writer.insert_rows(connection, chain_id, rows)
        writer.cover(connection, {source.source_id: source.within(block_range) for source in sources})
        balances.extend(connection, chain_id, block_range, sources, rows)
        writer.bump_versions(connection, {source.event.event_id for source in sources}, rewritten=False)


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
        epoch: what :func:`~indexer.store.following.become_follower` returned.
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
        if displaced:
            late = {source.event.event_id for source in sources}
            writing.forgets = unannounced.settle(connection, chain_id, late, ranges)
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
    events: Iterable[CatalogEvent],
    series: Iterable[Series],
    rows: Rows,
    catalog_version: int,
) -> int:
    """Replaces the branch above a common block by another one, in one transaction, and records the reorganisation.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.following.become_follower` returned.
        common: the last block that both branches share; at or above ``chains.finalized_number``.
        old_tip: the stored tip.
        blocks: the new branch, consecutive from ``common`` on; may be shorter than the old one, or empty.
        sources: all followed sources of the chain.
        events: all events that have a table, the retired ones too.
        series: all snapshot series, the retired ones too; their points above ``common`` go, and are taken again later.
        rows: what the followed sources' logs say in the new branch.
        catalog_version: of the catalog by which they were decoded.

    Returns:
        The id of the record in ``reorgs``.

    Raises:
        CatalogChangedError: the catalog is another one now.
        FollowerLostError: another process follows now.
    """
    with writing_by(connection, catalog_version):
        new_tip = blocks[-1] if blocks else common
        _move_tip(connection, chain_id, epoch, new_tip)
        events = list(events)
        balances.take_back(connection, chain_id, common.number, events)
        removed = _drop_branch(connection, chain_id, common.number, events, series)
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
        writer.uncover_above(connection, chain_id, common.number)
        included.forget_above(connection, chain_id, common.number)
        if blocks:
            added = (common.number + 1, new_tip.number)
            writer.cover(connection, {source.source_id: source.within(added) for source in sources})
            balances.extend(connection, chain_id, added, sources, rows)
        writer.bump_versions(connection, {event.event_id for event in events}, rewritten=False)
        return reorg_id


def _drop_branch(
    connection: Connection, chain_id: int, common: int, events: Sequence[CatalogEvent], series: Iterable[Series]
) -> int:
    """Deletes all that was said above a block, and all that was derived from it; counts the event rows."""
    driver = psycopg_connection(connection)
    removed = 0
    for event in events:
        removed += driver.execute(
            sql.SQL("DELETE FROM {} WHERE chain_id = %s AND block_number > %s").format(event.table.identifier),
            (chain_id, common),
        ).rowcount
    for one in series:
        driver.execute(
            sql.SQL("DELETE FROM {} WHERE chain_id = %s AND block_number > %s").format(one.identifier),
            (chain_id, common),
        )
    for table in ("undecoded_logs", "children", "series_points", "tokens", "block_details", "transactions"):
        driver.execute(
            sql.SQL("DELETE FROM {} WHERE chain_id = %s AND block_number > %s").format(sql.Identifier(SCHEMA, table)),
            (chain_id, common),
        )
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


def _move_tip(connection: Connection, chain_id: int, epoch: int, tip: Block) -> None:
    fenced(
        connection,
        chain_id,
        epoch,
        "tip_number = :number, tip_hash = :hash, tip_time = :time",
        {"number": tip.number, "hash": tip.hash, "time": datetime.fromtimestamp(tip.time, UTC)},
    )
