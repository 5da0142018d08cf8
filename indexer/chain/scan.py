"""History: all logs of some block ranges, a few requests ahead of whoever reads them.

Worker threads take a piece as wide as :class:`~indexer.chain.range_control.RangeController` says, ask for it, and give
back what turned out too much. Pieces are handed on in ascending order. No more than a few wait unread, so memory stays
flat.
"""

import heapq
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.chain import fetch
from indexer.chain.config import Errand
from indexer.chain.endpoint import Endpoint
from indexer.chain.errors import RangeError, Stopped
from indexer.chain.filters import LogFilter
from indexer.chain.logs import LogChunk
from indexer.chain.range_control import RangeController
from indexer.chain.slicing import requests_for

if TYPE_CHECKING:
    from indexer.chain.client import ChainClient

_LOOK_UP_EVERY = 0.1
# Beside those under way, so many finished chunks may wait for the reader.
_WAITING = 2


@dataclass(slots=True)
class _Piece:
    """What one worker reads: from ``first`` to ``last``, cut to ``end`` by what the endpoint allows."""

    first: int
    last: int
    end: int
    allowed: int | None = None


class Scan:
    """One pass over some ranges. Iterate it once.

    Args:
        client: the chain.
        ranges: inclusive ranges, not overlapping.
        filters: what to ask for.
        in_flight: the most requests under way.
        stop: ends the iteration early when set.
    """

    def __init__(
        self,
        client: "ChainClient",
        ranges: Iterable[tuple[int, int]],
        filters: LogFilter,
        *,
        in_flight: int,
        stop: threading.Event | None,
    ) -> None:
        settings = client.settings
        self._client = client
        self._filters = filters
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
        self._asked: list[LogFilter] | None = None
        self._under_way: dict[int, int] = {}
        self._ready: dict[int, LogChunk] = {}
        self._answered = False
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[LogChunk]:
        if not self._work:
            return
        workers = [
            threading.Thread(target=self._run, name=f"{self._client.name}-scan-{number}", daemon=True)
            for number in range(self._in_flight)
        ]
        try:
            for worker in workers:
                worker.start()
            while (chunk := self._next()) is not None:
                yield chunk
        finally:
            with self._changed:
                self._halted.set()
                self._changed.notify_all()

    def _next(self) -> LogChunk | None:
        """The next chunk in order; None at the end or when stopped."""
        with self._changed:
            while True:
                if self._stopped():
                    return None
                lowest = min(self._ready, default=None)
                bounds = [*self._under_way, *(self._work[0][:1] if self._work else ())]
                if lowest is not None and all(lowest < other for other in bounds):
                    chunk = self._ready.pop(lowest)
                    self._changed.notify_all()
                    return chunk
                if self._failure is not None and (not self._under_way or lowest is None):
                    raise self._failure
                if not bounds and lowest is None:
                    return None
                self._changed.wait(_LOOK_UP_EVERY)

    def _stopped(self) -> bool:
        return self._halted.is_set() or (self._stop is not None and self._stop.is_set())

    def _run(self) -> None:
        while (piece := self._take()) is not None:
            try:
                chunk = self._read(piece)
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - raised again in the reader's thread
                with self._changed:
                    self._failure = self._failure or error
                    del self._under_way[piece.first]
                    self._changed.notify_all()
                return
            with self._changed:
                del self._under_way[piece.first]
                self._ready[chunk.first] = chunk
                self._answered = True
                self._changed.notify_all()

    def _take(self) -> _Piece | None:
        with self._changed:
            while True:
                if self._stopped() or self._failure is not None:
                    return None
                # Until the first answer shows what is allowed, one question is enough to learn it.
                room = len(self._under_way) + len(self._ready) < self._in_flight + _WAITING
                if self._work and room and (self._answered or not self._under_way):
                    first, last = heapq.heappop(self._work)
                    end = min(last, first + self._control.width() - 1)
                    self._under_way[first] = end
                    self._give_back(end + 1, last)
                    return _Piece(first, end, end)
                if not self._work and not self._under_way:
                    return None
                self._changed.wait(_LOOK_UP_EVERY)

    def _give_back(self, first: int, last: int) -> None:
        if first <= last:
            heapq.heappush(self._work, (first, last))
            self._changed.notify_all()

    def _read(self, piece: _Piece) -> LogChunk:
        errand = Errand(stopped=self._stopped)
        while True:
            try:
                chunk = self._client.run(
                    lambda endpoint: self._ask(endpoint, piece, errand),
                    "eth_getLogs",
                    block=piece.last,
                    errand=errand,
                    sticky=False,
                )
                break
            except RangeError as error:
                if piece.end == piece.first:
                    chunk = self._client.run(
                        lambda endpoint: fetch.whole_block(endpoint, piece.first, self._filters, errand),
                        "eth_getLogs",
                        block=piece.first,
                        errand=errand,
                        sticky=False,
                    )
                    break
                with self._changed:
                    width = self._control.failed(piece.first, piece.end, error, piece.allowed)
                    self._shrink(piece, piece.first + width - 1)
        with self._changed:
            self._shrink(piece, chunk.last)
            self._control.succeeded(chunk.last - chunk.first + 1, len(chunk.logs), chunk.log_bytes)
        chunk.requests, chunk.bytes = errand.requests, errand.bytes
        return chunk

    def _shrink(self, piece: _Piece, end: int) -> None:
        self._give_back(end + 1, piece.last)
        piece.last = piece.end = end
        self._under_way[piece.first] = end

    def _ask(self, endpoint: Endpoint, piece: _Piece, errand: Errand) -> LogChunk:
        now = self._client.clock()
        with endpoint.lock:
            piece.allowed = endpoint.block_limit.allowed(now)
        piece.end = min(piece.last, piece.first + (piece.allowed or self._client.settings.max_blocks) - 1)
        blocks = piece.end - piece.first + 1
        if self._asked is None:
            self._asked = requests_for(self._filters, self._client.settings.addresses_per_request)
        try:
            chunk = fetch.chunk(endpoint, piece.first, piece.end, self._filters, self._asked, errand)
        except RangeError as error:
            if error.limit == "blocks" and blocks > 1:
                with endpoint.lock:
                    piece.allowed = endpoint.block_limit.failed(blocks, error.maximum, self._client.clock())
            raise
        with endpoint.lock:
            endpoint.block_limit.succeeded(blocks, self._client.clock())
        return chunk
