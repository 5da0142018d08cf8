"""The logs of a range from one endpoint, with the proof that it has the range; or those of one block in parts.

A node that lacks blocks answers for them with silence, and behind one URL there may be several machines. So the header
of the range's end must come from the machine that answers the logs: in one batch with them, or, where there was none,
as the hash of a log in the range's last block. Where the last block holds no such log,
:mod:`indexer.chain.records.range_end` finds one that is asked for besides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from indexer.chain.logs.block_logs import logs_by_hash, logs_of_blocks
from indexer.chain.logs.block_times import finished
from indexer.chain.logs.log_parts import logs_in_parts
from indexer.chain.reads.questions import (
    Question,
    checked_logs,
    cut,
    end_of,
    granted,
    header_call,
    logs_between,
    logs_call,
    merged,
    only,
)
from indexer.chain.records import column_reader
from indexer.chain.records.chunk import LogChunk
from indexer.chain.records.errors import FatalError, LaggingError, ProviderError, RangeError, TransientError
from indexer.chain.records.log_columns import LogColumns
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.range_end import Marker
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

ANY = LogFilter()
MARKED = 4
"""So many blocks at the end of a range are looked at, one after the other, for one that bears a log."""

__all__ = ["Question", "chunk", "header_call", "logs_call", "whole_block"]


def chunk(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], context: RequestContext
) -> LogChunk:
    """The logs of a range and the header of its end.

    Args:
        endpoint: whom to ask; all parts come from it.
        first: the first block.
        last: the last block.
        questions: what to ask; a log that several of them bring is kept once.
        context: on whose account.

    Raises:
        RangeError: too much at once.
        LaggingError: the endpoint has not reached ``last``.
        AnswerError: the answer contradicts the question or itself.
        ProviderError: a question failed otherwise.
    """
    found = _chunk(endpoint, first, last, questions, context)
    with endpoint.lock:
        endpoint.block_limit.succeeded(last - first + 1, endpoint.clock())
    return found


@dataclass(slots=True)
class _Read:
    """The end of a range, and what its questions brought.

    Attributes:
        end: the header of the last block.
        logs: what is wanted of the answers.
        silent: those questions whose answers hold no log of the last block, or of the marker's and none above it.
        seconds: how long the answers took.
    """

    end: Header
    logs: CheckedLogs | LogColumns
    silent: list[Question]
    seconds: float


def _chunk(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], context: RequestContext
) -> LogChunk:
    before = context.requests, context.bytes
    questions = [part for question in questions for part in _in_parts(endpoint, question)]
    found: _Read | None = None
    if endpoint.max_batch() > 1:
        found = _in_batches(endpoint, first, last, questions, context)
    if found is None:
        found = _one_by_one(endpoint, first, last, questions, context)
    granted(endpoint, [question.asked for question in questions])
    chunk = finished(endpoint, first, found.end, found.logs, context, before)
    chunk.seconds = found.seconds
    return chunk


def _in_batches(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], context: RequestContext
) -> _Read | None:
    """Ask with the header of the end in each batch; None where a batch was cut and so proves nothing."""
    started, requests = endpoint.clock(), context.requests
    size = max(1, endpoint.max_batch() - 1)
    groups = [questions[start : start + size] for start in range(0, len(questions), size)]
    ends: set[bytes] = set()
    answers: list[Answer] = []
    for group in groups:
        calls = [logs_call(first, last, question.asked) for question in group]
        *raw_logs, raw_end = endpoint.ask([*calls, header_call(last)], context, begun=bool(answers))
        end = end_of(endpoint, raw_end, last)
        ends.add(end.hash)
        answers += raw_logs
    if len(ends) > 1:
        raise LaggingError(f"two answers differ about block {last:,}", host=endpoint.host)
    took, asked = endpoint.clock() - started, context.requests - requests
    found = _read(endpoint, end, first, questions, answers, took, context)
    if not found.silent or asked == len(groups):
        return found
    if endpoint.refuses_batches:
        endpoint.end_markers.are_needed = True
        return None
    if 1 < endpoint.max_batch() <= size:
        return _in_batches(endpoint, first, last, questions, context)
    return found


def _one_by_one(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], context: RequestContext
) -> _Read:
    """Ask for the end and the logs in requests of their own, each of which another machine may answer."""
    markers = endpoint.end_markers
    marker: Marker | None = None
    tried = False
    # The end first: an endpoint that lacks it need not be asked for more.
    end = end_of(endpoint, endpoint.ask([header_call(last)], context)[0], last)
    while True:
        if not tried and markers.are_needed and endpoint.refuses_batches:
            marker, tried = _find_marker(endpoint, first, end, context), True
        asked = list(questions) if marker is None else _marked(endpoint, questions, marker)
        started = endpoint.clock()
        calls = [logs_call(first, end.number, question.asked) for question in asked]
        answers = endpoint.ask(calls, context, begun=True)
        found = _read(endpoint, end, first, asked, answers, endpoint.clock() - started, context, marker)
        if found.silent and marker is not None and any(marker.fits(question.asked) for question in found.silent):
            raise LaggingError(f"its logs do not reach block {marker.number:,}", host=endpoint.host)
        if not found.silent or tried or not endpoint.refuses_batches:
            # A last block that bears such logs anyway needs no marker.
            markers.are_needed = tried and (
                marker is None or [one.asked for one in asked] != [q.asked for q in questions]
            )
            if found.silent and tried:
                _require_silence(endpoint, end, found.silent, context)
            return found
        markers.are_needed = True


def _find_marker(endpoint: Endpoint, first: int, end: Header, context: RequestContext) -> Marker | None:
    """Look for the newest of the last blocks of a range that bears a log, by its hash: one question as a rule.

    A machine that lacks a block says so when it is asked by hash; by number it would answer with silence.

    Returns:
        The block with its logs; None where there is none, or where the endpoint does not answer such questions.
    """
    markers, last = endpoint.end_markers, end.number
    if markers.are_refused(endpoint.clock()):
        return None
    start = max(first, last - MARKED + 1)
    try:
        if endpoint.hash_filter.is_missing(endpoint.clock()):
            logs = logs_between(endpoint, start, last, ANY, context)
            return Marker.of(logs) if logs else None
        for number in range(last, start - 1, -1):
            header = end
            if number < last:
                header = end_of(endpoint, endpoint.ask([header_call(number)], context, begun=True)[0], number)
            (logs,) = logs_by_hash(endpoint, [(header.hash, ANY)], context, begun=True)
            if logs:
                return Marker.of(logs)
    except (RangeError, FatalError, TransientError) as error:
        _require_refusal(error)
        markers.refused(endpoint.clock())
    return None


def _require_refusal(error: ProviderError) -> None:
    """Raise an error that ends all questions; the end was answered, so any other is about all logs of a block."""
    if isinstance(error, FatalError) and error.scope in ("endpoint", "history"):
        raise error


def _marked(endpoint: Endpoint, questions: Sequence[Question], marker: Marker) -> list[Question]:
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


def _require_silence(endpoint: Endpoint, end: Header, silent: Sequence[Question], context: RequestContext) -> None:
    """Ask for a last block by its hash, where no log of it could serve as a marker: who lacks the block says so."""
    found = logs_of_blocks(endpoint, [(end, question.asked) for question in silent], context, begun=True)
    if any(found):
        raise LaggingError(f"its logs do not reach block {end.number:,}", host=endpoint.host)


def _read(
    endpoint: Endpoint,
    end: Header,
    first: int,
    questions: Sequence[Question],
    answers: Sequence[Answer],
    seconds: float,
    context: RequestContext,
    marker: Marker | None = None,
) -> _Read:
    """Check the answers to some questions about the range that ends in a block; a marker's block may stand for it."""
    for answer in answers:
        if isinstance(answer, ProviderError):
            raise answer
    last = end.number
    proof = last if marker is None else marker.number
    if len(questions) == 1 and (columns := _columns(endpoint, answers[0], first, last, questions[0])) is not None:
        wanted, newest = columns
        if wanted is not None:
            return _Read(end, wanted, [] if newest >= proof else [questions[0]], seconds)
    parts, silent = [], []
    for raw, question in zip(answers, questions, strict=True):
        part = checked_logs(endpoint, raw, first, last, question.asked, context)
        if max(part.hashes, default=-1) < proof:
            silent.append(question)
        parts.append(part if question.asked == question.wanted else only(part, question.wanted))
    return _Read(end, merged(parts), silent, seconds)


