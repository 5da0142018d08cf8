"""The right to follow a chain, and what its holder tells of the chain in the database.

The right is a lease, and an epoch that fences former followers off. Told is what the head is, how following goes, and
that nodes do not agree.
"""

import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from sqlalchemy.engine import Connection, Engine

from indexer.store.head import state
from indexer.store.head import state as head_state
from indexer.store.head.state import HeadReport
from indexer.store.leases import Lease
from indexer.store.rows.blocks import Block

log = logging.getLogger(__name__)

REPORT_EVERY: Final = 10.0
"""Seconds after which a head that stays the same is reported again, so that it is known to be heard of."""

MOVED_TOO_OFTEN: Final = 8
"""So many looks in a row that find the same two answers at odds are no chain that moves."""


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


class HeadReporter:
    """Tells each thing once. Not thread-safe.

    Args:
        engine: the database.
        leadership: the follower's.
        chain_id: the chain.
        name: the chain's name, for the log.
        clock: seconds that only grow.
    """

    def __init__(
        self, engine: Engine, leadership: Leadership, chain_id: int, *, name: str, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._leadership = leadership
        self._chain_id = chain_id
        self._name = name
        self._clock = clock
        self._said: HeadReport | None = None
        self._said_at = 0.0
        self._moved_why = ""
        self._moved_looks = 0
        self._is_below = False

    def report(self, report: HeadReport) -> None:
        """Writes a report, unless the same was said lately: a block that was written has said it (:meth:`said`)."""
        if self._said == report and self._clock() < self._said_at + REPORT_EVERY:
            return
        with self._engine.begin() as connection:
            head_state.report_head(connection, self._chain_id, self._leadership.epoch, report)
        self.said(report)

    def said(self, report: HeadReport) -> None:
        """Notes a report that was committed with a block."""
        self._said, self._said_at = report, self._clock()

    def forget(self) -> None:
        """Forgets what was said: something else may have been since."""
        self._said = None

    def moved(self, why: str) -> None:
        """Tells of a look that led nowhere since the chain moved.

        One is ordinary; many of the same in a row are told as what they are: answers that do not fit together.
        """
        log.info("%s: %s", self._name, why)
        self._moved_looks = self._moved_looks + 1 if why == self._moved_why else 1
        self._moved_why = why
        if self._moved_looks >= MOVED_TOO_OFTEN:
            reason = f"the answers of the nodes do not fit together, again and again: {why}. They are asked again"
            if self._moved_looks == MOVED_TOO_OFTEN:
                log.warning("%s: %s", self._name, reason)
            with self._engine.begin() as connection:
                head_state.report_state(connection, self._chain_id, "waiting", reason)

    def stood(self) -> None:
        """Notes a look during which the chain did not move."""
        self._moved_looks = 0

    def reorganised(self, tip: Block, common: Block, new_tip: Block) -> None:
        """Tells that the blocks from a common one to a tip were replaced."""
        log.warning(
            "%s: reorganisation of %d blocks: %d is the last common one, %d 0x%s was replaced by %d 0x%s",
            *(self._name, tip.number - common.number, common.number),
            *(tip.number, tip.hash.hex()[:8], new_tip.number, new_tip.hash.hex()[:8]),
        )

    def below_finalized(self, head: int, floor: int) -> None:
        """Tells, once until :meth:`rose`, that the node's head is below the finalized block."""
        if not self._is_below:
            self._is_below = True
            log.warning(
                "%s: the node's head %d is below the finalized block %d; waiting for it to catch up",
                *(self._name, head, floor),
            )

    def rose(self) -> None:
        """Notes that the head is above the finalized block."""
        self._is_below = False
