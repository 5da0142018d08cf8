"""Logs in columns, straight from the bytes of an answer to ``eth_getLogs``: no object is made for any of them.

JSON and the checks of an answer under the interpreter's lock cost more than all else in a backfill. Here both are done
for many logs at once, with numpy, which works without that lock. Every byte of the answer is looked at: it is part of a
:class:`~indexer.chain.layouts.Layout` that stands there in full, or a hex digit. All checks of
:func:`indexer.chain.logs.check_logs` are made. Where anything is out of the ordinary (another order of logs, a log that
was not asked for, one that was removed, blanks, capitals, a member of another kind) the answer is not judged here:
:func:`read` says None, and the plain way finds out what it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.chain.filters import LogFilter
from indexer.chain.layouts import Layout, Octets, learn
from indexer.chain.logs import LATEST_INDEX, CheckedLogs, RawLog, matcher
from indexer.chain.wire import LATEST_SECOND

Integers = NDArray[np.int64]

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

Kind = tuple[str, str | None]
"""What decides where a log belongs: its address and its first topic, lower-case."""


@dataclass(frozen=True, slots=True)
class Alike:
    """The logs of an answer that have the same number of topics and as many bytes of data.

    Attributes:
        rows: which of the answer's logs, ascending.
        topics: of shape (logs, topics, 32).
        data: of shape (logs, bytes).
    """

    rows: Integers
    topics: Octets
    data: Octets

    def picked(self, inside: NDArray[np.bool_]) -> "Alike":
        """Some of them."""
        return Alike(self.rows[inside], self.topics[inside], self.data[inside])


@dataclass(slots=True)
class LogColumns:
    """Checked logs, sorted by block and log index, each once; one element for each in every column.

    Attributes:
        numbers: of the blocks.
        log_indexes: in the block.
        tx_indexes: in the block.
        tx_hashes: of shape (logs, 32).
        kinds: index into ``names``.
        names: the kinds that occur.
        alike: the topics and data.
        block_of: index into the blocks.
        block_numbers: of the blocks that bear the logs, ascending.
        block_hashes: of shape (blocks, 32).
        block_times: Unix seconds; -1 where no log told.
    """

    numbers: Integers
    log_indexes: Integers
    tx_indexes: Integers
    tx_hashes: Octets
    kinds: Integers
    names: list[Kind]
    alike: list[Alike]
    block_of: Integers
    block_numbers: Integers
    block_hashes: Octets
    block_times: Integers

    def __len__(self) -> int:
        return len(self.numbers)

    def addresses(self) -> Octets:
        """The addresses of the kinds, of shape (kinds, 20)."""
        whole = b"".join([bytes.fromhex(address[2:]) for address, _ in self.names])
        return np.frombuffer(whole, np.uint8).reshape(-1, 20)

    def hashes(self) -> dict[int, bytes]:
        """Block -> its hash."""
        return dict(zip(self.block_numbers.tolist(), _cut(self.block_hashes), strict=True))

    def times(self) -> dict[int, int]:
        """Block -> Unix seconds, for those blocks whose logs told it."""
        told = self.block_times >= 0
        return dict(zip(self.block_numbers[told].tolist(), self.block_times[told].tolist(), strict=True))

    def plain(self) -> CheckedLogs:
        """The same, log by log."""
        return CheckedLogs(self.logs(), self.hashes(), self.times())

    def logs(self, rows: Integers | None = None) -> list[RawLog]:
        """The logs as objects.

        Args:
            rows: which of them, ascending; all by default.
        """
        if rows is not None:
            return self._picked(rows)
        made: list[RawLog | None] = [None] * len(self)
        for group in self.alike:
            for row, log in zip(group.rows.tolist(), self._made(group), strict=True):
                made[row] = log
        return [log for log in made if log is not None]

    def _picked(self, rows: Integers) -> list[RawLog]:
        found: dict[int, RawLog] = {}
        for group in self.alike:
            inside = np.isin(group.rows, rows)
            part = group.picked(inside)
            found.update(zip(part.rows.tolist(), self._made(part), strict=True))
        return [found[row] for row in rows.tolist()]

    def _made(self, group: Alike) -> Iterator[RawLog]:
        rows = group.rows
        columns = (self.kinds, self.numbers, self.block_of, self.tx_indexes, self.log_indexes)
        block_hashes = ["0x" + block_hash.hex() for block_hash in _cut(self.block_hashes)]
        topics = group.topics.reshape(len(rows), 32 * group.topics.shape[1])
        for kind, number, block, tx_index, log_index, tx_hash, words, data in zip(
            *(column[rows].tolist() for column in columns),
            _cut(self.tx_hashes[rows]),
            _cut(topics),
            _cut(group.data),
            strict=True,
        ):
            yield RawLog(
                self.names[kind][0],
                ["0x" + words[at : at + 32].hex() for at in range(0, len(words), 32)],
                "0x" + data.hex(),
                number,
                block_hashes[block],
                "0x" + tx_hash.hex(),
                tx_index,
                log_index,
            )

    def only(self, wanted: LogFilter) -> "LogColumns | None":
        """Those that a narrower filter asks for, where it looks at no more of a log than its kind; else None."""
        if any(values is not None for values in wanted.topics[1:]):
            return None
        matches = matcher(wanted)
        fits = np.array([matches(name[0], _topics(name)) for name in self.names], dtype=np.bool_)
        kept = fits[self.kinds] if len(fits) else np.zeros(0, dtype=np.bool_)
        place = np.cumsum(kept) - 1
        bearing, block_of = np.unique(self.block_of[kept], return_inverse=True)
        alike = []
        for group in self.alike:
            inside = kept[group.rows]
            if inside.any():
                alike.append(Alike(place[group.rows[inside]], group.topics[inside], group.data[inside]))
        return LogColumns(
            numbers=self.numbers[kept],
            log_indexes=self.log_indexes[kept],
            tx_indexes=self.tx_indexes[kept],
            tx_hashes=self.tx_hashes[kept],
            kinds=self.kinds[kept],
            names=self.names,
            alike=alike,
            block_of=block_of.reshape(-1),
            block_numbers=self.block_numbers[bearing],
            block_hashes=self.block_hashes[bearing],
            block_times=self.block_times[bearing],
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
        ("0x" + key[:20].hex(), "0x" + key[24:].hex() if key[20] else None) for key in _cut(keys[samples])
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
    _require(all(matches(name[0], _topics(name)) for name in names))
    for position, values in enumerate(asked.topics[1:], 1):
        if values is None:
            continue
        for group in alike:
            _require(position < group.topics.shape[1])
            _, samples = _distinct(np.ascontiguousarray(group.topics[:, position]))
            _require(all("0x" + topic.hex() in values for topic in _cut(group.topics[samples, position])))


def _topics(name: Kind) -> list[str]:
    return [] if name[1] is None else [name[1]]


def _cut(matrix: Octets) -> list[bytes]:
    """The rows of a matrix."""
    whole, width = matrix.tobytes(), matrix.shape[1]
    return [whole[at : at + width] for at in range(0, len(whole), width)] if width else [b""] * len(matrix)


def _require(holds: bool | np.bool_) -> None:
    if not holds:
        raise _PlainWayError
