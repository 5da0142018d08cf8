"""Balances and holders: what the tokens themselves say, at the block that the answer names."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from random import Random
from typing import Any

import pytest

from tests.integration.api.real_chain import RealChain, real  # noqa: F401
from tests.integration.api.seed import hex_of
from tests.integration.balances import oracle

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
    expected = _everybody(oracle.on_chain(real.history.world))
    assert len(expected) >= 10
    for holder, held in expected.items():
        rows = real.walk(f"/v1/addresses/{holder}/balances?limit=7")
        assert _as_held(rows) == held
        assert rows == sorted(rows, key=lambda row: (row["token"], int(row["token_id"] or 0)))
        assert {(row["at_block"], row["stale"]) for row in rows} == {(real.history.last, False)}
    meta = real.api.get(f"/v1/addresses/{NOBODY}/balances")["meta"]
    assert (meta["complete"], meta["missing"], meta["at_block"]) == (True, [], real.history.last)
    assert {ledger["contract"] for ledger in meta["ledgers"]} == {"coins", "odd_coins", "portraits", "items"}


@pytest.mark.parametrize("back", [1, 40, 150, 299])
def test_as_of_a_block_of_the_past(real, back):  # noqa: F811
    block = real.history.last - back
    expected = _everybody(oracle.on_chain(real.history.world, block))
    now = _everybody(oracle.on_chain(real.history.world))
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
    assert {ledger["contract"] for ledger in answer["meta"]["ledgers"]} == {"coins", "portraits"}
    assert answer["tokens"] == {}  # nobody has read them here
    assert real.api.get(f"{path}?kind=erc721")["data"] == [row for row in everything if row["kind"] == "erc721"]
    assert real.api.get(f"{path}?limit=1&fields=balance")["data"] == [{"balance": everything[0]["balance"]}]


# Who has a token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gold", "maker", "nft", "items"])
@pytest.mark.parametrize("back", [0, 1, 60])
def test_all_holders_as_the_token_says(real, name, back):  # noqa: F811
    block = real.history.last - back
    token = _token(real, name)
    held = {
        (number, amount, hex_of(holder))
        for (of, number, holder), amount in oracle.on_chain(real.history.world, block, (name,)).items()
        if hex_of(of) == token
    }
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
