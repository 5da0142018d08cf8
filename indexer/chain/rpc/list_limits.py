"""How long the lists of one ``eth_getLogs`` may be at one endpoint: limits kept, and found out by asking.

Nodes take 20 to 1,000 addresses or topics in a question, and refuse longer lists in many wordings, some of which speak
of ranges or of rates. What a refusal means is therefore found by an experiment: the same lists are asked for in one
block. Where that is answered, the lists are not what was too much. Where it is refused, shorter lists are tried until
one is answered; that length is kept, and every later question to the endpoint is cut to it. One block that is refused
as too wide a range needs no experiment: no range is narrower.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.chain.records.errors import (
    AnswerError,
    FatalError,
    LaggingError,
    ProviderError,
    RangeError,
    RateError,
    TransientError,
)
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call
from indexer.chain.records.range_control import BlockLimit
from indexer.chain.rpc.config import RequestContext

if TYPE_CHECKING:
    from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)

# Limits go with plans, and plans change: after so many seconds longer lists are tried again.
_TRY_LONGER_AFTER = 3600.0
_RATE_ATTEMPTS = 2
# Limits of a question's answer, or of where it begins: they say nothing about its lists.
_OF_CONTENTS = frozenset({"results", "bytes", "history"})
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:[,_]?\d{3})*(?![\w])")


@dataclass(frozen=True, slots=True)
class ListSizes:
    """The lengths of the lists of a filter.

    Attributes:
        addresses: of the address list.
        topics: of the longest list of values at one position.
    """

    addresses: int
    topics: int

    @classmethod
    def of(cls, filters: LogFilter) -> "ListSizes":
        """The lengths of a filter's lists."""
        return cls(len(filters.addresses or ()), filters.longest_topics)

    def within(self, other: "ListSizes") -> bool:
        """Whether no list is longer than the other's."""
        return self.addresses <= other.addresses and self.topics <= other.topics

    @property
    def halved(self) -> "ListSizes":
        """With half of the longer list."""
        if self.addresses >= self.topics:
            return ListSizes(max(1, self.addresses // 2), self.topics)
        return ListSizes(self.addresses, max(1, self.topics // 2))


class ListLimits:
    """The longest lists that one endpoint takes, as far as its answers have shown. Pure; the endpoint locks.

    Attributes:
        addresses: the most addresses in a question, or None while no limit has shown.
        topics: the most values at one position of the topics, or None while no limit has shown.
    """

    def __init__(self) -> None:
        self.addresses: int | None = None
        self.topics: int | None = None
        self._learned_at = 0.0
        self._granted = ListSizes(1, 1)

    def cut(self, filters: LogFilter, now: float) -> list[LogFilter]:
        """The filter in parts that the endpoint takes.

        Args:
            filters: what is asked for.
            now: the time.
        """
        if (self.addresses or self.topics) and now - self._learned_at > _TRY_LONGER_AFTER:
            self.addresses = self.topics = None
        parts: Iterator[LogFilter] = iter((filters,))
        if self.addresses is not None:
            parts = filters.slices(self.addresses)
        if self.topics is None:
            return list(parts)
        return [one for part in parts for one in part.topic_slices(self.topics)]

    def in_doubt(self, sizes: ListSizes) -> bool:
        """Whether lists this long have not been answered yet."""
        return not sizes.within(self._granted)

    def granted(self, sizes: ListSizes) -> None:
        """Lists this long were answered."""
        if not sizes.within(self._granted):
            self._granted = ListSizes(
                max(sizes.addresses, self._granted.addresses), max(sizes.topics, self._granted.topics)
            )

    def learned(self, found: ListSizes, asked: ListSizes, now: float) -> None:
        """Keeps the longest lists that were answered where longer ones were refused.

        Args:
            found: the lists that were answered.
            asked: the lists that were refused.
            now: the time.
        """
        if found.addresses < asked.addresses:
            self.addresses = found.addresses
        if found.topics < asked.topics:
            self.topics = found.topics
        self._learned_at = now
        self._granted = found


def learn(endpoint: "Endpoint", refusal: ProviderError, context: RequestContext) -> bool:
    """Finds out whether lists are what an endpoint refused, and how long they may be.

    Args:
        endpoint: the endpoint; it is asked about one block, a few times at most.
        refusal: what it said to the question for logs in ``refusal.call``.
        context: on whose account.

    Returns:
        Whether a limit was found that the question exceeds: cut, it can be asked again at once.

    Raises:
        ProviderError: the endpoint does not answer at all.
    """
    call = refusal.call
    if call is None or call.filters is None:
        return False
    asked = ListSizes.of(call.filters)
    certain = too_wide = False
    if isinstance(refusal, RangeError):
        if refusal.timed_out or refusal.limit in _OF_CONTENTS:
            return False
        too_wide = refusal.limit == "blocks" and call.blocks is not None and call.blocks[0] == call.blocks[1]
        certain = refusal.limit == "lists" or too_wide
    with endpoint.lock:
        if max(asked.addresses, asked.topics) <= 1 or not (certain or endpoint.lists.in_doubt(asked)):
            return False
    experiment = _Experiment(endpoint, call, call.filters, context)
    if isinstance(refusal, RateError):
        endpoint.forgive()
    found = experiment.longest(asked, refusal, certain)
    with endpoint.lock:
        if found is None:
            return False
        if found == asked:
            endpoint.lists.granted(asked)
            return False
        endpoint.lists.learned(found, asked, endpoint.clock())
        if too_wide:
            # Ranges refused in the same words before may have been refused for their lists, too.
            endpoint.block_limit = BlockLimit()
    logger.info(
        "%s: eth_getLogs takes %d addresses and %d topics, not %d and %d: longer lists are asked for in parts",
        *(endpoint.host, found.addresses, found.topics, asked.addresses, asked.topics),
    )
    return True


@dataclass(slots=True)
class _Experiment:
    endpoint: "Endpoint"
    call: Call
    filters: LogFilter
    context: RequestContext

    def longest(self, asked: ListSizes, refusal: ProviderError, certain: bool) -> ListSizes | None:
        """The longest lists that are answered, all of them where that is so; None where even the shortest are not."""
        if not certain and self._answered(asked):
            return asked
        for number in _numbers(refusal.args[0], max(asked.addresses, asked.topics)):
            # The refusal may name the limit, in whatever words.
            for sizes in (
                ListSizes(min(asked.addresses, number), asked.topics),
                ListSizes(asked.addresses, min(asked.topics, number)),
            ):
                if sizes != asked and self._answered(sizes):
                    return sizes
        good, bad = asked.halved, asked
        while not self._answered(good):
            if good.halved == good:
                return None
            good, bad = good.halved, good
        if good.addresses < asked.addresses and good.topics < asked.topics:
            # Both were cut to get an answer; perhaps only one had to be.
            for sizes in (ListSizes(asked.addresses, good.topics), ListSizes(good.addresses, asked.topics)):
                if self._answered(sizes):
                    return sizes
        return self._refined(good, bad, asked)

    def _refined(self, good: ListSizes, bad: ListSizes, asked: ListSizes) -> ListSizes:
        """Longer lists, as long as they save questions."""
        of_addresses = good.addresses < bad.addresses
        low, high = (good.addresses, bad.addresses) if of_addresses else (good.topics, bad.topics)
        whole = asked.addresses if of_addresses else asked.topics
        while high - low > 1 and -(-whole // low) > -(-whole // (high - 1)):
            middle = (low + high) // 2
            sizes = ListSizes(middle, good.topics) if of_addresses else ListSizes(good.addresses, middle)
            if self._answered(sizes):
                low, good = middle, sizes
            else:
                high = middle
        return good

    def _answered(self, sizes: ListSizes) -> bool:
        """Whether lists of these lengths are answered for one block."""
        addresses = self.filters.addresses
        part = LogFilter(
            None if addresses is None else addresses[: sizes.addresses],
            tuple(values and values[: max(1, sizes.topics)] for values in self.filters.topics),
        )
        params = {**part.params()}
        params |= {name: value for name, value in self.call.params[0].items() if name in ("fromBlock", "blockHash")}
        if "fromBlock" in params:
            params["toBlock"] = params["fromBlock"]
        first = self.call.blocks[0] if self.call.blocks else 0
        call = Call("eth_getLogs", (params,), (first, first), part)
        for _ in range(_RATE_ATTEMPTS):
            try:
                self.endpoint.ask_one(call, self.context)
            except RateError as error:
                # It may be about haste after all: then the same is answered a moment later.
                self.endpoint.slow_down(error, 1)
            except RangeError as error:
                if error.timed_out:
                    raise
                return error.limit in ("results", "bytes")
            except TransientError as error:
                if isinstance(error, AnswerError) or not error.shrinkable:
                    raise
                return False
            except LaggingError:
                raise
            except FatalError as error:
                if error.scope == "history":
                    raise
                return False
            else:
                return True
        self.endpoint.forgive()
        return False


def _numbers(text: str, below: int) -> list[int]:
    """The numbers in a refusal that may be a limit of a list this long, the largest first."""
    # What precedes the provider's own words is ours: the blocks asked for, a status, a code.
    said = text.partition("refused")[2]
    said = re.sub(r"^ \([^)]*\)", "", said)
    found = {int(re.sub(r"\D", "", match)) for match in _NUMBER.findall(said)}
    return sorted((number for number in found if 1 < number < below), reverse=True)[:3]
