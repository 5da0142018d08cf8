"""Questions that the head waits for: where one request is not answered, the same is asked again, elsewhere if it can.

A request can be lost: accepted, and never answered. History waits for its time-out; the head must not. After about a
block's time the question goes out a second time (to another endpoint where there is one, else to the same), and later a
third; the first answer wins. A slow answer is still taken, so no endpoint is asked without end. The threads of requests
that no caller waits for any more end with their time-out, and are bounded.
"""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from indexer.chain.records.errors import BranchMovedError, ProviderError, RangeError
from indexer.chain.rpc.config import RequestContext

if TYPE_CHECKING:
    from indexer.chain.rpc.endpoint import Endpoint
    from indexer.chain.rpc.requester import Requester

T = TypeVar("T")

SOONEST, LATEST = 1.0, 5.0
"""Seconds after which a question is asked again: a block's time within these bounds."""

MOST_AT_ONCE = 3
"""The same question at once."""

MOST_LEFT = 8
"""Requests of one chain that no caller waits for any more, and that have not ended yet."""

_SLOWER_THAN_USUAL = 3.0
_SHORTEST_TIMEOUT = 5.0
_LOOK_EVERY = 0.05


@dataclass(slots=True)
class HeadTimeouts:
    """How long the head's questions to one chain are waited for. Each value is replaced as a whole.

    Attributes:
        block_time: seconds between two blocks as last seen, or None before.
        timeouts: questions in a row that none of their requests answered in time.
    """

    block_time: float | None = None
    timeouts: int = 0
    _seen: tuple[int, int] | None = None
    _left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def saw(self, number: int, timestamp: int) -> None:
        """The head was this block."""
        if self._seen is not None and number > self._seen[0]:
            self.block_time = max(0.0, (timestamp - self._seen[1]) / (number - self._seen[0]))
        if self._seen is None or number != self._seen[0]:
            self._seen = (number, timestamp)

    def hedge_after(self, latency: float | None) -> float:
        """Seconds after which to ask again.

        Args:
            latency: what a request to the endpoint in use usually takes, or None.
        """
        usual = self.block_time if self.block_time is not None else SOONEST
        return min(max(SOONEST, usual, _SLOWER_THAN_USUAL * (latency or 0.0)), LATEST)

    def timeout(self, hedge_after: float, longest: float) -> float:
        """Seconds without a byte after which a request is given up: more, after questions without an answer."""
        return float(min(max(_SHORTEST_TIMEOUT, 2.0 * hedge_after) * 2.0 ** min(self.timeouts, 8), longest))

    def leave(self, count: int) -> None:
        """Counts threads that no caller waits for any more, or that have ended (negative)."""
        with self._lock:
            self._left += count

    def may_hedge(self) -> bool:
        """Whether few enough threads are left behind."""
        with self._lock:
            return self._left < MOST_LEFT


@dataclass(eq=False, slots=True)
class _Leg(Generic[T]):
    """One asking of the question."""

    context: RequestContext
    done: bool = False
    left: bool = False
    error: BaseException | None = None
    answers: list[T] = field(default_factory=list)

    def hangs(self, hedge_after: float, now: float) -> bool:
        request = self.context.under_way
        return not self.done and request is not None and now - request.since >= hedge_after

    @property
    def is_final(self) -> bool:
        """Whether it says what no other asking would say otherwise."""
        if self.error is None:
            return self.done
        return (
            isinstance(self.error, BranchMovedError)
            or (isinstance(self.error, RangeError) and not self.error.timed_out)
            or not isinstance(self.error, ProviderError)
        )


def ask(
    requester: "Requester",
    head_timeouts: HeadTimeouts,
    question: "Callable[[Endpoint, RequestContext], T]",
    method: str,
    *,
    block: int | None = None,
    attempts: int | None = None,
) -> T:
    """Has a question answered soon.

    Args:
        requester: the chain.
        head_timeouts: how long the chain's questions are waited for.
        question: asks it of one endpoint, and checks the answer. It may run more than once at the same time.
        method: the method that it is about.
        block: the newest block that it needs, where there is one.
        attempts: fewer attempts than the settings'.

    Raises:
        ProviderError: as :meth:`Requester.run`.
    """
    turn = threading.Condition()
    legs: list[_Leg[T]] = []
    over = threading.Event()
    hedge_after = head_timeouts.hedge_after(requester.pool.latency)
    timeout = head_timeouts.timeout(hedge_after, requester.settings.read_timeout)
    begun = time.monotonic()

    def go(leg: _Leg[T], avoid: "Collection[Endpoint]") -> None:
        try:
            answer = requester.run(
                lambda endpoint: question(endpoint, leg.context),
                method,
                block=block,
                context=leg.context,
                attempts=attempts,
                avoid=avoid,
            )
            leg.answers.append(answer)
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            leg.error = error
        with turn:
            leg.done = True
            if leg.left:
                head_timeouts.leave(-1)
            turn.notify_all()

    def start(avoid: "Collection[Endpoint]") -> None:
        leg: _Leg[T] = _Leg(RequestContext(timeout=timeout, urgent=True, stopped=over.is_set))
        legs.append(leg)
        threading.Thread(target=go, args=(leg, avoid), name=f"head of {requester.name}", daemon=True).start()

    def give_up_waiting() -> "set[Endpoint]":
        """Frees the places of requests that hang, for the one that follows."""
        busy = set()
        for leg in legs:
            if (request := leg.context.under_way) is not None:
                request.supersede()
                busy.add(request.endpoint)
        return busy

    with turn:
        start(())
        while not any(leg.is_final for leg in legs) and not all(leg.done for leg in legs):
            now = time.monotonic()
            stuck = all(leg.done or leg.hangs(hedge_after * (len(legs) - place), now) for place, leg in enumerate(legs))
            if stuck and len(legs) < MOST_AT_ONCE and head_timeouts.may_hedge():
                start(give_up_waiting())
            turn.wait(_LOOK_EVERY)
        over.set()
        running = [leg for leg in legs if not leg.done]
        for leg in running:
            leg.left = True
        head_timeouts.leave(len(running))
        found = next((leg for leg in legs if leg.is_final), None) or next(leg for leg in legs if leg.done)
    if found.error is None:
        head_timeouts.timeouts = 0
        return found.answers[0]
    head_timeouts.timeouts += time.monotonic() - begun >= timeout
    raise found.error
