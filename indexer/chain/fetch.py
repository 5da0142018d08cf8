"""One question to one endpoint, its answer checked: headers, the logs of a range with its end, the logs of one block.

Nothing here retries or chooses; the client does that around it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from indexer.block_columns import BlockColumns
from indexer.chain import columnar, log_forms, piecewise
from indexer.chain.answers import Answer
from indexer.chain.chunk import Blocks, LogChunk, ToldTime
from indexer.chain.config import Errand
from indexer.chain.endpoint import Endpoint
from indexer.chain.errors import (
    AnswerError,
    BranchMovedError,
    FatalError,
    LaggingError,
    OtherBlockError,
    ProviderError,
    RangeError,
    TransientError,
    without_numbers,
)
from indexer.chain.filters import LogFilter
from indexer.chain.list_limits import ListSizes
from indexer.chain.log_columns import Integers, LogColumns
from indexer.chain.logs import CheckedLogs, RawLog, check_logs, select, sorted_once
from indexer.chain.wire import (
    Call,
    Header,
    WireLog,
    block_decoder,
    logs_decoder,
    parse,
    parse_header,
    receipt_decoder,
    receipts_decoder,
)

logger = logging.getLogger(__name__)

_GET_BLOCK = "eth_getBlockByNumber"
# JSON-RPC codes that are about the question: invalid request, no such method, invalid parameters.
_REFUSED_CODES = frozenset({-32600, -32601, -32602})


@dataclass(frozen=True, slots=True)
class Question:
    """A filter that is sent, and the one whose logs are kept of the answer: narrower where much is filtered here."""

    asked: LogFilter
    wanted: LogFilter


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


def headers(endpoint: Endpoint, numbers: Sequence[int], errand: Errand) -> dict[int, Header]:
    """Headers by number, in batches; those that the endpoint does not have are missing.

    Raises:
        AnswerError: a header of another number was answered.
        ProviderError: a question failed.
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
        # Beyond the newest block that it has shown, no header is an answer.
        return not isinstance(error, LaggingError) or number <= endpoint.health.seen

    pieces = piecewise.ask(endpoint, {n: header_call(n) for n in numbers}, errand, read, again=again)
    for error in pieces.failed.values():
        if not isinstance(error, LaggingError):
            raise error
    return pieces.found


def chunk(endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], errand: Errand) -> LogChunk:
    """The logs of a range and the header of its end, in one batch where the endpoint takes batches.

    Args:
        endpoint: whom to ask; all parts come from it.
        first: the first block.
        last: the last block.
        questions: what to ask; a log that several of them bring is kept once.
        errand: on whose account.

    Raises:
        RangeError: too much at once.
        LaggingError: the endpoint has not reached ``last``.
        AnswerError: the answer contradicts the question or itself.
        ProviderError: a question failed otherwise.
    """
    try:
        found = _chunk(endpoint, first, last, questions, errand)
    except RangeError as error:
        if error.limit == "blocks" and last > first:
            with endpoint.lock:
                endpoint.block_limit.failed(last - first + 1, error.maximum, endpoint.clock())
        elif error.limit == "unknown" and error.suggested is not None:
            _learn_suggestion(endpoint, first, last, error)
        raise
    with endpoint.lock:
        endpoint.block_limit.succeeded(last - first + 1, endpoint.clock())
    return found


def _learn_suggestion(endpoint: Endpoint, first: int, last: int, error: RangeError) -> None:
    """Ranges of one width that are suggested again and again, without a reason, are a limit of blocks."""
    assert error.suggested is not None
    begin, end = error.suggested
    if begin != first or not first <= end < last:
        return
    width = end - begin + 1
    with endpoint.lock:
        if endpoint.suggested_width == width:
            endpoint.block_limit.failed(last - first + 1, width, endpoint.clock())
        endpoint.suggested_width = width


def _chunk(endpoint: Endpoint, first: int, last: int, questions: Sequence[Question], errand: Errand) -> LogChunk:
    before = errand.requests, errand.bytes
    started = endpoint.clock()
    questions = [part for question in questions for part in _in_parts(endpoint, question)]
    if endpoint.max_batch() > 1:
        calls = [logs_call(first, last, question.asked) for question in questions]
        *raw_logs, raw_end = endpoint.ask([*calls, header_call(last)], errand)
        end = _end(endpoint, raw_end, last)
    else:
        # The end first: an endpoint that lacks it need not be asked for more.
        end = _end(endpoint, endpoint.ask([header_call(last)], errand)[0], last)
        raw_logs = endpoint.ask([logs_call(first, last, question.asked) for question in questions], errand, begun=True)
    took = endpoint.clock() - started
    for answer in raw_logs:
        if isinstance(answer, ProviderError):
            raise answer
    granted(endpoint, [question.asked for question in questions])
    read: CheckedLogs | LogColumns | None = None
    if len(questions) == 1:
        read = _columns(endpoint, raw_logs[0], first, last, questions[0])
    if read is None:
        parts = []
        for raw, question in zip(raw_logs, questions, strict=True):
            part = checked_logs(endpoint, raw, first, last, question.asked, errand)
            parts.append(part if question.asked == question.wanted else _only(part, question.wanted))
        read = _merged(parts)
    found = _finished(endpoint, first, end, read, errand, before)
    found.seconds = took
    return found


