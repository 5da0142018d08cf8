"""Which job runs when: ``gapless run``.

APScheduler runs a job for each thing that has to happen again and again, on threads of its own; no job overlaps itself,
and none waits for another's. Each chain has its own jobs, so that one chain's trouble never stops another.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.errors import GaplessError
from indexer.log import bind
from indexer.manifest.model import Chain, Manifest, Snapshot
from indexer.settings import Settings
from indexer.store import endpoints, head
from indexer.store.cache import Cache
from indexer.store.endpoints import EndpointRow
from indexer.store.writer import ForeignBlockError
from indexer.sync import network, tokens
from indexer.sync.backfill import Backfill
from indexer.sync.follow import ChainHaltedError, Follower, Tick
from indexer.sync.snapshots import Snapshots

log = logging.getLogger(__name__)

DEFAULT_POLL_SECONDS = 0.5
FILL_EVERY = 3.0
SNAPSHOTS_EVERY = 2.0
TOKENS_EVERY = 5.0
ENDPOINTS_EVERY = 5.0


@dataclass(slots=True)
class _Network:
    """A chain at work."""

    chain: Chain
    client: ChainClient
    follower: Follower
    stop: threading.Event = field(default_factory=threading.Event)
    checked: bool = False


class Service:
    """Everything that ``gapless run`` does, as jobs."""

    def __init__(self, engine: Engine, cache: Cache, manifest: Manifest, settings: Settings) -> None:
        """Prepares the jobs; runs none.

        Args:
            engine: a database whose catalog is that of the manifest.
            cache: Redis, or nothing.
            manifest: what to index.
            settings: the environment.
        """
        self._engine = engine
        self._cache = cache
        self._manifest = manifest
        self._settings = settings
        self._networks = [self._network(chain) for chain in manifest.chains.values()]
        snapshot_jobs = sum(len(snapshot.chains) for snapshot in manifest.snapshots.values())
        jobs = 4 * len(self._networks) + snapshot_jobs
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            # As many threads as jobs: one that waits for a node keeps no other from running.
            executors={"default": ThreadPoolExecutor(jobs + 1)},
            # A job that comes late (by default: a second) would be skipped; late is better than never.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._failed, EVENT_JOB_ERROR)

    def _network(self, chain: Chain) -> _Network:
        client = network.connect(chain, self._settings)
        follower = Follower(
            self._engine,
            client,
            chain.chain_id,
            name=chain.name,
            finality=chain.finality,
            blooms=chain.bloom_checks,
        )
        return _Network(chain, client, follower)

    def start(self) -> None:
        """Starts all jobs."""
        # Overlapping itself is prevented by max_instances; APScheduler says so at every beat of a job that is busy.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        for one in self._networks:
            name, chain_id = one.chain.name, one.chain.chain_id
            poll = one.chain.poll_interval or DEFAULT_POLL_SECONDS
            self._add(f"follow {name}", IntervalTrigger(seconds=poll), _Job(self, one, _follow))
            self._add(f"fill {name}", IntervalTrigger(seconds=FILL_EVERY), _Job(self, one, _fill))
            self._add(f"endpoints {name}", IntervalTrigger(seconds=ENDPOINTS_EVERY), _Job(self, one, _endpoints))
            if any(token_chain == name for _, token_chain in self._manifest.tokens):
                self._add(f"tokens {name}", IntervalTrigger(seconds=TOKENS_EVERY), _Job(self, one, _tokens))
            for snapshot in self._manifest.snapshots.values():
                if name in snapshot.chains:
                    taker = Snapshots(self._engine, one.client, chain_id, snapshot)
                    work = taker.take_due if snapshot.every.kind == "blocks" else taker.take_now
                    self._add(f"snapshot {snapshot.name} {name}", _trigger(snapshot), _Job(self, one, _quiet(work)))
        self._scheduler.start()

    def _add(self, name: str, trigger: BaseTrigger, job: "_Job") -> None:
        job.name = name
        self._scheduler.add_job(job.run, trigger, id=name, name=name)

    def run_until(self, stop: threading.Event) -> None:
        """Waits for the order to stop, and watches that the scheduler lives.

        Raises:
            GaplessError: the scheduler's thread died; the process must be restarted.
        """
        while not stop.wait(1.0):
            thread = getattr(self._scheduler, "_thread", None)
            if thread is not None and not thread.is_alive():
                raise GaplessError(
                    "the scheduler has died: nothing is indexed any more",
                    hint="restart gapless run; please report this",
                )

    def stop(self) -> None:
        """Tells all jobs to come to an end; open transactions are finished or abandoned by whoever holds them."""
        for one in self._networks:
            one.stop.set()
        self._scheduler.shutdown(wait=True)
        for one in self._networks:
            one.follower.close()
            one.client.close()

    def _failed(self, event: JobExecutionEvent) -> None:
        # Every foreseen error is handled in _Job: what arrives here is a defect. The job runs again at its next beat.
        log.error("job %s failed: %s", event.job_id, event.exception, exc_info=event.exception)

    # What jobs need.

    @property
    def engine(self) -> Engine:
        """The database."""
        return self._engine

    @property
    def cache(self) -> Cache:
        """Redis, or nothing."""
        return self._cache

    @property
    def manifest(self) -> Manifest:
        """What to index."""
        return self._manifest

    @property
    def settings(self) -> Settings:
        """The environment."""
        return self._settings

    def halt(self, one: _Network, error: GaplessError) -> None:
        """Stops a chain, loudly: its data is left as it is, other chains go on."""
        log.error("%s is halted: %s. %s", one.chain.name, error, error.hint or "")
        one.stop.set()
        for job in self._scheduler.get_jobs():
            if isinstance(getattr(job.func, "__self__", None), _Job) and job.func.__self__.network is one:
                job.remove()
        with self._engine.begin() as connection:
            head.report_state(connection, one.chain.chain_id, "halted", f"{error}. {error.hint or ''}")


@dataclass(slots=True)
class _Job:
    """Runs one piece of work for one chain again and again, and says what goes wrong once, not at every beat."""

    service: Service
    network: _Network
    work: "Callable[[Service, _Network], None]"
    name: str = ""
    trouble: str = ""

    def run(self) -> None:
        if self.network.stop.is_set():
            return
        name = self.network.chain.name
        try:
            if not self.network.checked:
                self.network.client.check()
                self.network.checked = True
            self.work(self.service, self.network)
        except (ChainHaltedError, ForeignBlockError) as error:
            self.service.halt(self.network, error)
        except GaplessError as error:
            if not self.network.stop.is_set():
                self._say(f"{error}" + (f" ({error.hint})" if error.hint else ""))
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            # COPY and DDL go past SQLAlchemy, and their errors too.
            cause = str(getattr(error, "orig", error)).strip().splitlines()
            if not self.network.stop.is_set():
                self._say(f"Postgres: {cause[0] if cause else error!r}; nothing was written by this step")
        else:
            if self.trouble:
                bind(log, chain=name).info("%s works again", self.name)
            self.trouble = ""

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            bind(log, chain=self.network.chain.name).warning("%s: %s; trying again", self.name, trouble)
        self.trouble = trouble


def _follow(service: Service, one: _Network) -> None:
    try:
        outcome = one.follower.tick()
        # What came in while we were away, or in bursts, is not left until the next beat.
        while outcome in (Tick.EXTENDED, Tick.REORGANISED) and not one.stop.is_set():
            outcome = one.follower.tick()
    except GaplessError as error:
        with service.engine.begin() as connection:
            head.report_state(connection, one.chain.chain_id, "waiting", str(error))
        raise
    if outcome is Tick.STANDING_BY:
        raise _StandingByError(f"{one.chain.name} is followed by another process; standing by to take over")


class _StandingByError(GaplessError):
    """Not an error: said once, like one."""


def _fill(service: Service, one: _Network) -> None:
    backfill = Backfill(
        service.engine, one.client, one.chain.chain_id, stop=one.stop, in_flight=service.settings.backfill_in_flight
    )
    done = backfill.run()
    if done.blocks:
        bind(log, chain=one.chain.name).info(
            "filled %d blocks of history: %d events, %d requests", done.blocks, done.rows, done.requests
        )


def _tokens(service: Service, one: _Network) -> None:
    contracts = frozenset(contract for contract, chain in service.manifest.tokens if chain == one.chain.name)
    while not one.stop.is_set():
        if tokens.refresh(service.engine, one.client, one.chain.chain_id, contracts, service.cache) == 0:
            break


def _endpoints(service: Service, one: _Network) -> None:
    rows = [
        EndpointRow(status.host, status.state, status.head, dataclasses.asdict(status))
        for status in one.client.describe()
    ]
    with service.engine.begin() as connection:
        endpoints.store(connection, one.chain.chain_id, rows)


def _quiet(work: Callable[[], object]) -> Callable[[Service, _Network], None]:
    def run(_service: Service, _network: _Network) -> None:
        work()

    return run


def _trigger(snapshot: Snapshot) -> BaseTrigger:
    match snapshot.every.kind:
        case "blocks":
            return IntervalTrigger(seconds=SNAPSHOTS_EVERY)
        case "seconds":
            return IntervalTrigger(seconds=snapshot.every.amount)
        case "cron":
            return CronTrigger.from_crontab(snapshot.every.cron, timezone="UTC")
