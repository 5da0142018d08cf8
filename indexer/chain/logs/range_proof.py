"""The logs of a range where any machine may answer any question, with the proof that none of them lacked the end.

So it is where an endpoint refuses batches, or its pace allows for one call at a time: nothing binds the header of the
end to the logs. What proves the logs, the first of these that can be had:

- a log of the last block in the answer, a wanted one or a *marker* (:mod:`indexer.chain.records.completeness`);
- a marker of an older block: the range then ends there, and the rest is asked for with the next;
- a marker of a block above the range, where the range itself bears no log;
- every block asked for by its own hash, of a shorter range.

Where an endpoint does not tell all logs of a block in any way, markers are wanted logs only; where there is none of
these either, the last block is asked for by its hash, which proves less.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from indexer.chain.logs.block_logs import logs_from_receipts, logs_of_blocks, logs_within
from indexer.chain.reads import null_blocks
from indexer.chain.reads.questions import (
    LogQuestion,
    RangeAnswer,
    cut,
    end_of,
    header_call,
    logs_call,
    range_answer,
    wrong,
)
from indexer.chain.records.completeness import Marker, Refused
from indexer.chain.records.errors import (
    FatalError,
    LaggingError,
    ProviderError,
    RangeError,
    RateError,
    TransientError,
    is_too_old,
)
from indexer.chain.records.log_columns import LogColumns
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, Header, hex_bytes, parse_header
from indexer.chain.records.validation import CheckedLogs, RawLog, select, sorted_once
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

T = TypeVar("T")

logger = logging.getLogger(__name__)

ANY = LogFilter()
SINGLY = 64
"""So many blocks are asked for one by one where nothing proves more of them at once."""

# All logs are asked for of one block, then of windows that grow by this factor.
_WINDOWS_GROW = 8
_MOST_WINDOWS = 16
# So many blocks are asked for their receipts where all logs are not told.
_RECEIPTS = 4
_ATTEMPTS = 2
# The range's header or logs were answered before: what is refused for haste now is asked again after a wait.
_WAITS = 5
_TOO_WIDE = (RangeError, RateError, FatalError, TransientError)


def one_by_one(
    endpoint: Endpoint,
    first: int,
    last: int,
    questions: Sequence[LogQuestion],
    context: RequestContext,
    *,
    prove: bool = True,
) -> RangeAnswer:
    """Ask for the end and the logs in requests of their own.

    Args:
        endpoint: whom to ask.
        first: the first block.
        last: the last block.
        questions: what to ask, with lists that the endpoint takes.
        context: on whose account.
        prove: False: the logs are believed without proof that their machine has the end.

    Returns:
        The logs of the range, or of a shorter one that begins with the same block: up to the header's block.

    Raises:
        LaggingError: the endpoint, or a machine behind it, has not reached the last block.
        ProviderError: a question failed.
    """
    markers = endpoint.end_markers
    # The end first: an endpoint that lacks it need not be asked for more.
    end = end_of(endpoint, endpoint.ask([header_call(last)], context)[0], last)
    marker = _find(endpoint, first, last, context) if prove and markers.are_needed else None
    if marker is None:
        found, _ = _ask(endpoint, first, end, questions, context, None)
        if not prove:
            return found
        if not found.silent:
            # A last block that bears wanted logs anyway needs no marker.
            markers.are_needed = False
            return found
        if not markers.are_needed:
            markers.are_needed = True
            marker = _find(endpoint, first, last, context)
        marker = marker or _wanted(found.logs)
        if marker is None and not _tells_nothing(endpoint):
            return _block_by_block(endpoint, first, end, questions, found.seconds, context)
        if marker is None:
            _require_silence(endpoint, end, found.silent, context)
            return found
    if marker.number < last:
        number = marker.number
        end = _patiently(endpoint, lambda: end_of(endpoint, endpoint.ask([header_call(number)], context)[0], number))
        if end.hash != marker.block_hash:
            raise wrong(f"block {number}: the logs and the header do not belong together", endpoint)
    found, widened = _patiently(endpoint, lambda: _ask(endpoint, first, end, questions, context, marker))
    markers.are_needed = widened or marker.number != last
    if found.silent:
        _require_silence(endpoint, end, found.silent, context)
    return found


def _ask(
    endpoint: Endpoint,
    first: int,
    end: Header,
    questions: Sequence[LogQuestion],
    context: RequestContext,
    marker: Marker | None,
) -> tuple[RangeAnswer, bool]:
    """The answers, and whether the marker was asked for besides what is wanted."""
    asked = list(questions) if marker is None else _marked(endpoint, questions, marker)
    last = end.number if marker is None else max(end.number, marker.number)
    started = endpoint.clock()
    answers = endpoint.ask([logs_call(first, last, question.asked) for question in asked], context, begun=True)
    found = range_answer(endpoint, end, first, asked, answers, endpoint.clock() - started, context, marker)
    with endpoint.lock:
        endpoint.block_limit.succeeded(last - first + 1, endpoint.clock())
    if marker is not None and any(marker.fits(question.asked) for question in found.silent):
        raise LaggingError(f"its logs do not reach block {marker.number:,}", host=endpoint.host)
    return found, [one.asked for one in asked] != [one.asked for one in questions]


def _marked(endpoint: Endpoint, questions: Sequence[LogQuestion], marker: Marker) -> list[LogQuestion]:
    """The questions, each widened by a log of the marker's block where the endpoint takes lists so long."""
    found = []
    for question in questions:
        parts = [question.asked]
        if len(cut(endpoint, marker.widen(question.asked))) > 1:
            parts = list(question.asked.halves() or parts)
        for part in parts:
            wide = marker.widen(part)
            found.append(replace(question, asked=wide if len(cut(endpoint, wide)) == 1 else part))
    return found


