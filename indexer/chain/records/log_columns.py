"""Checked logs in columns, one element for each log in every array, and the range of blocks that they were read for."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.block_records import BlockColumns
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs, RawLog, matcher

Integers = NDArray[np.int64]
Octets = NDArray[np.uint8]

Kind = tuple[str, str | None]
"""What decides where a log belongs: its address and its first topic, lower-case."""

Blocks = dict[int, tuple[bytes, int]]
"""Block -> (hash, Unix seconds)."""

ToldTime = tuple[int, bytes, int]
"""A block, its hash, and its time in Unix seconds as only its logs tell it."""


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
        return dict(zip(self.block_numbers.tolist(), cut(self.block_hashes), strict=True))

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
        block_hashes = ["0x" + block_hash.hex() for block_hash in cut(self.block_hashes)]
        topics = group.topics.reshape(len(rows), 32 * group.topics.shape[1])
        for kind, number, block, tx_index, log_index, tx_hash, words, data in zip(
            *(column[rows].tolist() for column in columns),
            cut(self.tx_hashes[rows]),
            cut(topics),
            cut(group.data),
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
        fits = np.array([matches(name[0], topics_of(name)) for name in self.names], dtype=np.bool_)
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


def topics_of(name: Kind) -> list[str]:
    """The topics that a kind tells: the first, or none."""
    return [] if name[1] is None else [name[1]]


def cut(matrix: Octets) -> list[bytes]:
    """The rows of a matrix."""
    whole, width = matrix.tobytes(), matrix.shape[1]
    return [whole[at : at + width] for at in range(0, len(whole), width)] if width else [b""] * len(matrix)


@dataclass(slots=True)
class LogChunk:
    """A range of blocks, read completely.

    Attributes:
        first: its first block.
        last: its last block, or a number after it that has none.
        read: all matching logs of the range, checked, sorted by block and log index, each once.
        block_columns: every block that bears a log, and the end.
        end: the header of ``last``, or of the newest block before it where it has none.
        host: the endpoint that answered, ``https://host/***``.
        requests: HTTP requests that it took, failed ones included.
        bytes: bytes of all answers.
        log_bytes: bytes of the logs' own answer, by which the next range is sized.
        seconds: the time that this answer took.
        told_time: to be compared with the block's header before the other times that logs tell are believed; None:
            there is nothing to compare.
    """

    first: int
    last: int
    read: CheckedLogs | LogColumns
    block_columns: BlockColumns
    end: Header
    host: str
    requests: int
    bytes: int
    log_bytes: int = 0
    seconds: float = 0.0
    told_time: ToldTime | None = None

    @property
    def count(self) -> int:
        """How many logs there are."""
        return len(self.read) if isinstance(self.read, LogColumns) else len(self.read.logs)

    @property
    def columns(self) -> LogColumns | None:
        """The logs in columns, where they are."""
        return self.read if isinstance(self.read, LogColumns) else None

    @property
    def logs(self) -> list[RawLog]:
        """The logs, one by one: made at the first look."""
        if isinstance(self.read, LogColumns):
            self.read = self.read.plain()
        return self.read.logs

    def kinds(self) -> dict[int, set[Kind]]:
        """The kinds of the logs, by block."""
        found: dict[int, set[Kind]] = defaultdict(set)
        if (read := self.columns) is None:
            for log in self.logs:
                found[log.block_number].add((log.address, log.topics[0].lower() if log.topics else None))
            return found
        pairs = np.unique(read.block_of * max(1, len(read.names)) + read.kinds)
        for pair in pairs.tolist():
            block, kind = divmod(pair, len(read.names))
            found[int(read.block_numbers[block])].add(read.names[kind])
        return found

    def densest(self) -> int | None:
        """The block that bears most logs; None where no block bears any."""
        if not self.count:
            return None
        if (read := self.columns) is not None:
            return int(read.block_numbers[np.bincount(read.block_of).argmax()])
        return Counter(log.block_number for log in self.logs).most_common(1)[0][0]

    @property
    def blocks(self) -> Blocks:
        """Every block that bears a log, and the end."""
        return {number: (block_hash, time) for number, block_hash, time in self.block_columns.items()}
