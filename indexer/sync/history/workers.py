"""A backfill on many workers: any ``concurrent.futures.Executor``, in this machine's processes or on a Dask cluster.

The missing blocks are cut into pieces, and each worker fills pieces as
:class:`~indexer.sync.history.backfill.Backfill` does. A piece is idempotent: one whose worker was killed is planned
again, and what it had committed is not fetched twice.
"""

import contextlib
import logging
import multiprocessing
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from indexer import __version__
from indexer.errors import GaplessError
from indexer.intervals import BlockRange, pieces, size
from indexer.manifest.model import Chain
from indexer.settings import Settings
from indexer.store.database import create_engine
from indexer.sync.history.backfill import Backfill, Progress, Selection, UnreadRangesError
from indexer.sync.setup import network

log = logging.getLogger(__name__)

# Pieces for each worker: enough that none idles at the end, few enough that each is worth its start.
_PIECES_PER_WORKER = 8
_SMALLEST_PIECE = 1_000
_LOST_IN_A_ROW = 5


@dataclass(frozen=True, repr=False)
class WorkerJob:
    """What a worker must know, wherever it is. It carries URLs with their secrets: it is never shown.

    Attributes:
        database_url: reachable from the worker.
        chain: with its endpoints.
        settings: of the indexer.
        selection: what to fill.
        version: of Gapless where it was planned.
    """

    database_url: str
    chain: Chain
    settings: Settings
    selection: Selection
    version: str = __version__

    def __repr__(self) -> str:
        return f"WorkerJob(chain={self.chain.name!r}, within={self.selection.within})"


def fill(job: WorkerJob) -> Progress:
    """Fills a piece: what a worker runs.

    Raises:
        GaplessError: a node or the database could not be used, or the worker has another version; what was committed
            stays.
    """
    if job.version != __version__:
        raise GaplessError(
            f"a worker on {socket.gethostname()} has Gapless {__version__}, the backfill is of {job.version}",
            hint="install the same version where the workers run, and start them again",
        )
    engine = create_engine(job.database_url, application_name="gapless worker", pool_size=2)
    client = network.connect(job.chain, job.settings, engine)
    history = network.history(job.chain, job.settings, client, engine)
    try:
        work = Backfill(
            engine,
            client,
            job.chain.chain_id,
            job.selection,
            job.settings.backfill_in_flight,
            keeps_indexes=True,
            history=history,
        )
        if _stop is not None:
            work.stop = _stop
        return work.run()
    except UnreadRangesError:
        return work.progress  # noted in the database; the process that planned the pieces tells of it
    finally:
        if history is not None:
            history.close()
        client.close()
        engine.dispose()


