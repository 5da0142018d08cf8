"""The lines of a portal's stream, checked: headers and logs in columns, or log by log where anything is unusual.

A line is a block: its header, and those of its logs that were asked for. Only whole lines count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexer.block_records import BlockColumns
from indexer.chain.records import text_layout
from indexer.chain.records.errors import AnswerError
from indexer.chain.records.log_columns import Integers, LogColumns, Octets
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.log_groups import alike_of, asked_for, kinds_of
from indexer.chain.records.messages import LATEST_SECOND, WireLog, hex_bytes
from indexer.chain.records.text_layout import Form, Group, Layouts, PlainWayError, require
from indexer.chain.records.validation import LATEST_INDEX, CheckedLogs, check_logs, matcher

LOG_FORM: Final = Form(
    octets={"address": 40, "transactionHash": 64}, quantities=("transactionIndex", "logIndex"), base=10
)
"""A log as a portal writes it."""

HEADER_FORM: Final = Form(
    octets={"hash": 64, "parentHash": 64}, quantities=("number", "timestamp"), base=10, bears=False
)
"""A header as a portal writes it."""

_BRACE, _CLOSING, _COMMA, _BREAK = (ord(sign) for sign in "{},\n")
_BEGIN, _LOGS, _END, _SILENT = b'{"header":{', b',"logs":[', b"]}", b',"logs":[]}'
# Fewer logs of one length than this, on average, and columns do not pay.
_FEW = 4


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines, read.

    Attributes:
        headers: of all blocks that were sent, ascending.
        parents: the hashes of their parents, of shape (blocks, 32).
        read: the logs.
    """

    headers: BlockColumns
    parents: Octets
    read: CheckedLogs | LogColumns


class LineReader:
    """Reads the lines of one data set. Thread-safe."""

    def __init__(self) -> None:
        """Knows no layout yet."""
        self._logs, self._headers = Layouts(LOG_FORM), Layouts(HEADER_FORM)

    def read(self, text: bytes, first: int, last: int, filters: Sequence[LogFilter], *, few: int = _FEW) -> Lines:
        """Reads and checks lines.

        Args:
            text: whole lines, each with its line break; at least one.
            first: the first block asked for.
            last: the last block asked for.
            filters: what was asked for; every log must be what one of them asks for.
            few: logs of each length, on average, that columns pay for.

        Raises:
            AnswerError: the lines are none, contradict the question, or one another.
        """
        try:
            lines = self._in_columns(np.frombuffer(text, np.uint8), filters, few)
        except PlainWayError:
            lines = _plainly(text, first, last, filters)
        _check_headers(lines, first, last)
        return lines

    def _in_columns(self, text: Octets, filters: Sequence[LogFilter], few: int) -> Lines:
        starts, log_starts, log_lengths, header_starts, header_lengths, counts = _objects(text)
        headers = list(text_layout.groups(text, header_starts, header_lengths, self._headers, 1))
        hashes = _gathered(headers, len(starts), 64)
        numbers, times = _quantities(headers, len(starts), 2)
        require(int(times.max()) <= LATEST_SECOND)
        columns = BlockColumns(numbers, np.ascontiguousarray(hashes[:, :32]), times)
        parents = np.ascontiguousarray(hashes[:, 32:])
        if not len(log_starts):
            return Lines(columns, parents, CheckedLogs([], {}, {}))
        logs = list(text_layout.groups(text, log_starts, log_lengths, self._logs, few))
        return Lines(columns, parents, _columns(logs, columns, counts, filters))


