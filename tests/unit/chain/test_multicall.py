"""Many reads at once: batches, failures, gas burners, nodes without Multicall3, and answers that are garbage."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from indexer.chain.client import ChainClient
from indexer.chain.errors import AnswerError, CallReverted
from indexer.chain.multicall import (
    MAX_CALLDATA,
    MAX_CALLS,
    MULTICALL3,
    CallResult,
    batches,
    decode_aggregate3,
    encode_aggregate3,
)
from tests.providers.node import Node, Refusal

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

GOOD, MUTE, LOUD, BURNER = (bytes([number]) * 20 for number in (1, 2, 3, 4))


class Contracts:
    """Contracts behind a node: GOOD echoes, MUTE and LOUD revert, BURNER burns the gas of all behind it."""

    def __init__(self, node: Node, *, deployed_at: int = 100) -> None:
        self.aggregated: list[int] = []
        self.alone = 0
        self.most = 10**9
        self.deployed_at = deployed_at
        self.codes = 0
        node.answers["eth_getCode"] = self.code
        node.answers["eth_call"] = self.call

    def code(self, params: list[Any]) -> bytes:
        self.codes += 1
        return b'"0x60"' if int(params[1], 16) >= self.deployed_at else b'"0x"'

    def call(self, params: list[Any]) -> bytes:
        to, data = bytes.fromhex(params[0]["to"][2:]), bytes.fromhex(params[0]["data"][2:])
        if to != MULTICALL3:
            self.alone += 1
            success, answer = self.run(to, data)
            if not success:
                raise Refusal(3, "execution reverted", "0x" + answer.hex())
            return f'"0x{answer.hex()}"'.encode()
        (calls,) = decode(["(address,bool,bytes)[]"], data[4:])
        self.aggregated.append(len(calls))
        if len(calls) > self.most:
            raise Refusal(-32000, "out of gas")
        results = []
        burnt = False
        for target, allowed, part in calls:
            assert allowed
            address = bytes.fromhex(target[2:])
            results.append((False, b"") if burnt else self.run(address, part))
            burnt = burnt or address == BURNER
        return f'"0x{encode(["(bool,bytes)[]"], [results]).hex()}"'.encode()

    @staticmethod
    def run(to: bytes, data: bytes) -> tuple[bool, bytes]:
        return {GOOD: (True, data), LOUD: (False, b"no " + data)}.get(to, (False, b""))


def results(calls: list[tuple[bytes, bytes]]) -> list[CallResult]:
    return [CallResult(*Contracts.run(*call)) for call in calls]


def test_one_request_answers_many_calls_each_with_its_own_failure(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    calls = [(GOOD, b"a"), (LOUD, b"b"), (GOOD, b""), (GOOD, b"c" * 100)]
    assert connect(node).multicall(calls, 500) == results(calls)
    assert contracts.aggregated == [4]
    assert contracts.alone == 0


@pytest.mark.parametrize("count", [0, 1, MAX_CALLS - 1, MAX_CALLS, MAX_CALLS + 1, 2 * MAX_CALLS + 1])
def test_no_call_is_lost_at_the_end_of_a_batch(serve: Serve, connect: Connect, count: int) -> None:
    Contracts(node := serve())
    calls = [(GOOD, number.to_bytes(4, "big")) for number in range(count)]
    assert connect(node).multicall(calls, 500) == results(calls)


def test_a_batch_that_fails_whole_is_halved(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    contracts.most = 3
    calls = [(GOOD, bytes([number])) for number in range(20)]
    assert connect(node).multicall(calls, 500) == results(calls)
    assert contracts.aggregated[0] == 20
    assert sum(size for size in contracts.aggregated if size <= 3) + contracts.alone == 20


def test_calls_behind_one_that_burns_all_gas_are_asked_again_alone(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    calls = [(GOOD, b"a"), (BURNER, b""), (GOOD, b"b"), (MUTE, b""), (GOOD, b"c")]
    assert connect(node).multicall(calls, 500) == results(calls)
    assert contracts.alone == 3


def test_before_multicall_stood_calls_go_one_by_one(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve(), deployed_at=1_000)
    client = connect(node)
    calls = [(GOOD, b"a"), (LOUD, b"b"), (MUTE, b"")]
    assert client.multicall(calls, 999) == results(calls)
    assert (contracts.aggregated, contracts.alone) == ([], 3)
    assert client.multicall(calls, 1_000) == results(calls)
    assert contracts.aggregated == [3]
    codes = contracts.codes
    for block in (0, 500, 999, 1_000, 1_001, 1_999):
        client.multicall(calls, block)
    assert contracts.codes == codes, "where it stands is asked once"


@pytest.mark.parametrize("answer", [b'"0x"', b'"0x1234"', b'"0x' + b"ff" * 200 + b'"', b"17", b"null"])
def test_an_answer_that_is_garbage_ends_with_single_calls(serve: Serve, connect: Connect, answer: bytes) -> None:
    contracts = Contracts(node := serve())
    call = node.answers["eth_call"]
    node.answers["eth_call"] = lambda params: answer if params[0]["to"] == "0x" + MULTICALL3.hex() else call(params)
    calls = [(GOOD, b"a"), (LOUD, b"b"), (GOOD, b"c")]
    assert connect(node, attempts=2).multicall(calls, 500) == results(calls)
    assert contracts.alone == 3


@given(st.lists(st.binary(max_size=3_000), max_size=700))
def test_batches_are_bounded_and_miss_nothing(datas: list[bytes]) -> None:
    calls = [(GOOD, data) for data in datas]
    parts = batches(calls)
    assert [call for part in parts for call in part] == calls
    for part in parts:
        assert len(part) <= MAX_CALLS
        assert len(part) == 1 or len(encode_aggregate3(part)) <= MAX_CALLDATA + 100


@given(st.binary(max_size=400), st.integers(0, 5))
def test_any_bytes_are_results_or_an_error_of_the_endpoint(data: bytes, count: int) -> None:
    with suppress(AnswerError):
        assert len(decode_aggregate3(data, count)) == count


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_results_is_an_error_of_the_endpoint(count: int) -> None:
    answer = encode(["(bool,bytes)[]"], [[(True, b"a"), (False, b"")]])
    assert len(decode_aggregate3(answer, 2)) == 2
    with pytest.raises(AnswerError, match=f"2 results to {count} calls"):
        decode_aggregate3(answer, count)


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (Refusal(3, "execution reverted: no", "0x08c379a0"), bytes.fromhex("08c379a0")),
        (Refusal(-32015, "VM execution error.", "Reverted 0x08c379a0"), bytes.fromhex("08c379a0")),
        (Refusal(-32000, "execution reverted"), b""),
        (Refusal(-32603, "VM Exception: revert", {"data": "0x1234", "message": "revert"}), bytes.fromhex("1234")),
        (Refusal(3, "execution reverted", "0x123"), bytes.fromhex("12")),
        (Refusal(3, "execution reverted", 17), b""),
    ],
)
def test_a_revert_is_an_answer_with_its_data(serve: Serve, connect: Connect, error: Refusal, data: bytes) -> None:
    node = serve()

    def revert(_: list[Any]) -> bytes:
        raise error

    node.answers["eth_call"] = revert
    client = connect(node)
    with pytest.raises(CallReverted) as caught:
        client.eth_call(GOOD, b"", 500)
    assert caught.value.data == data
    assert node.counts["eth_call"] == 1, "it is not asked again"
    assert client.describe()[0].state == "healthy"
