# ruff: noqa: E501 - the providers' own words
"""Every wording of the table, as providers really write it, and what it must mean."""

from dataclasses import dataclass
from typing import Any

import pytest

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
from indexer.chain.rpc.failures import Failure, classify

ASKED = (1_000_000, 1_099_999)


@dataclass
class Case:
    text: str
    meant: type[ProviderError]
    attributes: dict[str, Any]
    code: int | None = -32000
    status: int = 200
    method: str = "eth_getLogs"
    blocks: tuple[int, int] | None = ASKED
    retry_after: float | None = None
    longest_list: int = 0
    any_address: bool = False


def suggests(text: str, **more: Any) -> Case:
    return Case(text, RangeError, {"suggested": (1_000_000, 1_000_500), "limit": "results"}, **more)


def blocks(maximum: int | None, text: str, **more: Any) -> Case:
    return Case(text, RangeError, {"limit": "blocks", "maximum": maximum, "suggested": None}, **more)


def results(text: str, maximum: int | None = None, **more: Any) -> Case:
    return Case(text, RangeError, {"limit": "results", "maximum": maximum, "suggested": None}, **more)


def too_long(text: str, maximum: int | None = None) -> Case:
    return Case(text, RangeError, {"limit": "bytes", "maximum": maximum})


def rate(text: str, **more: Any) -> Case:
    return Case(text, RateError, {}, **more)


def reverted(text: str, code: int = -32000) -> Case:
    return Case(text, RevertedError, {}, code=code, method="eth_call", blocks=None)


def gave_up(text: str, code: int = -32000) -> Case:
    return Case(text, CallLimitError, {}, code=code, method="eth_call", blocks=None)


def lagging(text: str, **more: Any) -> Case:
    return Case(text, LaggingError, {}, **more)


def fatal(scope: str, text: str, **more: Any) -> Case:
    return Case(text, FatalError, {"scope": scope}, **more)


def batch(maximum: int | None, text: str, **more: Any) -> Case:
    return Case(text, BatchError, {"maximum": maximum}, method="batch", blocks=None, **more)


OLD_STATE_IS_GONE = (
    "missing trie node d74423b54378a6d4 (path ) state 0xd744 is not available, not found",
    "missing trie node d74423b54378a6d4 (path )",
    "historical state 0x9a3e2261 is not available",
    "historical state not available in path scheme yet",
    "required historical state unavailable (reexec=128)",
    "World state unavailable",
    "State at block #3 is pruned",
    "No state available for block 0x3 (0x5b7c)",
    "This request is not supported because your node is running with state pruning. Run with --pruning=archive.",
    "old data not available due to pruning. given height 3",
    "state does not maintain archive data",
    "project ID does not have access to archive state",
    "Archive requests are not part of this plan",
    "requested data is older than 128 blocks",
)
"""What nodes and providers say to a question about the state of a block that they no longer know."""

