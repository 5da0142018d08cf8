"""What logs look like at nodes that write them otherwise: ``null`` for none, and no place of their transaction.

``null`` is also what a node answers that has just failed, or that has no logs at all to give. So it means "no logs"
only at a node that answers a question whose answer is empty for certain with ``null``, every time, and that gives the
logs of a block whose bloom says that it has some.
"""

import logging
from collections.abc import Sequence

import msgspec

from indexer.chain.records.errors import AnswerError, ProviderError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, WireLog, block_decoder, parse, parse_header
from indexer.chain.rpc.answers import ask_in_pieces
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)

# An event that no contract has at an address that none has: there are no such logs.
_NOTHING = LogFilter(addresses=("0x" + "f6" * 20,), topics=(("0x" + "f6" * 32,),))
# So often it is asked for: a node that fails at every third question does not fail at all of these.
_QUESTIONS = 8
# Blocks that are looked at first, of which some bear logs on most chains.
_LOOKED_AT = 100
_EMPTY = b"[]"
_NULL = b"null"


def is_null(endpoint: Endpoint, answer: msgspec.Raw) -> bool:
    """Whether an answer to ``eth_getLogs`` is ``null``. Takes note of a node that writes no logs as an empty list."""
    text = memoryview(answer)
    if text.nbytes == len(_EMPTY) and bytes(text) == _EMPTY:
        endpoint.null_means_no_logs = False
    return text.nbytes == len(_NULL) and bytes(text) == _NULL


def require_no_logs(endpoint: Endpoint, call: Call, block: int, context: RequestContext) -> None:
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
    nothing = _logs_call(block, _NOTHING)
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
    return all(not isinstance(one, ProviderError) and is_null(endpoint, one) for one in answers)


def _gives_logs(endpoint: Endpoint, block: int, context: RequestContext) -> bool:
    """Whether it gives the logs of blocks that have some: in place of a failure it would answer ``null`` there, too.

    Where it gives none of all blocks up to one, that block's bloom must show none either.
    """
    try:
        for first in (max(0, block - _LOOKED_AT + 1), 0):
            call = Call("eth_getLogs", (LogFilter().between(first, block),), (first, block), LogFilter())
            if bytes(memoryview(endpoint.ask_one(call, context))) not in (_NULL, _EMPTY):
                return True
        header = parse_header(endpoint.ask_one(Call("eth_getBlockByNumber", (hex(block), False)), context))
    except ProviderError:
        return True  # it refuses logs of any address: nothing is known
    return header is None or not any(header.logs_bloom)


def _logs_call(block: int, filters: LogFilter) -> Call:
    return Call("eth_getLogs", (filters.between(block, block),), (block, block), filters)


def place(endpoint: Endpoint, logs: Sequence[WireLog], context: RequestContext) -> None:
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
