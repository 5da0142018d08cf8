"""How fast an endpoint may be asked, in how large batches, and which requests may be under way at once.

Two things are controlled. The *window*, the number of requests under way, grows while more bring more
(:mod:`indexer.chain.rpc.window`) and halves whenever the endpoint says "too many". *Pace*, in calls a second, is
unlimited until the endpoint first says so; then it starts at half of what was asked in the last seconds and grows by
one call a second for each second of asking, in batches or call by call. A hard ceiling of the pace is the operator's,
and holds for every second, not only on average. Where several processes keep it together, each reserves the moments at
which its calls start (:class:`~indexer.chain.rpc.config.CallPermits`), a few calls at once where many wait.

Some providers charge each call of a batch. A batch larger than their bucket would be refused for ever, so no batch
holds more than half of what may be asked in a second, and a refused batch makes the next ones smaller. A batch that is
refused for its size makes them smaller, too (:class:`BatchSize`).

Both are pure: the caller passes the time. :class:`Admission` is the line in which requests wait for them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from indexer.chain.rpc.config import CallPermits, RequestContext
from indexer.chain.rpc.window import Window

if TYPE_CHECKING:
    from indexer.chain.rpc.endpoint import Endpoint


_WINDOW = 5.0
# Slower than this only by order: refusals in a row back off by themselves.
_SLOWEST = 3.0
_LONGEST_WAIT = 300.0
_FORGET_PACE_AFTER = 600.0
# The second in which the ceiling holds, with what the way to the node may stretch or squeeze.
_SECOND = 1.05
# Batches that were answered before a larger one is tried.
_TRY_LARGER_AFTER = 50
# Two calls of which one proves the other stay together until so many requests in a row were refused.
_REFUSED_PAIRS = 5
# Seconds after which a batch is tried larger than it was learned to be.
_TRY_LARGER_LATER = 3600.0
# So many batches in a row that are answered up to the same place tell a limit that no words name.
_CUT_IN_A_ROW = 8
_UNANSWERED_IN_A_ROW = 4
# Seconds that the head waits for a place among the requests under way.
_URGENT_AFTER = 1.0
# Of the ceiling of several processes, the part that is reserved at once for requests that wait, and seconds from the
# start of a reservation in which it is used.
_RESERVED = 1 / 16
_RESERVATION_LASTS = 0.25


class RateControl:
    """The pace and the window of one endpoint. Not thread-safe: the endpoint locks.

    Args:
        ceiling: the operator's limit in calls a second, or None.
        most: the largest number of requests under way at once.
        is_shared: other processes keep the ceiling, too: calls start only as they were reserved.
    """

    def __init__(self, *, ceiling: float | None = None, most: int = 16, is_shared: bool = False) -> None:
        self.ceiling = ceiling
        self.is_shared = is_shared
        self.window = Window(most)
        self.pace: float | None = None
        self.under_way = 0
        # Requests begun, and how many had been when the window was full last.
        self.begun = self.full_at = 0
        self._blocked_until = 0.0
        self._next_at = 0.0
        # Calls that may start from a time on.
        self._reserved, self._reserved_at = 0, float("-inf")
        self._refusals = 0
        self._limited_at = float("-inf")
        # Seconds that the calls since the last answer take at this pace: what the next answer raises it by.
        self._spent = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._batch: int | None = None
        self._batches_since = 0
        # Window, pace and batch as they were before the refusals since the last answer.
        self._before: tuple[int, float | None, int | None] | None = None

    def delay(self, now: float, calls: int = 1) -> float:
        """Seconds until a request of so many calls may start, as far as pace and orders to wait go; 0: now."""
        paced = self._next_at - now if self._own_limit() is not None else 0.0
        reserved = self._reserved_at - now if self._reserved else 0.0
        return max(0.0, self._blocked_until - now, paced, reserved, self._until_room(now, calls))

    def must_reserve(self, now: float, calls: int) -> bool:
        """Whether so many calls may not start before they are reserved."""
        return self.is_shared and (self._reserved < calls or now > self._reserved_at + _RESERVATION_LASTS)

    def to_reserve(self, calls: int, waiting: int) -> int:
        """How many calls to reserve for a request of so many, where so many requests wait."""
        return max(calls, min(waiting, int((self.ceiling or 0.0) * _RESERVED)))

    def reserved(self, now: float, calls: int, wait: float) -> None:
        """So many calls may start after so many seconds."""
        self._reserved, self._reserved_at = calls, now + wait

    def largest_batch(self) -> int | None:
        """The most calls to send in one batch, as far as the speed goes; None for no limit."""
        limit = self._limit()
        # Two calls stay together where a second allows for both: one proves the other.
        paced = None if limit is None else max(1, min(2, int(limit)), int(limit / 2))
        return min((most for most in (paced, self._batch) if most is not None), default=None)

    def full(self) -> bool:
        """Whether as many requests are under way as may be."""
        return self.under_way >= self.window.size

    def started(self, now: float, calls: int = 1) -> None:
        """Counts a request of so many calls (some providers charge each item of a batch)."""
        self.under_way += 1
        self.begun += 1
        if self.full():
            self.full_at = self.begun
        self._recent.append((now, calls))
        while self._recent and self._recent[0][0] < now - _WINDOW:
            self._recent.popleft()
        if self.pace is not None:
            self._spent += calls / self.pace
        self._reserved = max(0, self._reserved - calls)
        if (limit := self._own_limit()) is not None:
            self._next_at = max(self._next_at, now) + calls / limit

    def finished(self) -> None:
        """A request came to its end, whichever."""
        self.under_way = max(0, self.under_way - 1)

    def answered(self, now: float, begun: int, calls: int, size: int) -> None:
        """A request was answered with a result.

        Args:
            now: the time.
            begun: how many requests had begun when it did, itself included.
            calls: its calls.
            size: the bytes of its answer.
        """
        self.window.answered(now, calls, size, full=self.full_at >= begun)

    def succeeded(self, now: float) -> None:
        """A question was answered: a little faster from now on."""
        self._refusals, self._before = 0, None
        if self.pace is not None:
            self.pace, self._spent = self.pace + self._spent, 0.0
        if self._batch is not None:
            self._batches_since += 1
            if self._batches_since >= _TRY_LARGER_AFTER:
                self._batch, self._batches_since = self._batch * 2, 0
        if now - self._limited_at > _FORGET_PACE_AFTER:
            self.pace = self._batch = None

    def limited(self, now: float, retry_after: float | None, jitter: float, calls: int = 1) -> bool:
        """The endpoint said that we ask too often: half as fast from now on, and in smaller batches.

        Args:
            now: the time.
            retry_after: the seconds it asked us to wait, if it did.
            jitter: a random number in [0, 1), so that several of us do not come back together.
            calls: the calls of the refused request.

        Returns:
            Whether this changed the speed: of several refusals within a second, which tell one story, only the first
            does.
        """
        if self._before is None:
            self._before = (self.window.size, self.pace, self._batch)
        self._refusals += 1
        wait = retry_after if retry_after is not None else min(0.25 * 2.0 ** min(self._refusals - 1, 8), 30.0)
        wait = min(wait, _LONGEST_WAIT) * (1.0 + 0.25 * jitter)
        self._blocked_until = max(self._blocked_until, now + wait)
        if calls > 2:
            self._batch, self._batches_since = max(2, min(self._batch or calls, calls) // 2), 0
        elif calls == 2 and self._refusals >= _REFUSED_PAIRS:
            self._batch, self._batches_since = 1, 0
        if now - self._limited_at < 1.0:
            return False
        self._limited_at, self._spent = now, 0.0
        self.window.refused()
        asked = sum(calls for at, calls in self._recent if at >= now - _WINDOW) / _WINDOW
        self.pace = max(_SLOWEST, (self.pace if self.pace is not None else max(asked, 2 * _SLOWEST)) / 2.0)
        return True

    def forgiven(self, now: float) -> None:
        """The refusals since the last answer were not about haste: as fast as before them."""
        if self._before is not None:
            size, self.pace, self._batch = self._before
            self.window.restore(size)
            self._blocked_until = min(self._blocked_until, now)
            self._refusals, self._before, self._spent = 0, None, 0.0

    def _until_room(self, now: float, calls: int) -> float:
        """Seconds until so many calls no longer exceed the operator's ceiling within one second."""
        if self.ceiling is None or self.ceiling < 1.0 or self.is_shared:
            return 0.0
        room = self.ceiling - calls
        for at, asked in reversed(self._recent):
            if at <= now - _SECOND:
                break
            room -= asked
            if room < 0:
                return at + _SECOND - now
        return 0.0

    def _own_limit(self) -> float | None:
        """What this process keeps by itself."""
        return self.pace if self.is_shared else self._limit()

    def _limit(self) -> float | None:
        limits = [limit for limit in (self.ceiling, self.pace) if limit is not None]
        return min(limits) if limits else None


