"""Metrics of the API: requests by route and status with their times, and how full the process is.

With several processes each writes into files of a folder that they share (prometheus-client's multiprocess mode), and
the process that supervises them adds them up.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

import falcon
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from api.database import Database
from api.errors import ApiError
from api.state import refuse_full, refuse_stalled
from indexer.admin import AdminServer

SAMPLE_EVERY: Final = 1.0
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# When each series began: they would be as many series again, for no use.
disable_created_metrics()  # type: ignore[no-untyped-call]

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

Gauges = Mapping[str, Callable[[], float]]


class Metrics:
    """What one process counts; Falcon middleware, too.

    Args:
        registry: where the metrics are found.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "gapless_api_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "gapless_api_request_seconds", "Until the answer began", ["route"], buckets=BUCKETS, registry=registry
        )
        self._busy = Gauge(
            "gapless_api_in_use",
            "How many are in use or wait at the moment",
            ["what"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._lookups = Counter(
            "gapless_api_cache_lookups",
            "Values asked of Redis: there (hit), not there (miss), not ours or too old (refused)",
            ["outcome"],
            registry=registry,
        )
        self._stop = threading.Event()

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Count a request that is answered."""
        # The template, never the path: what clients make up must not become a series each.
        route = req.uri_template or "none"
        method = req.method if req.method in _METHODS else "other"
        self._requests.labels(route, method, falcon.http_status_to_code(resp.status)).inc()
        started = getattr(req.context, "started", None)
        if started is not None:
            self._seconds.labels(route).observe(perf_counter() - started)

    def looked_up(self, outcome: str, count: int) -> None:
        """Count values that were asked of Redis."""
        self._lookups.labels(outcome).inc(count)

    def refused(self, status: int) -> None:
        """Count a request that was refused before it came to a route."""
        self._requests.labels("none", "other", status).inc()

    @contextmanager
    def watching(self, gauges: Gauges) -> Iterator[None]:
        """Look at gauges again and again, from a thread.

        Args:
            gauges: what is in use -> how many of it now.
        """
        thread = threading.Thread(target=self._sample, args=(gauges,), name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _sample(self, gauges: Gauges) -> None:
        while True:
            for what, count in gauges.items():
                self._busy.labels(what).set(count())
            if self._stop.wait(SAMPLE_EVERY):
                return


@contextmanager
def admin(
    host: str,
    port: int | None,
    registry: CollectorRegistry | None,
    database_url: str,
    *,
    fails_when_stalled: bool = False,
) -> Iterator[AdminServer | None]:
    """The administrator's port, if there is to be one.

    Args:
        host: address to listen on.
        port: 0: a free one; None: none.
        registry: the metrics; None: none.
        database_url: asked by ``/ready``.
        fails_when_stalled: whether that fails while the head of a chain stands still.

    Raises:
        AdminError: the address cannot be had.
    """
    if port is None or registry is None:
        yield None
        return
    database = Database(database_url, size=1, statement_timeout=5.0, name="admin")
    database.open()

    def trouble() -> str | None:
        try:
            refuse_full(database)
            if fails_when_stalled:
                refuse_stalled(database)
        except ApiError as error:
            return error.message
        return None

    try:
        server = AdminServer(host, port, registry, trouble)
        try:
            yield server
        finally:
            server.close()
    finally:
        database.close()


def own_registry() -> CollectorRegistry:
    """A registry for the metrics of this process alone."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class Shared:
    """What several processes count, added up in the one that supervises them.

    Args:
        folder: of the files that they share.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.registry = CollectorRegistry()
        MultiProcessCollector(self.registry, path=folder)  # type: ignore[no-untyped-call]

    def ended(self, pid: int) -> None:
        """A process ended: what it had in use is free; what it counted stays."""
        mark_process_dead(pid, self._folder)  # type: ignore[no-untyped-call]


@contextmanager
def shared(wanted: bool) -> Iterator[Shared | None]:
    """Make processes that are spawned from now on write what they count into a folder.

    Args:
        wanted: whether metrics are served.
    """
    if not wanted:
        yield None
        return
    before = os.environ.get(_FOLDER)
    with tempfile.TemporaryDirectory(prefix="gapless-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_FOLDER] = folder  # read when a spawned process imports prometheus-client
        try:
            yield Shared(folder)
        finally:
            os.environ.pop(_FOLDER)
            if before is not None:
                os.environ[_FOLDER] = before
