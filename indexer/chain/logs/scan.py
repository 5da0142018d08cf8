"""History: all logs of some block ranges, some requests ahead of their reader.

Worker threads take a piece as wide as :class:`~indexer.chain.records.range_control.RangeController` says, ask for it,
and give back what turned out too much. Pieces are handed on in ascending order. As many are under way as the endpoints'
windows have room for, and as memory allows: what is awaited and what waits unread hold a bounded number of bytes.
"""

import ctypes
import functools
import heapq
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.chain.logs import address_slices, fetch
from indexer.chain.logs.history_check import HistoryCheck
from indexer.chain.reads.questions import LogQuestion
from indexer.chain.records.errors import FatalError, ProviderError, RangeError, Stopped, is_too_old
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter, kind_of
from indexer.chain.records.range_control import RangeController
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

if TYPE_CHECKING:
    from indexer.chain.rpc.requester import Requester

logger = logging.getLogger(__name__)

# A worker that waits for a node ends when that answers; it is not waited for longer than this, in seconds.
_PATIENCE = 1.0
_LOOK_UP_EVERY = 0.1
# Beside those under way, so many finished chunks may wait for the reader.
_WAITING = 2
_GUESSES_FOR_ONE_MORE, _TRUSTED = 4, 16
# So many bytes of answers are awaited or wait unread, as far as the logs' density tells; a single piece may hold more.
_MOST_BYTES = 40_000_000
# mallopt(3): so many heaps for all threads together.
_M_ARENA_MAX, _HEAPS = -8, 2


@dataclass(slots=True)
class _Piece:
    """What one worker reads: from ``first`` to ``last``, cut to ``end`` by what the ``endpoint`` asked last allows."""

    first: int
    last: int
    end: int
    allowed: int | None = None
    endpoint: Endpoint | None = None
    wording: tuple[str, str] | None = None


