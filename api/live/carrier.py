"""One client's stream: from its topic onto its connection."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

from api.cursors import Position
from api.errors import ApiError
from api.live import sse
from api.live.changes import Changes
from api.live.hub import Stream
from api.live.topic import RenderedChanges, Topic

#: Seconds after which a silent stream says that it is alive.
HEARTBEAT: Final = 15.0
#: Seconds to wait after Postgres did not answer.
PAUSE: Final = 1.0
#: After these reading goes on later; after any other the stream ends, and the client learns why when it asks again.
_PASSING: Final = frozenset(("DATABASE_UNAVAILABLE", "OVERLOADED"))

Send = Callable[[bytes], Awaitable[None]]


class Carrier:
    """Tells one client what happens.

    Args:
        stream: of the client.
        topic: its topic, which others may share.
        send: writes to the connection; returns when there is room for more.
        executor: reads.
        heartbeat: seconds.
    """

    def __init__(
        self, stream: Stream, topic: Topic, send: Send, executor: Executor, *, heartbeat: float = HEARTBEAT
    ) -> None:
        asked = stream.request.position
        self.rows = 0
        # Taken away from the stream, which lives as long as the connection: rows need not.
        self._first, stream.first = stream.first, None
        self._topic = topic
        self._send = send
        self._executor = executor
        self._heartbeat = heartbeat
        self._position: Position | None = asked
        # The newest block of which the client may have rows: a reorganisation above it is none to the client.
        self._newest = -1 if asked is None else asked.block
        self._noted: Position | None = None
        self._last: Changes | None = None

    async def run(self, retry: int) -> None:
        """Carry, until cancelled or until what is asked for is not there any more.

        Args:
            retry: milliseconds after which the client should come back when the connection breaks.
        """
        await self._send(sse.retry(retry))
        if self._first is not None:
            # Others may have been told something since this was read, and nobody will be stirred for that again.
            first, self._first = self._first, None
            await self._tell(first)
            del first
        while True:
            signal, stirred = self._topic.signal, self._topic.stirred
            try:
                more = await self._tell(await self._topic.read(self._position, self._executor))
            except ApiError as error:
                if error.code not in _PASSING:
                    return
                await self._send(sse.heartbeat(None))
                await asyncio.sleep(PAUSE)
                continue
            while not more and self._topic.signal == signal:
                try:
                    async with asyncio.timeout(self._heartbeat):
                        await stirred.wait()
                except TimeoutError:
                    await self._send(self._alive())

    async def _tell(self, told: RenderedChanges) -> bool:
        """Send what is new; returns whether there may be more right now."""
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
        if self._last is not None and not changes.more and self._turned(self._last, changes):
            pieces.append(self._status(changes, changes.position))
        if self._last is None or not changes.more:
            self._last = replace(changes, rows=())
        if pieces:
            await self._send(b"".join(pieces))
        return changes.more

    def _status(self, changes: Changes, position: Position | None) -> bytes:
        self._noted = position
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
