"""Which job runs when: ``gapless run``.

APScheduler runs each job again and again, on threads of its own; no job overlaps itself, and none waits for another's.
Each chain has its own jobs, so that one chain's trouble never stops another.

The manifest may change under way: what is different is begun, ended or begun anew, and nothing else is touched.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.engine import Engine

from indexer.errors import GaplessError, ProblemsError
from indexer.manifest.model import Manifest
from indexer.service import job_queue
from indexer.service.chain_at_work import Network
from indexer.service.chain_jobs import AfterPause, LookAgain, contradicted, subscribe, wanted_jobs
from indexer.service.job_queue import JobRunner
from indexer.service.jobs import Defects, Job, OwnJob, follow
from indexer.service.manifest_watcher import CatalogWatcher, ManifestWatcher, PartialManifestWatcher
from indexer.service.stalled_chains import StalledChains
from indexer.settings import Settings
from indexer.store.access import keys
from indexer.store.apply import drop, readable_views
from indexer.store.apply.apply import apply
from indexer.store.cache import Cache
from indexer.store.catalog.declaration import Change, summary
from indexer.store.catalog.version import load_version
from indexer.store.database import DatabaseError, cancel_statements
from indexer.store.head import state as head_state
from indexer.store.leases import FrozenSessions, Lease, Renewer
from indexer.store.rows import indexes
from indexer.store.tokens import transfers
from indexer.sync.setup.declaration import declaration

log = logging.getLogger(__name__)

MANIFEST_EVERY = 1.0
INDEXES_EVERY = 5.0
STALLED_EVERY = 3.0
SECRET_EVERY = 3600.0
REQUESTED_EVERY = 1.0
CATALOG_EVERY = 3.0
FROZEN_EVERY = 2.0
VIEW_PATIENCE = 1.0
# Threads are made as they are needed: one for each job, so that one that waits for a node keeps no other from running.
MOST_JOBS = 1000
# How long the jobs of a chain that is no longer wanted, or wanted otherwise, have to finish what they are at.
RETIRE_WITHIN = 60.0
# How long transactions have to end in order when the process is told to stop.
COMMITS_WITHIN = 1.0
# A look at the head that takes longer than this is taken for one that never ends. A slow node's takes minutes.
HANGS_AFTER = 600.0


class SchedulerDiedError(GaplessError):
    """A thread without which nothing happens has died."""

    exit_status = 70


class Service:
    """Everything that ``gapless run`` does, as jobs.

    Attributes:
        engine, cache, manifest, settings: as they were given; the manifest is the one in force.
    """

    def __init__(
        self,
        engine: Engine,
        cache: Cache,
        manifest: Manifest,
        settings: Settings,
        *,
        watch: ManifestWatcher | PartialManifestWatcher | None = None,
        prepare: Callable[[Manifest], list[Change]] | None = None,
        differs: Callable[[Manifest], Sequence[Change]] | None = None,
        reload: threading.Event | None = None,
        lease_engine: Engine | None = None,
        taken_over: Callable[[Manifest], None] = lambda _: None,
    ) -> None:
        """Prepares the jobs; runs none.

        Args:
            engine: a database whose catalog is that of the manifest.
            cache: Redis, or nothing.
            manifest: what to index.
            settings: the environment.
            watch: tells of a new manifest; None: it stays as it is.
            prepare: makes the catalog what a manifest asks for; None: as it stands, with no block to be found out.
            differs: what that would change; None: it is not looked at whether others change the catalog.
            reload: set from outside to have the manifest read again, changed or not, and halted chains tried again.
            lease_engine: the same database by connections that jobs cannot use up, to renew leases; None: ``engine``.
            taken_over: called with each manifest that comes into force, the first one too.
        """
        self.engine = engine
        self.cache = cache
        self.manifest = manifest
        self.settings = settings
        self._watch = watch
        self._prepare = prepare or (lambda given: apply(engine, declaration(given)))
        self._catalog = None if differs is None else CatalogWatcher(self._version, differs)
        self._viewed = -1
        self._pending: Manifest | None = None
        self._reload_wanted = reload or threading.Event()
        self._restart_halted = False
        self._taken_over = taken_over
        self._stop = threading.Event()
        self._changing = threading.RLock()
        """Held while another manifest is taken over, or a chain begun anew."""
        self._anew: set[str] = set()
        """Chains whose rows are being deleted: the catalog lacks them."""
        self._builder = indexes.Builder(engine)
        self._networks = {name: Network.connect(engine, chain, settings) for name, chain in manifest.chains.items()}
        self._lease_engine = lease_engine or engine
        self._renewer = Renewer(self._lease_engine, self._leases)
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(MOST_JOBS)},
            # A job that comes late (by default: a second) would be skipped; late is better than never.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._defects = Defects()
        self._stalled = StalledChains(engine, self.networks)
        self._scheduler.add_listener(self._failed, EVENT_JOB_ERROR)

    def start(self) -> None:
        """Starts all jobs."""
        # Overlapping itself is prevented by max_instances; APScheduler says so at every beat of a job that is busy.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        for one in self._networks.values():
            self._schedule(one)
        self._taken_over(self.manifest)
        self._every(STALLED_EVERY, "stalled", self._stalled.look)
        secret = OwnJob("secret of tokens", self._renew_secret, self._stop)
        self._scheduler.add_job(secret.run, IntervalTrigger(seconds=SECRET_EVERY), next_run_time=datetime.now(UTC))
        self._every(INDEXES_EVERY, "indexes", lambda: self._builder.run(self._stop))
        self._every(FROZEN_EVERY, "frozen sessions", FrozenSessions(self.engine).look)
        self._every(CATALOG_EVERY, "view", self._keep_view)
        if self._catalog is not None:
            self._every(CATALOG_EVERY, "catalog", self._look_at_catalog)
        for kind in job_queue.KINDS:
            self._every(REQUESTED_EVERY, f"{kind} jobs", JobRunner(self, self.networks, kind, self._stop).run)
        if self._watch is not None:
            self._every(MANIFEST_EVERY, "manifest", self._look_at_manifest)
        self._renewer.start()
        self._scheduler.start()

    def _every(self, seconds: float, name: str, work: Callable[[], object]) -> None:
        """Has a piece of work that belongs to no chain done again and again."""
        self._scheduler.add_job(OwnJob(name, work, self._stop).run, IntervalTrigger(seconds=seconds))

    def _leases(self) -> list[Lease]:
        """Those of the chains whose followers do look: one that hangs must not keep others from its chain."""
        now = time.monotonic()
        return [one.follower.lease for one in self.networks().values() if now - one.follower.looked_at < HANGS_AFTER]

    def _schedule(self, one: Network) -> None:
        """Gives a chain the jobs that the manifest asks for now; those that it has already stay as they are."""
        wanted = dict(wanted_jobs(self.engine, self.manifest, one))
        for job_id, key in list(one.jobs.items()):
            if job_id not in wanted or wanted[job_id][0] != key:
                one.jobs.pop(job_id, None)
                with contextlib.suppress(JobLookupError):
                    self._scheduler.remove_job(job_id)
        for job_id, (key, trigger, work) in wanted.items():
            if job_id not in one.jobs:
                one.jobs[job_id] = key
                job = Job(self, one, work, job_id, leader_only=work is not follow)
                self._scheduler.add_job(job.run, trigger, id=job_id, name=job_id)
        subscribe(one, self._scheduler)

    # -- changes under way ---------------------------------------------------------------------------------------

    def _look_at_manifest(self) -> None:
        assert self._watch is not None
        forced = self._reload_wanted.is_set()
        self._reload_wanted.clear()
        self._restart_halted |= forced
        try:
            with self._changing:
                self._pending = self._watch.look(force=forced) or self._pending
                if self._pending is not None:
                    self.reconfigure(self._pending)
        except (ProblemsError, DatabaseError) as error:
            hint = f"\n{error.hint}" if error.hint else ""
            log.error("the new manifest is refused, the one before stays in force: %s%s", error, hint)
        # Whatever else goes wrong (a node, the connection to Postgres) passes: it is tried again at the next beat.
        self._pending, self._restart_halted = None, False

    def reconfigure(self, manifest: Manifest) -> None:
        """Takes over another manifest: what is new is begun, what is gone is ended, all else goes on untouched.

        Raises:
            DatabaseError: it contradicts what is in the database; nothing was changed.
            GaplessError, sqlalchemy.exc.DBAPIError: it could not be applied now; nothing was changed.
        """
        with self._changing:
            changes = self._prepare(manifest)
            for line in summary(changes):
                log.info("manifest: %s", line)
            if not changes:
                log.info("the manifest was read again; the database is as it asks already")
            self._take_over(manifest)

    def _take_over(self, manifest: Manifest) -> None:
        """Begins and ends the work at chains as a manifest asks."""
        self.manifest = manifest
        for name, one in list(self._networks.items()):
            is_halted = one.stop.is_set()
            if manifest.chains.get(name) != one.chain or (is_halted and self._restart_halted):
                del self._networks[name]
                self._remove_jobs(one)
                one.close(RETIRE_WITHIN)
                log.info("stopped following chain %s", name)
        for name, chain in manifest.chains.items():
            if name not in self._networks:
                self._networks[name] = Network.connect(self.engine, chain, self.settings)
                log.info("started following chain %s", name)
            if not self._networks[name].stop.is_set():
                self._schedule(self._networks[name])
        self._taken_over(manifest)

    def _remove_jobs(self, one: Network) -> None:
        for job_id in list(one.jobs):  # a copy: another thread may be at it
            with contextlib.suppress(JobLookupError):
                self._scheduler.remove_job(job_id)
        one.jobs.clear()

    def _version(self) -> int:
        with self.engine.connect() as connection:
            return load_version(connection)

    def _look_at_catalog(self) -> None:
        assert self._catalog is not None
        if self._pending is None and not self._anew:
            self._catalog.look(self.manifest)

    def _keep_view(self) -> None:
        """Makes views that could not be made when a manifest was applied, since they were being read."""
        version = self._version()
        if version != self._viewed:
            transfers.keep_view(self.engine, patience=VIEW_PATIENCE)
            readable_views.keep(self.engine, patience=VIEW_PATIENCE)
            self._viewed = version

    # -- until the end -------------------------------------------------------------------------------------------

    def run_until(self, stop: threading.Event) -> None:
        """Waits for the order to stop, and watches that all lives on which everything depends.

        Raises:
            SchedulerDiedError: a thread died; the process must be restarted.
        """
        while not stop.wait(1.0):
            for what, thread in (("scheduler", self._scheduler._thread), ("renewal of leases", self._renewer)):
                if not thread.is_alive():
                    raise SchedulerDiedError(
                        f"the {what} has died: nothing is indexed any more; this process ends",
                        hint="whatever supervises it starts it anew, else do: gapless run; please report this",
                    )

    def stop(self) -> None:
        """Tells all jobs to come to an end; open transactions are finished or abandoned by their owners."""
        self._stop.set()
        networks = self.networks().values()
        for one in networks:
            one.stop.set()
        for one in networks:
            one.cut_off()
        late = threading.Timer(COMMITS_WITHIN, self._cancel_statements)
        late.daemon = True
        late.start()
        self._scheduler.shutdown(wait=True)
        late.cancel()
        self._renewer.stop()
        for one in networks:
            one.follower.close()
            one.client.close()

    def _cancel_statements(self) -> None:
        """Has Postgres give up what this process waits for there, such as for a lock or a long look."""
        with contextlib.suppress(sa.exc.SQLAlchemyError), self._lease_engine.connect() as connection:
            cancel_statements(connection)

    def _failed(self, event: JobExecutionEvent) -> None:
        # Every foreseen error is handled in the job: what arrives here is a defect. It runs again at its next beat.
        self._defects.saw(event.job_id, event.exception, time.monotonic())

    # -- what jobs need ------------------------------------------------------------------------------------------

    def networks(self) -> Mapping[str, Network]:
        """The chains at work, by name, as they are at the moment."""
        return dict(self._networks)

    def trouble(self) -> str | None:
        """What keeps this process from its work as a whole, or None; one chain's trouble is in its state."""
        if not self._scheduler.running:
            return "the scheduler does not run"
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.text("SELECT FROM gapless.chains LIMIT 0"))
        except sa.exc.SQLAlchemyError:
            return "the database does not answer"
        for one in self.networks().values():
            if (why := one.hindrance()) is not None:
                return why
        return self._stalled.told if self.settings.ready_fails_when_stalled else None

    def _renew_secret(self) -> None:
        with self.engine.begin() as connection:
            keys.renew_token_secret(connection)

    def halt(self, one: Network, error: GaplessError) -> None:
        """Stops a chain, loudly: its data is left as it is, other chains go on, and it is looked at again.

        A development chain is begun anew.
        """
        with one.idle:
            if one.stop.is_set():
                return  # another of its jobs has met the same, or it is to end
            one.stop.set()
        self._remove_jobs(one)
        name, dev = one.chain.name, one.chain.dev
        if dev:
            log.warning("%s is to be begun anew, since it has dev = true: %s", name, error)
        else:
            log.error("%s is halted: %s. %s", name, error, error.hint or "")
        state, reason = ("waiting", f"it is begun anew: {error}") if dev else ("halted", f"{error}. {error.hint or ''}")

        def tell() -> None:
            with self.engine.begin() as connection:
                head_state.report_state(connection, one.chain.chain_id, state, reason)

        begin_anew = (lambda: self._begin_anew(one)) if dev else None
        look = LookAgain(one, contradicted(error), tell, lambda: self._go_on(one), begin_anew)
        job_id = f"{'begin anew' if dev else 'look again'} {name}"
        one.jobs[job_id] = None
        job = OwnJob(job_id, look.run, self._stop)
        now = datetime.now(UTC)
        self._scheduler.add_job(
            job.run, AfterPause(look), id=job_id, name=job_id, replace_existing=True, next_run_time=now
        )

    def _begin_anew(self, one: Network) -> None:
        """Deletes what was indexed of a development chain that was restarted, and takes up the one that is there.

        Raises:
            GaplessError, sqlalchemy.exc.DBAPIError: it could not be done, or in part; to be called again.
        """
        name = one.chain.name
        with self._changing:
            if self._stop.is_set() or self._networks.get(name) is not one:
                return
            one.end_work(RETIRE_WITHIN)
            manifest = self.manifest
            # Its lease is kept meanwhile. Where it was lost, the process that has it begins the chain anew.
            if one.follower.lease.is_held():
                self._anew.add(name)
                drop.reset(self.engine, one.chain.chain_id, name, follower=one.follower.lease.token)
                manifest = self._watch.settle_again() if isinstance(self._watch, PartialManifestWatcher) else manifest
                self._prepare(manifest)
                self._anew.discard(name)
                log.warning("%s was restarted: all of its rows were deleted, and it is begun anew (dev = true)", name)
            one.follower.close()
            self._remove_jobs(one)
            del self._networks[name]
            self._take_over(manifest)

    def _go_on(self, one: Network) -> None:
        """Lets a chain that was halted be worked at again."""
        with self.engine.begin() as connection:
            head_state.lift(connection, one.chain.chain_id)
        if self._stop.is_set() or not one.go_on():
            return
        self._remove_jobs(one)
        log.warning("%s goes on: its nodes serve again what was indexed", one.chain.name)
        self._schedule(one)
