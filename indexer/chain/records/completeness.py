"""What shows whether an answer for logs lacks some: blooms, the block's own hash, a log at the range's end. Pure.

*Blooms*: a header's bloom holds the addresses and topics of all logs of its block. Where it holds an address and a
topic that are asked for, and no log with both was answered, either the bloom errs (by chance, one in some dozens) or
the answer lacks logs: nodes serve ``eth_getLogs`` from an index that can be incomplete. A bloom that is zero says that
there are no logs only where an endpoint is known to keep blooms: some chains and proxies write zeros into every header.

*The block's hash* (EIP-234): some nodes refuse such a filter, some ignore it and answer with the newest block's logs.
One such answer may also come from a node that is ill, and blocks asked for by number prove less: so it takes several
failures until an endpoint is asked by number, and the hash is tried again later.

*A marker*: where header and logs come in different answers, another machine may have answered the logs than answered
the header of the range's end. A machine that lacks the end answers short and says nothing of it. An answer that holds
a log of the last block, or of a block above it, cannot come from such a machine. So where no wanted log is there, the
filter is widened by one other log, the *marker*; the surplus is filtered out here.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from indexer.addresses import AddressList
from indexer.chain.records.log_filter import LogFilter, in_bloom
from indexer.chain.records.messages import Header, hex_bytes
from indexer.chain.records.validation import RawLog, matcher

_CERTAIN_AFTER = 2
"""Refusals in a row that name the question, or answers about another block."""

_LIKELY_AFTER = 5
"""Errors in a row with the same words, while other questions are answered."""

_AGAIN_AFTER = 3600.0
"""Seconds until it is tried again."""

_LIKELY_CHANCE = 1 / 16
"""A bloom that errs at least so often about a filter proves little."""

_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 3600.0


@dataclass(slots=True)
class BloomTrust:
    """What an endpoint's answers have shown of the blooms in its headers. Not thread-safe: the endpoint locks.

    Attributes:
        kept: a bloom that is not zero was seen, so that zero means "no logs".
        broken: a block bore a log that its bloom does not hold, so that no bloom means anything.
    """

    kept: bool = False
    broken: bool = False

    def learn(self, header: Header, logs: Sequence[RawLog]) -> bool:
        """Takes note of a header and of the logs that provably are of its block.

        Returns:
            Whether it has just shown that the endpoint's blooms mean nothing.
        """
        bits = int.from_bytes(header.logs_bloom, "big")
        self.kept |= bits != 0
        if self.broken or all(in_bloom(bits, log.address) for log in logs):
            return False
        self.broken = True
        return True


def unaccounted(
    filters: LogFilter, header: Header, logs: Sequence[RawLog], trust: BloomTrust | None, *, mixed: bool = False
) -> LogFilter | None:
    """What of a filter a block may still hold.

    Args:
        filters: what was asked for.
        header: the block's header.
        logs: the block's logs that match the filter, as they were answered.
        trust: what is known of the endpoint's blooms; None: the operator says that they mean nothing.
        mixed: whether the filter stands for a long list of addresses and asks for any: then a log of another address
            accounts for none of the list.

    Returns:
        What to ask the block for once more, as narrow as it can be said; None where nothing can be missing.
    """
    bits = int.from_bytes(header.logs_bloom, "big")
    if trust is None or trust.broken or not (bits or trust.kept):
        return None if logs else filters
    if not (topics := _topics_held(filters, bits)):
        return None
    if mixed:
        return _narrowed(filters, None, topics)
    kinds = {(log.address, log.topics[0] if log.topics else None) for log in logs}
    return _lacking(filters, topics, kinds, partial(_held, bits))


def is_likely_chance(filters: LogFilter, header: Header) -> bool:
    """Whether a bloom is so full that it may well hold one of a filter's addresses that logged nothing.

    A bloom of 2,048 bits holds a value that is not there with the chance of its share of set bits to the power of three
    (yellow paper, 4.3.1: three bits a value).

    Args:
        filters: what was asked for; without addresses, its first topics are what is looked for.
        header: the block's header.
    """
    full = int.from_bytes(header.logs_bloom, "big").bit_count() / 2048
    values = filters.addresses if filters.addresses is not None else (filters.topics and filters.topics[0]) or ("",)
    return len(values) * full**3 >= _LIKELY_CHANCE


def lacking_kinds(
    filters: LogFilter,
    bits: int,
    kinds: Collection[tuple[str, str | None]],
    held: Callable[[AddressList], Sequence[str]],
) -> LogFilter | None:
    """What of a filter a block may still hold, by a bloom that can be trusted.

    Args:
        filters: what was asked for.
        bits: the bloom as an integer.
        kinds: address and first topic, lower-case, of the block's logs that came.
        held: those of the filter's addresses that the bloom may hold.

    Returns:
        What to ask the block for once more, as narrow as it can be said; None where nothing can be missing.
    """
    topics = _topics_held(filters, bits)
    return _lacking(filters, topics, kinds, held) if topics else None


def _topics_held(filters: LogFilter, bits: int) -> list[str | None]:
    """The first topics of a filter that a bloom may hold; none where no log that matches can be there."""
    if not bits or not all(values is None or _held(bits, values) for values in filters.topics[1:]):
        return []
    first = filters.topics[0] if filters.topics else None
    return [None] if first is None else [*_held(bits, first)]


def _lacking(
    filters: LogFilter,
    topics: Sequence[str | None],
    kinds: Collection[tuple[str, str | None]],
    held: Callable[[AddressList], Sequence[str]],
) -> LogFilter | None:
    """What of a filter, of those first topics that a bloom may hold, no log accounts for."""
    seen = {*kinds, *((address, None) for address, _ in kinds)}
    if filters.addresses is None:
        found = {topic for _, topic in kinds}
        lacking = [topic for topic in topics if topic not in found and (topic is not None or not kinds)]
        return _narrowed(filters, None, lacking) if lacking else None
    addresses: list[str] = []
    missing: set[str | None] = set()
    for address in held(filters.addresses):
        if lacking := [topic for topic in topics if (address, topic) not in seen]:
            addresses.append(address)
            missing.update(lacking)
    return _narrowed(filters, tuple(addresses), [topic for topic in topics if topic in missing]) if addresses else None


def _held(bits: int, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(value for value in values if in_bloom(bits, value))


def _narrowed(filters: LogFilter, addresses: tuple[str, ...] | None, topics: Sequence[str | None]) -> LogFilter:
    named = tuple(topic for topic in topics if topic is not None)
    return LogFilter(addresses, (named or None, *filters.topics[1:]) if filters.topics else ())


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
        if self._failures < (_CERTAIN_AFTER if certain else _LIKELY_AFTER):
            return False
        # One more failure later is enough.
        self._failures, self._until = _LIKELY_AFTER - 1, now + _AGAIN_AFTER
        return True


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
