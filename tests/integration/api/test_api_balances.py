"""Balances and holders: what the tokens themselves say, at the block that the answer names."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.app import create_app
from api.context import create_context
from api.settings import ApiSettings
from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.store.database import create_engine
from indexer.sync.tokens import balances
from tests.integration.api.conftest import Client
from tests.integration.api.plans import asked_for_pages, nodes_read
from tests.integration.api.real_chain import RealChain, real  # noqa: F401
from tests.integration.api.seed import Seed, hex_of
from tests.integration.api.test_api_openapi import _resolved as resolved
from tests.integration.api.test_api_openapi import _strict as strict
from tests.integration.api.world import ALICE, BOB, GAP, GOLD, MANIFEST, START, TIP, USDC, transfers
from tests.integration.balances import oracle
from tests.integration.balances.conftest import text_of
from tests.integration.sync.rig import rig

NOBODY = "0x" + "00" * 19 + "01"


def _token(one: RealChain, name: str) -> str:
    return one.history.world.addresses[name].lower()


def _everybody(holdings: oracle.Holdings) -> dict[str, dict[tuple[str, int], int]]:
    found: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
    for (token, number, holder), amount in holdings.items():
        found[hex_of(holder)][hex_of(token), number] = amount
    return found


def _as_held(rows: list[dict[str, Any]]) -> dict[tuple[str, int], int]:
    return {(row["token"], int(row["token_id"] or 0)): int(row["balance"]) for row in rows}


# What somebody has ------------------------------------------------------------------------------------------------


def test_every_holder_has_what_the_tokens_say(real):  # noqa: F811
    expected = _everybody(real.said(real.history.last))
    assert len(expected) >= 10
    for holder, held in expected.items():
        rows = real.walk(f"/v1/addresses/{holder}/balances?limit=7")
        assert _as_held(rows) == held
        assert rows == sorted(rows, key=lambda row: (row["token"], int(row["token_id"] or 0)))
        assert {(row["at_block"], row["stale"]) for row in rows} == {(real.history.last, False)}
    meta = real.api.get(f"/v1/addresses/{NOBODY}/balances")["meta"]
    assert (meta["complete"], meta["missing"], meta["at_block"]) == (True, [], real.history.last)
    assert meta["ledgers"] == []


@pytest.mark.parametrize("back", [1, 60, 299])
def test_as_of_a_block_of_the_past(real, back):  # noqa: F811
    block = real.history.last - back
    expected = _everybody(real.said(block))
    now = _everybody(real.said(real.history.last))
    for holder in Random(back).sample(sorted(now), 6):
        rows = real.walk(f"/v1/addresses/{holder}/balances?at_block={block}&limit=13")
        assert _as_held(rows) == expected.get(holder, {})
        assert {row["at_block"] for row in rows} <= {block}
        back_to_front = real.walk(f"/v1/addresses/{holder}/balances?at_block={block}&limit=13&order=desc")
        assert back_to_front == rows[::-1]
    meta = real.api.get(f"/v1/addresses/{NOBODY}/balances?at_block={block}")["meta"]
    assert (meta["at_block"], meta["complete"]) == (block, True)


def test_only_some_tokens(real):  # noqa: F811
    gold, nft = _token(real, "gold"), _token(real, "nft")
    holder = real.api.get(f"/v1/tokens/{nft}/holders?limit=1")["data"][0]["address"]
    everything = real.walk(f"/v1/addresses/{holder}/balances?limit=1000")
    path = f"/v1/addresses/{holder}/balances"
    answer = real.api.get(f"{path}?token={gold},{nft}&include=token&count=exact")
    assert answer["data"] == [row for row in everything if row["token"] in (gold, nft)]
    assert answer["page"]["count"] == len(answer["data"])
    assert answer["tokens"] == {}  # nobody has read them here
    assert real.api.get(f"{path}?kind=erc721")["data"] == [row for row in everything if row["kind"] == "erc721"]
    assert real.api.get(f"{path}?limit=1&fields=balance")["data"] == [{"balance": everything[0]["balance"]}]


# Who has a token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gold", "maker", "nft", "items"])
@pytest.mark.parametrize("back", [0, 1, 60])
def test_all_holders_as_the_token_says(real, name, back):  # noqa: F811
    block = real.history.last - back
    token = _token(real, name)
    held = {(number, amount, hex_of(holder)) for (_, number, holder), amount in real.said(block, name).items()}
    path = f"/v1/tokens/{token}/holders?limit=9" + (f"&at_block={block}" if back else "")
    rows = real.walk(path)
    found = [(int(row["token_id"] or 0), int(row["balance"]), row["address"]) for row in rows]
    assert found == sorted(held, reverse=True)
    assert len(found) > 3
    assert real.walk(f"{path}&order=asc") == rows[::-1]
    answer = real.api.get(f"{path}&count=exact")
    assert answer["page"]["count"] == len(rows)
    assert (answer["meta"]["at_block"], answer["meta"]["exact"]) == (block, True)
    if name == "items":
        number = rows[len(rows) // 2]["token_id"]
        assert real.walk(f"{path}&token_id={number}") == [row for row in rows if row["token_id"] == number]
    before = real.api.get(f"{path}&before={real.api.get(path)['page']['next']}")
    assert before["data"] == rows[:8]


def test_how_far_back_is_bounded_where_no_index_leads_there(real):  # noqa: F811
    gold = _token(real, "gold")
    block = real.history.last - 101
    assert "101" in real.api.refused(f"/v1/tokens/{gold}/holders?at_block={block}", 422, "QUERY_TOO_EXPENSIVE")["error"]
    result = real.api.ask(f"/v1/tokens/{gold}/holders?at_block={block}&format=csv")
    assert (result.status_code, result.json["code"]) == (422, "QUERY_TOO_EXPENSIVE")


def test_exports(real):  # noqa: F811
    holder = real.api.get(f"/v1/tokens/{_token(real, 'gold')}/holders?limit=1")["data"][0]["address"]
    for path in (f"/v1/tokens/{_token(real, 'items')}/holders", f"/v1/addresses/{holder}/balances"):
        rows = real.walk(f"{path}?limit=1000")
        result = real.api.ask(f"{path}?format=ndjson")
        assert [json.loads(line) for line in result.text.splitlines()] == rows
        assert result.headers["x-at-block"] == str(real.history.last)
        assert result.headers["x-complete"] == "true"
        assert result.headers.get("x-exact") == ("true" if "holders" in path else None)
        found = list(csv.DictReader(io.StringIO(real.api.ask(f"{path}?format=csv&limit=3").text)))
        shown = {None: "", True: "true", False: "false"}
        assert found == [
            {name: shown[v] if v is None or isinstance(v, bool) else str(v) for name, v in row.items()}
            for row in rows[:3]
        ]


# What cannot be told ----------------------------------------------------------------------------------------------


def test_what_nobody_counts_is_no_zero(real, api):  # noqa: F811
    pair = real.rig.query("SELECT '0x' || encode(address, 'hex') FROM gapless.children LIMIT 1")[0][0]
    for path in (
        f"/v1/tokens/{pair}/holders",
        f"/v1/tokens/{NOBODY}/holders",
        f"/v1/addresses/{NOBODY}/balances?token={NOBODY}",
        f"/v1/addresses/{NOBODY}/balances?token={_token(real, 'gold')},{pair}",
    ):
        assert "[balances]" in real.api.refused(path, 404, "NOT_FOUND")["error"]
        joint = "&" if "?" in path else "?"
        real.api.refused(f"{path}{joint}format=csv", 404, "NOT_FOUND")
        real.api.refused(f"{path}{joint}at_block=5", 404, "NOT_FOUND")
    api.refused(f"/v1/addresses/{NOBODY}/balances?chain=1", 404, "NOT_FOUND")


def test_blocks_that_are_not_counted_yet(real):  # noqa: F811
    for path in (f"/v1/tokens/{_token(real, 'gold')}/holders", f"/v1/addresses/{NOBODY}/balances"):
        for name in ("at_block", "min_block"):
            refused = real.api.refused(f"{path}?{name}={real.history.last + 1}", 409, "BLOCK_NOT_INDEXED")
            assert f"counted up to block {real.history.last}" in refused["error"]
        real.api.get(f"{path}?min_block={real.history.last}&wait=1")


def test_nonsense(real):  # noqa: F811
    path = f"/v1/tokens/{_token(real, 'gold')}/holders"
    for cursor in ("1-2", "1-02-0x" + "00" * 20, "1-2-0x00", "-1-2-0x" + "00" * 20, "1-%002-0x" + "00" * 20):
        real.api.refused(f"{path}?after={cursor}", 400, "INVALID_CURSOR")
        real.api.refused(f"/v1/addresses/{NOBODY}/balances?after={cursor}", 400, "INVALID_CURSOR")
    for query in ("token_id=-1", f"token_id={2**256}", "order=up", "limit=0", "include=tx"):
        real.api.refused(f"{path}?{query}", 400, "INVALID_PARAMETER")
    real.api.refused(f"{path}?from_block=1", 400, "UNKNOWN_PARAMETER")
    assert real.api.get(f"{path}?after=0-{10**98}-0x{'ff' * 20}")["data"]


def test_links(real):  # noqa: F811
    gold = _token(real, "gold")
    data = real.api.get(f"/v1/addresses/{gold}")["data"]
    assert data["contracts"] == ["coins"]
    assert real.api.get(data["links"]["balances"])["data"] == []
    assert "data" in real.api.get(data["links"]["transfers"])
    pair = real.rig.query("SELECT '0x' || encode(address, 'hex') FROM gapless.children LIMIT 1")[0][0]
    assert real.api.get(f"/v1/addresses/{pair}")["data"]["contracts"] == ["pair"]


# Ledgers that are not as they should be ---------------------------------------------------------------------------

KEPT = MANIFEST + '\n[balances]\ncontracts = ["usdc", "coins"]\n'


def counted(seed: Seed, manifest: str = KEPT) -> None:
    """Declare what is to be kept, and count what is there."""
    seed.declare(manifest)
    engine = create_engine(seed.url)
    balances.catch_up(engine, 1)
    engine.dispose()


def _sum(who: bytes, last: int) -> int:
    rows = [row for row in transfers() if row["block"] <= last]
    return sum(row["value"] * ((row["to"] == who) - (row["from"] == who)) for row in rows)


def test_a_ledger_goes_as_far_as_its_blocks_and_says_so(own, seed):
    counted(seed)
    path = f"/v1/addresses/{hex_of(BOB)}/balances?chain=1"
    answer = own.get(path)
    reached = GAP[0] - 1
    assert {(row["contract"], row["at_block"]) for row in answer["data"]} == {("usdc", reached), ("coins", TIP)}
    meta = answer["meta"]
    assert (meta["at_block"], meta["complete"], meta["missing"]) == (reached, False, [[GAP[0], TIP]])
    assert [(ledger["contract"], ledger["at_block"]) for ledger in meta["ledgers"]] == [("usdc", reached)]
    (usdc,) = [row for row in answer["data"] if row["token"] == hex_of(USDC)]
    assert int(usdc["balance"]) == _sum(BOB, reached)
    # What has come further can be asked for alone.
    meta = own.get(f"{path}&token={hex_of(GOLD)}&min_block={TIP}&include=token")["meta"]
    assert (meta["at_block"], meta["complete"]) == (TIP, True)
    own.refused(f"{path}&min_block={TIP}", 409, "BLOCK_NOT_INDEXED")
    own.refused(f"{path}&at_block={TIP}", 409, "BLOCK_NOT_INDEXED")
    early = own.get(f"{path}&at_block=1020")
    assert int(early["data"][0]["balance"]) == _sum(BOB, 1020)
    assert (early["meta"]["at_block"], early["meta"]["complete"]) == (1020, True)

    tag = own.ask(path).headers["etag"]
    assert own.ask(path, if_none_match=tag).status_code == 304
    seed.cover("usdc", (1000, TIP))
    counted(seed)
    assert own.ask(path, if_none_match=tag).status_code == 200
    assert own.get(path)["meta"]["complete"] is True


def test_tokens_whose_balances_do_not_follow_from_transfers_are_marked(own, seed):
    counted(seed)
    # Nobody minted gold in this world: Alice has less than nothing.
    rows = {row["token"]: row for row in own.get(f"/v1/addresses/{hex_of(BOB)}/balances?chain=1")["data"]}
    assert (rows[hex_of(GOLD)]["exact"], rows[hex_of(USDC)]["exact"]) == (False, False)
    assert "less than nothing" in rows[hex_of(GOLD)]["problem"]
    path = f"/v1/tokens/{hex_of(GOLD)}/holders?chain=1"
    answer = own.get(path)
    assert [(row["address"], row["balance"][0] == "-") for row in answer["data"]] == [
        (hex_of(BOB), False),
        (hex_of(ALICE), True),
    ]
    assert own.get(f"{path}&after={own.get(f'{path}&limit=1')['page']['next']}")["data"] == answer["data"][1:]
    last = own.get(f"{path}&order=asc&limit=1")
    assert own.get(f"{path}&order=asc&after={last['page']['next']}")["data"] == answer["data"][:1]
    assert (answer["meta"]["exact"], answer["meta"]["complete"]) == (False, True)
    assert own.ask(f"{path}&format=csv").headers["x-exact"] == "false"

    tag = own.ask(path).headers["etag"]
    assert own.ask(path, if_none_match=tag).status_code == 304
    seed.execute(
        "INSERT INTO gapless.balance_problems (ledger_id, token, detail, block_number) "
        "SELECT id, %s, 'it rebases', 1200 FROM gapless.ledgers WHERE kind = 'erc20'",
        (GOLD,),
    )
    assert own.ask(path, if_none_match=tag).json["meta"]["problem"] == "it rebases"


def test_as_of_what_is_final(own, seed):
    counted(seed)
    seed.head(TIP, finalized=1150, safe=1180)
    holders = f"/v1/tokens/{hex_of(GOLD)}/holders?chain=1"
    final = own.get(f"{holders}&finality=finalized")
    assert final["data"] == own.get(f"{holders}&at_block=1150")["data"]
    assert final["data"] != own.get(holders)["data"]
    assert (final["meta"]["at_block"], final["meta"]["complete"]) == (1150, True)
    assert own.get(f"{holders}&finality=safe")["meta"]["at_block"] == 1180
    # What has not come as far is told as it is: all of that is final.
    answer = own.get(f"/v1/addresses/{hex_of(BOB)}/balances?chain=1&finality=finalized")
    assert {row["contract"]: row["at_block"] for row in answer["data"]} == {"usdc": GAP[0] - 1, "coins": 1150}
    assert (answer["meta"]["at_block"], answer["meta"]["missing"]) == (GAP[0] - 1, [[GAP[0], 1150]])


def test_a_stale_ledger_is_served_as_one(own, seed):
    counted(seed)
    counted(seed, KEPT.replace(', "coins"', ""))
    path = f"/v1/tokens/{hex_of(GOLD)}/holders?chain=1"
    answer = own.get(path)
    assert len(answer["data"]) == 2
    (ledger,) = answer["meta"]["ledgers"]
    assert (ledger["stale"], ledger["at_block"]) == (True, TIP)
    assert ledger["remark"] in own.refused(f"{path}&at_block=1150", 409, "BLOCK_NOT_INDEXED")["error"]
    assert own.get(f"{path}&at_block={TIP}")["data"] == answer["data"]
    seed.head(TIP + 5)
    assert own.get(path)["meta"]["missing"] == [[TIP + 1, TIP + 5]]


def test_what_is_no_longer_kept_holds_nothing_up(own, seed):
    seed.cover("usdc", (1000, TIP))
    counted(seed)
    counted(seed, KEPT.replace(', "coins"', ""))
    seed.head(TIP + 5)
    seed.cover("usdc", (1000, TIP + 5))
    counted(seed, KEPT.replace(', "coins"', ""))
    path = f"/v1/addresses/{hex_of(BOB)}/balances?chain=1"
    answer = own.get(f"{path}&min_block={TIP + 5}")
    assert {(row["contract"], row["at_block"], row["stale"]) for row in answer["data"]} == {
        ("usdc", TIP + 5, False),
        ("coins", TIP, True),
    }
    assert (answer["meta"]["at_block"], answer["meta"]["complete"]) == (TIP + 5, True)
    assert [ledger["contract"] for ledger in answer["meta"]["ledgers"]] == ["coins"]
    own.refused(f"{path}&token={hex_of(GOLD)}&min_block={TIP + 5}", 409, "BLOCK_NOT_INDEXED")


def test_a_token_that_two_ledgers_count_is_counted_once(own, seed):
    twin = f"""
