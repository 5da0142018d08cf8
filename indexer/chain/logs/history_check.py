"""History compared with the blooms of headers: logs that a node left out of a range without a word (``check_history``).

``bloom`` compares every block; ``sample`` one chunk in eight, there one block in a thousand and the densest one. An
endpoint that left logs out is asked last for history, and what it answers all the same is compared block by block.

A bloom says only that a block *may* hold an address and a topic. So a block of which no log with both came is asked for
by its hash, elsewhere where there is another endpoint; with one endpoint, some whose bloom hardly errs are looked up in
their receipts. Logs that come prove the omission: the range is read anew elsewhere. On a busy chain blooms err often:
those that err least are asked for first, within bounds, and how many could not be decided is logged at the end.
"""

import heapq
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from indexer.block_records import BlockColumns
from indexer.chain.logs import fetch
from indexer.chain.logs.block_logs import logs_from_receipts, logs_of_blocks
from indexer.chain.reads import null_blocks
from indexer.chain.reads.questions import LogQuestion, wrong
from indexer.chain.records.completeness import lacking_kinds
from indexer.chain.records.errors import LaggingError, ProviderError
from indexer.chain.records.log_columns import Kind, LogChunk
from indexer.chain.records.log_filter import LogFilter, in_bloom, kind_of, those_in_bloom
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs, RawLog, select, sorted_once
from indexer.chain.rpc.config import ClientSettings, RequestContext
from indexer.chain.rpc.endpoint import Endpoint

if TYPE_CHECKING:
    from indexer.chain.rpc.requester import Requester

T = TypeVar("T")

logger = logging.getLogger(__name__)

SAMPLED_CHUNKS = 8
"""``sample`` compares one chunk in so many: one request more for eight."""

_SAMPLED_BLOCKS = 1_000
# Suspicious blocks of a chunk that are asked for by hash: so many, or this share of those compared if that is more.
_MOST_ASKED = 100
_ASKED_SHARE = 10
# More addresses than this in one bloom say nothing of any of them.
_MOST_HELD = 100
# Blocks of a chunk whose receipts are read, and how seldom their blooms err at most.
_MOST_RECEIPTS = 2
_HARDLY = 0.01

_BY_HASH = "eth_getLogs"
_HEADERS = "eth_getBlockByNumber"


