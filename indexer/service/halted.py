"""A chain that is halted is looked at again, with growing pauses, and goes on when its nodes serve what was indexed.

An endpoint may serve another chain or history for a minute: after a restore, behind a proxy, while it syncs anew. Going
on is right as soon as one endpoint serves the very blocks again that were contradicted.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from indexer.chain.disagreement import serve_again
from indexer.errors import GaplessError
from indexer.service.jobs import Network
from indexer.store.rows.blocks import ForeignBlockError
from indexer.sync.head.chain_identity import ChainHaltedError

log = logging.getLogger(__name__)

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0
ANEW_EVERY = 1.0
"""Seconds between two attempts to begin a chain anew."""


@dataclass(slots=True)
class LookAgain:
    """Looks at what halted a chain, or begins a development chain anew.

    Attributes:
        network: the chain.
        known: block -> the hash that was indexed, and that another was served for.
        tell: says in the database that it is halted.
        go_on: called when some endpoint serves these blocks again.
        begin_anew: called when none does; None: it is looked at again.
        pause: seconds until the next look.
    """

    network: Network
    known: Mapping[int, bytes]
    tell: Callable[[], None]
    go_on: Callable[[], None]
    begin_anew: Callable[[], None] | None = None
    pause: float = FIRST_PAUSE
    _told: bool = False
    _begun: bool = False

    def run(self) -> None:
        """One look.

        Raises:
            GaplessError, sqlalchemy.exc.DBAPIError: it could not be told, or begun anew; to be called again.
        """
        if not self._told:
            self.tell()
            self._told = True
        elif self.begin_anew is None:
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
            if self._is_over():
                self.go_on()
        if self.begin_anew is not None:
            self.pause = ANEW_EVERY
            self._go_on_or_begin_anew(self.begin_anew)

    def _go_on_or_begin_anew(self, begin_anew: Callable[[], None]) -> None:
        if not self._begun:
            self.network.client.check()  # a node that is not there, or serves another chain id, deletes nothing
            if self._is_over():
                self.go_on()
                return
        self._begun = True
        begin_anew()

    def _is_over(self) -> bool:
        with self.network.at_work():
            if self.network.closed:
                return False
            try:
                return serve_again(self.network.client, self.known)
            except GaplessError as error:
                log.debug("%s: still halted: %s", self.network.chain.name, error)
                return False


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
