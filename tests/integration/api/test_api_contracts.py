"""Contracts, tokens, snapshots, status: everything besides rows of events."""

import json
from pathlib import Path

import pytest

from indexer.store import database, status
from tests.integration.api import world
from tests.integration.api.seed import block_hash, hex_of
from tests.integration.api.world import BRIDGE, GOLD, PAIR_A, SILVER, USDC

ABIS = Path(__file__).resolve().parents[3] / "abis"


def test_contracts_are_listed_with_where_they_live(api):
    contracts = {c["name"]: c for c in api.get("/v1/contracts")["data"]}
    assert list(contracts) == sorted(contracts)
    assert contracts["usdc"]["chains"] == [
        {
            "chain_id": 1,
            "chain": "ethereum",
            "kind": "addresses",
            "addresses": [hex_of(USDC)],
            "factories": [],
            "start_block": 1000,
            "end_block": None,
            "active": True,
        }
    ]
    assert contracts["usdc"]["complete"] is False
    assert contracts["coins"]["complete"] is True
    assert contracts["coins"]["snapshots"] == ["supply"]
    assert [c["chain"] for c in contracts["bridge"]["chains"]] == ["ethereum", "base"]
    assert contracts["pair"]["chains"][0]["kind"] == "factory"
    assert contracts["pair"]["events"] == ["Swap", "Sync"]


def test_a_contract_tells_its_events_and_their_coverage(api):
    contract = api.get("/v1/contracts/usdc")["data"]
    event = next(e for e in contract["events"] if e["name"] == "Transfer")
    assert event["signature"] == "Transfer(address,address,uint256)"
    assert event["topic0"] == "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert event["table"] == "usdc.transfer"
    assert event["rows_estimate"] == len(world.transfers())
    assert [(a["name"], a["type"], a["column"], a["fast"]) for a in event["arguments"]] == [
        ("from", "address", "from_address", True),
        ("to", "address", "to_address", True),
        ("value", "uint256", "value", False),
    ]
    (coverage,) = event["coverage"]
    assert coverage["covered"] == [[1000, 1039], [1050, 1299]]
    assert coverage["missing"] == [[1040, 1049]]
    assert coverage["complete"] is False
    assert contract["events"] == api.get("/v1/contracts/usdc/events")["data"]
    assert api.get(event["links"]["rows"])["meta"]["complete"] is False


def test_an_abi_comes_back_as_it_was_given(api):
    assert api.get("/v1/contracts/usdc/abi")["data"] == json.loads((ABIS / "erc20.json").read_text())


def test_a_contract_is_found_by_its_addresses(api):
    assert api.get(f"/v1/contracts/{hex_of(USDC)}")["data"]["name"] == "usdc"
    assert api.get(f"/v1/contracts/{hex_of(BRIDGE)}")["data"]["name"] == "bridge"
    assert api.get(f"/v1/contracts/{hex_of(PAIR_A)}")["data"]["name"] == "pair"


def test_a_contract_that_is_not_there(api):
    assert "did you mean 'usdc'" in api.refused("/v1/contracts/usdt", 404, "CONTRACT_NOT_FOUND")["error"]
    api.refused(f"/v1/contracts/0x{'77' * 20}", 404, "CONTRACT_NOT_FOUND")
    refused = api.refused(f"/v1/contracts/{hex_of(GOLD)}", 409, "AMBIGUOUS_CONTRACT")
    assert "coins or gold_alone" in refused["error"]
    api.refused("/v1/contracts/0x12", 400, "INVALID_ADDRESS")
    api.refused("/v1/contracts/0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB4a", 400, "INVALID_ADDRESS")
    api.refused("/v1/contracts/usdc/events/Transfr", 404, "EVENT_NOT_FOUND")
    api.refused("/v1/contracts/usdc/snapshots/none", 404, "NOT_FOUND")
    for path in ("abi", "events", "snapshots", "events/Transfer", "events/Transfer/1-1", "snapshots/supply"):
        api.refused(f"/v1/contracts/nobody/{path}", 404, "CONTRACT_NOT_FOUND")


