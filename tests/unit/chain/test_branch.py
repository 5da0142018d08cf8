"""Blocks that may still be reorganised: everything read must belong to one branch, and a bloom must be believed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.logs.block_logs import logs_by_hash
from indexer.chain.records.errors import BranchMovedError, LaggingError, ProviderError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import RequestContext
from tests.providers.history import TOKEN, TRANSFER, block_hash
from tests.providers.node import Node, Refusal
from tests.unit.chain.test_blooms import bloom_of

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

FILTER = LogFilter((TOKEN,), ((TRANSFER,),))
FIRST, LAST = 1_000, 1_020


def parent() -> bytes:
    return bytes.fromhex(block_hash(FIRST - 1)[2:])


def true_blooms(node: Node) -> None:
    """Blooms that hold what their block's logs bear, and in each other block something else."""
    bearing = set(node.history.positions)

    def header(params: list[Any]) -> bytes:
        holds = bloom_of(TOKEN, TRANSFER) if int(params[0], 16) in bearing else bloom_of(TOKEN)
        return node.header(params[0]).replace(b"ff" * 256, holds.hex().encode())

    node.answers["eth_getBlockByNumber"] = header


def numbers(node: Node, first: int = FIRST, last: int = LAST) -> list[int]:
    start, end = node.history.between(first, last)
    return list(node.history.positions[start:end])


def test_headers_and_logs_come_in_one_batch(serve: Serve, connect: Connect) -> None:
    node = serve()
    true_blooms(node)
    branch = connect(node).branch(FIRST, LAST, FILTER, parent_hash=parent())
    assert [header.number for header in branch.headers] == list(range(FIRST, LAST + 1))
    assert (branch.first, branch.last) == (FIRST, LAST)
    assert [log.block_number for log in branch.logs] == numbers(node) != []
    assert (node.http_requests, branch.requests) == (1, 1)


