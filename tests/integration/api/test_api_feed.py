"""The merged feed: all events of a chain in one order."""

import json

import pytest

from tests.integration.api.seed import block_hash, hex_of, tx_hash
from tests.integration.api.world import ALICE, GOLD, PAIR_A, SILVER, TIP

FEED = "/v1/events?chain=ethereum"


def places(answer) -> list[tuple[str, str, str]]:
    return [(row["contract"], row["event"], row["id"]) for row in answer["data"]]


def walk(api, path: str) -> list[tuple[str, str, str]]:
    rows, cursor = [], ""
    while True:
        answer = api.get(path + cursor)
        rows += places(answer)
        if answer["page"]["next"] is None:
            return rows
        cursor = f"&after={answer['page']['next']}"


@pytest.fixture(scope="module")
def everything(api) -> list[tuple[str, str, str]]:
    """All rows of all tables, oldest first, read table by table."""
    rows = []
    for contract in api.get("/v1/contracts")["data"]:
        if "ethereum" not in [chain["chain"] for chain in contract["chains"]]:
            continue
        for event in contract["events"]:
            path = f"/v1/contracts/{contract['name']}/events/{event}?chain=ethereum&limit=1000"
            rows += [(contract["name"], event, row["id"]) for row in api.get(path)["data"]]
    return sorted(rows, key=lambda row: [int(part) for part in row[2].split("-")])


@pytest.mark.parametrize("limit", [1000, 37])
def test_the_feed_has_every_row_once_in_order(api, everything, limit):
    assert len(everything) > 700
    assert walk(api, f"{FEED}&order=asc&limit={limit}") == everything
    assert walk(api, f"{FEED}&limit={limit}") == everything[::-1]


def test_a_row_names_its_contract_and_event(api):
    (row,) = api.get(f"{FEED}&contract=zoo&event=Everything")["data"]
    assert list(row)[:3] == ["id", "contract", "event"]
    same = api.get("/v1/contracts/zoo/events/Everything")["data"][0]
    assert {k: v for k, v in row.items() if k not in ("contract", "event", "contracts")} == same


def test_pages_go_back_too(api, everything):
    first = api.get(f"{FEED}&order=asc&limit=10")
    second = api.get(f"{FEED}&order=asc&limit=10&after={first['page']['next']}")
    assert places(second) == everything[10:20]
    back = api.get(f"{FEED}&order=asc&limit=10&before={second['page']['prev']}")
    assert places(back) == everything[:10]
    assert back["page"]["prev"] is None


def test_contracts_and_events_are_chosen(api):
    assert {p[0] for p in walk(api, f"{FEED}&contract=coins,pair&limit=1000")} == {"coins", "pair"}
    assert {p[1] for p in walk(api, f"{FEED}&event=Sync,PairCreated&limit=1000")} == {"Sync", "PairCreated"}
    assert {p[1] for p in walk(api, f"{FEED}&event=Sync&event=PairCreated&limit=1000")} == {"Sync", "PairCreated"}
    assert {p[1][:4] for p in walk(api, f"{FEED}&event=Odd&limit=1000")} == {"Odd~"}
    for query in ("contract=nobody", "event=Nothing", "contract=usdc&event=Sync", "contract="):
        api.refused(f"{FEED}&{query}", 400, "INVALID_PARAMETER")


def test_bounds_and_addresses_hold(api, everything):
    wanted = [p for p in everything if 1060 <= int(p[2].partition("-")[0]) <= 1120]
    assert walk(api, f"{FEED}&order=asc&from_block=1060&to_block=1120&limit=50") == wanted
    found = walk(api, f"{FEED}&address={hex_of(GOLD)},{hex_of(PAIR_A)}&limit=20")
    assert {p[0] for p in found} == {"coins", "pair"}
    assert len(found) == 50 + 15
    assert walk(api, f"{FEED}&address=0x{'77' * 20}") == []
    one = api.get(f"{FEED}&tx_hash={hex_of(tx_hash(1100, 3))}&from_block=1100&to_block=1100")
    assert places(one) == [("usdc", "Transfer", "1100-3")]
    assert places(api.get(f"{FEED}&tx_hash={hex_of(tx_hash(1100, 3))}")) == [("usdc", "Transfer", "1100-3")]


