"""Logs that are not read as a whole range: of blocks whose headers are known, and those too much for one answer.

The logs of a known block are asked for by the block's hash, or by number where an endpoint cannot do that. What is too
much for one answer is asked for in fewer blocks, addresses or topics at a time, at last from a block's receipts.
"""

import logging
from collections.abc import Sequence

import msgspec

from indexer.chain.reads import null_blocks
from indexer.chain.reads.questions import (
    checked,
    checked_logs,
    cut,
    end_of,
    granted,
    header_call,
    logs_call,
    merged,
    only,
    wrong,
)
from indexer.chain.records.errors import (
    AnswerError,
    BranchMovedError,
    FatalError,
    OtherBlockError,
    ProviderError,
    RangeError,
    TransientError,
    without_numbers,
)
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import (
    Call,
    Header,
    WireLog,
    block_decoder,
    parse,
    receipt_decoder,
    receipts_decoder,
)
from indexer.chain.records.validation import CheckedLogs, RawLog
from indexer.chain.rpc import list_limits
from indexer.chain.rpc.answers import ask_in_pieces
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)

# JSON-RPC codes that are about the question: invalid request, no such method, invalid parameters.
_REFUSED_CODES = frozenset({-32600, -32601, -32602})


def logs_in_parts(
    endpoint: Endpoint,
    first: int,
    last: int,
    filters: LogFilter,
    context: RequestContext,
    *,
    refused: ProviderError | None = None,
    silent: list[LogFilter] | None = None,
) -> CheckedLogs:
    """The logs of a range in as many parts as the endpoint demands.

    Args:
        endpoint: the endpoint to ask.
        first: the first block.
        last: the last block.
        filters: what is wanted.
        context: on whose account.
        refused: the refusal of this very question, where it has been asked: begin with parts of it.
        silent: takes the parts to which no log was answered: what shows that a machine has the blocks is missing there.

    Raises:
        AnswerError: an answer contradicts its question or another.
        ProviderError: a question failed.
    """
    lists = cut(endpoint, filters)
    if len(lists) > 1:
        return merged([logs_in_parts(endpoint, first, last, part, context, silent=silent) for part in lists])
    if refused is None:
        try:
            found = logs_within(endpoint, first, last, filters, context)
        except RangeError as error:
            if error.timed_out and first == last and filters.halves() is None:
                raise
            refused = error
        except TransientError as error:
            # In words that no table knows it may be too much, too.
            if not error.shrinkable or (first == last and filters.halves() is None):
                raise
            refused = error
        else:
            granted(endpoint, [filters])
            if silent is not None and not found.hashes:
                silent.append(filters)
            return found
    if list_limits.learn(endpoint, refused, context):
        # Remembered, so that other blocks need not be cut in halves until one is answered.
        return logs_in_parts(endpoint, first, last, filters, context, silent=silent)
    return _in_smaller_parts(endpoint, first, last, filters, context, silent)


def logs_within(endpoint: Endpoint, first: int, last: int, filters: LogFilter, context: RequestContext) -> CheckedLogs:
    """The logs of a range by one question; by two, where the range begins or ends at a number without a block.

    Raises:
        AnswerError: the answer contradicts the question.
        ProviderError: the question failed.
    """

    def ask(begin: int, end: int) -> CheckedLogs:
        answer = endpoint.ask([logs_call(begin, end, filters)], context)[0]
        return checked_logs(endpoint, answer, begin, end, filters, context)

    return null_blocks.within(endpoint, first, last, context, ask, lambda: CheckedLogs([], {}, {}))


def _in_smaller_parts(
    endpoint: Endpoint,
    first: int,
    last: int,
    filters: LogFilter,
    context: RequestContext,
    silent: list[LogFilter] | None,
) -> CheckedLogs:
    """The logs of a range that was refused as a whole."""
    if first < last:
        middle = (first + last) // 2
        parts = [
            logs_in_parts(endpoint, first, middle, filters, context, silent=silent),
            logs_in_parts(endpoint, middle + 1, last, filters, context, silent=silent),
        ]
    elif (halves := filters.halves()) is not None:
        parts = [logs_in_parts(endpoint, first, last, half, context, silent=silent) for half in halves]
    else:
        parts = [only(logs_from_receipts(endpoint, first, context), filters)]
    return merged(parts)


def logs_from_receipts(endpoint: Endpoint, number: int, context: RequestContext) -> CheckedLogs:
    """All logs of a block, from its receipts.

    Raises:
        AnswerError: an answer contradicts its question, or is null.
        ProviderError: a question failed.
    """
    raw = endpoint.ask([Call("eth_getBlockReceipts", (hex(number),))], context)[0]
    if isinstance(raw, FatalError):
        wire = _receipts_one_by_one(endpoint, number, context)
    elif isinstance(raw, ProviderError):
        raise raw
    else:
        wire = [log for receipt in parse(raw, receipts_decoder.decode, "list of receipts") for log in receipt.logs]
    return checked(endpoint, wire, number, number, LogFilter(), context)


