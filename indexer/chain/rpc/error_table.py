"""What nodes and providers say, and what it means: the table, and the function that reads it.

The table is data. A provider's new wording is a new row here, a case in ``tests/unit/chain/test_error_table.py`` and,
for a limit of ranges, a profile in ``tests/providers/profiles.py`` (docs/endpoints.md); it never needs new code. Rows
are tried from the top, against the whole error as text (message and ``data``), in any case; only when no row matches
do the JSON-RPC code and then the HTTP status decide.

In a pattern ``{n}`` stands for a number as people write it (``10000``, ``10,000``, ``10k``) and ``{block}`` for a block
number, decimal or hex.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from indexer.chain.records.errors import (
    BatchError,
    CallLimitError,
    FatalError,
    LaggingError,
    Limit,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    Scope,
    TransientError,
)

Kind = Literal["range", "rate", "lagging", "fatal", "transient", "batch", "reverted", "call_limit"]

_NUMBER = r"(\d+(?:[,._]\d{3})*k?)\b"
_BLOCK = r"(0x[0-9a-f]+|\d+)"
# A log line and a person want the beginning of an error, not a gateway's whole HTML page.
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One wording.

    Attributes:
        kind: the class of error.
        pattern: a regular expression, matched anywhere and in any case. Its groups are what ``reads`` says.
        seen_at: who says so.
        reads: what the pattern's groups hold: nothing, one number (the limit), two blocks (a range that would work), or
            the node's head and the block that was wanted: it lags only if that lies above.
        limit: for range rows, what is limited.
        guessed: whether no provider is known by these words: what they read must fit what was asked.
        inclusive: whether a named number of blocks counts both ends (``to - from + 1 <= n``), else ``to - from <= n``.
        assumed: limits to assume where none is named, as ``(asked for more than, limit)``, the first that applies.
        code: the row holds only under this JSON-RPC code.
        scope: for fatal rows, what the endpoint will not do.
    """

    kind: Kind
    pattern: str
    seen_at: str
    reads: Literal["nothing", "number", "range", "heights"] = "nothing"
    limit: Limit = "unknown"
    guessed: bool = False
    inclusive: bool = False
    assumed: tuple[tuple[int, int], ...] = ()
    code: int | None = None
    scope: Scope = "endpoint"
    regex: re.Pattern[str] = re.compile("")

    def __post_init__(self) -> None:
        pattern = self.pattern.replace("{n}", _NUMBER).replace("{block}", _BLOCK)
        object.__setattr__(self, "regex", re.compile(pattern, re.IGNORECASE))


_suggests = partial(ErrorRule, "range", reads="range")
_blocks = partial(ErrorRule, "range", reads="number", limit="blocks")
_too_many_blocks = partial(ErrorRule, "range", limit="blocks")
_too_much = partial(ErrorRule, "range", limit="results")
_rate = partial(ErrorRule, "rate")
_lagging = partial(ErrorRule, "lagging")
_pruned = partial(ErrorRule, "fatal", scope="history")
_gave_up = partial(ErrorRule, "call_limit")
_lists = partial(ErrorRule, "range", limit="lists")
_incomplete = partial(ErrorRule, "fatal", scope="question")

# Words with which a limit is named, and words for a limit of what a range holds rather than of its blocks.
_LIMITS = (
    r"(?:max\w*|limit\w*|at most|up to|no more than|more than|not exceed|within|less than|fewer than|over|exceed\w*|"
    r"allow\w*|greater than|larger than|too many|too long|too large|too big)"
)
_COUNTED_BLOCKS = re.compile(rf"{_NUMBER}[ -]?blocks?\b", re.IGNORECASE)
_RESULTS = re.compile(r"results|response size|\blogs\b(?! request)", re.IGNORECASE)

