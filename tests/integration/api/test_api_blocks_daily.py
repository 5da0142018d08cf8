"""Blocks and days."""

import psycopg
import pytest

from tests.integration.api.seed import block_hash, block_time, hex_of
from tests.integration.api.world import ALICE, FINALIZED, GOLD, SAFE, TIP, USDC


def iso(number: int) -> str:
    return block_time(number).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(number: int) -> int:
    return int(block_time(number).timestamp())


def test_a_block_by_number(api):
    answer = api.get("/v1/blocks/1100?chain=ethereum")
    assert answer["data"] == {
        "number": 1100,
        "hash": hex_of(block_hash(1100)),
        "parent_hash": None,
        "time": iso(1100),
        "finality": "finalized",
    }
    assert answer["meta"]["indexed_block"] == TIP
    assert api.ask("/v1/blocks/1100?chain=1").headers["cache-control"].startswith("public, max-age=300")
    assert api.get("/v1/blocks/1260?chain=1")["data"]["finality"] == "latest"
    assert api.ask("/v1/blocks/1260?chain=1").headers["cache-control"] == "public, max-age=6"


@pytest.mark.parametrize(("name", "number"), [("latest", TIP), ("safe", SAFE), ("finalized", FINALIZED)])
def test_a_block_by_name(api, name, number):
    assert api.get(f"/v1/blocks/{name}?chain=1")["data"]["number"] == number


def test_a_name_that_stands_for_nothing_yet(own, seed):
    seed.execute("UPDATE gapless.chains SET safe_number = NULL")
    own.refused("/v1/blocks/safe?chain=1", 404, "NOT_FOUND")
    seed.execute("DELETE FROM gapless.blocks WHERE number = 1299")
    block = own.get("/v1/blocks/latest?chain=1")["data"]
    assert (block["number"], block["hash"], block["time"]) == (TIP, None, None)


def test_blocks_that_are_not_there(api):
    refused = api.refused("/v1/blocks/1300?chain=1", 409, "BLOCK_NOT_INDEXED")
    assert refused["error"] == "block 1300 is not indexed yet: the newest indexed block is 1299"
    assert "not kept" in api.refused("/v1/blocks/1045?chain=1", 404, "NOT_FOUND")["error"]
    for nonsense in ("newest", "-1", "01", "1e3", "0x10", "%D9%A3", str(2**63)):
        api.refused(f"/v1/blocks/{nonsense}?chain=1", 400, "INVALID_PARAMETER")
    api.refused("/v1/blocks/1100", 400, "CHAIN_REQUIRED")


def test_the_block_at_a_time(api):
    def at(time: str) -> tuple[int, bool]:
        data = api.get(f"/v1/blocks?chain=1&time={time}")["data"]
        return data["number"], data["exact"]

    assert at(iso(1100)) == (1100, True)
    assert at(str(seconds(1100) + 11)) == (1100, True)
    assert at(str(seconds(1100) + 12)) == (1101, True)
    assert at(iso(1045)) == (1039, False)  # what lies in the gap is not known
    assert at("2030-01-01") == (TIP, False)  # what comes after the newest is not known
    api.refused("/v1/blocks?chain=1&time=2022-01-01", 404, "NOT_FOUND")
    api.refused("/v1/blocks?chain=1", 400, "INVALID_PARAMETER")


def test_the_newest_block_at_a_time_that_has_not_come_is_not_kept_long(own, seed):
    seed.head(TIP, finalized=TIP, safe=TIP)  # every block is final at once
    assert own.ask("/v1/blocks?chain=1&time=2100-01-01").headers["cache-control"] == "public, max-age=6"


DAILY = "/v1/contracts/usdc/events/Transfer/daily"


@pytest.fixture
def days(seed):
    """usdc.Transfer on four days of 7,200 blocks, the third of them without any; all of it indexed."""
    seed.execute("DELETE FROM usdc.transfer")
    seed.execute("DELETE FROM gapless.blocks")
    rows = [
        (1, 0, 10),
        (1, 1, 20),
        (7199, 0, 5),
        (7200, 0, 2**256 - 1),
        (7201, 0, 2**256 - 1),
        (21600, 0, 7),
        (28799, 0, 1),
    ]
    seed.rows(
        "usdc",
        "Transfer",
        [
            {"block": b, "log": log, "address": USDC, "from": ALICE if v < 100 else GOLD, "to": ALICE, "value": v}
            for b, log, v in rows
        ],
    )
    seed.execute("UPDATE gapless.sources SET start_block = 0")
    seed.cover("usdc", (0, 28799))
    seed.head(28799, finalized=28000, safe=28500)
    return seed


EXPECTED = [
    ("2023-01-01", 3, 35),
    ("2023-01-02", 2, 2 * (2**256 - 1)),
    ("2023-01-03", 0, 0),
    ("2023-01-04", 2, 8),
]


def found(answer) -> list[tuple[str, int, int]]:
    return [(row["date"], row["events"], int(row["sums"]["value"])) for row in answer["data"]]