def _tells_nothing(endpoint: Endpoint) -> bool:
    """Whether the last blocks may bear logs that the endpoint does not tell: then no range is short enough for good."""
    markers, now = endpoint.end_markers, endpoint.clock()
    return markers.all_logs.holds(now) and markers.receipts.holds(now)


# -- where a marker may be


def _find(endpoint: Endpoint, first: int, last: int, context: RequestContext) -> Marker | None:
    """The newest block of a range that bears a log, else the next above it, as far as the endpoint says.

    A machine that lacks blocks answers with silence: then the marker is an older one, or none. Each log that is told
    is true.
    """
    logs = _nearest(endpoint, first, last, context, down=True)
    if logs:
        return Marker.of(logs)
    if endpoint.end_markers.all_logs.holds(endpoint.clock()):
        return _by_receipts(endpoint, first, last, context)
    newest = endpoint.ask([Call("eth_getBlockByNumber", ("latest", False))], context, begun=True)[0]
    head = None if isinstance(newest, ProviderError) else parse_header(newest)
    with endpoint.lock:
        # No wider than what it has answered: a refusal would be taken for one of the range.
        highest = first + endpoint.block_limit.granted - 1
    highest = min(highest, last if head is None else head.number)
    logs = _nearest(endpoint, last + 1, highest, context, down=False)
    return Marker.oldest(logs) if logs else None


def _nearest(endpoint: Endpoint, first: int, last: int, context: RequestContext, *, down: bool) -> list[RawLog]:
    """All logs of some blocks of a range: of the newest that bear any (``down``), or of the oldest."""
    markers, width = endpoint.end_markers, 1
    for _ in range(_MOST_WINDOWS):
        if first > last or markers.all_logs.holds(endpoint.clock()):
            break
        start, end = (max(first, last - width + 1), last) if down else (first, min(last, first + width - 1))
        question = partial(_all_logs, endpoint, start, end, context)
        try:
            # Several blocks may be too much at once, in whatever words.
            logs = _unless_refused(endpoint, markers.all_logs, question) if start == end else question()
        except _TOO_WIDE as error:
            if start == end or is_too_old(error):
                break
            width = markers.widest = 1 if width <= _WINDOWS_GROW else width // _WINDOWS_GROW
            continue
        if logs:
            return logs
        width = min(width * _WINDOWS_GROW, markers.widest or width * _WINDOWS_GROW)
        first, last = (first, start - 1) if down else (end + 1, last)
    return []


def _all_logs(endpoint: Endpoint, first: int, last: int, context: RequestContext) -> list[RawLog]:
    return logs_within(endpoint, first, last, ANY, context).logs


