"""Questions to one endpoint, and how their answers are checked: headers, and the logs of a range.

Nothing here retries or chooses; the client does that around it.

Some nodes write logs otherwise: ``null`` for none, and no place of their transaction. ``null`` is also what a node
answers that has just failed, or that has no logs at all to give. So it means "no logs" only at a node that answers a
question whose answer is empty for certain with ``null``, every time, and that gives the logs of a block whose bloom
says that it has some.
"""

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from indexer.chain.records import column_reader
from indexer.chain.records.completeness import Marker
from indexer.chain.records.errors import AnswerError, LaggingError, ProviderError
from indexer.chain.records.log_columns import LogColumns
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, Header, WireLog, block_decoder, logs_decoder, parse, parse_header
from indexer.chain.records.validation import CheckedLogs, check_logs, select, sorted_once
from indexer.chain.rpc.answers import Answer, Pieces, ask_abreast, ask_in_pieces
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.list_limits import ListSizes

_GET_BLOCK = "eth_getBlockByNumber"

logger = logging.getLogger(__name__)

# An event that no contract has at an address that none has: there are no such logs.
_NOTHING = LogFilter(addresses=("0x" + "f6" * 20,), topics=(("0x" + "f6" * 32,),))
# So often it is asked for: a node that fails at every third question does not fail at all of these.
_QUESTIONS = 8
# Blocks that are looked at first, of which some bear logs on most chains.
_LOOKED_AT = 100
# Reading an answer takes a few times its own memory, and a core.
_READING_AT_ONCE = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))
_EMPTY = b"[]"
_NULL = b"null"


@dataclass(frozen=True, slots=True)
class LogQuestion:
    """A filter that is sent, and the one whose logs are kept of the answer: narrower where much is filtered here."""

    asked: LogFilter
    wanted: LogFilter


@dataclass(slots=True)
class RangeAnswer:
    """What some questions about one range brought.

    Attributes:
        end: the header of the last block.
        logs: what is wanted of the answers.
        silent: those questions whose answers hold no log of the last block, or of the marker's block or above it.
        seconds: how long the answers took.
    """

    end: Header
    logs: CheckedLogs | LogColumns
    silent: list[LogQuestion]
    seconds: float


def wrong(problem: str, endpoint: Endpoint) -> AnswerError:
    """The error for an answer that contradicts its question."""
    return AnswerError(problem, host=endpoint.host)


def header_call(number: int) -> Call:
    """The question for a header by number."""
    return Call(_GET_BLOCK, (hex(number), False))


def logs_call(first: int, last: int, filters: LogFilter) -> Call:
    """The question for the logs of a range."""
    return Call("eth_getLogs", (filters.between(first, last),), (first, last), filters)


def cut(endpoint: Endpoint, filters: LogFilter) -> list[LogFilter]:
    """A filter in parts whose lists the endpoint takes, as far as is known."""
    with endpoint.lock:
        return endpoint.lists.cut(filters, endpoint.clock())


def granted(endpoint: Endpoint, parts: Sequence[LogFilter]) -> None:
    """Takes note that the endpoint has answered questions with these lists."""
    with endpoint.lock:
        for part in parts:
            endpoint.lists.granted(ListSizes.of(part))


def headers(
    endpoint: Endpoint, numbers: Sequence[int], context: RequestContext, *, begun: bool = False
) -> dict[int, Header]:
    """Headers by number, in batches; those that the endpoint does not have are missing.

    Args:
        endpoint: the endpoint to ask.
        numbers: of the blocks.
        context: on whose account.
        begun: their logs have come already: several batches are under way at once, and a refusal for haste is waited
            for here.

    Raises:
        AnswerError: a header of another number was answered.
        ProviderError: a question failed.
    """
    pieces = pieces_of_headers(endpoint, numbers, context, begun=begun)
    for error in pieces.failed.values():
        if not isinstance(error, LaggingError):
            raise error
    return pieces.found


def pieces_of_headers(
    endpoint: Endpoint, numbers: Sequence[int], context: RequestContext, *, begun: bool = False
) -> Pieces[int, Header]:
    """Headers by number, in batches, and why there is none of the others; ``begun`` as of :func:`headers`.

    Raises:
        ProviderError: nothing can be said of single questions.
    """

    def read(number: int, raw: msgspec.Raw) -> Header:
        header = parse_header(raw)
        if header is None:
            raise LaggingError(f"it does not have block {number:,}", host=endpoint.host)
        if header.number != number:
            raise wrong(f"asked for block {number}, it answered with block {header.number}", endpoint)
        with endpoint.lock:
            endpoint.health.saw(number)
        return header

    def again(number: int, error: ProviderError) -> bool:
        # Beyond the newest block that it has shown, and where numbers are left out, no header is an answer.
        if isinstance(error, LaggingError):
            return number <= endpoint.health.seen and not endpoint.null_blocks
        return True

    calls = {number: header_call(number) for number in numbers}
    if begun:
        return ask_abreast(endpoint, calls, context, read, again=again)
    return ask_in_pieces(endpoint, calls, context, read, again=again)