class BatchSize:
    """Shrinks where a batch is refused for its size; doubles again after many that worked, or after an hour.

    Attributes:
        largest: the most calls, as it was learned.

    Args:
        most: the operator's limit.
    """

    def __init__(self, most: int) -> None:
        self.largest = most
        self._most = most
        self._learned_at = 0.0
        self._worked = 0
        self._cut = (0, 0)
        self._unanswered = 0

    def at(self, now: float) -> int:
        """The most calls to put in one batch at a time in seconds."""
        if self.largest < self._most and now - self._learned_at > _TRY_LARGER_LATER:
            self._learn(self.largest * 2, now)
        return self.largest

    def worked(self, calls: int, now: float) -> None:
        """A batch of so many calls was answered."""
        self._worked += 1
        self._unanswered = 0
        if calls > self._cut[0]:
            self._cut = (0, 0)
        # One call in a batch says nothing of more: a node that takes no batch at all is asked again after an hour.
        if self._worked >= _TRY_LARGER_AFTER and 1 < self.largest < self._most:
            self._learn(self.largest * 2, now)

    def cut_at(self, size: int, now: float) -> None:
        """Of a batch only the first so many calls were answered, without a word about the others; 0: some of them."""
        self._unanswered = 0
        self._cut = (size, self._cut[1] + 1 if self._cut[0] == size else 1)
        if size and self._cut[1] >= _CUT_IN_A_ROW:
            self.refused_above(size, now)

    def unanswered(self) -> bool:
        """To a batch no call was answered, without a word. Returns whether that is a rule by now."""
        self._unanswered += 1
        return self._unanswered >= _UNANSWERED_IN_A_ROW

    def refused_above(self, size: int, now: float) -> None:
        """A batch was refused, and one of this size was not."""
        if size < self.largest:
            self._learn(size, now)

    def _learn(self, size: int, now: float) -> None:
        self.largest = max(1, min(size, self._most))
        self._learned_at = now
        self._worked = 0


