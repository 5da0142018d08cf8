"""Logs as they come, checked: nothing that contradicts the question is passed on.

A log outside the asked range, addresses or topics makes the whole answer unbelievable (:class:`AnswerError`: the
endpoint is at fault, and the question is asked again elsewhere). So does a log without a block: blocks were asked for
by number. A log that is marked ``removed`` is set aside with its block: it contradicts the answer if that block is
still part of the chain, which only a header can tell. Duplicates, disorder and any case of hex are ordinary and are
normalised here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from indexer.chain.records.errors import AnswerError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import WireLog, hex_bytes, seconds

_HEX = re.compile(r"0x[0-9a-fA-F]*")
# Places in a block are kept as Postgres' bigint. Real ones can be as large as 0xffffffe2; the largest bigint means the
# end of a block in cursors.
LATEST_INDEX = 2**63 - 2
# Where logs are numbered within their transaction, each transaction has room for so many.
_LOGS_PER_TRANSACTION = 2**32


class RawLog(msgspec.Struct, gc=False):
    """A checked log. Hex stays text: a caller that needs bytes converts it once; others pay nothing.

    Attributes:
        address: ``0x`` and 40 lower-case hex digits.
        topics: zero to four of ``0x`` and 64 hex digits; the first is lower-case, the others as the node wrote them.
        data: ``0x`` and an even number of hex digits, in the node's case.
        block_number: the block.
        block_hash: ``0x`` and 64 hex digits, as the node wrote them.
        tx_hash: likewise.
        tx_index: position of the transaction in the block.
        log_index: position of the log in the block.
    """

    address: str
    topics: list[str]
    data: str
    block_number: int
    block_hash: str
    tx_hash: str
    tx_index: int
    log_index: int


@dataclass(slots=True)
class CheckedLogs:
    """What an answer holds.

    Attributes:
        logs: sorted by block and log index, each once.
        hashes: block -> its hash, for every block that bears one of the logs.
        times: block -> Unix seconds, for those of them whose logs told it.
        removed: (number, hash) of the blocks whose logs were marked ``removed``: no block of the chain may be among
            them (see :meth:`require_not_removed`).
    """

    logs: list[RawLog]
    hashes: dict[int, bytes]
    times: dict[int, int]
    removed: set[tuple[int, bytes]] = field(default_factory=set)

    def require_not_removed(self, hashes: Mapping[int, bytes], host: str) -> None:
        """Disbelieve the answer where it marks the logs of a block of the chain as removed.

        Args:
            hashes: block number -> its hash in the chain, for as many blocks as are known.
            host: whose answer it is.

        Raises:
            AnswerError: a log is marked as removed, and its block is part of the chain.
        """
        for number, block_hash in self.removed:
            if hashes.get(number) == block_hash:
                raise AnswerError(
                    f"eth_getLogs marks a log of block {number} as removed, and the block is part of the chain",
                    host=host,
                )


def check_logs(
    wire: Sequence[WireLog], first: int, last: int, asked: LogFilter, *, per_transaction: bool = False
) -> CheckedLogs:
    """Checks and normalises an answer to ``eth_getLogs``.

    Args:
        wire: the logs as the node wrote them.
        first: the first block asked for.
        last: the last block asked for.
        asked: the filter that was sent.
        per_transaction: the chain numbers the logs of each transaction from 0 anew: the position in the block is made
            of the transaction's place and that number, so that it is the same in every answer.

    Raises:
        AnswerError: a log is outside the question, malformed, or contradicts another.
    """
    try:
        return _check(wire, first, last, asked, per_transaction)
    except (ValueError, TypeError, AttributeError) as error:
        problem = f"eth_getLogs of blocks {first}-{last}: a malformed log: {error}"
    raise AnswerError(problem)


def select(logs: list[RawLog], wanted: LogFilter) -> list[RawLog]:
    """Those of the logs that a narrower filter asks for."""
    matches = matcher(wanted)
    return [log for log in logs if matches(log.address, log.topics)]


def matcher(asked: LogFilter) -> Callable[[str, list[str]], bool]:
    """A function that tells whether an address and topics (any case) are what a filter asks for."""
    addresses = asked.members()
    positions = [(index, frozenset(values)) for index, values in enumerate(asked.topics) if values is not None]

    def matches(address: str, topics: list[str]) -> bool:
        if addresses is not None and address not in addresses and address.lower() not in addresses:
            return False
        for index, values in positions:
            if index >= len(topics) or (topics[index] not in values and topics[index].lower() not in values):
                return False
        return True

    return matches


def _check(  # noqa: PLR0912, PLR0915 - one pass: calls would cost more than the work
    wire: Sequence[WireLog], first: int, last: int, asked: LogFilter, per_transaction: bool
) -> CheckedLogs:
    matches = matcher(asked)
    # Where the filter looks at no more of a log than these two, one answer holds for all that share them.
    by_first_topic = all(values is None for values in asked.topics[1:])
    fitting: dict[tuple[str, str | None], tuple[str, str | None]] = {}
    logs: list[RawLog] = []
    hashes: dict[int, bytes] = {}
    times: dict[int, int] = {}
    removed: set[tuple[int, bytes]] = set()
    sorted_so_far = True
    # Consecutive logs share block and transaction: what is read once is not read again.
    number_text, hash_text, number = "", "", -1
    position_text, tx_index = "", -1
    previous_number = previous_index = -1
    for log in wire:
        if log.block_number is None or log.block_hash is None:
            raise ValueError("it has no blockNumber or no blockHash")
        if log.removed:
            if first <= (number_of_removed := int(log.block_number, 16)) <= last:
                removed.add((number_of_removed, hex_bytes(log.block_hash)))
            continue
        if log.block_number != number_text or log.block_hash != hash_text:
            number, number_text, hash_text = int(log.block_number, 16), log.block_number, log.block_hash
            if not first <= number <= last:
                raise AnswerError(f"eth_getLogs of blocks {first}-{last} was answered with a log of block {number}")
            block_hash = hex_bytes(hash_text)
            if hashes.setdefault(number, block_hash) != block_hash or len(block_hash) != 32:
                raise AnswerError(f"eth_getLogs of blocks {first}-{last}: two hashes for block {number}")
            if log.block_timestamp and (time := seconds(log.block_timestamp)):
                times[number] = time
        topics = log.topics
        kind = log.address, topics[0] if topics else None
        if (lower := fitting.get(kind)) is None:
            lower = log.address.lower(), topics[0].lower() if topics else None
            if not matches(log.address, topics):
                raise AnswerError(
                    f"eth_getLogs of blocks {first}-{last} was answered with a log that was not asked for: "
                    f"block {number}, address {log.address[:42]}, topics {[topic[:66] for topic in topics[:4]]}"
                )
            if by_first_topic:
                fitting[kind] = lower
        address, topic0 = lower
        if topic0 is not None:
            topics[0] = topic0
        if log.transaction_index != position_text:
            position_text = log.transaction_index or "missing transactionIndex"
            tx_index = _index(position_text)
        if log.log_index is None or log.transaction_hash is None or len(topics) > 4:
            raise ValueError(f"block {number}: no logIndex, no transactionHash, or more than four topics")
        index = _index(log.log_index)
        if per_transaction:
            index = log_position(tx_index, index)
        if number <= previous_number and (number < previous_number or index <= previous_index):
            sorted_so_far = False
        previous_number, previous_index = number, index
        logs.append(RawLog(address, topics, log.data or "0x", number, hash_text, log.transaction_hash, tx_index, index))
    if not sorted_so_far:
        logs = sorted_once(logs)
    _check_hex(logs)
    return CheckedLogs(logs, hashes, times, removed)


def _index(text: str) -> int:
    index = int(text, 16)
    if not 0 <= index <= LATEST_INDEX:
        raise ValueError(f"{text[:40]!r} is no place in a block")
    return index


def log_position(tx_index: int, log_index: int) -> int:
    """The position in the block of a log that is numbered within its transaction.

    Raises:
        ValueError: it does not fit into 64 bits.
    """
    if log_index >= _LOGS_PER_TRANSACTION or tx_index >= LATEST_INDEX // _LOGS_PER_TRANSACTION:
        raise ValueError(f"transaction {tx_index}, log {log_index}: no such place fits into 64 bits")
    return tx_index * _LOGS_PER_TRANSACTION + log_index


def sorted_once(logs: list[RawLog]) -> list[RawLog]:
    """Logs by block and position, each once, however often answers hold it.

    Raises:
        AnswerError: two different logs have one position.
    """
    logs.sort(key=lambda log: (log.block_number, log.log_index))
    unique: list[RawLog] = []
    for log in logs:
        twin = unique[-1] if unique else None
        if twin is None or (twin.block_number, twin.log_index) != (log.block_number, log.log_index):
            unique.append(log)
        elif (twin.address, twin.data.lower(), [topic.lower() for topic in twin.topics], twin.tx_hash.lower()) != (
            log.address,
            log.data.lower(),
            [topic.lower() for topic in log.topics],
            log.tx_hash.lower(),
        ):
            text = f"two different logs at block {log.block_number}, log index {log.log_index}"
            if twin.tx_hash.lower() != log.tx_hash.lower():
                text += (
                    ", of two transactions: where a chain numbers the logs of each transaction anew, the manifest says "
                    'log_index = "per_transaction" in its [chains.…] table'
                )
            raise AnswerError(text)
    return unique


def _check_hex(logs: Sequence[RawLog]) -> None:
    """All hex of an answer at once: looking at one long text costs a tenth of looking at many short ones."""
    _check_texts("an address", [log.address for log in logs], 42)
    _check_texts("a transactionHash", [log.tx_hash for log in logs], 66)
    _check_texts("a topic", list(chain.from_iterable([log.topics for log in logs])), 66)
    data = [log.data for log in logs]
    sizes = set(map(len, data))
    if len(sizes) == 1:
        _check_texts("the data", data, *sizes)
    else:
        for size in sizes:
            _check_texts("the data", [text for text in data if len(text) == size], size)


def _check_texts(what: str, texts: Sequence[str], length: int) -> None:
    """Checks that each text is ``0x`` and an even number of hex digits, ``length`` characters in all.

    Raises:
        ValueError: one is not.
    """
    whole = "".join(texts).encode()
    count = len(texts)
    # Every text begins with 0x, and but for these x, there is nothing that is no digit.
    if (
        length % 2
        or set(map(len, texts)) - {length}
        or whole[::length] != b"0" * count
        or whole[1::length] != b"x" * count
        or whole.translate(None, b"0123456789abcdefABCDEF") != b"x" * count
    ):
        wrong = next(text for text in texts if len(text) != length or length % 2 or not _HEX.fullmatch(text))
        raise ValueError(f"{what} is {wrong[:80]!r}, not 0x and {length - 2} hex digits")