def end_of(endpoint: Endpoint, answer: Answer, last: int) -> Header:
    """The header of a range's last block. Raises what the answer was, LaggingError for null, or AnswerError."""
    if isinstance(answer, ProviderError):
        raise answer
    header = parse_header(answer)
    if header is None:
        raise LaggingError(f"it has not reached block {last:,}", host=endpoint.host)
    if header.number != last:
        raise wrong(f"asked for block {last}, it answered with block {header.number}", endpoint)
    with endpoint.lock:
        endpoint.health.saw(last)
    return header


def checked_logs(
    endpoint: Endpoint,
    answer: Answer,
    first: int,
    last: int,
    asked: LogFilter,
    context: RequestContext,
    *,
    call: Call | None = None,
) -> CheckedLogs:
    """One answer to ``eth_getLogs``, checked; ``call``: the question, where it was by a block's hash.

    Raises what the answer was, or AnswerError.
    """
    if isinstance(answer, ProviderError):
        raise answer
    if _is_null(endpoint, answer):
        newest = max(0, endpoint.health.seen, endpoint.health.head or 0)
        _require_no_logs(endpoint, call or logs_call(first, last, asked), newest, context)
        return CheckedLogs([], {}, {})
    return checked(endpoint, parse(answer, logs_decoder.decode, "list of logs"), first, last, asked, context)


def checked(
    endpoint: Endpoint, wire: list[WireLog], first: int, last: int, asked: LogFilter, context: RequestContext
) -> CheckedLogs:
    """Logs as an endpoint wrote them, checked and with their places."""
    if any(log.transaction_index is None for log in wire):
        _place(endpoint, wire, context)
    return check_logs(wire, first, last, asked, per_transaction=endpoint.log_index_per_transaction)


def merged(parts: Sequence[CheckedLogs]) -> CheckedLogs:
    """The logs of several answers of one endpoint, each once. Raises AnswerError where they contradict each other."""
    if len(parts) == 1:
        return parts[0]
    merged = CheckedLogs([], {}, {})
    for part in parts:
        for number, block_hash in part.hashes.items():
            if merged.hashes.setdefault(number, block_hash) != block_hash:
                raise AnswerError(f"two hashes for block {number} in one answer")
        merged.times.update(part.times)
        merged.removed |= part.removed
        merged.logs += part.logs
    # Overlapping questions bring a log more than once.
    merged.logs = sorted_once(merged.logs)
    return merged


def only(checked: CheckedLogs, wanted: LogFilter) -> CheckedLogs:
    """Those of the logs that a narrower filter asks for, and their blocks."""
    logs = select(checked.logs, wanted)
    bearing = {log.block_number for log in logs}
    hashes = {number: block_hash for number, block_hash in checked.hashes.items() if number in bearing}
    times = {number: time for number, time in checked.times.items() if number in bearing}
    return CheckedLogs(logs, hashes, times, checked.removed)


def up_to(checked: CheckedLogs, last: int) -> CheckedLogs:
    """The logs of the blocks up to one, and those blocks."""
    return CheckedLogs(
        [log for log in checked.logs if log.block_number <= last],
        {number: block_hash for number, block_hash in checked.hashes.items() if number <= last},
        {number: time for number, time in checked.times.items() if number <= last},
        {(number, block_hash) for number, block_hash in checked.removed if number <= last},
    )


def range_answer(
    endpoint: Endpoint,
    end: Header,
    first: int,
    questions: Sequence[LogQuestion],
    answers: Sequence[Answer],
    seconds: float,
    context: RequestContext,
    marker: Marker | None = None,
) -> RangeAnswer:
    """Check the answers to some questions about one range.

    Args:
        endpoint: who answered.
        end: the header of the last block of the range.
        first: the first block.
        questions: what was asked of all these blocks, and of those up to the marker's where that lies above the end.
        answers: one for each question.
        seconds: how long they took.
        context: on whose account.
        marker: a block that stands for the last one.

    Raises:
        AnswerError: an answer contradicts its question or another.
        ProviderError: a question failed.
    """
    for answer in answers:
        if isinstance(answer, ProviderError):
            raise answer
    proof = end.number if marker is None else marker.number
    last = max(end.number, proof)
    if len(questions) == 1 and last == end.number:
        columns = _columns(endpoint, answers[0], first, last, questions[0])
        if columns is not None:
            wanted, newest = columns
            return RangeAnswer(end, wanted, [] if newest >= proof else [questions[0]], seconds)
    parts, silent = [], []
    for raw, question in zip(answers, questions, strict=True):
        part = checked_logs(endpoint, raw, first, last, question.asked, context)
        if max(part.hashes, default=-1) < proof:
            silent.append(question)
        part = part if last == end.number else up_to(part, end.number)
        parts.append(part if question.asked == question.wanted else only(part, question.wanted))
    return RangeAnswer(end, merged(parts), silent, seconds)


