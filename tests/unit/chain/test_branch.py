"""Blocks that may still be reorganised: everything read must belong to one branch, and a bloom must be believed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.errors import BranchMovedError, LaggingError, ProviderError
from indexer.chain.filters import LogFilter
from tests.providers.history import TOKEN, TRANSFER, block_hash
from tests.providers.node import Node, Refusal

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

FILTER = LogFilter((TOKEN,), ((TRANSFER,),))
FIRST, LAST = 1_000, 1_020


def parent() -> bytes:
    return bytes.fromhex(block_hash(FIRST - 1)[2:])


def zero_blooms(node: Node) -> None:
    node.answers["eth_getBlockByNumber"] = lambda params: node.header(params[0]).replace(b"ff" * 256, b"00" * 256)


def numbers(node: Node, first: int = FIRST, last: int = LAST) -> list[int]:
    start, end = node.history.between(first, last)
    return list(node.history.positions[start:end])


def test_headers_and_logs_come_in_one_batch(serve: Serve, connect: Connect) -> None:
    node = serve()
    zero_blooms(node)
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
    without = client.branch(FIRST, LAST, FILTER, blooms=False)
    assert forgotten not in [log.block_number for log in without.logs], "switched off, nobody notices"


def test_an_answer_by_hash_about_another_block_is_not_believed(serve: Serve, connect: Connect) -> None:
    node = serve()
    get_logs = node.get_logs
    node.answers["eth_getLogs"] = lambda params: (
        get_logs({"fromBlock": hex(FIRST), "toBlock": hex(LAST)}) if "blockHash" in params[0] else b"[]"
    )
    with pytest.raises(ProviderError):
        connect(node, attempts=2).branch(FIRST, LAST, FILTER)
    with pytest.raises(ProviderError):
        connect(node, attempts=2).logs_of_block(bytes.fromhex(block_hash(5)[2:]), FILTER)


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
    zero_blooms(node)
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