def test_tokens_are_paged_by_address(api):
    tokens = sorted((USDC, GOLD, SILVER))
    answer = api.get("/v1/tokens?chain=ethereum&limit=2")
    assert [t["address"] for t in answer["data"]] == [hex_of(t) for t in tokens[:2]]
    rest = api.get(f"/v1/tokens?chain=ethereum&limit=2&after={answer['page']['next']}")
    assert [t["address"] for t in rest["data"]] == [hex_of(tokens[2])]
    assert rest["page"]["next"] is None
    back = api.get(f"/v1/tokens?chain=ethereum&limit=2&before={rest['page']['prev']}")
    assert back["data"] == answer["data"]
    assert back["page"]["prev"] is None
    newest = api.get("/v1/tokens?chain=ethereum&order=desc")["data"]
    assert [t["address"] for t in newest] == [hex_of(t) for t in reversed(tokens)]
    assert api.get("/v1/tokens?chain=base")["data"] == []
    api.refused("/v1/tokens", 400, "CHAIN_REQUIRED")


def test_tokens_are_filtered(api):
    def found(query: str) -> list[str]:
        return [t["symbol"] for t in api.get(f"/v1/tokens?chain=1&{query}")["data"]]

    assert found("symbol=USDC") == ["USDC"]
    assert set(found("kind=erc20")) == {"USDC", "GLD"}
    assert found(f"address={hex_of(GOLD)},{hex_of(BRIDGE)}") == ["GLD"]
    assert found("symbol=usdc") == []
    api.refused("/v1/tokens?chain=1&symbol=%00", 400, "INVALID_PARAMETER")


def test_one_token(api):
    token = api.get(f"/v1/tokens/{hex_of(SILVER)}?chain=1")["data"]
    assert token == {
        "address": hex_of(SILVER),
        "kind": None,
        "name": None,
        "symbol": None,
        "decimals": None,
        "problems": {"name": "reverted"},
        "block_number": 1100,
    }
    api.refused(f"/v1/tokens/0x{'77' * 20}?chain=1", 404, "NOT_FOUND")
    api.refused("/v1/tokens/gold?chain=1", 400, "INVALID_ADDRESS")


SUPPLY = "/v1/contracts/coins/snapshots/supply"


def test_series_are_listed(api):
    (series,) = api.get("/v1/contracts/coins/snapshots")["data"]
    assert series["calls"] == ["totalSupply()", "decimals()"]
    assert [v["name"] for v in series["values"]] == ["totalSupply", "decimals"]
    assert api.get(series["links"]["rows"])["data"]
    assert api.get(series["links"]["latest"])["data"]
    assert api.get("/v1/contracts/usdc/snapshots")["data"] == []


def test_points_of_a_series(api):
    answer = api.get(f"{SUPPLY}?order=asc&limit=3")
    first, second = sorted((GOLD, SILVER))
    assert [(r["block_number"], r["address"]) for r in answer["data"]] == [
        (1100, hex_of(first)),
        (1100, hex_of(second)),
        (1110, hex_of(first)),
    ]
    assert answer["data"][0]["values"] == {"totalSupply": str(10**24 + 1100), "decimals": 18}
    assert answer["data"][0]["failures"] is None
    rest = api.get(f"{SUPPLY}?order=asc&limit=1&after={answer['page']['next']}")
    assert (rest["data"][0]["block_number"], rest["data"][0]["address"]) == (1110, hex_of(second))
    back = api.get(f"{SUPPLY}?order=asc&limit=3&before={rest['page']['prev']}")
    assert back["data"] == answer["data"]
    api.refused(f"{SUPPLY}?after=1100-3", 400, "INVALID_CURSOR")


def test_the_address_of_a_path_is_the_only_one(api):
    of_silver = f"/v1/contracts/{hex_of(SILVER)}/snapshots/supply"
    for path in (of_silver, f"{of_silver}?address={hex_of(GOLD)},{hex_of(SILVER)}"):
        assert {row["address"] for row in api.get(path)["data"]} == {hex_of(SILVER)}
    for path in (of_silver, f"{of_silver}/latest"):
        assert api.get(f"{path}?address={hex_of(GOLD)}")["data"] == []


def test_a_failed_call_is_null_with_its_reason(api):
    rows = api.get(f"{SUPPLY}?from_block=1150&to_block=1150&address={hex_of(SILVER)}")["data"]
    assert [(r["values"], r["failures"]) for r in rows] == [
        ({"totalSupply": None, "decimals": 18}, {"totalSupply()": "reverted"})
    ]


