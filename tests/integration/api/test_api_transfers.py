"""Transfers of a token and of an address: as the tables have them, each once, in order, and honest about what lacks."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.integration.api.plans import asked_for_pages, nodes_read
from tests.integration.api.real_chain import RealChain, real  # noqa: F401
from tests.integration.api.seed import address, block_hash, hex_of, tx_hash
from tests.integration.api.test_api_included import WHOLE, keep, shown
from tests.integration.api.world import (
    ALICE,
    BOB,
    BRIDGE,
    CAROL,
    FACTORY,
    FINALIZED,
    GAP,
    GOLD,
    HEAD,
    MANIFEST,
    PAIR_A,
    SILVER,
    START,
    TIP,
    USDC,
    transfers,
)  # fmt: skip

OF_USDC = f"/v1/tokens/{hex_of(USDC)}/transfers?chain=1"
OF_ALICE = f"/v1/addresses/{hex_of(ALICE)}/transfers?chain=1"


def moved(block: int, token: bytes) -> dict[str, Any]:
    return {"block": block, "log": 50, "address": token, "from": BOB, "to": CAROL, "value": 1}


def ids(answer: Any) -> list[str]:
    return [row["id"] for row in answer["data"]]


# On a real chain --------------------------------------------------------------------------------------------------


def _as_rows(one: RealChain, condition: str, *values: Any) -> list[dict[str, Any]]:
    """What the view says, as the API shows it."""
    rows = one.rig.query(
        "SELECT t.*, EXISTS (SELECT FROM items.transfer_batch b WHERE b.chain_id = t.chain_id "
        "AND b.block_number = t.block_number AND b.log_index = t.log_index) AS batch "
        f"FROM gapless.transfers t WHERE {condition} ORDER BY block_number DESC, log_index DESC, item DESC",
        *values,
    )
    return [
        {
            "id": f"{number}-{log}" + (f"-{item}" if batch else ""),
            "block_number": number,
            "block_time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tx_hash": hex_of(hashed),
            "log_index": log,
            "kind": kind,
            "token": hex_of(token),
            "from": hex_of(giver),
            "to": hex_of(receiver),
            "operator": None if operator is None else hex_of(operator),
            "token_id": None if kind == "erc20" else str(token_id),
            "value": str(amount),
        }
        for _, number, time, hashed, log, item, token, kind, giver, receiver, operator, token_id, amount, batch in rows
    ]


def _said(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "finality"} for row in rows]


@pytest.mark.promise("B-06")
@pytest.mark.parametrize("name", ["gold", "maker", "nft", "items"])
def test_of_every_standard_as_the_view_has_them(real, name):  # noqa: F811
    token = real.history.world.addresses[name].lower()
    expected = _as_rows(real, "token = %s", bytes.fromhex(token[2:]))
    found = real.walk(f"/v1/tokens/{token}/transfers?limit=97")
    assert _said(found) == expected
    assert len(expected) > 20
    meta = real.api.get(f"/v1/tokens/{token}/transfers?limit=1")["meta"]
    assert (meta["complete"], meta["missing"], meta["indexed_block"]) == (True, [], real.history.last)


@pytest.mark.parametrize(("direction", "condition"), [
    ("in", "to_address = %s"),
    ("out", "from_address = %s"),
    ("any", "%s IN (from_address, to_address)"),
])  # fmt: skip
def test_of_everybody_both_ways(real, direction, condition):  # noqa: F811
    people = real.rig.query(
        "SELECT to_address, bool_or(to_address = from_address) FROM gapless.transfers "
        "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 12"
    )
    assert people[0][1]
    for who in (hex_of(bytes(row[0])) for row in people):
        expected = _as_rows(real, condition, bytes.fromhex(who[2:]))
        path = f"/v1/addresses/{who}/transfers?direction={direction}&limit=29"
        assert _said(real.walk(path)) == expected
        assert _said(real.walk(f"{path}&order=asc")) == expected[::-1]


def test_items_of_a_batch_are_told_apart_on_every_page(real):  # noqa: F811
    token = real.history.world.addresses["items"].lower()
    path = f"/v1/tokens/{token}/transfers?limit=1000"
    everything = [row["id"] for row in real.walk(path)]
    assert sum(one.count("-") == 2 for one in everything) > 10
    single = [row["id"] for row in real.walk(path.replace("1000", "1"))]
    assert single == everything
    middle = len(everything) // 2
    for row_id in everything[middle - 10 : middle + 10]:
        place = everything.index(row_id)
        assert ids(real.api.get(f"{path.replace('1000', '5')}&after={row_id}")) == everything[place + 1 : place + 6]
        assert ids(real.api.get(f"{path.replace('1000', '5')}&before={row_id}")) == everything[place - 5 : place]
    # The id of a whole log stands before all of its items, or behind them.
    batch = next(one for one in everything[middle:] if one.count("-") == 2 and one.endswith("-1"))
    log = batch.rpartition("-")[0]
    after = ids(real.api.get(f"{path}&after={log}"))
    assert after == [one for one in everything if everything.index(one) > everything.index(f"{log}-0")]
    first_item = next(place for place, one in enumerate(everything) if one.startswith(f"{log}-"))
    assert ids(real.api.get(f"{path}&after={log}&order=asc"))[0] == everything[first_item - 1]


def test_filters_on_a_collection(real):  # noqa: F811
    world = real.history.world
    nft, items = (world.addresses[name].lower() for name in ("nft", "items"))
    for token in (nft, items):
        expected = _as_rows(real, "token = %s AND token_id = 2", bytes.fromhex(token[2:]))
        window = f"&from_block={real.history.last - 99}" if token == items else ""
        first = 0 if token == nft else real.history.last - 99
        found = real.walk(f"/v1/tokens/{token}/transfers?token_id=2{window}")
        assert _said(found) == [row for row in expected if row["block_number"] >= first]
    assert (
        "items.TransferBatch"
        in real.api.refused(f"/v1/tokens/{items}/transfers?token_id=2", 422, "QUERY_TOO_EXPENSIVE")["error"]
    )
    who = real.api.get(f"/v1/tokens/{nft}/transfers?limit=1")["data"][0]["to"]
    expected = _as_rows(real, "token = %s AND to_address = %s", bytes.fromhex(nft[2:]), bytes.fromhex(who[2:]))
    assert _said(real.walk(f"/v1/tokens/{nft}/transfers?to={who}")) == expected
    assert not real.walk(f"/v1/tokens/{world.addresses['gold'].lower()}/transfers?token_id=2")
    kinds = {row["kind"] for row in real.walk(f"/v1/addresses/{who}/transfers?kind=erc1155&limit=1000")}
    assert kinds == {"erc1155"}


def test_exports_are_the_rows_of_all_pages(real):  # noqa: F811
    token = real.history.world.addresses["items"].lower()
    path = f"/v1/tokens/{token}/transfers"
    rows = real.walk(f"{path}?limit=1000")
    result = real.api.ask(f"{path}?format=ndjson")
    assert [json.loads(line) for line in result.text.splitlines()] == rows
    assert result.headers["x-complete"] == "true"
    result = real.api.ask(f"{path}?format=csv&limit=50")
    found = list(csv.DictReader(io.StringIO(result.text)))
    assert found == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows[:50]]
    assert list(found[0]) == list(rows[0])


# As the collections of events do ----------------------------------------------------------------------------------


def test_what_lacks_is_told(api):
    meta = api.get(f"{OF_USDC}&limit=1")["meta"]
    assert (meta["complete"], meta["missing"]) == (False, [list(GAP)])
    assert api.get(f"{OF_USDC}&from_block=1050")["meta"]["complete"] is True
    assert api.get(f"/v1/tokens/{hex_of(GOLD)}/transfers?chain=1")["meta"]["complete"] is True
    # What somebody received may be in any table.
    assert api.get(OF_ALICE)["meta"]["complete"] is False
    assert api.get(f"{OF_ALICE}&token={hex_of(GOLD)},{hex_of(SILVER)}")["meta"]["complete"] is True


def test_a_token_whose_transfers_nobody_asked_for_is_no_empty_page(api):
    for path in (
        f"/v1/tokens/{hex_of(PAIR_A)}/transfers?chain=1",  # a contract of the manifest, without such an event
        f"/v1/tokens/0x{'77' * 20}/transfers?chain=1",
        f"{OF_ALICE}&token={hex_of(GOLD)},0x{'77' * 20}",
    ):
        assert "[contracts" in api.refused(path, 404, "NOT_FOUND")["error"]
    api.refused(f"{OF_ALICE}&kind=erc721", 404, "NOT_FOUND")
    api.refused("/v1/tokens/0x77/transfers?chain=1", 400, "INVALID_ADDRESS")
    api.refused(f"/v1/tokens/{hex_of(USDC)}/transfers", 400, "CHAIN_REQUIRED")
    api.refused(f"{OF_USDC}&direction=in", 400, "UNKNOWN_PARAMETER")
    api.refused(f"{OF_ALICE}&direction=up", 400, "INVALID_PARAMETER")
    assert ids(api.get(f"/v1/tokens/{hex_of(BRIDGE)}/transfers?chain=8453")) == ["1005-9"]


def test_bounds_and_moments(api):
    assert ids(api.get(f"{OF_USDC}&from_block=1100&to_block=1100")) == ["1100-7", "1100-3"]
    assert ids(api.get(f"{OF_USDC}&limit=1&at_block=1150")) == ["1150-7"]
    assert ids(api.get(f"{OF_USDC}&limit=1&finality=finalized")) == [f"{FINALIZED}-7"]
    moment = "2023-01-01T03:40:00Z"
    assert ids(api.get(f"{OF_USDC}&from_time={moment}&to_time={moment}")) == ["1100-7", "1100-3"]
    api.refused(f"{OF_USDC}&at_block={HEAD}", 409, "BLOCK_NOT_INDEXED")
    api.refused(f"{OF_USDC}&min_block={HEAD}", 409, "BLOCK_NOT_INDEXED")
    assert ids(api.get(f"{OF_USDC}&tx_hash={hex_of(tx_hash(1100, 3))}")) == ["1100-3"]
    bounded = "&from_block=1095&to_block=1105"
    assert ids(api.get(f"{OF_USDC}&tx_hash={hex_of(tx_hash(1100, 3))}{bounded}")) == ["1100-3"]


def test_counts_fields_and_what_goes_with_rows(own, seed):
    keep(seed, TIP, 7, **WHOLE)
    mine = [t for t in transfers() if ALICE in (t["from"], t["to"])]
    page = own.get(f"{OF_ALICE}&count=exact&limit=1&token={hex_of(USDC)}")["page"]
    assert (page["count"], page["count_is"]) == (len(mine), "exact")
    answer = own.get(f"{OF_USDC}&limit=2&include=token,tx&fields=id,value")
    assert [set(row) for row in answer["data"]] == [{"id", "value"}] * 2
    assert answer["tokens"][hex_of(USDC)]["decimals"] == 6
    assert set(answer["transactions"]) == {shown(TIP, 3), shown(TIP, 7)}
    assert answer["transactions"][shown(TIP, 7)]["status"] == 1
    page = own.get(f"{OF_USDC}&count=estimated&limit=1")["page"]
    assert page["count"] == len(transfers())


def test_a_reorganisation_between_two_pages_is_noticed(own, seed):
    for path in (OF_USDC, OF_ALICE):
        first = own.get(f"{path}&limit=3")
        cursor = first["page"]["next"]
        assert cursor.endswith(block_hash(int(cursor.partition("-")[0])).hex()[:12])
    seed.reorg(1290, TIP, branch=1)
    for path in (OF_USDC, OF_ALICE):
        assert own.refused(f"{path}&after={cursor}", 409, "REORGED")["common_block"] == 1290


def test_what_has_not_changed_is_a_304(own, seed):
    for path in (OF_USDC, OF_ALICE):
        tag = own.ask(path).headers["etag"]
        assert own.ask(path, if_none_match=tag).status_code == 304
        seed.rows("usdc", "Transfer", [moved(HEAD, USDC)])
        assert own.ask(path, if_none_match=tag).status_code == 200
        seed.execute("DELETE FROM usdc.transfer WHERE block_number = %s", (HEAD,))
    settled = own.ask(f"{OF_USDC}&from_block=1060&to_block=1100")
    assert "max-age=300" in settled.headers["cache-control"]


@pytest.mark.promise("B-04")
def test_a_log_in_two_tables_is_one_transfer(own, seed):
    twin = f'chain = "ethereum"\nabi = "erc20.json"\naddress = "{hex_of(GOLD)}"\nstart_block = {START}\n'
    before = {path: ids(own.get(path)) for path in (f"/v1/tokens/{hex_of(GOLD)}/transfers?chain=1", OF_ALICE)}
    seed.declare(f"{MANIFEST}\n[contracts.twin]\n{twin}")
    seed.rows(
        "twin",
        "Transfer",
        [{"block": b, "log": 1, "address": GOLD, "from": ALICE, "to": BOB, "value": b} for b in range(1100, 1200, 2)],
    )
    seed.cover("twin", (START, TIP))
    own.refused("/v1/contracts/nobody", 404, "CONTRACT_NOT_FOUND")  # the catalog is renewed
    for path, expected in before.items():
        assert ids(own.get(path)) == expected
    counted = own.get(f"/v1/tokens/{hex_of(GOLD)}/transfers?chain=1&count=exact")["page"]["count"]
    assert counted == 50


def test_what_the_manifest_no_longer_wants_is_not_missed(own, seed):
    seed.cover("usdc", (START, TIP))
    assert own.get(OF_ALICE)["meta"]["complete"] is True
    a = MANIFEST.index("[contracts.coins]")
    b = MANIFEST.index("[contracts.factory]")
    c = MANIFEST.index("[snapshots.supply]")
    seed.declare(MANIFEST[:a] + MANIFEST[b:c])
    seed.cover("usdc", (START, TIP + 5))
    seed.cover("bridge", (START, TIP + 5))
    seed.head(TIP + 5)
    own.refused("/v1/contracts/nobody", 404, "CONTRACT_NOT_FOUND")
    answer = own.get(f"{OF_ALICE}&limit=1000")
    assert answer["meta"]["complete"] is True
    assert {hex_of(GOLD), hex_of(USDC)} < {row["token"] for row in answer["data"]}
    # Alone, it is seen that it ends.
    gold = own.get(f"/v1/tokens/{hex_of(GOLD)}/transfers?chain=1")
    assert (gold["meta"]["missing"], len(gold["data"])) == ([[TIP + 1, TIP + 5]], 50)


def test_what_a_filter_in_the_manifest_leaves_out_is_told(own, seed):
    filtered = f"""
