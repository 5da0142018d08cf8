"""The accounts of the endpoints that a process asks: what is sent to them is counted, by endpoint and day (UTC).

Without ``credits_per_day`` what was sent is counted afterwards, a few seconds of all endpoints in one statement. With
it, a process takes credits before it sends, some seconds' worth at once, so that all processes together never take more
than a day's credits. What it took and did not spend it gives back when it ends; one that is killed does not, and at
most one part in a hundred of what was left counts though it was not spent.
"""

import logging
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import sqlalchemy as sa

from indexer.store.credits.budget import AT_ONCE, Pace
from indexer.store.credits.days import SAVE_EVERY, AccountKey, CreditDays, day_of, is_missing

log = logging.getLogger(__name__)

ASK_AGAIN_AFTER: Final = 5.0
"""Seconds until Postgres is asked again after it could not be reached."""

_SOON = 0.05


@dataclass(slots=True)
class _Purse:
    """What was taken of a day and is not spent yet."""

    day: date | None = None
    balance: int = 0
    wanted: int = 1
    taken_at: float = float("-inf")
    ask_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class EndpointCredits:
    """One endpoint's account. Thread-safe.

    Args:
        days: where it is counted.
        key: which endpoint it is.
    """

    def __init__(self, days: CreditDays, key: AccountKey) -> None:
        self.key = key
        self._days = days
        self._guard = threading.Lock()
        self._counts: defaultdict[date, list[int]] = defaultdict(lambda: [0, 0])
        self._purses = (_Purse(), _Purse())
        self._owed = 0
        self._told: set[tuple[date, str]] = set()
        self._is_alone = False
        days.add(self)

    @property
    def most_at_once(self) -> int | None:
        """The most credits that are given at once; None: any number."""
        return None if self.key.budget is None else max(1, self.key.budget // AT_ONCE)

    def take(self, cost: int, *, history: bool) -> float:
        """Takes credits for what is sent next. Returns 0, or the seconds after which it may be asked again."""
        if not cost:
            return 0.0
        now = self._days.clock()
        if self.key.budget is None:
            self.count(day_of(now), 0 if history else cost, cost if history else 0)
            if history:
                self._days.save_due()
            return 0.0
        purse = self._purses[history]
        with purse.lock:
            if purse.day != (today := day_of(now)):
                self._empty(purse, history=history)
                purse.day, purse.ask_at = today, float("-inf")
                self._days.save()
            if purse.balance < cost and (wait := self._fill(purse, cost - purse.balance, now, history=history)):
                return wait
            purse.balance -= cost
            return 0.0

    def delay(self, *, history: bool) -> float:
        """Seconds for which nothing is to be had, as far as is known."""
        purse, now = self._purses[history], self._days.clock()
        if self.key.budget is None or purse.day != day_of(now) or (self._is_alone and not history):
            return 0.0
        return max(0.0, purse.ask_at - now)

    def close(self) -> None:
        """Gives back what was not spent, saves, and closes the connection; it may still be used."""
        self._days.close()

    def settle(self) -> None:
        """Counts what was taken and not spent as given back."""
        for history, purse in enumerate(self._purses):
            with purse.lock:
                self._empty(purse, history=bool(history))
        self.count(day_of(self._days.clock()), self._paid_late(history=False), 0)

    def count(self, day: date, head: int, history: int) -> None:
        """Counts what was sent, to be saved."""
        with self._guard:
            counts = self._counts[day]
            counts[0] += head
            counts[1] += history

    def uncounted(self) -> list[tuple[date, int, int]]:
        """What was counted since the last time, by day: for all but history, and for history."""
        with self._guard:
            counts, self._counts = self._counts, defaultdict(lambda: [0, 0])
        return [(day, head, history) for day, (head, history) in counts.items() if head or history]

    def _fill(self, purse: _Purse, lacking: int, now: float, *, history: bool) -> float:
        """Puts into a purse what it lacks, and more. Returns 0, or the seconds after which it may be tried again."""
        if now < purse.ask_at:
            return self._refuse(purse, lacking, purse.ask_at - now, history=history)
        assert purse.day is not None
        # As much as is spent in some seconds, as far as it may be.
        purse.wanted = purse.wanted * 2 if now - purse.taken_at < SAVE_EVERY else max(1, purse.wanted // 2)
        owed = self._paid_late(history=history)
        try:
            grant = self._days.take(self.key, purse.day, lacking, purse.wanted, owed, history=history)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            self._owe(owed)
            if is_missing(error):
                purse.balance += lacking  # nothing is counted there
                return 0.0
            purse.ask_at = now + ASK_AGAIN_AFTER
            self._tell_alone(error)
            return self._refuse(purse, lacking, ASK_AGAIN_AFTER, history=history)
        if self._is_alone:
            self._is_alone = False
            log.info("%s: its credits are counted in Postgres again", self.key.endpoint)
        if grant is None:
            self._owe(owed)
            return self._refuse(purse, lacking, _SOON, history=history, head_goes_on=True)
        self._tell(purse.day, grant.pace)
        if not grant.credits:
            purse.ask_at = now + grant.wait
            return grant.wait
        purse.balance += grant.credits
        purse.taken_at = now
        return 0.0

    def _refuse(self, purse: _Purse, lacking: int, wait: float, *, history: bool, head_goes_on: bool = False) -> float:
        """History waits. Where Postgres does not answer, all else goes on, and is counted later."""
        if history or not (self._is_alone or head_goes_on):
            return wait
        self._owe(lacking)
        purse.balance += lacking
        return 0.0

    def _owe(self, amount: int) -> None:
        with self._guard:
            self._owed += amount

    def _paid_late(self, *, history: bool) -> int:
        """What was spent before it could be counted, which the next credits for the head count."""
        if history:
            return 0
        with self._guard:
            owed, self._owed = self._owed, 0
        return owed

    def _empty(self, purse: _Purse, *, history: bool) -> None:
        """Counts what is left of a purse's day as given back."""
        balance, purse.balance = purse.balance, 0
        if purse.day is not None and balance:
            self.count(purse.day, 0 if history else -balance, -balance if history else 0)

    def _tell(self, day: date, pace: Pace) -> None:
        """Says what is new of the day, once."""
        if pace == "full" or (day, pace) in self._told:
            return
        self._told = {one for one in self._told if one[0] == day} | {(day, pace)}
        name, budget = self.key.endpoint, self.key.budget
        match pace:
            case "slowed":
                log.warning(
                    "%s: half of today's %d credits are spent: history goes on more slowly until 00:00 UTC, so that "
                    "the rest lasts",
                    *(name, budget),
                )
            case "stopped":
                log.warning(
                    "%s: what is left of today's %d credits is kept for the head: history waits there until there is "
                    "more, at the latest at 00:00 UTC",
                    *(name, budget),
                )
            case "spent":
                log.error(
                    "%s: today's %d credits (credits_per_day) are spent: it is asked nothing until 00:00 UTC",
                    *(name, budget),
                )

    def _tell_alone(self, error: Exception) -> None:
        if not self._is_alone:
            self._is_alone = True
            log.warning(
                "%s: Postgres does not tell what is left of its credits_per_day (%s): history waits, and what the head "
                "spends is counted later",
                *(self.key.endpoint, type(getattr(error, "orig", None) or error).__name__),
            )
