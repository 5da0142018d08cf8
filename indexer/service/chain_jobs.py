"""Which jobs a chain has and when each runs; and how one that is halted is looked at again.

A chain is halted where its nodes contradict final rows. It is looked at again with growing pauses, and goes on when its
nodes serve what was indexed. An endpoint may serve another chain or history for a minute: after a restore, behind a
proxy, while it syncs anew. Going on is right as soon as one endpoint serves the very blocks again that were
contradicted.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.engine import Engine

from indexer.chain.disagreement import serve_again
from indexer.chain.rpc.pushed_heads import PushedHeads
from indexer.errors import GaplessError
from indexer.manifest.model import Manifest, Snapshot
from indexer.service import jobs
from indexer.service.chain_at_work import Network
from indexer.store.rows.blocks import ForeignBlockError
from indexer.sync.head.chain_identity import ChainHaltedError
from indexer.sync.head.decisions import LONGEST
from indexer.sync.history import derived_history
from indexer.sync.setup import network
from indexer.sync.snapshots.series import Snapshots

log = logging.getLogger(__name__)

# Seconds between two runs of a job.
FILL_EVERY = 3.0
SNAPSHOTS_EVERY = 2.0
TOKENS_EVERY = 5.0
INCLUDE_EVERY = 1.0
ENDPOINTS_EVERY = 5.0
DIGESTS_EVERY = 30.0
SESSIONS_EVERY = 15.0
THIN_EVERY = 60.0
BALANCES_EVERY = 3.0
DERIVED_EVERY = 3.0
BALANCE_CHECKS_EVERY = 10.0

SHORTEST = 0.04
"""Seconds between two beats of the job that follows a head."""

# Seconds between two looks at a halted chain.
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0
ANEW_EVERY = 1.0
"""Seconds between two attempts to begin a chain anew."""


def wanted_jobs(
    engine: Engine, manifest: Manifest, one: Network
) -> Iterator[tuple[str, tuple[object, BaseTrigger, jobs.Work]]]:
    """The jobs of a chain: id, and what it depends on besides the chain itself, when it runs, and what it does."""
    name, chain_id = one.chain.name, one.chain.chain_id
    poll = one.chain.poll_interval
    beat = _AtPace(one) if poll is None else IntervalTrigger(seconds=poll)
    yield f"follow {name}", (None, beat, jobs.follow)
    yield f"fill {name}", (None, IntervalTrigger(seconds=FILL_EVERY), jobs.fill)
    yield f"balances {name}", (None, IntervalTrigger(seconds=BALANCES_EVERY), jobs.keep_balances)
    yield f"derived {name}", (None, IntervalTrigger(seconds=DERIVED_EVERY), _count_derived)
    if any(chain == name for _, chain in manifest.balances):
        yield f"balance checks {name}", (None, IntervalTrigger(seconds=BALANCE_CHECKS_EVERY), jobs.check_balances)
    yield f"endpoints {name}", (None, IntervalTrigger(seconds=ENDPOINTS_EVERY), jobs.report_endpoints)
    yield f"sessions {name}", (None, IntervalTrigger(seconds=SESSIONS_EVERY), jobs.end_overlong_sessions)
    yield f"digests {name}", (None, IntervalTrigger(seconds=DIGESTS_EVERY), jobs.take_digests)
    yield f"blocks {name}", (None, IntervalTrigger(seconds=THIN_EVERY), jobs.prune_blocks)
    if any(chain == name for _, chain in manifest.tokens | manifest.token_arguments):
        yield f"tokens {name}", (None, IntervalTrigger(seconds=TOKENS_EVERY), jobs.refresh_tokens)
    if any(contract.include for contract in manifest.contracts_on(name)):
        yield f"include {name}", (None, IntervalTrigger(seconds=INCLUDE_EVERY), jobs.include)
    for snapshot in manifest.snapshots.values():
        if name in snapshot.chains:
            taker = Snapshots(engine, one.client, chain_id, snapshot)
            work = jobs.quiet(taker.take_due if snapshot.every.kind == "blocks" else taker.take_now)
            yield f"snapshot {snapshot.name} {name}", (snapshot, _trigger(snapshot), work)
            if snapshot.every.kind != "blocks":
                missed = IntervalTrigger(seconds=SNAPSHOTS_EVERY)
                yield f"missed points of {snapshot.name} {name}", (snapshot, missed, jobs.quiet(taker.take_missed))


def _count_derived(resources: jobs.ServiceResources, one: Network) -> None:
    """Counts derived tables that lag behind further through history."""
    derived_history.catch_up(resources.engine, one.chain.chain_id, stop=one.stop)


def _trigger(snapshot: Snapshot) -> BaseTrigger:
    match snapshot.every.kind:
        case "blocks":
            return IntervalTrigger(seconds=SNAPSHOTS_EVERY)
        case "seconds":
            return IntervalTrigger(seconds=snapshot.every.amount)
        case "cron":
            return CronTrigger.from_crontab(snapshot.every.cron, timezone="UTC")


class _AtPace(BaseTrigger):  # type: ignore[misc]
    """Beats when the next look is due, and every few seconds in any case: most of those beats ask nothing of a node."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """The next beat. APScheduler asks when the one before begins."""
        at = time.monotonic()
        due = self._network.look_due(at)
        if due <= at:  # it begins now; as far as is known, it finds nothing
            due = at + self._network.pace.wait(at)
        return now + timedelta(seconds=min(max(due - at, SHORTEST), LONGEST))


def subscribe(one: Network, scheduler: BackgroundScheduler) -> None:
    """Has the new heads of a chain pushed where the manifest names endpoints for it; one that comes wakes the follower.

    Does nothing the second time.

    Args:
        one: the chain, whose jobs are scheduled.
        scheduler: where.
    """

    def wake() -> None:
        one.woken.set()
        with contextlib.suppress(JobLookupError):  # of a chain that is halted
            scheduler.modify_job(f"follow {one.chain.name}", next_run_time=datetime.now(UTC))

    if not one.pushed and not one.closed:
        for config in network.endpoint_configs(one.chain, pushing=True):
            one.pushed.append(PushedHeads(config, name=one.chain.name, wake=wake))
            one.pushed[-1].start()


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