[contracts.inflow]
chain = "ethereum"
abi = "erc20.json"
address = "any"
start_block = {START}
events = ["Transfer"]
filters = {{ Transfer = {{ to = ["{hex_of(CAROL)}"] }} }}
"""
    assert "filtered" not in own.get(OF_USDC)["meta"]
    seed.declare(MANIFEST + filtered)
    token = address("some token")
    seed.rows("inflow", "Transfer", [moved(1100, token)])
    seed.cover("inflow", (START, TIP))
    own.refused("/v1/contracts/nobody", 404, "CONTRACT_NOT_FOUND")
    answer = own.get(f"/v1/tokens/{hex_of(token)}/transfers?chain=1")
    assert ids(answer) == ["1100-50"]
    assert answer["meta"]["complete"] is True
    assert answer["meta"]["filtered"] == ["inflow.Transfer"]


def test_a_factory_s_children_are_tokens_too(own, seed):
    made = """
[contracts.made]
chain = "ethereum"
abi = "erc20.json"
factory = { contract = "factory", event = "PairCreated", argument = "pair" }
events = ["Transfer"]
"""
    seed.declare(MANIFEST + made)
    seed.rows("made", "Transfer", [moved(1100, PAIR_A)])
    seed.cover("made", (START, TIP))
    assert ids(own.get(f"/v1/tokens/{hex_of(PAIR_A)}/transfers?chain=1")) == ["1100-50"]
    own.refused(f"/v1/tokens/0x{'78' * 20}/transfers?chain=1", 404, "NOT_FOUND")


def test_a_child_that_is_found_changes_what_was_settled(own, seed):
    every = """
