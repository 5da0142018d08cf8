"""Logs in columns, straight from the bytes of an answer to ``eth_getLogs``: no object is made for any of them.

JSON and the checks of an answer under the interpreter's lock cost more than all else in a backfill. Here both are done
for many logs at once, with numpy, which works without that lock.

Nodes write every log of an answer in one manner: the same members in the same order, no blanks, lower-case hex. What
differs from log to log is a few widths (the digits of ``logIndex``, the number of topics, the length of ``data``). A
:class:`Layout` is learned from one log's text by a strict grammar. Then every byte of the answer is looked at: it is
part of a layout that stands there in full, or a hex digit. All checks of
:func:`indexer.chain.records.validation.check_logs` are made. Where anything is out of the ordinary (a log without a
layout, another order of logs, a log that was not asked for, one that was removed, blanks, capitals) the answer is not
judged here: :func:`read` says None, and ``check_logs``, which knows all of JSON, finds out what it is.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.chain.records.log_columns import Alike, Integers, Kind, LogColumns, Octets, cut, topics_of
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import LATEST_SECOND
from indexer.chain.records.validation import LATEST_INDEX, matcher

Span = tuple[int, int]
"""Where hex digits begin in a log's text, and how many they are."""

_MEMBER = re.compile(
    rb'"(?P<name>[A-Za-z][A-Za-z0-9]*)":'
    rb'(?:"0x(?P<hex>[0-9a-f]*)"|(?P<word>null|false)|\[(?P<list>(?:"0x[0-9a-f]{64}"(?:,"0x[0-9a-f]{64}"){0,3})?)\])'
    rb"(?P<end>[,}])"
)
# An item of ``topics``: quotes, 0x and digits; behind it a comma or the bracket.
_TOPIC = len('"0x","') - len('"') + 64
_WIDTHS = {"address": 40, "blockHash": 64, "transactionHash": 64}
_QUANTITIES = ("blockNumber", "transactionIndex", "logIndex", "blockTimestamp")
_READ = {*_WIDTHS, *_QUANTITIES, "data"}
# So many digits fit into 64 bits with a sign.
_MOST_DIGITS = 15

# Below this the plain way is as fast.
_SMALL = 8_192
# Fewer logs of one length than this, on average, and columns do not pay.
_FEW = 4
# Layouts are few: one for each event and each width of its numbers. More than this, and they are learned anew.
_MOST_LAYOUTS = 2_000
# Rows at a time: what one step leaves is still in the processor's cache for the next.
_STEP = 1_024