def test_what_is_missing_anywhere_is_missing(api):
    assert api.get(f"{FEED}&limit=1")["meta"]["missing"] == [[1040, 1049]]
    assert api.get(f"{FEED}&limit=1&contract=coins")["meta"]["complete"] is True


def test_counts_tokens_and_fields(api, everything):
    page = api.get(f"{FEED}&limit=1&count=exact")["page"]
    assert (page["count"], page["count_is"]) == (len(everything), "exact")
    assert api.get(f"{FEED}&limit=1&count=estimated&contract=pair")["page"]["count"] == 30
    answer = api.get(f"{FEED}&limit=5&event=Transfer&contract=coins&include=token&fields=contract,address")
    assert set(answer["tokens"]) == {hex_of(GOLD), hex_of(SILVER)}
    assert set(answer["data"][0]) == {"contract", "address"}


def test_a_large_feed_is_estimated(own, monkeypatch):
    monkeypatch.setattr("api.sql.query_shape.COUNT_LIMIT", 10)
    page = own.get(f"{FEED}&limit=2&count=estimated")["page"]
    assert page["count_is"] == "estimated"
    assert page["count"] > 10


def test_the_feed_is_exported_as_ndjson_only(api, everything):
    result = api.ask(f"{FEED}&format=ndjson&order=asc")
    rows = [json.loads(line) for line in result.text.split("\n") if line]
    assert [(row["contract"], row["event"], row["id"]) for row in rows] == everything
    cut = api.ask(f"{FEED}&format=ndjson&order=asc&limit=10")
    assert [json.loads(line) for line in cut.text.split("\n") if line] == rows[:10]
    assert api.ask(f"{FEED}&format=ndjson&address=0x{'77' * 20}").text == ""
    api.refused(f"{FEED}&format=csv", 400, "INVALID_PARAMETER")
    assert api.ask(FEED, accept="text/csv").status_code == 406


def test_the_feed_notices_reorganisations(own, seed):
    cursor = own.get(f"{FEED}&limit=1")["page"]["next"]
    assert cursor.endswith("." + block_hash(TIP).hex()[:12])
    seed.reorg(1290, TIP, branch=1)
    assert own.refused(f"{FEED}&after={cursor}", 409, "REORGED")["common_block"] == 1290


def test_the_feed_is_conditional(api, own, seed):
    settled = f"{FEED}&from_block=1060&to_block=1100"
    assert api.ask(settled).headers["cache-control"].startswith("public, max-age=300")
    etag = own.ask(settled).headers["etag"]
    assert own.ask(settled, if_none_match=etag).status_code == 304
    seed.execute("UPDATE gapless.events SET rewrite_version = rewrite_version + 1 WHERE name = 'Sync'")
    assert own.ask(settled, if_none_match=etag).status_code == 200


def test_chains_have_feeds_of_their_own(api):
    api.refused("/v1/events", 400, "CHAIN_REQUIRED")
    assert places(api.get("/v1/events?chain=base")) == [("bridge", "Transfer", "1005-9")]


def test_an_event_that_left_the_manifest_makes_the_others_incomplete_no_more(own, seed):
    path = f"{FEED}&from_block=1050"
    assert own.get(path)["meta"]["complete"] is True
    seed.execute(
        "UPDATE gapless.sources s SET active = false, coverage = '{[1000,1101)}' FROM gapless.events e "
        "JOIN gapless.contracts c ON c.id = e.contract_id WHERE e.id = s.event_id AND c.name = 'zoo'"
    )
    answer = own.get(path)
    assert (answer["meta"]["complete"], answer["meta"]["missing"]) == (True, [])
    assert own.ask(f"{path}&format=ndjson&limit=1").headers["x-complete"] == "true"
    # Alone it has gone no further, and says so.
    assert own.get(f"{path}&contract=zoo")["meta"]["missing"] == [[1101, TIP]]
    assert own.get("/v1/contracts/zoo/events/Everything?from_block=1050")["meta"]["missing"] == [[1101, TIP]]


# -- conditions on arguments ------------------------------------------------------------------------------------------

MINE = hex_of(ALICE)
TRANSFERS = "/v1/contracts/usdc/events/Transfer?limit=1000&order=asc"


def ids_of(api, contract: str, event: str, query: str) -> set[tuple[str, str, str]]:
    path = f"/v1/contracts/{contract}/events/{event}?chain=ethereum&limit=1000&from_block=1180&{query}"
    return {(contract, event, row["id"]) for row in api.get(path)["data"]}