def _objects(text: Octets) -> tuple[Integers, Integers, Integers, Integers, Integers, Integers]:
    """Where lines, logs and headers are.

    Returns:
        Where lines begin; where logs begin, and their lengths; the same of headers; how many logs each line has.
    """
    require(len(text) > 0 and text[-1] == _BREAK)
    ends = np.flatnonzero(text == _BREAK)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1] + 1])
    require(bool((ends - starts > len(_BEGIN) + 1).all()))
    opened, closed = np.flatnonzero(text == _BRACE), np.flatnonzero(text == _CLOSING)
    require(len(opened) == len(closed))
    # Of a line's braces the first is its own, the second its header's, the others its logs'. None holds another but the
    # line's: so the n-th closing brace belongs to the opening brace behind the n-th.
    lines = np.searchsorted(opened, starts)
    require(bool((_at(text, starts, len(_BEGIN)) == np.frombuffer(_BEGIN, np.uint8)).all()))
    require(bool((opened[lines] == starts).all()))
    counts = np.diff(lines, append=len(opened)) - 2
    require(bool((counts >= 0).all()) and bool((opened[lines + 1] == starts + len(_BEGIN) - 1).all()))
    require(bool((closed[lines + counts + 1] == ends - 1).all()))
    header_ends = closed[lines]
    of_logs = np.ones(len(opened), dtype=np.bool_)
    of_logs[lines] = of_logs[lines + 1] = False
    places = np.flatnonzero(of_logs)
    log_starts, log_ends = opened[places], closed[places - 1]
    require(bool((log_ends > log_starts).all()))
    _check_between(text, ends, header_ends, log_starts, log_ends, counts)
    return (
        starts, log_starts, log_ends - log_starts + 1, starts + len(_BEGIN) - 1,
        header_ends - starts - len(_BEGIN) + 2, counts,
    )  # fmt: skip


def _check_between(
    text: Octets, ends: Integers, header_ends: Integers, log_starts: Integers, log_ends: Integers, counts: Integers
) -> None:
    """Checks that between the objects of lines there is nothing but what belongs there."""
    bear = counts > 0
    tails = ends[~bear] - header_ends[~bear]
    short = tails == 2
    require(bool((short | (tails == len(_SILENT) + 1)).all()))
    silent = header_ends[~bear][~short] + 1
    require(bool((_at(text, silent, len(_SILENT)) == np.frombuffer(_SILENT, np.uint8)).all()))
    if not len(log_starts):
        return
    firsts = (np.cumsum(counts) - counts)[bear]
    lasts = firsts + counts[bear] - 1
    head = header_ends[bear] + 1
    require(bool((_at(text, head, len(_LOGS)) == np.frombuffer(_LOGS, np.uint8)).all()))
    require(bool((log_starts[firsts] == head + len(_LOGS)).all()))
    require(bool((log_ends[lasts] + len(_END) + 1 == ends[bear]).all()))
    require(bool((text[log_ends[lasts] + 1] == _END[0]).all()))
    follows = np.ones(len(log_starts), dtype=np.bool_)
    follows[firsts] = False
    inner = np.flatnonzero(follows)
    require(bool((log_starts[inner] == log_ends[inner - 1] + 2).all()))
    require(bool((text[log_starts[inner] - 1] == _COMMA).all()))


def _at(text: Octets, places: Integers, size: int) -> Octets:
    """So many bytes from each place on, of shape (places, size)."""
    require(not len(places) or int(places[-1]) + size <= len(text))
    found: Octets = text[places[:, None] + np.arange(size)]
    return found


def _gathered(groups: Sequence[Group], count: int, width: int) -> Octets:
    """The first octets of objects that bear nothing, in order."""
    found = np.empty((count, width), dtype=np.uint8)
    for group in groups:
        found[group.rows] = group.octets[:, :width]
    return found


def _quantities(groups: Sequence[Group], count: int, quantities: int) -> list[Integers]:
    """The quantities of objects, in order."""
    found = [np.empty(count, dtype=np.int64) for _ in range(quantities)]
    for group in groups:
        for column, values in zip(found, group.quantities, strict=True):
            column[group.rows] = values
    return found


def _columns(
    groups: Sequence[Group], headers: BlockColumns, counts: Integers, filters: Sequence[LogFilter]
) -> LogColumns:
    count = int(counts.sum())
    tx_indexes, log_indexes = _quantities(groups, count, 2)
    tx_hashes = np.empty((count, 32), dtype=np.uint8)
    for group in groups:
        at = 32 * group.layout.topics + group.layout.data + 20
        tx_hashes[group.rows] = group.octets[:, at : at + 32]
    require(int(tx_indexes.max()) <= LATEST_INDEX and int(log_indexes.max()) <= LATEST_INDEX)
    bearing = np.flatnonzero(counts > 0)
    block_of = np.repeat(np.arange(len(bearing)), counts[bearing])
    require(bool(((np.diff(log_indexes) > 0) | (np.diff(block_of) > 0)).all()))
    kinds, names = kinds_of(groups, count)
    alike = alike_of(groups, count)
    asked: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
    for one in filters:
        asked |= asked_for(kinds, names, alike, one)
    require(bool(asked.all()))
    return LogColumns(
        numbers=headers.numbers[bearing][block_of],
        log_indexes=log_indexes,
        tx_indexes=tx_indexes,
        tx_hashes=tx_hashes,
        kinds=kinds,
        names=names,
        alike=alike,
        block_of=block_of,
        block_numbers=headers.numbers[bearing],
        block_hashes=headers.hashes[bearing],
        block_times=headers.times[bearing],
    )


