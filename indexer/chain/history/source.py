"""What a source of history is, and what reads history."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from indexer.block_records import BlockColumns
from indexer.chain.records.errors import AnswerError
from indexer.chain.records.log_columns import LogChunk, Octets
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import RequestContext
from indexer.intervals import BlockRange

Verify: TypeAlias = Literal["all", "sample", "none"]
"""How many blocks of what a source gives are compared with the chain's own nodes."""


class HistoryReader(Protocol):
    """Reads logs of blocks that can no longer be reorganised."""

    def scan(
        self,
        ranges: Iterable[tuple[int, int]],
        filters: LogFilter | Sequence[LogFilter],
        *,
        in_flight: int = 4,
        stop: threading.Event | None = None,
    ) -> Iterator[LogChunk]:
        """Reads all matching logs of some ranges, as :meth:`indexer.chain.client.ChainClient.scan` does."""
        ...


class ContradictionError(AnswerError):
    """A source contradicts the chain's own nodes, or itself."""


@dataclass(slots=True)
class SourceRange:
    """A range as a source gave it, checked against the question.

    Attributes:
        chunk: the range; ``host`` is the source.
        headers: of all blocks that the source named, ascending; the first and the last of the range are among them.
        parents: the hashes of their parents, of shape (blocks, 32).
        compared: how many of the blocks were compared with a node's headers.
    """

    chunk: LogChunk
    headers: BlockColumns
    parents: Octets
    compared: int = 0


class HistorySource(Protocol):
    """History that does not come from a node. Thread-safe.

    Attributes:
        host: what may be shown of where it is.
    """

    host: str

    def reach(self, context: RequestContext) -> BlockRange:
        """The blocks that it has, all of them final there; the last may be before the first.

        Raises:
            ProviderError: it cannot be said.
        """
        ...

    def read(
        self,
        first: int,
        last: int,
        filters: Sequence[LogFilter],
        context: RequestContext,
        *,
        parent: bytes | None = None,
    ) -> SourceRange:
        """All matching logs of a range, which may end before ``last``.

        Args:
            first: the first block.
            last: the last block.
            filters: what to ask for; a log that several match comes once.
            context: on whose account.
            parent: the hash that the block before the first must have, where it is known.

        Raises:
            AnswerError: what it says contradicts the question or itself.
            ProviderError: it does not answer.
            Stopped: the caller wants it no more.
        """
        ...

    def abort(self) -> None:
        """Ends what is under way, and what is to come."""
        ...

    def close(self) -> None:
        """Closes idle connections."""
        ...
