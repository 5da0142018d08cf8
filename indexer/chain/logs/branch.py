"""Blocks that may still be reorganised: headers and logs that provably belong to one branch.

The logs of a range are named by number, and the chain may move between two answers. So every header is read too, the
parent links must be unbroken, each log must bear the hash of its height, and what a block may hold besides
(:mod:`indexer.chain.records.completeness`) is asked for once more, by the block's hash. A number without a header is
passed over where the links prove that it has no block (:mod:`indexer.chain.reads.null_blocks`).
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from indexer.chain.logs import block_logs
from indexer.chain.logs.block_logs import logs_in_parts
from indexer.chain.reads import null_blocks, questions
from indexer.chain.records.completeness import unaccounted
from indexer.chain.records.errors import BranchMovedError, ProviderError, RangeError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs, RawLog, sorted_once
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Branch:
    """A piece of one branch.

    Attributes:
        headers: of every block, ascending, each the parent of the next; numbers without a block are passed over.
        logs: all matching logs, checked against the headers, sorted by block and log index.
        host: the endpoint that answered, ``https://host/***``.
        requests: HTTP requests that it took.
        bytes: bytes of the answers.
        asked_again: second questions, each for what one block may hold besides.
        found_again: logs that only second questions brought.
    """

    headers: list[Header]
    logs: list[RawLog]
    host: str
    requests: int
    bytes: int
    asked_again: int = 0
    found_again: int = 0

    @property
    def first(self) -> int:
        """The first block."""
        return self.headers[0].number

    @property
    def last(self) -> int:
        """The last block."""
        return self.headers[-1].number


def read(
    endpoint: Endpoint,
    first: int,
    last: int,
    filters: Sequence[LogFilter],
    parent_hash: bytes | None,
    blooms: bool,
    context: RequestContext,
    *,
    mixed: Collection[LogFilter] = (),
    in_parts: bool = False,
) -> Branch:
    """Reads a branch from one endpoint, in one batch where it takes batches.

    Args:
        endpoint: the endpoint to ask; all parts come from it.
        first: the first block.
        last: the last block. Where it has none, the branch ends at the newest block before it that lies in the range,
            or at the next one above it.
        filters: what to ask for; none for the headers alone.
        parent_hash: the hash that block ``first - 1`` must have, or None.
        blooms: whether the chain's blooms can be trusted; else each block without logs is asked for by its hash, too.
        context: on whose account.
        mixed: those of the filters that ask for any address in place of a long list.
        in_parts: the logs of the whole range have been refused: begin with smaller questions.

    Raises:
        BranchMovedError: the parts do not belong to one branch, or not to one that joins ``parent_hash``.
        LaggingError: the endpoint has not reached ``last``.
        AnswerError: an answer contradicts its question.
        ProviderError: a question failed.
    """
    if not 0 <= first <= last:
        raise ValueError(f"no range of blocks: {first}-{last}")
    before = context.requests, context.bytes
    numbers = range(first, last + 1)
    calls = [questions.header_call(number) for number in numbers]
    named, named_mixed = filters, mixed
    parts_of = {one: questions.cut(endpoint, one) for one in filters}
    filters = [part for one in filters for part in parts_of[one]]
    mixed = {part for one in mixed for part in parts_of[one]}
    if not in_parts:
        calls += [questions.logs_call(first, last, one) for one in filters]
    answers: list[Answer] = endpoint.ask(calls, context)
    if in_parts:
        answers += [RangeError("it was refused before")] * len(filters)
    headers = _headers(endpoint, first, answers[: len(numbers)], parent_hash, context)
    _check_links(headers, parent_hash, endpoint.host)
    begin, end = headers[0].number, headers[-1].number
    refused = [raw for raw in answers[len(numbers) :] if isinstance(raw, ProviderError) and null_blocks.may_be(raw)]
    if end > last or (refused and (begin, end) != (first, last)):
        # No block of the range was asked for logs, or one that begins or ends without a block was refused.
        return read(endpoint, begin, end, named, parent_hash, blooms, context, mixed=named_mixed, in_parts=in_parts)
    parts = []
    for one, raw in zip(filters, answers[len(numbers) :], strict=True):
        if isinstance(raw, RangeError):
            part = logs_in_parts(endpoint, first, last, one, context, refused=raw)
        else:
            part = questions.checked_logs(endpoint, raw, first, last, one, context)
            questions.granted(endpoint, [one])
        _check_hashes(headers, part, endpoint.host)
        parts.append(part.logs)
    branch = Branch(headers, [], endpoint.host, 0, 0)
    learn_blooms(endpoint, headers, parts)
    ask_again(
        branch, endpoint, [(one, logs, one in mixed) for one, logs in zip(filters, parts, strict=True)], blooms, context
    )
    branch.logs = sorted_once([log for logs in parts for log in logs])
    branch.requests, branch.bytes = context.requests - before[0], context.bytes - before[1]
    return branch


def _headers(
    endpoint: Endpoint, first: int, answers: Sequence[Answer], parent_hash: bytes | None, context: RequestContext
) -> list[Header]:
    """The headers of a batch; where no number of it has a block, the one of the next block.

    Some that failed are asked for once more: the links show whether all belong together.
    """
    found: dict[int, Header] = {}
    failures: dict[int, ProviderError] = {}
    for number, raw in enumerate(answers, first):
        try:
            found[number] = questions.end_of(endpoint, raw, number)
        except ProviderError as error:
            failures[number] = error
    last = first + len(answers) - 1
    if last in failures:
        run = null_blocks.find(endpoint, last, context) if null_blocks.may_be(failures[last]) else None
        if run is None:
            raise next(iter(failures.values()))
        if run.below.number < first:
            return [run.above]
        last = run.below.number
        if last in failures:
            raise failures[last]  # the machine that answered the logs lacks the end of the range
    lacking = [number for number in _unlinked(first, found, parent_hash) if number < last]
    if lacking:
        # The end is there: the node has come that far.
        again, runs = null_blocks.headers(endpoint, lacking, context)
        found |= again
        for number in lacking:
            if number not in found and not any(run.holds(number) for run in runs):
                raise failures[number]
    return [found[number] for number in sorted(found) if number <= last]


def _unlinked(first: int, found: Mapping[int, Header], parent_hash: bytes | None) -> list[int]:
    """The numbers, from the first one on, that have no header and of which no link says that they have no block."""
    lacking: list[int] = []
    for number in sorted(found):
        if found[number].parent_hash != parent_hash:
            lacking += range(first, number)
        first, parent_hash = number + 1, found[number].hash
    return lacking


def _check_links(headers: list[Header], parent_hash: bytes | None, host: str) -> None:
    if parent_hash is not None and headers[0].parent_hash != parent_hash:
        raise BranchMovedError(
            f"block {headers[0].number:,} has another parent than the block known before it", host=host
        )
    for parent, child in pairwise(headers):
        if child.parent_hash != parent.hash:
            raise BranchMovedError(
                f"block {child.number:,} is no child of the block {parent.number:,} read with it", host=host
            )


def _check_hashes(headers: list[Header], checked: CheckedLogs, host: str) -> None:
    by_number = {header.number: header.hash for header in headers}
    checked.require_not_removed(by_number, host)
    for number, block_hash in checked.hashes.items():
        if by_number.get(number) != block_hash:
            raise BranchMovedError(f"the logs of block {number:,} are of another block than its header", host=host)


def learn_blooms(endpoint: Endpoint, headers: list[Header], parts: Sequence[list[RawLog]]) -> None:
    """Takes note of what headers and the logs of their blocks show of the endpoint's blooms."""
    logs: dict[int, list[RawLog]] = defaultdict(list)
    for log in chain.from_iterable(parts):
        logs[log.block_number].append(log)
    for header in headers:
        with endpoint.lock:
            senseless = endpoint.blooms.learn(header, logs[header.number])
        if senseless:
            logger.warning(
                "%s: the bloom of block %d does not hold the block's own logs: blocks without logs are asked for by "
                "their hash from now on",
                *(endpoint.host, header.number),
            )