class _LineHeader(msgspec.Struct):
    number: int
    hash: str
    parentHash: str  # noqa: N815 - the portal's names
    timestamp: int


class _LineLog(msgspec.Struct):
    logIndex: int  # noqa: N815
    transactionIndex: int  # noqa: N815
    transactionHash: str  # noqa: N815
    address: str
    topics: list[str]
    data: str


class _Line(msgspec.Struct):
    header: _LineHeader
    logs: list[_LineLog] = []


_decoder = msgspec.json.Decoder(_Line)


def is_whole(text: bytes) -> bool:
    """Whether a text without a line break is a line: the last of a stream may lack its break."""
    try:
        _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _plainly(text: bytes, first: int, last: int, filters: Sequence[LogFilter]) -> Lines:
    """Lines read log by log.

    Raises:
        AnswerError: they are none, or contradict the question.
    """
    problem = ""
    try:
        lines = [_decoder.decode(line) for line in text.splitlines() if line.strip()]
        lines.sort(key=lambda line: line.header.number)
        return _from_lines(lines, first, last, filters)
    except (msgspec.MsgspecError, ValueError, OverflowError, AnswerError) as error:
        problem = str(error)
    raise AnswerError(f"a line of blocks {first}-{last} is malformed: {problem}")


def _from_lines(lines: Sequence[_Line], first: int, last: int, filters: Sequence[LogFilter]) -> Lines:
    if not lines:
        raise ValueError("there is none")
    headers: dict[int, tuple[bytes, int]] = {}
    parents: list[bytes] = []
    wire: list[WireLog] = []
    matches = [matcher(one) for one in filters]
    for line in lines:
        header = line.header
        block_hash, parent = _hash(header.hash), _hash(header.parentHash)
        if header.number in headers:
            raise ValueError(f"block {header.number} came twice")
        if not 0 <= header.timestamp <= LATEST_SECOND:
            raise ValueError(f"{header.timestamp} is no time")
        headers[header.number] = block_hash, header.timestamp
        parents.append(parent)
        for log in line.logs:
            if not any(match(log.address, log.topics) for match in matches):
                raise ValueError(f"block {header.number} has a log that was not asked for, of {log.address[:42]}")
            wire.append(_wire(log, header))
    checked = check_logs(wire, first, last, LogFilter())
    return Lines(BlockColumns.of(headers), np.frombuffer(b"".join(parents), np.uint8).reshape(-1, 32), checked)


def _hash(text: str) -> bytes:
    found = hex_bytes(text)
    if len(found) != 32:
        raise ValueError(f"{text[:80]!r} is no hash")
    return found


def _wire(log: _LineLog, header: _LineHeader) -> WireLog:
    return WireLog(
        address=log.address,
        topics=log.topics,
        data=log.data,
        block_number=hex(header.number),
        block_hash=header.hash,
        transaction_hash=log.transactionHash,
        transaction_index=hex(log.transactionIndex),
        log_index=hex(log.logIndex),
    )


def _check_headers(lines: Lines, first: int, last: int) -> None:
    """Checks that headers are those of the question, and that neighbours are parent and child.

    Raises:
        AnswerError: they are not.
    """
    numbers, hashes = lines.headers.numbers, lines.headers.hashes
    if not first <= int(numbers[0]) or not int(numbers[-1]) <= last:
        raise AnswerError(f"blocks {first}-{last} were answered with block {int(numbers[-1])} or {int(numbers[0])}")
    # The first block of what a stream covers is always sent: without it, what came before may have been left out.
    if int(numbers[0]) != first:
        raise AnswerError(f"the stream of blocks {first}-{last} begins with block {int(numbers[0])}")
    steps = np.diff(numbers)
    if bool((steps <= 0).any()):
        raise AnswerError(f"the blocks of {first}-{last} are not in order")
    linked = (lines.parents[1:] == hashes[:-1]).all(axis=1)
    if not bool(((steps > 1) | linked).all()):
        number = int(numbers[1:][(steps == 1) & ~linked][0])
        raise AnswerError(f"block {number:,} is not the child of block {number - 1:,}")
