"""A range of a source compared with what the chain's own nodes say of its blocks.

A source is believed no more than a node, whose word this is: the headers of the first and the last block, of those
that bear logs (``all``) or of a few of them (``sample``, the densest among them), and what their blooms hold. Of some
blocks the logs themselves are compared: of the densest, and of those whose bloom may hold what the source did not give.
Where no node keeps logs that old, headers are all that is compared. Everything else can be proven by receipts
(``gapless audit --deep``).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from indexer.chain.history.source import ContradictionError, SourceRange, Verify
from indexer.chain.logs.block_logs import logs_of_blocks
from indexer.chain.reads import null_blocks
from indexer.chain.records.completeness import lacking_kinds
from indexer.chain.records.errors import (
    FatalError,
    LaggingError,
    NoEndpointError,
    ProviderError,
    is_too_old,
)
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter, those_in_bloom
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import RawLog, select
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

if TYPE_CHECKING:
    from indexer.chain.rpc.requester import Requester

T = TypeVar("T")

logger = logging.getLogger(__name__)

SAMPLED_BLOCKS = 8
"""``sample`` compares so many blocks of a range that bear logs, and its ends."""

# Blocks of a range whose bloom may hold more than came, and that are asked for by hash.
_MOST_SUSPICIONS = 4
# More addresses than this in one bloom say nothing of any of them.
_MOST_HELD = 100

_HEADERS = "eth_getBlockByNumber"
_LOGS = "eth_getLogs"


class Verification:
    """Compares the ranges of one source. Thread-safe.

    Args:
        nodes: the chain's own.
        verify: how many blocks.
    """

    def __init__(self, nodes: "Requester", verify: Verify) -> None:
        self._nodes = nodes
        self._verify: Verify = verify
        self._is_met = False

    def requests(self, pieces: int, blocks: int, logs: int) -> int:
        """How many requests comparing a history takes, where nothing is suspicious.

        Args:
            pieces: in which it is read.
            blocks: that it has.
            logs: that it has; at most so many blocks bear any.
        """
        size = max(1, self._nodes.settings.batch_size)
        if self._verify == "none":
            return 1
        headers = pieces
        if self._nodes.settings.check_history == "bloom":
            headers = max(pieces, -(-blocks // size))
        elif self._verify == "all":
            headers = max(pieces, -(-min(blocks, logs) // size))
        return headers + (pieces if logs else 0)

    def compare(self, given: SourceRange, filters: Sequence[LogFilter], context: RequestContext) -> int:
        """Compares a range.

        Args:
            given: by the source.
            filters: what it was asked for.
            context: on whose account.

        Returns:
            How many blocks were compared.

        Raises:
            ContradictionError: the source contradicts a node.
            ProviderError: no node answers.
        """
        numbers = self._numbers(given)
        if not numbers:
            return 0
        own = {number: (block_hash, time) for number, block_hash, time in given.headers.items()}
        headers: list[Header] = []
        size = max(1, self._nodes.settings.batch_size)
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            found = self._ask(partial(_headers, numbers=some, context=context), _HEADERS, given.chunk, context)
            for number in some:
                header = found.get(number)
                if number in own and header is None:
                    raise _wrong(given, f"the chain has no block {number:,}")
                if header is None:
                    continue
                headers.append(header)
                if number not in own:
                    continue
                if own[number][0] != header.hash:
                    raise _wrong(
                        given,
                        f"block {number:,} is 0x{own[number][0].hex()}, and the chain's own node has "
                        f"0x{header.hash.hex()}",
                        hint="is it the data set of this chain?",
                    )
                if own[number][1] != header.time:
                    raise _wrong(given, f"the time of block {number:,} is {own[number][1]}, not {header.time}")
        if self._verify != "none":
            self._compare_logs(given, headers, filters, context)
        self._is_met = True
        return len(headers)

    def _numbers(self, given: SourceRange) -> list[int]:
        """The blocks to compare, ascending."""
        chunk = given.chunk
        if self._verify == "none":
            # That it is this chain at all is looked at once.
            return [] if self._is_met else [chunk.end.number]
        if self._nodes.settings.check_history == "bloom":
            return list(range(chunk.first, chunk.last + 1))
        named: list[int] = given.headers.numbers.tolist()
        if self._verify == "all":
            return named
        inner = named[1:-1]
        # Others in each range, the same whenever it is read.
        step = max(1, -(-len(inner) // SAMPLED_BLOCKS))
        some = inner[chunk.first % step :: step]
        densest = chunk.densest()
        return sorted({named[0], named[-1], *some, *([] if densest is None else [densest])})

    def _ask(self, question: Callable[[Endpoint], T], method: str, chunk: LogChunk, context: RequestContext) -> T:
        return self._nodes.run(
            question, method, block=chunk.end.number, oldest=chunk.first, context=context, sticky=False
        )

    # -- logs

    def _compare_logs(
        self, given: SourceRange, headers: Sequence[Header], filters: Sequence[LogFilter], context: RequestContext
    ) -> None:
        chunk = given.chunk
        densest = chunk.densest()
        known = {header.number: header for header in headers}
        asked: list[tuple[Header, LogFilter]] = []
        if densest is not None and densest in known:
            came = _logs_of(chunk, densest)
            asked += [(known[densest], part) for one in filters if (part := self._narrowed(one, came)) is not None]
        if self._nodes.settings.check_history != "none":
            asked += self._suspicions(chunk, headers, filters)
        if not asked:
            return
        try:
            answers = self._ask(partial(_logs, questions=asked, context=context), _LOGS, chunk, context)
        except ProviderError as error:
            if is_too_old(error) or isinstance(error, FatalError | LaggingError | NoEndpointError):
                logger.debug("%s: blocks %d to %d: %s", self._nodes.name, chunk.first, chunk.last, error)
                return
            raise
        for (header, part), logs in zip(asked, answers, strict=True):
            mine = {_text(log) for log in select(_logs_of(chunk, header.number), part)}
            theirs = {_text(log) for log in logs}
            if mine != theirs:
                raise _wrong(given, _difference(header.number, mine, theirs))

    def _narrowed(self, asked: LogFilter, came: Sequence[RawLog]) -> LogFilter | None:
        """What to ask of a block; of a long list, only the addresses that are there."""
        if asked.addresses is None or len(asked.addresses) <= self._nodes.settings.addresses_per_request:
            return asked
        addresses = tuple(sorted({log.address for log in select(list(came), asked)}))
        return LogFilter(addresses, asked.topics) if addresses else None

    def _suspicions(
        self, chunk: LogChunk, headers: Iterable[Header], filters: Sequence[LogFilter]
    ) -> list[tuple[Header, LogFilter]]:
        """Blocks whose bloom may hold logs that did not come: those that err least, first."""
        kinds = chunk.kinds()
        found: list[tuple[int, int, Header, list[LogFilter]]] = []
        for header in headers:
            bits = int.from_bytes(header.logs_bloom, "big")
            parts = []
            for one in filters:
                held = partial(those_in_bloom, header.logs_bloom, most=_MOST_HELD + 1)
                part = lacking_kinds(one, bits, kinds.get(header.number, set()), held)
                if part is not None and len(part.addresses or ()) <= _MOST_HELD:
                    parts.append(part)
            if parts:
                found.append((bits.bit_count(), header.number, header, parts))
        found.sort(key=lambda one: one[:2])
        return [(header, part) for _, _, header, parts in found[:_MOST_SUSPICIONS] for part in parts]


def _headers(endpoint: Endpoint, numbers: Sequence[int], context: RequestContext) -> dict[int, Header]:
    found, runs = null_blocks.headers(endpoint, numbers, context)
    for number in numbers:
        if number not in found and not any(run.holds(number) for run in runs):
            raise LaggingError(f"it lacks block {number:,}", host=endpoint.host)
    return found


def _logs(
    endpoint: Endpoint, questions: Sequence[tuple[Header, LogFilter]], context: RequestContext
) -> list[list[RawLog]]:
    return logs_of_blocks(endpoint, questions, context)


def _logs_of(chunk: LogChunk, number: int) -> list[RawLog]:
    if (read := chunk.columns) is None:
        return [log for log in chunk.logs if log.block_number == number]
    rows = (read.numbers == number).nonzero()[0]
    return read.logs(rows)


def _text(log: RawLog) -> tuple[int, int, str, str, str, str]:
    topics = ",".join(log.topics).lower()
    return log.log_index, log.tx_index, log.address, topics, log.data.lower(), log.tx_hash.lower()


def _difference(number: int, mine: set[tuple[int, int, str, str, str, str]], theirs: object) -> str:
    assert isinstance(theirs, set)
    if lacking := sorted(theirs - mine):
        at = lacking[0][0]
        what = "differs" if any(one[0] == at for one in mine) else "is left out"
        return f"log {at} of block {number:,} {what}; the chain's own node has it"
    return f"log {min(mine - theirs)[0]} of block {number:,} is not in the chain"


def _wrong(given: SourceRange, text: str, hint: str | None = None) -> ContradictionError:
    return ContradictionError(text, host=given.chunk.host, hint=hint)
