"""What reading some block ranges will take, from a few samples of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from indexer.chain import fetch, slicing
from indexer.chain.asker import Asker
from indexer.chain.chunk import LogChunk
from indexer.chain.config import Errand
from indexer.chain.errors import RangeError
from indexer.chain.filters import LogFilter
from indexer.chain.slicing import samples


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
    """

    blocks: int
    logs: int
    requests: int
    bytes: int
    seconds: float
    sampled_blocks: int
    sampled_requests: int


def estimate(
    asker: Asker,
    ranges: Sequence[tuple[int, int]],
    filters: Sequence[LogFilter],
    *,
    count: int = 8,
    width: int = 500,
    in_flight: int = 4,
) -> Estimate:
    """Samples ranges and extrapolates.

    Args:
        asker: the chain.
        ranges: inclusive ranges, not overlapping.
        filters: what will be asked for.
        count: the number of samples.
        width: the blocks in each.
        in_flight: the requests that will be under way at once.

    Raises:
        ProviderError: a sample could not be read.
    """
    blocks = sum(last - first + 1 for first, last in ranges)
    errand = Errand()
    sampled = logs = size = bearing = 0
    header_requests = 0
    seconds = 0.0
    taken = 0
    questions = [question for one in filters for question in slicing.plan(asker, ranges, one, errand)]
    # Long lists of addresses are many questions, which travel in several batches.
    batches = -(-len(questions) // asker.settings.batch_size)
    for first, last in samples(ranges, count, width):
        chunk = _sample(asker, first, last, questions, errand)
        taken += 1
        sampled += chunk.last - chunk.first + 1
        logs += chunk.count
        size += chunk.bytes
        seconds += chunk.seconds
        header_requests += max(0, chunk.requests - batches)
        bearing += len(chunk.block_columns.numbers)
    if not sampled:
        return Estimate(blocks, 0, 0, 0, 0.0, 0, errand.requests)
    settings = asker.settings
    scale = blocks / sampled
    limits = [limit for e in asker.pool.endpoints if (limit := e.block_limit.known) is not None]
    widest = min([settings.max_blocks, *limits]) if len(limits) == len(asker.pool.endpoints) else settings.max_blocks
    by_density = settings.target_logs * sampled / logs if logs else float(widest)
    requests = batches * max(len(ranges), round(blocks / max(1.0, min(float(widest), by_density)) * 1.2))
    if header_requests:
        requests += round(bearing * scale / settings.batch_size)
    # A sample's time is mostly the way there and back; the rest grows with what is carried.
    return Estimate(
        blocks=blocks,
        logs=round(logs * scale),
        requests=requests,
        bytes=round(size * scale),
        seconds=requests * (seconds / taken) / in_flight,
        sampled_blocks=sampled,
        sampled_requests=errand.requests,
    )


def _sample(asker: Asker, first: int, last: int, questions: Sequence[fetch.Question], errand: Errand) -> LogChunk:
    while True:
        try:
            return asker.run(
                partial(
                    fetch.chunk,
                    first=first,
                    last=last,
                    questions=questions,
                    errand=errand,
                ),
                "eth_getLogs",
                block=last,
                errand=errand,
                sticky=False,
            )
        except RangeError as error:
            if last == first:
                raise
            named = error.maximum if error.limit == "blocks" and error.maximum else None
            last = first + max(1, min((last - first + 1) // 2, named or last)) - 1
