"""Who follows a chain, how far and for which sources, and how that goes: the chain's row and its endpoints.

One process follows, the one that holds the chain's lease (:mod:`indexer.store.leases`). Each of its commits checks by
the *epoch* that no other has taken over meanwhile (:func:`fenced`).

A source is *followed* while its coverage is open at its end (:func:`follow_sources`): it covers the blocks up to the
chain's tip, wherever that goes, so that a new block writes no source. Every transaction that moves the tip makes sure
that the sources that it was read for are the ones whose coverage is open: ``chains.followed_mark``
(:func:`followed_mark`) changes whenever any transaction opens or closes a source.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.intervals import BlockRange
from indexer.store import leases
from indexer.store.catalog.version import CatalogChangedError, writing_by
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.lag import lag
from indexer.store.rows.blocks import Block


class FollowerLostError(GaplessError):
    """Another process follows the chain now; what this one wanted to write was not written."""


def lease_name(chain_id: int) -> str:
    """The name of the lease whose holder follows a chain."""
    return f"follow {chain_id}"


def keep_away(connection: Connection, chain_id: int, follower: uuid.UUID | None = None) -> bool:
    """Keeps every other follower away from a chain until the transaction ends.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        follower: proves the lease of the caller, who follows the chain; None: the caller does not.

    Returns:
        False if the chain is followed by another; nothing was done then.
    """
    if follower is not None:
        return leases.is_valid(connection, lease_name(chain_id), follower)
    if not leases.acquire(connection, lease_name(chain_id), token := uuid.uuid4()):
        return False
    leases.give_back(connection, lease_name(chain_id), token)
    return True


def become_follower(connection: Connection, chain_id: int, name: str) -> int:
    """Announces the holder of the lease as the follower, which fences off any former one.

    Args:
        connection: in the transaction that takes the lease.
        chain_id: the chain.
        name: host and process, for people.

    Returns:
        The epoch to present with every write.
    """
    epoch: int = connection.execute(
        sa.text("""
            UPDATE gapless.chains SET follower = :name, follower_epoch = follower_epoch + 1, updated_at = now(),
                                      moved_at = coalesce(moved_at, now())
            WHERE chain_id = :chain_id RETURNING follower_epoch
        """),
        {"chain_id": chain_id, "name": name},
    ).scalar_one()
    return epoch


def fenced(connection: Connection, chain_id: int, epoch: int, assignments: str, parameters: dict[str, object]) -> None:
    """Changes the chain's row as its follower.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`become_follower` returned.
        assignments: SQL, ``column = :name, ...``.
        parameters: the values that the assignments name.

    Raises:
        FollowerLostError: another process follows now.
    """
    changed = connection.execute(
        sa.text(
            f"UPDATE gapless.chains SET {assignments}, updated_at = now() "
            "WHERE chain_id = :chain_id AND follower_epoch = :epoch"
        ),
        {"chain_id": chain_id, "epoch": epoch, **parameters},
    ).rowcount
    if changed != 1:
        raise FollowerLostError(
            f"chain {chain_id} is followed by another process now; this one stands by",
            hint="nothing needs to be done: it takes over again when the other one ends",
        )


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
        """The values that :data:`REPORTED` names."""
        moment = datetime.fromtimestamp(self.head.time, UTC)
        return {"head": self.head.number, "head_time": moment, "state": self.state, "reason": self.reason}


#: Assignments to a chain's row that say it (:attr:`HeadReport.parameters`); a chain that is halted stays so.
REPORTED: Final = (
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
    """The newest stored block at or below a number.

    Raises:
        sqlalchemy.exc.NoResultFound: there is none.
    """
    row = connection.execute(
        sa.text(
            "SELECT number, hash, parent_hash, time FROM gapless.blocks "
            "WHERE chain_id = :chain_id AND number <= :number ORDER BY number DESC LIMIT 1"
        ),
        {"chain_id": chain_id, "number": number},
    ).one()
    parent_hash = None if row.parent_hash is None else bytes(row.parent_hash)
    return Block(row.number, bytes(row.hash), int(row.time.timestamp()), parent_hash)


def report_head(connection: Connection, chain_id: int, epoch: int, report: HeadReport) -> None:
    """Notes what the nodes say the head is, where no block says so with it (:func:`extend`)."""
    fenced(connection, chain_id, epoch, REPORTED, report.parameters)


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


def follow_sources(connection: Connection, chain_id: int, epoch: int, source_ids: Collection[int], version: int) -> int:
    """Makes some sources of a chain those that are followed, and no others.

    Those whose last block is at or below the tip have nothing to come: their coverage stays closed. After a
    reorganisation that may be otherwise, so this is called again.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        epoch: what :func:`~indexer.store.head.state.become_follower` returned.
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
        _close_sources(connection, chain_id, opened)
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
        return followed_mark(connection, chain_id)


