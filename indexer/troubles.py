"""Which trouble is told, and when: a state that comes back at every beat is told once, not at every beat.

Troubles are told apart by their kind and their host, never by their text: counts and block numbers make each text new.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

TELL_AGAIN_AFTER = 60.0
"""Seconds without a trouble after which it is told as a new one, and after which what came and went works again."""

Telling = Literal["new", "comes and goes"]


def kind_of(error: BaseException) -> str:
    """What two troubles of one kind have in common: the class of the error, and the host that it speaks of."""
    return f"{type(error).__name__} {getattr(error, 'host', '')}".strip()


@dataclass(slots=True)
class Troubles:
    """When each kind of trouble was last met, by all that meet the same ones. Thread-safe.

    Attributes:
        clock: a monotonic clock, seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _met: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def met(self, kind: str) -> bool:
        """Takes note of a trouble. Returns whether it was met within the last minute, too."""
        now = self.clock()
        with self._lock:
            before = self._met.get(kind)
            self._met[kind] = now
            for old in [other for other, at in self._met.items() if now - at > TELL_AGAIN_AFTER]:
                del self._met[old]
        return before is not None and now - before <= TELL_AGAIN_AFTER


@dataclass(slots=True)
class Trouble:
    """The trouble of one piece of work that is done again and again.

    Attributes:
        troubles: what others have met: one host's fault is told once, not once by each of them.
    """

    troubles: Troubles = field(default_factory=Troubles)
    _now: str = ""
    _told: bool = False
    _restless: bool = False
    _good_since: float = 0.0
    _told_at: float = float("-inf")

    def failed(self, kind: str) -> Telling | None:
        """The work failed.

        Args:
            kind: :func:`kind_of` the error.

        Returns:
            How to tell it: as new, or, a minute later at the earliest, as a trouble that comes and goes; None: it has
            been told.
        """
        again, now = self.troubles.met(kind), self.troubles.clock()
        if kind == self._now:
            return None
        self._now = kind
        if not again:
            self._told, self._told_at = True, now
            return "new"
        if self._restless or self._good_since == 0.0 or now - self._told_at < TELL_AGAIN_AFTER:
            return None
        self._told = self._restless = True
        return "comes and goes"

    def worked(self) -> bool:
        """The work was done. Returns whether to tell that it works again."""
        now = self.troubles.clock()
        if self._now:
            self._now, self._good_since = "", now
        if not self._told or (self._restless and now - self._good_since < TELL_AGAIN_AFTER):
            return False
        self._told = self._restless = False
        return True