def run_with(executor: Executor, work: Backfill, job: WorkerJob, *, workers: int, piece: int | None = None) -> Progress:
    """Does what ``work.run()`` does, on an executor's workers.

    Args:
        executor: where the pieces are filled.
        work: plans, counts progress and is told to stop; pieces under way are finished then.
        job: what the workers need; its selection is that of ``work``.
        workers: how many pieces can be filled at once, to choose their size by.
        piece: blocks of a piece; None: chosen.

    Raises:
        BrokenProcessPool: a process was killed; run again with another executor.
        GaplessError: a piece failed; the others are finished first.
    """
    fruitless = 0
    while not work.stop.is_set():
        plan = work.plan()
        if not plan.gaps:
            work.build_indexes(plan)
            work.require_read()
            break
        gap = plan.gaps[0]
        work.put_indexes_off(gap)
        width = piece or max(_SMALLEST_PIECE, -(-size(gap.ranges) // (workers * _PIECES_PER_WORKER)))
        work.progress.total = max(work.progress.total, work.progress.blocks + gap.blocks)
        selected = [replace(job.selection, within=part) for part in pieces(gap.ranges, width)]
        futures = {executor.submit(fill, replace(job, selection=part)): part.within for part in selected}
        before = work.progress.blocks
        _gather(futures, work)
        # As in Backfill.run: nodes may be behind what is final, or other workers be at all of it.
        fruitless = 0 if work.progress.blocks > before else fruitless + 1
        if fruitless:
            work.stop.wait(min(5.0, 0.2 * fruitless))
    return work.progress


def _gather(futures: dict[Future[Progress], BlockRange | None], work: Backfill) -> None:
    failure: BaseException | None = None
    for future in as_completed(futures):
        if future.cancelled():
            continue
        if (error := future.exception()) is not None:
            failure = failure or error
            if not isinstance(error, BrokenProcessPool):
                log.warning("blocks %s were not filled: %s", futures[future], error)
            continue
        _add(work.progress, future.result())
        work.on_progress(work.progress)
        if work.stop.is_set():
            for other in futures:
                other.cancel()
    if failure is not None and type(failure).__module__.startswith("distributed."):
        raise GaplessError(
            f"the Dask cluster lost the work: {failure}",
            hint="the logs of its scheduler and workers say why (too little memory?); what is committed stays, "
            "run it again",
        ) from failure
    if failure is not None:
        raise failure


def _add(total: Progress, part: Progress) -> None:
    total.blocks += part.blocks
    total.rows += part.rows
    total.requests += part.requests
    total.bytes += part.bytes


def run_in_processes(work: Backfill, job: WorkerJob, workers: int, *, piece: int | None = None) -> Progress:
    """Does what ``work.run()`` does in processes of this machine; those that are killed are replaced.

    Raises:
        GaplessError: a piece failed, or processes were killed again and again (out of memory?).
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    lost = 0
    while True:
        before = work.progress.blocks
        with (
            _relayed(work, stop),
            ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(stop,)) as executor,
        ):
            try:
                return run_with(executor, work, job, workers=workers, piece=piece)
            except BrokenProcessPool:
                lost = lost + 1 if work.progress.blocks == before else 0
        if lost >= _LOST_IN_A_ROW:
            raise GaplessError(
                f"worker processes were killed {lost} times in a row",
                hint="too little memory for so many? Try fewer workers; what is committed stays",
            )
        log.warning("a worker process was killed; its blocks are planned again")


@contextlib.contextmanager
def dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask cluster, for :func:`run_with`, and how many pieces they fill at once.

    Each needs this version of Gapless installed, and must reach the database and the nodes.

    Args:
        address: of its scheduler, such as ``tcp://10.0.0.5:8786``.

    Raises:
        GaplessError: Dask is not installed, or there is no scheduler or no worker.
    """
    try:
        import distributed
    except ImportError:
        raise GaplessError("Dask is not installed", hint="pip install 'gapless[dask]'") from None
    if shows_secrets(address):
        log.warning(
            "%s: a backfill tells its workers the URLs of database and nodes with their keys, and tcp:// does not hide "
            "them on the way; use tls:// (docs/scale-out.md), or a network of your own",
            address,
        )
    try:
        client: Any = distributed.Client(address, timeout=10)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise GaplessError(f"no Dask scheduler at {address}: {error}", hint="start one: dask scheduler") from None
    with client:
        _keep_profilers_quiet(client)
        threads = sum(client.nthreads().values())
        if not threads:
            raise GaplessError(
                f"the Dask cluster at {address} has no workers", hint=f"start some: dask worker {address}"
            )
        # A piece is the same in every worker, but must be filled again when it is asked for again.
        with client.get_executor(pure=False) as executor:
            yield executor, threads


def shows_secrets(address: str) -> bool:
    """Whether what is sent to a scheduler can be read on the way: it is not encrypted, and leaves this machine."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in ("tcp", "ws"):
        return False
    with contextlib.suppress(ValueError):
        return not ip_address(parts.hostname or "").is_loopback
    return parts.hostname != "localhost"


_PROFILER_IS_SAFE = (3, 11, 9)
"""The first Python in which looking at all threads' frames cannot lock the interpreter (CPython issue 106883)."""


def _keep_profilers_quiet(client: Any) -> None:
    """Stops the workers' own profiler where Python would sooner or later stand still for it.

    It looks at all threads a hundred times a second, and a piece begins and ends many.
    """
    import distributed

    class NoProfiler(distributed.WorkerPlugin):
        """Also for workers that replace others."""

        name = "gapless-no-profiler"

        def setup(self, worker: Any) -> None:
            profiler = worker.periodic_callbacks.pop("profile", None)
            if profiler is not None:
                profiler.stop()

    if sys.version_info < _PROFILER_IS_SAFE:
        client.register_plugin(NoProfiler())


class _Relay:
    """Sets the processes' event when ours is set."""

    def __init__(self, work: Backfill, stop: Any) -> None:
        self._stops = (work.stop, stop)
        self._ended = False

    def run(self) -> None:
        ours, theirs = self._stops
        while not self._ended:
            if ours.wait(0.1):
                theirs.set()
                return

    def end(self) -> None:
        self._ended = True


@contextlib.contextmanager
def _relayed(work: Backfill, stop: Any) -> Iterator[None]:
    from threading import Thread

    relay = _Relay(work, stop)
    thread = Thread(target=relay.run, name="workers-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        relay.end()
        thread.join()


_stop: Any = None
"""In a process of :func:`run_in_processes`: the event that stops it."""


def _begin(stop: Any) -> None:
    global _stop  # noqa: PLW0603 - what a pool's initializer is for
    _stop = stop
    # Ctrl-C reaches all processes of a terminal; ours are stopped by the event, after the chunk at hand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
