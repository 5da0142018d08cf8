"""What brings a chain to a stand: told, and gone on from as soon as that is right."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from types import SimpleNamespace

import pytest

from indexer.chain.disagreement import ban_contradicting, serve_again
from indexer.errors import GaplessError
from indexer.manifest import load_manifest
from indexer.manifest.model import Finality
from indexer.service import chain_jobs, jobs, scheduler
from indexer.service.chain_at_work import Network
from indexer.service.chain_jobs import LookAgain, contradicted
from indexer.settings import Settings
from indexer.store.apply import drop
from indexer.store.cache import Cache
from indexer.store.database import DatabaseError
from indexer.sync.head import finality
from indexer.sync.head.follower import ChainHaltedError, Tick
from tests.chaos.chain import Chain
from tests.chaos.node import Node, RpcError
from tests.chaos.stage import COIN, FACTORIES, stage
from tests.chaos.truth import Judge

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"standstill/{next(_numbers)}") as one:
        one.apply(COIN, FACTORIES)
        yield one


@pytest.fixture
def follow(scene):
    """Makes followers, and lets them go at the end."""
    made = []

    def make(**arguments):
        made.append(scene.follower(**arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def state(scene):
    (found,) = scene.query("SELECT state, state_reason FROM gapless.chains")
    return found


def on(method, answer, *, first=None):
    """A lie about one method (and its first parameter): an answer or an error."""

    def lie(node, call, result):
        if call["method"] != method or (first is not None and call["params"][0] != first):
            return result
        if isinstance(answer, Exception):
            raise answer
        return answer(result) if callable(answer) else answer

    return lie


# -- finality


@pytest.mark.promise("H-09")
def test_a_tag_that_is_the_head_is_told_and_survives_deep_reorganisations(scene, follow, caplog):
    scene.chain.mine(300)
    scene.chain.finalize(30)
    scene.twist.lie = lambda node, call, result: (
        node.blocks[-1].header_json if call["params"][:1] == ["finalized"] else result
    )
    follower = follow()
    scene.settle(follower)
    assert scene.look().finalized == scene.chain.head.number - finality.DEPTH
    assert state(scene)[0] == "following"
    assert "runs with the head" in state(scene)[1]
    assert caplog.text.count("runs with the head") == 1
    for depth, new in ((6, 3), (80, 81), (80, 60)):
        scene.chain.reorganise(depth, new)
        scene.settle(follower)
    scene.chain.mine(20)
    scene.settle(follower)
    assert [depth for (depth,) in scene.query("SELECT depth FROM gapless.reorgs ORDER BY id")][:3] == [6, 80, 80]
    assert state(scene)[0] == "following"


@pytest.mark.parametrize(("at_least", "final"), [(0, 40), (5, 35), (64, 0), (12, 28)])
def test_the_manifest_names_a_floor(scene, follow, at_least, final):
    scene.finality = Finality(at_least=at_least)
    scene.node.finalized = 40
    scene.tick(follow())
    assert scene.look().finalized == final
    assert state(scene) == ("following", None)


def test_a_tag_that_falls_behind_is_followed_again(scene, follow):
    scene.finality = Finality()
    scene.node.finalized = 40
    follower = follow()
    scene.tick(follower)
    assert scene.look().finalized == 0
    scene.node.finalized = 30
    for _ in range(finality.FAR_LOOKS + 1):
        scene.tick(follower)
    assert (scene.look().finalized, state(scene)) == (30, ("following", None))


@pytest.mark.parametrize(
    "answer",
    [
        RpcError(-32603, "internal error"),
        RpcError(-32602, "unknown block tag finalized"),
        RpcError(-31000, "quite unheard of"),
        None,
        lambda result: {**result, "hash": "0x" + "77" * 32},
    ],
)
def test_a_tag_that_is_of_no_use_stops_neither_head_nor_finality(scene, follow, caplog, answer):
    follower = follow()
    scene.tick(follower)
    scene.twist.lie = on("eth_getBlockByNumber", answer, first="finalized")
    scene.chain.mine(finality.DEPTH)
    for _ in range(finality.TRIED + 1):
        scene.chain.mine(1)
        scene.tick(follower)
    assert scene.look().tip == scene.chain.head.number
    assert scene.look().finalized == scene.chain.head.number - finality.DEPTH
    assert "is of no use" in state(scene)[1]
    assert caplog.text.count("is of no use") == 1
    scene.twist.lie = None
    scene.chain.finalize(scene.chain.head.number - 20)
    scene.chain.mine(1)
    scene.tick(follower)
    assert (scene.look().finalized, state(scene)) == (scene.chain.head.number - 21, ("following", None))


def test_a_tag_that_fails_once_changes_nothing(scene, follow):
    follower = follow()
    scene.tick(follower)
    scene.twist.lie = on("eth_getBlockByNumber", RpcError(-32603, "internal error"), first="finalized")
    scene.chain.mine(finality.DEPTH + 50)
    assert scene.tick(follower) is Tick.EXTENDED
    assert (scene.look().finalized, state(scene)) == (30, ("following", None))


@pytest.mark.parametrize("first", ["finalized", hex(0), hex(30)])
def test_one_wrong_pair_of_number_and_hash_at_the_start_halts_nothing(scene, follow, first):
    asked = itertools.count()
    scene.twist.lie = on(
        "eth_getBlockByNumber",
        lambda result: {**result, "hash": "0x" + "77" * 32} if next(asked) == 0 else result,
        first=first,
    )
    follower = follow()
    for _ in range(3):
        try:
            scene.tick(follower)
        except GaplessError as error:
            assert not isinstance(error, ChainHaltedError)  # noqa: PT017
    scene.settle(follower)
    (genesis,) = scene.query("SELECT genesis_hash FROM gapless.chains")
    assert genesis[0] == scene.chain.genesis.hash


@pytest.mark.parametrize(
    "answer", [None, RpcError(-32000, "history of block 0 has been pruned"), RpcError(4444, "gone")]
)
def test_a_chain_whose_nodes_serve_no_block_0(scene, follow, caplog, answer):
    scene.twist.lie = on("eth_getBlockByNumber", answer, first=hex(0))
    follower = follow()
    assert scene.tick(follower) is Tick.EXTENDED
    scene.chain.mine(3)
    assert scene.tick(follower) is Tick.EXTENDED
    assert scene.look().tip == 43
    assert caplog.text.count("no endpoint serves block 0") == 1
    scene.node.lag = 35  # below finalized: which chain it is must be asked
    assert scene.tick(follower) is Tick.LAGGING


def test_blocks_that_do_not_link_are_told_as_that(scene, follow, caplog):
    caplog.set_level(logging.WARNING)
    follower = follow()
    scene.tick(follower)
    scene.chain.mine(3)
    scene.twist.lie = on(
        "eth_getBlockByNumber", lambda result: {**result, "parentHash": "0x" + "77" * 32}, first=hex(42)
    )
    for _ in range(12):
        assert scene.tick(follower) is Tick.MOVED
    assert state(scene)[0] == "waiting"
    assert "block 42 is no child of the block 41" in state(scene)[1]
    assert "http://127.0.0.1" in state(scene)[1]
    assert caplog.text.count("do not fit together") == 1
    scene.twist.lie = None
    assert scene.tick(follower) is Tick.EXTENDED
    assert state(scene)[0] == "following"


# -- halts


def network_of(scene, follower):
    return Network(
        SimpleNamespace(name="sim", chain_id=scene.node.chain_id, poll_interval=1.0), follower._client, follower
    )


def stranger_of(scene):
    other = Chain(scene.chain.random)
    other.by_hash[other.genesis.hash] = other.genesis
    other.mine(60)
    other.finalize(50)
    return other


def test_a_halted_chain_stays_halted_whatever_was_under_way_says(scene, follow):
    from indexer.store.head import state as head_state

    follower = follow()
    scene.tick(follower)
    with scene.engine.begin() as connection:
        head_state.report_state(connection, scene.node.chain_id, "halted", "another chain")
    scene.chain.mine(1)
    scene.tick(follower)
    resources = SimpleNamespace(engine=scene.engine)
    scene.twist.lie = on("eth_getBlockByNumber", RpcError(-32603, "internal error"))
    with pytest.raises(GaplessError):
        jobs.follow(resources, network_of(scene, follower))
    assert state(scene) == ("halted", "another chain")
    with scene.engine.begin() as connection:
        head_state.lift(connection, scene.node.chain_id)
    assert state(scene) == ("waiting", None)


@pytest.mark.promise("O-03")
def test_what_halted_a_chain_is_looked_at_again_and_it_goes_on(scene, follow):
    follower = follow()
    scene.tick(follower)
    ours, scene.node.chain = scene.node.chain, stranger_of(scene)
    with pytest.raises(ChainHaltedError) as caught:  # noqa: PT012 - which of them, decides the stranger's length
        for _ in range(5):
            scene.tick(follower)
    went_on = threading.Event()
    look = LookAgain(network_of(scene, follower), contradicted(caught.value), lambda: None, went_on.set)
    for _ in range(10):
        look.run()
    assert not went_on.is_set()
    assert look.pause == chain_jobs.LONGEST_PAUSE
    scene.node.chain = ours
    look.run()
    assert went_on.is_set()
    scene.chain.mine(2)
    scene.settle(follower)


@pytest.mark.promise("O-03")
def test_a_running_indexer_goes_on_alone_when_the_nodes_serve_its_chain_again(scene, monkeypatch):
    """The whole of it: an endpoint that serves another chain for a while, seen in the state and gone on from."""
    monkeypatch.setattr(chain_jobs, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(LookAgain, "pause", property(lambda _: 0.1, lambda *_: None), raising=False)
    monkeypatch.setattr(chain_jobs, "FILL_EVERY", 0.2)
    manifest = load_manifest(scene.folder / "indexer.toml", {"NODE": scene.url})
    service = scheduler.Service(scene.engine, Cache(None), manifest, Settings(_env_file=None))
    service.start()
    try:
        until(scene, "following", tip=40)
        ours, scene.node.chain = scene.node.chain, stranger_of(scene)
        until(scene, "halted")
        scene.node.chain = ours
        scene.chain.mine(3)
        until(scene, "following", tip=43)
    finally:
        service.stop()


def rows(scene):
    return scene.query("SELECT count(*), max(block_number) FROM coins.transfer")[0]


def another_chain(scene):
    """Puts another chain, with an own history, in the place of the one that is served."""
    other = Chain(scene.chain.random, hostile=0.1)
    other.by_hash[other.genesis.hash] = other.genesis
    other.mine(60)
    other.finalize(50)
    scene.node.chain = other
    return other


def test_a_chain_is_reset_on_demand_and_only_when_nobody_follows_it(scene, follow):
    follower = follow()
    scene.settle(follower)
    assert rows(scene)[0] > 0
    with pytest.raises(DatabaseError, match="still being followed"):
        drop.reset(scene.engine, scene.node.chain_id, "sim", patience=0.5)
    follower.close()
    assert rows(scene)[0] > 0
    drop.reset(scene.engine, scene.node.chain_id, "sim")
    assert rows(scene)[0] == 0
    other = another_chain(scene)
    scene.chain, scene.judge = other, Judge(other)
    scene.apply(COIN, FACTORIES)
    again = scene.follower()
    scene.settle(again)
    again.close()
    assert scene.look().tip == 60


def until(scene, wanted, *, tip=None):
    deadline = time.monotonic() + 60.0
    found = None
    while time.monotonic() < deadline:
        (found,) = scene.query("SELECT state, tip_number FROM gapless.chains")
        if found[0] == wanted and tip in (None, found[1]):
            return
        time.sleep(0.05)
    raise AssertionError(f"the chain is {found}, not {wanted} at {tip}")


@pytest.mark.promise("N-05")
def test_an_endpoint_that_is_not_used_comes_back_when_it_agrees_again(scene, chaos, caplog):
    caplog.set_level(logging.INFO)
    known = {7: scene.chain.canonical[7].hash}
    client = scene.client([chaos.server.add("standstill/second", Node(scene.chain))])
    scene.node.chain = stranger_of(scene)
    assert ban_contradicting(client, known)
    first = client.pool.endpoints[0]
    assert first.health.is_banned
    for _ in range(5):
        scene.clock.sleep(4000.0)
        client.pool.reconsider()
    assert first.health.is_banned
    before = scene.node.counts.total()
    client.pool.reconsider()
    assert scene.node.counts.total() == before, "with pauses"
    scene.node.chain = scene.chain
    assert serve_again(client, known)
    assert not first.health.is_banned
    assert "serves the chain again" in caplog.text


def test_an_endpoint_of_another_chain_comes_back_when_it_has_the_right_one(scene):
    client = scene.client()
    scene.node.chain_id = 5
    with pytest.raises(GaplessError, match="serves chain id 5"):
        client.check()
    scene.node.chain_id = client.chain_id
    client.check()
    assert client.head().number == scene.chain.head.number
