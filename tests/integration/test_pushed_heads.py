"""Heads that a node pushes: a block is indexed at once; subscriptions that fall silent or lie are renewed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from indexer.chain.rpc import pushed_heads
from indexer.chain.rpc.config import EndpointConfig
from indexer.chain.rpc.pushed_heads import PushedHeads
from indexer.cli.context import prepare
from indexer.demo.world import manifest_text
from indexer.manifest import load_manifest
from indexer.service import scheduler
from indexer.settings import Settings
from indexer.store.cache import Cache
from indexer.store.database import create_engine


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
    finally:
        service.stop()
        engine.dispose()
    one.pushed[0]._thread.join(20)
    assert not one.pushed[0]._thread.is_alive()


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
    monkeypatch.setattr(pushed_heads, "BEHIND_FOR", 0.1)


def test_heads_that_follow_each_other_are_trusted_once_they_are_indexed():
    node = Pushing([header(1), header(2), header(3)])
    with pushed_by(node) as heads:
        eventually(lambda: node.woken == 4)  # and once for the subscription
        assert not heads.is_trusted()
        heads.indexed(3)
        assert heads.is_trusted()
        assert node.subscribed == 1
        heads.indexed(4)  # found by polling: the subscription is silent
        assert not heads.is_trusted()
        eventually(lambda: node.subscribed >= 2)


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
