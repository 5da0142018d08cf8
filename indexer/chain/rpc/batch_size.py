"""How many calls an endpoint takes in one batch. Pure: the caller tells the time."""

_TRY_LARGER_AFTER = 50
_TRY_LARGER_LATER = 3600.0
# So many batches in a row that are answered up to the same place tell a limit that no words name.
_CUT_IN_A_ROW = 8
_UNANSWERED_IN_A_ROW = 4


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
        self._cut = (0, 0)
        self._unanswered = 0

    def at(self, now: float) -> int:
        """The most calls to put in one batch at a time in seconds."""
        if self.largest < self._most and now - self._learned_at > _TRY_LARGER_LATER:
            self._learn(self.largest * 2, now)
        return self.largest

    def worked(self, calls: int, now: float) -> None:
        """A batch of so many calls was answered."""
        self._worked += 1
        self._unanswered = 0
        if calls > self._cut[0]:
            self._cut = (0, 0)
        # One call in a batch says nothing of more: a node that takes no batch at all is asked again after an hour.
        if self._worked >= _TRY_LARGER_AFTER and 1 < self.largest < self._most:
            self._learn(self.largest * 2, now)

    def cut_at(self, size: int, now: float) -> None:
        """Of a batch only the first so many calls were answered, without a word about the others; 0: some of them."""
        self._unanswered = 0
        self._cut = (size, self._cut[1] + 1 if self._cut[0] == size else 1)
        if size and self._cut[1] >= _CUT_IN_A_ROW:
            self.refused_above(size, now)

    def unanswered(self) -> bool:
        """To a batch no call was answered, without a word. Returns whether that is a rule by now."""
        self._unanswered += 1
        return self._unanswered >= _UNANSWERED_IN_A_ROW

    def refused_above(self, size: int, now: float) -> None:
        """A batch was refused, and one of this size was not."""
        if size < self.largest:
            self._learn(size, now)

    def _learn(self, size: int, now: float) -> None:
        self.largest = max(1, min(size, self._most))
        self._learned_at = now
        self._worked = 0
