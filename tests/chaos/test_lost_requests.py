"""Requests that are accepted and never answered: the head goes on, with one endpoint and with two."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import threading

import pytest

from indexer.chain.records.errors import ProviderError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call
from indexer.chain.rpc import hedging
from indexer.chain.rpc.config import RequestContext
from indexer.sync.head.follower import Tick
from tests.chaos import stage as stages
from tests.chaos.node import Honest, Node
from tests.chaos.stage import COIN, FACTORIES, stage

_numbers = itertools.count()
# Longer than any test: without a question asked elsewhere, nothing would ever come of it.
NEVER = 3600.0
PATIENCE = 120.0


class Losing(Honest):
    """Answers nothing to some requests, until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.match = ""
        self.left = 0
        self.lost = 0

    def request(self, node, calls, is_batch) -> None:
        with self.lock:
            loses = self.left > 0 and self.match in json.dumps(calls)
            self.left -= loses
            self.lost += loses
        if loses:
            self.released.wait()

    def lose(self, match: str, times: int = 1) -> None:
        self.match, self.left = match, times


@pytest.fixture
def losing():
    one = Losing()
    yield one
    one.released.set()


@pytest.fixture
def scene(chaos, losing, monkeypatch):
    monkeypatch.setattr(
        stages, "QUICK", dataclasses.replace(stages.QUICK, read_timeout=NEVER, deadline=NEVER, probe_timeout=0.3)
    )
    monkeypatch.setattr(hedging, "SOONEST", 0.2)
    monkeypatch.setattr(hedging, "LATEST", 0.2)
    with stage(chaos, f"lost/{next(_numbers)}") as one:
        one.apply(COIN, FACTORIES)
        one.node.liar = losing
        yield one


def within_patience(work):
    """What a function returns; an error where it does not come to an end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it has not come to an end"
    return found[0]


@pytest.mark.promise("N-06")
@pytest.mark.parametrize("endpoints", [1, 2])
@pytest.mark.parametrize("match", ['"latest"', '"0x29"', "eth_getLogs", '"finalized"', '"safe"'])
def test_one_request_that_is_never_answered_does_not_stop_the_head(scene, chaos, losing, match, endpoints):
    more = [chaos.server.add("lost/second", Node(scene.chain))] if endpoints == 2 else []
    follower = scene.follower(more=more)
    scene.tick(follower)
    scene.chain.mine(3)
    scene.chain.finalize(35)
    losing.lose(match)
    assert within_patience(lambda: scene.tick(follower)) is Tick.EXTENDED
    assert losing.lost == 1
    assert scene.look().tip == 43
    follower.close()


def test_an_endpoint_that_answers_nothing_any_more_is_left_out(scene, chaos, losing):
    second = Node(scene.chain)
    follower = scene.follower(more=[chaos.server.add("lost/healthy", second)])
    scene.tick(follower)
    losing.lose("jsonrpc", 10**6)
    for number in range(44, 60):
        scene.chain.mine(number - scene.chain.head.number)
        assert within_patience(lambda: scene.tick(follower)) is Tick.EXTENDED
    assert scene.look().tip == 59
    # Each look is a minute after the one before: time for a probe, and for no more.
    assert losing.lost < 2 * 16
    follower.close()


def test_a_head_whose_requests_are_all_lost_leaves_few_threads(scene, losing, monkeypatch):
    monkeypatch.setattr(hedging, "_SHORTEST_TIMEOUT", 0.5)
    client = scene.client()
    client.head()
    losing.lose("jsonrpc", 10**6)

    def fails():
        with pytest.raises(ProviderError):
            client.head()
        return True

    before = threading.active_count()
    for _ in range(3):
        assert within_patience(fails)
        assert threading.active_count() <= before + hedging.MOST_LEFT + hedging.MOST_AT_ONCE + losing.lost
    losing.left = 0
    assert within_patience(client.head).number == 40
    (endpoint,) = client.pool.endpoints
    deadline = threading.Event()
    for _ in range(600):
        if endpoint.admission.hanging == 0 and endpoint.rate.under_way == 0:
            break
        deadline.wait(0.1)
    assert (endpoint.admission.hanging, endpoint.rate.under_way) == (0, 0)


@pytest.mark.promise("N-06")
def test_history_whose_requests_are_lost_does_not_hold_up_the_head(scene, losing):
    client = scene.client()
    client.head()
    losing.lose("eth_getLogs", 10**6)
    (endpoint,) = client.pool.endpoints
    asking = Call("eth_getLogs", (LogFilter().between(0, 5),), (0, 5))

    def ask():
        with contextlib.suppress(ProviderError):
            endpoint.ask_one(asking, RequestContext())

    for _ in range(32):
        threading.Thread(target=ask, daemon=True).start()
    while not endpoint.rate.full():
        threading.Event().wait(0.01)
    assert within_patience(client.head).number == 40


def test_a_slow_answer_is_still_taken(scene, losing):
    """A node that takes longer than the head's patience is not asked without end."""
    client = scene.client()
    losing.lose("jsonrpc", 10**6)
    timer = threading.Timer(1.0, losing.released.set)
    timer.start()
    assert within_patience(client.head).number == 40
    assert losing.lost <= hedging.MOST_AT_ONCE
    timer.join()
