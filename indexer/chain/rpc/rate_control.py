"""How fast an endpoint may be asked: additive increase, multiplicative decrease. Pure: the caller passes the time.

Two things are controlled. *Concurrency*, the number of requests under way, starts at one, doubles each round trip until
the endpoint first says "too many", halves whenever it says so, and grows by one a round trip after that. *Pace*, in
calls a second, is unlimited until the endpoint first says so; then it starts at half of what was asked in the last
seconds and grows by one call a second for each second of asking, in batches or call by call. A hard ceiling of the pace
is the operator's, and holds for every second, not only on average.

Some providers charge each call of a batch. A batch larger than their bucket would be refused for ever, so no batch
holds more than half of what may be asked in a second, and a refused batch makes the next ones smaller.
"""

from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_WINDOW = 5.0
# Slower than this only by order: refusals in a row back off by themselves.
_SLOWEST = 3.0
_LONGEST_WAIT = 300.0
_FORGET_PACE_AFTER = 600.0
# The second in which the ceiling holds, with what the way to the node may stretch or squeeze.
_SECOND = 1.05
_TRY_LARGER_AFTER = 50
# Two calls of which one proves the other stay together until so many requests in a row were refused.
_REFUSED_PAIRS = 5


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3: seconds or an HTTP date).

    Args:
        value: the header's value.
        now: the time to count a date from; best the answer's own ``Date``.

    Returns:
        The seconds, at least 0, or None where the value is missing or senseless.
    """
    if value is None:
        return None
    value = value.strip()
    try:
        return min(max(0.0, float(value)), 86_400.0)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, (when - (now or datetime.now(UTC))).total_seconds()), 86_400.0)


class RateControl:
    """The pace and the concurrency of one endpoint. Not thread-safe: the endpoint locks.

    Args:
        ceiling: the operator's limit in calls a second, or None.
        most: the largest number of requests under way at once.
    """

    def __init__(self, *, ceiling: float | None = None, most: int = 16) -> None:
        self.ceiling = ceiling
        self.concurrency = 1.0
        self.pace: float | None = None
        self.under_way = 0
        self._most = most
        self._blocked_until = 0.0
        self._next_at = 0.0
        self._refusals = 0
        self._limited_at = float("-inf")
        # Seconds that the calls since the last answer take at this pace: what the next answer raises it by.
        self._spent = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._batch: int | None = None
        self._batches_since = 0
        # Concurrency, pace and batch as they were before the refusals since the last answer.
        self._before: tuple[float, float | None, int | None] | None = None

    def delay(self, now: float, calls: int = 1) -> float:
        """Seconds until a request of so many calls may start, as far as pace and orders to wait go; 0: now."""
        paced = self._next_at - now if self._limit() is not None else 0.0
        return max(0.0, self._blocked_until - now, paced, self._until_room(now, calls))

    def largest_batch(self) -> int | None:
        """The most calls to send in one batch, as far as the speed goes; None for no limit."""
        limit = self._limit()
        # Two calls stay together where a second allows for both: one proves the other.
        paced = None if limit is None else max(1, min(2, int(limit)), int(limit / 2))
        return min((most for most in (paced, self._batch) if most is not None), default=None)

    def full(self) -> bool:
        """Whether as many requests are under way as may be."""
        return self.under_way >= int(self.concurrency)

    def started(self, now: float, calls: int = 1) -> None:
        """Counts a request of so many calls (some providers charge each item of a batch)."""
        self.under_way += 1
        self._recent.append((now, calls))
        while self._recent and self._recent[0][0] < now - _WINDOW:
            self._recent.popleft()
        if self.pace is not None:
            self._spent += calls / self.pace
        if (limit := self._limit()) is not None:
            self._next_at = max(self._next_at, now) + calls / limit

    def finished(self) -> None:
        """A request came to its end, whichever."""
        self.under_way = max(0, self.under_way - 1)

    def succeeded(self, now: float) -> None:
        """A request was answered: a little faster from now on."""
        self._refusals, self._before = 0, None
        never_refused = self._limited_at == float("-inf")
        self.concurrency = min(float(self._most), self.concurrency + (1.0 if never_refused else 1.0 / self.concurrency))
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
            self._before = (self.concurrency, self.pace, self._batch)
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
        self.concurrency = max(1.0, self.concurrency / 2.0)
        asked = sum(calls for at, calls in self._recent if at >= now - _WINDOW) / _WINDOW
        self.pace = max(_SLOWEST, (self.pace if self.pace is not None else max(asked, 2 * _SLOWEST)) / 2.0)
        return True

    def forgiven(self, now: float) -> None:
        """The refusals since the last answer were not about haste: as fast as before them."""
        if self._before is not None:
            self.concurrency, self.pace, self._batch = self._before
            self._blocked_until = min(self._blocked_until, now)
            self._refusals, self._before, self._spent = 0, None, 0.0

    def _until_room(self, now: float, calls: int) -> float:
        """Seconds until so many calls no longer exceed the operator's ceiling within one second."""
        if self.ceiling is None or self.ceiling < 1.0:
            return 0.0
        room = self.ceiling - calls
        for at, asked in reversed(self._recent):
            if at <= now - _SECOND:
                break
            room -= asked
            if room < 0:
                return at + _SECOND - now
        return 0.0

    def _limit(self) -> float | None:
        limits = [limit for limit in (self.ceiling, self.pace) if limit is not None]
        return min(limits) if limits else None