def test_the_latest_point_as_of_a_block(api):
    assert {r["block_number"] for r in api.get(f"{SUPPLY}/latest")["data"]} == {1290}
    assert {r["block_number"] for r in api.get(f"{SUPPLY}/latest?at_block=1155")["data"]} == {1150}
    assert {r["block_number"] for r in api.get(f"{SUPPLY}/latest?at_block=1150")["data"]} == {1150}
    assert {r["block_number"] for r in api.get(f"{SUPPLY}/latest?finality=finalized")["data"]} == {1200}
    assert api.get(f"{SUPPLY}/latest?at_block=1099")["data"] == []
    assert len(api.get(f"{SUPPLY}/latest?address={hex_of(GOLD)}")["data"]) == 1
    api.refused(f"{SUPPLY}/latest?at_block=1300", 409, "BLOCK_NOT_INDEXED")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_pages_of_the_latest_point_stay_with_it(own, seed, order):
    path = f"{SUPPLY}/latest?order={order}&limit=1&count=exact"
    whole = own.get(f"{SUPPLY}/latest?order={order}")["data"]
    first = own.get(path)
    seed.execute(
        "INSERT INTO gapless.series_points (series_id, chain_id, block_number, block_hash) "
        "SELECT series_id, chain_id, 1299, block_hash FROM gapless.series_points WHERE block_number = 1290"
    )
    seed.execute(
        "INSERT INTO coins.supply (chain_id, block_number, block_time, contract_address, item, arguments, "
        "total_supply) SELECT chain_id, 1299, block_time, contract_address, item, arguments, 1 FROM coins.supply "
        "WHERE block_number = 1290"
    )
    assert own.get(f"{SUPPLY}/latest")["data"] != whole
    second = own.get(f"{path}&after={first['page']['next']}")
    assert first["data"] + second["data"] == whole
    assert second["page"]["next"] is None
    assert second["page"]["count"] == 2
    assert own.get(f"{path}&before={second['page']['prev']}")["data"] == first["data"]
    assert own.ask(f"{SUPPLY}/latest?order={order}&format=ndjson&after={first['page']['next']}").text.count("\n") == 1


def test_a_series_has_cursors_that_notice_a_reorganisation(own, seed):
    cursor = own.get(f"{SUPPLY}?limit=1")["page"]["next"]
    assert cursor.endswith("." + block_hash(1290).hex()[:12])
    seed.execute("DELETE FROM coins.supply WHERE block_number > 1270")
    seed.reorg(1270, 1299, branch=1)
    assert own.refused(f"{SUPPLY}?limit=1&after={cursor}", 409, "REORGED")["common_block"] == 1270


def test_status_tells_how_far_everything_is(api):
    status = api.get("/status")["data"]
    assert status["complete"] is False
    usdc = next(c for c in status["contracts"] if c["name"] == "usdc")
    assert (usdc["blocks_wanted"], usdc["blocks_missing"], usdc["percent"]) == (600, 20, 96.66)
    chain = status["chains"][0]
    assert (chain["name"], chain["indexed_block"], chain["finalized_block"]) == ("ethereum", 1299, 1200)
    assert chain["head_time"] == "2023-01-01T04:20:00Z"
    assert api.ask("/status").headers["cache-control"] == "no-store"


def test_lag_grows_when_nobody_follows(own, seed):
    seed.execute("UPDATE gapless.chains SET head_seen_at = now() - interval '1 hour'")
    lag = own.get("/v1/contracts/usdc/events/Transfer")["meta"]["lag_seconds"]
    assert 3612 <= lag < 3700
    assert 3612 <= own.get("/status")["data"]["chains"][0]["lag_seconds"] < 3700


@pytest.mark.parametrize("unknown", ["head_number = NULL, head_time = NULL, head_seen_at = NULL", "tip_time = NULL"])
def test_a_lag_that_nobody_knows_is_not_none(own, seed, unknown):
    seed.execute(f"UPDATE gapless.chains SET {unknown} WHERE chain_id = 1")
    assert own.get("/v1/contracts/usdc/events/Transfer")["meta"]["lag_seconds"] is None
    assert own.get("/status")["data"]["chains"][0]["lag_seconds"] is None
    assert "unknown" in own.ask("/").text
    engine = database.create_engine(seed.url)
    with engine.begin() as connection:
        assert status.load_gauges(connection).chains[0]["lag"] is None
    with engine.begin() as connection:
        known = status.load_overview(connection).chains[0].lag_seconds
    assert (known is None) == (unknown == "tip_time = NULL")
    engine.dispose()


def test_the_root_links_to_what_there_is(api):
    root = api.get("/v1")["data"]
    assert [c["name"] for c in root["chains"]] == ["ethereum", "base"]
    assert root["chains"][0]["block_seconds"] == 12
    for name in ("contracts", "status", "openapi"):
        assert api.ask(root["links"][name]).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes(api, path):
    assert api.get(path)["status"] in ("ok", "ready")