def close_sources(connection: Connection, chain_id: int) -> None:
    """Makes no source of a chain followed: each covers what was read for it, up to the tip.

    Args:
        connection: in a transaction of the follower that has locked the chain's row.
        chain_id: the chain.

    Raises:
        CatalogChangedError: sources are being changed.
    """
    _close_sources(connection, chain_id, ())
    _require_followed(connection, chain_id, ())


def _close_sources(connection: Connection, chain_id: int, kept: Sequence[int]) -> None:
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


def followed_mark(connection: Connection, chain_id: int) -> int:
    """What changes with every source that is followed, or is not any more."""
    found: int | None = connection.execute(
        sa.text("SELECT followed_mark FROM gapless.chains WHERE chain_id = :chain_id"), {"chain_id": chain_id}
    ).scalar_one()
    return found or 0


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One endpoint; ``host`` is ``https://host/***``."""

    host: str
    state: str
    head_number: int | None
    details: Mapping[str, Any]


def store_endpoints(connection: Connection, chain_id: int, endpoints: Iterable[EndpointRow]) -> None:
    """Replaces what is known of a chain's endpoints; their place in the list is that of the manifest."""
    rows = list(endpoints)
    connection.execute(
        sa.text("DELETE FROM gapless.endpoints WHERE chain_id = :chain_id AND position >= :count"),
        {"chain_id": chain_id, "count": len(rows)},
    )
    with psycopg_connection(connection).cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO gapless.endpoints (chain_id, position, host, state, head_number, details)
            VALUES (%s, %s, %s, %s, %s, %s)
            ON CONFLICT (chain_id, position) DO UPDATE
            SET host = excluded.host, state = excluded.state, head_number = excluded.head_number,
                details = excluded.details, updated_at = now()
            """,
            [
                (chain_id, position, row.host, row.state, row.head_number, jsonb(dict(row.details)))
                for position, row in enumerate(rows)
            ],
        )


_SAMPLE = sa.text(f"""
INSERT INTO gapless.samples (chain_id, minute, lag_seconds, requests, rows_written)
SELECT c.chain_id, date_trunc('minute', now()), {lag("c.head_time", "c.tip_time", "c.head_seen_at")},
       (SELECT coalesce(sum((method.value->>'requests')::bigint), 0)
        FROM gapless.endpoints e, jsonb_each(e.details->'counts') method WHERE e.chain_id = c.chain_id),
       (SELECT coalesce(sum(pg_stat_get_tuples_inserted(t.oid)), 0)
        FROM gapless.deployments d JOIN gapless.contracts k ON k.id = d.contract_id
        JOIN gapless.events e ON e.contract_id = k.id
        JOIN pg_namespace n ON n.nspname = k.schema_name
        JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = e.table_name
        WHERE d.chain_id = c.chain_id AND d.active)
FROM gapless.chains c
WHERE c.chain_id = :chain_id
  AND NOT EXISTS (SELECT FROM gapless.samples WHERE chain_id = :chain_id AND minute = date_trunc('minute', now()))
ON CONFLICT DO NOTHING
""")


def take_sample(connection: Connection, chain_id: int) -> None:
    """Keeps how a chain does, once a minute however often this is called, and forgets what is older than a day."""
    if connection.execute(_SAMPLE, {"chain_id": chain_id}).rowcount:
        connection.execute(
            sa.text("DELETE FROM gapless.samples WHERE chain_id = :chain_id AND minute < now() - interval '1 day'"),
            {"chain_id": chain_id},
        )