def _columns(
    endpoint: Endpoint, answer: Answer, first: int, last: int, question: Question
) -> tuple[LogColumns | None, int] | None:
    """The logs of an answer in columns, and the newest block of them; None: to be read the plain way."""
    if isinstance(answer, ProviderError) or endpoint.log_index_per_transaction:
        return None
    columns = column_reader.read(memoryview(answer), first, last, question.asked, endpoint.layouts)
    if columns is None:
        return None
    newest = int(columns.block_numbers[-1]) if len(columns) else -1
    return columns if question.asked == question.wanted else columns.only(question.wanted), newest


def _in_parts(endpoint: Endpoint, question: Question) -> list[Question]:
    """A question in parts whose lists the endpoint takes."""
    parts = cut(endpoint, question.asked)
    if question.asked == question.wanted:
        return [Question(part, part) for part in parts]
    return [Question(part, question.wanted) for part in parts]


def whole_block(endpoint: Endpoint, number: int, filters: Sequence[LogFilter], context: RequestContext) -> LogChunk:
    """One block whose logs are too much for one answer: cut by address and topic, at last read from its receipts.

    Raises:
        LaggingError: the endpoint does not have the block.
        AnswerError: an answer contradicts its question or another.
        ProviderError: a question failed.
    """
    before = context.requests, context.bytes
    end = end_of(endpoint, endpoint.ask([header_call(number)], context)[0], number)
    checked = merged([logs_in_parts(endpoint, number, number, part, context) for part in filters])
    return finished(endpoint, number, end, checked, context, before)
