"""A range of blocks as it was read: in columns where the answer allowed it, as objects for callers that want those."""

from dataclasses import dataclass

from indexer.block_columns import BlockColumns
from indexer.chain.records.log_columns import LogColumns
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs, RawLog

Blocks = dict[int, tuple[bytes, int]]
"""Block -> (hash, Unix seconds)."""

ToldTime = tuple[int, bytes, int]
"""A block, its hash, and its time in Unix seconds as only its logs tell it."""


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

    @property
    def blocks(self) -> Blocks:
        """Every block that bears a log, and the end."""
        return {number: (block_hash, time) for number, block_hash, time in self.block_columns.items()}
