"""The logs of blocks whose headers are known: by the block's hash, or by number where an endpoint cannot do that."""

import logging
from collections.abc import Sequence

import msgspec

from indexer.chain.logs.log_parts import logs_in_parts
from indexer.chain.reads.questions import checked_logs, cut, end_of, granted, header_call, logs_call, merged, wrong
from indexer.chain.records.errors import (
    AnswerError,
    BranchMovedError,
    FatalError,
    OtherBlockError,
    RangeError,
    TransientError,
    without_numbers,
)
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, Header
from indexer.chain.records.validation import CheckedLogs, RawLog
from indexer.chain.rpc import list_limits
from indexer.chain.rpc.answers import ask_in_pieces
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)

# JSON-RPC codes that are about the question: invalid request, no such method, invalid parameters.
_REFUSED_CODES = frozenset({-32600, -32601, -32602})


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
        missing = endpoint.hash_filter.failed(without_numbers(text), about_it, endpoint.clock())
    if not missing:
        # Not as it is: a refusal would be taken for one of every eth_getLogs.
        raise wrong(f"asked for logs by a block's hash: {text}", endpoint)
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
