"""Whether an address said anything before a block: one wide ``eth_getLogs``, narrower ones where that is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from indexer.chain.reads import null_blocks, questions
from indexer.chain.records.errors import FatalError, NoEndpointError, RangeError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester

# A question that is too wide is halved so often: from twenty million blocks to some ten thousand.
_MOST_REFUSALS = 12
_NEAR = 1_000


@dataclass(frozen=True, slots=True)
class EarliestLog:
    """What was found before a block.

    Attributes:
        block: the first block that bears a log of the address, among those that were looked at; None: none does.
        since: the first block that was looked at; one behind the last where no node answered.
    """

    block: int | None
    since: int


def find(client: Requester, address: bytes, last: int, topics: Sequence[bytes] = ()) -> EarliestLog:
    """Look for logs of an address at or before a block.

    Where only some topics are asked for, the blocks nearest to the last one come first: of an address that is busy
    there no more is asked for, so that no answer is long.

    Args:
        client: the chain.
        address: 20 bytes.
        last: the last block to look at.
        topics: only logs whose first topic is one of these; empty: any.

    Raises:
        ProviderError: no node answers.
    """
    named = ("0x" + address.hex(),)
    asked = LogFilter(named, (tuple("0x" + topic.hex() for topic in topics),) if topics else ())
    if topics and last >= _NEAR:
        near = _find(client, asked, last - _NEAR + 1, last, RequestContext())
        if near.block is not None or near.since > last - _NEAR + 1:
            return near
        # Of the rest the older part alone is asked for.
        rest = _find(client, asked, 0, last - _NEAR, RequestContext())
        return EarliestLog(rest.block, min(rest.since, near.since))
    return _find(client, asked, 0, last, RequestContext())


def _find(client: Requester, asked: LogFilter, since: int, last: int, context: RequestContext) -> EarliestLog:
    for _ in range(_MOST_REFUSALS):
        first = since
        try:
            checked = client.run(
                partial(_ask, first=first, last=last, asked=asked, context=context),
                "eth_getLogs",
                block=last,
                context=context,
            )
        except RangeError as error:
            if first == last:
                break
            width = error.maximum if error.limit == "blocks" and error.maximum else (last - first + 1) // 2
            since = max(first + 1, last - width + 1)
        except (FatalError, NoEndpointError):
            break  # no node keeps logs so old
        else:
            return EarliestLog(min((log.block_number for log in checked.logs), default=None), first)
    return EarliestLog(None, last + 1)


def _ask(endpoint: Endpoint, *, first: int, last: int, asked: LogFilter, context: RequestContext) -> CheckedLogs:
    def ask(begin: int, until: int) -> CheckedLogs:
        # A node that has not reached the range's end answers with no logs, too.
        answer, end = endpoint.ask([questions.logs_call(begin, until, asked), questions.header_call(until)], context)
        checked = questions.checked_logs(endpoint, answer, begin, until, asked, context)
        questions.end_of(endpoint, end, until)
        return checked

    return null_blocks.within(endpoint, first, last, context, ask, lambda: CheckedLogs([], {}, {}))