CASES = [
    # the provider names a range
    suggests("Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range ... this block range should work: [0xf4240, 0xf4434]", code=-32602),
    suggests("query returned more than 10000 results. Try with this block range [0xF4240, 0xF4434].", code=-32005),
    suggests('query returned more than 10000 results {"from":"0xf4240","limit":10000,"to":"0xf4434"} try with this block range [0xf4240,0xf4434]', code=-32005),
    suggests("a maximum of 10000 logs are allowed; retry with the range 1000000-1000500"),
    # a limit of blocks beside a range that would work
    blocks(10, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters, this block range should work: [0xf4240, 0xf4249]. Upgrade to PAYG for expanded block range.", code=-32600, status=400),
    blocks(11, "eth_getLogs is allowed with up to a 10 block range, this block range should work: [0xf4240, 0xf424a]"),
    Case("100 blocks a request on this plan; this block range should work: [0xf4240, 0xf42a3]", RangeError, {"limit": "blocks", "maximum": 100, "suggested": (1_000_000, 1_000_099)}),
    Case("log window too wide; try with this block range [0xf4240, 0xf4434]", RangeError, {"limit": "unknown", "suggested": (1_000_000, 1_000_500)}),
    # words of nobody known, with a limit or a range that fits the question
    Case("use 1000000 to 1000500 instead", RangeError, {"limit": "unknown", "suggested": (1_000_000, 1_000_500)}),
    Case("use 1000500 to 1000000 instead", TransientError, {"shrinkable": True}),
    blocks(501, "sorry, your subscription permits no more than 500 blocks"),
    blocks(501, "the block window of a query must be within 500"),
    Case("the head is at most 20000000 blocks", TransientError, {"shrinkable": True}),
    # lists
    Case("exceed max addresses or topics per search position", RangeError, {"limit": "lists"}, longest_list=400),
    Case("Addresses: 400 given, 100 allowed", RangeError, {"limit": "lists"}, longest_list=400),
    Case("too many addresses", TransientError, {"shrinkable": True}, longest_list=1),
    # a question that lacks something
    fatal("question", "Please specify an address in your request or, to remove restrictions, order a dedicated full node", code=-32701, status=403, any_address=True),
    fatal("question", "contract address is required", any_address=True),
    Case("Please specify an address in your request", TransientError, {"shrinkable": True}),
    rate("too many requests from this IP address, an upgrade is required", any_address=True),
    # the provider names its limit; "to - from <= n" makes n + 1 blocks
    blocks(2048, "requested too many blocks from 1000000 to 1099999, maximum is set to 2048"),
    blocks(800, "Max range: 800", code=-32047),
    blocks(1001, "Maximum allowed number of requested blocks is 1000"),
    blocks(10_001, "eth_getLogs is limited to a 10,000 range", code=-32614, status=413),
    blocks(10_001, "eth_getLogs is limited to a 10.000 blocks range"),
    blocks(1025, "eth_getLogs is limited to 1024 block range. Please check the parameter requirements"),
    blocks(5001, "block range (99999) exceeds the range allowed for your plan (99999 > 5000)"),
    blocks(1000, "please limit the query to at most 1000 blocks"),
    blocks(50_001, "exceed maximum block range: 50000", code=-32701),
    blocks(51, "query exceeds max block range 50"),
    blocks(1001, "block range greater than 1000 max"),
    blocks(1001, "block range exceeds 1000"),
    blocks(10_001, "eth_getLogs range is too large, max is 10k blocks"),
    blocks(1001, "eth_getLogs range is too large, max is 1k blocks"),
    blocks(1025, "query must be smaller than size 1024"),
    blocks(1025, "block range is too wide (maximum 1024)"),
    blocks(3000, "block range is too wide", code=-32600),
    blocks(None, "block range is too wide", code=-32000),
    blocks(2001, "up to a 2000 block range is allowed"),
    blocks(10_001, "maximum [from, to] blocks distance: 10000"),
    blocks(5000, "exceed max block range: 5000"),
    blocks(5001, "block range is larger than max block range, block range = 99999, max block range = 5000"),
    blocks(10_000, "Block range limit exceeded."),
    blocks(100, "Block range limit exceeded.", blocks=(1, 10_000)),
    blocks(500, "ranges over 500 blocks are not supported on freetier"),
    # only "too many blocks"
    blocks(None, "allowed block range threshold exceeded"),
    blocks(None, "eth_getLogs range threshold exceeded"),
    blocks(None, "block range too large"),
    blocks(None, "Block range is too large"),
    # only "too much"
    results("exceeded max allowed"),
    results("no backend is currently healthy to serve traffic", code=-32011, status=503),
    results("logs matched by query exceeds limit of 10000", 10_000),
    results("query returned more than 20,000 results", 20_000, code=-32005),
    results("query exceeds max results 20000", 20_000),
    results("query exceeds max results"),
    too_long("response size should not greater than 10485760 bytes", 10_485_760),
    too_long("backend response too large"),
    too_long("response is too big"),
    too_long("response size exceeded"),
    Case("<html>504 Gateway Time-out</html>", RangeError, {"timed_out": True, "limit": "unknown"}, code=None, status=504),
    Case("", RangeError, {"timed_out": True}, code=None, status=524),
    Case("payload too large", RangeError, {"timed_out": False}, code=None, status=413),
    # the node is behind
    lagging("One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found."),
    lagging("invalid block range params", code=-32602),
    lagging("block is out of range"),
    lagging("BlockOutOfRangeError: block height is 10 but requested was 20"),
    lagging("header not found", method="eth_call", blocks=None),
    lagging("unknown block"),
    lagging("requested epoch was a null round (4471023)", code=12, method="eth_getBlockByNumber"),
    lagging("Unable to complete request at this time.", code=-32001),
    lagging("Unable to complete request at this time.", code=-32000),
    lagging("Resource not found", code=-32001),
    lagging("block not found"),
    lagging("block not found: 0x5b7c"),
    lagging("Block 1234 was not found", code=-32602),
    lagging("block #1234 does not exist"),
    lagging("the block doesn't exist"),
    lagging("header for hash not found"),
    lagging("header with hash 0x5b7c not found"),
    lagging("unknown header"),
    lagging("could not find block", code=-32603),
    lagging("no such block"),
    # an archive read on a node that is none
    fatal("history", "Requested data is older than 128 blocks", method="eth_call", blocks=None),
    fatal("history", "BlockOutOfRangeError: block height is 20 but requested was 10", method="eth_call", blocks=None),
    fatal("history", "missing trie node 5b7c (path ) state 0x5b7c is not available", method="eth_call", blocks=None),
    fatal("history", "missing trie node 5b7c (path )", method="eth_call", blocks=None),
    fatal("history", "old data not available due to pruning: history pruned", method="eth_getLogs"),
    fatal("history", "state 0x5b7c at block 12 is not available", method="eth_getCode", blocks=None),
    *(
        fatal("history", text, method=method, blocks=None)
        for text in OLD_STATE_IS_GONE
        for method in ("eth_call", "eth_getCode")
    ),
    # we ask too often
    rate("rate limit reached", code=-32000),
    rate("Your app has hit a rate-limit", status=400),
    rate("Too Many Requests", code=None, status=429),
    rate("you have exceeded your quota", code=-32000),
    rate("request throttled, throttle policy"),
    rate("Your app has exceeded its compute units per second capacity", code=429, status=429),
    rate("daily request count exceeded, request rate limited", code=-32005),
    rate("Your app has exceeded its compute units per second capacity"),
    rate("daily request count exceeded"),
    rate("too many requests, try later"),
    rate("something", code=429),
    rate("limit exceeded", code=-32005),
    rate("<html>", code=None, status=429, retry_after=3.0),
    rate("overloaded", code=None, status=503, retry_after=1.0),
    # not at this endpoint
    fatal("endpoint", "invalid project id", code=None, status=401),
    fatal("endpoint", "forbidden", code=None, status=403),
    fatal("endpoint", "not found", code=None, status=404),
    fatal("endpoint", "method not allowed", code=None, status=405),
    fatal("endpoint", "moved", code=None, status=308),
    fatal("method", "the method eth_getBlockReceipts does not exist/is not available", code=-32601, method="eth_getBlockReceipts", blocks=None),
    fatal("method", "Method not supported", code=-32004, blocks=None),
    # batches
    batch(1, "batch requests are not supported"),
    batch(1, "Batch calls are disabled", status=403),
    batch(100, "batch size exceeds the limit of 100"),
    batch(10, "maximum number of calls in a batch is 10"),
    batch(None, "batch too large"),
    # an eth_call that ran
    Case("execution reverted: quota exceeded", RevertedError, {}, code=3, method="eth_call", blocks=None),
    Case("VM execution error.", RevertedError, {}, code=-32015, method="eth_call", blocks=None),
    reverted("", code=3),
    reverted("execution reverted: request timed out"),
    reverted("execution reverted: out of gas", code=3),
    reverted("VM execution error. Reverted 0x08c379a0", code=-32015),
    reverted("VM execution error. Bad instruction fe", code=-32015),
    reverted("invalid opcode: INVALID"),
    reverted("invalid jump destination"),
    reverted("EVM error: InvalidFEOpcode"),
    reverted("EVM error InvalidJump"),
    reverted("INVALID_OPERATION"),
    reverted("stack underflow (0 <=> 1)"),
    reverted("opcode 0xfe not defined"),
    # an eth_call that the node gave up: its own limits of gas, time and size, whatever software it is
    gave_up("out of gas"),
    gave_up("out of gas (supplied gas 50000000)"),
    gave_up("VM execution error. OutOfGas", code=-32015),
    gave_up("EVM error: OutOfGas(Basic)"),
    gave_up("Out of gas: gas exhausted during memory expansion: 1000000", code=-32003),
    gave_up("gas exhausted: 50000000", code=-32003),
    gave_up("execution halted: INSUFFICIENT_GAS"),
    gave_up("gas required exceeds allowance (50000000)"),
    gave_up("intrinsic gas too low: have 21000, want 53000 (supplied gas 21000)"),
    gave_up("err: intrinsic gas too low"),
    gave_up("Block gas limit exceeded"),
    gave_up("gas limit is too high", code=-32602),
    gave_up("the call exceeds the node's gas cap"),
    gave_up("execution aborted (timeout = 5s)"),
    gave_up("execution aborted (timeout = 1m0s)", code=-32603),
    gave_up("execution timeout"),
    gave_up("evm timeout", code=-32603),
    gave_up("execution aborted"),
    gave_up("request timed out", code=-32002),
    gave_up("upstream request time-out", code=-32603),
    gave_up("context deadline exceeded", code=-32603),
    gave_up("Call exceeded the time limit of 10 seconds", code=-32603),
    gave_up("the query took too long"),
    gave_up("MemoryLimitOOG memory limit"),
    gave_up("response size exceeded 10485760 bytes", code=-32008),
    gave_up("response is too big", code=-32008),
    gave_up("Request body too large", code=-32600),
    rate("rate limit exceeded, request timed out", method="eth_call", blocks=None),
    Case("<html>504 Gateway Time-out</html>", TransientError, {"shrinkable": True}, code=None, status=504, method="eth_call", blocks=None),
    # faults of a moment, and words that nobody knows
    Case("Internal server error. Forwarder error: 1000", TransientError, {"shrinkable": False}, code=-32603),
    Case("internal error", TransientError, {"shrinkable": True}, code=-32603),
    Case("<html>502 Bad Gateway</html>", TransientError, {"shrinkable": True}, code=None, status=502),
    Case("overloaded", TransientError, {}, code=None, status=503),
    Case("trop de journaux", TransientError, {"shrinkable": True}, code=-1),
    # range words are about ranges only
    Case("response is too big", TransientError, {}, method="eth_getCode", blocks=None),
    Case("batch too large", TransientError, {}, method="eth_chainId", blocks=None),
]  # fmt: skip


def failure(case: Case) -> Failure:
    return Failure(
        case.method,
        case.text,
        case.code,
        case.status,
        case.retry_after,
        case.blocks,
        case.longest_list,
        case.any_address,
    )


@pytest.mark.promise("N-03")
@pytest.mark.parametrize("case", CASES, ids=[case.text[:60] or f"status {case.status}" for case in CASES])
def test_what_a_wording_means(case: Case) -> None:
    error = classify(failure(case))
    assert type(error) is case.meant
    for name, value in case.attributes.items():
        assert getattr(error, name) == value, name
    if isinstance(error, RateError):
        assert error.retry_after == case.retry_after
    assert error.code == case.code


@pytest.mark.parametrize("row", error_table.ROWS, ids=[row.pattern for row in error_table.ROWS])
def test_every_row_is_what_decides_some_case(row: error_table.ErrorRule, monkeypatch: pytest.MonkeyPatch) -> None:
    # Guesses come last: they may well guess right what another row knows.
    rows = tuple(other for other in error_table.ROWS if row.guessed or not other.guessed)
    monkeypatch.setattr(error_table, "ROWS", rows)
    before = [outcome(case) for case in CASES]
    monkeypatch.setattr(error_table, "ROWS", tuple(other for other in rows if other is not row))
    assert before != [outcome(case) for case in CASES], "no case of this table needs the row"


def outcome(case: Case) -> tuple[Any, ...]:
    error = classify(failure(case))
    return type(error), {key: value for key, value in vars(error).items() if key not in {"wording", "hint"}}


def test_a_message_says_what_was_asked_and_answered_in_one_line() -> None:
    error = classify(Failure("eth_getLogs", "no\n such   thing " + "x" * 1000, -32603, 500, None, (5, 9)))
    assert str(error).startswith("eth_getLogs of blocks 5-9 refused (HTTP 500, code -32603): no such thing xxx")
    assert len(str(error)) < 400
    assert "\n" not in str(error)


def test_two_answers_of_one_kind_have_one_wording() -> None:
    first, second = (
        classify(Failure("eth_getLogs", f"zu viel: {n} von 0x{n:x}", -1, 200, None, (n, n + 5))) for n in (17, 2900)
    )
    assert isinstance(first, TransientError)
    assert isinstance(second, TransientError)
    assert first.words == second.words
