"""Contracts that share an address: on two chains that is no ambiguity, on one chain a log is one row."""

import json

import pytest

from tests.integration.api.seed import address, hex_of
from tests.integration.api.test_api_feed import FEED, places, walk
from tests.integration.api.world import ALICE, BOB, GOLD, MANIFEST, PAIR_A, START, TIP

SHARED = address("on two chains")
TWO_CHAINS = f"""
[contracts.here]
chain = "ethereum"
abi = "erc20.json"
address = "{hex_of(SHARED)}"
start_block = {START}
[contracts.there]
chain = "base"
abi = "erc20.json"
address = "{hex_of(SHARED)}"
start_block = {START}
[snapshots.there_supply]
contract = "there"
calls = ["totalSupply()"]
every = "10 blocks"
[contracts.pair_there]
chain = "base"
abi = "uniswap_v2_pair.json"
address = "{hex_of(PAIR_A)}"
start_block = {START}
events = ["Swap", "Sync"]
"""
TRANSFER = {"block": 1100, "log": 2, "address": SHARED, "from": ALICE, "to": BOB}


@pytest.fixture
def two_chains(own, seed):
    seed.declare(MANIFEST + TWO_CHAINS)
    seed.rows("here", "Transfer", [{**TRANSFER, "value": 1}])
    seed.rows("there", "Transfer", [{**TRANSFER, "value": 8453}], chain_id=8453)
    return own


@pytest.mark.parametrize(("chain", "name", "value"), [("ethereum", "here", "1"), ("8453", "there", "8453")])
def test_the_chain_says_which_contract_is_meant(two_chains, chain, name, value):
    path = f"/v1/contracts/{hex_of(SHARED)}"
    assert two_chains.get(f"{path}?chain={chain}")["data"]["name"] == name
    assert two_chains.get(f"{path}/events?chain={chain}")["data"][0]["links"]["rows"].startswith(
        f"/v1/contracts/{name}"
    )
    assert two_chains.get(f"{path}/abi?chain={chain}")["data"]
    assert len(two_chains.get(f"{path}/snapshots?chain={chain}")["data"]) == (name == "there")
    (row,) = two_chains.get(f"{path}/events/Transfer?chain={chain}")["data"]
    assert row["args"]["value"] == value
    one = two_chains.get(f"{path}/events/Transfer/{row['id']}?chain={chain}")["data"]
    assert {**one, **row} == one
    assert sum(day["events"] for day in two_chains.get(f"{path}/events/Transfer/daily?chain={chain}")["data"]) == 1
    assert two_chains.ask(f"{path}/events/Transfer/stream?chain={chain}").json.get("code") != "AMBIGUOUS_CONTRACT"
    exported = two_chains.ask(f"{path}/events/Transfer?chain={chain}&format=ndjson")
    assert json.loads(exported.text)["args"]["value"] == value


def test_a_child_of_a_factory_is_found_on_its_chain(two_chains):
    path = f"/v1/contracts/{hex_of(PAIR_A)}"
    assert two_chains.get(f"{path}?chain=ethereum")["data"]["name"] == "pair"
    assert two_chains.get(f"{path}?chain=base")["data"]["name"] == "pair_there"
    assert two_chains.get(f"{path}/events/Sync?chain=ethereum&limit=1")["data"]


def test_without_a_chain_the_refusal_says_what_helps(two_chains):
    for path in ("", "/events/Transfer", "/events/Transfer/daily", "/snapshots", "/abi"):
        error = two_chains.refused(f"/v1/contracts/{hex_of(SHARED)}{path}", 409, "AMBIGUOUS_CONTRACT")["error"]
        assert "here or there" in error
        assert "chain=" in error
    # On one chain a name alone helps.
    error = two_chains.refused(f"/v1/contracts/{hex_of(GOLD)}?chain=ethereum", 409, "AMBIGUOUS_CONTRACT")["error"]
    assert "coins or gold_alone" in error
    assert "chain=" not in error


