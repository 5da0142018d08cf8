"""Two machines behind one URL, one of which has not come as far, where batches are refused: history is whole."""

from __future__ import annotations

import contextlib
import itertools
import json

import pytest

from indexer.errors import GaplessError
from tests.chaos.chain import PEOPLE, Saying, Transaction, topic
from tests.chaos.node import Honest, Node, RpcError
from tests.chaos.stage import COIN, FACTORIES, stage

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


@pytest.mark.parametrize("most_calls", [1, 2])
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


@pytest.mark.parametrize("is_behind", [logs_by_number, every(1, 2)])
def test_a_machine_that_is_behind_where_the_last_blocks_say_nothing(chaos, is_behind):
    with stage(chaos, f"machines/{next(_numbers)}") as scene:
        for _ in range(2):
            scene.chain.append()
        scene.chain.append(other_transaction())
        for _ in range(7):
            scene.chain.append()
        scene.chain.finalize(scene.chain.head.number)
        scene.node.finalized = scene.chain.head.number - 4
        follower = follow_first(scene, COIN)
        behind = Node(scene.chain)
        behind.lag = 30
        fill(scene, follower, TwoMachines(behind, is_behind))


def other_transaction():
    """A transaction with one log that no contract of the manifest asks for."""
    return Transaction(bytes(31) + b"\7", (Saying("0x" + "77" * 20, (topic(7),), b"", None),))


REFUSALS = [RpcError(-32602, "specify an address in your request"), RpcError(-32005, "too much")]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_history_goes_on_where_all_logs_of_a_block_are_not_told(scene, refusal):
    follower = follow_first(scene, COIN, FACTORIES)

    class Refusing(TwoMachines):
        def request(self, node, calls, is_batch):
            super().request(node, calls, is_batch)
            if calls[0]["method"] == "eth_getLogs" and not {"address", "topics"} & set(calls[0]["params"][0]):
                raise refusal

    fill(scene, follower, Refusing(Node(scene.chain), lambda *_: False), looks=1)
    assert scene.look().tip == 40
