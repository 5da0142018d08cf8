"""The right to follow a chain: an advisory lock of a session of its own, and an epoch that fences others off."""

import contextlib
import os
import socket

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.store import following


class Leadership:
    """One process's claim to follow one chain."""

    def __init__(self, engine: Engine, chain_id: int) -> None:
        self._engine = engine
        self._chain_id = chain_id
        self._lock: Connection | None = None
        self.epoch = 0
        """What every write must present; of the last time that the right was taken."""

    def is_held(self) -> bool:
        """Whether the right is ours still: Postgres lets it go with the session, and does not say so."""
        if self._lock is None:
            return False
        try:
            self._lock.exec_driver_sql("SELECT 1")
        except sa.exc.DBAPIError:
            self._let_go()
            return False
        return True

    def take(self) -> bool:
        """Tries to get the right; whoever had it before cannot write any more.

        Returns:
            False if another process has it.
        """
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            if not following.try_lock(connection, self._chain_id):
                connection.close()
                return False
            self.epoch = following.become_follower(connection, self._chain_id, f"{socket.gethostname()}:{os.getpid()}")
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        self._lock = connection
        return True

    def release(self) -> None:
        """Lets another process have it."""
        if self._lock is not None:
            # Postgres notices some time after the session's end that it has ended: whoever waits need not.
            with contextlib.suppress(sa.exc.DBAPIError):
                self._lock.exec_driver_sql("SELECT pg_advisory_unlock_all()")
            self._let_go()

    def _let_go(self) -> None:
        """End the session: given back to the pool, one that lives after all would keep the lock from everybody."""
        assert self._lock is not None
        self._lock.invalidate()
        self._lock.close()
        self._lock = None
