"""The logs of a range from one endpoint, with the proof that it has the range; or those of one block in parts.

A node that lacks blocks answers for them with silence, and behind one URL there may be several machines. So the header
of the range's end must come from the machine that answers the logs: in one batch with them, or as
:mod:`indexer.chain.logs.range_proof` proves it where there was no batch. Where the range's last number has no block
(:mod:`indexer.chain.reads.null_blocks`), the newest block before it is the end.

The hashes and times of the blocks come from the logs where these tell the time, else from headers; both are compared
where they meet.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from indexer.block_records import BlockColumns
from indexer.chain.logs.block_logs import logs_in_parts, logs_of_blocks
from indexer.chain.logs.range_proof import one_by_one
from indexer.chain.reads import null_blocks
from indexer.chain.reads.questions import (
    LogQuestion,
    RangeAnswer,
    cut,
    end_of,
    granted,
    header_call,
    headers,
    logs_call,
    merged,
    range_answer,
    wrong,
)
from indexer.chain.records.errors import LaggingError, ProviderError
from indexer.chain.records.log_columns import Blocks, Integers, LogChunk, LogColumns, ToldTime
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

# A pause is out of the ordinary above so many seconds, and so many times the usual one for its number of blocks.
_LEAP = 600
_LEAPS = 20


def _finished(
    endpoint: Endpoint,
    first: int,
    end: Header,
    read: CheckedLogs | LogColumns,
    context: RequestContext,
    before: tuple[int, int],
) -> LogChunk:
    """A chunk of checked logs and the header of its end, with the times of its blocks.

    Args:
        endpoint: whose answers they are; it is asked for headers where logs do not tell the time.
        first: the first block.
        end: the header of the last block.
        read: the logs.
        context: on whose account.
        before: what the errand had cost, in requests and bytes, before the chunk was asked for.

    Raises:
        AnswerError: logs and headers do not belong together.
        LaggingError: the endpoint lacks a block that bears logs.
        ProviderError: a question failed.
    """
    log_bytes = context.bytes - before[1]
    if isinstance(read, CheckedLogs) and read.removed:
        _require_not_removed(endpoint, read, context)
    if isinstance(read, LogColumns) and _tells_times(endpoint, read, end):
        blocks, told = _with_end(read, end), read.block_numbers
    else:
        hashes, times = (read.hashes(), read.times()) if isinstance(read, LogColumns) else (read.hashes, read.times)
        found, told = _timed(endpoint, end, hashes, times, context)
        blocks = BlockColumns.of(found)
    requests, received = context.requests - before[0], context.bytes - before[1]
    chunk = LogChunk(first, end.number, read, blocks, end, endpoint.host, requests, received, log_bytes)
    chunk.told_time = _told_time(blocks, told, end)
    return chunk


def _require_not_removed(endpoint: Endpoint, checked: CheckedLogs, context: RequestContext) -> None:
    """Disbelieve logs that are marked as removed in the history of the chain; those of other branches are left out."""
    checked.require_not_removed(checked.hashes, endpoint.host)
    numbers = sorted({number for number, _ in checked.removed})
    found = headers(endpoint, numbers, context)
    if missing := [number for number in numbers if number not in found]:
        raise LaggingError(f"it marks logs of block {missing[0]:,} as removed and lacks the block", host=endpoint.host)
    checked.require_not_removed({number: header.hash for number, header in found.items()}, endpoint.host)


def _tells_times(endpoint: Endpoint, read: LogColumns, end: Header) -> bool:
    """Whether the logs tell the times of all their blocks, and the header of the end contradicts nothing of it."""
    if not endpoint.log_times_hold or not bool((read.block_times >= 0).all()):
        return False
    if len(read) and read.block_numbers[-1] == end.number and read.block_hashes[-1].tobytes() != end.hash:
        return False
    return _agree(read.block_numbers, read.block_times, end)


def _agree(numbers: Integers, times: Integers, end: Header) -> bool:
    """Whether the times that logs tell never go back, and agree with the end of the range."""
    if not len(numbers):
        return True
    last = bool(times[-1] == end.time) if numbers[-1] == end.number else bool(times[-1] <= end.time)
    return last and bool((np.diff(times) >= 0).all())


def _told_time(blocks: BlockColumns, told: Integers, end: Header) -> ToldTime | None:
    """One time that only logs tell, to be compared with a header: the one before the longest pause for its blocks.

    Times that never go back and meet a true end are wrong up to some block, and behind that block they jump. Where the
    end bears a log, the times meet it, and one is compared only where they jump as those of no chain of that pace do.

    Args:
        blocks: of the chunk.
        told: numbers of the blocks whose time is the logs' word, ascending.
        end: the header of the range's end.
    """
    if not len(told) or told[0] == end.number:
        return None
    rows = np.searchsorted(blocks.numbers, told[told < end.number])
    numbers, times = np.append(blocks.numbers[rows], end.number), np.append(blocks.times[rows], end.time)
    steps, spans = np.diff(times), np.diff(numbers)
    usual = np.median(steps / spans) * spans
    longest = int((steps - usual).argmax())
    if told[-1] == end.number:
        leap = steps[longest]
        if leap <= _LEAP or (len(steps) > 1 and leap <= _LEAPS * usual[longest]):
            return None
    row = int(rows[longest])
    return int(blocks.numbers[row]), blocks.hashes[row].tobytes(), int(blocks.times[row])


def bearing_header(endpoint: Endpoint, number: int, block_hash: bytes, context: RequestContext) -> Header:
    """The header of a block that bears logs.

    Raises:
        AnswerError: it is of another block than the logs.
        LaggingError: the endpoint lacks the block.
        ProviderError: the question failed.
    """
    header = headers(endpoint, [number], context).get(number)
    if header is None:
        raise LaggingError(f"it does not have block {number:,}, which bears logs", host=endpoint.host)
    if header.hash != block_hash:
        raise wrong(f"block {number}: the logs and the header do not belong together", endpoint)
    return header


def _with_end(read: LogColumns, end: Header) -> BlockColumns:
    if len(read) and read.block_numbers[-1] == end.number:
        return BlockColumns(read.block_numbers, read.block_hashes, read.block_times)
    return BlockColumns(
        np.append(read.block_numbers, end.number),
        np.concatenate([read.block_hashes, np.frombuffer(end.hash, np.uint8)[None]]),
        np.append(read.block_times, end.time),
    )


def _timed(
    endpoint: Endpoint, end: Header, hashes: dict[int, bytes], told: dict[int, int], context: RequestContext
) -> tuple[Blocks, Integers]:
    """The blocks that bear logs, and the end: headers are asked for where the logs do not tell the time.

    Returns:
        The blocks, and the numbers of those whose time is the logs' word.
    """
    last = end.number
    if hashes.get(last, end.hash) != end.hash:
        raise wrong(f"block {last}: the logs and the header do not belong together", endpoint)
    times = {last: end.time}
    numbers = np.zeros(0, dtype=np.int64)
    if endpoint.log_times_hold:
        numbers = np.array(sorted(told), dtype=np.int64)
        endpoint.log_times_hold = _agree(numbers, np.array([told[n] for n in numbers.tolist()], dtype=np.int64), end)
        times |= told if endpoint.log_times_hold else {}
    if untimed := [number for number in hashes if number not in times]:
        for number, header in headers(endpoint, untimed, context, begun=True).items():
            if header.hash != hashes[number]:
                raise wrong(f"block {number}: the logs and the header do not belong together", endpoint)
            times[number] = header.time
        if missing := [number for number in untimed if number not in times]:
            raise LaggingError(f"it has logs of block {missing[0]:,} but not the block", host=endpoint.host)
    blocks = {number: (block_hash, times[number]) for number, block_hash in hashes.items()}
    blocks[last] = (end.hash, end.time)
    return blocks, numbers if endpoint.log_times_hold else numbers[:0]


def chunk(
    endpoint: Endpoint,
    first: int,
    last: int,
    questions: Sequence[LogQuestion],
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
    endpoint: Endpoint, first: int, last: int, questions: Sequence[LogQuestion], context: RequestContext, prove: bool
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
    return _finished(endpoint, end.number, end, CheckedLogs([], {}, {}), context, before)


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
    questions: Sequence[LogQuestion],
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
    chunk = _finished(endpoint, first, found.end, found.logs, context, before)
    chunk.seconds = found.seconds
    return chunk


def _in_batches(
    endpoint: Endpoint, first: int, last: int, questions: Sequence[LogQuestion], context: RequestContext, prove: bool
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


def _in_parts(endpoint: Endpoint, question: LogQuestion) -> list[LogQuestion]:
    """A question in parts whose lists the endpoint takes."""
    parts = cut(endpoint, question.asked)
    if question.asked == question.wanted:
        return [LogQuestion(part, part) for part in parts]
    return [LogQuestion(part, question.wanted) for part in parts]


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
    return _finished(endpoint, number, end, checked, context, before)
