"""What the jobs of ``gapless run`` do: one beat of each piece of work, and how its trouble is told.

Which job runs when is :mod:`indexer.service.scheduler`'s.
"""

import contextlib
import dataclasses
import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from indexer.chain.disagreement import ban_contradicting
from indexer.chain.rpc.pushed_heads import PushedStatus
from indexer.errors import GaplessError
from indexer.log import Trouble, bind, kind_of
from indexer.manifest.model import Manifest
from indexer.service.chain_at_work import Network
from indexer.settings import Settings
from indexer.store.access import grants
from indexer.store.cache import Cache
from indexer.store.credits.days import days_of
from indexer.store.database import refuses_changes
from indexer.store.head import state
from indexer.store.head import state as head_state
from indexer.store.head.state import EndpointRow
from indexer.store.rows import blocks
from indexer.store.rows.blocks import ForeignBlockError
from indexer.sync.audit import holdings, table_checks
from indexer.sync.head.follower import ChainHaltedError, Tick
from indexer.sync.history.backfill import Backfill
from indexer.sync.history.transactions import Includer
from indexer.sync.tokens import balances, metadata_job

log = logging.getLogger(__name__)

MOST_DIGESTED = 100
"""Sources of a chain that are digested at one beat: of thousands that nothing happens to, each waits for its turn."""


class ServiceResources(Protocol):
    """What jobs need of the service that they belong to."""

    @property
    def engine(self) -> Engine:
        """The database."""

    @property
    def cache(self) -> Cache:
        """Redis, or nothing."""

    @property
    def manifest(self) -> Manifest:
        """What to index."""

    @property
    def settings(self) -> Settings:
        """The environment."""

    def halt(self, one: Network, error: GaplessError) -> None:
        """Stops a chain, loudly."""


Work: TypeAlias = Callable[[ServiceResources, Network], None]


@dataclass(slots=True)
class Job:
    """Runs one piece of work for one chain again and again, and says what goes wrong once, not at every beat."""

    resources: ServiceResources
    network: Network
    work: Work
    name: str
    leader_only: bool = True
    trouble: Trouble = field(init=False)

    def __post_init__(self) -> None:
        self.trouble = Trouble(self.network.troubles)

    def run(self) -> None:
        """One beat; of what is the leader's alone, none while another process leads."""
        with self.network.at_work():
            if not self.network.stop.is_set() and (not self.leader_only or self.network.follower.leads()):
                self._run()

    def _run(self) -> None:
        name = self.network.chain.name
        try:
            if not self.network.checked:
                self.network.client.check()
                self.network.checked = True
            self.work(self.resources, self.network)
        except ChainHaltedError as error:
            self.resources.halt(self.network, error)
        except ForeignBlockError as error:
            if not ban_contradicting(self.network.client, {error.number: error.stored}):
                self.resources.halt(self.network, error)
        except GaplessError as error:
            if not self.network.stop.is_set():
                self._say(f"{error}" + (f" ({error.hint})" if error.hint else ""), error)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg.Error) as error:
            if (why := refuses_changes(error)) is not None:
                self.network.hindrances[self.name] = why
                if why != self.network.told_hindrance and self.network.follower.leads():
                    with contextlib.suppress(sa.exc.SQLAlchemyError):  # it may be refused like all else
                        _tell_hindrance(self.resources, self.network)
            if not self.network.stop.is_set():
                self._say(f"Postgres: {_cause(error)}; nothing was written by this step", error)
        else:
            self.network.hindrances.pop(self.name, None)
            if self.trouble.worked():
                bind(log, chain=name).info("%s works again", self.name)

    def _say(self, text: str, error: Exception) -> None:
        # What is no node's fault is each job's own.
        kind = kind_of(error) if getattr(error, "host", "") else f"{self.name}: {kind_of(error)}"
        telling = self.trouble.failed(kind)
        if telling is not None:
            beside = "" if telling == "new" else "; it comes and goes, and is not told again before it has stopped"
            bind(log, chain=self.network.chain.name).warning("%s: %s; trying again%s", self.name, text, beside)


@dataclass(slots=True)
class OwnJob:
    """Runs a piece of work that belongs to no chain; its trouble is said once, too."""

    name: str
    work: Callable[[], object]
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the process is to end, which is no trouble."""
    trouble: Trouble = field(default_factory=Trouble)

    def run(self) -> None:
        """One beat."""
        if self.stop.is_set():
            return
        try:
            self.work()
        except (GaplessError, sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg.Error) as error:
            text = str(error) if isinstance(error, GaplessError) else f"Postgres: {_cause(error)}"
            if not self.stop.is_set() and self.trouble.failed(kind_of(error)) is not None:
                log.warning("%s: %s; trying again", self.name, text)
        else:
            self.trouble.worked()


class Defects:
    """Defects of jobs, each told once with its traceback, and from then on by how often it came again. Thread-safe."""

    AGAIN_AFTER = 60.0
    """Seconds between two lines about the same defect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[int, int, float]] = {}

    def saw(self, job: str, error: BaseException, now: float) -> None:
        """Counts a defect, and says it where that is due.

        Args:
            job: in which it came.
            error: what came.
            now: seconds of a clock that only grows.
        """
        place = traceback.extract_tb(error.__traceback__)[-1:]
        key = job, f"{type(error).__name__} at {place}"
        with self._lock:
            count, said, said_at = self._seen.get(key, (0, 0, now))
            count += 1
            is_due = said == 0 or now - said_at >= self.AGAIN_AFTER
            self._seen[key] = (count, count, now) if is_due else (count, said, said_at)
        if said == 0:
            log.error("job %s failed: %s", job, error, exc_info=error)
        elif is_due:
            log.error("job %s failed %d times more in the same way, %d in all: %s", job, count - said, count, error)