ROWS: tuple[ErrorRule, ...] = (
    # -- an eth_call that ran and failed: first, as a contract's own words may hold anything that follows
    ErrorRule("reverted", r"\brevert", "geth and all others"),
    # -- an eth_call that the node gave up for its gas: before the contract's other failures, as some nodes say both
    _gave_up(r"out[ _-]?of[ _-]?gas|insufficient[ _]gas", "geth, Erigon, Nethermind, Besu, reth: the cap is theirs"),
    _gave_up(r"gas required exceeds|gas exhausted|gas uint64 overflow", "geth, reth"),
    _gave_up(r"intrinsic gas", "geth, reth, Nethermind: the cap is below what the call data costs"),
    _gave_up(r"\bgas[ _](?:limit|cap|allowance)\b.{0,60}(?:exceed|too (?:high|large|low)|reached)", "several"),
    _gave_up(r"exceeds? .{0,40}\bgas[ _](?:limit|cap|allowance)", "Erigon and others"),
    # -- and the contract's other ways to fail
    ErrorRule(
        "reverted",
        r"invalid[ _]?(?:fe)?[ _]?(?:opcode|operation|jump)|bad (?:instruction|jump)|stack[ _]?(?:under|over)flow"
        r"|vm execution error|opcode 0xfe|undefined instruction",
        "several",
    ),
    # -- a limit of blocks that is named beside a range that would work
    _blocks(r"^(?!.*response size exceeded).*up to an? {n} block range", "Alchemy's free tier, Aurora"),
    # -- the provider names a range that would work
    _suggests(r"this block range should work: \[{block}, ?{block}\]", "Alchemy"),
    _suggests(r"try with this block range \[{block}, ?{block}\]", "Infura, zkSync, thirdweb, Tenderly"),
    _suggests(r"retry with the range {block} ?- ?{block}", "Sei"),
    # -- the provider names its limit of blocks
    _blocks(r"requested too many blocks from .{1,24} to .{1,24}, maximum is set to {n}", "Avalanche", inclusive=True),
    _blocks(r"max range: {n}", "Cloudflare", inclusive=True),
    _blocks(r"maximum allowed number of requested blocks is {n}", "thirdweb"),
    _blocks(r"limited to a {n}", "QuickNode, 1RPC, Blast"),
    _blocks(r"limited to {n} block", "BlockPI"),
    _blocks(r"exceeds the range allowed for your plan \(\d+ > {n}\)", "Blast, paid"),
    _blocks(r"please limit the query to at most {n} blocks", "Coinbase", inclusive=True),
    _blocks(r"maximum block range: {n}", "PublicNode"),
    _blocks(r"query exceeds max block range {n}", "reth, Hyperliquid"),
    _blocks(r"block range greater than {n} max", "Swell"),
    _blocks(r"block range exceeds {n}", "Somnia"),
    _blocks(r"range is too large, max is {n} blocks", "Merkle, llama"),
    _blocks(r"query must be smaller than size {n}", "Harmony"),
    _blocks(r"block range is too wide \(maximum {n}\)", "Moonriver"),
    _too_many_blocks(r"block range is too wide", "Ankr", code=-32600, assumed=((0, 3_000),)),
    _blocks(r"maximum \[from, to\] blocks distance: {n}", "Ankr"),
    _blocks(r"exceed max block range: {n}", "Tron", inclusive=True),
    _blocks(r"block range = \d+, max block range = {n}", "Morph"),
    _too_many_blocks(r"block range limit exceeded", "Chainstack", assumed=((10_000, 10_000), (0, 100))),
    _blocks(r"ranges over {n} blocks are not supported on freetier", "free tiers", inclusive=True),
    # -- only "too many blocks"
    _too_many_blocks(r"range threshold exceeded", "several"),
    _too_many_blocks(r"block range (?:is )?too (?:large|wide)", "several"),
    # -- only "too much": it says nothing about other ranges
    _too_much(r"exceeded max allowed", "several"),
    _too_much(r"no backend is currently healthy to serve traffic", "proxyd"),
    _too_much(r"logs matched by query exceeds limit of {n}", "Goldsky and others", reads="number"),
    _too_much(r"query returned more than {n} results", "many", reads="number"),
    _too_much(r"query exceeds max results {n}", "reth", reads="number"),
    _too_much(r"query exceeds max results", "reth"),
    ErrorRule("range", r"response size should not greater than {n} bytes", "several", reads="number", limit="bytes"),
    ErrorRule("range", r"backend response too large", "proxyd", limit="bytes"),
    ErrorRule("range", r"response is too big", "several", limit="bytes"),
    ErrorRule("range", r"response size (?:is )?(?:exceeded|too large)", "Alchemy and others", limit="bytes"),
    # -- the node is behind
    _lagging(r"one of the blocks specified in filter .{0,60}cannot be found", "Nethermind"),
    _lagging(r"invalid block range params", "geth, toBlock beyond its head"),
    _lagging(r"block height is (\d+) but requested was (\d+)", "anvil, of old states too", reads="heights"),
    _lagging(r"block is out of range|blockoutofrange", "anvil and others"),
    _lagging(r"null[ -]?(?:round|block|tipset)", "Lotus, Forest: of a number without a block"),
    _lagging(r"unknown (?:block|header)", "geth, Erigon"),
    _lagging(r"\bheader\b.{0,90}\bnot found", "geth"),
    _lagging(r"\bblock (?:\S+ )?(?:was |is |could )?(?:not (?:be )?(?:found|exist)|does(?: not|n't) exist)", "several"),
    _lagging(
        r"\b(?:no such|(?:could|can) ?not (?:find|load|get)|unable to (?:find|load|get)) (?:the )?(?:block|header)",
        "several",
    ),
    _lagging(r"unable to complete request at this time", "Alchemy"),
    # -- an archive read on a node that is none
    _pruned(r"requested data is older than \d+ blocks", "QuickNode and others"),
    _pruned(r"missing trie node", "geth"),
    _pruned(r"\bpruned\b", "geth, Erigon, reth"),
    _pruned(r"state .{0,90}is not available", "geth, Besu"),
    _pruned(r"\bstate (?:not available|unavailable)", "geth with the path scheme, its forks, Besu"),
    _pruned(r"\bno state available", "Nethermind"),
    _pruned(r"state pruning|due to pruning", "OpenEthereum, Erigon"),
    _pruned(r"\barchive (?:data|state|nodes?|requests?)\b", "Sonic, and providers whose plan has no archive"),
    # -- a question that lacks something
    _incomplete(
        r"(?:specify|provide|include|supply|need|require|missing|without|must)\w*\b.{0,40}(?<!ip )\baddress",
        "PublicNode",
    ),
    _incomplete(
        r"(?<!ip )\baddress\w*\b.{0,40}\b(?:required|missing|mandatory|must be|needed|not specified|empty)", "several"
    ),
    # -- we ask too often
    _rate(r"rate[ -]?limit", "many"),
    _rate(r"too many requests", "many"),
    _rate(r"quota", "many"),
    _rate(r"throttle", "many"),
    _rate(r"exceeded its compute units per second capacity", "Alchemy"),
    _rate(r"daily request count exceeded", "Infura"),
    # -- an eth_call that the node gave up for anything else
    _gave_up(r"execution (?:aborted|timed? ?out|cancel+ed)|evm timeout", "geth and its forks, Infura"),
    _gave_up(r"\btimed?[ -]?out\b|\btime limit|deadline exceeded|took too long|context cancel+ed", "all, and gateways"),
    _gave_up(r"memory[ _]limit|too much memory|out of memory", "reth, Tron and others"),
    _gave_up(r"(?:response|result)(?: size)? (?:is )?(?:too (?:big|large)|exceed)", "Alchemy, proxyd, reth"),
    _gave_up(r"(?:request|payload|entity|call ?data|input)(?: size| body)? (?:is )?too (?:big|large|long)", "several"),
    # -- too long a list of addresses or topics; how long it may be, an experiment shows
    _lists(rf"{_LIMITS}\b.{{0,60}}\b(?:address|topic)", "geth and others"),
    _lists(rf"\b(?:address|topic)\w*\b.{{0,60}}\b{_LIMITS}", "several"),
    # -- words of no known node, which hold a limit or a range that fits the question
    _suggests(r"{block}\]? ?(?:-|,|to|and|\.\.|through|toblock\W{1,4}) ?\[?{block}", "anyone", guessed=True),
    _blocks(rf"{_LIMITS}\b\D{{0,50}}{{n}}[ -]?blocks?\b", "anyone", guessed=True),
    _blocks(
        rf"\bblock (?:range|span|window|count|distance)\w*\b\D{{0,30}}{_LIMITS}\b\D{{0,30}}{{n}}",
        "anyone",
        guessed=True,
    ),
    # -- the batch as such
    ErrorRule("batch", r"(?:maximum|max|limit(?:ed)?)\D{0,40}batch\D{0,40}{n}", "several", reads="number"),
    ErrorRule(
        "batch",
        r"batch\D{0,60}(?:maximum|max|limit|exceed|over|more than|at most)\D{0,40}{n}",
        "several",
        reads="number",
    ),
    ErrorRule(
        "batch",
        r"batch.{0,40}(?:not (?:supported|allowed|enabled)|unsupported|disabled|forbidden)",
        "several",
        assumed=((0, 1),),
    ),
    ErrorRule("batch", r"batch (?:size )?(?:is )?(?:too large|limit exceeded)", "several"),
    # -- known faults of a moment
    ErrorRule("transient", r"forwarder error: ?\d+", "Ankr"),
)

