"""Who follows a chain: one process, the one that holds the chain's lease (:mod:`indexer.store.leases`).

Each of its commits checks by the *epoch* that no other has taken over meanwhile (:func:`fenced`).
"""

import uuid

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.store import leases


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