_BRACE, _COMMA, _OPEN, _CLOSE = (ord(sign) for sign in "{,[]")
# Odd numbers, by which the words of a key are summed up to one; that two keys have one sum is noticed.
_ODD = np.array([(0x9E3779B97F4A7C15 * (2 * i + 1) * (i + 3) | 1) % 2**64 for i in range(8)], dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which logs are written. Spans are relative to the log's opening brace.

    Attributes:
        length: of the log's text.
        text: a log so written, of shape (length,).
        fixed: 255 where every log so written has the byte of ``text``, 0 where it has a hex digit.
        topics: how many there are.
        data: the bytes of ``data``.
        pairs: even spans: the topics, the data, the address, the transaction's hash, the block's hash, then members
            that are not read.
        quantities: block number, transaction index, log index, and the time, which may be missing.
        unread: odd spans of members that are not read.
    """

    length: int
    text: Octets
    fixed: Octets
    topics: int
    data: int
    pairs: tuple[Span, ...]
    quantities: tuple[Span, ...]
    unread: tuple[Span, ...]


def learn(text: bytes) -> Layout | None:
    """The layout of a log's text, or None where the grammar does not hold.

    Args:
        text: from the opening brace to the closing one.
    """
    spans: dict[str, Span] = {}
    topics: list[Span] | None = None
    others: list[Span] = []
    for member in _members(text):
        name = member["name"].decode() if member else ""
        if member is None or not _is_ordinary(name, member):
            return None
        span = member.start("hex"), len(member["hex"] or "")
        if name == "topics":
            start = member.start("list") + len('"0x')
            topics = [(start + i * _TOPIC, 64) for i in range((len(member["list"]) + 1) // _TOPIC)]
        elif name in _READ:
            spans[name] = span
        else:
            others.append(span)
    if topics is None or not _complete(spans):
        return None
    pairs = [*topics, *(spans[name] for name in ("data", "address", "transactionHash", "blockHash"))]
    pairs += [span for span in others if span[1] % 2 == 0]
    quantities = [spans[name] for name in _QUANTITIES if spans[name][1]]
    unread = [span for span in others if span[1] % 2]
    fixed = np.full(len(text), 255, dtype=np.uint8)
    for start, size in (*pairs, *quantities, *unread):
        fixed[start : start + size] = 0
    return Layout(
        length=len(text),
        text=np.frombuffer(text, np.uint8),
        fixed=fixed,
        topics=len(topics),
        data=spans["data"][1] // 2,
        pairs=tuple(pairs),
        quantities=tuple(quantities),
        unread=tuple(unread),
    )


def _members(text: bytes) -> Iterator[re.Match[bytes] | None]:
    """The members of an object, each of another name; None where it is none, and the end of it."""
    seen: set[bytes] = set()
    at = 1 if text.startswith(b"{") else len(text) + 1
    while at != len(text):
        member = _MEMBER.match(text, at)
        if member is None or member["name"] in seen or (member["end"] == b"}") != (member.end() == len(text)):
            yield None
            return
        seen.add(member["name"])
        at = member.end()
        yield member


def _is_ordinary(name: str, member: re.Match[bytes]) -> bool:
    """Whether a member is of the kind that it should be; only a time, ``removed`` and what is not read may be null."""
    if name == "topics" or member["list"] is not None:
        return name == "topics" and member["list"] is not None
    if name == "removed":
        return member["hex"] is None
    return member["hex"] is not None or (name == "blockTimestamp" and member["word"] == b"null") or name not in _READ


def _complete(spans: dict[str, Span]) -> bool:
    """Whether all is there that is needed, and of the right length. A time that is missing has no digits."""
    spans.setdefault("blockTimestamp", (0, 0))
    return (
        spans.keys() == _READ
        and all(spans[name][1] == width for name, width in _WIDTHS.items())
        and all(0 < spans[name][1] <= _MOST_DIGITS for name in _QUANTITIES[:3])
        and spans["blockTimestamp"][1] <= _MOST_DIGITS
        and spans["data"][1] % 2 == 0
    )


@dataclass(slots=True)
class Layouts:
    """The layouts seen so far, by length: those of one chain's nodes. Safe to share between threads."""

    _known: dict[int, list[Layout]] = field(default_factory=dict)
    _count: int = 0

    def of(self, log: Octets) -> Layout | None:
        """The layout of a log's text; None where it has none."""
        for layout in self._known.get(len(log), ()):
            if not ((log ^ layout.text) & layout.fixed).any():
                return layout
        learned = learn(log.tobytes())
        if learned is not None:
            if self._count >= _MOST_LAYOUTS:
                self._known, self._count = {}, 0
            self._known.setdefault(len(log), []).append(learned)
            self._count += 1
        return learned


class _PlainWayError(Exception):
    """Something is out of the ordinary."""


def read(
    answer: bytes | memoryview,
    first: int,
    last: int,
    asked: LogFilter,
    layouts: Layouts,
    *,
    least: int = _SMALL,
    few: int = _FEW,
) -> LogColumns | None:
    """Reads and checks the result of an ``eth_getLogs``.

    Args:
        answer: the list's JSON, without blanks around it.
        first: the first block asked for.
        last: the last block asked for.
        asked: the filter that was sent.
        layouts: seen so far; new ones are added.
        least: bytes of an answer that is worth it.
        few: logs of each length, on average, that are worth it.

    Returns:
        The logs; None where they are few, or anything about them is out of the ordinary.
    """
    if len(answer) < least:
        return None
    try:
        return _read(np.frombuffer(answer, np.uint8), first, last, asked, layouts, few)
    except _PlainWayError:
        return None


@dataclass(slots=True)
class _Group:
    """Logs of one layout: which, their hex as bytes (logs, bytes), their quantities in the layout's order."""

    layout: Layout
    rows: Integers
    octets: Octets
    quantities: list[Integers]


def _read(text: Octets, first: int, last: int, asked: LogFilter, layouts: Layouts, few: int) -> LogColumns:
    groups = list(_groups(text, layouts, few))
    count = sum(len(group.rows) for group in groups)
    numbers, tx_indexes, log_indexes = (np.empty(count, dtype=np.int64) for _ in range(3))
    times = np.full(count, -1, dtype=np.int64)
    tx_hashes, block_hashes = (np.empty((count, 32), dtype=np.uint8) for _ in range(2))
    # The address, whether there are topics, and the first of them.
    keys = np.zeros((count, 56), dtype=np.uint8)
    for group in groups:
        rows, octets = group.rows, group.octets
        for column, values in zip((numbers, tx_indexes, log_indexes, times), group.quantities, strict=False):
            column[rows] = values
        at = 32 * group.layout.topics + group.layout.data
        keys[rows, :20] = octets[:, at : at + 20]
        tx_hashes[rows] = octets[:, at + 20 : at + 52]
        block_hashes[rows] = octets[:, at + 52 : at + 84]
        if group.layout.topics:
            keys[rows, 20] = 1
            keys[rows, 24:] = octets[:, :32]
    _require(first <= numbers[0] and numbers[-1] <= last)
    _require(tx_indexes.max() <= LATEST_INDEX and log_indexes.max() <= LATEST_INDEX)
    begins = _begins(numbers, log_indexes, block_hashes, times)
    kinds, samples = _distinct(keys)
    names: list[Kind] = [
        ("0x" + key[:20].hex(), "0x" + key[24:].hex() if key[20] else None) for key in cut(keys[samples])
    ]
    alike = _alike(groups, count)
    _check_asked(names, alike, asked)
    at_block = np.flatnonzero(begins)
    block_times = times[at_block]
    _require(block_times.max() <= LATEST_SECOND)
    block_times[block_times == 0] = -1
    return LogColumns(
        numbers=numbers,
        log_indexes=log_indexes,
        tx_indexes=tx_indexes,
        tx_hashes=tx_hashes,
        kinds=kinds,
        names=names,
        alike=alike,
        block_of=np.cumsum(begins) - 1,
        block_numbers=numbers[at_block],
        block_hashes=block_hashes[at_block],
        block_times=block_times,
    )


def _groups(text: Octets, layouts: Layouts, few: int) -> Iterator[_Group]:
    """All logs of an answer's text, by layout."""
    starts = np.flatnonzero(text == _BRACE)
    _require(len(starts) > 0 and text[0] == _OPEN and text[-1] == _CLOSE and starts[0] == 1)
    _require(bool((text[starts[1:] - 1] == _COMMA).all()))
    # Behind each log a comma, behind the last the bracket.
    lengths = np.diff(starts, append=len(text)) - 1
    present = np.unique(lengths)
    _require(len(present) * few <= len(starts))
    for length in present.tolist():
        rows = np.flatnonzero(lengths == length)
        window: NDArray[np.void] = np.ndarray((len(text) - length + 1,), f"V{length}", text, strides=(1,))
        while len(rows):
            layout = layouts.of(text[starts[rows[0]] : starts[rows[0]] + length])
            if layout is None:
                raise _PlainWayError
            others = []
            for step in range(0, len(rows), _STEP):
                part = rows[step : step + _STEP]
                logs: Octets = window[starts[part]].view(np.uint8).reshape(len(part), length)
                differing = (logs ^ layout.text) & layout.fixed
                if np.bitwise_or.reduce(differing, axis=0).any():
                    fits = ~differing.any(axis=1)
                    others.append(part[~fits])
                    part, logs = part[fits], logs[fits]
                if len(part):
                    yield _group(layout, part, logs)
            rows = np.concatenate(others) if others else rows[:0]


def _group(layout: Layout, rows: Integers, logs: Octets) -> _Group:
    pairs = _nibbles(np.concatenate([logs[:, at : at + size] for at, size in layout.pairs], axis=1))
    both = pairs.view("<u2")
    octets = ((both << 4) | (both >> 8)).astype(np.uint8)
    quantities = []
    for at, size in layout.quantities:
        digits = _nibbles(logs[:, at : at + size].T).astype(np.int64)
        value = digits[0]
        for digit in digits[1:]:
            value = (value << 4) | digit
        quantities.append(value)
    for at, size in layout.unread:
        _nibbles(logs[:, at : at + size])
    return _Group(layout, rows, octets, quantities)


def _nibbles(signs: Octets) -> Octets:
    """The values of lower-case hex digits; anything else is out of the ordinary."""
    values = signs - np.uint8(ord("0"))
    letters = values > 9
    values -= letters.view(np.uint8) * np.uint8(ord("a") - 10 - ord("0"))
    _require(not values.size or (values.max() <= 15 and bool(((values > 9) == letters).all())))
    return values


def _begins(numbers: Integers, log_indexes: Integers, block_hashes: Octets, times: Integers) -> NDArray[np.bool_]:
    """Which logs are their block's first; all must be in order, and those of one block agree on its hash and time."""
    begins = np.ones(len(numbers), dtype=np.bool_)
    steps = np.diff(numbers)
    begins[1:] = steps != 0
    _require(bool((steps >= 0).all()) and bool((begins[1:] | (np.diff(log_indexes) > 0)).all()))
    words = block_hashes.view(np.uint64)
    same = (times[1:] == times[:-1]) & (words[1:] == words[:-1]).all(axis=1)
    _require(bool((begins[1:] | same).all()))
    return begins


def _distinct(keys: Octets) -> tuple[Integers, Integers]:
    """Tells equal rows from others.

    Args:
        keys: of shape (rows, bytes), a multiple of eight bytes, at most 64.

    Returns:
        For each row the number of its value, and for each value a row that has it.
    """
    words = keys.view(np.uint64)
    if bool((words == words[0]).all()):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(1, dtype=np.int64)
    sums = words[:, 0] * _ODD[0]
    for position in range(1, words.shape[1]):
        sums ^= sums >> np.uint64(29)
        sums += words[:, position] * _ODD[position]
    _, samples, places = np.unique(sums, return_index=True, return_inverse=True)
    places = places.reshape(-1)
    _require(bool((words[samples[places]] == words).all()))
    return places, samples


def _alike(groups: Sequence[_Group], count: int) -> list[Alike]:
    shapes: dict[tuple[int, int], list[_Group]] = {}
    for group in groups:
        shapes.setdefault((group.layout.topics, group.layout.data), []).append(group)
    place = np.empty(count, dtype=np.int64)
    alike = []
    for (topics, data), members in shapes.items():
        rows = np.sort(np.concatenate([group.rows for group in members]))
        place[rows] = np.arange(len(rows))
        words = np.empty((len(rows), 32 * topics + data), dtype=np.uint8)
        for group in members:
            words[place[group.rows]] = group.octets[:, : words.shape[1]]
        alike.append(Alike(rows, words[:, : 32 * topics].reshape(len(rows), topics, 32), words[:, 32 * topics :]))
    return alike


def _check_asked(names: Sequence[Kind], alike: Sequence[Alike], asked: LogFilter) -> None:
    matches = matcher(LogFilter(asked.addresses, asked.topics[:1]))
    _require(all(matches(name[0], topics_of(name)) for name in names))
    for position, values in enumerate(asked.topics[1:], 1):
        if values is None:
            continue
        for group in alike:
            _require(position < group.topics.shape[1])
            _, samples = _distinct(np.ascontiguousarray(group.topics[:, position]))
            _require(all("0x" + topic.hex() in values for topic in cut(group.topics[samples, position])))


def _require(holds: bool | np.bool_) -> None:
    if not holds:
        raise _PlainWayError
