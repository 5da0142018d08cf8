"""How many blocks the next ``eth_getLogs`` should span. Pure: no I/O, and the caller passes the time.

Two kinds of limit are kept apart. A *block* limit ("at most 2,000 blocks") belongs to the endpoint and is remembered
there (:class:`BlockLimit`). A limit of *results* ("more than 10,000 logs") says something about one part of the chain
only: the range is made smaller there, and :class:`RangeController` goes on aiming at a number of logs and bytes a
response, by the density of what it has read.
"""

import math

from indexer.chain.errors import RangeError

_PROBE_AFTER = 3600.0
# A limit that no text names is searched by bisection until it is known this well.
_PRECISION = 0.06
_GROW = 4.0
# Of a limit that the provider names, the part to aim at: densities vary.
_SAFE = 0.85
_LEAST_TARGET = 100


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


class RangeController:
    """The width of the ranges of one scan. Not thread-safe: the scan locks.

    Args:
        start_blocks: the first width.
        max_blocks: the widest range ever.
        target_logs: the logs that a response should hold.
        target_bytes: the bytes that a response should hold.
    """

    def __init__(self, *, start_blocks: int, max_blocks: int, target_logs: int, target_bytes: int) -> None:
        self._width = float(max(1, start_blocks))
        self._max_blocks = max(1, max_blocks)
        self._wanted_logs = float(target_logs)
        self._wanted_bytes = float(target_bytes)
        self.target_logs = float(target_logs)
        self.target_bytes = float(target_bytes)
        self._named_logs: float | None = None
        self._most_logs = 0
        self._most_bytes = 0

    def width(self, allowed: int | None = None) -> int:
        """The blocks to ask for next, at least 1.

        Args:
            allowed: the endpoint's block limit.
        """
        width = min(int(self._width), self._max_blocks, allowed if allowed is not None else self._max_blocks)
        return max(1, width)

    def succeeded(self, blocks: int, logs: int, size: int) -> None:
        """A range was answered.

        Args:
            blocks: its width.
            logs: the logs in the answer.
            size: the answer's bytes.
        """
        self._most_logs = max(self._most_logs, logs)
        self._most_bytes = max(self._most_bytes, size)
        if self._named_logs is None:
            self.target_logs = min(self._wanted_logs, self.target_logs * 1.05)
        self.target_bytes = min(self._wanted_bytes, self.target_bytes * 1.05)
        by_logs = self.target_logs * blocks / logs if logs else math.inf
        by_bytes = self.target_bytes * blocks / size if size else math.inf
        self._width = max(1.0, min(by_logs, by_bytes, max(self._width, float(blocks)) * _GROW, float(self._max_blocks)))

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
        half = max(1, blocks // 2)
        suggested = _suggested(first, last, error)
        if error.limit == "blocks" and allowed is not None:
            return max(1, min(allowed, blocks - 1))
        if error.limit == "results":
            if error.maximum is not None:
                self._named_logs = float(error.maximum)
                self.target_logs = max(1.0, min(self.target_logs, error.maximum * _SAFE))
            elif suggested is None:
                self.target_logs = max(
                    _LEAST_TARGET, min(self.target_logs, self._most_logs or math.inf), self.target_logs * 0.7
                )
        elif error.limit == "bytes":
            if error.maximum is not None:
                self.target_bytes = max(1.0, min(self.target_bytes, error.maximum * _SAFE))
            else:
                self.target_bytes = max(self.target_bytes * 0.7, float(self._most_bytes))
        width = suggested if suggested is not None else half
        self._width = float(max(1, min(self._width, width)))
        return width


def _suggested(first: int, last: int, error: RangeError) -> int | None:
    """The width of a suggested range, where it helps: from the same block on, and smaller than the one that failed."""
    if error.suggested is None:
        return None
    begin, end = error.suggested
    if begin != first or not first <= end < last:
        return None
    return end - begin + 1
