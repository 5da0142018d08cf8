"""What a refusal of a question for logs means, where its words alone do not tell.

Providers refuse a wide range or a long list in the words of a rate limit (-32005, HTTP 429), of a missing right (HTTP
403), or in words that no table knows. The general rule: where a question is refused again and again while the endpoint
answers others, the question is what is wrong. Then less is asked for: shorter lists where an experiment shows that the
lists are too long (:mod:`indexer.chain.rpc.list_limits`), else fewer blocks.

Nodes that no longer keep old blocks may say so in the words of one that has not reached them, or with null. A node that
lags lacks the newest blocks; one that answers those and lacks the oldest of a range has pruned it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
from indexer.chain.records.messages import Call, parse_header
from indexer.chain.rpc import list_limits
from indexer.chain.rpc.config import RequestContext

if TYPE_CHECKING:
    from indexer.chain.rpc.endpoint import Endpoint

# So often one question is refused as too hasty before it is taken for too wide; less often where that was so before.
_PATIENCE = 3
_PATIENCE_WITH_KNOWN_WORDS = 2
# And so often in a row, with ever longer waits, although others may answer it: they may be slow, and refuse more.
_LONGEST_PATIENCE = 5
# So often a range is not there before the endpoint is asked whether it is too old; and so often it is asked, as behind
# one URL there may be machines of which some lag.
_LAGS = 2
_SURE = 3


@dataclass(slots=True)
class Refusals:
    """The refusals of one question, over all its attempts.

    Attributes:
        context: on whose account.
        elsewhere: whether an endpoint that has not yet failed at this question is there to be asked.
        head: the newest block known.
    """

    context: RequestContext
    elsewhere: Callable[["Endpoint"], bool]
    head: Callable[[], int | None]
    _doubtful: int = 0
    _hasty: Counter["Endpoint"] = field(default_factory=Counter)
    _lags: Counter["Endpoint"] = field(default_factory=Counter)

    def meaning(  # noqa: PLR0911 - one for each class of error
        self, endpoint: "Endpoint", error: ProviderError
    ) -> ProviderError | None:
        """What an endpoint's refusal means.

        Args:
            endpoint: the endpoint.
            error: the refusal.

        Returns:
            The error that it is to be treated as; None where the question has become smaller by what was learned and
            is to be asked again at once.

        Raises:
            ProviderError: the endpoint stopped answering meanwhile.
        """
        call = error.call
        if call is None or call.blocks is None:
            return error
        match error:
            case RangeError():
                if list_limits.learn(endpoint, error, self.context):
                    return None
                _learn_width(endpoint, error, *call.blocks)
            case FatalError(scope="endpoint") if self._answers_others(endpoint):
                return self._of_unknown_words(endpoint, _doubtful(error))
            case FatalError(scope="history") if "fromBlock" in call.params[0]:
                error.up_to = self._lacks_up_to(endpoint, call)
            case LaggingError() if "fromBlock" in call.params[0]:
                return self._of_lag(endpoint, error, call)
            case RateError():
                return self._of_haste(endpoint, error, call.blocks)
            case TransientError(shrinkable=True) if not isinstance(error, AnswerError):
                return self._of_unknown_words(endpoint, error)
        return error

    def _of_unknown_words(self, endpoint: "Endpoint", error: TransientError) -> ProviderError | None:
        self._doubtful += 1
        known = error.words in endpoint.cured_by_shrinking
        if not known and (self._doubtful < 2 or self.elsewhere(endpoint)):
            return error
        if list_limits.learn(endpoint, error, self.context):
            return None
        return _too_much(error)

    def _of_haste(self, endpoint: "Endpoint", error: RateError, blocks: tuple[int, int]) -> ProviderError | None:
        width = blocks[1] - blocks[0] + 1
        known = error.words in endpoint.cured_by_shrinking
        if width == 1:
            endpoint.suspected.discard(error.words)
        elif (known or error.words in endpoint.suspected) and width > endpoint.block_limit.granted:
            endpoint.forgive()
            return _too_much(error)
        self._hasty[endpoint] += error.times
        patience = _PATIENCE_WITH_KNOWN_WORDS if known else _PATIENCE
        if self._hasty[endpoint] < _LONGEST_PATIENCE and (self._hasty[endpoint] < patience or self.elsewhere(endpoint)):
            return error
        if not all(self._answers_others(endpoint) for _ in range(_SURE)):
            return error
        if list_limits.learn(endpoint, error, self.context):
            return None
        if width == 1:
            return error
        endpoint.forgive()
        endpoint.suspected.add(error.words)
        return _too_much(error)

    def _of_lag(self, endpoint: "Endpoint", error: LaggingError, call: Call) -> ProviderError:
        self._lags[endpoint] += 1
        if self._lags[endpoint] < _LAGS:
            return error
        assert call.blocks is not None
        first, last = call.blocks
        head = self._newest(endpoint)
        if head is None or head <= last:
            return error
        for _ in range(_SURE):
            if not self._has(endpoint, call, head) or self._has(endpoint, call, first) is not False:
                return error
        up_to = _bisected(partial(self._has, endpoint, call), first, head)
        said = error.args[0]
        found = FatalError(
            f"it has no blocks up to {up_to:,}, while it answers for newer ones: {said}",
            scope="history",
            host=endpoint.host,
            code=error.code,
        )
        found.method, found.call, found.calls, found.up_to = error.method, call, error.calls, up_to
        return found

    def _newest(self, endpoint: "Endpoint") -> int | None:
        """The newest block that the endpoint says to have."""
        try:
            header = parse_header(endpoint.ask_one(Call("eth_getBlockByNumber", ("latest", False)), self.context))
        except ProviderError:
            return None
        if header is None:
            return None
        with endpoint.lock:
            endpoint.health.said_head(header.number)
        return header.number

    def _lacks_up_to(self, endpoint: "Endpoint", call: Call) -> int:
        """The newest block whose logs an endpoint refuses as too old, by asking for single blocks."""
        assert call.blocks is not None
        first, last = call.blocks
        return _bisected(partial(self._keeps, endpoint, call), first, max(last, self.head() or 0) + 1)

    def _keeps(self, endpoint: "Endpoint", call: Call, number: int, *, lags: bool = True) -> bool | None:
        """Whether an endpoint answers for the logs of a block; None where it does not say.

        ``lags``: what it says in the words of one that has not come so far.
        """
        assert call.filters is not None
        one = Call("eth_getLogs", (call.filters.between(number, number),), (number, number), call.filters)
        try:
            endpoint.ask_one(one, self.context)
        except LaggingError:
            return lags
        except RangeError:
            return True
        except FatalError as error:
            return False if error.scope == "history" else None
        except ProviderError:
            return None
        return True

    def _has(self, endpoint: "Endpoint", call: Call, number: int) -> bool | None:
        """Whether an endpoint has a block and its logs; None where it does not say."""
        header = Call("eth_getBlockByNumber", (hex(number), False))
        try:
            if parse_header(endpoint.ask_one(header, self.context)) is None:
                return False
        except LaggingError:
            return False
        except ProviderError:
            return None
        return self._keeps(endpoint, call, number, lags=False)

    def _answers_others(self, endpoint: "Endpoint") -> bool:
        """Whether the endpoint answers a question that nothing is wrong with."""
        try:
            endpoint.ask_one(Call("eth_chainId", ()), self.context)
        except ProviderError:
            return False
        return True


def _bisected(has: Callable[[int], bool | None], lacking: int, kept: int) -> int:
    """The newest block that is lacking, between one that is and one that is kept."""
    while kept - lacking > 1:
        middle = (lacking + kept) // 2
        there = has(middle)
        if there is None:
            break
        lacking, kept = (lacking, middle) if there else (middle, kept)
    return lacking


def _learn_width(endpoint: "Endpoint", error: RangeError, first: int, last: int) -> None:
    """Note a limit of blocks, once the lists are known not to be what was refused in such words."""
    width = last - first + 1
    with endpoint.lock:
        if error.limit == "blocks" and width > 1:
            endpoint.block_limit.failed(width, error.maximum, endpoint.clock())
        if error.limit != "unknown" or error.suggested is None:
            return
        begin, end = error.suggested
        if begin != first or not first <= end < last:
            return
        # Ranges of one width that are suggested again and again, without a reason, are a limit of blocks.
        suggested = end - begin + 1
        if endpoint.suggested_width == suggested:
            endpoint.block_limit.failed(width, suggested, endpoint.clock())
        endpoint.suggested_width = suggested


def _doubtful(error: ProviderError) -> TransientError:
    found = TransientError(error.args[0], shrinkable=True, host=error.host, code=error.code)
    found.method, found.call, found.calls = error.method, error.call, error.calls
    return found


def _too_much(error: ProviderError) -> RangeError:
    found = RangeError(error.args[0], host=error.host, code=error.code)
    found.method, found.call, found.calls = error.method, error.call, error.calls
    found.wording = error.words
    return found
