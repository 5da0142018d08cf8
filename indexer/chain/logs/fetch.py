"""The logs of a range from one endpoint, with the proof that it has the range; or those of one block in parts.

A node that lacks blocks answers for them with silence, and behind one URL there may be several machines. So the header
of the range's end must come from the machine that answers the logs: in one batch with them, or as
:mod:`indexer.chain.logs.range_proof` proves it where there was no batch. Where the range's last number has no block
(:mod:`indexer.chain.reads.null_blocks`), the newest block before it is the end.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from indexer.chain.logs.block_logs import logs_of_blocks
from indexer.chain.logs.block_times import finished
from indexer.chain.logs.log_parts import logs_in_parts
from indexer.chain.logs.range_proof import one_by_one
from indexer.chain.reads import null_blocks
from indexer.chain.reads.questions import (
    Question,
    RangeAnswer,
    cut,
    end_of,
    granted,
    header_call,
    logs_call,
    merged,
    range_answer,
)
from indexer.chain.records.errors import LaggingError, ProviderError
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

__all__ = ["Question", "chunk", "header_call", "logs_call", "whole_block"]


def chunk(
    endpoint: Endpoint,
    first: int,
    last: int,
    questions: Sequence[Question],
    context: RequestContext,
    *,
    prove: bool = True,
) -> LogChunk:
    """The logs of a range and the header of its end.

    Args:
        endpoint: the endpoint to ask; all parts come from it.
        first: the first block.
        last: the last block.
        questions: what to ask; a log that several of them bring is kept once.
        context: on whose account.
        prove: False: for a sample, whose logs need no proof that their machine has the end.

    Returns:
        The chunk. It ends before ``last`` where no more than that could be proven.

    Raises:
        RangeError: too much at once.
        LaggingError: the endpoint has not reached ``last``.
        AnswerError: the answer contradicts the question or itself.
        ProviderError: a question failed otherwise.
    """
    with _about(first, last, questions[0].asked):
        found = _blocks_within(endpoint, first, last, questions, context, prove)
    with endpoint.lock:
        endpoint.block_limit.succeeded(found.last - first + 1, endpoint.clock())
    return found


def _blocks_within(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], context: RequestContext, prove: bool
) -> LogChunk:
    """The chunk of a range, whose first and last numbers need not have a block."""
    before = context.requests, context.bytes
    try:
        return _chunk(endpoint, first, last, questions, context, before, prove)
    except ProviderError as error:
        blocks = null_blocks.inside(endpoint, first, last, error, context)
        if blocks is None:
            raise
    if blocks.first > blocks.last:
        found = _without_logs(endpoint, blocks.end, context, before)
    else:
        found = _chunk(endpoint, blocks.first, blocks.last, questions, context, before, prove)
    found.first = first
    if found.last == blocks.last:
        found.last = last
    return found


def _without_logs(endpoint: Endpoint, end: Header, context: RequestContext, before: tuple[int, int]) -> LogChunk:
    """Numbers without a block, behind a block whose logs are not asked for."""
    return finished(endpoint, end.number, end, CheckedLogs([], {}, {}), context, before)


@contextmanager
def _about(first: int, last: int, filters: LogFilter) -> Iterator[None]:
    """Say of which range a block is missing: it may be too old rather than too new."""
    try:
        yield
    except LaggingError as error:
        error.call = error.call or logs_call(first, last, filters)
        raise


def _chunk(
    endpoint: Endpoint,
    first: int,
    last: int,
    questions: Sequence[Question],
    context: RequestContext,
    before: tuple[int, int],
    prove: bool,
) -> LogChunk:
    questions = [part for question in questions for part in _in_parts(endpoint, question)]
    found: RangeAnswer | None = None
    if endpoint.max_batch() > 1:
        found = _in_batches(endpoint, first, last, questions, context, prove)
    if found is None:
        found = one_by_one(endpoint, first, last, questions, context, prove=prove)
    granted(endpoint, [question.asked for question in questions])
    chunk = finished(endpoint, first, found.end, found.logs, context, before)
    chunk.seconds = found.seconds
    return chunk


def _in_batches(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], context: RequestContext, prove: bool
) -> RangeAnswer | None:
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
    found = range_answer(endpoint, end, first, questions, answers, took, context)
    if not found.silent or asked == len(groups) or not prove:
        return found
    if 1 < endpoint.max_batch() <= size:
        return _in_batches(endpoint, first, last, questions, context, prove)
    return None


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
    with _about(number, number, filters[0]):
        return _whole_block(endpoint, number, filters, context)


def _whole_block(endpoint: Endpoint, number: int, filters: Sequence[LogFilter], context: RequestContext) -> LogChunk:
    before = context.requests, context.bytes

    def block(wanted: int) -> Header:
        return end_of(endpoint, endpoint.ask([header_call(wanted)], context)[0], wanted)

    end = null_blocks.at_or_below(endpoint, number, context, block)
    if end.number < number:
        found = _without_logs(endpoint, end, context, before)
        found.first = found.last = number
        return found
    silent: list[LogFilter] = []
    checked = merged([logs_in_parts(endpoint, number, number, part, context, silent=silent) for part in filters])
    # Another machine, which lacks the block, may have answered a part with silence: by the block's hash it says so.
    if any(logs_of_blocks(endpoint, [(end, part) for part in silent], context, begun=True)):
        raise LaggingError(f"its logs do not reach block {number:,}", host=endpoint.host)
    return finished(endpoint, number, end, checked, context, before)
