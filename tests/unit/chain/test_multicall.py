"""Many reads at once: batches, failures, gas burners, nodes without Multicall3, and answers that are garbage."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from indexer.chain.client import ChainClient
from indexer.chain.reads.contract_reads import (
    MAX_CALLDATA,
    MAX_CALLS,
    MULTICALL3,
    CallResult,
    batches,
    decode_aggregate3,
    encode_aggregate3,
)
from indexer.chain.records.errors import CallReverted, TransientError, WrongBlockError
from tests import multicall3
from tests.providers.history import GENESIS_TIME
from tests.providers.node import Node, Refusal

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

GOOD, MUTE, LOUD, BURNER, HEAVY, SLOW = (bytes([number]) * 20 for number in (1, 2, 3, 4, 5, 6))


class Contracts:
    """Contracts behind a node: GOOD echoes, MUTE and LOUD revert, BURNER burns its gas, HEAVY needs 3,000,000 of it.

    SLOW takes longer than the node allows, and every batch with it.
    """

    def __init__(self, node: Node, *, deployed_at: int = 100) -> None:
        self.node = node
        self.aggregated: list[int] = []
        self.alone = 0
        self.most = 10**9
        self.gas = 50_000_000
        self.deployed_at = deployed_at
        self.codes = 0
        self.run_at = lambda block: block
        """The block in which the node runs a call that is asked for at a block."""
        self.number_at = lambda block: block
        """What ``block.number`` is in a block."""
        node.answers["eth_getCode"] = self.code
        node.answers["eth_call"] = self.call

    def code(self, params: list[Any]) -> bytes:
        self.codes += 1
        return b'"0x60"' if int(params[1], 16) >= self.deployed_at else b'"0x"'

    def call(self, params: list[Any]) -> bytes:
        return f'"0x{self.answer(params).hex()}"'.encode()

    def answer(self, params: list[Any]) -> bytes:
        transaction, asked = params
        block = self.run_at(self.node.head if asked == "latest" else int(asked, 16))
        number, time = self.number_at(block), GENESIS_TIME + 12 * block
        data = bytes.fromhex(transaction["data"][2:])
        if "to" not in transaction:
            return multicall3.witness(number, time)
        to = bytes.fromhex(transaction["to"][2:])
        if to != MULTICALL3:
            self.alone += 1
            success, answer, burnt = self.run(to, data, self.gas)
            if burnt >= self.gas:
                raise Refusal(-32000, "out of gas")
            if not success:
                raise Refusal(3, "execution reverted", "0x" + answer.hex())
            return answer
        if block < self.deployed_at:
            return b""
        (calls,) = decode(["(address,bool,bytes)[]"], data[4:])
        wanted = len(calls) - 4
        if wanted:
            self.aggregated.append(wanted)
        if wanted > self.most:
            raise Refusal(-32000, "out of gas")
        try:
            return multicall3.aggregate3(data, number, time, self.run, gas=self.gas)
        except multicall3.OutOfGas:
            raise Refusal(-32000, "out of gas") from None

    def run(self, to: bytes, data: bytes, gas: int) -> tuple[bool, bytes, int]:
        if to == SLOW:
            raise Refusal(-32000, "execution aborted (timeout = 5s)")
        if to == BURNER or (to == HEAVY and gas < 3_000_000):
            return False, b"", gas
        if to == HEAVY:
            return True, data, 3_000_000
        return {GOOD: (True, data, 30_000), LOUD: (False, b"no " + data, 30_000)}.get(to, (False, b"", 5_000))


def results(calls: list[tuple[bytes, bytes]]) -> list[CallResult]:
    good = {GOOD: True, HEAVY: True}
    return [CallResult(to in good, data if to in good else b"no " + data if to == LOUD else b"") for to, data in calls]


@pytest.mark.promise("N-07")
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


def test_one_that_burns_all_gas_takes_nothing_from_those_behind_it(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    calls = [(GOOD, b"a"), (BURNER, b""), (GOOD, b"b"), (MUTE, b""), (GOOD, b"c"), (HEAVY, b"d"), (LOUD, b"e")]
    found = connect(node).multicall(calls, 500)
    assert found[:1] + found[2:] == results(calls[:1] + calls[2:])
    assert (found[1].success, found[1].data) == (False, b"")
    assert "out of gas" in found[1].refusal
    assert node.url.split("/")[2] in found[1].refusal, "the host is named"
    assert "secret" not in found[1].refusal
    assert contracts.alone <= 4


def test_calls_that_need_more_gas_together_than_a_node_gives_get_it_in_parts(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    calls = [(HEAVY, bytes([number])) for number in range(60)]
    client = connect(node)
    assert client.multicall(calls, 500) == results(calls)
    asked = sum(contracts.aggregated)
    assert client.multicall(calls, 501) == results(calls)
    assert sum(contracts.aggregated) - asked < asked, "how many a node takes is remembered"


def test_light_calls_behind_one_that_burns_nearly_all_gas_are_asked_again(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    contracts.gas = 5_000_000  # a 64th of it is less than what the last call needs
    run = contracts.run

    def some(to: bytes, data: bytes, gas: int) -> tuple[bool, bytes, int]:
        if to == GOOD:  # it reverts with words of its own where a call of its own fails
            return (True, data, 90_000) if gas >= 90_000 else (False, b"low-level call failed", 100)
        return run(to, data, gas)

    contracts.run = some  # type: ignore[method-assign]
    found = connect(node).multicall([(BURNER, b""), (GOOD, b"a")], 500, light=True)
    assert found[1] == CallResult(True, b"a")


def test_light_calls_that_fail_without_a_word_are_not_asked_again(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    calls = [(GOOD, b"a"), (MUTE, b""), (LOUD, b"b"), (MUTE, b"c"), (GOOD, b"d")] * 100
    assert connect(node).multicall(calls, 500, light=True) == results(calls)
    assert (contracts.aggregated, contracts.alone) == ([500], 0)
    contracts.aggregated.clear()
    calls[250] = (BURNER, b"")
    calls[400] = (BURNER, b"")
    found = connect(node).multicall(calls, 500, light=True)
    assert [one for i, one in enumerate(found) if i not in (250, 400)] == [
        one for i, one in enumerate(results(calls)) if i not in (250, 400)
    ]
    assert len(contracts.aggregated) < 30
    assert contracts.alone < 10


# -- one that no node runs, among many


@pytest.mark.parametrize("position", [0, 7, 999])
@pytest.mark.parametrize("deployed_at", [100, 10_000])
@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(-32000, "execution aborted (timeout = 5s)"),
        Refusal(-32000, "out of gas"),
        Refusal(-32603, "internal error"),
        Refusal(-32000, "header not found"),
        Refusal(-32008, "response is too big"),
        Refusal(0, "", status=504),
    ],
    ids=lambda refusal: refusal.message or str(refusal.status),
)
def test_one_bad_call_among_a_thousand(
    serve: Serve, connect: Connect, position: int, deployed_at: int, refusal: Refusal
) -> None:
    contracts = Contracts(node := serve(), deployed_at=deployed_at)
    calls = [(GOOD, number.to_bytes(4)) for number in range(1_000)]
    calls[position] = (SLOW, b"")
    run = contracts.run

    def refused(to: bytes, data: bytes, gas: int) -> tuple[bool, bytes, int]:
        if to == SLOW:
            raise refusal
        return run(to, data, gas)

    contracts.run = refused  # type: ignore[method-assign]
    found = connect(node, attempts=3).multicall(calls, 500)
    expected = results(calls)
    assert found[:position] + found[position + 1 :] == expected[:position] + expected[position + 1 :]
    assert (found[position].success, found[position].data) == (False, b"")
    assert (refusal.message or "HTTP 504") in found[position].refusal
    assert node.http_requests < 150


def test_what_one_node_will_not_run_another_may(serve: Serve, connect: Connect) -> None:
    narrow, wide = Contracts(serve()), Contracts(serve())
    run = wide.run
    wide.run = lambda to, data, gas: (True, b"done", 1) if to == SLOW else run(to, data, gas)  # type: ignore[method-assign]
    client = connect(narrow.node, wide.node)
    calls = [(GOOD, b"a"), (SLOW, b""), (GOOD, b"c")]
    assert client.multicall(calls, 500) == [CallResult(True, b"a"), CallResult(True, b"done"), CallResult(True, b"c")]
    assert {status.state for status in client.describe()} <= {"healthy", "unknown"}


def test_answers_that_came_are_kept_and_only_the_rest_is_asked_again(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve(), deployed_at=10_000)
    asked = [0]
    answer = contracts.answer

    def sometimes(params: list[Any]) -> bytes:
        asked[0] += 1
        if asked[0] % 100 == 0:
            raise Refusal(-32000, "header not found")
        return answer(params)

    contracts.answer = sometimes  # type: ignore[method-assign]
    calls = [(GOOD, number.to_bytes(4)) for number in range(2_500)]
    assert connect(node).multicall(calls, 500) == results(calls)
    assert asked[0] < 2_700


@pytest.mark.promise("N-07")
def test_a_node_that_is_away_is_an_error_and_no_answer(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())

    def away(params: list[Any]) -> bytes:
        raise Refusal(-32603, "internal error")

    contracts.answer = away  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="internal error"):
        connect(node, attempts=3).multicall([(GOOD, bytes([n])) for n in range(100)], 500)
    assert node.http_requests < 15


# -- the block in which a call is run


@pytest.mark.parametrize("deployed_at", [100, 10_000], ids=["with Multicall3", "without"])
def test_a_node_that_ignores_the_block_is_not_believed(serve: Serve, connect: Connect, deployed_at: int) -> None:
    contracts = Contracts(node := serve(), deployed_at=deployed_at)
    contracts.run_at = lambda block: node.head
    client = connect(node, attempts=2)
    client.head()
    with pytest.raises(WrongBlockError, match=r"at block 500 was run in block 1,999") as caught:
        client.multicall([(GOOD, b"a")], 500)
    assert caught.value.host
    assert client.multicall([(GOOD, b"a")], node.head) == [CallResult(True, b"a")], "its newest block is the newest"
    with pytest.raises(WrongBlockError):
        client.multicall([(GOOD, b"a")], 1_990)
    assert client.describe()[0].state == "healthy", "what it says otherwise is not in question"


def test_once_a_chain_shows_its_own_numbers_another_one_is_wrong(serve: Serve, connect: Connect) -> None:
    contracts = Contracts(node := serve())
    client = connect(node, attempts=1)
    client.head()
    for block in (500, 600, 700):
        client.multicall([(GOOD, b"a")], block)
    contracts.run_at = lambda block: block - 1
    with pytest.raises(WrongBlockError):
        client.multicall([(GOOD, b"a")], 800)


def test_another_node_that_honours_the_block_is_asked(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    liar, honest = Contracts(serve()), Contracts(serve())
    liar.run_at = lambda block: liar.node.head
    liar.run = lambda to, data, gas: (True, b"the newest", 1)  # type: ignore[method-assign]
    client = connect(liar.node, honest.node)
    for block in (500, 501, 502):
        assert client.multicall([(GOOD, b"a"), (GOOD, b"b")], block) == [CallResult(True, b"a"), CallResult(True, b"b")]
    said = [record.getMessage() for record in caplog.records if "not believed" in record.getMessage()]
    assert len(said) == 1, "once a minute"
    assert all("127.0.0.1" in text and "secret" not in text for text in said)


@pytest.mark.parametrize("deployed_at", [0, 10_000], ids=["with Multicall3", "without"])
@pytest.mark.parametrize("block", [0, 3, 60, 500, 1_950, 1_998, 1_999])
def test_a_chain_whose_calls_see_another_number_accuses_nobody(
    serve: Serve, connect: Connect, block: int, deployed_at: int
) -> None:
    contracts = Contracts(node := serve(), deployed_at=deployed_at)
    contracts.number_at = lambda number: 23_000_000 + number // 48  # that of the parent chain, as on Arbitrum
    client = connect(node, attempts=2)
    client.head()
    assert client.multicall([(GOOD, b"a"), (GOOD, b"b")], block) == [CallResult(True, b"a"), CallResult(True, b"b")]


@pytest.mark.parametrize("block", [60, 500, 1_950, 1_998, 1_999])
def test_nor_does_one_whose_calls_see_another_time_too(serve: Serve, connect: Connect, block: int) -> None:
    contracts = Contracts(node := serve())
    contracts.deployed_at = 0
    contracts.run_at = lambda number: number // 10  # the number and the time of a batch of blocks
    client = connect(node, attempts=2)
    client.head()
    assert client.multicall([(GOOD, b"a")], block) == [CallResult(True, b"a")]


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


@pytest.mark.parametrize("answer", [b'"0x"', b'"0x1234"', b'"0x' + b"ff" * 200 + b'"', b"17", b"null", b'"\\u00e9"'])
def test_an_answer_that_is_garbage_is_the_calls_fault_and_not_the_endpoints(
    serve: Serve, connect: Connect, answer: bytes
) -> None:
    contracts = Contracts(node := serve())
    call = node.answers["eth_call"]
    garbage = [0]

    def answered(params: list[Any]) -> bytes:
        if params[0].get("to") != "0x" + MULTICALL3.hex():
            return call(params)
        garbage[0] += 1
        return answer

    node.answers["eth_call"] = answered
    calls = [(GOOD, b"a"), (LOUD, b"b"), (GOOD, b"c")]
    client = connect(node, attempts=2)
    for block in range(500, 510):
        assert client.multicall(calls, block) == results(calls)
        (status,) = client.describe()
        assert (status.state, status.error_rate) == ("healthy", 0.0)
    assert contracts.alone == 30
    assert garbage[0] < 8, "it is not asked for ever"


@given(st.lists(st.binary(max_size=3_000), max_size=700))
def test_batches_are_bounded_and_miss_nothing(datas: list[bytes]) -> None:
    calls = [(GOOD, data) for data in datas]
    parts = batches(calls)
    assert [call for part in parts for call in part] == calls
    for part in parts:
        assert len(part) <= MAX_CALLS
        assert len(part) == 1 or len(encode_aggregate3(part)) <= MAX_CALLDATA + 200


@given(st.binary(max_size=400), st.integers(0, 5))
def test_any_bytes_are_results_or_none_of_multicall3(data: bytes, count: int) -> None:
    with suppress(ValueError):
        assert len(decode_aggregate3(data, count).results) == count


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_results_is_none_of_multicall3(count: int) -> None:
    answer = encode(["(bool,bytes)[]"], [[(True, b"a"), (False, b"")] * 3])
    assert len(decode_aggregate3(answer, 2).results) == 2
    with pytest.raises(ValueError, match="6 results"):
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
