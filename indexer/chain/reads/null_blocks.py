"""Block numbers without a block (null rounds, as on Filecoin), proven by a parent link.

A node says "no such block" in the same words of a number that its chain leaves out and of one that it has not reached.
Only a link tells the two apart: where a block's parent has a lower number than the one before it, the numbers between
the two belong to no block. So a missing number is passed over when the node shows the next block above it, and that
block's parent lies below the number. Without that proof the node lags, whatever it says.

An endpoint whose chain was found to leave numbers out is not asked twice for a number before the proof is looked for;
``null_blocks = true`` in the manifest says so from the start.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from indexer.chain.reads import questions
from indexer.chain.records.errors import AnswerError, LaggingError, ProviderError, TransientError
from indexer.chain.records.messages import Call, Header, parse_header
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST = 4_096
"""The longest run of numbers without a block that is looked over."""

_FIRST_STEP = 4


@dataclass(frozen=True, slots=True)
class NullRun:
    """Consecutive numbers without a block.

    Attributes:
        below: the newest block before them.
        above: the block after them, the child of ``below``.
    """

    below: Header
    above: Header

    def holds(self, number: int) -> bool:
        """Whether a number is one of them."""
        return self.below.number < number < self.above.number


@dataclass(frozen=True, slots=True)
class Inside:
    """The blocks of a range whose first or last number has none.

    Attributes:
        first: the first number that has a block; above ``last`` where the range holds no block.
        last: the last number that has a block, which may lie below the range.
        end: the header of ``last``.
    """

    first: int
    last: int
    end: Header


def find(endpoint: Endpoint, number: int, context: RequestContext) -> NullRun | None:
    """The run of numbers without a block that holds a number, as one endpoint proves it.

    Args:
        endpoint: one that gave no block of this number.
        number: the number.
        context: on whose account.

    Returns:
        None: it is not proven. The endpoint has not reached the number, has a block of it, or does not answer.
    """
    try:
        above = _next(endpoint, number, context)
        if above is None:
            return None
        # Both numbers once more: one answer of a moment's confusion must not prove anything.
        asked = [
            Call("eth_getBlockByHash", ("0x" + above.parent_hash.hex(), False)),
            questions.header_call(number),
            questions.header_call(above.number),
        ]
        below, still, again = map(_read, endpoint.ask(asked, context, begun=True))
    except ProviderError as error:
        logger.debug("%s: whether block %d exists was not answered: %s", endpoint.host, number, error)
        return None
    if below is None or below.hash != above.parent_hash or below.number >= number:
        return None
    if again != above or (still is not None and still.number == number):
        return None
    run = NullRun(below, above)
    _learn(endpoint, run)
    return run


def _next(endpoint: Endpoint, number: int, context: RequestContext) -> Header | None:
    """The lowest block above a number that has none."""
    with endpoint.lock:
        newest = max(endpoint.health.seen, endpoint.health.head or 0)
    if newest <= number:
        head = parse_header(endpoint.ask_one(Call("eth_getBlockByNumber", ("latest", False)), context))
        if head is None or head.number <= number:
            return None
        newest = head.number
    first, width = number + 1, _FIRST_STEP
    while first <= min(newest, number + LONGEST):
        numbers = range(first, min(first + width, newest + 1))
        answers = endpoint.ask([questions.header_call(one) for one in numbers], context, begun=True)
        for wanted, answer in zip(numbers, answers, strict=True):
            header = _read(answer)
            if header is not None and header.number == wanted:
                return header
        first, width = numbers[-1] + 1, 2 * width
    return None


def _read(answer: Answer) -> Header | None:
    """The header that was answered; None for a refusal."""
    return None if isinstance(answer, ProviderError) else parse_header(answer)


def _learn(endpoint: Endpoint, run: NullRun) -> None:
    with endpoint.lock:
        known, endpoint.null_blocks = endpoint.null_blocks, True
    if not known:
        logger.info(
            "%s: its chain leaves block numbers out: block %d is the child of block %d. Such numbers are passed over "
            "where a link proves them; null_blocks = true in the chain's table says so from the start",
            *(endpoint.host, run.above.number, run.below.number),
        )


def may_be(error: ProviderError) -> bool:
    """Whether an error may be a node's way to say that a number has no block.

    Some answer null or say "null round", others use words that no table knows, or answer with another block.
    """
    if isinstance(error, TransientError):
        return isinstance(error, AnswerError) or error.code is not None
    return isinstance(error, LaggingError)


def prove(endpoint: Endpoint, numbers: Iterable[int], context: RequestContext) -> Iterator[NullRun]:
    """The runs that hold some of the numbers, ascending, each once."""
    run: NullRun | None = None
    for number in sorted(numbers):
        if run is not None and run.holds(number):
            continue
        if (run := find(endpoint, number, context)) is not None:
            yield run


def headers(
    endpoint: Endpoint, numbers: Iterable[int], context: RequestContext, *, until: int | None = None
) -> tuple[dict[int, Header], list[NullRun]]:
    """Headers by number, and the runs that hold numbers without a block.

    A number that is in neither is one that the endpoint has not reached.

    Args:
        endpoint: the endpoint that is asked.
        numbers: the numbers.
        context: on whose account.
        until: no proof is looked for above this number; None: for every number.

    Raises:
        ProviderError: a question failed.
    """
    pieces = questions.pieces_of_headers(endpoint, sorted(numbers), context)
    doubtful = [n for n, error in pieces.failed.items() if may_be(error) and (until is None or n <= until)]
    runs = list(prove(endpoint, doubtful, context))
    for number, error in pieces.failed.items():
        if not isinstance(error, LaggingError) and not any(run.holds(number) for run in runs):
            raise error
    return pieces.found, runs


def inside(endpoint: Endpoint, first: int, last: int, error: ProviderError, context: RequestContext) -> Inside | None:
    """The blocks of a range that was refused, where its first or its last number has no block.

    Args:
        endpoint: the endpoint that refused it.
        first: the first number of the range.
        last: the last one.
        error: the refusal.
        context: on whose account.

    Returns:
        None: both have a block, or it is not proven that they have none: the refusal stands.
    """
    if not may_be(error):
        return None
    try:
        found, runs = headers(endpoint, {first, last}, context)
    except ProviderError:
        return None
    if last not in found and not any(run.holds(last) for run in runs):
        return None
    if first not in found and not any(run.holds(first) for run in runs):
        return None
    if not runs:
        return None
    begin = next((run.above.number for run in runs if run.holds(first)), first)
    end = next((run.below for run in runs if run.holds(last)), None) or found[last]
    return Inside(begin, end.number, end)


def within(
    endpoint: Endpoint,
    first: int,
    last: int,
    context: RequestContext,
    ask: Callable[[int, int], T],
    nothing: Callable[[], T],
) -> T:
    """Ask something of a range; of the blocks that it holds, where it is refused for how it begins or ends.

    Args:
        endpoint: the endpoint that is asked.
        first: the first number of the range.
        last: the last one.
        context: on whose account.
        ask: asks, of a first and a last number.
        nothing: makes the answer of a range without a block.

    Raises:
        ProviderError: the refusal of the question, where it is not for that.
    """
    try:
        return ask(first, last)
    except ProviderError as error:
        found = inside(endpoint, first, last, error, context)
        if found is None:
            raise
    return ask(found.first, found.last) if found.first <= found.last else nothing()


def at_or_below(endpoint: Endpoint, number: int, context: RequestContext, ask: Callable[[int], T]) -> T:
    """Ask something at a block; at the newest one below it, where its number is proven to have none.

    Raises:
        ProviderError: the refusal of the question, where it is not for that.
    """
    try:
        return ask(number)
    except ProviderError as error:
        run = find(endpoint, number, context) if may_be(error) else None
        if run is None:
            raise
    return ask(run.below.number)
