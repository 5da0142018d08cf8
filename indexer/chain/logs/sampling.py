"""What reading some block ranges will take, and what their logs stand in, from a few samples of them."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from indexer.chain.logs import address_slices, fetch, history_check
from indexer.chain.logs.address_slices import samples
from indexer.chain.reads.questions import LogQuestion
from indexer.chain.reads.transactions import DetailsRequest, calls
from indexer.chain.records.errors import RangeError
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.requester import Requester


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a scan will take. All but ``blocks`` and ``sampled_*`` is an extrapolation.

    Attributes:
        blocks: the blocks to read.
        logs: the matching logs.
        requests: HTTP requests.
        bytes: bytes of the answers.
        seconds: the time, as far as the node and the network go.
        sampled_blocks: the blocks that were read for this.
        sampled_requests: the requests that this took.
        check_requests: those of ``requests`` that bring headers whose blooms are compared (``check_history``).
        calls: JSON-RPC calls by method, which is what providers charge for.
    """

    blocks: int
    logs: int
    requests: int
    bytes: int
    seconds: float
    sampled_blocks: int
    sampled_requests: int
    check_requests: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DetailsEstimate:
    """What bears the logs of some ranges, as far as it is wanted: an extrapolation.

    Attributes:
        blocks: the blocks that are wanted.
        transactions: the transactions that are wanted.
        receipts: the receipts that are wanted.
        questions: JSON-RPC questions that bring all of it.
        calls: the questions, by method.
    """

    blocks: int
    transactions: int
    receipts: int
    questions: int
    calls: Mapping[str, int]


_SAMPLES = 8
_WIDTH = 500  # blocks of a sample


def estimate(
    requester: Requester, ranges: Sequence[tuple[int, int]], filters: Sequence[LogFilter], *, in_flight: int = 4
) -> Estimate:
    """Samples ranges and extrapolates.

    Args:
        requester: the chain.
        ranges: inclusive ranges, not overlapping.
        filters: what will be asked for.
        in_flight: the requests that will be under way at once.

    Raises:
        ProviderError: a sample could not be read.
    """
    blocks = sum(last - first + 1 for first, last in ranges)
    context = RequestContext()
    sampled = logs = size = bearing = 0
    header_requests = 0
    seconds = 0.0
    taken = 0
    questions = _questions(requester, ranges, filters, context)
    # Long lists of addresses are many questions, which travel in several batches.
    batches = -(-len(questions) // requester.settings.batch_size)
    for chunk in _sampled(requester, ranges, questions, context):
        taken += 1
        sampled += chunk.last - chunk.first + 1
        logs += chunk.count
        size += chunk.bytes
        seconds += chunk.seconds
        header_requests += max(0, chunk.requests - batches)
        bearing += len(chunk.block_columns.numbers)
    if not sampled:
        return Estimate(blocks, 0, 0, 0, 0.0, 0, context.requests)
    settings = requester.settings
    scale = blocks / sampled
    limits = [limit for e in requester.pool.endpoints if (limit := e.block_limit.known) is not None]
    widest = (
        min([settings.max_blocks, *limits]) if len(limits) == len(requester.pool.endpoints) else settings.max_blocks
    )
    by_density = settings.target_logs * sampled / logs if logs else float(widest)
    chunks = max(len(ranges), round(blocks / max(1.0, min(float(widest), by_density)) * 1.2))
    check = history_check.requests(settings, chunks, blocks)
    requests = batches * chunks + check
    # Each chunk's last header, those that are compared, and those whose times the logs do not tell.
    headers = chunks + history_check.calls(settings, chunks, blocks)
    if header_requests:
        requests += round(bearing * scale / settings.batch_size)
        headers += round(bearing * scale)
    # A sample's time is mostly the way there and back; the rest grows with what is carried.
    return Estimate(
        blocks=blocks,
        logs=round(logs * scale),
        requests=requests,
        bytes=round(size * scale),
        seconds=requests * (seconds / taken) / in_flight,
        sampled_blocks=sampled,
        sampled_requests=context.requests,
        check_requests=check,
        calls={"eth_getLogs": len(questions) * chunks, "eth_getBlockByNumber": headers},
    )


def estimate_details(
    requester: Requester, ranges: Sequence[tuple[int, int]], filters: Sequence[LogFilter], include: Collection[str]
) -> DetailsEstimate:
    """Samples ranges, and extrapolates how many blocks and transactions bore their logs.

    Args:
        requester: the chain.
        ranges: inclusive ranges, not overlapping.
        filters: whose logs.
        include: what is wanted of what bore them: ``block``, ``transaction``, ``receipt``.

    Raises:
        ProviderError: a sample could not be read.
    """
    context = RequestContext()
    sampled = blocks = transactions = receipts = 0
    asked: Counter[str] = Counter()
    for chunk in _sampled(requester, ranges, _questions(requester, ranges, filters, context), context):
        sampled += chunk.last - chunk.first + 1
        bore: dict[int, dict[int, bytes]] = {}
        for log in chunk.logs:
            bore.setdefault(log.block_number, {})[log.tx_index] = b""
        for number, places in bore.items():
            one = DetailsRequest(
                number,
                b"",
                block="block" in include,
                transactions=places if "transaction" in include else {},
                receipts=places if "receipt" in include else {},
            )
            blocks += one.block
            transactions += len(one.transactions)
            receipts += len(one.receipts)
            asked.update(call.method for call in calls(one, whole_receipts=True))
    scale = sum(last - first + 1 for first, last in ranges) / sampled if sampled else 0.0
    return DetailsEstimate(
        blocks=round(blocks * scale),
        transactions=round(transactions * scale),
        receipts=round(receipts * scale),
        questions=round(asked.total() * scale),
        calls={method: round(count * scale) for method, count in asked.items()},
    )


def _questions(
    requester: Requester, ranges: Sequence[tuple[int, int]], filters: Sequence[LogFilter], context: RequestContext
) -> list[LogQuestion]:
    return [question for one in filters for question in address_slices.plan(requester, ranges, one, context)]


def _sampled(
    requester: Requester,
    ranges: Sequence[tuple[int, int]],
    questions: Sequence[LogQuestion],
    context: RequestContext,
) -> Iterator[LogChunk]:
    for first, last in samples(ranges, _SAMPLES, _WIDTH):
        yield _sample(requester, first, last, questions, context)


def _sample(
    requester: Requester, first: int, last: int, questions: Sequence[LogQuestion], context: RequestContext
) -> LogChunk:
    while True:
        try:
            return requester.run(
                partial(
                    fetch.chunk,
                    first=first,
                    last=last,
                    questions=questions,
                    context=context,
                    prove=False,
                ),
                "eth_getLogs",
                block=last,
                context=context,
                sticky=False,
            )
        except RangeError as error:
            if last == first:
                raise
            named = error.maximum if error.limit == "blocks" and error.maximum else None
            last = first + max(1, min((last - first + 1) // 2, named or last)) - 1
