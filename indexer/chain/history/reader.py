"""History from a source, in order, a few ranges ahead of its reader; what the source does not give, from the nodes."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.chain.history.source import ContradictionError, HistoryReader, HistorySource, SourceRange, Verify
from indexer.chain.history.usage import SourceCounts, SourceUsage
from indexer.chain.history.verification import Verification
from indexer.chain.records.errors import ProviderError
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter, several
from indexer.chain.records.range_control import RangeController
from indexer.chain.rpc.config import RequestContext
from indexer.intervals import EMPTY, BlockRange, RangeSet, intersect, normalise, size, subtract

if TYPE_CHECKING:
    from indexer.chain.client import ChainClient

# What one request of a source should bring: more than one of a node, since each has its price and its way there.
TARGET_LOGS = 10_000
TARGET_BYTES = 5_000_000
_START_BLOCKS = 5_000
# Streams at once: each holds its answer in memory, and no window measures them.
_MOST_AT_ONCE = 4
_LOOK_UP_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a piece: a range, or why the source does not give it."""

    given: SourceRange | None = None
    failure: ProviderError | None = None


class SourcedHistory:
    """Reads history from a source, and from other readers what the source does not give. Thread-safe.

    Args:
        nodes: the chain's own, with which everything is compared.
        source: the source.
        verify: how many blocks are compared.
        rest: what reads the other ranges; the nodes by default.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        nodes: "ChainClient",
        source: HistorySource,
        verify: Verify = "sample",
        *,
        rest: HistoryReader | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = nodes
        self.source = source
        self._rest: HistoryReader = rest or nodes
        self._usage = SourceUsage(nodes.name, source.host, clock)
        self._verification = Verification(nodes, verify)

    def taken(self) -> list[SourceCounts]:
        """What became of this source, and of those behind it, since this was last asked for."""
        return [self._usage.taken(), *(self.rest.taken() if self.rest else ())]

    @property
    def rest(self) -> "SourcedHistory | None":
        """The source behind this one, where there is another."""
        return self._rest if isinstance(self._rest, SourcedHistory) else None

    @property
    def max_blocks(self) -> int:
        """The widest range that is ever asked for."""
        return self._nodes.settings.max_blocks

    def node_requests(self, pieces: int, blocks: int, logs: int) -> int:
        """How many requests to nodes comparing so many ranges takes at least; see :class:`Verification`."""
        return self._verification.requests(pieces, blocks, logs)

    def close(self) -> None:
        """Ends what is under way at the sources, and closes their connections."""
        self.source.abort()
        self.source.close()
        if self.rest:
            self.rest.close()

    def scan(
        self,
        ranges: Iterable[tuple[int, int]],
        filters: LogFilter | Sequence[LogFilter],
        *,
        in_flight: int = 4,
        stop: threading.Event | None = None,
    ) -> Iterator[LogChunk]:
        """Reads as :meth:`indexer.chain.client.ChainClient.scan` does.

        Raises:
            ProviderError: the nodes do not give what the source does not give, or cannot be compared with.
        """
        return self._scan(normalise(ranges), several(filters), in_flight, stop)

    def _scan(
        self, left: RangeSet, filters: Sequence[LogFilter], in_flight: int, stop: threading.Event | None
    ) -> Iterator[LogChunk]:
        while left and not (stop is not None and stop.is_set()):
            inside = None if self._usage.rests() else self._within_reach(left, stop)
            failed: BlockRange | None = None
            if inside and inside[0][0] == left[0][0]:
                reading = _SourceReading(self._nodes, self.source, self._verification, inside, filters, in_flight, stop)
                for chunk in reading:
                    left = subtract(left, ((chunk.first, chunk.last),))
                    self._usage.read(chunk.last - chunk.first + 1, reading.compared)
                    yield chunk
                if reading.failure is None:
                    continue
                failed = reading.failed
                self._usage.failed(reading.failure, *failed)
            for chunk in self._rest.scan(_others(left, inside, failed), filters, in_flight=in_flight, stop=stop):
                left = subtract(left, ((chunk.first, chunk.last),))
                self._usage.fell_back(chunk.last - chunk.first + 1)
                yield chunk
                if inside is None and not self._usage.rests():
                    break

    def _within_reach(self, left: RangeSet, stop: threading.Event | None) -> RangeSet | None:
        """What of some ranges the source has; None where it does not say."""
        context = RequestContext(stopped=None if stop is None else stop.is_set)
        try:
            first, last = self.source.reach(context)
        except ProviderError as error:
            self._usage.failed(error, left[0][0], left[-1][1])
            return None
        inside = intersect(left, ((first, last),)) if first <= last else EMPTY
        if (lacking := size(left) - size(inside)) > 0:
            self._usage.lacks(first, last, lacking)
        return inside


def _others(left: RangeSet, inside: RangeSet | None, failed: BlockRange | None) -> RangeSet:
    """What is read from elsewhere now: the range that failed, or all before what the source gives."""
    if failed is not None:
        return (failed,)
    return intersect(left, ((0, inside[0][0] - 1),)) if inside else left


class _SourceReading:
    """One pass over ranges that a source has. Iterate it once; it ends early where a range fails.

    Attributes:
        failure: why it ended early; None: it did not.
        failed: the range that failed.
        compared: how many blocks of the last chunk were compared with a node's.
    """

    def __init__(
        self,
        nodes: "ChainClient",
        source: HistorySource,
        verification: Verification,
        ranges: RangeSet,
        filters: Sequence[LogFilter],
        in_flight: int,
        stop: threading.Event | None,
    ) -> None:
        self._source, self._verification = source, verification
        self._filters = filters
        self._in_flight = max(1, min(in_flight, _MOST_AT_ONCE))
        self._stop = stop
        self._halted = threading.Event()
        self._left = deque(ranges)
        self._control = RangeController(
            start_blocks=_START_BLOCKS,
            max_blocks=nodes.settings.max_blocks,
            target_logs=TARGET_LOGS,
            target_bytes=TARGET_BYTES,
        )
        self.failure: ProviderError | None = None
        self.failed: BlockRange = (0, 0)
        self.compared = 0

    def __iter__(self) -> Iterator[LogChunk]:
        pending: deque[tuple[int, int, Future[_Outcome]]] = deque()
        previous: SourceRange | None = None
        pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="history-source")
        try:
            while not self._stopped():
                # Widths are guessed from what was answered: the first answer comes alone.
                while self._left and len(pending) < (1 if previous is None else self._in_flight):
                    first, last = self._next_piece()
                    pending.append((first, last, pool.submit(self._read, first, last, None)))
                if not pending:
                    return
                first, last, future = pending.popleft()
                outcome = self._waited(future)
                if outcome is None:
                    return
                given, failure = outcome.given, outcome.failure
                if given is not None and previous is not None and not _follows(previous, given):
                    failure = ContradictionError(
                        f"block {first:,} is not the child of block {first - 1:,}", host=self._source.host
                    )
                if failure is not None or given is None:
                    self.failure, self.failed = failure, (first, last)
                    return
                chunk = given.chunk
                self.compared = given.compared
                self._control.succeeded(first, chunk.last, chunk.count, chunk.log_bytes, chunk.seconds)
                if chunk.last < last:
                    rest = pool.submit(self._read, chunk.last + 1, last, chunk.end.hash)
                    pending.appendleft((chunk.last + 1, last, rest))
                previous = given
                yield chunk
        finally:
            self._halted.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _stopped(self) -> bool:
        return self._halted.is_set() or (self._stop is not None and self._stop.is_set())

    def _next_piece(self) -> BlockRange:
        first, last = self._left.popleft()
        end = min(last, first + self._control.width(first) - 1)
        if end < last:
            self._left.appendleft((end + 1, last))
        return first, end

    def _waited(self, future: Future[_Outcome]) -> _Outcome | None:
        """What became of a piece; None where the reading is stopped first."""
        while not self._stopped():
            try:
                return future.result(_LOOK_UP_EVERY)
            except FutureTimeoutError:
                continue
        return None

    def _read(self, first: int, last: int, parent: bytes | None) -> _Outcome:
        """A piece, read and compared.

        Raises:
            ProviderError: the nodes do not say what it is compared with.
        """
        context = RequestContext(stopped=self._stopped, history=True)
        try:
            given = self._source.read(first, last, self._filters, context, parent=parent)
        except ProviderError as error:
            return _Outcome(failure=error)
        try:
            given.compared = self._verification.compare(given, self._filters, context)
        except ContradictionError as error:
            return _Outcome(failure=error)
        except ProviderError as error:
            error.blocks = first, given.chunk.last
            raise
        given.chunk.requests, given.chunk.bytes = context.requests, context.bytes
        return _Outcome(given)


def _follows(before: SourceRange, after: SourceRange) -> bool:
    """Whether a range joins the one before it, where it begins right behind it."""
    number = before.chunk.end.number + 1
    if after.chunk.first != before.chunk.last + 1 or int(after.headers.numbers[0]) != number:
        return True
    return bytes(after.parents[0]) == before.chunk.end.hash