def ask_again(
    branch: Branch,
    endpoint: Endpoint,
    parts: Sequence[tuple[LogFilter, list[RawLog], bool]],
    blooms: bool,
    context: RequestContext,
    *,
    leave_out: Callable[[LogFilter, Header], bool] | None = None,
) -> None:
    """Asks for what blocks may hold besides, and adds what is found to the parts: filter, logs, whether it is mixed.

    ``leave_out`` says of a filter and a block that may hold more of it whether that is not asked for.
    """
    questions: list[tuple[Header, LogFilter]] = []
    targets: list[list[RawLog]] = []
    trust = endpoint.blooms if blooms else None
    for filters, logs, mixed in parts:
        by_block: dict[int, list[RawLog]] = defaultdict(list)
        for log in logs:
            by_block[log.block_number].append(log)
        for header in branch.headers:
            lacking = unaccounted(filters, header, by_block[header.number], trust, mixed=mixed)
            if lacking is not None and not (leave_out is not None and leave_out(filters, header)):
                questions.append((header, lacking))
                targets.append(logs)
    branch.asked_again = len(questions)
    for (header, _), target, found in zip(
        questions, targets, block_logs.logs_of_blocks(endpoint, questions, context), strict=True
    ):
        known = {log.log_index for log in target if log.block_number == header.number}
        fresh = [log for log in found if log.log_index not in known]
        if fresh and not endpoint.troubles.met("logs left out"):
            logger.warning(
                "%s: eth_getLogs left out %d logs of block %d, which a second question showed",
                *(endpoint.host, len(fresh), header.number),
            )
        branch.found_again += len(fresh)
        target.extend(fresh)
