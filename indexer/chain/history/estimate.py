"""What reading some ranges from a source will take, from a few samples of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.chain.history.reader import TARGET_LOGS, SourcedHistory
from indexer.chain.logs.address_slices import samples
from indexer.chain.records.errors import ProviderError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import RequestContext
from indexer.intervals import RangeSet, intersect, normalise, size

_SAMPLES = 4
_WIDTH = 500  # blocks of a sample


@dataclass(frozen=True, slots=True)
class SourceEstimate:
    """What it will take. All but ``blocks`` is an extrapolation.

    Attributes:
        host: the source.
        blocks: those of the ranges that it has; the others are read from the nodes.
        logs: the matching logs of them.
        requests: to the source.
        node_requests: to the chain's own nodes, to compare with.
        bytes: of its answers, decompressed.
        seconds: the time, as far as the source and the network go.
        problem: why nothing can be said; None: it can.
    """

    host: str
    blocks: int = 0
    logs: int = 0
    requests: int = 0
    node_requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    problem: str | None = None


def estimate(
    history: SourcedHistory, ranges: Sequence[tuple[int, int]], filters: Sequence[LogFilter], *, in_flight: int
) -> SourceEstimate:
    """Samples the ranges and extrapolates; a source that fails is no error, since the nodes stand in for it.

    Args:
        history: the source.
        ranges: inclusive ranges, not overlapping.
        filters: what will be asked for.
        in_flight: the requests that will be under way at once.
    """
    source, context = history.source, RequestContext()
    try:
        inside = intersect(normalise(ranges), (source.reach(context),))
        return _sampled(history, inside, filters, in_flight, context)
    except ProviderError as error:
        return SourceEstimate(source.host, problem=str(error).removeprefix(f"{source.host}: "))


def _sampled(
    history: SourcedHistory, inside: RangeSet, filters: Sequence[LogFilter], in_flight: int, context: RequestContext
) -> SourceEstimate:
    blocks = size(inside)
    sampled = logs = received = taken = requests = 0
    fastest = seconds = 0.0
    for first, last in samples(inside, _SAMPLES, _WIDTH):
        chunk = history.source.read(first, last, filters, context).chunk
        taken += 1
        sampled += chunk.last - chunk.first + 1
        logs += chunk.count
        received += chunk.bytes
        requests += chunk.requests
        seconds += chunk.seconds
        fastest = min(fastest or chunk.seconds, chunk.seconds)
    if not sampled:
        return SourceEstimate(history.source.host)
    scale = blocks / sampled
    widest = float(history.max_blocks)
    width = min(widest, TARGET_LOGS * sampled / logs) if logs else widest
    pieces = max(len(inside), round(blocks / max(1.0, width) * 1.1))
    # A sample's time is mostly the way there and back; the rest grows with what is carried.
    carried = max(0.0, seconds - fastest * taken) * scale
    return SourceEstimate(
        host=history.source.host,
        blocks=blocks,
        logs=round(logs * scale),
        requests=round(pieces * requests / taken),
        node_requests=history.node_requests(pieces, blocks, round(logs * scale)),
        bytes=round(received * scale),
        seconds=fastest * pieces / max(1, in_flight) + carried,
    )
