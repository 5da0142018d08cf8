"""A data set of a portal: how far it reaches, and ranges of its blocks."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from indexer.block_records import BlockColumns
from indexer.chain.history.source import SourceRange
from indexer.chain.portal.lines import LineReader, Lines
from indexer.chain.portal.stream import PortalConnection
from indexer.chain.records.errors import AnswerError, RateError, TransientError
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs, sorted_once
from indexer.chain.rpc.config import CallPermits, ClientSettings, RequestContext
from indexer.chain.rpc.rate_control import Admission, RateControl
from indexer.intervals import BlockRange

_FIELDS: Final = {
    "block": {"number": True, "hash": True, "parentHash": True, "timestamp": True},
    "log": {
        "logIndex": True, "transactionIndex": True, "transactionHash": True,
        "address": True, "topics": True, "data": True,
    },
}  # fmt: skip

# Of one request: portals refuse longer ones, and more alternatives.
_MOST_VALUES = 3_000
_MOST_ITEMS = 50
# Bytes of one answer; what is behind is asked for anew.
_MOST_BYTES = 12_000_000
# How often a request is sent at most, and how long orders to wait are obeyed, in seconds.
_ATTEMPTS = 3
_LONGEST_WAIT = 60.0
_FIRST_BACKOFF = 0.5
# What the portal answers for a short while after its start is asked again so often.
_NULL_ATTEMPTS = 4
# How long an answer about the finalized head is believed, in seconds.
_REACH_HOLDS = 30.0


class _Metadata(msgspec.Struct):
    start_block: int = 0
    metadata: dict[str, Any] = {}


class _Head(msgspec.Struct):
    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class _Part:
    lines: Lines
    seconds: float
    bytes: int


class Portal:
    """One data set. Thread-safe; see :class:`indexer.chain.history.source.HistorySource`.

    Args:
        url: of the data set, ``https://…/datasets/ethereum-mainnet``; it may bear a key.
        headers: HTTP headers to send besides.
        requests_per_second: a ceiling, or None.
        permits: keeps the ceiling together with other processes; None: this one keeps it by itself.
        settings: time-outs.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        requests_per_second: float | None = None,
        permits: CallPermits | None = None,
        settings: ClientSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._connection = PortalConnection(url, headers or {}, settings or ClientSettings(), clock=clock)
        self.host = self._connection.host
        self._reader = LineReader()
        self._rate = RateControl(ceiling=requests_per_second, is_shared=permits is not None)
        self._lock = threading.Condition()
        self._permits = permits
        self._line = Admission(self._rate, self._lock, clock, sleep, permits)
        self._clock, self._sleep = clock, sleep
        self._start: int | None = None
        self._reach: tuple[float, int] | None = None

    def close(self) -> None:
        """Closes idle connections."""
        self._connection.close()
        if self._permits is not None:
            self._permits.close()

    def abort(self) -> None:
        """Ends what is under way, and what is to come."""
        self._connection.abort()

    def reach(self, context: RequestContext) -> BlockRange:
        """The blocks that it has, all of them final there.

        Raises:
            ProviderError: it does not answer, or has no final block.
        """
        with self._lock:
            start, known = self._start, self._reach
        if start is None:
            start = self._get("metadata", _Metadata, context).start_block
        if known is None or self._clock() - known[0] > _REACH_HOLDS:
            known = self._clock(), self._get("finalized-head", _Head, context).number
        with self._lock:
            self._start, self._reach = start, known
        return start, known[1]

    def read(
        self,
        first: int,
        last: int,
        filters: Sequence[LogFilter],
        context: RequestContext,
        *,
        parent: bytes | None = None,
    ) -> SourceRange:
        """A range of blocks, which may end before ``last``.

        Raises:
            AnswerError: what it says contradicts the question or itself.
            ProviderError: it does not answer.
            Stopped: the caller wants it no more.
        """
        before = context.requests, context.bytes
        parts: list[_Part] = []
        for items in _questions(filters):
            parts.append(self._part(first, last, items, filters, context, parent))
            last = int(parts[-1].lines.headers.numbers[-1])
        lines = parts[0].lines if len(parts) == 1 else _joined([part.lines for part in parts], last)
        end, numbers = lines.headers, lines.headers.numbers
        header = Header(int(numbers[-1]), end.hashes[-1].tobytes(), lines.parents[-1].tobytes(), int(end.times[-1]))
        chunk = LogChunk(
            first, header.number, lines.read, _bearing(lines), header, self.host,
            context.requests - before[0], context.bytes - before[1],
            sum(part.bytes for part in parts), sum(part.seconds for part in parts),
        )  # fmt: skip
        return SourceRange(chunk, lines.headers, lines.parents)

    def _part(
        self,
        first: int,
        last: int,
        items: Sequence[dict[str, list[str]]],
        filters: Sequence[LogFilter],
        context: RequestContext,
        parent: bytes | None,
    ) -> _Part:
        question: dict[str, Any] = {"type": "evm", "fromBlock": first, "toBlock": last, "fields": _FIELDS}
        question["logs"] = items
        if parent is not None:
            question["parentBlockHash"] = "0x" + parent.hex()
        body = msgspec.json.encode(question)
        streamed = self._patiently(lambda: self._connection.stream(body, context, _MOST_BYTES), context)
        try:
            lines = self._reader.read(streamed.text, first, last, filters)
        except AnswerError as error:
            error.host = self.host
            raise
        return _Part(lines, streamed.seconds, len(streamed.text))

    def _get(self, path: str, shape: type, context: RequestContext) -> Any:
        for attempt in range(_NULL_ATTEMPTS):
            context.requests += 1
            body = self._patiently(lambda: self._connection.get(path), context)
            try:
                found = msgspec.json.decode(body, type=shape | None)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise TransientError(f"{path} is answered with something else", host=self.host) from None
            if found is not None:
                return found
            context.pause(_FIRST_BACKOFF * 2**attempt, self._sleep)
        raise TransientError(f"{path} is not known there yet", host=self.host)

    def _patiently(self, ask: Callable[[], Any], context: RequestContext) -> Any:
        """An answer, asked for again where that may help; an order to wait is obeyed."""
        failures, waited = 0, 0.0
        while True:
            self._line.wait(1, context)
            with self._lock:
                self._rate.finished()
            try:
                answer = ask()
            except RateError as error:
                with self._lock:
                    self._rate.limited(self._clock(), error.retry_after, 0.0)
                wait = max(_FIRST_BACKOFF, error.retry_after or 0.0, self._rate.delay(self._clock()))
                if waited + wait > _LONGEST_WAIT:
                    raise
                waited += wait
                context.pause(wait, self._sleep)
            except TransientError as error:
                failures += 1
                if failures >= _ATTEMPTS or isinstance(error, AnswerError):
                    raise
                context.pause(_FIRST_BACKOFF * 2 ** (failures - 1), self._sleep)
            else:
                with self._lock:
                    self._rate.succeeded(self._clock())
                return answer


