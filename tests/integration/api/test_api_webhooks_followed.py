"""A webhook beside the real follower of a real chain: what the receiver holds is what the tables hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from time import sleep
from typing import Any

import pytest

from api.app import create_app
from api.context import create_context
from api.settings import ApiSettings
from api.webhooks import worker
from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.demo.world import manifest_text
from indexer.store.access import keys
from indexer.sync.head.follower import Follower, Tick
from tests.integration.api.conftest import Client
from tests.integration.api.hooks import Receiver, receiving, until
from tests.integration.sync.rig import Rig, rig
from tests.world import History

#: A row: block, log, contract, event.
Place = tuple[int, int, str, str]

SETTINGS: dict[str, Any] = {
    "webhooks_secret_key": "0123456789abcdef" * 2,
    "webhooks_allow_http": True,
    "webhooks_allow_private": "127.0.0.0/8",
    "webhooks_retry_delays": ",".join(["0.1"] * 200),
    "webhooks_poll": 0.05,
}


@dataclass
class Scene:
    """A chain, its follower, and a receiver that is told of everything that it brings."""

    history: History
    rig: Rig
    follower: Follower
    client: Client
    key: str
    receiver: Receiver

    def tip(self) -> int:
        return int(self.rig.query("SELECT tip_number FROM gapless.chains")[0][0])

    def follow(self) -> list[Tick]:
        ticks = []
        while (tick := self.follower.tick()) is not Tick.NOTHING_NEW:
            ticks.append(tick)
        return ticks

    def traffic(self, seed: int, transactions: int, blocks: int) -> None:
        burst(self.history.world, Random(seed), transactions, blocks)

    def node(self, method: str, *parameters: Any) -> Any:
        return rpc(str(self.history.world.w3.provider.endpoint_uri), method, *parameters)  # type: ignore[attr-defined]

    def subscribe(self, from_block: int, **body: Any) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        asked = {"url": self.receiver.url, "from_block": from_block, **body}
        made = self.client.http.simulate_request("POST", "/v1/webhooks", json=asked, headers=headers)
        assert made.status_code == 201, made.text
        self.receiver.secret = made.json["data"]["secret"]

    def in_the_tables(self, first: int) -> list[Place]:
        """All rows from a block on, in the chain's order."""
        # chain, block, time, transaction, its index, log
        found = [
            (row[1], row[5], *label.split(".", 1))
            for label, rows in self.rig.rows().items()
            for row in rows
            if row[1] >= first
        ]
        return sorted(found)

    def told(self) -> list[Place]:
        """The rows that the receiver holds, in the order in which they came; none came twice, and none out of order."""
        held: list[Place] = []
        for message in self.receiver.messages():
            data = message["data"]
            if message["type"] == "event.reverted":
                assert data["reason"] == "reorg"
                held = [place for place in held if place[0] <= data["common_block"]]
                continue
            for row in data["rows"]:
                place = (row["block_number"], row["log_index"], row["contract"], row["event"])
                assert not held or place[:2] > held[-1][:2]
                held.append(place)
        return held

    def until_all_is_told(self, first: int) -> None:
        expected = self.in_the_tables(first)
        until(lambda: self.told() == expected, "what is told as it is in the tables", 60)

    def reverts(self) -> list[int]:
        return [m["data"]["common_block"] for m in self.receiver.messages() if m["type"] == "event.reverted"]


@pytest.fixture
def scene(history: History, database_url: str, tmp_path: Any) -> Iterator[Scene]:
    node = str(history.world.w3.provider.endpoint_uri)  # type: ignore[attr-defined]
    with rig(manifest_text(history.world), tmp_path, node, database_url) as one, receiving() as receiver:
        follower = one.follower()
        one.catch_up(follower)
        with one.engine.begin() as connection:
            _, key = keys.create(connection, "a shop", scopes=("webhooks",))
        context = create_context(ApiSettings(**SETTINGS), database_url, None)
        delivering = worker.start(context, database_url)
        assert delivering is not None
        try:
            yield Scene(history, one, follower, Client(create_app(context)), key, receiver)
        finally:
            delivering.stop()
            context.close()
            follower.close()


@pytest.mark.promise("L-03")
def test_a_reorganisation_is_told_once_and_then_the_new_branch(scene: Scene) -> None:
    first = scene.history.last - 20
    scene.subscribe(first, finality="latest", batch=7)
    scene.until_all_is_told(first)
    scene.traffic(1, 20, 5)
    scene.follow()
    scene.until_all_is_told(first)
    assert scene.reverts() == []
    before, tip = scene.told(), scene.tip()
    account = scene.history.world.accounts[0]
    scene.node("anvil_reorg", 6, [[{"from": account, "to": account, "value": "0x1"}, 0]])
    assert Tick.REORGANISED in scene.follow()
    scene.traffic(2, 30, 8)
    scene.follow()
    scene.until_all_is_told(first)
    assert scene.reverts() == [tip - 6]
    kept = [place for place in before if place[0] <= tip - 6]
    assert scene.told()[: len(kept)] == kept
    assert scene.told() != before
    # Nothing more comes when nothing more happens.
    count = len(scene.receiver.attempts)
    assert scene.follow() == []
    sleep(0.5)
    assert len(scene.receiver.attempts) == count


def test_branches_come_and_go_while_the_receiver_is_away(scene: Scene) -> None:
    first = scene.history.last - 5
    scene.subscribe(first, finality="latest", contract="coins", event="Transfer", batch=3)

    def mine() -> list[Place]:
        return [place for place in scene.in_the_tables(first) if place[2:] == ("coins", "Transfer")]

    until(lambda: scene.told() == mine(), "the beginning", 60)
    scene.receiver.answer = lambda _: 503
    snapshot = scene.node("evm_snapshot")
    common = scene.tip()
    scene.traffic(3, 40, 6)
    scene.follow()
    away = len(scene.receiver.attempts)
    until(lambda: len(scene.receiver.attempts) > away + 1, "two attempts that fail")
    # The message that waits tells of this branch, and this branch is never seen again.
    assert scene.node("evm_revert", snapshot)
    scene.traffic(4, 60, 9)
    assert Tick.REORGANISED in scene.follow()
    scene.receiver.answer = lambda _: 204
    until(lambda: scene.told() == mine(), "what holds", 60)
    assert scene.reverts() == [common]
