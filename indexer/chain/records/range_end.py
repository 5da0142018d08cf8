"""A log that shows, where an answer holds it, that the machine that answered has the range: pure.

Where header and logs come in different answers, another machine may have answered the logs than answered the header of
the range's end. A machine that lacks the end answers short and says nothing of it. An answer that holds a log of the
last block, or of a block above it, cannot come from such a machine. So where no wanted log is there, the filter is
widened by one other log, the *marker*; the surplus is filtered out here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from indexer.addresses import AddressList
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import hex_bytes
from indexer.chain.records.validation import RawLog, matcher

_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class Marker:
    """The logs of one block, of which an answer is to hold one.

    Attributes:
        number: the block.
        block_hash: its hash, as the logs tell it.
        logs: those of its logs that may be asked for, of the rarest address first.
    """

    number: int
    block_hash: bytes
    logs: tuple[RawLog, ...]

    @classmethod
    def of(cls, logs: Sequence[RawLog]) -> "Marker":
        """The newest block of some logs, which are sorted and at least one."""
        return cls._at(logs[-1].block_number, logs)

    @classmethod
    def oldest(cls, logs: Sequence[RawLog]) -> "Marker":
        """The oldest block of some logs, which are sorted and at least one."""
        return cls._at(logs[0].block_number, logs)

    @classmethod
    def _at(cls, number: int, logs: Sequence[RawLog]) -> "Marker":
        common = Counter(log.address for log in logs)
        here = sorted((log for log in logs if log.block_number == number), key=lambda log: common[log.address])
        return cls(number, hex_bytes(here[0].block_hash), tuple(here))

    def fits(self, asked: LogFilter) -> bool:
        """Whether a filter asks for one of the logs."""
        matches = matcher(asked)
        return any(matches(log.address, log.topics) for log in self.logs)

    def widen(self, asked: LogFilter) -> LogFilter:
        """A filter that asks for one of the logs besides; the same where it does already, or where none fits in."""
        needed = max((place + 1 for place, values in enumerate(asked.topics) if values is not None), default=0)
        log = next((log for log in self.logs if len(log.topics) >= needed), None)
        if log is None or self.fits(asked):
            return asked
        addresses: AddressList | None = asked.addresses
        if addresses is not None and log.address not in addresses:
            addresses = (*addresses, log.address)
        topics = [
            values if values is None or log.topics[place].lower() in values else (*values, log.topics[place].lower())
            for place, values in enumerate(asked.topics)
        ]
        return LogFilter(addresses, tuple(topics))


@dataclass(slots=True)
class Refused:
    """A kind of question that an endpoint refuses: asked again after a minute, then less and less often. Pure."""

    _pause: float = _FIRST_PAUSE
    _until: float = 0.0

    def holds(self, now: float) -> bool:
        """Whether it is of no use to ask."""
        return now < self._until

    def refused(self, now: float) -> None:
        """It was refused."""
        self._until, self._pause = now + self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def answered(self) -> None:
        """It was answered."""
        self._pause, self._until = _FIRST_PAUSE, 0.0


@dataclass(slots=True)
class EndMarkers:
    """What is known of the ends of an endpoint's ranges.

    Attributes:
        are_needed: the last range ended with a block without a wanted log: a marker is looked for at once.
        all_logs: questions for all logs of some blocks.
        receipts: questions for the receipts of a block.
        widest: how many blocks are asked for all of their logs at once, where more were refused.
    """

    are_needed: bool = False
    widest: int | None = None
    all_logs: Refused = field(default_factory=Refused)
    receipts: Refused = field(default_factory=Refused)