def _questions(filters: Sequence[LogFilter]) -> list[list[dict[str, list[str]]]]:
    """Filters as the items of as many requests as their lengths need."""
    questions: list[list[dict[str, list[str]]]] = [[]]
    values = 0
    for whole in filters:
        for part in whole.slices(_MOST_VALUES):
            size = len(part.addresses or ()) + sum(len(topics or ()) for topics in part.topics)
            if questions[-1] and (values + size > _MOST_VALUES or len(questions[-1]) >= _MOST_ITEMS):
                questions.append([])
                values = 0
            questions[-1].append(_item(part))
            values += size
    return questions


def _item(one: LogFilter) -> dict[str, list[str]]:
    item = {f"topic{position}": list(values) for position, values in enumerate(one.topics) if values is not None}
    return item if one.addresses is None else {"address": list(one.addresses), **item}


def _bearing(lines: Lines) -> BlockColumns:
    """The blocks that bear logs, and the end."""
    numbers = lines.headers.numbers
    read = lines.read
    bearing = set(read.hashes) if isinstance(read, CheckedLogs) else set(read.block_numbers.tolist())
    kept = [number in bearing for number in numbers.tolist()]
    kept[-1] = True
    return BlockColumns(numbers[kept], lines.headers.hashes[kept], lines.headers.times[kept])


def _joined(parts: Sequence[Lines], last: int) -> Lines:
    """Answers to several questions about one range as one, up to a block.

    Raises:
        AnswerError: they are about different blocks.
    """
    headers: dict[int, tuple[bytes, int]] = {}
    parents: dict[int, bytes] = {}
    logs = []
    for part in parts:
        for (number, block_hash, time_), parent in zip(part.headers.items(), part.parents, strict=True):
            if number > last:
                break
            if headers.setdefault(number, (block_hash, time_)) != (block_hash, time_):
                raise AnswerError(f"two answers differ about block {number:,}")
            parents[number] = parent.tobytes()
        plain = part.read if isinstance(part.read, CheckedLogs) else part.read.plain()
        logs += [log for log in plain.logs if log.block_number <= last]
    logs = sorted_once(logs)
    hashes = {log.block_number: headers[log.block_number][0] for log in logs}
    joined = np.frombuffer(b"".join(parents[number] for number in sorted(parents)), np.uint8).reshape(-1, 32)
    return Lines(BlockColumns.of(headers), joined, CheckedLogs(logs, hashes, {}))
