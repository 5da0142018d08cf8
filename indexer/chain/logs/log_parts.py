"""Logs that are too much for one answer: fewer blocks, addresses or topics at a time, at last a block's receipts."""

from indexer.chain.reads import null_blocks
from indexer.chain.reads.questions import checked, checked_logs, cut, granted, header_call, logs_call, merged, only
from indexer.chain.records.errors import FatalError, ProviderError, RangeError, TransientError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, WireLog, block_decoder, parse, receipt_decoder, receipts_decoder
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc import list_limits
from indexer.chain.rpc.answers import ask_in_pieces
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint


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
