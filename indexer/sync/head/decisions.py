"""What a follower decides by what it saw: pure, the time and the hashes are passed in.

* When to look at the head next (:class:`PollSchedule`): often enough to see a block at once, and not more often than
  that. Every look is a request, and requests are what providers charge for. So the pace of a chain is learned: right
  after a block there is nothing to see, and the looks come close together only when the next block is due.
* Where two branches part (:func:`last_common`), and which headers grow from a tip (:func:`linked`).
* How long a head that went backwards is taken for a node that is behind (:class:`ShorterChain`). A chain that only
  became shorter, and has not grown since, looks like a replica that lags: both end in a block that was indexed long
  ago. A replica catches up, so its head moves; a chain that lost its newest blocks keeps its head until a new block
  comes. So it is believed when every endpoint says so, again and again, for longer than replicas stand still.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from indexer.chain.records.messages import Header

# Without knowledge, and for a chain that has fallen silent.
ORDINARY = 0.5
CLOSEST = 0.1
# What an operator changes is to be noticed soon, also on a slow chain right after a block. No node is asked for that.
LONGEST = 2.0

_REMEMBERED = 16
_ENOUGH = 4
# Looks in the time of a block, when one is due.
_LOOKS = 10
# Of the shortest time between two blocks, the part in which no look is taken.
_QUIET = 0.8
_QUIET_EVEN = 0.95
_SILENT = 8
# More blocks at once than this were not made since the last look: we were behind.
_CAUGHT_UP = 32

# Blocks come at even distances where the last few differ by less than this part of the usual one.
_EVEN = 4
_UNEVEN = 0.3
_EVEN_FROM = 0.4
# Seconds by which a look that found a block at once makes the next one earlier; and until one that was too early is
# taken again. Both double while that goes on.
_EARLIER = 0.01
_AGAIN = 0.04
# Of the usual time between two blocks, and seconds besides, after which one that was to be pushed is looked for.
_LATE = 1.25
_LATE_SECONDS = 1.0

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

    A chain whose blocks come at even distances is looked at when the next one is due: a little earlier each time that
    the first look found it, and again in short steps where it was too early. So about five looks find four blocks.

    One thread, which follows the chain, tells what it saw; any other asks, such as the one that decides what runs when.
    What was seen is a tuple that is replaced and never changed, so that none sees half of it.
    """

    def __init__(self) -> None:
        self._seen: tuple[tuple[float, int], ...] = ()
        self._fruitless = self._at_once = 0

    def saw(self, number: int, now: float) -> None:
        """The head was this block; the same one again says that the look came too early.

        Args:
            number: of the block.
            now: the time.
        """
        seen = self._seen
        if seen and number <= seen[-1][1]:
            self._fruitless += 1
            return
        if seen and number > seen[-1][1] + _CAUGHT_UP:
            seen = ()
        self._seen, self._at_once = (*seen, (now, number))[-_REMEMBERED:], 0 if self._fruitless else self._at_once + 1
        self._fruitless = 0

    def wait(self, now: float) -> float:
        """Seconds from a look to the next, as things are known after it."""
        seen = self._seen
        if len(seen) <= _ENOUGH:
            return ORDINARY
        times = [(later - sooner) / (last - first) for (sooner, first), (later, last) in pairwise(seen)]
        usual = median(times)
        since = now - seen[-1][0]
        if since > _SILENT * max(usual, 1.0):
            return ORDINARY
        step = min(max(usual / _LOOKS, CLOSEST), ORDINARY)
        even = max(times[-_EVEN:]) - min(times[-_EVEN:]) <= _UNEVEN * usual
        if not even or not _EVEN_FROM <= usual <= LONGEST:
            return max(step, (_QUIET_EVEN if even else _QUIET) * min(times) - since)
        usual = (seen[-1][0] - seen[0][0]) / (seen[-1][1] - seen[0][1])
        earlier = min(_EARLIER * 2.0 ** min(self._at_once - 1, 8), usual / 5) if self._at_once else 0.0
        again = min(step, _AGAIN * 2.0 ** min(max(0, self._fruitless - 1), 8))
        return max(usual - earlier - since, again)

    def is_late(self, now: float) -> bool:
        """Whether the next block should have come by now; before the pace is known, always."""
        seen = self._seen
        if len(seen) <= _ENOUGH:
            return True
        usual = (seen[-1][0] - seen[0][0]) / (seen[-1][1] - seen[0][1])
        return now - seen[-1][0] > _LATE * usual + _LATE_SECONDS


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


def linked(headers: Sequence[Header], number: int, block_hash: bytes) -> list[Header]:
    """Those of some headers, ascending, that grow from a block, each the child of the one before.

    Args:
        headers: some of them may be of other branches, or at or below the block.
        number: the block.
        block_hash: its hash.
    """
    found: list[Header] = []
    for header in headers:
        if (header.number, header.parent_hash) == (number + 1, block_hash):
            found.append(header)
            number, block_hash = header.number, header.hash
    return found


class Tick(enum.Enum):
    """What a look at the head led to."""

    NOTHING_NEW = "nothing new"
    EXTENDED = "extended"
    REORGANISED = "reorganised"
    LAGGING = "lagging"
    """The node is behind what it, or another, said before; it will catch up."""
    MOVED = "moved"
    """The node changed its mind while it was asked, or the tables changed; the next look will tell."""
    STANDING_BY = "standing by"
    """Another process follows this chain."""


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

    def is_said_by_all(self, what: bytes, now: float, by_all: Callable[[], bool]) -> bool:
        """Whether the chain has become shorter: all endpoints have said so for long.

        Args:
            what: as of :meth:`half_over`.
            now: seconds that only grow.
            by_all: asks all endpoints whether each of them says so.
        """
        return self.half_over(what, now) and self.over(by_all(), now)

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