def _columns(endpoint: Endpoint, answer: Answer, first: int, last: int, question: Question) -> LogColumns | None:
    """The logs of an answer in columns, or None where it must be read the plain way."""
    if isinstance(answer, ProviderError) or endpoint.log_index_per_transaction:
        return None
    columns = columnar.read(memoryview(answer), first, last, question.asked, endpoint.layouts)
    if columns is None or question.asked == question.wanted:
        return columns
    return columns.only(question.wanted)


def _in_parts(endpoint: Endpoint, question: Question) -> list[Question]:
    """A question in parts whose lists the endpoint takes."""
    parts = cut(endpoint, question.asked)
    if question.asked == question.wanted:
        return [Question(part, part) for part in parts]
    return [Question(part, question.wanted) for part in parts]


def whole_block(endpoint: Endpoint, number: int, filters: Sequence[LogFilter], errand: Errand) -> LogChunk:
    """One block whose logs are too much for one answer: cut by address and topic, at last read from its receipts.

    Raises:
        LaggingError: the endpoint does not have the block.
        AnswerError: an answer contradicts its question or another.
        ProviderError: a question failed.
    """
    before = errand.requests, errand.bytes
    end = _end(endpoint, endpoint.ask([header_call(number)], errand)[0], number)
    checked = _merged([logs_in_parts(endpoint, number, number, part, errand) for part in filters])
    return _finished(endpoint, number, end, checked, errand, before)


def logs_in_parts(
    endpoint: Endpoint, first: int, last: int, filters: LogFilter, errand: Errand, *, refused: bool = False
) -> CheckedLogs:
    """The logs of a range in as many parts as the endpoint demands.

    Args:
        endpoint: whom to ask.
        first: the first block.
        last: the last block.
        filters: what is wanted.
        errand: on whose account.
        refused: this very question has been refused: begin with parts of it.

    Raises:
        AnswerError: an answer contradicts its question or another.
        ProviderError: a question failed.
    """
    lists = cut(endpoint, filters)
    if len(lists) > 1:
        return _merged([logs_in_parts(endpoint, first, last, part, errand) for part in lists])
    if not refused:
        try:
            found = checked_logs(
                endpoint, endpoint.ask([logs_call(first, last, filters)], errand)[0], first, last, filters, errand
            )
        except RangeError as error:
            if error.timed_out and first == last and filters.halves() is None:
                raise
        except TransientError as error:
            # In words that no table knows it may be too much, too.
            if not error.shrinkable or (first == last and filters.halves() is None):
                raise
        else:
            granted(endpoint, [filters])
            return found
    return _in_smaller_parts(endpoint, first, last, filters, errand)


def _in_smaller_parts(endpoint: Endpoint, first: int, last: int, filters: LogFilter, errand: Errand) -> CheckedLogs:
    """The logs of a range that was refused as a whole."""
    if first < last:
        middle = (first + last) // 2
        parts = [
            logs_in_parts(endpoint, first, middle, filters, errand),
            logs_in_parts(endpoint, middle + 1, last, filters, errand),
        ]
    elif (halves := filters.halves()) is not None:
        parts = [logs_in_parts(endpoint, first, last, half, errand) for half in halves]
    else:
        parts = [_only(_logs_from_receipts(endpoint, first, errand), filters)]
    return _merged(parts)


def logs_by_hash(
    endpoint: Endpoint, questions: Sequence[tuple[bytes, LogFilter]], errand: Errand
) -> list[list[RawLog]]:
    """The matching logs of blocks named by their hashes (EIP-234), in batches.

    Raises:
        LaggingError: the endpoint does not know a block.
        AnswerError: a log of another block was answered.
        ProviderError: a question failed.
    """
    found: list[list[RawLog]] = []
    asked = [(block_hash, cut(endpoint, filters)) for block_hash, filters in questions]
    each = [(block_hash, part) for block_hash, parts in asked for part in parts]
    calls = [Call("eth_getLogs", (part.at(block_hash),), (0, 0), part) for block_hash, part in each]

    def read(place: int, raw: msgspec.Raw) -> CheckedLogs:
        return checked_logs(endpoint, raw, 0, 2**63, each[place][1], errand)

    answers = piecewise.ask(endpoint, dict(enumerate(calls)), errand, read).whole()
    places = iter(range(len(each)))
    for block_hash, parts in asked:
        checked = _merged([answers[next(places)] for _ in parts])
        granted(endpoint, parts)
        if any(found_hash != block_hash for found_hash in checked.hashes.values()):
            problem = f"asked for the logs of block 0x{block_hash.hex()}, it answered with another's"
            raise OtherBlockError(problem, host=endpoint.host)
        checked.require_not_removed({number: block_hash for number, _ in checked.removed}, endpoint.host)
        found.append(checked.logs)
    return found