def _columns(
    endpoint: Endpoint, answer: Answer, first: int, last: int, question: LogQuestion
) -> tuple[LogColumns, int] | None:
    """The logs of an answer in columns, and the newest block of them; None: to be read the plain way."""
    if isinstance(answer, ProviderError) or endpoint.log_index_per_transaction:
        return None
    with _READING_AT_ONCE:
        columns = column_reader.read(memoryview(answer), first, last, question.asked, endpoint.layouts)
    if columns is None:
        return None
    newest = int(columns.block_numbers[-1]) if len(columns) else -1
    wanted = columns if question.asked == question.wanted else columns.only(question.wanted)
    return None if wanted is None else (wanted, newest)


def _is_null(endpoint: Endpoint, answer: msgspec.Raw) -> bool:
    """Whether an answer to ``eth_getLogs`` is ``null``. Takes note of a node that writes no logs as an empty list."""
    text = memoryview(answer)
    if text.nbytes == len(_EMPTY) and bytes(text) == _EMPTY:
        endpoint.null_means_no_logs = False
    return text.nbytes == len(_NULL) and bytes(text) == _NULL


def _require_no_logs(endpoint: Endpoint, call: Call, block: int, context: RequestContext) -> None:
    """Believe that ``null`` means no logs, or disbelieve it.

    A node that writes no logs as ``null`` may fail with ``null`` as well, so the question itself is asked again, too.

    Args:
        endpoint: it answered ``null``.
        call: the question.
        block: one that it has.
        context: on whose account.

    Raises:
        AnswerError: it answers an empty list where there are no logs, or this question otherwise: ``null`` was a
        failure.
    """
    nothing = logs_call(block, block, _NOTHING)
    unknown = endpoint.null_means_no_logs is None
    if unknown and _answers_null(endpoint, nothing, context) and _gives_logs(endpoint, block, context):
        endpoint.null_means_no_logs = True
        logger.info("%s: it answers eth_getLogs with null where there are no logs", endpoint.host)
    if not endpoint.null_means_no_logs or not _answers_null(endpoint, call, context):
        raise AnswerError("eth_getLogs was answered with null", host=endpoint.host)


def _answers_null(endpoint: Endpoint, call: Call, context: RequestContext) -> bool:
    """Whether it answers ``null`` to a question as often as it is asked."""
    try:
        answers = endpoint.ask([call] * _QUESTIONS, context, begun=True)
    except ProviderError:
        return False
    return all(not isinstance(one, ProviderError) and _is_null(endpoint, one) for one in answers)


def _gives_logs(endpoint: Endpoint, block: int, context: RequestContext) -> bool:
    """Whether it gives the logs of blocks that have some: in place of a failure it would answer ``null`` there, too.

    Where it gives none of all blocks up to one, that block's bloom must show none either.
    """
    try:
        for first in (max(0, block - _LOOKED_AT + 1), 0):
            answer = endpoint.ask_one(logs_call(first, block, LogFilter()), context)
            if bytes(memoryview(answer)) not in (_NULL, _EMPTY):
                return True
        header = parse_header(endpoint.ask_one(header_call(block), context))
    except ProviderError:
        return True  # it refuses logs of any address: nothing is known
    return header is None or not any(header.logs_bloom)


def _place(endpoint: Endpoint, logs: Sequence[WireLog], context: RequestContext) -> None:
    """Give logs without ``transactionIndex`` the place of their transaction in its block, as the block has it.

    Raises:
        AnswerError: the block does not hold the transaction, or cannot be read.
    """
    lacking = [log for log in logs if log.transaction_index is None]
    hashes = {log.block_hash: None for log in lacking if log.block_hash is not None}
    calls = {one: Call("eth_getBlockByHash", (one, False)) for one in hashes}
    pieces = ask_in_pieces(endpoint, calls, context, lambda _, raw: parse(raw, block_decoder.decode, "block"))
    places = {
        (one, tx_hash.lower()): hex(index)
        for one, block in pieces.found.items()
        for index, tx_hash in enumerate(block.transactions)
    }
    for log in lacking:
        if log.removed or log.block_hash is None:
            continue
        log.transaction_index = places.get((log.block_hash, (log.transaction_hash or "").lower()))
        if log.transaction_index is None:
            failed = pieces.failed.get(log.block_hash)
            why = f"it cannot be read: {failed.args[0]}" if failed else "it does not hold that transaction"
            raise AnswerError(
                f"a log of block {log.block_number} has no transactionIndex, and the block does not tell it: {why}",
                host=endpoint.host,
            )
