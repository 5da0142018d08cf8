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

_NEAR = 4

_UNLINKED = 10.0
"""Seconds for which numbers that no link passed over are not looked at again."""


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
    with endpoint.lock:
        unlinked = endpoint.unlinked
    if unlinked is not None and unlinked[0] <= number < unlinked[1] and endpoint.clock() - unlinked[2] < _UNLINKED:
        return None
    try:
        above = _next(endpoint, number, context)
        if above is None:
            return None
        # Both numbers once more: one answer of a moment's confusion must not prove anything.
        asked = [
            _by_hash(above.parent_hash),
            questions.header_call(number),
            questions.header_call(above.number),
        ]
        below, still, again = map(_read, endpoint.ask(asked, context, begun=True))
    except ProviderError as error:
        logger.debug("%s: whether block %d exists was not answered: %s", endpoint.host, number, error)
        return None
    if below is None or below.hash != above.parent_hash or below.number >= number:
        with endpoint.lock:
            endpoint.unlinked = number, above.number, endpoint.clock()
        return None
    if again != above or (still is not None and still.number == number):
        return None
    run = NullRun(below, above)
    _learn(endpoint, run)
    return run


def _next(endpoint: Endpoint, number: int, context: RequestContext) -> Header | None:
    """The lowest block above a number that has none; None where there is none, or where no link leads down to it.

    The nearest numbers are asked for together, those behind them in steps that double: an endpoint that has pruned
    lacks every number for long, and is not asked for each of them.
    """
    with endpoint.lock:
        newest = max(endpoint.health.seen, endpoint.health.head or 0)
    if newest <= number:
        head = parse_header(endpoint.ask_one(Call("eth_getBlockByNumber", ("latest", False)), context))
        if head is None or head.number <= number:
            return None
        newest = head.number
    near = range(number + 1, min(number + _NEAR, newest) + 1)
    for wanted, answer in zip(near, endpoint.ask([questions.header_call(n) for n in near], context), strict=True):
        if (header := _at(answer, wanted)) is not None:
            return header
    most, missing, step = min(newest, number + LONGEST), near[-1], _NEAR
    found: Header | None = None
    while found is None and missing < most:
        wanted, step = min(missing + step, most), 2 * step
        found = _ask(endpoint, wanted, context)
        if found is None:
            missing = wanted
    while found is not None and found.number - missing > 1:
        middle = (missing + found.number) // 2
        header = _ask(endpoint, middle, context)
        missing, found = (middle, found) if header is None else (missing, header)
    while found is not None:
        below = _read(endpoint.ask([_by_hash(found.parent_hash)], context, begun=True)[0])
        if below is None or below.hash != found.parent_hash or below.number < number:
            return found
        if below.number == missing:
            return found  # it has the block, and denied it by its number: no proof
        found = below
    return None


def _ask(endpoint: Endpoint, number: int, context: RequestContext) -> Header | None:
    return _at(endpoint.ask([questions.header_call(number)], context, begun=True)[0], number)


def _at(answer: Answer, number: int) -> Header | None:
    """The header of a number; None where the answer is a refusal, or another block."""
    header = _read(answer)
    return header if header is not None and header.number == number else None


def _by_hash(block_hash: bytes) -> Call:
    return Call("eth_getBlockByHash", ("0x" + block_hash.hex(), False))


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