def _cause(error: Exception) -> str:
    # COPY and DDL go past SQLAlchemy, and their errors too.
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return lines[0] if lines else repr(error)


def follow(resources: ServiceResources, one: Network) -> None:
    """Takes steps towards the head until there is nothing new."""
    try:
        outcome = one.look()
        # What came in while we were away, or in bursts, is not left until the next beat.
        while (
            (outcome in (Tick.EXTENDED, Tick.REORGANISED) and one.follower.is_behind()) or one.woken.is_set()
        ) and not one.stop.is_set():
            outcome = one.look()
    except GaplessError as error:
        if one.stop.is_set():
            raise
        with resources.engine.begin() as connection:
            head_state.report_state(connection, one.chain.chain_id, "waiting", str(error))
        raise
    if outcome is not Tick.STANDING_BY:
        _tell_hindrance(resources, one)
    else:
        raise _StandingByError(f"{one.chain.name} is followed by another process; standing by to take over")


def _tell_hindrance(resources: ServiceResources, one: Network) -> None:
    """Says in the chain's state that what other jobs of it want to write is refused, and that it no longer is."""
    why = one.hindrance()
    if why is None and one.told_hindrance is None:
        return
    with resources.engine.begin() as connection:
        head_state.report_state(connection, one.chain.chain_id, "following" if why is None else "waiting", why)
    one.told_hindrance = why


class _StandingByError(GaplessError):
    """Not an error: said once, like one."""


def fill(resources: ServiceResources, one: Network) -> None:
    """Fills history until no gap is left."""
    backfill = Backfill(
        resources.engine,
        one.client,
        one.chain.chain_id,
        stop=one.stop,
        in_flight=resources.settings.backfill_in_flight,
        history=one.history,
    )
    done = backfill.run()
    if done.blocks:
        bind(log, chain=one.chain.name).info(
            "filled %d blocks of history: %d events, %d requests", done.blocks, done.rows, done.requests
        )


def keep_balances(resources: ServiceResources, one: Network) -> None:
    """Takes balances that lag behind further through history."""
    balances.catch_up(resources.engine, one.chain.chain_id, stop=one.stop)


def check_balances(resources: ServiceResources, one: Network) -> None:
    """Asks nodes whether balances are exact: whether tokens gave before they are counted, and what holders have."""
    chain_id = one.chain.chain_id
    balances.ask_for_earlier(resources.engine, one.client, chain_id, stop=one.stop)
    if not one.stop.is_set():
        holdings.ask_due(resources.engine, one.client, chain_id)


def include(resources: ServiceResources, one: Network) -> None:
    """Fetches blocks, transactions and receipts of events."""
    Includer(resources.engine, one.client, one.chain.chain_id, one.stop).run()


def refresh_tokens(resources: ServiceResources, one: Network) -> None:
    """Reads what new tokens say of themselves."""
    contracts = frozenset(contract for contract, chain in resources.manifest.tokens if chain == one.chain.name)
    arguments = resources.manifest.token_arguments_on(one.chain.name)
    while not one.stop.is_set():
        cache, chain_id = cache_of(resources, one), one.chain.chain_id
        if metadata_job.refresh(resources.engine, one.client, chain_id, contracts, cache, one.tokens, arguments) == 0:
            break


def cache_of(resources: ServiceResources, one: Network) -> Cache:
    """Redis; none for a development chain: of two with one genesis, one address may be another token."""
    return Cache(None) if one.chain.dev else resources.cache


def take_digests(resources: ServiceResources, one: Network) -> None:
    """Sums up what has become final, so that an audit can tell later whether it is still the same."""
    table_checks.take_digests(resources.engine, one.chain.chain_id, most=MOST_DIGESTED)


def prune_blocks(resources: ServiceResources, one: Network) -> None:
    """Makes the old blocks of a fast chain fewer."""
    while not one.stop.is_set():
        with resources.engine.begin() as connection:
            if blocks.prune_blocks(connection, one.chain.chain_id) is None:
                break


def end_overlong_sessions(resources: ServiceResources, _one: Network) -> None:
    """Ends what analysts keep open for too long."""
    with resources.engine.begin() as connection:
        grants.end_overlong_sessions(connection)


def report_endpoints(resources: ServiceResources, one: Network) -> None:
    """Notes how the endpoints do, and takes back those that serve the chain again."""
    one.client.pool.reconsider()
    days_of(resources.engine).save()
    rows = [
        EndpointRow(status.host, status.state, status.head, dataclasses.asdict(status))
        for status in one.client.describe()
    ] + [_pushing(each.status) for each in one.pushed]
    with resources.engine.begin() as connection:
        state.store_endpoints(connection, one.chain.chain_id, rows)
        state.take_sample(connection, one.chain.chain_id)


_STATES = {"confirmed": "healthy", "subscribed": "unknown"}


def _pushing(status: PushedStatus) -> EndpointRow:
    """A subscription as an endpoint: healthy once it is confirmed, unhealthy while it had to be renewed and is not."""
    state = _STATES.get(status.state, "unhealthy" if status.reason else "unknown")
    reason = status.reason if state == "unhealthy" else ""
    details = {"pushes": status.state, "renewals": status.renewals, "last_reason": status.reason, "reason": reason}
    return EndpointRow(status.host, state, status.head, details)


def quiet(work: Callable[[], object]) -> Work:
    """Work that needs neither resources nor network."""

    def run(_resources: ServiceResources, _network: Network) -> None:
        work()

    return run