def _by_receipts(endpoint: Endpoint, first: int, last: int, context: RequestContext) -> Marker | None:
    """The newest of the last blocks of a range that bears a log, as its receipts tell it."""
    for number in range(last, max(first, last - _RECEIPTS + 1) - 1, -1):
        question = partial(_from_receipts, endpoint, number, context)
        try:
            if checked := _unless_refused(endpoint, endpoint.end_markers.receipts, question):
                return Marker.of(checked)
        except RangeError:
            break
    return None


def _from_receipts(endpoint: Endpoint, number: int, context: RequestContext) -> list[RawLog]:
    def ask(first: int, _: int) -> list[RawLog]:
        return logs_from_receipts(endpoint, first, context).logs

    return null_blocks.within(endpoint, number, number, context, ask, list)


def _wanted(logs: CheckedLogs | LogColumns) -> Marker | None:
    """The newest block of which a wanted log was answered."""
    found = logs.logs() if isinstance(logs, LogColumns) else logs.logs
    return Marker.of(found) if found else None


def _unless_refused(endpoint: Endpoint, refused: Refused, question: Callable[[], list[RawLog]]) -> list[RawLog] | None:
    """The logs that a question brings; None where the endpoint refuses such questions.

    Raises:
        RangeError: they are too many.
        LaggingError: a machine lacks the blocks.
        FatalError: the endpoint does not keep blocks so old.
    """
    if refused.holds(endpoint.clock()):
        return None
    failure: ProviderError | None = None
    for _ in range(_ATTEMPTS):
        try:
            logs = _patiently(endpoint, question)
        except RateError as error:
            failure = error
            break
        except (FatalError, TransientError) as error:
            if is_too_old(error):
                raise
            failure = error
        else:
            refused.answered()
            return logs
    if isinstance(failure, RateError):
        # The header was answered, so it is this question that is refused in the words of a rate.
        endpoint.forgive()
    refused.refused(endpoint.clock())
    logger.info("%s: it does not tell all logs of a block: %s", endpoint.host, failure)
    return None


# -- what needs no marker


def _block_by_block(
    endpoint: Endpoint,
    first: int,
    end: Header,
    questions: Sequence[LogQuestion],
    seconds: float,
    context: RequestContext,
) -> RangeAnswer:
    """Ask for each of the first blocks of a range by its own hash: a machine that lacks the block says so."""
    told = not endpoint.end_markers.all_logs.holds(endpoint.clock())
    asked = [ANY] if told else [question.asked for question in questions]
    numbers = range(first, min(end.number, first + max(1, SINGLY // len(asked)) - 1) + 1)
    others = [number for number in numbers if number != end.number]
    known, runs = _patiently(endpoint, lambda: null_blocks.headers(endpoint, others, context))
    if end.number in numbers:
        known[end.number] = end
    for number in numbers:
        if number not in known and not any(run.holds(number) for run in runs):
            raise LaggingError(f"it does not have block {number:,}", host=endpoint.host)
    # None of them may have a block: then the range ends with the next one that has.
    blocks = [known[number] for number in sorted(known)] or [runs[-1].above]
    each = [(block, one) for block in blocks for one in asked]
    answers = _patiently(endpoint, lambda: logs_of_blocks(endpoint, each, context, begun=True))
    found = [log for part in answers for log in part]
    logs = sorted_once([log for question in questions for log in select(found, question.wanted)])
    hashes = {log.block_number: hex_bytes(log.block_hash) for log in logs}
    return RangeAnswer(blocks[-1], CheckedLogs(logs, hashes, {}), [], seconds)


def _require_silence(endpoint: Endpoint, end: Header, silent: Sequence[LogQuestion], context: RequestContext) -> None:
    """Ask for a last block by its hash, where no log can serve as a marker: a machine that lacks the block says so."""
    asked = [(end, question.asked) for question in silent]
    if any(_patiently(endpoint, lambda: logs_of_blocks(endpoint, asked, context, begun=True))):
        raise LaggingError(f"its logs do not reach block {end.number:,}", host=endpoint.host)


def _patiently(endpoint: Endpoint, question: Callable[[], T]) -> T:
    """Ask again, more and more slowly, where a question is refused for haste."""
    times = waits = 0
    while True:
        try:
            return question()
        except RateError as error:
            times, waits = times + error.times, waits + 1
            if waits == _WAITS:
                error.times = times
                raise
            endpoint.slow_down(error, error.calls)
