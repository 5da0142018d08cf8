"""Whether an endpoint filters logs by a block's hash (EIP-234): pure, the time is passed in.

Some nodes refuse such a filter, some ignore it and answer with the newest block's logs. One such answer may also come
from a node that is ill, and blocks asked for by number prove less: so it takes several, and is tried again later.
"""

from dataclasses import dataclass

CERTAIN_AFTER = 2
"""Refusals in a row that name the question, or answers about another block."""

LIKELY_AFTER = 5
"""Errors in a row with the same words, while other questions are answered."""

AGAIN_AFTER = 3600.0
"""Seconds until it is tried again."""


@dataclass(slots=True)
class HashFilter:
    """What an endpoint's answers have shown. Not thread-safe: the endpoint locks."""

    _failures: int = 0
    _wording: str = ""
    _until: float = 0.0

    def is_missing(self, now: float) -> bool:
        """Whether blocks are asked for by number."""
        return now < self._until

    def answered(self) -> None:
        """A question by hash was answered well."""
        self._failures, self._until = 0, 0.0

    def failed(self, wording: str, certain: bool, now: float) -> bool:
        """A question by hash failed.

        Args:
            wording: the error's words, without their numbers.
            certain: whether they are about the question, not about the node.
            now: seconds that only grow.

        Returns:
            Whether the endpoint is taken for one that cannot do it.
        """
        if wording != self._wording:
            self._failures, self._wording = 0, wording
        self._failures += 1
        if self._failures < (CERTAIN_AFTER if certain else LIKELY_AFTER):
            return False
        # One more failure later is enough.
        self._failures, self._until = LIKELY_AFTER - 1, now + AGAIN_AFTER
        return True
