"""How many requests to one endpoint pay: a congestion window, measured by what comes back a second.

A way to a node carries so many requests at once; beyond that, more of them under way only wait for each other. Nothing
tells that number beforehand, and it changes. So it is tried: a *round* is as many answers as the window is wide, and
what the rounds bring a second is compared.

* At first the window doubles each round, from four, while twice as many bring clearly more.
* Then a window a quarter wider or narrower is tried now and then. The wider one stays where it brings more, the
  narrower one where it brings no less: where latency grows without gain, the window shrinks.
* A refusal for haste halves it.

Rounds in which the callers left places empty say nothing, and change nothing. Pure: the caller passes the time.
"""

from typing import Final

# Twice as many requests under way must bring so many times as much.
_DOUBLING_PAYS: Final = 1.25
# So many doublings in a row that did not pay end them.
_IN_VAIN: Final = 2
# A trial's window is so many times as wide, or as narrow.
_STEP: Final = 1.25
# The wider window must bring so many times as much, the narrower one at least so much. Between the two lies chance
# alone: on a busy machine a window that gave way more easily than it grew would end at its least.
_WIDER_PAYS: Final = 1.05
_NARROWER_DOES: Final = 0.99
# So few are not worth a trial: only a refusal makes the window narrower.
_LEAST: Final = 4
# Rounds between two trials.
_REST: Final = 3
# A round has at least so many answers, once doubling has ended: fewer say little.
_FEWEST: Final = 4
# The work of a call, in bytes, beside those of its answer.
_CALL: Final = 1_000


class Window:
    """The requests that may be under way at once. Not thread-safe: the endpoint locks.

    Attributes:
        size: their number.

    Args:
        most: the largest number.
    """

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self.size = min(_LEAST, self._most)
        self._doubling = True
        # The best round of doubling: what it brought a second, how wide the window was; rounds since that did not pay.
        self._best, self._best_size, self._in_vain = 0.0, self.size, 0
        # Of the trial under way: the size and the rate before it.
        self._tried_from: tuple[int, float] | None = None
        self._goes_wider = True
        self._rested = 0
        # Whether the answers that come were asked for by a window of another size, in part.
        self._settling = False
        self._began: float | None = None
        self._answers = self._full = self._work = 0

    def answered(self, now: float, calls: int, size: int, *, full: bool) -> None:
        """A request was answered.

        Args:
            now: the time.
            calls: its calls.
            size: the bytes of its answer.
            full: whether the window was full while it was under way.
        """
        self._answers += 1
        self._full += full
        self._work += size + _CALL * calls
        # Whole windows: answers may come in bursts of one.
        if self._answers < self.size * (1 if self._doubling else -(-_FEWEST // self.size)):
            return
        rate = None if self._began is None or now <= self._began else self._work / (now - self._began)
        was_full = 2 * self._full > self._answers
        self._began, self._answers, self._full, self._work = now, 0, 0, 0
        if self._settling or not was_full:
            # A trial in which the callers left places empty is over: its size was not needed.
            if not was_full and self._tried_from is not None:
                self._resize(self._tried_from[0])
            self._settling = False
        elif self._doubling:
            self._double(rate)
        elif rate is not None:
            self._compare(rate)

    def refused(self) -> None:
        """The endpoint said "too many": half as many from now on."""
        self._doubling = False
        self._resize(self.size // 2)

    def restore(self, size: int) -> None:
        """Go back to a size: the refusals since were about something else."""
        self._resize(size)

    def _double(self, rate: float | None) -> None:
        # Without a rate (the first answer) there is nothing to compare with.
        if rate is not None and self._best and rate < self._best * _DOUBLING_PAYS:
            self._in_vain += 1
            if self._in_vain >= _IN_VAIN:
                self._doubling = False
                self._resize(self._best_size)
                return
        else:
            self._best, self._best_size, self._in_vain = rate or 0.0, self.size, 0
        self.size = min(self._most, 2 * self.size)
        self._doubling = self.size < self._most

    def _compare(self, rate: float) -> None:
        if self._tried_from is not None:
            size, before = self._tried_from
            pays = _WIDER_PAYS if self._goes_wider else _NARROWER_DOES
            if rate >= before * pays:
                self._tried_from = None
            else:
                self._resize(size)
                self._goes_wider = not self._goes_wider
            self._rested = 0
            return
        self._rested += 1
        if self._rested < _REST:
            return
        step = max(1, round(self.size * (_STEP - 1.0)))
        wider, narrower = min(self._most, self.size + step), max(_LEAST, self.size - step)
        tried = wider if self._goes_wider else min(self.size, narrower)
        if tried == self.size:
            self._goes_wider, self._rested = not self._goes_wider, 0
            return
        tried_from = self.size, rate
        self._resize(tried)
        self._tried_from = tried_from

    def _resize(self, size: int) -> None:
        self.size = min(self._most, max(1, size))
        self._tried_from = None
        self._settling = True
