"""What every collection can be asked: the same parameters mean the same everywhere."""

import pytest

from tests.integration.api.seed import hex_of
from tests.integration.api.test_api_exports import lines, table
from tests.integration.api.world import ALICE, GOLD, SILVER

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
SUPPLY = "/v1/contracts/coins/snapshots/supply"
#: Each with a member of its rows.
COLLECTIONS = {
    TRANSFERS: "id",
    f"{TRANSFERS}/daily": "date",
    "/v1/events?chain=1": "id",
    SUPPLY: "id",
    f"{SUPPLY}/latest": "id",
    "/v1/tokens?chain=1": "address",
    f"/v1/tokens/{hex_of(GOLD)}/transfers?chain=1": "id",
    f"/v1/addresses/{hex_of(ALICE)}/transfers?chain=1": "id",
}
#: Those that tell how a chain was at a block.
FRESH = [path for path in COLLECTIONS if not path.startswith("/v1/tokens?")]


def joined(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"


@pytest.mark.parametrize("path", COLLECTIONS)
def test_it_is_counted(api, path):
    rows = len(api.get(joined(path, "limit=1000"))["data"])
    for query in ("count=exact", "count=estimated", "count=exact&order=asc"):
        page = api.get(joined(path, f"limit=1&{query}"))["page"]
        assert (page["count"], page["count_is"]) == (rows, "exact")
    cursor = api.get(joined(path, "limit=1"))["page"]["last"]
    assert api.get(joined(path, f"limit=1&count=exact&after={cursor}"))["page"]["count"] == rows
    assert "count" not in api.get(joined(path, "count=none"))["page"]
    api.refused(joined(path, "count=exact&format=ndjson"), 400, "INVALID_PARAMETER")


@pytest.mark.parametrize("path", [SUPPLY, "/v1/tokens?chain=1"])
def test_very_many_are_estimated(own, path, monkeypatch):
    monkeypatch.setattr("api.sql.query_shape.COUNT_LIMIT", 1)
    page = own.get(joined(path, "count=estimated&limit=1&order=asc"))["page"]
    assert page["count_is"] == "estimated"
    assert page["count"] >= 2
    assert own.get(joined(path, "count=exact&limit=2"))["page"]["count_is"] == "exact"


@pytest.mark.parametrize(("path", "field"), COLLECTIONS.items())
def test_only_some_members_are_sent(api, path, field):
    rows = api.get(joined(path, f"limit=2&fields={field}"))["data"]
    assert rows
    assert all(list(row) == [field] for row in rows)
    whole = api.get(joined(path, "limit=2"))["data"]
    assert [row[field] for row in rows] == [row[field] for row in whole]
    assert lines(api.ask(joined(path, f"limit=2&fields={field}&format=ndjson")).text) == rows
    if not path.startswith("/v1/events"):  # events of many kinds have no columns in common
        assert list(table(api.ask(joined(path, f"limit=2&fields={field}&format=csv")).text)[0]) == [field]
    api.refused(joined(path, "fields=nothing"), 400, "INVALID_PARAMETER")


@pytest.mark.parametrize("path", FRESH)
def test_it_waits_for_a_block(api, path):
    assert api.get(joined(path, "min_block=1299&limit=1"))["data"]
    for query in ("min_block=1300", "min_block=1300&wait=1", "at_block=1300"):
        assert "1300 is not indexed yet" in api.refused(joined(path, query), 409, "BLOCK_NOT_INDEXED")["error"]
        api.refused(joined(path, f"{query}&format=ndjson"), 409, "BLOCK_NOT_INDEXED")
    (detail,) = api.refused(joined(path, "wait=1"), 400, "INVALID_PARAMETER")["details"]
    assert detail == {"parameter": "wait", "message": "needs min_block"}


def test_points_with_what_their_tokens_say(api):
    answer = api.get(f"{SUPPLY}?include=token&limit=2")
    assert answer["tokens"][hex_of(GOLD)] == {"symbol": "GLD", "name": "Gold", "decimals": 18}
    assert hex_of(SILVER) in answer["tokens"]
    alone = api.get(f"{SUPPLY}/latest?include=token&address={hex_of(SILVER)}")
    assert list(alone["tokens"]) == [hex_of(SILVER)]
    assert "tokens" not in api.get(f"{SUPPLY}?limit=2")
    api.refused(f"{SUPPLY}?include=token&format=csv", 400, "INVALID_PARAMETER")


def test_the_tokens_beside_points_are_those_of_the_page(api):
    first = api.get(f"{SUPPLY}?include=token&limit=1")
    assert set(first["tokens"]) == {row["address"] for row in first["data"]}


def test_a_day_of_one_transaction(api):
    (row,) = api.get(f"{TRANSFERS}?limit=1")["data"]
    query = f"tx_hash={row['tx_hash']}&from_block={row['block_number']}"
    (day,) = api.get(f"{TRANSFERS}/daily?{query}")["data"]
    assert day["events"] == len(api.get(f"{TRANSFERS}?{query}")["data"])
