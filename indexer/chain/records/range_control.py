"""How many blocks the next ``eth_getLogs`` should span. Pure: no I/O, and the caller passes the time.

Two kinds of limit are kept apart. A *block* limit ("at most 2,000 blocks") belongs to the endpoint and is remembered
there (:class:`BlockLimit`). A limit of *results* ("more than 10,000 logs") says something about one part of the chain
only: the range is made smaller there, and :class:`RangeController` goes on aiming at a number of logs and bytes a
response, by the density of what it has read.
"""

import math
from dataclasses import dataclass

from indexer.chain.records.errors import Limit, RangeError

_PROBE_AFTER = 3600.0
# A limit that no text names is searched by bisection until it is known this well.
_PRECISION = 0.06
_GROW = 3.0
# Of a limit that the provider names, the part to aim at: densities vary.
_SAFE = 0.75
_RELAX = 1.01
# Of a target that proved too high, the part to go on with where no limit is named.
_LOWER = 0.75
# A limit that no text names is forgotten after so many answers: it may have been a bad hour of the node.
_FORGET_AFTER = 60
# Seconds for a response beyond which ranges are made narrower.
_SLOW = 10.0


class BlockLimit:
    """How many blocks one ``eth_getLogs`` may span at one endpoint, as far as its answers have shown.

    Attributes:
        known: the limit in blocks (both ends counted), or None while none has shown.
    """

    def __init__(self) -> None:
        self.known: int | None = None
        self._good = 0
        self._bad: int | None = None
        self._learned_at = 0.0
        self._named = False

    @property
    def granted(self) -> int:
        """The widest range that was answered, as far as nothing has contradicted it since; 0 before the first."""
        return self._good

    def allowed(self, now: float) -> int | None:
        """The most blocks to ask for now, or None for no limit.

        Once an hour one range twice as wide is tried: limits go with plans, and plans change.
        """
        if self.known is not None and now - self._learned_at > _PROBE_AFTER:
            self._learned_at = now
            self._bad = None
            return self.known * 2
        return self.known

    def succeeded(self, blocks: int, now: float) -> None:
        """A range of so many blocks was answered."""
        self._good = max(self._good, blocks)
        if self.known is None or blocks < self.known:
            return
        if blocks > self.known:
            self.known, self._learned_at = blocks, now
        if self._bad is not None and not self._named:
            self.known = self._between()

    def failed(self, blocks: int, maximum: int | None, now: float) -> int:
        """A range of so many blocks was refused as too many blocks.

        Args:
            blocks: the blocks that were asked for.
            maximum: the limit that the refusal named, or None.
            now: the time.

        Returns:
            The most blocks to ask for from now on, smaller than what was asked (but at least 1).
        """
        self._learned_at = now
        if self._good >= blocks:
            # It was allowed before: the limit has become smaller.
            self._good = 0
        self._bad = blocks if self._bad is None else min(self._bad, blocks)
        if maximum is not None and 0 < maximum < blocks:
            self.known, self._named = maximum, True
        elif maximum is not None and maximum == blocks and blocks > 1:
            # "At most n blocks" that meant to - from < n.
            self.known, self._named = blocks - 1, True
        else:
            self.known, self._named = self._between(), False
        return self.known

    def _between(self) -> int:
        bad = self._bad or 2
        good = min(self._good, bad - 1)
        if bad - good <= max(1, int(bad * _PRECISION)):
            return max(1, good)
        return max(1, (good + bad) // 2)


class _Load:
    """How much of one thing (logs, bytes) a block brought lately, and how much of it one response should hold."""

    def __init__(self, target: float) -> None:
        self.target = target
        self._wanted = target
        self.most = 0
        self._density = 0.0

    def seen(self, blocks: int, amount: int) -> None:
        """A range of so many blocks brought so much."""
        self.most = max(self.most, amount)
        self._density = amount / blocks

    def limited(self, maximum: int | None) -> None:
        """A response was refused for holding too much of it: aim lower.

        Args:
            maximum: the most that a response may hold, or None where that is not known.
        """
        if maximum is not None:
            self.target = max(1.0, min(self.target, maximum * _SAFE))
        else:
            self.target = max(1.0, self.target * _LOWER, min(self.target, self.most * _SAFE))

    def too_much(self, amount: float) -> None:
        """A range that was refused has been read in parts: so much was too much, and ``most`` was not."""
        if amount > self.most:
            self.target = max(1.0, min(self.target, (self.most + amount) / 2 * _SAFE))

    def relaxed(self) -> None:
        """A response was accepted: aim a little higher again, up to what is wanted."""
        self.target = min(self._wanted, self.target * _RELAX)

    def of(self, blocks: int) -> float:
        """What so many blocks may bring."""
        return blocks * self._density

    def width(self) -> float:
        """The blocks that should bring the target."""
        return self.target / self._density if self._density else math.inf


@dataclass(slots=True)
class _Refused:
    """A range that was refused, until all of it has been read in smaller parts.

    Attributes:
        first: its first block.
        last: its last block.
        unread: its blocks that are still unread.
        found: the logs found in it so far.
        bytes: their bytes.
        limit: what was too much, as the refusal said.
        more_than: the logs that it holds at least, where the refusal was for its logs; None where it gave no reason.
    """

    first: int
    last: int
    unread: int
    limit: Limit
    found: float = 0.0
    bytes: float = 0.0
    more_than: float | None = None


class RangeController:
    """The width of the ranges of one scan. Not thread-safe: the scan locks.

    Args:
        start_blocks: the first width.
        max_blocks: the widest range ever.
        target_logs: the logs that a response should hold.
        target_bytes: the bytes that a response should hold.
    """

    def __init__(self, *, start_blocks: int, max_blocks: int, target_logs: int, target_bytes: int) -> None:
        self._max_blocks = max(1, max_blocks)
        self._logs = _Load(float(target_logs))
        self._bytes = _Load(float(target_bytes))
        self._logs_named = self._bytes_named = False
        self._cap = self._latest = float(max(1, start_blocks))
        self._refused: list[_Refused] = []
        self._suggested: set[tuple[int, int]] = set()
        self._unnamed = BlockLimit()
        self._since_unnamed = 0
        self._widest = 0

    def width(self, first: int, allowed: int | None = None) -> int:
        """The blocks to ask for next from a block on, at least 1.

        Args:
            first: that block.
            allowed: the endpoint's block limit.
        """
        width = min(self._logs.width(), self._bytes.width(), self._cap, float(self._max_blocks))
        if self._unnamed.known is not None:
            width = min(width, float(self._unnamed.known))
        for refused in self._refused:
            if refused.more_than is not None and refused.first <= first <= refused.last:
                crowd = refused.more_than - refused.found
                if crowd > self._logs.target:
                    width = min(width, (refused.last - first + 1) * self._logs.target / crowd)
        self._latest = max(1.0, width)
        return max(1, min(int(width), allowed if allowed is not None else self._max_blocks))

    def expected_bytes(self, blocks: int) -> float:
        """The bytes that an answer about so many blocks may hold, by what was read last; 0 before the first."""
        return self._bytes.of(blocks)

    def succeeded(self, first: int, last: int, logs: int, size: int, seconds: float = 0.0) -> None:
        """A range was answered.

        Args:
            first: its first block.
            last: its last block.
            logs: the logs in the answer.
            size: the answer's bytes.
            seconds: the time that it took.
        """
        blocks = last - first + 1
        self._logs.seen(blocks, logs)
        self._bytes.seen(blocks, size)
        if not self._logs_named:
            self._logs.relaxed()
        if not self._bytes_named:
            self._bytes.relaxed()
        if (first, last) in self._suggested and logs > self._logs.target / 2:
            # The provider fits its suggestions to its limit.
            self._logs.limited(logs)
        self._suggested.discard((first, last))
        self._unnamed.succeeded(blocks, 0.0)
        self._since_unnamed += 1
        self._widest = max(self._widest, blocks)
        if self._since_unnamed >= _FORGET_AFTER:
            self._unnamed, self._since_unnamed, self._widest = BlockLimit(), 0, 0
        for refused in self._refused:
            overlap = min(last, refused.last) - max(first, refused.first) + 1
            if overlap > 0:
                refused.unread -= overlap
                refused.found += logs * overlap / blocks
                refused.bytes += size * overlap / blocks
                if refused.unread <= 0:
                    self._explain(refused)
        self._refused = [refused for refused in self._refused if refused.unread > 0]
        # A range may be narrow only because its gap was: that is no reason to ask for less next time.
        self._cap = max(float(blocks), self._latest) * _GROW
        if seconds > _SLOW:
            self._cap = max(1.0, blocks * _SLOW / seconds)

    def failed(self, first: int, last: int, error: RangeError, allowed: int | None = None) -> int:
        """A range was refused.

        Args:
            first: its first block.
            last: its last block.
            error: the refusal.
            allowed: the endpoint's block limit, after it has learned from this refusal.

        Returns:
            The blocks to ask for now from ``first`` on: smaller than before, at least 1.
        """
        blocks = last - first + 1
        width = max(1, blocks // 2)
        if error.limit == "blocks" and allowed is not None:
            width = max(1, min(allowed, blocks - 1))
        elif error.limit == "history" and error.suggested is not None:
            # Not the width was wrong, but where it began.
            return max(1, min(error.suggested[1], last - 1) - first + 1)
        elif (suggested := _suggested(first, last, error)) is not None:
            width = suggested
            self._suggested.add((first, first + width - 1))
        elif error.limit == "results":
            self._logs_named = self._logs_named or error.maximum is not None
            self._logs.limited(error.maximum)
            least = float(error.maximum) if error.maximum is not None else self._logs.target
            self._refused.append(_Refused(first, last, blocks, error.limit, more_than=least))
        elif error.limit == "bytes":
            self._bytes_named = self._bytes_named or error.maximum is not None
            self._bytes.limited(error.maximum)
            self._refused.append(_Refused(first, last, blocks, error.limit))
        elif not error.timed_out and blocks > self._widest:
            # Nothing says whether it was the width or the contents; a width that was never granted comes first.
            width = min(self._unnamed.failed(blocks, None, 0.0), max(1, blocks - 1))
            self._since_unnamed = 0
        self._latest = float(width)
        if error.limit != "blocks":
            self._cap = float(width)
        return width

    def _explain(self, refused: _Refused) -> None:
        """A range that was refused has been read: now it shows how much was too much."""
        if refused.limit == "results" and not self._logs_named:
            self._logs.too_much(refused.found)
        if refused.limit == "bytes" and not self._bytes_named:
            self._bytes.too_much(refused.bytes)


def _suggested(first: int, last: int, error: RangeError) -> int | None:
    """The width of a suggested range, where it helps: from the same block on, and smaller than the one that failed."""
    if error.suggested is None:
        return None
    begin, end = error.suggested
    if begin != first or not first <= end < last:
        return None
    return end - begin + 1