def test_every_day_is_counted_and_summed(days, own):
    answer = own.get(f"{DAILY}?sum=value&order=asc")
    assert found(answer) == EXPECTED
    assert answer["page"] == {"next": None, "prev": None, "last": "2023-01-04", "limit": 30}
    assert answer["meta"]["complete"] is True
    assert found(own.get(f"{DAILY}?sum=value")) == EXPECTED[::-1]
    assert own.get(f"{DAILY}?limit=1")["data"] == [{"date": "2023-01-04", "events": 2}]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_days_are_paged_both_ways(days, own, order):
    expected = EXPECTED if order == "asc" else EXPECTED[::-1]
    path = f"{DAILY}?sum=value&limit=3&order={order}"
    first = own.get(path)
    assert found(first) == expected[:3]
    assert first["page"]["prev"] is None
    second = own.get(f"{path}&after={first['page']['next']}")
    assert found(second) == expected[3:]
    assert second["page"]["next"] is None
    back = own.get(f"{path}&before={second['page']['prev']}")
    assert found(back) == expected[:3]
    assert back["page"]["prev"] is None
    assert back["page"]["next"] == first["page"]["next"]


def test_days_are_bounded_and_filtered(days, own):
    assert found(own.get(f"{DAILY}?sum=value&order=asc&from_time=2023-01-02&to_time=2023-01-03")) == EXPECTED[1:2]
    assert found(own.get(f"{DAILY}?sum=value&order=asc&to_block=7199")) == EXPECTED[:1]
    assert found(own.get(f"{DAILY}?sum=value&order=asc&to_block=7200")) == [EXPECTED[0], ("2023-01-02", 1, 2**256 - 1)]
    assert found(own.get(f"{DAILY}?sum=value&order=asc&arg.from=0x{ALICE.hex()}")) == [
        EXPECTED[0],
        ("2023-01-02", 0, 0),
        *EXPECTED[2:],
    ]
    assert own.get(f"{DAILY}?address=0x{GOLD.hex()}&limit=1")["data"][0]["events"] == 0
    assert own.get(f"{DAILY}?arg.value.lt=8&limit=1")["data"][0]["events"] == 2
    assert own.get(f"{DAILY}?at_block=21600&limit=1")["data"] == [{"date": "2023-01-04", "events": 1}]
    assert own.get(f"{DAILY}?finality=finalized&limit=1")["data"] == [{"date": "2023-01-04", "events": 1}]
    assert own.get(f"{DAILY}?to_time=2022-01-01")["data"] == []
    own.refused(f"{DAILY}?at_block=30000", 409, "BLOCK_NOT_INDEXED")


def test_nonsense_about_days_is_refused(own):
    for query, code in (
        ("after=2023-02-30", "INVALID_PARAMETER"),
        ("after=2023-01-01&before=2023-01-02", "INVALID_PARAMETER"),
        ("sum=from", "INVALID_PARAMETER"),
        ("topic0=0x00", "UNKNOWN_PARAMETER"),
    ):
        own.refused(f"{DAILY}?{query}", 400, code)


def test_days_are_kept_in_redis_as_long_as_nothing_changes(days, make_client, redis_url):
    client = make_client(redis_url=redis_url)
    path = f"{DAILY}?sum=value&order=asc"
    first = client.ask(path)
    # Rows that came without a new version are not there for the cache: so it was the cache that answered.
    days.execute("DELETE FROM usdc.transfer")
    assert client.get(path)["data"] == first.json["data"]
    assert client.ask(path, if_none_match=first.headers["etag"]).status_code == 304
    assert client.get(f"{DAILY}?sum=value")["data"][0]["events"] == 0
    days.execute("UPDATE gapless.events SET version = version + 1")
    assert found(client.get(path))[0] == ("2023-01-01", 0, 0)


def test_databases_with_the_same_versions_share_no_kept_days_and_no_tags(make_client, copy_world, redis_url):
    """One that is made anew comes to the versions of the one before, which Redis, proxies and browsers may know."""
    path = f"{DAILY}?chain=1&count=exact"
    first = make_client(redis_url=redis_url, url=copy_world()).ask(path)
    assert sum(row["events"] for row in first.json["data"]) > 0
    url = copy_world()
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM usdc.transfer")
    other = make_client(redis_url=redis_url, url=url)
    assert other.ask(path, if_none_match=first.headers["etag"]).status_code == 200
    assert sum(row["events"] for row in other.get(path)["data"]) == 0


def test_days_that_are_kept_say_how_it_stands_now(days, make_client, redis_url):
    client = make_client(redis_url=redis_url)
    path = f"{DAILY}?to_block=7199&order=asc"
    first = client.get(path)
    days.execute("DELETE FROM usdc.transfer")  # as above: the cache answers
    days.execute(
        "UPDATE gapless.chains SET head_number = 30000, head_seen_at = now() - interval '1 hour' WHERE chain_id = 1"
    )
    again = client.get(path)
    assert (again["data"], again["page"]) == (first["data"], first["page"])
    assert (first["meta"]["head_block"], again["meta"]["head_block"]) == (28799, 30000)
    assert again["meta"]["lag_seconds"] >= 3600


def test_a_day_that_only_another_contract_s_block_makes_known_changes_the_tag(days, make_client, redis_url):
    client = make_client(redis_url=redis_url)
    path = f"{DAILY}?to_block=20000&order=asc"
    before = client.ask(path)
    assert before.headers["cache-control"].startswith("public, max-age=300")
    assert [row["date"] for row in before.json["data"]] == ["2023-01-01", "2023-01-02"]
    days.block(19_000)
    after = client.ask(path, if_none_match=before.headers["etag"])
    assert after.status_code == 200
    assert [row["date"] for row in after.json["data"]] == ["2023-01-01", "2023-01-02", "2023-01-03"]


def test_a_settled_span_of_days_is_kept_long(days, own):
    assert own.ask(f"{DAILY}?to_block=7199").headers["cache-control"].startswith("public, max-age=300")
    assert own.ask(DAILY).headers["cache-control"].startswith("public, max-age=")
