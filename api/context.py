"""What the resources share: one of it a process."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from api.catalog_watch import CatalogWatch
from api.database import Database
from api.errors import ApiError
from api.metrics import Metrics, own_registry
from api.settings import ApiSettings
from api.token_lookup import CacheSecret, TokenLookup
from indexer.store.cache import Cache

#: Threads that answer requests of the event loop: those that waited, and streams until they begin.
REQUEST_THREADS: Final = 4


class Slots:
    """A limit on how many requests do a long thing at once, shared out among clients.

    A client gets a further slot only while more are free than it holds. So one client alone has half of them at most,
    and never the last one that another could have had.

    Args:
        count: of slots.
        what: takes them, in the plural.
        code: of the refusal when none is free.
    """

    def __init__(self, count: int, what: str, code: str = "OVERLOADED") -> None:
        self.count = count
        self._held: Counter[str | None] = Counter()
        self._lock = threading.Lock()
        self._what = what
        self._code = code

    @property
    def used(self) -> int:
        """How many are taken now."""
        return self._held.total()

    @contextmanager
    def taken(self, client: str | None = None) -> Iterator[None]:
        """Hold a slot.

        Raises:
            ApiError: as :meth:`take`.
        """
        self.take(client)
        try:
            yield
        finally:
            self.give_back(client)

    def take(self, client: str | None = None) -> None:
        """Take a slot, to be given back.

        Args:
            client: which key or address takes it; None: nobody in particular, whose share is all.

        Raises:
            ApiError: OVERLOADED, or the code of these slots, if none is free for this client.
        """
        with self._lock:
            free = self.count - self._held.total()
            held = 0 if client is None else self._held[client]
            if held < free:
                self._held[client] += 1
                return
        which = f"too many {self._what} at once" if free <= 0 else f"too many {self._what} of one client at once"
        raise ApiError(self._code, f"{which}: try again in a moment", retry_after=1)

    def give_back(self, client: str | None = None) -> None:
        """Give a slot back.

        Args:
            client: which took it.
        """
        with self._lock:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


@dataclass(frozen=True)
class Context:
    """The API's parts.

    Attributes:
        database: for answers that are short.
        writes: for what requests change: keys, webhooks, jobs.
        exports: for those that take long; a pool of its own, so that they cannot starve the others.
        catalog: what is indexed.
        cache: Redis, or nothing.
        tokens: what tokens say of themselves.
        export_slots, waits, streams: limits on long requests.
        metrics: what is counted, if anybody will look.
    """

    settings: ApiSettings
    database: Database
    writes: Database
    exports: Database
    catalog: CatalogWatch
    cache: Cache
    tokens: TokenLookup
    export_slots: Slots
    waits: Slots
    streams: Slots
    metrics: Metrics | None = None

    def close(self) -> None:
        """Close every connection."""
        self.database.close()
        self.writes.close()
        self.exports.close()
        self.cache.close()


def create_context(settings: ApiSettings, database_url: str, redis_url: str | None) -> Context:
    """Make the parts and begin to connect; waits for nothing."""
    database = Database(
        database_url,
        # Requests that waited, and streams of collections, are answered in threads of their own.
        size=settings.api_threads + 2 * REQUEST_THREADS + 1,
        statement_timeout=settings.api_statement_timeout,
    )
    exports = Database(
        database_url,
        size=settings.api_export_slots,
        statement_timeout=settings.api_export_timeout,
        name="exports",
    )
    writes = Database(
        database_url, size=2, statement_timeout=settings.api_statement_timeout, name="writes", read_only=False
    )
    for pool in (database, writes, exports):
        pool.open()
    metrics = None if settings.admin_port is None else Metrics(own_registry())
    secret = settings.redis_secret.get_secret_value() if settings.redis_secret else None
    cache = Cache(
        redis_url, secret=CacheSecret(database, secret), lookups=None if metrics is None else metrics.looked_up
    )
    return Context(
        settings=settings,
        database=database,
        writes=writes,
        exports=exports,
        catalog=CatalogWatch(database),
        cache=cache,
        tokens=TokenLookup(database, cache),
        export_slots=Slots(settings.api_export_slots, "exports"),
        waits=Slots(settings.api_wait_slots, "waiting requests"),
        streams=Slots(settings.streams_max, "streams", "STREAMS_FULL"),
        metrics=metrics,
    )
