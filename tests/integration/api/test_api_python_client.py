"""The Python client against an API process over a real chain: what it reads is what the tables hold."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gapless_client import AsyncGapless, Balances, Gapless, GaplessError, Message, Reorged, Revert, Status, StreamRow
from indexer.demo import anvil as anvil_program
from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.sync.head.follower import Follower, Tick
from indexer.sync.tokens import balances
from tests.conftest import copy_of
from tests.integration.api.test_api_server import running
from tests.integration.balances.conftest import text_of
from tests.integration.sync.rig import Rig, rig
from tests.world import History, make_history


@dataclass
class Scene:
    """A followed chain, and a client of the API over it."""

    history: History
    rig: Rig
    follower: Follower
    url: str
    client: Gapless

    def follow(self) -> None:
        while self.follower.tick() is not Tick.NOTHING_NEW:
            pass

    def reorganise(self, depth: int) -> None:
        world = self.history.world
        payment = {"from": world.accounts[0], "to": world.accounts[0], "value": "0x1"}
        rpc(str(world.w3.provider.endpoint_uri), "anvil_reorg", depth, [[payment, 0]])
        self.follow()

    def happen(self, chance: random.Random, blocks: int = 3) -> None:
        burst(self.history.world, chance, 12, blocks)
        self.follow()

    def in_the_table(self, columns: str, order: str = "block_number, log_index") -> list[tuple[Any, ...]]:
        return self.rig.query(f"SELECT {columns} FROM coins.transfer ORDER BY {order}")

    def ids(self) -> list[str]:
        return [f"{block}-{log}" for block, log in self.in_the_table("block_number, log_index")]


def _ports() -> dict[str, str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return {"API_PORT": str(one.getsockname()[1])}


@pytest.fixture(scope="module")
def scene(anvil_home: Path, postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with anvil_program.anvil(anvil_home) as node, copy_of(postgres_url, "template1") as database:
        history = make_history(node)
        with rig(text_of(history), tmp_path_factory.mktemp("python"), node, database) as one:
            follower = one.follower()
            one.catch_up(follower)
            balances.catch_up(one.engine, one.chain.chain_id)
            with running(database, **_ports()) as process, Gapless(f"http://127.0.0.1:{process.port}") as client:
                yield Scene(history, one, follower, f"http://127.0.0.1:{process.port}", client)
            follower.close()


def test_rows_and_tables_are_what_the_tables_hold(scene: Scene) -> None:
    rows = scene.client.rows("coins", "Transfer", order="asc", limit=100)
    truth = scene.in_the_table("block_number, log_index, from_address, to_address, value")
    assert len(truth) > 150
    found = [(r["block_number"], r["log_index"], r["args"]["from"], r["args"]["to"], r["args"]["value"]) for r in rows]
    assert found == [(b, log, "0x" + f.hex(), "0x" + t.hex(), int(v)) for b, log, f, t, v in truth]
    assert all(type(row[-1]) is int for row in found)

    frame = rows.to_pandas()
    assert list(frame["args.value"]) == [row[-1] for row in found]
    assert frame["args.value"].sum() == sum(row[-1] for row in found)
    ((total,),) = scene.rig.query("SELECT sum(value) FROM coins.transfer")
    assert frame["args.value"].sum() == int(total)
    ((first, last),) = scene.rig.query("SELECT min(block_time), max(block_time) FROM coins.transfer")
    assert (frame["block_time"].min(), frame["block_time"].max()) == (first, last)

    table = rows.to_arrow(binary=True)
    assert str(table.schema.field("args.value").type) == "decimal256(76, 0)"
    assert [int(value) for value in table.column("args.value").to_pylist()] == [row[-1] for row in found]
    assert table.column("args.from").to_pylist() == [bytes(row[2]) for row in truth]


def test_unlimited_approvals_are_exact(scene: Scene) -> None:
    found = scene.client.rows("coins", "Approval", limit=100)
    truth = [int(value) for (value,) in scene.rig.query("SELECT value FROM coins.approval ORDER BY 1")]
    assert 2**256 - 1 in truth
    assert sorted(found.to_pandas()["args.value"]) == truth
    assert sorted(map(int, found.to_arrow().column("args.value").to_pylist())) == truth


def test_every_event_becomes_a_table(scene: Scene) -> None:
    for contract in scene.client.get("/v1/contracts")["data"]:
        for event in contract["events"]:
            rows = list(scene.client.rows(contract["name"], event))
            table = scene.client.rows(contract["name"], event).to_arrow()
            assert table.num_rows == len(rows) == len(scene.client.rows(contract["name"], event).to_pandas())
            assert not [
                name for name, kind in zip(table.column_names, table.schema.types, strict=True) if "float" in str(kind)
            ]
            for name in rows[0]["args"] if rows else ():
                assert f"args.{name}" in table.column_names


def test_a_contract_by_its_address_has_the_same_types(scene: Scene) -> None:
    address = scene.client.page("coins", "Transfer", limit=1).rows[0]["address"]
    by_name = list(scene.client.rows("coins", "Transfer", address=address))
    assert list(scene.client.rows(address, "Transfer")) == by_name
    assert type(by_name[0]["args"]["value"]) is int


def test_days_series_holders_and_the_feed(scene: Scene) -> None:
    (day, *_) = scene.client.daily("coins", "Transfer", sum=["value"])
    assert type(day["sums"]["value"]) is int
    sum_of_days = sum(day["sums"]["value"] for day in scene.client.daily("coins", "Transfer", sum=["value"], limit=1))
    count = sum(day["events"] for day in scene.client.daily("coins", "Transfer"))
    ((total, rows),) = scene.rig.query("SELECT sum(value), count(*) FROM coins.transfer")
    assert (sum_of_days, count) == (int(total), rows)

    token = scene.client.page("coins", "Transfer", limit=1).rows[0]["address"]
    path = "/v1/tokens/{address}/holders"
    walked = list(scene.client.all(path, address=token, limit=2))
    whole = scene.client.list(path, address=token, finality="finalized", limit=1000)
    assert whole.meta["at_block"] == whole.meta["finalized_block"]
    assert walked == whole.rows
    assert len(walked) > 3
    assert sum(one["balance"] for one in walked) > 0

    feed = list(scene.client.feed(contract=["coins"], event=["Transfer"], order="asc", limit=100))
    assert [f"{row['block_number']}-{row['log_index']}" for row in feed] == scene.ids()
    senders = [row["args"]["from"] for row in scene.client.page("coins", "Transfer", limit=2).rows]
    where = {"value.gte": 1, "from.in": senders}
    newest = scene.client.page("coins", "Transfer", where=where, limit=1, count="exact")
    assert newest.count is not None
    assert newest.count > 0
    with pytest.raises(GaplessError) as error:
        scene.client.page("coins", "Transfers")
    assert error.value.code == "EVENT_NOT_FOUND"


def test_a_walk_through_a_reorganisation_is_an_error_and_goes_on_behind_the_common_block(scene: Scene) -> None:
    scene.happen(random.Random(1))
    held: dict[str, Any] = {}
    walk = iter(scene.client.rows("coins", "Transfer", order="asc", limit=1, finality="latest"))
    for row in walk:
        held[row["id"]] = row
        if row["id"] == scene.ids()[-2]:
            break
    scene.reorganise(12)
    with pytest.raises(Reorged) as error:
        held |= {row["id"]: row for row in walk}
    common = error.value.common_block
    held = {key: row for key, row in held.items() if row["block_number"] <= common}
    held |= {row["id"]: row for row in scene.client.rows("coins", "Transfer", from_block=common + 1, order="asc")}
    assert list(held) == scene.ids()


def test_a_stream_through_breaks_and_reorganisations_holds_what_the_tables_hold(scene: Scene) -> None:
    chance = random.Random(2)
    states: list[str] = []
    progress: list[int] = []
    held: dict[str, Any] = {}
    cursor = "0-0"
    for round_ in range(4):
        if round_:
            scene.reorganise(chance.randrange(1, 10))
        scene.happen(chance)
        truth = scene.ids()
        callbacks = {
            "on_state": lambda connection: states.append(connection.state),
            "on_progress": lambda status: progress.append(status.through or 0),
        }
        for message in scene.client.stream("coins", "Transfer", after=cursor, **callbacks):
            cursor = message.cursor
            take(held, message)
            if list(held) == truth:
                break
    assert states == ["connecting", "open", "closed"] * 4
    assert progress
    truths = scene.in_the_table("value")
    assert [row["args"]["value"] for row in held.values()] == [int(value) for (value,) in truths]


def take(held: dict[str, Any], message: Message) -> None:
    match message:
        case StreamRow(row):
            assert row["id"] not in held
            held[row["id"]] = row
        case Revert(common_block):
            for key in [key for key, row in held.items() if row["block_number"] > common_block]:
                del held[key]
        case Status():
            pass


def test_asyncio_reads_the_same(scene: Scene) -> None:
    async def read() -> tuple[list[str], list[str], int]:
        async with AsyncGapless(scene.url) as client:
            rows = [row["id"] async for row in client.rows("coins", "Transfer", order="asc", limit=100)]
            streamed: list[str] = []
            async for message in client.stream("coins", "Transfer", after="0-0"):
                if isinstance(message, StreamRow):
                    streamed.append(message.row["id"])
                if len(streamed) == len(rows):
                    break
            return rows, streamed, (await client.page("coins", "Transfer", limit=1)).rows[0]["args"]["value"]

    rows, streamed, value = asyncio.run(read())
    assert rows == streamed == scene.ids()
    assert type(value) is int


def test_the_merged_stream_has_the_types_of_each_event(scene: Scene) -> None:
    scene.happen(random.Random(3))
    stream = scene.client.stream_all(after="0-0", contract=["coins", "pair"])
    rows = [message.row for message in islice(stream, 300) if isinstance(message, StreamRow)]
    kinds = {(row["contract"], row["event"]) for row in rows}
    assert {("coins", "Transfer"), ("pair", "Sync")} <= kinds
    assert all(type(row["args"]["value"]) is int for row in rows if row["event"] == "Transfer")
    assert all(type(row["args"]["reserve0"]) is int for row in rows if row["event"] == "Sync")


def test_series_and_balances_are_streamed_with_their_types(scene: Scene) -> None:
    row = scene.client.page("coins", "Transfer", limit=1).rows[0]
    stream = scene.client.stream_balances(row["args"]["to"], token=[row["address"]])
    found = next(message for message in stream if isinstance(message, Balances))
    assert [type(one["balance"]) for one in found.rows] == [int]
    points = scene.client.list("/v1/contracts/{contract}/snapshots/{series}", contract="coins", series="supply").rows
    if points:
        stream = scene.client.stream_series("coins", "supply", after=f"{points[-1]['block_number'] - 1}-0x{'f' * 40}-0")
        point = next(message.row for message in stream if isinstance(message, StreamRow))
        assert type(point["values"]["totalSupply"]) is int
