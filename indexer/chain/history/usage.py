"""What became of a source: for people, and to know when it is used."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from indexer.chain.records.errors import AnswerError, FatalError, ProviderError, without_numbers

logger = logging.getLogger(__name__)

# After so many failures in a row it rests: so many seconds at first, doubled up to the longest.
_PATIENCE = 3
_FIRST_REST = 10.0
_LONGEST_REST = 600.0


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What one source was good for.

    Attributes:
        host: the source.
        blocks: that were read from it and found true, as far as they were compared.
        compared: how many of its blocks were compared with a node's headers.
        fallback_blocks: those that it was asked for, and that were read from the nodes.
        contradictions: ranges in which it contradicted a node, or itself.
        last_problem: the last reason to read from the nodes; None: there was none.
    """

    host: str
    blocks: int = 0
    compared: int = 0
    fallback_blocks: int = 0
    contradictions: int = 0
    last_problem: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self == SourceCounts(self.host)


class SourceUsage:
    """Counts, and says when a source rests. Thread-safe.

    Args:
        chain: name of the chain, for the log.
        host: the source.
        clock: monotonic seconds.
    """

    def __init__(self, chain: str, host: str, clock: Callable[[], float]) -> None:
        self._chain, self._host, self._clock = chain, host, clock
        self._lock = threading.Lock()
        self._counts = SourceCounts(host)
        self._in_a_row = 0
        self._rests_until = float("-inf")
        self._told: set[str] = set()
        self._lacks: tuple[int, bool] | None = None

    def rests(self) -> bool:
        """Whether it is left alone for a while."""
        with self._lock:
            return self._clock() < self._rests_until

    def read(self, blocks: int, compared: int) -> None:
        """A range was read and found true, as far as some of its blocks were compared."""
        with self._lock:
            count = self._counts
            self._counts = replace(count, blocks=count.blocks + blocks, compared=count.compared + compared)
            self._in_a_row = 0

    def fell_back(self, blocks: int) -> None:
        """So many blocks were read from the nodes."""
        with self._lock:
            self._counts = replace(self._counts, fallback_blocks=self._counts.fallback_blocks + blocks)

    def lacks(self, first: int, last: int, blocks: int) -> None:
        """The source has blocks of a range only, and so many others are wanted."""
        text = f"it has blocks {first:,} to {last:,} only" if first <= last else "it has no final block"
        with self._lock:
            is_new = (first, first <= last) != self._lacks
            self._lacks = first, first <= last
            if is_new or first > last:
                self._counts = replace(self._counts, last_problem=text)
        logger.log(
            logging.INFO if is_new else logging.DEBUG,
            "%s: %s: %s; %d blocks besides are read from the nodes",
            *(self._chain, self._host, text, blocks),
        )

    def failed(self, error: ProviderError, first: int, last: int) -> None:
        """A range is read from the nodes instead.

        Args:
            error: why.
            first: its first block.
            last: its last block.
        """
        text = str(error).removeprefix(f"{self._host}: ")
        with self._lock:
            self._in_a_row += 1
            rests = self._in_a_row >= _PATIENCE or (isinstance(error, FatalError) and error.scope == "endpoint")
            wait = min(_LONGEST_REST, _FIRST_REST * 2.0 ** max(0, self._in_a_row - _PATIENCE))
            if rests:
                self._rests_until = self._clock() + wait
            count = self._counts
            self._counts = replace(
                count,
                contradictions=count.contradictions + isinstance(error, AnswerError),
                last_problem=f"blocks {first:,} to {last:,}: {text}",
            )
            kind = without_numbers(text)
            is_new = kind not in self._told
            self._told.add(kind)
        logger.log(
            logging.WARNING if is_new else logging.INFO,
            "%s: %s: %s%s; blocks %d to %d are read from the nodes%s",
            *(self._chain, self._host, text, f" ({error.hint})" if error.hint and is_new else "", first, last),
            f", and it is asked again in {wait:.0f} s" if rests else "",
        )

    def taken(self) -> SourceCounts:
        """What came of it since this was last asked for."""
        with self._lock:
            counts, self._counts = self._counts, SourceCounts(self._host)
        return counts
