"""The threads of an API process that deliver webhooks.

One looks for subscriptions that have something to do, a few deliver them: a receiver that takes its time holds up its
own subscription and one thread, and all receivers of one owner together half of the threads at most. Every process of
the API has them; leases keep two from delivering the same.
"""

import logging
import queue
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import random
from time import monotonic, sleep
from typing import Final, Protocol

import psycopg
from psycopg import errors as pg_errors

from api.catalog_watch import CatalogWatch
from api.context import Context
from api.database import Database
from api.errors import ApiError
from api.resources.service import package_version
from api.settings import ApiSettings
from api.webhooks.delivery import Deliverer, Looker
from api.webhooks.sealed_secrets import Vault
from api.webhooks.sender import Sender, parse_delays
from api.webhooks.store import Claim, Store
from api.webhooks.targets import networks

log = logging.getLogger(__name__)

#: Seconds for which a subscription stays ours without being renewed: when a process is killed, others wait as long.
LEASE: Final = 10.0
#: Seconds before a subscription is tried again whose delivery met a defect.
DEFECT_WAIT: Final = 60.0
#: Seconds for messages that are being sent when the process is told to stop.
GRACE: Final = 1.0
_RENEWED_EVERY: Final = 2.0
_PRUNED_EVERY: Final = 600.0


class Work(Protocol):
    """What delivers a subscription: :meth:`api.webhooks.delivery.Deliverer.work`."""

    def __call__(self, claim: Claim, stopping: Callable[[], bool]) -> None:
        """Deliver."""


