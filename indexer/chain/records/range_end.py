"""A log at the end of a range that is asked for besides, so that the answer shows that its machine has the range: pure.

Where an endpoint refuses batches, another machine may answer the logs than answered the header of the range's end. A
machine that lacks the end answers short and says nothing of it. An answer that holds a log of the last block cannot
come from such a machine. So where no wanted log is there, the filter is widened by one other log of that block, the
*marker*; the surplus is filtered out here. Where the last block bears no log at all, the marker is of the newest that
does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.addresses import AddressList
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import hex_bytes
from indexer.chain.records.validation import RawLog, matcher

AGAIN_AFTER = 3600.0
"""Seconds until an endpoint that refused to tell all logs of a block is asked again."""


@dataclass(frozen=True, slots=True)
class Marker:
    """The logs of the block with which a range ends.

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
        number = logs[-1].block_number
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
class EndMarkers:
    """What is known of the ends of an endpoint's ranges. Each value is replaced as a whole.

    Attributes:
        are_needed: the last range ended with a block without a wanted log: a marker is looked for at once.
    """

    are_needed: bool = False
    _refused_until: float = 0.0

    def are_refused(self, now: float) -> bool:
        """Whether the endpoint does not tell all logs of a block."""
        return now < self._refused_until

    def refused(self, now: float) -> None:
        """It has refused to."""
        self._refused_until = now + AGAIN_AFTER