class Scan:
    """One pass over some ranges. Iterate it once.

    Args:
        client: the chain.
        ranges: inclusive ranges, not overlapping.
        filters: what to ask for, at least one.
        in_flight: the most requests under way.
        stop: ends the iteration early when set.
    """

    def __init__(
        self,
        client: "Requester",
        ranges: Iterable[tuple[int, int]],
        filters: Sequence[LogFilter],
        *,
        in_flight: int,
        stop: threading.Event | None,
    ) -> None:
        settings = client.settings
        self._client = client
        self._filters = filters
        self._kind = kind_of(filters)
        self._check = HistoryCheck(client, filters)
        self._in_flight = max(1, in_flight)
        self._stop = stop
        self._halted = threading.Event()
        self._changed = threading.Condition()
        self._work = [(first, last) for first, last in ranges if first <= last]
        heapq.heapify(self._work)
        self._control = RangeController(
            start_blocks=settings.start_blocks,
            max_blocks=settings.max_blocks,
            target_logs=settings.target_logs,
            target_bytes=settings.target_bytes,
        )
        self._questions: list[LogQuestion] = []
        self._planned_for = 0
        self._planning = threading.Lock()
        self._under_way: dict[int, int] = {}
        self._expected: dict[int, float] = {}
        self._ready: dict[int, LogChunk] = {}
        self._workers: list[threading.Thread] = []
        self._idle = 0
        self._good_guesses = 0
        self._failure: Exception | None = None
        self._too_old: list[ProviderError] = []

    def __iter__(self) -> Iterator[LogChunk]:
        if not self._work:
            return
        _share_heaps()
        context = RequestContext(stopped=self._stopped, history=True)
        self._plan(self._work, context)
        try:
            with self._changed:
                self._add_worker()
            while (chunk := self._next()) is not None:
                yield chunk
        finally:
            with self._changed:
                self._halted.set()
                self._changed.notify_all()
            patience = time.monotonic() + _PATIENCE
            for worker in self._workers:
                # An iterator without any reference is closed by whichever thread collects it.
                if worker.ident is not None and worker is not threading.current_thread():
                    worker.join(max(0.0, patience - time.monotonic()))
            self._check.report()

    def _plan(self, ranges: Sequence[tuple[int, int]], context: RequestContext) -> list[LogQuestion]:
        """Decides how long lists are asked for; again where endpoints take shorter ones than it counted on."""
        with self._planning:
            longest = self._client.at_most()[0]
            if not self._questions or longest < self._planned_for:
                plan = functools.partial(address_slices.plan, self._client, ranges, context=context)
                self._questions = [question for one in self._filters for question in plan(filters=one)]
                self._planned_for = longest
            return self._questions

    def _next(self) -> LogChunk | None:
        """The next chunk in order; None at the end or when stopped."""
        with self._changed:
            while True:
                if self._stopped():
                    return None
                lowest = min(self._ready, default=None)
                awaited = list(self._under_way)
                if self._work and self._failure is None:
                    awaited.append(self._work[0][0])
                if lowest is not None and all(lowest < other for other in awaited):
                    self._changed.notify_all()
                    del self._expected[lowest]
                    return self._ready.pop(lowest)
                if not awaited and lowest is None:
                    if (failure := self._failure or _first_of(self._too_old)) is not None:
                        raise failure
                    return None
                self._changed.wait(_LOOK_UP_EVERY)

    def _stopped(self) -> bool:
        return self._halted.is_set() or (self._stop is not None and self._stop.is_set())

    def _add_worker(self) -> None:
        name = f"{self._client.name}-scan-{len(self._workers)}"
        self._workers.append(threading.Thread(target=self._run, name=name, daemon=True))
        self._workers[-1].start()

    def _run(self) -> None:
        while (piece := self._take()) is not None:
            try:
                chunk = self._read(piece)
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - raised again in the reader's thread
                if isinstance(error, ProviderError):
                    up_to = error.up_to if isinstance(error, FatalError) and error.up_to is not None else piece.end
                    error.blocks = piece.first, max(piece.first, min(up_to, piece.end))
                with self._changed:
                    del self._under_way[piece.first], self._expected[piece.first]
                    self._changed.notify_all()
                    if isinstance(error, ProviderError) and is_too_old(error):
                        # What is not kept any more does not hold up what is kept.
                        self._too_old.append(error)
                        if error.blocks is not None:
                            self._give_back(error.blocks[1] + 1, piece.last)
                        continue
                    self._failure = self._failure or error
                return
            with self._changed:
                del self._under_way[piece.first]
                self._ready[chunk.first] = chunk
                self._expected[chunk.first] = chunk.log_bytes
                self._changed.notify_all()

    def _take(self) -> _Piece | None:
        with self._changed:
            self._idle += 1
            while not self._stopped() and self._failure is None and (self._work or self._under_way):
                if not self._work or not self._has_room():
                    self._changed.wait(_LOOK_UP_EVERY)
                    continue
                self._idle -= 1
                if not self._idle and len(self._workers) < self._in_flight:
                    self._add_worker()  # which waits for the next
                return self._next_piece()
            return None

    def _has_room(self) -> bool:
        first, under_way = self._work[0][0], len(self._under_way)
        if all(first < other for other in (*self._under_way, *self._ready)):
            return True  # the reader waits for it
        # Widths are guessed from what was answered: few questions at once while the guesses are poor.
        guesses = self._good_guesses
        abreast = self._in_flight if guesses >= _TRUSTED else min(self._in_flight, 1 + guesses // _GUESSES_FOR_ONE_MORE)
        return (
            under_way < abreast
            and under_way + len(self._ready) < self._in_flight + _WAITING
            and sum(self._expected.values()) < _MOST_BYTES
            and self._client.has_room(under_way)
        )

    def _next_piece(self) -> _Piece:
        first, last = heapq.heappop(self._work)
        while self._work and self._work[0][0] == last + 1:
            last = heapq.heappop(self._work)[1]
        end = min(last, first + self._control.width(first) - 1)
        self._under_way[first] = end
        self._expected[first] = self._control.expected_bytes(end - first + 1)
        self._give_back(end + 1, last)
        return _Piece(first, end, end)

    def _give_back(self, first: int, last: int) -> None:
        if first <= last:
            heapq.heappush(self._work, (first, last))
            self._changed.notify_all()

    def _read(self, piece: _Piece) -> LogChunk:
        context = RequestContext(stopped=self._stopped, history=True)
        with self._changed:
            ranges = [(piece.first, piece.last), *self._work]
        questions = self._plan(ranges, context)  # kept for this piece: another worker may plan anew meanwhile
        while True:
            try:
                endpoint, chunk = self._client.run(
                    lambda endpoint: (endpoint, self._ask(endpoint, piece, questions, context)),
                    self._kind,
                    block=piece.last,
                    oldest=piece.first,
                    context=context,
                    sticky=False,
                    avoid=self._check.avoided(),
                )
                if self._tells_true_times(endpoint, chunk, context):
                    break
            except RangeError as error:
                piece.wording = None if error.wording is None else (error.host, error.wording)
                if piece.end == piece.first:
                    endpoint, chunk = self._client.run(
                        lambda one: (one, fetch.whole_block(one, piece.first, self._filters, context)),
                        self._kind,
                        block=piece.first,
                        context=context,
                        sticky=False,
                        avoid=self._check.avoided(),
                    )
                    break
                if piece.endpoint is not None:
                    piece.allowed = piece.endpoint.block_limit.known
                with self._changed:
                    self._good_guesses //= 2
                    width = self._control.failed(piece.first, piece.end, error, piece.allowed)
                    self._shrink(piece, piece.first + width - 1)
        chunk = self._check.checked(endpoint, chunk, questions, context)
        with self._changed:
            self._shrink(piece, chunk.last)
            self._good_guesses += 1
            self._control.succeeded(chunk.first, chunk.last, chunk.count, chunk.log_bytes, chunk.seconds)
        chunk.requests, chunk.bytes = context.requests, context.bytes
        return chunk

    def _tells_true_times(self, endpoint: Endpoint, chunk: LogChunk, context: RequestContext) -> bool:
        """Compare a time that only logs tell with the header of its block, from any endpoint.

        Returns:
            False where it is wrong: that endpoint's logs are not asked for times any more.
        """
        if chunk.told_time is None:
            return True
        number, block_hash, told = chunk.told_time
        header = self._client.run(
            lambda other: fetch.bearing_header(other, number, block_hash, context),
            "eth_getBlockByNumber",
            block=number,
            context=context,
        )
        if header.time == told:
            return True
        endpoint.log_times_hold = False
        logger.warning(
            "%s: %s: its logs tell a wrong time (block %d: %d, the header says %d); times come from headers now",
            *(self._client.name, endpoint.host, number, told, header.time),
        )
        return False

    def _shrink(self, piece: _Piece, end: int) -> None:
        self._give_back(end + 1, piece.last)
        piece.last = piece.end = end
        self._under_way[piece.first] = end

    def _ask(
        self, endpoint: Endpoint, piece: _Piece, questions: Sequence[LogQuestion], context: RequestContext
    ) -> LogChunk:
        now = self._client.clock()
        with endpoint.lock:
            piece.allowed = endpoint.block_limit.allowed(now)
        piece.end = min(piece.last, piece.first + (piece.allowed or self._client.settings.max_blocks) - 1)
        piece.endpoint = endpoint
        chunk = fetch.chunk(endpoint, piece.first, piece.end, questions, context)
        if piece.wording is not None:
            self._cured(endpoint, *piece.wording)
        return chunk

    def _cured(self, endpoint: Endpoint, host: str, wording: str) -> None:
        """A smaller range was answered where words that no table knows had refused a wider one."""
        with endpoint.lock:
            if host != endpoint.host or wording in endpoint.cured_by_shrinking:
                return
            endpoint.cured_by_shrinking.add(wording)
        logger.info(
            "%s: %s: no table knows these words, but a smaller range cures them: %s",
            *(self._client.name, host, wording),
        )


@functools.cache
def _share_heaps() -> None:
    """Have the C library keep the memory of large answers for all threads in common.

    glibc has a heap for each of many threads, and each would keep the memory of its largest answers.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if set_option is not None:
        set_option(_M_ARENA_MAX, _HEAPS)


def _first_of(errors: Sequence[ProviderError]) -> ProviderError | None:
    """The first of some failures of ranges, about all neighbouring ranges that failed likewise; None where none did."""
    ranges = sorted((*error.blocks, place) for place, error in enumerate(errors) if error.blocks is not None)
    if not ranges:
        return errors[0] if errors else None
    first, last, place = ranges[0]
    for start, end, _ in ranges[1:]:
        if start > last + 1:
            break
        last = max(last, end)
    error = errors[place]
    error.blocks = first, last
    return error