class Worker:
    """Delivers until it is stopped.

    Args:
        store: where subscriptions are taken.
        work: delivers one.
        threads: subscriptions delivered at once.
        poll: seconds between two looks for work.
        keep_days: how long attempts are remembered.
        renewed: called when a table that should be there is gone.
        clock: seconds.
    """

    def __init__(
        self,
        store: Store,
        work: Work,
        *,
        threads: int,
        poll: float,
        keep_days: float,
        renewed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._work = work
        self._poll = poll
        self._keep_days = keep_days
        self._catalog_renewed = renewed
        self._clock = clock
        self._waiting: queue.SimpleQueue[Claim] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._unfinished = 0
        self._stopping = threading.Event()
        self._free = threading.Event()
        # Daemons: the end of the process waits for no receiver. What was not noted is sent again.
        self._threads = [threading.Thread(target=self._deliver, name="webhooks", daemon=True) for _ in range(threads)]
        self._watcher = threading.Thread(target=self._watch, name="webhooks watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        for thread in (*self._threads, self._watcher):
            thread.start()

    def begin_to_stop(self) -> None:
        """Begin nothing more; may be called from a signal handler."""
        self._stopping.set()
        self._free.set()

    def stop(self) -> None:
        """Wait a moment for what is being sent, and give back what is not finished, for others to go on with."""
        self.begin_to_stop()
        self._watcher.join(timeout=1.0)
        end = self._clock() + GRACE
        while self._unfinished and self._clock() < end:
            sleep(0.02)
        try:
            if self._unfinished:
                self._store.let_all_go()
        except (ApiError, psycopg.Error) as error:
            log.warning("webhooks: leases could not be given back, they end by themselves: %s", error)

    def _watch(self) -> None:
        renewed = pruned = self._clock()
        well = True
        while not self._stopping.is_set():
            try:
                now = self._clock()
                if now - renewed >= _RENEWED_EVERY:
                    renewed = now
                    self._renew()
                if now - pruned >= _PRUNED_EVERY:
                    # More than one statement deletes is left for the next moment, not for the next ten minutes.
                    pruned = now if self._store.prune(self._keep_days) == 0 else now - _PRUNED_EVERY
                found = self._claim()
                well = True
            except (ApiError, psycopg.Error) as error:
                found = 0
                if well:
                    log.warning("webhooks wait: %s", error)
                well = False
            except Exception:
                found = 0
                log.exception("webhooks: a defect; trying again")
            if found == 0:
                self._free.wait(self._poll)
                self._free.clear()

    def _renew(self) -> None:
        with self._lock:
            taken = list(self._taken)
        if taken:
            self._store.renew(taken, LEASE)

    def _claim(self) -> int:
        with self._lock:
            free = len(self._threads) - len(self._taken)
        if free <= 0:
            return 0
        # Half of the threads: an owner whose receivers all take their time leaves the others to the other owners.
        claims = self._store.claim(free, LEASE, share=max(1, len(self._threads) // 2))
        with self._lock:
            # One that we had and did not renew in time is still being delivered here: now it is renewed.
            claims = [claim for claim in claims if claim.webhook not in self._taken]
            self._taken.update(claim.webhook for claim in claims)
            self._unfinished += len(claims)
        for claim in claims:
            self._waiting.put(claim)
        return len(claims)

    def _deliver(self) -> None:
        while True:
            claim = self._waiting.get()
            try:
                if not self._stopping.is_set():
                    self._work(claim, self._stopping.is_set)
            except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn):
                # A table was dropped or laid out anew since the catalog was read.
                self._guarded(self._catalog_renewed)
                self._stopping.wait(self._poll)
            except pg_errors.ForeignKeyViolation:
                pass  # it was deleted in the meantime
            except (ApiError, psycopg.Error) as error:
                log.warning("webhook %s waits: %s", claim.webhook, error)
                # Not at once again: what hinders it may last.
                self._stopping.wait(self._poll)
            except Exception:
                log.exception("a defect in the delivery of webhook %s", claim.webhook)
                reason = "something went wrong here: the operator's log has it"
                self._guarded(partial(self._store.hindered, claim, reason, DEFECT_WAIT))
            with self._lock:
                # First: what is claimed again the moment it is given back must not look as if it were still here.
                self._taken.discard(claim.webhook)
            self._guarded(partial(self._store.let_go, [claim.webhook]))
            with self._lock:
                self._unfinished -= 1
            self._free.set()

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (ApiError, psycopg.Error) as error:
            log.warning("webhooks: %s", error)


def vault_of(settings: ApiSettings) -> Vault | None:
    """What opens the secrets; None where webhooks are switched off."""
    if settings.webhooks_secret_key is None:
        return None
    return Vault.of(settings.webhooks_secret_key.get_secret_value())


class Webhooks:
    """The delivery of an API process, with connections of its own.

    Args:
        context: of the process.
        database_url: ``postgresql://...``
    """

    def __init__(self, context: Context, database_url: str, vault: Vault) -> None:
        settings = context.settings
        self._database = Database(
            database_url,
            size=settings.webhooks_threads + 1,
            statement_timeout=settings.api_statement_timeout,
            wait=5.0,
            name="webhooks",
            read_only=False,
        )
        watch = CatalogWatch(self._database)
        store = Store(self._database, secrets.token_hex(8))
        sender = Sender(
            networks(settings.webhooks_allow_private),
            timeout=settings.webhooks_timeout,
            agent=f"Gapless-Webhooks/{package_version()}",
            wall=_now,
        )
        deliverer = Deliverer(
            store,
            Looker(self._database, watch, settings.api_unindexed_window, _now),
            vault,
            sender,
            delays=parse_delays(settings.webhooks_retry_delays),
            allow_http=settings.webhooks_allow_http,
            random=random,
            wall=_now,
        )
        self._worker = Worker(
            store,
            deliverer.work,
            threads=settings.webhooks_threads,
            poll=settings.webhooks_poll,
            keep_days=settings.webhooks_keep_days,
            renewed=watch.renewed,
        )

    def start(self) -> None:
        """Begin to deliver."""
        self._database.open()
        self._worker.start()

    def begin_to_stop(self) -> None:
        """Begin nothing more; may be called from a signal handler."""
        self._worker.begin_to_stop()

    def stop(self) -> None:
        """Stop delivering."""
        self._worker.stop()
        self._database.close()


def start(context: Context, database_url: str) -> Webhooks | None:
    """Begin to deliver, where webhooks are switched on."""
    vault = vault_of(context.settings)
    if vault is None:
        return None
    delivering = Webhooks(context, database_url, vault)
    delivering.start()
    return delivering


def _now() -> datetime:
    return datetime.now(UTC)
