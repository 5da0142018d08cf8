"""How long a head that went backwards is taken for a node that is behind: pure, the time is passed in.

A chain that only became shorter, and has not grown since, looks like a replica that lags: both end in a block that was
indexed long ago. A replica catches up, so its head moves; a chain that lost its newest blocks keeps its head until a
new block comes. So it is believed when every endpoint says so, again and again, for longer than replicas stand still.
"""

from dataclasses import dataclass

STANDS_FOR = 120.0
"""Seconds for which the shorter head must not have moved."""

DEV_STANDS_FOR = 2.0
"""The same of a development chain."""

AGREED = 3
"""So many looks in a row, in the second half of that time, all endpoints must have named this very block."""


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
