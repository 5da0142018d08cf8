"""Long address lists (a factory's children): sent in slices, or by topic alone and filtered here: whichever is less."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from indexer.chain.logs import fetch
from indexer.chain.reads.questions import LogQuestion
from indexer.chain.records.errors import NoEndpointError, RangeError
from indexer.chain.records.log_filter import LogFilter, Topics
from indexer.chain.records.validation import RawLog, matcher
from indexer.chain.rpc.config import RequestContext

if TYPE_CHECKING:
    from indexer.chain.rpc.requester import Requester

logger = logging.getLogger(__name__)

# Bytes of one address in a request (quotes, comma, 0x, 40 digits), and of a usual log in a response.
_ADDRESS_BYTES = 45
_LOG_BYTES = 700
# What one more question costs, in bytes: providers bill each call, also in a batch.
_CALL_BYTES = 20_000
# So many blocks at the head after which it is asked again how many logs of any address there are.
_STALE_AFTER = 1_000
# The weight of one more block in what is known of the density.
_NEWEST_WEIGHT = 0.05
_SAMPLES = 3
_SAMPLE_BLOCKS = 5


def topic_only_is_cheaper(
    addresses: int, slices: int, matching_per_block: float, any_per_block: float, blocks: float
) -> bool:
    """Whether to ask for topics at any address and filter here, rather than send a long address list.

    Counts the bytes moved for each block: the wanted logs plus the addresses sent and what further questions cost,
    against all logs with the topics.

    Args:
        addresses: the length of the address list.
        slices: the questions that it is sent in.
        matching_per_block: logs of those addresses in a block.
        any_per_block: logs of any address with the topics in a block.
        blocks: the blocks that one request spans.
    """
    sent = addresses * _ADDRESS_BYTES + (slices - 1) * _CALL_BYTES
    return any_per_block * _LOG_BYTES < matching_per_block * _LOG_BYTES + sent / max(1.0, blocks)


def plan(
    requester: "Requester", ranges: Sequence[tuple[int, int]], filters: LogFilter, context: RequestContext
) -> list[LogQuestion]:
    """What to ask for a wanted filter.

    A list that fits one request, of those that the endpoints are known to take, is sent as it is. For a longer one a
    few blocks are sampled by topic alone.

    Args:
        requester: the chain.
        ranges: the inclusive ranges that will be read.
        filters: what is wanted.
        context: on whose account.

    Raises:
        ProviderError: a sample could not be read.
    """
    settings = requester.settings
    most_addresses, most_blocks = requester.at_most()
    if filters.addresses is None or len(filters.addresses) <= most_addresses:
        return [LogQuestion(filters, filters)]
    slices = [LogQuestion(part, part) for part in filters.slices(most_addresses)]
    if all(values is None for values in filters.topics):
        return slices
    wide = LogFilter(None, filters.topics)
    wanted = filters.members()
    assert wanted is not None
    blocks = matching = found = 0
    for first, last in samples(ranges, _SAMPLES, _SAMPLE_BLOCKS):
        try:
            chunk = requester.run(
                partial(
                    fetch.chunk,
                    first=first,
                    last=last,
                    questions=[LogQuestion(wide, wide)],
                    context=context,
                    prove=False,
                ),
                wide.kind,
                block=last,
                context=context,
                sticky=False,
            )
        except (RangeError, NoEndpointError):
            return slices
        blocks += last - first + 1
        found += len(chunk.logs)
        matching += sum(log.address in wanted for log in chunk.logs)
    per_block = matching / blocks
    span = min(float(most_blocks), settings.target_logs / max(per_block, 1 / blocks))
    cheaper = topic_only_is_cheaper(len(filters.addresses), len(slices), per_block, found / blocks, span)
    logger.info(
        "%s: %d addresses: %s",
        requester.name,
        len(filters.addresses),
        "asked for by topic alone, filtered here" if cheaper else f"asked for in {len(slices)} slices",
    )
    return [LogQuestion(wide, filters)] if cheaper else slices


class HeadQuestions:
    """How long lists of addresses are asked for in a few new blocks, again and again: in slices, or by topic alone.

    Which moves fewer bytes is known from the blocks before: the first are asked for by topic alone, and now and then
    one later.
    """

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._density: dict[Topics, float] = {}
        self._unseen: dict[Topics, int] = {}

    def ask(self, filters: Sequence[LogFilter], most: int, blocks: int) -> list[LogFilter]:
        """What to ask for.

        Args:
            filters: what is wanted.
            most: addresses in one request.
            blocks: how many blocks are asked for.
        """
        asked: list[LogFilter] = []
        for one in filters:
            count = len(one.addresses or ())
            if count <= most or all(values is None for values in one.topics):
                asked += one.slices(most)
            elif self._by_topic(one.topics, count, -(-count // most), blocks):
                asked.append(LogFilter(None, one.topics))
            else:
                asked += one.slices(most)
        return asked

    def refused(self, filters: Sequence[LogFilter]) -> None:
        """Takes note that no endpoint answers these by topic alone: addresses are sent for a while.

        Args:
            filters: what was wanted.
        """
        for one in filters:
            self._density[one.topics] = float("inf")
            self._unseen[one.topics] = 0

    def _by_topic(self, topics: Topics, addresses: int, slices: int, blocks: int) -> bool:
        density = self._density.get(topics)
        unseen = self._unseen.get(topics, 0) + blocks
        if density is None or unseen > _STALE_AFTER:
            return True
        self._unseen[topics] = unseen
        return density * blocks * _LOG_BYTES < addresses * _ADDRESS_BYTES + (slices - 1) * _CALL_BYTES

    def learn(self, asked: Sequence[LogFilter], logs: Sequence[RawLog], blocks: int) -> None:
        """Takes note of what was asked for by topic alone.

        Args:
            asked: what was asked for.
            logs: the answer.
            blocks: in how many blocks.
        """
        for one in asked:
            if one.addresses is None:
                matches = matcher(one)
                found = sum(matches(log.address, log.topics) for log in logs) / blocks
                known = self._density.get(one.topics, found)
                kept = (1 - _NEWEST_WEIGHT) ** blocks
                self._density[one.topics] = known * kept + found * (1 - kept)
                self._unseen[one.topics] = 0


def samples(ranges: Sequence[tuple[int, int]], count: int, width: int) -> Iterator[tuple[int, int]]:
    """Up to so many small inclusive ranges, spread evenly over the blocks of some ranges.

    Args:
        ranges: inclusive ranges, ascending.
        count: how many.
        width: their width in blocks, less where a range ends.
    """
    ranges = sorted(ranges)
    ends = list(accumulate(last - first + 1 for first, last in ranges))
    if not ends:
        return
    seen = -1
    for number in range(count):
        offset = ends[-1] * (2 * number + 1) // (2 * count)
        at = next(index for index, end in enumerate(ends) if offset < end)
        first, last = ranges[at]
        begin = max(first + offset - (ends[at] - (last - first + 1)), seen + 1)
        if begin > last:
            continue
        seen = min(last, begin + width - 1)
        yield begin, seen
