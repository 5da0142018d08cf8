"""The right to follow a chain: a lease, and an epoch that fences former followers off."""

import os
import socket

from sqlalchemy.engine import Connection, Engine

from indexer.store.head import state
from indexer.store.leases import Lease


class Leadership:
    """One process's claim to follow one chain."""

    def __init__(self, engine: Engine, chain_id: int) -> None:
        self._chain_id = chain_id
        self.lease = Lease(engine, state.lease_name(chain_id))
        """To be renewed; it is, too, each time that it is asked for."""
        self.epoch = 0
        """What every write must present; of the last time that the lease was taken."""

    def is_held(self) -> bool:
        """Whether the lease is ours still.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres could not be asked.
        """
        return self.lease.is_held()

    def take(self) -> bool:
        """Tries to get the lease; a former follower cannot write from then on.

        Returns:
            False if another process has it.
        """
        epoch = 0

        def become(connection: Connection) -> None:
            nonlocal epoch
            epoch = state.become_follower(connection, self._chain_id, f"{socket.gethostname()}:{os.getpid()}")

        if not self.lease.take(become):
            return False
        self.epoch = epoch
        return True

    def release(self) -> None:
        """Lets another process have it."""
        self.lease.release()