CODES: dict[int, tuple[Kind, Scope]] = {
    3: ("reverted", "method"),
    429: ("rate", "endpoint"),
    -32005: ("rate", "endpoint"),
    -32001: ("lagging", "endpoint"),
    -32601: ("fatal", "method"),
    -32004: ("fatal", "method"),
}

STATUSES: dict[int, tuple[Kind, Scope]] = {
    301: ("fatal", "endpoint"),
    302: ("fatal", "endpoint"),
    307: ("fatal", "endpoint"),
    308: ("fatal", "endpoint"),
    401: ("fatal", "endpoint"),
    403: ("fatal", "endpoint"),
    404: ("fatal", "endpoint"),
    405: ("fatal", "endpoint"),
    407: ("fatal", "endpoint"),
    429: ("rate", "endpoint"),
}

# Gateways say "it took too long" and "it was too much" with these.
TIMEOUT_STATUSES = frozenset({408, 504, 524})
TOO_LARGE_STATUSES = frozenset({413})

_REDIRECT_HINT = "this URL redirects: put the address that it leads to in its place"

_HINTS: dict[int, str] = {
    301: _REDIRECT_HINT,
    302: _REDIRECT_HINT,
    307: _REDIRECT_HINT,
    308: _REDIRECT_HINT,
    401: "check the key in this endpoint's URL",
    403: "check the key in this endpoint's URL, and whether its plan allows this chain and method",
    404: "check the path of this endpoint's URL",
    407: "a proxy on the way wants a login: check HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment",
    405: "this URL does not take JSON-RPC over POST: check it",
}


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
    for row in ROWS:
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
    for row in ROWS:
        if row.reads == "range":
            for match in row.regex.finditer(failure.text):
                if _fits(failure, row, match):
                    return int(match[2], 0) - int(match[1], 0) + 1
    return 0


def _from_numbers(failure: Failure) -> ProviderError:
    known = CODES.get(failure.code) if failure.code is not None else None
    known = known or STATUSES.get(failure.status)
    if known is None and failure.status == 503 and failure.retry_after is not None:
        known = ("rate", "endpoint")
    text = describe(failure)
    hint = _HINTS.get(failure.status)
    match known:
        case ("rate", _):
            return RateError(text, retry_after=failure.retry_after, code=failure.code)
        case ("lagging", _):
            return LaggingError(text, code=failure.code)
        case ("reverted", _):
            return RevertedError(text, code=failure.code)
        case ("fatal", scope):
            return FatalError(text, scope=scope, code=failure.code, hint=hint)
        case _ if failure.blocks is not None and failure.status in TIMEOUT_STATUSES | TOO_LARGE_STATUSES:
            return RangeError(text, timed_out=failure.status in TIMEOUT_STATUSES, code=failure.code)
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
