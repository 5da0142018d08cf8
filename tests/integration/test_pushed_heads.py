"""Heads that a node pushes: a block is indexed at once; subscriptions that fall silent or lie are renewed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from indexer.chain.records.header_hash import header_hash
from indexer.chain.rpc import pushed_heads
from indexer.chain.rpc.config import EndpointConfig
from indexer.chain.rpc.pushed_heads import PushedHeads
from indexer.cli.context import prepare
from indexer.cli.status import learned
from indexer.demo.world import manifest_text
from indexer.manifest import load_manifest
from indexer.service import jobs, scheduler
from indexer.settings import Settings
from indexer.store.cache import Cache
from indexer.store.database import create_engine
from indexer.store.status import load_overview


def eventually(holds: Callable[[], bool], within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def test_a_pushed_block_is_indexed_without_waiting_for_the_poll(world, anvil, migrated_url, tmp_path):
    both = 'rpc = ["${RPC_URL}", "${WS_URL}"]\npoll_interval = 60'
    text = manifest_text(world).replace('rpc = ["${RPC_URL}"]', both)
    assert "WS_URL" in text
    path = tmp_path / "indexer.toml"
    path.write_text(text)
    manifest = load_manifest(path, {"RPC_URL": anvil.url, "WS_URL": anvil.url.replace("http", "ws")})
    engine = create_engine(migrated_url)
    prepare(engine, manifest)
    service = scheduler.Service(engine, Cache(None), manifest, Settings(_env_file=None))
    service.start()
    try:
        (one,) = service.networks().values()
        eventually(lambda: one.follower.tip_number is not None, within=30.0)  # woken by the subscription
        for _ in range(5):
            head = anvil.mine()
            eventually(lambda: one.follower.tip_number == head, within=20.0)  # noqa: B023 - called here
        eventually(lambda: one.pushed[0].status.state == "confirmed")
        jobs.report_endpoints(service, one)
        with engine.begin() as connection:
            endpoints = load_overview(connection).endpoints
        (pushing,) = (each for each in endpoints if each["host"].startswith("ws:"))
        assert (pushing["state"], pushing["head"]) == ("healthy", head)
        assert list(learned(pushing["details"])) == ["pushes new heads"]
    finally:
        service.stop()
        engine.dispose()
    one.pushed[0]._thread.join(20)
    assert not one.pushed[0]._thread.is_alive()


def proven(number: int) -> dict[str, Any]:
    """A header that hashes to its hash, the child of the one before it."""
    zeros = {name: "0x" + "0" * size for name, size in (("stateRoot", 64), ("miner", 40), ("nonce", 16))}
    document = zeros | {
        "number": hex(number), "parentHash": proven(number - 1)["hash"] if number else "0x" + "0" * 64,
        "sha3Uncles": zeros["stateRoot"], "transactionsRoot": zeros["stateRoot"], "mixHash": zeros["stateRoot"],
        "receiptsRoot": zeros["stateRoot"], "logsBloom": "0x" + "0" * 512, "difficulty": "0x0", "gasLimit": "0x0",
        "gasUsed": "0x0", "timestamp": "0x1", "extraData": "0x",
    }  # fmt: skip
    return {**document, "hash": "0x" + header_hash(document).hex()}


def hash_of(document: dict[str, Any]) -> bytes:
    return bytes.fromhex(document["hash"][2:])


def header(number: int, branch: int = 0) -> dict[str, Any]:
    def named(at: int) -> str:
        return f"0x{branch:032x}{at:032x}"

    return {
        "number": hex(number),
        "hash": named(number),
        "parentHash": named(number - 1),
        "timestamp": "0x1",
        "logsBloom": "0x" + "0" * 512,
        "receiptsRoot": "0x" + "0" * 64,
        "transactionsRoot": "0x" + "0" * 64,
    }


class Pushing:
    """A node that pushes the headers it is given to each subscription, and is silent after them."""

    def __init__(self, headers: list[dict[str, Any]]) -> None:
        self.headers, self.subscribed, self.woken = headers, 0, 0

    def serve(self, connection: ServerConnection) -> None:
        asked = json.loads(connection.recv())
        self.subscribed += 1
        connection.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": "0xab"}))
        for one in self.headers:
            params = {"subscription": "0xab", "result": one}
            connection.send(json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}))
        with contextlib.suppress(Exception):
            connection.recv()

    def wake(self) -> None:
        self.woken += 1


@contextlib.contextmanager
def pushed_by(node: Pushing) -> Iterator[PushedHeads]:
    with serve(node.serve, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/a-secret-key"
        heads = PushedHeads(EndpointConfig(url), name="demo", wake=node.wake)
        heads.start()
        yield heads
        heads.stop()
        heads._thread.join(20)
        assert not heads._thread.is_alive()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(pushed_heads, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pushed_heads, "UNKNOWN_FOR", 0.1)


def test_heads_that_follow_each_other_are_trusted_once_some_were_found_by_polling_too():
    chain = [proven(number) for number in range(1, 6)]
    node = Pushing(chain)
    with pushed_by(node) as heads:
        eventually(lambda: node.woken == 6)  # and once for the subscription
        assert heads.status.state == "subscribed"
        for one in chain[:3]:
            assert heads.headers() == []
            assert not heads.is_trusted()
            heads.indexed(int(one["number"], 16), hash_of(one))
        assert heads.status.state == "confirmed"
        assert [one.hash for one in heads.headers()] == [hash_of(one) for one in chain[3:]]
        assert not heads.is_trusted()  # the newest ones are not indexed yet
        heads.indexed(5, hash_of(chain[4]))
        assert heads.is_trusted()
        assert heads.headers() == []
        assert (node.subscribed, heads.status.head, heads.status.renewals) == (1, 5, 0)
        heads.indexed(6, bytes(32))  # found by polling: the subscription is silent
        assert not heads.is_trusted()
        eventually(lambda: node.subscribed >= 2)
        eventually(lambda: heads.status.renewals >= 1)
        assert "did not push block 6" in heads.status.reason


def test_headers_that_do_not_hash_to_their_hash_stand_for_no_answer():
    chain = [header(number) for number in range(1, 6)]
    node = Pushing(chain)
    with pushed_by(node) as heads:
        eventually(lambda: node.woken == 6)
        for number in range(1, 4):
            heads.indexed(number, hash_of(chain[number - 1]))
        assert heads.status.state == "confirmed"
        assert heads.headers() == []


def test_a_subscription_that_pushes_another_branch_than_polling_finds_is_no_longer_believed():
    chain = [proven(number) for number in range(1, 6)]
    with pushed_by(node := Pushing(chain)) as heads:
        eventually(lambda: node.woken == 6)
        for number in range(1, 4):
            heads.indexed(number, hash_of(chain[number - 1]))
        assert len(heads.headers()) == 2
        heads.indexed(4, b"another block of this height, 32b")
        assert heads.headers() == []
        eventually(lambda: node.subscribed >= 2)


def test_the_pauses_before_a_subscription_is_renewed_grow(monkeypatch):
    pauses = []
    with pushed_by(node := Pushing([header(1), header(3)])) as heads:
        eventually(lambda: node.subscribed >= 1)
        wait = heads._stop.wait
        monkeypatch.setattr(heads._stop, "wait", lambda seconds: pauses.append(seconds) or wait(0.0))
        eventually(lambda: len(set(pauses)) >= 8)
    grown = [pause for pause in pauses if pause != pushed_heads.CLOSEST]
    assert all(later == min(2 * sooner, pushed_heads.LONGEST_PAUSE) for sooner, later in pairwise(grown))


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([header(1), header(3)], "block 3 does not follow"),
        ([header(1), header(2, branch=7)], "block 2 does not follow"),
        ([{"number": "0x1"}], ""),
        ([header(1), {**header(2), "hash": "nonsense"}], ""),
    ],
)
def test_a_subscription_that_lies_or_leaves_blocks_out_is_renewed(headers, says, caplog):
    node = Pushing(headers)
    with pushed_by(node):
        eventually(lambda: node.subscribed >= 3)
    assert says in caplog.text
    assert caplog.text.count("no new heads are pushed") >= 1
    assert "a-secret-key" not in caplog.text
