"""How much of a day's credits may be taken now. Pure: the caller passes the time, in seconds since 1970.

The head may take all that is left. History leaves it what it has been using, as much of it as is left of the day. While
more than half of a day's credits is there, history takes what it wants; from then on, what is left for it is spread
over what is left of the day, and nothing is given while that is less than its next request costs.
"""

from dataclasses import dataclass
from typing import Final, Literal

DAY: Final = 86_400.0

Pace = Literal["full", "slowed", "stopped", "spent"]
"""How history gets on, as far as credits go; ``spent``: the head, too, has none."""

FULL_ABOVE: Final = 1 / 2
"""While more than this part of a day's credits is there, history is not slowed."""

AT_ONCE: Final = 100
"""Of what is left, at most one part of so many is given at once, unless one request costs more."""

LEAST_RESERVE: Final = 1 / 10
"""What is kept for the head where nothing tells what it needs: so much of the day's credits, for a whole day."""

_MARGIN = 1.1
# Seconds of the day after which its own use tells what the head needs; and the least that a rate is measured over.
_TELLING = 3_600.0
_SHORTEST = 600.0
# Seconds for which a process that is slowed takes credits, and after which one that is stopped looks again.
_GIVEN_FOR = 5.0
_LOOK_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class CreditDay:
    """What is known of one endpoint's day.

    Attributes:
        start: when it began.
        since: when it was counted first.
        head: credits that were taken for all but history.
        history: credits that were taken for history.
        history_from: when history may take more.
        before: what the head took a second on the day before; None: that is not known.
    """

    start: float
    since: float
    head: int = 0
    history: int = 0
    history_from: float = 0.0
    before: float | None = None

    @property
    def used(self) -> int:
        """All that was taken."""
        return self.head + self.history

    def left_of_it(self, now: float) -> float:
        """Seconds until it is over."""
        return max(0.0, self.start + DAY - now)


@dataclass(frozen=True, slots=True)
class Grant:
    """What is given.

    Attributes:
        credits: 0: nothing.
        wait: where nothing is: seconds until it may be asked again.
        pace: how history gets on.
        history_from: when history may take more.
    """

    credits: int
    wait: float
    pace: Pace
    history_from: float


def for_head(day: CreditDay, budget: int, cost: int, wanted: int, now: float, pace: Pace = "full") -> Grant:
    """What is given to all but history.

    Args:
        day: today.
        budget: the day's credits.
        cost: what the next request costs.
        wanted: what would do for a while.
        now: the time.
        pace: how history gets on, which this does not change while there is enough.
    """
    left = budget - day.used
    if left < cost:
        return Grant(0, min(day.left_of_it(now), _LOOK_AGAIN), "spent", day.history_from)
    return Grant(max(cost, min(wanted, left // AT_ONCE)), 0.0, pace, day.history_from)


def for_history(day: CreditDay, budget: int, cost: int, wanted: int, now: float) -> Grant:
    """What is given to history; arguments as of :func:`for_head`."""
    left = budget - day.used
    remaining = max(day.left_of_it(now), 1.0)
    ours = left - head_needs(day, budget, now)
    if ours < cost:
        return Grant(0, min(remaining, _LOOK_AGAIN), "stopped", day.history_from)
    at_once = left // AT_ONCE
    if left > budget * FULL_ABOVE:
        return Grant(max(cost, min(wanted, at_once)), 0.0, "full", now)
    if now < day.history_from <= now + DAY:
        return Grant(0, day.history_from - now, "slowed", day.history_from)
    rate = ours / remaining
    given = max(cost, min(wanted, at_once, int(rate * _GIVEN_FOR)))
    return Grant(given, 0.0, "slowed", now + given / rate)


def head_needs(day: CreditDay, budget: int, now: float) -> float:
    """What the head will take until the day is over, by what it has been using."""
    seen = now - day.since
    rate = day.head / max(seen, _SHORTEST)
    if seen < _TELLING:
        rate = max(rate, budget * LEAST_RESERVE / DAY if day.before is None else day.before)
    return rate * day.left_of_it(now) * _MARGIN