def logs_of_blocks(
    endpoint: Endpoint, questions: Sequence[tuple[Header, LogFilter]], errand: Errand
) -> list[list[RawLog]]:
    """The matching logs of blocks whose headers are known: by hash, or by number where the endpoint cannot do that.

    Raises:
        LaggingError: the endpoint does not know a block.
        BranchMovedError: a number names another block now.
        AnswerError: an answer contradicts its question, or the endpoint may not know the filter by hash.
        ProviderError: a question failed.
    """
    if not questions:
        return []
    if not endpoint.hash_filter.is_missing(endpoint.clock()):
        try:
            found = logs_by_hash(endpoint, [(header.hash, filters) for header, filters in questions], errand)
        except RangeError:
            pass  # too many logs for one answer: in parts, by number
        except (FatalError, TransientError) as error:
            _learn_hash_filter(endpoint, error)
        else:
            with endpoint.lock:
                endpoint.hash_filter.answered()
            for (header, _), logs in zip(questions, found, strict=True):
                if any(log.block_number != header.number for log in logs):
                    raise wrong(f"logs of block {header.number:,}, by its hash, bear another number", endpoint)
            return found
    return [_logs_by_number(endpoint, header, filters, errand) for header, filters in questions]


def _learn_hash_filter(endpoint: Endpoint, error: FatalError | TransientError) -> None:
    """Takes note of a question by block hash that failed.

    Raises:
        AnswerError: it is worth another try.
        ProviderError: the error says nothing about such questions.
    """
    about_it = isinstance(error, OtherBlockError) or error.code in _REFUSED_CODES
    if (isinstance(error, FatalError) and error.scope == "endpoint") or (
        error.code is None and not isinstance(error, AnswerError)
    ):
        raise error
    text = str(error.args[0])
    with endpoint.lock:
        missing = endpoint.hash_filter.failed(without_numbers(text), about_it, endpoint.clock())
    if not missing:
        # Not as it is: a refusal would be taken for one of every eth_getLogs.
        raise wrong(f"asked for logs by a block's hash: {text}", endpoint)
    logger.warning(
        "%s: it does not answer eth_getLogs by a block's hash (%s): blocks are asked for by number, which proves less",
        *(endpoint.host, text),
    )


def _logs_by_number(endpoint: Endpoint, header: Header, filters: LogFilter, errand: Errand) -> list[RawLog]:
    """The matching logs of a block, with its header in the same batch: both must be of the block that is known."""
    number = header.number
    answers = endpoint.ask([logs_call(number, number, filters), header_call(number)], errand)
    there = _end(endpoint, answers[1], number)
    if isinstance(answers[0], RangeError):
        checked = _in_smaller_parts(endpoint, number, number, filters, errand)
    else:
        checked = checked_logs(endpoint, answers[0], number, number, filters, errand)
    if {there.hash, *checked.hashes.values()} != {header.hash}:
        raise BranchMovedError(f"block {number:,} is another one now", host=endpoint.host)
    checked.require_not_removed({number: header.hash}, endpoint.host)
    return checked.logs


def checked_logs(
    endpoint: Endpoint, answer: Answer, first: int, last: int, asked: LogFilter, errand: Errand
) -> CheckedLogs:
    """One answer to ``eth_getLogs``, checked. Raises what the answer was, or AnswerError."""
    if isinstance(answer, ProviderError):
        raise answer
    if log_forms.is_null(endpoint, answer):
        log_forms.require_no_logs(endpoint, max(0, endpoint.health.seen), errand)
        return CheckedLogs([], {}, {})
    return _checked(endpoint, parse(answer, logs_decoder.decode, "list of logs"), first, last, asked, errand)


def _checked(
    endpoint: Endpoint, wire: list[WireLog], first: int, last: int, asked: LogFilter, errand: Errand
) -> CheckedLogs:
    if any(log.transaction_index is None for log in wire):
        log_forms.place(endpoint, wire, errand)
    return check_logs(wire, first, last, asked, per_transaction=endpoint.log_index_per_transaction)


def _end(endpoint: Endpoint, answer: Answer, last: int) -> Header:
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