def _receipts_one_by_one(endpoint: Endpoint, number: int, context: RequestContext) -> list[WireLog]:
    block = parse(endpoint.ask_one(header_call(number), context), block_decoder.decode, "block")
    calls = {tx_hash: Call("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in block.transactions}
    pieces = ask_in_pieces(endpoint, calls, context, lambda _, raw: parse(raw, receipt_decoder.decode, "receipt"))
    receipts = pieces.whole()
    return [log for tx_hash in block.transactions for log in receipts[tx_hash].logs]


def logs_by_hash(
    endpoint: Endpoint, questions: Sequence[tuple[bytes, LogFilter]], context: RequestContext, *, begun: bool = False
) -> list[list[RawLog]]:
    """The matching logs of blocks named by their hashes (EIP-234), in batches; ``begun`` as :meth:`Endpoint.ask`.

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
        return checked_logs(endpoint, raw, 0, 2**63, each[place][1], context, call=calls[place])

    answers = ask_in_pieces(endpoint, dict(enumerate(calls)), context, read, begun=begun).whole()
    places = iter(range(len(each)))
    for block_hash, parts in asked:
        checked = merged([answers[next(places)] for _ in parts])
        granted(endpoint, parts)
        if any(found_hash != block_hash for found_hash in checked.hashes.values()):
            problem = f"asked for the logs of block 0x{block_hash.hex()}, it answered with another's"
            raise OtherBlockError(problem, host=endpoint.host)
        checked.require_not_removed({number: block_hash for number, _ in checked.removed}, endpoint.host)
        found.append(checked.logs)
    return found


def logs_of_blocks(
    endpoint: Endpoint, questions: Sequence[tuple[Header, LogFilter]], context: RequestContext, *, begun: bool = False
) -> list[list[RawLog]]:
    """The matching logs of blocks whose headers are known: by hash, or by number where the endpoint cannot do that.

    ``begun``: as :meth:`Endpoint.ask`.

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
            found = logs_by_hash(
                endpoint, [(header.hash, filters) for header, filters in questions], context, begun=begun
            )
        except RangeError as error:
            if list_limits.learn(endpoint, error, context):
                return logs_of_blocks(endpoint, questions, context, begun=begun)
            # Too many logs for one answer: in parts, by number.
        except (FatalError, TransientError) as error:
            _learn_hash_filter(endpoint, error)
        else:
            with endpoint.lock:
                endpoint.hash_filter.answered()
            for (header, _), logs in zip(questions, found, strict=True):
                if any(log.block_number != header.number for log in logs):
                    raise wrong(f"logs of block {header.number:,}, by its hash, bear another number", endpoint)
            return found
    return [_logs_by_number(endpoint, header, filters, context) for header, filters in questions]


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
        known = endpoint.hash_filter.is_missing(endpoint.clock())
        missing = endpoint.hash_filter.failed(without_numbers(text), about_it, endpoint.clock())
    if not missing:
        # Not as it is: a refusal would be taken for one of every eth_getLogs.
        raise wrong(f"asked for logs by a block's hash: {text}", endpoint)
    if known:
        return  # another thread found it out, and told it, while this question was under way
    logger.warning(
        "%s: it does not answer eth_getLogs by a block's hash (%s): blocks are asked for by number, which proves less",
        *(endpoint.host, text),
    )


def _logs_by_number(endpoint: Endpoint, header: Header, filters: LogFilter, context: RequestContext) -> list[RawLog]:
    """The matching logs of a block, with its header in the same batch: both must be of the block that is known."""
    number = header.number
    lists = cut(endpoint, filters)
    calls = [logs_call(number, number, one) for one in lists]
    *answers, end = endpoint.ask([*calls, header_call(number)], context)
    there = end_of(endpoint, end, number)
    parts = []
    for one, answer in zip(lists, answers, strict=True):
        if isinstance(answer, RangeError):
            parts.append(logs_in_parts(endpoint, number, number, one, context, refused=answer))
        else:
            parts.append(checked_logs(endpoint, answer, number, number, one, context))
            granted(endpoint, [one])
    checked = merged(parts)
    if {there.hash, *checked.hashes.values()} != {header.hash}:
        raise BranchMovedError(f"block {number:,} is another one now", host=endpoint.host)
    checked.require_not_removed({number: header.hash}, endpoint.host)
    return checked.logs