def test_a_bloom_that_says_maybe_leads_to_a_second_question(serve: Serve, connect: Connect) -> None:
    node = serve()  # its blooms say "maybe" to everything
    get_logs = node.get_logs
    bearing = sorted(set(numbers(node)))
    forgotten = bearing[len(bearing) // 2]

    def incomplete(params: list[Any]) -> bytes:
        logs = json.loads(get_logs(params[0]))
        if "fromBlock" in params[0]:
            logs = [log for log in logs if int(log["blockNumber"], 16) != forgotten]
        return json.dumps(logs).encode()

    node.answers["eth_getLogs"] = incomplete
    client = connect(node)
    branch = client.branch(FIRST, LAST, FILTER)
    assert [log.block_number for log in branch.logs] == numbers(node)
    assert branch.asked_again == LAST - FIRST + 1 - (len(bearing) - 1)
    assert branch.found_again == numbers(node).count(forgotten)
    assert client.branch(FIRST, LAST, FILTER, blooms=False).found_again == numbers(node).count(forgotten)


BLOOM = b"0x" + b"ff" * 256


@pytest.mark.parametrize("bloom", [b'"0x' + b"00" * 256 + b'"', b'"0x0"', b'"0x"', b"null"])
def test_a_bloom_of_zeros_or_none_is_not_taken_for_silence(serve: Serve, connect: Connect, bloom: bytes) -> None:
    """Behind one URL one machine answers the headers, and one that has not come as far the logs."""
    node = serve()
    get_logs = node.get_logs
    node.answers["eth_getBlockByNumber"] = lambda params: node.header(params[0]).replace(b'"' + BLOOM + b'"', bloom)
    node.answers["eth_getLogs"] = lambda params: get_logs(params[0]) if "blockHash" in params[0] else b"[]"
    branch = connect(node).branch(FIRST, LAST, FILTER)
    assert [log.block_number for log in branch.logs] == numbers(node)
    assert branch.asked_again == LAST - FIRST + 1


def test_blooms_that_contradict_their_logs_are_told_once(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    node = serve()
    node.answers["eth_getBlockByNumber"] = lambda params: node.header(params[0]).replace(b"ff" * 256, b"01" * 256)
    client = connect(node)
    for _ in range(2):
        branch = client.branch(FIRST, LAST, FILTER)
        assert branch.asked_again == LAST - FIRST + 1 - len(set(numbers(node)))
    assert caplog.text.count("does not hold the block's own logs") == 1


def without_a_filter_by_hash(answer: bytes | Refusal) -> Callable[[Node], None]:
    def twist(node: Node) -> None:
        get_logs = node.get_logs

        def logs(params: list[Any]) -> bytes:
            if "blockHash" not in params[0]:
                return get_logs(params[0])
            if isinstance(answer, Refusal):
                raise answer
            return answer or get_logs({"fromBlock": hex(FIRST + 900), "toBlock": hex(FIRST + 990)})

        node.answers["eth_getLogs"] = logs

    return twist


@pytest.mark.parametrize(
    "answer",
    [
        Refusal(-32602, "invalid argument 0: unknown field blockHash"),
        Refusal(-32601, "filter by block hash is not supported"),
        Refusal(-32000, "a filter needs fromBlock"),
        Refusal(-32603, "internal error"),
        b"null",
        b"",  # the hash is ignored, and the newest blocks' logs are answered
    ],
)
def test_a_node_that_has_no_filter_by_hash_is_asked_by_number(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, answer: bytes | Refusal
) -> None:
    node = serve()  # its blooms say "maybe" to everything
    without_a_filter_by_hash(answer)(node)
    client = connect(node)
    for _ in range(3):
        assert [log.block_number for log in client.branch(FIRST, LAST, FILTER).logs] == numbers(node)
    assert caplog.text.count("does not answer eth_getLogs by a block's hash") == 1


def test_one_bad_answer_by_hash_proves_nothing(serve: Serve, connect: Connect) -> None:
    node = serve()
    get_logs, bad = node.get_logs, [1]

    def logs(params: list[Any]) -> bytes:
        if "blockHash" in params[0] and bad:
            bad.pop()
            raise Refusal(-32602, "invalid params")
        return get_logs(params[0]) if "blockHash" in params[0] else b"[]"

    node.answers["eth_getLogs"] = logs
    assert [log.block_number for log in connect(node).branch(FIRST, LAST, FILTER).logs] == numbers(node)


def test_the_block_asked_for_by_number_must_be_the_one_that_was_named(serve: Serve, connect: Connect) -> None:
    node = serve()
    without_a_filter_by_hash(Refusal(-32602, "invalid argument 0: unknown field blockHash"))(node)
    client = connect(node)
    client.branch(FIRST, LAST, FILTER)
    asked = [0]

    def moved(params: list[Any]) -> bytes:
        asked[0] += 1
        header = node.header(params[0])
        named = block_hash(int(params[0], 16))[2:].encode()
        return header if asked[0] <= LAST - FIRST + 1 else header.replace(named, b"22" * 32, 1)

    node.answers["eth_getBlockByNumber"] = moved
    with pytest.raises(BranchMovedError, match="is another one now"):
        client.branch(FIRST, LAST, FILTER)


def test_an_answer_by_hash_about_another_block_is_not_believed(serve: Serve, connect: Connect) -> None:
    node = serve()
    without_a_filter_by_hash(b"")(node)
    with pytest.raises(ProviderError):
        connect(node, attempts=1).branch(FIRST, LAST, FILTER)
    with pytest.raises(ProviderError):
        connect(node, attempts=2).run(
            lambda one: logs_by_hash(one, [(bytes.fromhex(block_hash(5)[2:]), FILTER)], RequestContext()),
            "eth_getLogs",
        )


def test_a_broken_link_means_that_the_chain_moved(serve: Serve, connect: Connect) -> None:
    node = serve()
    moved = block_hash(1_010)
    node.answers["eth_getBlockByNumber"] = lambda params: (
        node.header(params[0]).replace(moved[2:].encode(), b"11" * 32)
        if params[0] == hex(1_010)
        else node.header(params[0])
    )
    with pytest.raises(BranchMovedError, match="1,011 is no child"):
        connect(node).branch(FIRST, LAST, FILTER)


def test_another_parent_means_that_the_chain_moved(serve: Serve, connect: Connect) -> None:
    with pytest.raises(BranchMovedError, match="another parent"):
        connect(serve()).branch(FIRST, LAST, FILTER, parent_hash=b"\x11" * 32)


def test_logs_of_another_branch_are_not_taken(serve: Serve, connect: Connect) -> None:
    node = serve()
    get_logs = node.get_logs
    some = numbers(node)[0]
    node.answers["eth_getLogs"] = lambda params: get_logs(params[0]).replace(block_hash(some)[2:].encode(), b"11" * 32)
    with pytest.raises(BranchMovedError, match="of another block than its header"):
        connect(node).branch(FIRST, LAST, FILTER)


def test_a_node_that_is_behind_lags(serve: Serve, connect: Connect) -> None:
    behind, ahead = serve(), serve()
    behind.head = 1_010
    with pytest.raises(LaggingError):
        connect(behind, attempts=2).branch(FIRST, LAST, FILTER)
    branch = connect(behind, ahead).branch(FIRST, LAST, FILTER)
    assert branch.last == LAST


def test_a_range_that_is_too_wide_is_read_in_parts(serve: Serve, connect: Connect) -> None:
    def narrow(_: Node, first: int, last: int) -> None:
        if last - first > 4:
            raise Refusal(-32602, "query exceeds max block range 4")

    node = serve(limit=narrow)
    true_blooms(node)
    branch = connect(node).branch(FIRST, LAST, FILTER)
    assert [log.block_number for log in branch.logs] == numbers(node)


def test_without_filters_only_headers_are_read(serve: Serve, connect: Connect) -> None:
    node = serve()
    branch = connect(node).branch(FIRST, LAST, ())
    assert (len(branch.headers), branch.logs) == (LAST - FIRST + 1, [])
    assert node.counts["eth_getLogs"] == 0


def test_a_range_that_is_none_is_a_mistake(serve: Serve, connect: Connect) -> None:
    with pytest.raises(ValueError, match="no range"):
        connect(serve()).branch(5, 4, FILTER)