def _merged(parts: Sequence[CheckedLogs]) -> CheckedLogs:
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


def _only(checked: CheckedLogs, wanted: LogFilter) -> CheckedLogs:
    logs = select(checked.logs, wanted)
    bearing = {log.block_number for log in logs}
    hashes = {number: block_hash for number, block_hash in checked.hashes.items() if number in bearing}
    times = {number: time for number, time in checked.times.items() if number in bearing}
    return CheckedLogs(logs, hashes, times, checked.removed)


def _finished(
    endpoint: Endpoint,
    first: int,
    end: Header,
    read: CheckedLogs | LogColumns,
    errand: Errand,
    before: tuple[int, int],
) -> LogChunk:
    log_bytes = errand.bytes - before[1]
    if isinstance(read, CheckedLogs) and read.removed:
        _require_not_removed(endpoint, read, errand)
    if isinstance(read, LogColumns) and _tells_times(endpoint, read, end):
        blocks, told = _with_end(read, end), read.block_numbers
    else:
        hashes, times = (read.hashes(), read.times()) if isinstance(read, LogColumns) else (read.hashes, read.times)
        found, told = _timed(endpoint, end, hashes, times, errand)
        blocks = BlockColumns.of(found)
    requests, received = errand.requests - before[0], errand.bytes - before[1]
    chunk = LogChunk(first, end.number, read, blocks, end, endpoint.host, requests, received, log_bytes)
    chunk.told_time = _told_time(blocks, told, end)
    return chunk


def _require_not_removed(endpoint: Endpoint, checked: CheckedLogs, errand: Errand) -> None:
    """Disbelieve logs that are marked as removed in the history of the chain; those of other branches are left out."""
    checked.require_not_removed(checked.hashes, endpoint.host)
    numbers = sorted({number for number, _ in checked.removed})
    found = headers(endpoint, numbers, errand)
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
    """One time that only logs tell, to be compared with a header: the one farthest from where its number would put it.

    Args:
        blocks: of the chunk.
        told: numbers of the blocks whose time is the logs' word, ascending.
        end: the header of the range's end; where the logs agree with it, no other is needed.
    """
    if not len(told) or told[-1] == end.number:
        return None
    rows = np.searchsorted(blocks.numbers, told)
    times = blocks.times[rows]
    pace = (end.time - times[0]) / (end.number - told[0])
    row = int(rows[np.abs(times - times[0] - pace * (told - told[0])).argmax()])
    return int(blocks.numbers[row]), blocks.hashes[row].tobytes(), int(blocks.times[row])


def bearing_header(endpoint: Endpoint, number: int, block_hash: bytes, errand: Errand) -> Header:
    """The header of a block that bears logs.

    Raises:
        AnswerError: it is of another block than the logs.
        LaggingError: the endpoint lacks the block.
        ProviderError: the question failed.
    """
    header = headers(endpoint, [number], errand).get(number)
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
    endpoint: Endpoint, end: Header, hashes: dict[int, bytes], told: dict[int, int], errand: Errand
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
        for number, header in headers(endpoint, untimed, errand).items():
            if header.hash != hashes[number]:
                raise wrong(f"block {number}: the logs and the header do not belong together", endpoint)
            times[number] = header.time
        if missing := [number for number in untimed if number not in times]:
            raise LaggingError(f"it has logs of block {missing[0]:,} but not the block", host=endpoint.host)
    blocks = {number: (block_hash, times[number]) for number, block_hash in hashes.items()}
    blocks[last] = (end.hash, end.time)
    return blocks, numbers if endpoint.log_times_hold else numbers[:0]


def _logs_from_receipts(endpoint: Endpoint, number: int, errand: Errand) -> CheckedLogs:
    raw = endpoint.ask([Call("eth_getBlockReceipts", (hex(number),))], errand)[0]
    if isinstance(raw, FatalError):
        wire = _receipts_one_by_one(endpoint, number, errand)
    elif isinstance(raw, ProviderError):
        raise raw
    else:
        wire = [log for receipt in parse(raw, receipts_decoder.decode, "list of receipts") for log in receipt.logs]
    return _checked(endpoint, wire, number, number, LogFilter(), errand)


def _receipts_one_by_one(endpoint: Endpoint, number: int, errand: Errand) -> list[WireLog]:
    block = parse(endpoint.ask_one(header_call(number), errand), block_decoder.decode, "block")
    calls = {tx_hash: Call("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in block.transactions}
    pieces = piecewise.ask(endpoint, calls, errand, lambda _, raw: parse(raw, receipt_decoder.decode, "receipt"))
    receipts = pieces.whole()
    return [log for tx_hash in block.transactions for log in receipts[tx_hash].logs]
