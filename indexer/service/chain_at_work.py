"""A chain at work: its client and follower, when the head is asked for, its trouble, and how its work is ended."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.history.reader import SourcedHistory
from indexer.chain.rpc.pushed_heads import PushedHeads
from indexer.log import Troubles, bind
from indexer.manifest.model import Chain
from indexer.settings import Settings
from indexer.sync.head.decisions import PollSchedule, Tick
from indexer.sync.head.follower import Follower
from indexer.sync.setup import network
from indexer.sync.tokens.metadata_job import UnreadTokens

log = logging.getLogger(__name__)


PUSHED_BEAT: Final = 12.0
"""Seconds between two questions for a head whose blocks are pushed."""

LATE_BEAT: Final = 4.0
"""The same where the next block is late."""

_NEARLY = 0.005  # seconds that a beat may come too soon


@dataclass(slots=True)
class Network:
    """A chain at work."""

    chain: Chain
    client: ChainClient
    follower: Follower
    history: SourcedHistory | None = None
    pace: PollSchedule = field(default_factory=PollSchedule)
    tokens: UnreadTokens = field(default_factory=UnreadTokens)
    stop: threading.Event = field(default_factory=threading.Event)
    closed: bool = False
    checked: bool = False
    troubles: Troubles = field(default_factory=Troubles)
    told_hindrance: str | None = None
    hindrances: dict[str, str] = field(default_factory=dict)
    """By job: why Postgres took no changes from it when it was last run."""
    jobs: dict[str, object] = field(default_factory=dict)
    """By its jobs' ids: what each depends on; another value means another job."""
    pushed: list[PushedHeads] = field(default_factory=list)
    woken: threading.Event = field(default_factory=threading.Event)  # a head was pushed since the last look began
    busy: int = 0
    idle: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    def connect(cls, engine: Engine, chain: Chain, settings: Settings) -> "Network":
        """A chain of the manifest, whose nodes are not asked yet."""
        client = network.connect(chain, settings, engine)
        follower = Follower(
            engine,
            client,
            chain.chain_id,
            name=chain.name,
            finality=chain.finality,
            blooms=chain.bloom_checks,
            dev=chain.dev,
        )
        one = cls(chain, client, follower, network.history(chain, settings, client, engine))
        follower.hindrance = one.hindrance
        return one

    def cut_off(self) -> None:
        """Ends all questions to its nodes and sources of history, and what nodes push."""
        for one in (self.client.abort, *(each.stop for each in self.pushed)):
            one()
        if self.history is not None:
            self.history.close()

    def look_due(self, now: float) -> float:
        """When a node is to be asked for the head next; the past: now.

        Where heads are pushed, at a slow beat, and sooner where the next one is late.
        """
        asked = self.follower.asked_at
        if any(each.is_trusted() for each in self.pushed):
            return asked + (LATE_BEAT if self.pace.is_late(now) else PUSHED_BEAT)
        return asked + self.pace.wait(asked)

    def look(self) -> Tick:
        """One look at the head: at headers that were pushed, and at a node's where it is due or they do not tell.

        Raises:
            GaplessError, sqlalchemy.exc.DBAPIError: as :meth:`Follower.tick`.
        """
        was_woken = self.woken.is_set()
        self.woken.clear()
        pushed = [header for each in self.pushed for header in each.headers()]
        now = time.monotonic()
        if not pushed and self._rests(was_woken, now):
            self.follower.looked_at = now
            self.follower.join()
            return Tick.NOTHING_NEW
        outcome = self.follower.tick(pushed)
        if (tip := self.follower.tip) is not None:
            self.pace.saw(tip.number, time.monotonic())
            for each in self.pushed:
                each.indexed(tip.number, tip.hash)
        return outcome

    def _rests(self, was_woken: bool, now: float) -> bool:
        """Whether no node is asked at this beat."""
        if not self.follower.leads() or self.look_due(now) <= now + _NEARLY:
            return False
        if was_woken:
            return any(each.is_trusted() for each in self.pushed)
        return self.chain.poll_interval is None

    def hindrance(self) -> str | None:
        """Why nothing can be written now; None: it can, as far as is known."""
        return next(iter(list(self.hindrances.values())), None)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Counts a job that is running."""
        with self.idle:
            self.busy += 1
        try:
            yield
        finally:
            with self.idle:
                self.busy -= 1
                self.idle.notify_all()

    def go_on(self) -> bool:
        """Lets it be worked at again after it was halted; False if it was closed meanwhile."""
        with self.idle:
            if not self.closed:
                self.stop = threading.Event()  # what was under way keeps the one that is set
            return not self.closed

    def close(self, within: float) -> None:
        """Ends its work, and lets another process, or another one of these, follow the chain.

        Args:
            within: as in :meth:`end_work`.
        """
        self.end_work(within)
        self.follower.close()

    def end_work(self, within: float) -> None:
        """Ends its work for good; the chain stays followed by it, so that no other process can.

        Args:
            within: seconds that its jobs have to end; those that do not are cut off from the nodes.
        """
        with self.idle:
            self.closed = True
            self.stop.set()
            is_idle = self.idle.wait_for(lambda: self.busy == 0, within)
        self.cut_off()
        if not is_idle:
            bind(log, chain=self.chain.name).warning("a job did not end within %.0f s; it was cut off", within)
            with self.idle:
                self.idle.wait_for(lambda: self.busy == 0, within)
        self.client.close()