def test_a_chain_on_which_it_is_not(two_chains):
    two_chains.refused("/v1/contracts/usdc?chain=base", 404, "CHAIN_NOT_FOUND")
    two_chains.refused(f"/v1/contracts/{hex_of(SHARED)}?chain=nowhere", 404, "CHAIN_NOT_FOUND")
    two_chains.refused(f"/v1/contracts/{hex_of(GOLD)}?chain=base", 404, "CONTRACT_NOT_FOUND")
    assert two_chains.get("/v1/contracts/bridge?chain=base")["data"]["name"] == "bridge"


APPROVAL = {"block": 1150, "log": 5, "address": GOLD, "owner": ALICE, "spender": ALICE, "value": 1}


@pytest.fixture
def shared(own, seed):
    """An approval that is in two tables, and one before it that one table alone has yet."""
    seed.rows("gold_alone", "Approval", [APPROVAL, {**APPROVAL, "block": 1140}])
    seed.rows("coins", "Approval", [APPROVAL])
    return own


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_one_log_is_one_row_that_names_all_its_contracts(shared, order):
    path = f"{FEED}&event=Approval&order={order}"
    rows = shared.get(path)["data"]
    assert sorted((row["id"], row["contract"], row["contracts"]) for row in rows) == [
        ("1140-5", "gold_alone", ["gold_alone"]),
        ("1150-5", "coins", ["coins", "gold_alone"]),
    ]
    assert walk(shared, f"{path}&limit=1") == places({"data": rows})
    assert shared.get(f"{path}&limit=1&count=exact")["page"]["count"] == 2
    exported = [json.loads(line) for line in shared.ask(f"{path}&format=ndjson").text.splitlines()]
    assert exported == rows
    assert [row["id"] for row in exported] == [row["id"] for row in rows]
    cut = [json.loads(line) for line in shared.ask(f"{path}&format=ndjson&limit=1").text.splitlines()]
    assert cut == rows[:1]
    only = shared.get(f"{path}&fields=contracts")["data"]
    assert only == [{"contracts": row["contracts"]} for row in rows]
    (alone,) = shared.get(f"{path}&contract=gold_alone&from_block=1150")["data"]
    assert (alone["contract"], alone["contracts"]) == ("gold_alone", ["gold_alone"])


def test_ids_are_unique_in_the_whole_feed(shared):
    found = [place[2] for place in walk(shared, f"{FEED}&limit=100")]
    assert len(found) == len(set(found)) == shared.get(f"{FEED}&limit=1&count=exact")["page"]["count"]


def test_a_page_that_follows_one_of_before_loses_and_repeats_nothing(shared, seed):
    """A table that gets a log between two pages makes no second row of it."""
    path = f"{FEED}&event=Approval&order=desc&limit=1&to_block=1150"
    first = shared.get(path)
    second = shared.get(f"{path}&after={first['page']['next']}")
    assert places(second) == [("gold_alone", "Approval", "1140-5")]
    seed.rows("coins", "Approval", [{**APPROVAL, "block": 1140}])
    assert places(shared.get(f"{path}&after={second['page']['last']}")) == []
    # Cursors as they were before have an item.
    for item in (1, 10**6):
        assert [row["id"] for row in shared.get(f"{path}&after=1150-5-{item}")["data"]] == ["1140-5"]


def test_the_anonymous_event_of_another_contract_is_the_same_log(own, seed):
    extra = (
        f'[contracts.odd]\nchain = "ethereum"\nabi = "odd.json"\naddress = "{hex_of(GOLD)}"\nstart_block = {START}\n'
    )
    plain = [{"type": "event", "name": "Plain", "anonymous": True, "inputs": [
        {"name": "value", "type": "uint256", "indexed": False}]}]  # fmt: skip
    seed.declare(MANIFEST + extra, {"odd.json": plain})
    seed.rows("gold_alone", "Approval", [APPROVAL])
    seed.rows("odd", "Plain", [{"block": 1150, "log": 5, "address": GOLD, "value": 1}])
    seed.cover("odd", (START, TIP))
    (row,) = own.get(f"{FEED}&event=Approval,Plain&contract=gold_alone,odd&from_block=1150&to_block=1150")["data"]
    assert row["contracts"] == ["gold_alone", "odd"]
