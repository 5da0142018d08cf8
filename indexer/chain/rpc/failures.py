"""What a node's refusal means: an error of :mod:`indexer.chain.records.errors`, by the table of wordings.

The table is :mod:`indexer.chain.rpc.error_table`: a new wording is a row there, and no code here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from indexer.chain.records.errors import (
    BatchError,
    CallLimitError,
    FatalError,
    LaggingError,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    TransientError,
)
from indexer.chain.rpc import error_table
from indexer.chain.rpc.error_table import ErrorRule

# A log line and a person want the beginning of an error, not a gateway's whole HTML page.
_SHOWN = 300
_COUNTED_BLOCKS = re.compile(rf"{error_table.NUMBER}[ -]?blocks?\b", re.IGNORECASE)
_RESULTS = re.compile(r"results|response size|\blogs\b(?! request)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """A node's refusal, as it came.

    Attributes:
        method: the JSON-RPC method, or ``batch`` where the refusal is of a whole batch.
        text: the error's message and data, or the body of an HTTP error.
        code: the JSON-RPC error code, if there is one.
        status: the HTTP status.
        retry_after: seconds, from the header ``Retry-After``.
        blocks: the blocks (inclusive) that an ``eth_getLogs`` asked for, else None: range rows hold only there.
        longest_list: the length of its longest list of addresses or topics: rows about lists hold only above 1.
        any_address: whether it names no address: rows about what a question lacks hold only there.
    """

    method: str
    text: str
    code: int | None = None
    status: int = 200
    retry_after: float | None = None
    blocks: tuple[int, int] | None = None
    longest_list: int = 0
    any_address: bool = False


def classify(failure: Failure) -> ProviderError:
    """The error that a refusal means.

    Args:
        failure: the refusal. Its text must already be redacted.

    Returns:
        An instance of one of the classes in :mod:`indexer.chain.records.errors`. What nothing in the table knows is a
        :class:`TransientError` that may be cured by a smaller range too, so no wording can halt a chain.
    """
    for row in error_table.ROWS:
        if not _concerns(row, failure):
            continue
        for match in row.regex.finditer(failure.text):
            if not row.guessed or _fits(failure, row, match):
                return _from_row(failure, row, match)
    return _from_numbers(failure)


def _concerns(row: ErrorRule, failure: Failure) -> bool:
    if row.code is not None and row.code != failure.code:
        return False
    holds = {
        "range": failure.blocks is not None and (row.limit != "lists" or failure.longest_list > 1),
        "fatal": row.scope != "question" or failure.any_address,
        "batch": failure.method == "batch",
        "reverted": failure.method == "eth_call",
        # A gateway's page says nothing of the call.
        "call_limit": failure.method == "eth_call" and failure.code is not None,
    }
    return holds.get(row.kind, True)


def _from_row(failure: Failure, row: ErrorRule, match: re.Match[str]) -> ProviderError:
    build: Callable[..., ProviderError]
    match row.kind:
        case "range":
            build = partial(_range_error, failure, row, match)
        case "rate":
            build = partial(RateError, retry_after=failure.retry_after)
        case "lagging":
            is_old = row.reads == "heights" and int(match[2]) <= int(match[1])
            build = partial(FatalError, scope="history") if is_old else LaggingError
        case "fatal":
            build = partial(FatalError, scope=row.scope)
        case "batch":
            assumed = row.assumed[0][1] if row.assumed else None
            build = partial(BatchError, maximum=_number(match[1]) if row.reads == "number" else assumed)
        case "reverted":
            build = RevertedError
        case "call_limit":
            build = CallLimitError
        case "transient":
            build = TransientError
    return build(describe(failure), code=failure.code)


def _range_error(failure: Failure, row: ErrorRule, match: re.Match[str], text: str, *, code: int | None) -> RangeError:
    limit, suggested, maximum = row.limit, None, None
    if row.reads == "range":
        suggested = (int(match[1], 0), int(match[2], 0))
        width = suggested[1] - suggested[0] + 1
        if any(_number(named) in (width, width - 1) for named in _COUNTED_BLOCKS.findall(failure.text)):
            limit, maximum = "blocks", width
        elif _RESULTS.search(failure.text):
            limit = "results"
    elif row.reads == "number":
        maximum = _number(match[1]) + (1 if limit == "blocks" and not row.inclusive else 0)
        if limit == "blocks" and maximum in (width := _suggested_width(failure), width + 1):
            # "Up to n blocks" may count both ends or one; the range beside it tells.
            maximum = width
    elif failure.blocks is not None:
        span = failure.blocks[1] - failure.blocks[0] + 1
        maximum = next((blocks for above, blocks in row.assumed if span > above), None)
    return RangeError(text, limit=limit, maximum=maximum, suggested=suggested, code=code)


def _fits(failure: Failure, row: ErrorRule, match: re.Match[str]) -> bool:
    """Whether what was read from words of no known node can be meant for the question."""
    if failure.blocks is None:
        return False
    first, last = failure.blocks
    if row.reads == "range":
        return int(match[1], 0) == first <= int(match[2], 0) < last
    return 0 < _number(match[1]) <= last - first and not _RESULTS.search(failure.text)


def _suggested_width(failure: Failure) -> int:
    """The width of the range that a refusal names as one that would work, or 0."""
    for row in error_table.ROWS:
        if row.reads == "range":
            for match in row.regex.finditer(failure.text):
                if _fits(failure, row, match):
                    return int(match[2], 0) - int(match[1], 0) + 1
    return 0


def _from_numbers(failure: Failure) -> ProviderError:
    known = error_table.CODES.get(failure.code) if failure.code is not None else None
    known = known or error_table.STATUSES.get(failure.status)
    if known is None and failure.status == 503 and failure.retry_after is not None:
        known = ("rate", "endpoint")
    text = describe(failure)
    hint = error_table.HINTS.get(failure.status)
    match known:
        case ("rate", _):
            return RateError(text, retry_after=failure.retry_after, code=failure.code)
        case ("lagging", _):
            return LaggingError(text, code=failure.code)
        case ("reverted", _):
            return RevertedError(text, code=failure.code)
        case ("fatal", scope):
            return FatalError(text, scope=scope, code=failure.code, hint=hint)
        case _ if (
            failure.blocks is not None
            and failure.status in error_table.TIMEOUT_STATUSES | error_table.TOO_LARGE_STATUSES
        ):
            return RangeError(text, timed_out=failure.status in error_table.TIMEOUT_STATUSES, code=failure.code)
        case _:
            return TransientError(text, shrinkable=True, code=failure.code, hint=hint)


def describe(failure: Failure) -> str:
    """One line for a person: the question, and what was answered."""
    asked = f" of blocks {failure.blocks[0]}-{failure.blocks[1]}" if failure.blocks else ""
    parts = [f"HTTP {failure.status}" if failure.status != 200 else "", f"code {failure.code}" if failure.code else ""]
    text = " ".join(failure.text.split())
    if len(text) > _SHOWN:
        text = text[:_SHOWN] + "..."
    said = ", ".join(part for part in parts if part)
    return f"{failure.method}{asked} refused" + (f" ({said})" if said else "") + (f": {text}" if text else "")


def _number(text: str) -> int:
    digits = re.sub(r"[^\dk]", "", text.lower())
    return int(digits[:-1]) * 1000 if digits.endswith("k") else int(digits)
