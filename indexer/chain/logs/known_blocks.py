"""The logs of blocks whose headers are known: one question for each by its hash, or none where its bloom says so.

At the head a header is there before its logs are wanted: it was pushed, or was the answer to the question for the
newest block. What may be left out, and what an endpoint must have shown before, is told in
:mod:`indexer.chain.records.spared_questions`. An endpoint that has not shown it is asked as ever.
"""

import logging
import secrets
from collections.abc import Collection, Sequence

from indexer.chain.logs import block_logs, branch
from indexer.chain.logs.branch import Branch
from indexer.chain.records.completeness import is_likely_chance, unaccounted
from indexer.chain.records.errors import FatalError, LaggingError, ProviderError, RangeError, RateError, TransientError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, Header
from indexer.chain.records.validation import RawLog, sorted_once
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)

# What no contract says.
_NOBODY = LogFilter(("0x" + "f6" * 20,))


def read(
    endpoint: Endpoint,
    headers: Sequence[Header],
    filters: Sequence[LogFilter],
    blooms: bool,
    context: RequestContext,
    *,
    mixed: Collection[LogFilter] = (),
) -> Branch:
    """Reads the logs of blocks whose headers are known, from one endpoint.

    Args:
        endpoint: the endpoint to ask.
        headers: of the blocks, at least one, each the parent of the next.
        filters: what to ask for.
        blooms: whether the operator says that the chain's blooms mean something.
        context: on whose account.
        mixed: those of the filters that ask for any address in place of a long list.

    Returns:
        As :func:`branch.read`; of an endpoint that cannot do it that way, what that answers.

    Raises:
        LaggingError: the endpoint does not know a block.
        BranchMovedError: it has another branch.
        AnswerError: an answer contradicts its question.
        ProviderError: a question failed.
    """
    if not _names_blocks(endpoint, context):
        first, last, parent = headers[0].number, headers[-1].number, headers[0].parent_hash
        return branch.read(endpoint, first, last, filters, parent, blooms, context, mixed=mixed)
    before = context.requests, context.bytes
    trust = endpoint.blooms if blooms else None
    wanted = [
        (header, one)
        for one in filters
        for header in headers
        if not (
            header.proven
            and trust is not None
            and unaccounted(one, header, (), trust, mixed=one in mixed) is None
            and _blooms_hold(endpoint, header, context)
        )
    ]
    answers = block_logs.logs_of_blocks(endpoint, wanted, context)
    parts: dict[LogFilter, list[RawLog]] = {one: [] for one in filters}
    for (_, one), logs in zip(wanted, answers, strict=True):
        parts[one] += logs
    found = Branch(list(headers), [], endpoint.host, 0, 0)
    branch.learn_blooms(endpoint, found.headers, list(parts.values()))
    with endpoint.lock:
        leave_out = None if endpoint.spared.asks_again() or endpoint.blooms.broken else is_likely_chance
    if trust is not None:
        again = [(one, logs, one in mixed) for one, logs in parts.items()]
        branch.ask_again(found, endpoint, again, blooms, context, leave_out=leave_out)
        if found.asked_again:
            with endpoint.lock:
                endpoint.spared.asked_again(found.found_again)
    found.logs = sorted_once([log for logs in parts.values() for log in logs])
    found.requests, found.bytes = context.requests - before[0], context.bytes - before[1]
    return found


def _names_blocks(endpoint: Endpoint, context: RequestContext) -> bool:
    """Whether a block's hash is enough to ask for its logs: what the endpoint does not know it refuses."""
    if endpoint.hash_filter.is_missing(endpoint.clock()):
        return False
    spared = endpoint.spared
    if spared.refuses_unknown is None and not spared.hash_check.holds(endpoint.clock()):
        call = Call("eth_getLogs", (_NOBODY.at(secrets.token_bytes(32)),), (0, 0), _NOBODY)
        refuses: bool | None = False
        try:
            endpoint.ask_one(call, context)
        except LaggingError:
            refuses = True
        except ProviderError as error:
            if isinstance(error, RateError) or (isinstance(error, TransientError) and error.code is None):
                raise  # it says nothing of the question
            refuses = None
        with endpoint.lock:
            spared.refuses_unknown = refuses
            if refuses is None:
                spared.hash_check.refused(endpoint.clock())
        if refuses is False:
            logger.info(
                "%s: it answers eth_getLogs for blocks that it does not know: blocks are asked for by number",
                endpoint.host,
            )
    return bool(spared.refuses_unknown)


def _blooms_hold(endpoint: Endpoint, header: Header, context: RequestContext) -> bool:
    """Whether blooms were seen to mean something; looked into where that is due, with all logs of this block."""
    now = endpoint.clock()
    if endpoint.spared.blooms_hold(now):
        return True
    if endpoint.spared.bloom_check.holds(now) or not any(header.logs_bloom):
        return False
    try:
        (logs,) = block_logs.logs_by_hash(endpoint, [(header.hash, LogFilter())], context)
    except (RangeError, FatalError):
        with endpoint.lock:
            endpoint.spared.contradicted(now)  # it does not give all logs of a block
        return False
    with endpoint.lock:
        return endpoint.spared.compared(header, logs, now)