class UnderWay:
    """A request that is being answered. It holds one of the places of the endpoint's window."""

    def __init__(self, admission: "Admission", endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.since = time.monotonic()
        self._admission = admission
        self._superseded = False

    def supersede(self) -> None:
        """Another request asks the same: this one gives its place away, and is counted as hanging."""
        with self._admission.lock:
            if not self._superseded:
                self._superseded = True
                self._admission.hanging += 1
                self._admission.rate.finished()
                self._admission.lock.notify_all()

    def ended(self) -> None:
        """It was answered, or given up."""
        with self._admission.lock:
            if self._superseded:
                self._admission.hanging -= 1
            else:
                self._admission.rate.finished()
                self._admission.lock.notify_all()


class Admission:
    """The line before an endpoint. Thread-safe.

    Attributes:
        hanging: requests that were not answered in time, and have not ended yet.

    Args:
        rate: the endpoint's pace and window.
        lock: guards ``rate``; notified when a place becomes free.
        clock: a monotonic clock, seconds.
        sleep: sleeps for seconds.
        permits: where calls are reserved if ``rate`` is shared.
    """

    def __init__(
        self,
        rate: RateControl,
        lock: threading.Condition,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        permits: CallPermits | None = None,
    ) -> None:
        self.rate = rate
        self.lock = lock
        self.hanging = 0
        self._clock = clock
        self._sleep = sleep
        self._permits = permits
        self._line: deque[object] = deque()
        self._urgent = 0

    @property
    def waiting(self) -> int:
        """Requests that stand in line."""
        return len(self._line)

    def begin(self, endpoint: "Endpoint") -> UnderWay:
        """The request for which :meth:`wait` has got a place at the endpoint."""
        return UnderWay(self, endpoint)

    def wait(self, calls: int, context: RequestContext) -> int:
        """Waits for the endpoint's pace, in the order of arrival: where all raced, one could wait for ever.

        What is urgent stands in front of all that is not.

        Returns:
            How many requests have begun at the endpoint with this one.
        """
        place = object()
        since = time.monotonic()
        with self.lock:
            if context.urgent:
                self._line.insert(self._urgent, place)
                self._urgent += 1
            else:
                self._line.append(place)
        try:
            while True:
                context.check()
                with self.lock:
                    now = self._clock()
                    delay = self.rate.delay(now, calls)
                    # Requests that are never answered may hold all places: the head does not wait for them.
                    hurried = context.urgent and delay <= 0 and time.monotonic() - since > _URGENT_AFTER
                    if not hurried and (self._line[0] is not place or (delay <= 0 and self.rate.full())):
                        self.lock.wait(0.1)
                        continue
                    must_reserve = delay <= 0 and self.rate.must_reserve(now, calls)
                    wanted = self.rate.to_reserve(calls, len(self._line))
                    if delay <= 0 and not must_reserve:
                        self.rate.started(now, calls)
                        return self.rate.begun
                if must_reserve and self._permits is not None:
                    wait = self._permits.take(wanted)
                    with self.lock:
                        self.rate.reserved(self._clock(), wanted, wait)
                    continue
                context.pause(delay, self._sleep)
        finally:
            with self.lock:
                self._line.remove(place)
                self._urgent -= context.urgent
                self.lock.notify_all()
