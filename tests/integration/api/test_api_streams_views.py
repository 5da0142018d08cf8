"""Streams of collections: points of a snapshot series, and the balances of an address."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from api.context import create_context
from api.settings import ApiSettings
from tests.integration.api.growing import grow, headers, transfer
from tests.integration.api.listening import Listener, Told, served
from tests.integration.api.seed import Seed, block_hash, block_time, hex_of
from tests.integration.api.test_api_balances import counted
from tests.integration.api.world import BOB, GOLD, SILVER, TIP, USDC

SUPPLY = "/v1/contracts/coins/snapshots/supply"
BALANCES = f"/v1/addresses/{hex_of(BOB)}/balances"


@pytest.fixture
def listen(world_url: str, seed: Seed) -> Iterator[Callable[..., Listener]]:
    headers(seed)
    with ExitStack() as stack:
        context = create_context(ApiSettings(), world_url, None)
        stack.callback(context.close)
        port = stack.enter_context(served(context, world_url))

        def start(path: str, **more: Any) -> Listener:
            listener = stack.enter_context(Listener(port, path, **more).connect())
            assert listener.status == 200, listener.body()
            return listener

        yield start


def until(listener: Listener, name: str) -> Told:
    while (told := listener.next()).name != name:
        pass
    return told


def take_point(seed: Seed, number: int, branch: int = 0) -> None:
    """A point of the series, as the indexer stores it."""
    with seed.connection.transaction():
        seed.execute(
            "INSERT INTO gapless.series_points (series_id, chain_id, block_number, block_hash) "
            "VALUES ((SELECT id FROM gapless.series WHERE name = 'supply'), 1, %s, %s)",
            (number, block_hash(number, branch)),
        )
        for coin in (GOLD, SILVER):
            seed.execute(
                "INSERT INTO coins.supply (chain_id, block_number, block_time, contract_address, item, arguments, "
                "total_supply, decimals, failures) VALUES (1, %s, %s, %s, 0, '{}', %s, 18, NULL)",
                (number, block_time(number), coin, number + branch),
            )
        seed.execute("UPDATE gapless.series SET version = version + 1 WHERE name = 'supply'")


def test_points_come_as_they_are_taken(listen, seed, own):
    with listen(f"{SUPPLY}/stream") as listener:
        status = until(listener, "status").data
        assert "complete" not in status["meta"]
        grow(seed, TIP + 1)
        take_point(seed, TIP + 1)
        rows = [until(listener, "row") for _ in range(2)]
        assert [row.data for row in rows] == own.get(f"{SUPPLY}?order=asc&from_block={TIP + 1}")["data"]
        assert [row.id for row in rows] == [f"{row.data['id']}.{block_hash(TIP + 1).hex()[:12]}" for row in rows]


def test_points_go_on_behind_a_row(listen, own):
    page = own.get(f"{SUPPLY}?order=asc&from_block=1270")["data"]
    for how in ({"last_id": page[0]["id"]}, {"path": f"{SUPPLY}/stream?after={page[0]['id']}"}):
        with listen(**{"path": f"{SUPPLY}/stream", **how}) as listener:
            assert [until(listener, "row").data for _ in page[1:]] == page[1:]
    with listen(f"{SUPPLY}/stream?after={page[0]['id']}&address={hex_of(GOLD)}") as listener:
        gold = [row for row in page[1:] if row["address"] == hex_of(GOLD)]
        assert [until(listener, "row").data for _ in gold] == gold


@pytest.mark.promise("L-03")
def test_a_point_whose_block_was_reorganised_away_is_taken_back(listen, seed):
    grow(seed, TIP + 1)
    with listen(f"{SUPPLY}/stream") as listener:
        until(listener, "status")
        take_point(seed, TIP + 1)
        first = [until(listener, "row").data["values"]["totalSupply"] for _ in range(2)]
        with seed.connection.transaction():
            seed.execute("DELETE FROM coins.supply WHERE block_number > %s", (TIP,))
            seed.execute("DELETE FROM gapless.series_points WHERE block_number > %s", (TIP,))
            seed.execute("UPDATE gapless.series SET version = version + 1 WHERE name = 'supply'")
            seed.reorg(TIP, TIP + 1, branch=1)
            seed.execute("DELETE FROM gapless.blocks WHERE chain_id = 1 AND number > %s", (TIP,))
            seed.head(TIP)
        assert until(listener, "revert").data == {"common_block": TIP}
        grow(seed, TIP + 1, branch=1)
        take_point(seed, TIP + 1, branch=1)
        second = [until(listener, "row").data["values"]["totalSupply"] for _ in range(2)]
        assert (first, second) == ([str(TIP + 1)] * 2, [str(TIP + 2)] * 2)


def come_to(seed: Seed, tip: int) -> None:
    seed.block(tip)
    for contract in ("usdc", "coins"):
        seed.cover(contract, (1000, tip))
    seed.head(tip)
    counted(seed)


def test_balances_come_whenever_they_change(listen, seed, own):
    seed.cover("usdc", (1000, TIP))
    counted(seed)
    with listen(f"{BALANCES}/stream?chain=1") as listener:
        told = until(listener, "balances")
        page = own.get(f"{BALANCES}?chain=1")["data"]
        assert told.data == {"all": True, "data": page}
        # A block in which nothing of this address moved tells how far the stream is, and nothing else.
        come_to(seed, TIP + 1)
        assert until(listener, "status").data["through_block"] == TIP + 1
        seed.rows("usdc", "Transfer", [transfer(TIP + 2, 1) | {"value": 5}])
        come_to(seed, TIP + 2)
        again = until(listener, "balances")
        before, after = ({row["token"]: int(row["balance"]) for row in told.data["data"]} for told in (told, again))
        assert after[hex_of(USDC)] == before[hex_of(USDC)] + 5
        assert [one.name for one in listener.told].count("balances") == 2
    # Who comes back and has heard of them already hears nothing of them again.
    with listen(f"{BALANCES}/stream?chain=1&after={again.id}") as listener:
        assert until(listener, "status").data["meta"]["at_block"] == TIP + 2
        seed.rows("usdc", "Transfer", [transfer(TIP + 3, 1) | {"value": 7}])
        come_to(seed, TIP + 3)
        third = until(listener, "balances").data["data"]
        assert {row["token"]: int(row["balance"]) for row in third}[hex_of(USDC)] == after[hex_of(USDC)] + 7
        assert [one.name for one in listener.told].count("balances") == 1


def test_balances_of_some_tokens(listen, seed, own):
    counted(seed)
    with listen(f"{BALANCES}/stream?chain=1&token={hex_of(GOLD)}") as listener:
        assert [row["token"] for row in until(listener, "balances").data["data"]] == [hex_of(GOLD)]


@pytest.mark.parametrize(
    ("path", "sent", "refusal"),
    [
        (f"{SUPPLY}/stream?after=5-3", {}, (400, "INVALID_CURSOR")),
        (f"{SUPPLY}/stream", {"last_id": "x"}, (400, "INVALID_CURSOR")),
        (f"{SUPPLY}/stream?limit=5", {}, (400, "UNKNOWN_PARAMETER")),
        ("/v1/contracts/coins/snapshots/nothing/stream", {}, (404, "NOT_FOUND")),
        (f"{BALANCES}/stream", {}, (400, "CHAIN_REQUIRED")),
        (f"{BALANCES}/stream?chain=1", {"last_id": "5-3"}, (400, "INVALID_CURSOR")),
        (f"{BALANCES}/stream?chain=1&after=5-3", {}, (400, "INVALID_CURSOR")),
        (f"{BALANCES}/stream?chain=1", {}, (404, "NOT_FOUND")),
        ("/v1/addresses/0x12/balances/stream?chain=1", {}, (400, "INVALID_ADDRESS")),
    ],
)
def test_refusals(listen, path, sent, refusal):
    with pytest.raises(AssertionError, match=refusal[1]) as caught:
        listen(path, **sent)
    assert f"assert {refusal[0]} == 200" in str(caught.value)
