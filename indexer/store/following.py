"""Who follows a chain: one process, the one whose session holds the chain's advisory lock.

Each of its commits checks by the *epoch* that no other has taken over meanwhile (:func:`fenced`).
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError

FOLLOWER_LOCK = 0x67610002
"""First key of the advisory locks of followers; the second is made of the chain's id."""


class FollowerLostError(GaplessError):
    """Another process follows the chain now; what this one wanted to write was not written."""


def try_lock(connection: Connection, chain_id: int) -> bool:
    """Tries to take a chain's follower lock for this session; it is held until the session ends."""
    # The lock's second key has 32 bits, chain ids have more: a rare collision only means that two chains take turns.
    got = connection.execute(
        sa.text("SELECT pg_try_advisory_lock(:lock, hashint8(:chain_id))"),
        {"lock": FOLLOWER_LOCK, "chain_id": chain_id},
    ).scalar_one()
    return bool(got)


def try_transaction_lock(connection: Connection, chain_id: int) -> bool:
    """Tries to keep every follower of a chain away until the transaction ends."""
    got = connection.execute(
        sa.text("SELECT pg_try_advisory_xact_lock(:lock, hashint8(:chain_id))"),
        {"lock": FOLLOWER_LOCK, "chain_id": chain_id},
    ).scalar_one()
    return bool(got)


def become_follower(connection: Connection, chain_id: int, name: str) -> int:
    """Announces the holder of the lock as the follower, which fences off any former one.

    Args:
        connection: of the session that holds the lock.
        chain_id: the chain.
        name: host and process, for people.

    Returns:
        The epoch to present with every write.
    """
    epoch: int = connection.execute(
        sa.text("""
            UPDATE gapless.chains SET follower = :name, follower_epoch = follower_epoch + 1, updated_at = now()
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
