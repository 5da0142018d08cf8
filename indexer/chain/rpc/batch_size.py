"""How many calls an endpoint takes in one batch. Pure: the caller tells the time."""

_TRY_LARGER_AFTER = 50
_TRY_LARGER_LATER = 3600.0


class BatchSize:
    """Shrinks where a batch is refused for its size; doubles again after many that worked, or after an hour.

    Attributes:
        largest: the most calls, as it was learned.

    Args:
        most: the operator's limit.
    """

    def __init__(self, most: int) -> None:
        self.largest = most
        self._most = most
        self._learned_at = 0.0
        self._worked = 0

    def at(self, now: float) -> int:
        """The most calls to put in one batch at a time in seconds."""
        if self.largest < self._most and now - self._learned_at > _TRY_LARGER_LATER:
            self._learn(self.largest * 2, now)
        return self.largest

    def worked(self, now: float) -> None:
        """A batch was answered."""
        self._worked += 1
        # One call in a batch says nothing of more: a node that takes no batch at all is asked again after an hour.
        if self._worked >= _TRY_LARGER_AFTER and 1 < self.largest < self._most:
            self._learn(self.largest * 2, now)

    def refused_above(self, size: int, now: float) -> None:
        """A batch was refused, and one of this size was not."""
        if size < self.largest:
            self._learn(size, now)

    def _learn(self, size: int, now: float) -> None:
        self.largest = max(1, min(size, self._most))
        self._learned_at = now
        self._worked = 0
