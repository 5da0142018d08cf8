"""Blocks and days."""

import psycopg
import pytest
import redis

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
    assert own.get(f"{DAILY}?arg.value.lt=8&limit=1&from_block=20000")["data"][0]["events"] == 2
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
    path = f"{DAILY}?order=asc"
    first = client.get(path)
    days.execute("DELETE FROM usdc.transfer")  # as above: the cache answers
    days.execute("UPDATE gapless.chains SET head_seen_at = now() - interval '50 seconds' WHERE chain_id = 1")
    again = client.get(path)
    assert (again["data"], again["page"]) == (first["data"], first["page"])
    assert again["meta"]["lag_seconds"] > first["meta"]["lag_seconds"]


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


@pytest.fixture
def few(monkeypatch):
    """A page counts two rows at most, and the day of which it has read a third."""
    monkeypatch.setattr("api.sql.daily.MOST_COUNTED", 2)


def walked(client, path: str, side: str = "next") -> list[list[tuple[str, int, int]]]:
    pages, cursor = [], ""
    while cursor is not None:
        answer = client.get(path + cursor)
        pages.append(found(answer))
        following = answer["page"][side]
        cursor = None if following is None else f"&{'after' if side == 'next' else 'before'}={following}"
    return pages


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_ends_before_the_day_that_would_be_too_much(days, own, few, order):
    days.execute("DELETE FROM usdc.transfer WHERE block_number = 7199")  # the first day has two
    expected = [("2023-01-01", 2, 30), *EXPECTED[1:]]
    path = f"{DAILY}?sum=value&order={order}"
    pages = walked(own, path)
    assert [day for page in pages for day in page] == (expected if order == "asc" else expected[::-1])
    assert len(pages) == 3, "of two days one has no event"
    assert max(sum(day[1] for day in page) for page in pages) == 2
    last = own.get(path + f"&after={pages[-2][-1][0]}")
    back = own.get(path + f"&before={pages[-1][0][0]}")
    assert found(last) == pages[-1]
    assert sum(day[1] for day in found(back)) == 2
    assert back["page"]["prev"] is not None


def test_a_day_that_is_too_much_alone_is_refused_and_its_parts_are_told(days, own, few):
    error = own.refused(f"{DAILY}?order=asc", 422, "QUERY_TOO_EXPENSIVE")["error"]
    assert "2023-01-01 has more than 2 events" in error
    assert "from_time" in error
    assert own.get(f"{DAILY}?order=asc&to_time=2023-01-01T12:00:00Z&limit=1")["data"]
    assert [row["events"] for row in own.get(f"{DAILY}?order=asc&arg.from=0x{ALICE.hex()}&after=2023-01-01")["data"]]
    # An export has a time-out of its own.
    assert len(own.ask(f"{DAILY}?format=ndjson").text.splitlines()) == 4


def test_counting_looks_through_no_more_blocks_than_rows_do(days, make_client):
    days.execute("DROP INDEX usdc.transfer_chain_id_tx_hash_block_number_log_index_idx")
    client = make_client(api_unindexed_window=7000)
    for path in (DAILY, DAILY.removesuffix("/daily")):
        for query in ("arg.value.lt=8", f"tx_hash=0x{'00' * 32}"):
            client.refused(f"{path}?{query}", 422, "QUERY_TOO_EXPENSIVE")
            client.refused(f"{path}?{query}&format=ndjson", 422, "QUERY_TOO_EXPENSIVE")
            client.get(f"{path}?{query}&from_block=0&to_block=6999")


def test_what_redis_keeps_of_days_cannot_be_made_up(days, make_client, redis_url):
    client = make_client(redis_url=redis_url, api_unindexed_window=10**6)
    with redis.Redis.from_url(redis_url) as store:
        for number in range(1, 40):
            for query in (
                f"limit={number}",
                f"from_block={number}",
                f"to_block={20000 + number}",
                f"arg.value.gt={number}",
                f"after=2023-01-{1 + number % 4:02}",
                f"address=0x{number:040x}",
                "s%75m=value" if number % 2 else "sum=value",
                f"o{'%72' if number % 2 else 'r'}der=asc&sum=%76alue",
                "fields=date" + ",date" * number,
                f"count={('exact', 'estimated')[number % 2]}",
            ):
                client.get(f"{DAILY}?{query}")
        kept = store.keys("gapless:api:*")
        assert 1 <= len(kept) <= 4  # two orders, with the sum and without
