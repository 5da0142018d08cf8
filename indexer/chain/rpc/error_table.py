"""What nodes and providers say, and what it means: the table that :mod:`indexer.chain.rpc.failures` reads.

The table is data. A provider's new wording is a new row here, a case in ``tests/unit/chain/test_error_table.py`` and,
for a limit of ranges, a profile in ``tests/providers/profiles.py`` (docs/endpoints.md); it never needs new code. Rows
are tried from the top, against the whole error as text (message and ``data``), in any case; only when no row matches
do the JSON-RPC code and then the HTTP status decide.

In a pattern ``{n}`` stands for a number as people write it (``10000``, ``10,000``, ``10k``) and ``{block}`` for a block
number, decimal or hex.
"""

import re
from dataclasses import dataclass
from functools import partial
from typing import Literal

from indexer.chain.records.errors import Limit, Scope

Kind = Literal["range", "rate", "lagging", "fatal", "transient", "batch", "reverted", "call_limit"]

NUMBER = r"(\d+(?:[,._]\d{3})*k?)\b"
_BLOCK = r"(0x[0-9a-f]+|\d+)"


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
        pattern = self.pattern.replace("{n}", NUMBER).replace("{block}", _BLOCK)
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

HINTS: dict[int, str] = {
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
