"""What a follower decides by what it saw: pure, the time and the hashes are passed in.

* When to look at the head next (:class:`PollSchedule`): often enough to see a block at once, and not more often than
  that. Every look is a request, and requests are what providers charge for. So the pace of a chain is learned: right
  after a block there is nothing to see, and the looks come close together only when the next block is due.
* Where two branches part (:func:`last_common`).
* How long a head that went backwards is taken for a node that is behind (:class:`ShorterChain`). A chain that only
  became shorter, and has not grown since, looks like a replica that lags: both end in a block that was indexed long
  ago. A replica catches up, so its head moves; a chain that lost its newest blocks keeps its head until a new block
  comes. So it is believed when every endpoint says so, again and again, for longer than replicas stand still.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

HashesOf = Callable[[int, int], Mapping[int, bytes]]
"""The hashes of the blocks of a range (both ends included), by number; a block that is not known is left out."""

_FIRST_STEP = 8

STANDS_FOR = 120.0
"""Seconds for which the shorter head must not have moved."""

DEV_STANDS_FOR = 2.0
"""The same of a development chain."""

AGREED = 3
"""So many looks in a row, in the second half of that time, all endpoints must have named this very block."""


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


def last_common(ours: HashesOf, theirs: HashesOf, floor: int, top: int) -> int | None:
    """The highest block at or below ``top`` on which two branches agree.

    Asks downwards in steps that double, since most reorganisations are a block or two deep.

    Args:
        ours: stored hashes.
        theirs: the node's.
        floor: nothing below this block is looked at.
        top: the highest block that both may have.

    Returns:
        The block's number, or None if the branches differ even at ``floor``.
    """
    step = _FIRST_STEP
    while top >= floor:
        bottom = max(floor, top - step + 1)
        known, heard = ours(bottom, top), theirs(bottom, top)
        for number in range(top, bottom - 1, -1):
            if number in known and known[number] == heard.get(number):
                return number
        top, step = bottom - 1, step * 2
    return None


@dataclass(slots=True)
class ShorterChain:
    """With one head that is behind what was indexed.

    Attributes:
        stands_for: seconds for which the shorter head must not have moved.
    """

    stands_for: float = STANDS_FOR
    _hash: bytes | None = None
    _since: float = 0.0
    _agreed: int = 0

    def lose(self) -> None:
        """The head is not behind (any more)."""
        self._hash = None

    def half_over(self, what: bytes, now: float) -> bool:
        """Notes a look at a head that is behind.

        Args:
            what: the hash of the head, or what else must stay the same.
            now: seconds that only grow.

        Returns:
            Whether it has stood for so long that all endpoints should be asked.
        """
        if what != self._hash:
            self._hash, self._since, self._agreed = what, now, 0
        return now - self._since >= self.stands_for / 2

    def over(self, agreed: bool, now: float) -> bool:
        """Notes what all endpoints said of the head that was looked at.

        Args:
            agreed: whether each of them named this very block.
            now: seconds that only grow.

        Returns:
            Whether the chain has become shorter.
        """
        if not agreed:
            self._hash = None
            return False
        self._agreed += 1
        return self._agreed >= AGREED and now - self._since >= self.stands_for
