"""What an endpoint has shown that lets a question about its newest block be left out. Pure; the time is passed in.

A block whose header is known costs one question for its logs, or none where its bloom says that it has none. Each of
these rests on something that the endpoint must have shown before:

* *The block's hash alone names its logs*: an endpoint that answers ``[]`` for a block that it does not know would lose
  the logs of one that it has not reached yet. So it is asked once for a hash that no block has, and must refuse.
* *A bloom says that there are none*: only that of a header that hashes to its own hash
  (:mod:`indexer.chain.records.header_hash`), and only where the chain's blooms mean something. Some chains write zeros
  into every header, or the bloom of another block. So all logs of one block are held against its bloom, bit for bit,
  now and then.
* *What a bloom holds and no log shows is not there*: as a rule it is asked for once more. Where many such questions
  found nothing, most of those are left out in which the bloom is so full that it may well err
  (:func:`indexer.chain.records.completeness.is_likely_chance`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from indexer.chain.records.completeness import Refused
from indexer.chain.records.log_filter import bloom_of
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import RawLog

_BLOOMS_HOLD_FOR = 3600.0
"""Seconds until the logs of a block are held against its bloom again."""

_FRUITLESS = 32
"""So many second questions in a row must have found nothing before most are left out."""

_ONE_IN = 16
"""Of those one in so many is asked still."""


@dataclass(slots=True)
class SparedQuestions:
    """What one endpoint has shown. Not thread-safe: the endpoint locks.

    Attributes:
        refuses_unknown: whether it refuses a question for the logs of a block that it does not know; None: not asked.
        hash_check: when that may be asked, where the answer did not tell.
        bloom_check: when all logs of a block may be asked for.
    """

    refuses_unknown: bool | None = None
    hash_check: Refused = field(default_factory=Refused)
    bloom_check: Refused = field(default_factory=Refused)
    _blooms_until: float = 0.0
    _fruitless: int = 0
    _left_out: int = 0

    def blooms_hold(self, now: float) -> bool:
        """Whether a bloom of this endpoint's chain says that a block has no such logs."""
        return now < self._blooms_until

    def compared(self, header: Header, logs: Sequence[RawLog], now: float) -> bool:
        """Notes all logs of a block. Returns whether they are exactly what its bloom holds."""
        exact = bool(logs) and bloom_of(logs) == int.from_bytes(header.logs_bloom, "big")
        if exact:
            self.bloom_check.answered()
            self._blooms_until = now + _BLOOMS_HOLD_FOR
        else:
            self.contradicted(now)
        return exact

    def contradicted(self, now: float) -> None:
        """A bloom did not fit its block's logs, or they were not given: it is compared again later."""
        self._blooms_until = 0.0
        self.bloom_check.refused(now)

    def asks_again(self) -> bool:
        """Whether what a bloom holds and no log shows is asked for once more this time, however full the bloom is."""
        if self._fruitless < _FRUITLESS:
            return True
        self._left_out += 1
        return self._left_out % _ONE_IN == 0

    def asked_again(self, found: int) -> None:
        """So many logs were found by second questions."""
        self._fruitless = 0 if found else self._fruitless + 1