[contracts.twin]
chain = "ethereum"
abi = "erc20.json"
address = "{hex_of(GOLD)}"
start_block = {START}
"""
    counted(seed, f'{MANIFEST}{twin}[balances]\ncontracts = ["coins", "twin"]\n')
    path = f"/v1/addresses/{hex_of(BOB)}/balances?chain=1"
    # The twin's table is not filled yet: it knows of nothing, and what it does not know does not count.
    assert [row["contract"] for row in own.get(path)["data"]] == ["coins", "coins"]
    seed.rows(
        "twin",
        "Transfer",
        [{"block": b, "log": 1, "address": GOLD, "from": ALICE, "to": BOB, "value": b} for b in range(1100, 1200, 2)],
    )
    seed.cover("twin", (START, TIP))
    counted(seed, f'{MANIFEST}{twin}[balances]\ncontracts = ["coins", "twin"]\n')
    rows = own.get(path)["data"]
    assert [row["contract"] for row in rows] == ["coins", "coins"]
    assert own.get(f"{path}&at_block=1150")["data"]
    assert len(own.get(f"/v1/tokens/{hex_of(GOLD)}/holders?chain=1")["data"]) == 2
    seed.execute("UPDATE gapless.ledgers SET live = false WHERE contract_id = (SELECT id FROM gapless.contracts "
                 "WHERE name = 'coins')")  # fmt: skip
    assert {row["contract"] for row in own.get(path)["data"] if row["token"] == hex_of(GOLD)} == {"twin"}


def test_pages_are_read_by_indexes(world_url, make_client, seed, monkeypatch):
    counted(seed)
    seed.execute(
        "INSERT INTO gapless.holdings SELECT l.id, %s, 0, substr(sha256(int8send(i)), 1, 20), i "
        "FROM gapless.ledgers l, generate_series(1::bigint, 50000) i WHERE l.contract_id = "
        "(SELECT id FROM gapless.contracts WHERE name = 'coins')",
        (GOLD,),
    )
    seed.execute("ANALYZE")
    paths = [f"/v1/tokens/{hex_of(GOLD)}/holders?chain=1&limit=20", f"/v1/addresses/{hex_of(BOB)}/balances?chain=1"]
    paths += [f"{path}&{more}" for path in paths for more in ("order=asc", f"at_block={TIP - 110}")]
    paths.append(f"{paths[0]}&after=0-30000-0x{'11' * 20}")
    paths[-2] = paths[-2].replace(str(TIP - 110), str(GAP[0] - 5))
    client = make_client()
    for path, text, values in asked_for_pages(client, monkeypatch, paths):
        read = nodes_read(world_url, text, values, "holdings")
        assert read
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) < 200, path
        assert not [node for node in read if node["Node Type"] == "Seq Scan"], path


def test_large_counts_are_estimated(real, monkeypatch):  # noqa: F811
    monkeypatch.setattr("api.sql.query_shape.COUNT_LIMIT", 5)
    gold = _token(real, "gold")
    block = real.history.last - 3
    for path in (f"/v1/tokens/{gold}/holders", f"/v1/tokens/{gold}/holders?at_block={block}",
                 f"/v1/tokens/{gold}/transfers", f"/v1/addresses/{_somebody(real)}/balances"):  # fmt: skip
        joint = "&" if "?" in path else "?"
        page = real.api.get(f"{path}{joint}count=estimated&limit=1")["page"]
        assert (page["count_is"], page["count"] > 5) == ("estimated", True)


def _somebody(one: RealChain) -> str:
    row = one.rig.query("SELECT holder FROM gapless.holdings GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")[0]
    return hex_of(bytes(row[0]))


# While the chain moves --------------------------------------------------------------------------------------------


def test_one_list_of_holders_while_the_head_moves_and_through_reorganisations(make_world, migrated_url, tmp_path):
    history = make_world(transactions=80, blocks=30)
    world = history.world
    node = str(world.w3.provider.endpoint_uri)
    gold = world.addresses["gold"].lower()
    with rig(text_of(history), tmp_path, node, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        balances.catch_up(one.engine, one.chain.chain_id)
        context = create_context(ApiSettings(), migrated_url, None)
        client = Client(create_app(context))
        path = f"/v1/tokens/{gold}/holders?limit=2"
        expected = oracle.on_chain(world, names=("gold",))
        answer = client.get(path)
        at_block, rows, seed = answer["meta"]["at_block"], answer["data"], 0
        while cursor := answer["page"]["next"]:
            seed += 1
            burst(world, Random(seed), 10, 3)
            follower.tick()
            answer = client.get(f"{path}&at_block={at_block}&after={cursor}")
            rows += answer["data"]
        assert {bytes.fromhex(row["address"][2:]): int(row["balance"]) for row in rows} == {
            holder: amount for (_, _, holder), amount in expected.items()
        }
        assert seed > 2
        for depth in (2, 5):
            account = world.accounts[0]
            rpc(node, "anvil_reorg", depth, [[{"from": account, "to": account, "value": "0x1"}, 0]])
            burst(world, Random(depth), 10, 7)
            follower.tick()
            now = _everybody(oracle.on_chain(world))
            for holder, held in list(now.items())[:5]:
                answer = client.get(f"/v1/addresses/{holder}/balances?limit=1000")
                assert _as_held(answer["data"]) == held
                assert answer["meta"]["at_block"] == world.w3.eth.block_number
        context.close()
        follower.close()


def test_answers_are_what_the_document_says(real):  # noqa: F811
    document = real.api.get("/openapi.json")
    somebody, items = _somebody(real), _token(real, "items")
    for path, asked in (
        ("/v1/tokens/{address}/holders", f"/v1/tokens/{items}/holders?include=token&count=exact"),
        ("/v1/tokens/{address}/transfers", f"/v1/tokens/{items}/transfers?include=token,tx&count=exact"),
        ("/v1/addresses/{address}", f"/v1/addresses/{items}"),
        ("/v1/addresses/{address}/balances", f"/v1/addresses/{somebody}/balances?include=token&finality=finalized"),
        ("/v1/addresses/{address}/transfers", f"/v1/addresses/{somebody}/transfers?include=token,tx"),
    ):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(strict(resolved(schema, document))).validate(real.api.get(asked))
