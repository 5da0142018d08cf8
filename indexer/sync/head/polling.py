"""When to look at the head next: often enough to see a block at once, and not more often than that.

Every look is a request, and requests are what providers charge for. So the pace of a chain is learned: right after a
block there is nothing to see, and the looks come close together only when the next block is due. Pure: the caller
passes the time, in seconds of a clock that only grows.
"""

from itertools import pairwise
from statistics import median

# Without knowledge, and for a chain that has fallen silent.
ORDINARY = 0.5
CLOSEST = 0.1
# What an operator changes is to be noticed soon, also on a slow chain right after a block.
LONGEST = 2.0

_REMEMBERED = 16
_ENOUGH = 4
# Looks in the time of a block, when one is due.
_LOOKS = 10
# Of the shortest time between two blocks, the part in which no look is taken.
_QUIET = 0.8
_SILENT = 8
# More blocks at once than this were not made since the last look: we were behind.
_CAUGHT_UP = 32


class PollSchedule:
    """The pace of one chain, as its head was seen to move.

    One thread, which follows the chain, tells what it saw; any other asks, such as the one that decides what runs when.
    What was seen is a tuple that is replaced and never changed, so that none sees half of it.
    """

    def __init__(self) -> None:
        self._seen: tuple[tuple[float, int], ...] = ()

    def saw(self, number: int, now: float) -> None:
        """The head was this block; the same one again says nothing.

        Args:
            number: of the block.
            now: the time.
        """
        seen = self._seen
        if seen and number <= seen[-1][1]:
            return
        if seen and number > seen[-1][1] + _CAUGHT_UP:
            seen = ()
        self._seen = (*seen, (now, number))[-_REMEMBERED:]

    def wait(self, now: float) -> float:
        """Seconds until the next look."""
        seen = self._seen
        if len(seen) <= _ENOUGH:
            return ORDINARY
        times = [(later - sooner) / (last - first) for (sooner, first), (later, last) in pairwise(seen)]
        usual = median(times)
        since = now - seen[-1][0]
        if since > _SILENT * max(usual, 1.0):
            return ORDINARY
        step = min(max(usual / _LOOKS, CLOSEST), ORDINARY)
        return min(max(step, _QUIET * min(times) - since), LONGEST)
