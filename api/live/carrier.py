"""One client's stream: what goes from its topic to the client, and when."""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

from api.errors import ApiError
from api.live import sse
from api.live.changes import Changes, StreamPosition
from api.live.hub import Stream
from api.live.topic import RenderedChanges, Topic, wake

log = logging.getLogger(__name__)

#: Seconds after which a silent stream says that it is alive.
HEARTBEAT: Final = 15.0
#: Seconds between two events that say no more than how far the stream is.
STATUS_EVERY: Final = 1.0
#: The same for a client that may be gone.
PROBE: Final = 1.0
#: Seconds to wait after Postgres did not answer.
PAUSE: Final = 1.0
#: Seconds after which a stream that needed a key or token ends, so that the client shows it again.
MOST_PRIVATE: Final = 3600.0
#: After these reading goes on later; after any other the stream ends, and the client learns why when it asks again.
_PASSING: Final = frozenset(("DATABASE_UNAVAILABLE", "OVERLOADED"))


class Carrier:
    """Tells one client what happens.

    Args:
        stream: of the client.
        topic: its topic, which others may share.
        executor: reads.
        heartbeat: seconds.
    """

    def __init__(self, stream: Stream, topic: Topic, executor: Executor, *, heartbeat: float = HEARTBEAT) -> None:
        asked = stream.request.position
        self.rows = 0
        self.path = stream.request.path
        # Taken away from the stream, which lives as long as the connection: rows need not.
        self._first, stream.first = stream.first, None
        self._topic = topic
        self._executor = executor
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._end = self._began + MOST_PRIVATE if stream.request.private else float("inf")
        self._over = False
        self._waiter: asyncio.Future[None] | None = None
        self._position: StreamPosition | None = asked
        # The newest block of which the client may have rows: a reorganisation above it is none to the client.
        self._newest = -1 if asked is None else asked.block
        self._noted: StreamPosition | None = None
        self._last: Changes | None = None
        # What was said last of how far the stream is, and when.
        self._through: int | None = None
        self._told = float("-inf")

    def end(self) -> None:
        """End the stream: the client is gone, or the server is about to be. In the loop's thread."""
        self._over = True
        if self._waiter is not None:
            wake(self._waiter)

    def probe(self) -> None:
        """Find out soon whether the client, which has ended its own side, still listens: by sending to it."""
        self._heartbeat = min(self._heartbeat, PROBE)
        if self._waiter is not None:
            wake(self._waiter)

    async def pieces(self, retry: int) -> AsyncIterator[sse.Piece]:
        """What goes over the wire, until :meth:`end` or until what is asked for is not there any more.

        Args:
            retry: milliseconds after which the client should come back when the connection breaks.
        """
        yield sse.Piece(sse.retry(retry))
        if self._first is not None:
            # Others may have been told something since this was read, and nobody will be stirred for that again.
            first, self._first = self._first, None
            if piece := self._tell(first):
                yield sse.Piece(piece)
            del first, piece
        while not self._is_over():
            signal = self._topic.signal
            try:
                found = await self._topic.read(self._position, self._executor)
            except ApiError as error:
                if error.code not in _PASSING:
                    return
                yield sse.Piece(sse.heartbeat(None))
                await self._pause(PAUSE)
                continue
            if piece := self._tell(found):
                yield sse.Piece(piece)
            more = found.changes.more
            del found, piece  # rows are not kept while nothing happens
            while not more and self._topic.signal == signal and not self._is_over():
                before, due = self._loop.time(), self._until_status()
                await self._pause(self._heartbeat if due is None else min(due, self._heartbeat))
                if self._until_status() == 0.0:
                    assert self._last is not None
                    yield sse.Piece(self._status(self._last, self._position))
                elif self._loop.time() - before >= self._heartbeat:
                    yield sse.Piece(self._alive())

    def _is_over(self) -> bool:
        return self._over or self._loop.time() >= self._end

    async def _pause(self, seconds: float) -> None:
        """Wait until the topic is stirred, the stream is ended, or the time is over."""
        if self._over:
            return
        waiter = self._waiter = self._loop.create_future()
        self._topic.waiting.add(waiter)
        timer = self._loop.call_later(min(seconds, self._end - self._loop.time()), wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._topic.waiting.discard(waiter)
            self._waiter = None

    def report(self) -> None:
        """Log that the stream has ended."""
        seconds = self._loop.time() - self._began
        log.info("stream of %s ended after %.1f s", self.path, seconds, extra={"rows": self.rows})

    def _until_status(self) -> float | None:
        """Seconds until the client is to hear how far the stream is; None: it has heard."""
        if self._last is None or self._last.through is None or self._last.through == self._through:
            return None
        return max(0.0, self._told + STATUS_EVERY - self._loop.time())

    def _tell(self, told: RenderedChanges) -> bytes:
        """What is new, as it goes over the wire; empty: nothing is."""
        changes, pieces = told.changes, []
        if self._last is None:
            # Its id is where the client stood, not where it will stand: the connection may break between.
            pieces.append(self._status(changes, self._position or changes.position))
        if changes.common_block is not None and changes.common_block < self._newest:
            pieces.append(sse.revert(changes.common_block, changes.position))
            self._newest, self._noted = changes.common_block, changes.position
        if changes.rows:
            pieces.append(told.rows)
            self._newest, self._noted = changes.rows[-1].position.block, changes.rows[-1].position
            self.rows += len(changes.rows)
        self._position = changes.position
        turned = self._last is not None and not changes.more and self._turned(self._last, changes)
        if self._last is None or not changes.more:
            self._last = replace(changes, rows=())
        if turned or (not changes.more and self._until_status() == 0.0):
            pieces.append(self._status(changes, changes.position))
        return b"".join(pieces)

    def _status(self, changes: Changes, position: StreamPosition | None) -> bytes:
        self._noted, self._through, self._told = position, changes.through, self._loop.time()
        return sse.status(changes, position, self._topic.scope.chain_id)

    @staticmethod
    def _turned(before: Changes, now: Changes) -> bool:
        """Whether the client should hear about the state: waiting began or ended, or what is final was rewritten."""
        return (before.waiting_for is None) != (now.waiting_for is None) or (
            before.state.versions[1] != now.state.versions[1]
        )

    def _alive(self) -> bytes:
        if self._last is not None and self._last.waiting_for is not None:
            return self._status(self._last, self._position)
        noted, self._noted = self._noted, self._position
        return sse.heartbeat(None if noted == self._position else self._position)
