"""A chain that is halted is looked at again, with growing pauses, and goes on when its nodes serve what was indexed.

An endpoint may serve another chain or history for a minute: after a restore, behind a proxy, while it syncs anew. Going
on is right as soon as one endpoint serves the very blocks again that were contradicted.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from apscheduler.triggers.base import BaseTrigger

from indexer.chain.disagreement import serve_again
from indexer.errors import GaplessError
from indexer.service.jobs import Network
from indexer.store.rows.blocks import ForeignBlockError
from indexer.sync.head.chain_identity import ChainHaltedError

log = logging.getLogger(__name__)

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0


@dataclass(slots=True)
class LookAgain:
    """Looks at what halted a chain.

    Attributes:
        network: the chain.
        known: block -> the hash that was indexed, and that another was served for.
        go_on: called when some endpoint serves these blocks again.
        pause: seconds until the next look.
    """

    network: Network
    known: Mapping[int, bytes]
    go_on: Callable[[], None]
    pause: float = FIRST_PAUSE

    def run(self) -> None:
        """One look."""
        with self.network.at_work():
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
            if self.network.closed:
                return
            try:
                over = serve_again(self.network.client, self.known)
            except GaplessError as error:
                log.debug("%s: still halted: %s", self.network.chain.name, error)
                return
        if over:
            try:
                self.go_on()
            except sa.exc.DBAPIError as error:
                log.warning("%s: Postgres: %s; looking again", self.network.chain.name, error.orig)


def contradicted(error: GaplessError) -> Mapping[int, bytes]:
    """The blocks, and the hashes that were indexed of them, with which an endpoint's answer was at odds."""
    match error:
        case ForeignBlockError():
            return {error.number: error.stored}
        case ChainHaltedError():
            return error.known
    return {}


class AfterPause(BaseTrigger):  # type: ignore[misc]
    """Beats after the pauses of a look."""

    def __init__(self, look: LookAgain) -> None:
        self._look = look

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """The next beat. APScheduler may ask more than once for each."""
        return now + timedelta(seconds=self._look.pause)
