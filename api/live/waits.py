"""Requests that wait for a block to be indexed, so that a client can read its own transaction.

A waiting request holds no thread and makes no query by the clock: the hub's look wakes it when its chain may have come
to the block (:mod:`api.live.hub`), and only then it looks itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Final

from api.errors import ApiError
from api.live.connection import LiveConnection
from api.live.topic import wake
from api.state import State

#: Blocks that a wait may go beyond those that its seconds allow: what is known of the head is a little old.
MARGIN: Final = 100
#: Seconds between blocks where they are not known.
_FAST: Final = 0.1
#: A block is looked for often from this part of a block's time after the one before, until it is this late.
_EARLY: Final = 0.7
_LATE: Final = 3.0
_LATE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a request waits for.

    Attributes:
        chain_id: the chain.
        block: that is to be indexed.
        seconds: most to wait.
        block_seconds: time between the chain's blocks; None: not known.
        look: how far everything is; called in a thread.
    """

    chain_id: int
    block: int
    seconds: float
    block_seconds: float | None
    look: Callable[[], State]

    def require_reach(self, state: State) -> None:
        """Refuse a block that cannot be there before the wait is over.

        Raises:
            ApiError: BLOCK_NOT_INDEXED.
        """
        known = [block for block in (state.head, state.indexed) if block is not None]
        if not known:
            return
        ahead = self.block - max(known)
        pace = self.block_seconds or _FAST
        if ahead > ceil(self.seconds / pace) + MARGIN:
            raise ApiError(
                "BLOCK_NOT_INDEXED",
                f"min_block={self.block} is {ahead} blocks above the chain's head, which is at {max(known)}: "
                f"it cannot come within wait={self.seconds:g} seconds, and is not waited for",
                retry_after=min(3600, ceil(ahead * pace)),
            )


class Waits:
    """All waiting requests of this process; all in the loop's thread.

    Attributes:
        is_over: whether the server is about to end, so that no request may wait.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Awaited] = {}
        self._seen: dict[int, tuple[object, object]] = {}
        self._tips: dict[int, tuple[int | None, float]] = {}
        self.is_over = False

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def due_in(self, now: float) -> float | None:
        """Seconds until the next block of a chain is due that a request waits for; None: none is, or it is too late.

        Args:
            now: the loop's time.
        """
        due = [one for awaited in self._waiting.values() if (one := self._due(awaited, now)) is not None]
        return min(due) if due else None

    def _due(self, awaited: Awaited, now: float) -> float | None:
        tip, since = self._tips.get(awaited.chain_id, (None, now))
        pace = awaited.block_seconds or _FAST
        if (tip is not None and awaited.block > tip + 1) or now > since + _LATE * pace + _LATE_SECONDS:
            return None
        return max(0.0, since + _EARLY * pace - now)

    def compare(self, chains: Mapping[int, Mapping[str, Any]], at: float) -> None:
        """Wake the requests whose block may have come.

        Args:
            chains: by chain: what changes with its newest block (``latest``), how far it is indexed where that is the
                same for all events (``tip``), and what changes with its balances (``counted``).
            at: the loop's time.
        """
        for chain_id, chain in chains.items():
            tip = chain.get("tip")
            if self._tips.get(chain_id, (None, 0.0))[0] != tip:
                self._tips[chain_id] = (tip, at)
        for waiter, awaited in self._waiting.items():
            chain = chains.get(awaited.chain_id, {})
            now = (chain.get("latest"), chain.get("counted"))
            tip = chain.get("tip")
            if now != self._seen.get(awaited.chain_id) and (tip is None or tip >= awaited.block):
                wake(waiter)
        self._seen = {chain_id: (chain.get("latest"), chain.get("counted")) for chain_id, chain in chains.items()}

    def end(self) -> None:
        """Let every request go on as if its time were over."""
        self.is_over = True
        for waiter in self._waiting:
            wake(waiter)

    async def until(
        self,
        awaited: Awaited,
        look: Callable[[], Awaitable[State]],
        slot: AbstractContextManager[None],
        connection: LiveConnection,
    ) -> None:
        """Return when the block is indexed, when the time is over, or when the client has left.

        Args:
            awaited: what to wait for.
            look: how far everything is.
            slot: held while there is something to wait for.
            connection: of the client.

        Raises:
            ApiError: BLOCK_NOT_INDEXED if it cannot come in time, and what ``look`` and ``slot`` raise.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + awaited.seconds
        with ExitStack() as held:
            is_first = True
            while True:
                waiter: asyncio.Future[None] = loop.create_future()
                # Before the look: what changes after it wakes the request.
                self._waiting[waiter] = awaited
                timer = loop.call_at(end, wake, waiter)
                try:
                    state = await look()
                    if state.has_come_to(awaited.block):
                        return
                    if is_first:
                        awaited.require_reach(state)
                        held.enter_context(slot)
                        is_first = False
                    connection.when_lost = partial(wake, waiter)
                    if self.is_over or connection.is_lost or loop.time() >= end:
                        return
                    await waiter
                finally:
                    timer.cancel()
                    del self._waiting[waiter]