def requests(settings: ClientSettings, chunks: int, blocks: int) -> int:
    """How many requests for headers comparing a history takes, where no block is suspicious.

    Args:
        settings: the chain's.
        chunks: in which it is read.
        blocks: that it has.
    """
    match settings.check_history:
        case "bloom":
            return max(chunks, -(-blocks // max(1, settings.batch_size)))
        case "sample":
            return -(-chunks // SAMPLED_CHUNKS)
    return 0


def calls(settings: ClientSettings, chunks: int, blocks: int) -> int:
    """How many headers these requests hold; arguments as of :func:`requests`."""
    match settings.check_history:
        case "bloom":
            return blocks
        case "sample":
            return -(-chunks // SAMPLED_CHUNKS) + blocks // (SAMPLED_CHUNKS * _SAMPLED_BLOCKS)
    return 0


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """A block that may hold more logs than came, and how likely its bloom errs about it."""

    header: Header
    lacking: tuple[LogFilter, ...]
    chance: float


class HistoryCheck:
    """Compares the chunks of one scan. Thread-safe.

    Args:
        client: the chain; its settings say how much is compared.
        filters: what the scan asks for.
    """

    def __init__(self, client: "Requester", filters: Sequence[LogFilter]) -> None:
        self._client = client
        self._filters = filters
        self._how = client.settings.check_history
        self._chunks = itertools.count()
        self._lock = threading.Lock()
        self._tally: Counter[str] = Counter()

    def avoided(self) -> list[Endpoint]:
        """The endpoints that left logs out of history lately: others are asked first."""
        now = self._client.clock()
        return [endpoint for endpoint in self._client.pool.endpoints if endpoint.history.holds(now)]

    def checked(
        self, endpoint: Endpoint, chunk: LogChunk, questions: Sequence[LogQuestion], context: RequestContext
    ) -> LogChunk:
        """A chunk with what was left out of it.

        Args:
            endpoint: whose answer the chunk is.
            chunk: the chunk.
            questions: what was asked, to ask it elsewhere.
            context: on whose account.

        Raises:
            AnswerError: it holds a log that its block does not have, and no other endpoint gives the range.
            Stopped: the scan ended.
        """
        numbers = self._numbers(endpoint, chunk)
        if not numbers:
            return chunk
        kinds, hashes = chunk.kinds(), {number: block[0] for number, block in chunk.blocks.items()}
        budget = max(_MOST_ASKED, len(numbers) // _ASKED_SHARE)
        suspicions: list[_Suspicion] = []
        size = max(1, self._client.settings.batch_size)
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            answer = self._ask(partial(_headers, numbers=some, context=context), _HEADERS, chunk, context)
            if answer is None:
                self._count("failed", len(some))
                continue
            source, headers = answer
            told = [header for header in headers if hashes.get(header.number, header.hash) == header.hash]
            self._count("failed", len(headers) - len(told))
            self._count("compared", len(told))
            if not self._holds(endpoint, source, told, kinds, chunk, context):
                return self._renewed(endpoint, chunk, questions, context)
            found = [one for header in told if (one := self._suspicion(source, header, kinds[header.number]))]
            if len(suspicions) + len(found) > budget:
                self._count("unasked", len(suspicions) + len(found) - budget)
            suspicions = heapq.nsmallest(budget, [*suspicions, *found], key=lambda one: one.chance)
        fresh = self._left_out(endpoint, chunk, suspicions, context)
        return self._completed(endpoint, chunk, fresh, questions, context) if fresh else chunk

    def report(self) -> None:
        """Log at the scan's end what could not be compared or decided."""
        with self._lock:
            tally, self._tally = self._tally, Counter()
        undecided = {
            "headers could not be had": tally["failed"],
            "headers hold no bloom": tally["untold"],
            "blooms may hold logs that did not come, more than are asked for": tally["unasked"],
        }
        self._client.compared.add(tally["compared"], sum(undecided.values()))
        if any(undecided.values()):
            logger.log(
                logging.WARNING if self._how == "bloom" else logging.INFO,
                "%s: history was compared with the blooms of %d blocks; not decided: %s (check_history)",
                *(self._client.name, tally["compared"]),
                "; ".join(f"{count:,} blocks whose {why}" for why, count in undecided.items() if count),
            )

    def _count(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._tally[what] += count

    # -- what is compared

    def _numbers(self, endpoint: Endpoint, chunk: LogChunk) -> Sequence[int]:
        """The blocks of a chunk to compare, ascending."""
        if self._how == "none":
            return ()
        every = range(chunk.first, chunk.end.number + 1)
        if all(one.blooms.broken for one in self._client.pool.endpoints):
            self._count("untold", len(every))
            return ()
        if self._how == "bloom" or endpoint.history.holds(self._client.clock()):
            return every
        if next(self._chunks) % SAMPLED_CHUNKS:
            return ()
        step = max(_SAMPLED_BLOCKS, -(-len(every) // max(1, self._client.settings.batch_size - 1)))
        some = set(every[-chunk.first % step :: step])
        return sorted(some | ({densest} if (densest := chunk.densest()) is not None else set()))

    def _ask(
        self,
        question: Callable[[Endpoint], T],
        method: str,
        chunk: LogChunk,
        context: RequestContext,
        *,
        but: Endpoint | None = None,
    ) -> tuple[Endpoint, T] | None:
        """One answer and whose it is, of any endpoint but one where there is another; None where none can be had."""
        avoid = self.avoided() if but is None else [*self.avoided(), but]
        try:
            return self._client.run(
                lambda one: (one, question(one)),
                method,
                block=chunk.end.number,
                oldest=chunk.first,
                context=context,
                sticky=False,
                avoid=avoid,
            )
        except ProviderError as error:
            logger.debug("%s: blocks %d to %d: %s", self._client.name, chunk.first, chunk.last, error)
            return None

    # -- a log that no bloom holds

    def _holds(
        self,
        endpoint: Endpoint,
        source: Endpoint,
        headers: Iterable[Header],
        kinds: Mapping[int, set[Kind]],
        chunk: LogChunk,
        context: RequestContext,
    ) -> bool:
        """Whether the blooms hold the logs that came. Where they do not, the block's own logs say which of both errs.

        Args:
            endpoint: whose the logs are.
            source: whose the headers are; what its blooms are worth is learned.
            headers: of some blocks.
            kinds: what came, by block.
            chunk: the chunk.
            context: on whose account.
        """
        trust = source.blooms
        with source.lock:
            trust.kept |= any(any(header.logs_bloom) for header in headers)
        for header in headers:
            bits = int.from_bytes(header.logs_bloom, "big")
            strange = {address for address, _ in kinds[header.number] if not in_bloom(bits, address)}
            if not strange or trust.broken or not (bits or trust.kept):
                continue
            asked = LogFilter(tuple(sorted(strange)))
            question = partial(logs_of_blocks, questions=[(header, asked)], context=context)
            answer = self._ask(question, _BY_HASH, chunk, context, but=endpoint)
            if answer is None:
                self._count("failed")
            elif strange <= {log.address for log in answer[1][0]}:
                with source.lock:
                    trust.broken = True
                logger.warning(
                    "%s: %s: the bloom of block %d does not hold the block's own logs: history is not compared with "
                    'the blooms of this endpoint (check_history = "none" spares the questions)',
                    *(self._client.name, source.host, header.number),
                )
            else:
                self._mark(endpoint, f"gave logs of block {header.number:,} that the block does not have", chunk)
                return False
        return True

    def _renewed(
        self, endpoint: Endpoint, chunk: LogChunk, questions: Sequence[LogQuestion], context: RequestContext
    ) -> LogChunk:
        """The chunk as another endpoint gives it."""
        other = self._elsewhere(endpoint, chunk, questions, context)
        if other is None or other.last < chunk.last:
            error = wrong("eth_getLogs gives logs that their block does not have", endpoint)
            error.blocks = chunk.first, chunk.last
            raise error
        return other

    # -- logs that a bloom may hold and that did not come

    def _suspicion(self, source: Endpoint, header: Header, kinds: set[Kind]) -> _Suspicion | None:
        bits = int.from_bytes(header.logs_bloom, "big")
        if source.blooms.broken or not (bits or source.blooms.kept):
            self._count("untold")
            return None
        chance, lacking = 1.0, []
        for one in self._filters:
            part = lacking_kinds(one, bits, kinds, partial(those_in_bloom, header.logs_bloom, most=_MOST_HELD + 1))
            if part is not None and len(part.addresses or ()) > _MOST_HELD:
                self._count("unasked")
                return None
            if part is not None:
                lacking.append(part)
                tried = len(one.addresses) if one.addresses is not None else one.longest_topics
                chance = min(chance, tried * (bits.bit_count() / 2048) ** 3)
        return _Suspicion(header, tuple(lacking), chance) if lacking else None

    def _left_out(
        self, endpoint: Endpoint, chunk: LogChunk, suspicions: Sequence[_Suspicion], context: RequestContext
    ) -> list[tuple[Header, RawLog]]:
        """Logs that the blocks have and the chunk lacks."""
        asked = [(one.header, part) for one in suspicions for part in one.lacking]
        if not asked:
            return []
        answer = self._ask(lambda one: logs_of_blocks(one, asked, context), _BY_HASH, chunk, context, but=endpoint)
        if answer is None:
            self._count("unasked", len(suspicions))
            return []
        source, answers = answer
        found = [(header, log) for (header, _), logs in zip(asked, answers, strict=True) for log in logs]
        if source is endpoint:
            silent = [one for one in suspicions if all(header is not one.header for header, _ in found)]
            found += self._in_receipts(endpoint, silent, chunk, context)
        if not found:
            return []
        known = {(log.block_number, log.log_index) for log in chunk.logs}
        return [
            (header, log)
            for header, log in found
            if (log.block_number, log.log_index) not in known
            and in_bloom(int.from_bytes(header.logs_bloom, "big"), log.address)
        ]

    def _in_receipts(
        self, endpoint: Endpoint, suspicions: Iterable[_Suspicion], chunk: LogChunk, context: RequestContext
    ) -> list[tuple[Header, RawLog]]:
        """What the receipts of some blocks hold whose blooms hardly err: an index of logs has no part in them."""
        found = []
        for one in [one for one in suspicions if one.chance < _HARDLY][:_MOST_RECEIPTS]:
            number, own = one.header.number, "0x" + one.header.hash.hex()
            question = partial(logs_from_receipts, number=number, context=context)
            answer = self._ask(question, "eth_getBlockReceipts", chunk, context)
            logs = [] if answer is None else [log for log in answer[1].logs if log.block_hash.lower() == own]
            found += [(one.header, log) for part in one.lacking for log in select(logs, part)]
        return found

    def _completed(
        self,
        endpoint: Endpoint,
        chunk: LogChunk,
        fresh: Sequence[tuple[Header, RawLog]],
        questions: Sequence[LogQuestion],
        context: RequestContext,
    ) -> LogChunk:
        """The chunk with what was left out, and with what another endpoint gives of the range besides."""
        blocks = len({header.number for header, _ in fresh})
        text = f"left out {len(fresh):,} logs of {blocks:,} blocks, the first is {fresh[0][0].number:,}"
        self._mark(endpoint, text, chunk)
        known = {**{header.number: (header.hash, header.time) for header, _ in fresh}, **chunk.blocks}
        logs = [*chunk.logs, *(log for _, log in fresh)]
        other = self._elsewhere(endpoint, chunk, questions, context)
        if other is not None and all(known.get(number, block) == block for number, block in other.blocks.items()):
            known = {**other.blocks, **known}
            logs += other.logs
        logs = sorted_once(logs)
        bearing = {log.block_number for log in logs}
        columns = BlockColumns.of({number: known[number] for number in sorted(bearing | {chunk.end.number})})
        read = CheckedLogs(logs, {number: known[number][0] for number in bearing}, {})
        return replace(chunk, read=read, block_columns=columns)

    def _elsewhere(
        self, endpoint: Endpoint, chunk: LogChunk, questions: Sequence[LogQuestion], context: RequestContext
    ) -> LogChunk | None:
        """The same range from another endpoint; None where there is none that gives it."""
        answer = self._ask(
            lambda one: None if one is endpoint else fetch.chunk(one, chunk.first, chunk.last, questions, context),
            *(kind_of(self._filters), chunk, context),
            but=endpoint,
        )
        return None if answer is None else answer[1]

    def _mark(self, endpoint: Endpoint, text: str, chunk: LogChunk) -> None:
        """Ask the endpoint last for history for a while, and say so."""
        with endpoint.lock:
            endpoint.history.refused(endpoint.clock())
        if not endpoint.troubles.met("history left out"):
            logger.warning(
                "%s: %s: eth_getLogs %s (range %d to %d): the range is read anew, history is asked for elsewhere where "
                "there is another endpoint. What it gave before can be proven: gapless audit --deep",
                *(self._client.name, endpoint.host, text, chunk.first, chunk.last),
            )


def _headers(endpoint: Endpoint, numbers: Sequence[int], context: RequestContext) -> list[Header]:
    """The headers of those numbers that have a block."""
    found, runs = null_blocks.headers(endpoint, numbers, context)
    for number in numbers:
        if number not in found and not any(run.holds(number) for run in runs):
            raise LaggingError(f"it lacks block {number:,}", host=endpoint.host)
    return [found[number] for number in sorted(found)]
