"""Two machines behind one URL, one of which has not come as far, where batches are refused: history is whole."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json

import pytest

from indexer.errors import GaplessError
from tests.chaos.chain import PEOPLE, Saying, Transaction, topic
from tests.chaos.node import Honest, Node, RpcError
from tests.chaos.stage import COIN, FACTORIES, stage
from tests.further import further
from tests.posts import HttpAnswer

_numbers = itertools.count()

FILTERED = f"""
[contracts.inflow]
chain = "sim"
abi = "coin.json"
address = "any"
start_block = 0
events = ["Transfer"]
filters = {{ Transfer = {{ to = ["{PEOPLE[0]}"] }} }}
"""


class TwoMachines(Honest):
    """Answers some requests from another node.

    Args:
        behind: the node that is behind.
        is_behind: by the number of the request and what it asks: whether that node answers it.
        most_calls: the most calls in a batch.
    """

    def __init__(self, behind, is_behind, most_calls=1):
        self.behind, self.is_behind, self.most_calls = behind, is_behind, most_calls
        self.requests = itertools.count()
        self.answered = self.short = 0

    def request(self, node, calls, is_batch):
        if is_batch and len(calls) > self.most_calls:
            raise RpcError(-32600, f"batch size exceeds the limit of {self.most_calls}" if self.most_calls > 1 else
                           "batches are not supported")  # fmt: skip
        self.here = self.is_behind(next(self.requests), calls[0])
        self.answered += 1

    def result(self, node, call, result):
        if not self.here:
            return result
        answer = self.behind._result(call["method"], call["params"])
        self.short += answer != result
        return answer


def logs_by_number(_, call):
    return call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0]


def logs(_, call):
    return call["method"] == "eth_getLogs"


def wanted_logs(_, call):
    return logs_by_number(_, call) and "address" in json.dumps(call["params"])


def every(which, of):
    return lambda number, call: number % of == which


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"machines/{next(_numbers)}") as one:
        yield one


def follow_first(scene, *contracts):
    scene.apply(*contracts)
    follower = scene.follower()
    scene.tick(follower)
    return follower


def fill(scene, follower, liar, looks=12):
    """Fills history while some requests are answered by the machine that is behind, and then honestly."""
    scene.node.liar = liar
    for _ in range(looks):
        with contextlib.suppress(GaplessError):
            scene.backfill().run()
        scene.look()  # where the judge finds every row of what is covered
    scene.node.liar = Honest()
    scene.settle(follower)
    follower.close()


@pytest.mark.parametrize("most_calls", [1, further(2)])
@pytest.mark.parametrize(
    "is_behind", [logs_by_number, logs, wanted_logs, every(0, 2), every(1, 2), every(1, 3), every(2, 3)]
)
def test_a_machine_that_is_behind_is_never_taken_for_silence(scene, is_behind, most_calls):
    follower = follow_first(scene, COIN, FACTORIES, FILTERED)
    behind = Node(scene.chain)
    behind.lag = 22
    liar = TwoMachines(behind, is_behind, most_calls)
    fill(scene, follower, liar)
    assert liar.short


@pytest.mark.parametrize(
    ("quiet", "is_behind", "settings"),
    [
        (2, wanted_logs, {}),
        (7, logs_by_number, {}),
        (7, every(1, 2), {"batch_size": 1}),
        (30, logs_by_number, {}),
        (100, every(1, 2), {}),
    ],
)
def test_a_machine_that_is_behind_where_the_last_blocks_say_nothing(chaos, is_behind, quiet, settings):
    """After wanted logs come some blocks without any, one with another log, and again blocks without any."""
    with stage(chaos, f"machines/{next(_numbers)}") as scene:
        scene.settings = dataclasses.replace(scene.settings, **settings)
        for _ in range(quiet):
            scene.chain.append()
        scene.chain.append(other_transaction())
        for _ in range(quiet):
            scene.chain.append()
        scene.chain.finalize(scene.chain.head.number)
        scene.node.finalized = scene.chain.head.number - 4
        follower = follow_first(scene, COIN)
        behind = Node(scene.chain)
        behind.lag = scene.chain.head.number - 15
        liar = TwoMachines(behind, is_behind, most_calls=99 if settings else 1)
        fill(scene, follower, liar, looks=4)
        assert liar.short


def test_an_endpoint_too_slow_for_two_calls_at_once_is_proven_too(scene):
    """It takes batches, but the operator allows for one call a second: nothing binds the header to the logs."""
    scene.requests_per_second = 1.0
    follower = follow_first(scene, COIN, FACTORIES)
    behind = Node(scene.chain)
    behind.lag = 22
    liar = TwoMachines(behind, logs_by_number, most_calls=99)
    fill(scene, follower, liar, looks=4)
    assert liar.short


@pytest.mark.parametrize(("is_behind", "most_calls"), [(logs_by_number, 1), (every(1, 2), 99)])
def test_a_single_block_read_in_parts_is_proven_too(scene, is_behind, most_calls):
    """No question for more than one address is answered, so that blocks are read in parts at last."""
    follower = follow_first(scene, COIN, FACTORIES)

    class Narrow(TwoMachines):
        def result(self, node, call, result):
            asked = call["params"][0]
            if logs(0, call) and (asked.get("fromBlock") != asked.get("toBlock") or _longest(asked) > 1):
                raise RpcError(-32000, "query returned more than 10000 results")
            return super().result(node, call, result)

    behind = Node(scene.chain)
    behind.lag = 22
    liar = Narrow(behind, is_behind, most_calls)
    fill(scene, follower, liar, looks=4)
    assert liar.short


def _longest(asked):
    return max(
        len(one) for one in (asked.get("address") or [], *(asked.get("topics") or [[]])) if isinstance(one, list)
    )


def other_transaction():
    """A transaction with one log that no contract of the manifest asks for."""
    return Transaction(bytes(31) + b"\7", (Saying("0x" + "77" * 20, (topic(7),), b"", None),))


REFUSALS = [
    RpcError(-32602, "specify an address in your request"),
    RpcError(-32005, "too much"),
    RpcError(-31996, "kein Zugriff"),
    HttpAnswer(403, b"forbidden"),
    HttpAnswer(500, b"<html>"),
]


@pytest.mark.parametrize("receipts", [True, False])
@pytest.mark.parametrize("refusal", REFUSALS, ids=["address", "rate", "unknown words", "403", "500"])
def test_history_goes_on_where_all_logs_of_a_block_are_not_told(scene, refusal, receipts):
    follower = follow_first(scene, COIN, FACTORIES)

    class Refusing(TwoMachines):
        def request(self, node, calls, is_batch):
            super().request(node, calls, is_batch)
            if logs(0, calls[0]) and not {"address", "topics"} & set(calls[0]["params"][0]):
                raise refusal
            if not receipts and calls[0]["method"] == "eth_getBlockReceipts":
                raise RpcError(-32601, "the method does not exist")

    liar = Refusing(Node(scene.chain), lambda *_: False)
    scene.node.liar = liar
    scene.backfill().run()
    assert liar.answered < 150, "what is refused is not asked for again and again"
    scene.settle(follower)
    follower.close()
    assert scene.look().tip == 40
