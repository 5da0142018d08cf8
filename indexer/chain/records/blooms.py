"""What blooms say of logs that an answer may lack: pure.

A header's bloom holds the addresses and topics of all logs of its block. Where it holds an address and a topic that are
asked for, and no log with both was answered, either the bloom errs (by chance, one in some dozens) or the answer lacks
logs: nodes serve ``eth_getLogs`` from an index that can be incomplete. A bloom that is zero says that there are no logs
only where an endpoint is known to keep blooms: some chains and proxies write zeros into every header.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.chain.records.log_filter import LogFilter, in_bloom
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import RawLog


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
    if not bits or not all(values is None or _held(bits, values) for values in filters.topics[1:]):
        return None
    first = filters.topics[0] if filters.topics else None
    topics: list[str | None] = [None] if first is None else [*_held(bits, first)]
    if mixed:
        return _narrowed(filters, None, topics) if topics else None
    seen = {(log.address, log.topics[0] if log.topics else None) for log in logs}
    seen |= {(address, None) for address, _ in seen}
    if filters.addresses is None:
        found = {topic for _, topic in seen}
        lacking = [topic for topic in topics if topic not in found and (topic is not None or not logs)]
        return _narrowed(filters, None, lacking) if lacking else None
    addresses: list[str] = []
    missing: set[str | None] = set()
    for address in filters.addresses:
        if in_bloom(bits, address) and (lacking := [topic for topic in topics if (address, topic) not in seen]):
            addresses.append(address)
            missing.update(lacking)
    return _narrowed(filters, tuple(addresses), [topic for topic in topics if topic in missing]) if addresses else None


def _held(bits: int, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(value for value in values if in_bloom(bits, value))


def _narrowed(filters: LogFilter, addresses: tuple[str, ...] | None, topics: Sequence[str | None]) -> LogFilter:
    named = tuple(topic for topic in topics if topic is not None)
    return LogFilter(addresses, (named or None, *filters.topics[1:]) if filters.topics else ())