def test_a_condition_leaves_the_events_that_have_such_an_argument(api):
    found = walk(api, f"{FEED}&order=asc&limit=37&arg.from={MINE}&from_block=1180")
    wanted = set().union(
        *(ids_of(api, contract, "Transfer", f"arg.from={MINE}") for contract in ("usdc", "coins", "bridge"))
    )
    assert set(found) == wanted
    assert len(found) == len(wanted)
    order = [[int(part) for part in place.split("-")] for _, _, place in found]
    assert order == sorted(order)


def test_my_swaps_and_my_transfers_come_together_and_once(api):
    """A transfer to oneself is of both selections, and there once."""
    where = f"Transfer(from={MINE});usdc.Transfer(to={MINE});pair.Swap(to={MINE});usdc.Transfer(from={MINE},to={MINE})"
    found = walk(api, f"{FEED}&order=asc&limit=37&where={where}&from_block=1180")
    wanted = set().union(
        *(ids_of(api, contract, "Transfer", f"arg.from={MINE}") for contract in ("usdc", "coins", "bridge")),
        ids_of(api, "usdc", "Transfer", f"arg.to={MINE}"),
        ids_of(api, "pair", "Swap", f"arg.to={MINE}"),
    )
    assert set(found) == wanted
    assert len(found) == len(wanted)
    counted = api.get(f"{FEED}&where={where}&from_block=1180&count=exact&limit=1")["page"]
    assert (counted["count"], counted["count_is"]) == (len(wanted), "exact")
    answer = api.ask(f"{FEED}&where={where}&from_block=1180&format=ndjson")
    assert len(answer.text.splitlines()) == len(wanted)


def test_lists_and_comparisons(api):
    low = api.get(f"{TRANSFERS}&from_block=1298")["data"][0]["args"]["value"]
    where = f"usdc.Transfer(from.in={MINE}|{hex_of(GOLD)},value.gte={low})"
    found = api.get(f"{FEED}&where={where}&from_block=1290")["data"]
    same = api.get(f"{TRANSFERS}&from_block=1290&arg.from.in={MINE},{hex_of(GOLD)}&arg.value.gte={low}")["data"]
    assert {row["args"]["value"] for row in found} == {row["args"]["value"] for row in same}
    assert same


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("arg.form=0x12", "UNKNOWN_PARAMETER", "did you mean arg.from?"),
        ("arg.from=0x12", "INVALID_ADDRESS", "arg.from"),
        (f"arg.from={MINE}&arg.from={MINE}", "UNKNOWN_PARAMETER", "twice"),
        (f"arg.from={MINE}&arg.reserve0=1", "INVALID_PARAMETER", "no event"),
        (f"event=Sync&arg.from={MINE}", "UNKNOWN_PARAMETER", "arg.from"),
        ("where=Transfer(from=0x12)", "INVALID_ADDRESS", "Transfer: from"),
        (f"where=Transfer(form={MINE})", "INVALID_PARAMETER", "form"),
        (f"where=nobody.Transfer(from={MINE})", "INVALID_PARAMETER", "nobody.Transfer"),
        ("where=Transfer(from)", "INVALID_PARAMETER", "argument=value"),
        (f"where=Transfer(from={MINE},from={MINE})", "INVALID_PARAMETER", "twice"),
        ("where=Transfer(", "INVALID_PARAMETER", "Transfer("),
        ("where=;", "INVALID_PARAMETER", "is not like"),
        (f"where=Transfer(from={MINE})&arg.to={MINE}", "INVALID_PARAMETER", "combined"),
        ("where=" + ";".join(["Transfer"] * 21), "INVALID_PARAMETER", "21 selections"),
    ],
)
def test_conditions_that_are_wrong(api, query, code, said):
    body = api.refused(f"{FEED}&{query}", 400, code)
    assert said in body["error"], body["error"]


def test_a_condition_without_an_index_must_be_bounded(api):
    body = api.refused(f"{FEED}&where=usdc.Transfer(value.gte=5)", 422, "QUERY_TOO_EXPENSIVE")
    assert "arg.value.gte" in body["error"]
    assert api.get(f"{FEED}&where=usdc.Transfer(value.gte=5)&from_block=1290")["data"]
