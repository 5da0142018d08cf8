"""Which sources of a chain are followed: each new block is read for all of them, and covers them.

A source is *followed* while its coverage is open at its end (:func:`follow`): it covers the blocks up to the chain's
tip, wherever that goes, so that a new block writes no source. Every transaction that moves the tip makes sure that the
sources that it was read for are the ones whose coverage is open: ``chains.followed_mark`` (:func:`mark`) changes
whenever any transaction opens or closes a source.
"""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.catalog.version import CatalogChangedError, writing_by
from indexer.store.head.leader_epoch import fenced


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
        return mark(connection, chain_id)


def close_all(connection: Connection, chain_id: int) -> None:
    """Makes no source of a chain followed: each covers what was read for it, up to the tip.

    Args:
        connection: in a transaction of the follower that has locked the chain's row.
        chain_id: the chain.

    Raises:
        CatalogChangedError: sources are being changed.
    """
    _close(connection, chain_id, ())
    _require_followed(connection, chain_id, ())


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


def mark(connection: Connection, chain_id: int) -> int:
    """What changes with every source that is followed, or is not any more."""
    found: int | None = connection.execute(
        sa.text("SELECT followed_mark FROM gapless.chains WHERE chain_id = :chain_id"), {"chain_id": chain_id}
    ).scalar_one()
    return found or 0