[contracts.{name}]
chain = "ethereum"
abi = "erc20.json"
{place}
events = ["Transfer"]
"""
    inflow = f"""address = "any"\nstart_block = {START}\nfilters = {{ Transfer = {{ to = ["{hex_of(CAROL)}"] }} }}"""
    made = 'factory = { contract = "factory", event = "PairCreated", argument = "pair" }'
    seed.declare(MANIFEST + every.format(name="inflow", place=inflow) + every.format(name="made", place=made))
    child = address("a child")
    seed.rows("made", "Transfer", [moved(1100, child)])
    seed.cover("inflow", (START, TIP))
    seed.cover("made", (START, TIP))
    path = f"/v1/tokens/{hex_of(child)}/transfers?chain=1&to_block=1150"
    before = own.ask(path)
    assert (before.json["data"], "max-age=300" in before.headers["cache-control"]) == ([], True)
    seed.execute(
        "INSERT INTO gapless.children "
        "VALUES (1, (SELECT id FROM gapless.contracts WHERE name = 'made'), %s, 1000, 0, %s)",
        (child, FACTORY),
    )
    after = own.ask(path, if_none_match=before.headers["etag"])
    assert after.status_code == 200
    assert ids(after.json) == ["1100-50"]


# How it is read ---------------------------------------------------------------------------------------------------


PATHS = (
    OF_USDC, OF_ALICE, f"{OF_ALICE}&direction=in", f"{OF_ALICE}&direction=out", f"{OF_USDC}&from={hex_of(ALICE)}",
    f"{OF_ALICE}&after=1200-3", f"{OF_ALICE}&order=asc", f"{OF_ALICE}&token={hex_of(USDC)}",
)  # fmt: skip


def test_no_table_is_read_whole_for_a_page(world_url, make_client, seed, monkeypatch):
    """On tables where that would be the cheapest, were it not for the indexes."""
    seed.execute(
        "INSERT INTO usdc.transfer SELECT 1, 1050 + i / 400, '2023-01-01', sha256(int8send(i)), 0, 1000 + mod(i, 400), "
        "contract_address, CASE WHEN mod(i, 3) = 0 THEN from_address ELSE sha256(int8send(i / 7))::bytea END, "
        "to_address, i FROM generate_series(0::bigint, 49999) i, (SELECT * FROM usdc.transfer LIMIT 1) t"
    )
    seed.execute("ANALYZE")
    client = make_client()
    for path, text, values in asked_for_pages(client, monkeypatch, PATHS):
        read = nodes_read(world_url, text, values, "transfer")
        assert read
        # Tables of a few rows may well be read whole.
        assert not [node for node in read if node["Node Type"] == "Seq Scan" and node["Actual Rows"] > 100], path
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) < 1500, path
