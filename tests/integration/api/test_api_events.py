"""Rows of events: what they look like, filters, pages, completeness."""

import pytest

from tests.integration.api import world
from tests.integration.api.seed import block_hash, block_time, hex_of, tx_hash
from tests.integration.api.world import ALICE, BOB, CAROL, GAP, GOLD, PAIR_A, PAIR_B, SILVER, START, TIP, USDC

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
ALL = [f"{t['block']}-{t['log']}" for t in world.transfers()]


def ids(answer) -> list[str]:
    return [row["id"] for row in answer["data"]]


def walk(api, path: str) -> list[list[str]]:
    """All pages from the first on, by their ids."""
    pages, url = [], path
    while True:
        answer = api.get(url)
        pages.append(ids(answer))
        if answer["page"]["next"] is None:
            return pages
        assert len(pages) < 1000
        url = f"{path}&after={answer['page']['next']}"


def test_a_row_is_what_the_contract_said(api):
    answer = api.get(f"{TRANSFERS}?order=asc&limit=1")
    assert answer["data"] == [
        {
            "id": "1000-3",
            "block_number": 1000,
            "block_time": "2023-01-01T03:20:00Z",
            "tx_hash": hex_of(tx_hash(1000, 3)),
            "log_index": 3,
            "address": hex_of(USDC),
            "finality": "finalized",
            "args": {"from": hex_of(BOB), "to": hex_of(CAROL), "value": str(10**30 + 10003)},
        }
    ]
    assert answer["page"] == {"next": "1000-3", "prev": None, "last": "1000-3", "limit": 1}
    assert answer["meta"].pop("lag_seconds") >= 12
    assert answer["meta"] == {
        "chain_id": 1,
        "indexed_block": 1299,
        "head_block": 1300,
        "finalized_block": 1200,
        "complete": False,
        "missing": [[1040, 1049]],
    }


@pytest.mark.promise("R-07")
def test_every_type_comes_out_exact(api):
    (row,) = api.get("/v1/contracts/zoo/events/Everything")["data"]
    assert row["args"] == {
        "limit": 2**48 - 1,
        "wide": str(-(2**255)),
        "flag": True,
        "label": world.EVERYTHING["label"],
        "key": hex_of(bytes(range(32))),
        "raw": "0x",
        "word": "0xdeadbeef",
        "small": [1, 65535],
        "big": ["0", str(2**256 - 1)],
        "who": [hex_of(ALICE), hex_of(BOB)],
        "point": world.EVERYTHING["point"],
        "arg11": 255,
    }


@pytest.mark.parametrize("filters", [
    "arg.limit=281474976710655", "arg.wide=-" + str(2**255), "arg.flag=true", "arg.key=0x" + bytes(range(32)).hex(),
    "arg.raw=0x", "arg.word=0xDEADBEEF", "arg.arg11=255", "arg.arg11.gte=255", "arg.arg11.in=1,255", "arg.arg11.ne=1",
    "arg.label=say%20%22hi%22%0A%09%5C%20100%25%20%E2%80%A8%20%F0%9F%A6%8A",
    f"arg.wide.lt=0&arg.wide.gte={-(2**255)}",
])  # fmt: skip
def test_every_filterable_type_is_found(api, filters):
    window = "&from_block=1000&to_block=1010"
    assert ids(api.get(f"/v1/contracts/zoo/events/Everything?{filters}{window}")) == ["1001-0"]


@pytest.mark.parametrize("filters", [
    "arg.limit=1", "arg.wide=0", "arg.flag=false", "arg.key=0x" + "00" * 32, "arg.raw=0x00", "arg.word=0x00000000",
    "arg.arg11.lt=255", "arg.arg11.gt=255", "arg.arg11.ne=255", "arg.arg11.in=1,2", "arg.label=x",
])  # fmt: skip
def test_every_filterable_type_is_told_apart(api, filters):
    window = "&from_block=1000&to_block=1010"
    assert ids(api.get(f"/v1/contracts/zoo/events/Everything?{filters}{window}")) == []


@pytest.mark.promise("A-01")
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1000, 100, 7])
def test_a_walk_over_all_pages_finds_every_row_once(api, order, limit):
    pages = walk(api, f"{TRANSFERS}?order={order}&limit={limit}")
    assert [i for page in pages for i in page] == (ALL if order == "asc" else ALL[::-1])
    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_can_be_walked_backwards(api, order):
    path = f"{TRANSFERS}?order={order}&limit=90"
    forwards = walk(api, path)
    last = api.get(f"{path}&after={forwards[-2][-1]}")
    assert ids(last) == forwards[-1]
    assert last["page"]["next"] is None
    pages, token = [], last["page"]["prev"]
    while token:
        answer = api.get(f"{path}&before={token}")
        pages.append(ids(answer))
        assert answer["page"]["next"] is not None
        token = answer["page"]["prev"]
    assert [i for page in reversed(pages) for i in page] == [i for page in forwards[:-1] for i in page]


def test_a_page_links_to_the_next(api):
    result = api.ask(f"{TRANSFERS}?limit=3&address={hex_of(USDC)}&after=1299-3")
    cursor = result.json["page"]["next"]
    target = f"{TRANSFERS}?limit=3&address={hex_of(USDC)}&after={cursor}"
    assert result.headers["link"] == f'<{target}>; rel="next"'
    assert "link" not in api.ask(f"{TRANSFERS}?limit=1000").headers


def test_a_row_alone(api):
    row = api.get(f"{TRANSFERS}/1000-3")["data"]
    assert row["id"] == "1000-3"
    assert row["tx_index"] == 3
    refused = api.refused(f"{TRANSFERS}/{GAP[0]}-3", 404, "NOT_FOUND")
    assert "not indexed yet" in refused["error"]
    for ahead in (TIP + 1, TIP + 2, TIP + 1000):
        assert "not indexed yet" in api.refused(f"{TRANSFERS}/{ahead}-3", 404, "NOT_FOUND")["error"]
    refused = api.refused(f"{TRANSFERS}/1000-4", 404, "NOT_FOUND")
    assert "not indexed" not in refused["error"]
    api.refused(f"{TRANSFERS}/1000", 400, "INVALID_PARAMETER")
    api.refused(f"{TRANSFERS}/1000-3.0102030405ff", 400, "INVALID_PARAMETER")
    api.refused(f"{TRANSFERS}/1000-3-1", 400, "INVALID_PARAMETER")  # an item of a batch is no row of an event
    api.refused(f"{TRANSFERS}/{2**63 - 1}-0", 404, "NOT_FOUND")


def expected(condition) -> list[str]:
    return [f"{t['block']}-{t['log']}" for t in reversed(world.transfers()) if condition(t)]


def test_filters_on_arguments(api):
    def rows(query: str) -> list[str]:
        return ids(api.get(f"{TRANSFERS}?limit=1000&{query}"))

    alice, bob, carol = map(hex_of, (ALICE, BOB, CAROL))
    assert rows(f"arg.from={alice}") == expected(lambda t: t["from"] == ALICE)
    assert rows(f"arg.from={alice}&arg.to={bob}") == expected(lambda t: (t["from"], t["to"]) == (ALICE, BOB))
    assert rows(f"arg.from={alice}&arg.to={carol}") == []
    assert rows(f"arg.from.in={alice},{carol}") == expected(lambda t: t["from"] != BOB)
    assert rows(f"arg.from.in={alice},{carol}&arg.to.in={bob},{carol}") == expected(
        lambda t: t["from"] != BOB and t["to"] != ALICE
    )
    assert rows(f"arg.from={alice}&arg.value.gte={10**30 + 12000}") == expected(
        lambda t: t["from"] == ALICE and t["value"] >= 10**30 + 12000
    )
    assert rows(f"arg.from={alice}&arg.to.ne={bob}") == []
    assert rows(f"arg.from=0x{'00' * 20}") == []


def test_pages_of_filtered_rows(api):
    path = f"{TRANSFERS}?limit=20&arg.from.in={hex_of(ALICE)},{hex_of(BOB)}"
    assert [i for page in walk(api, path) for i in page] == expected(lambda t: t["from"] != CAROL)


def test_block_and_time_bounds_mean_the_same(api):
    by_block = ids(api.get(f"{TRANSFERS}?from_block=1100&to_block=1102"))
    assert by_block == ["1102-7", "1102-3", "1101-7", "1101-3", "1100-7", "1100-3"]
    first, last = (block_time(n).strftime("%Y-%m-%dT%H:%M:%SZ") for n in (1100, 1102))
    assert ids(api.get(f"{TRANSFERS}?from_time={first}&to_time={last}")) == by_block
    seconds = int(block_time(1100).timestamp())
    assert ids(api.get(f"{TRANSFERS}?from_time={seconds - 11}&to_time={seconds + 35}")) == by_block
    assert ids(api.get(f"{TRANSFERS}?from_time={seconds + 1}&to_time={seconds + 11}")) == []
    assert len(ids(api.get(f"{TRANSFERS}?from_time=2022-01-01&to_time=2030-01-01&limit=1000"))) == len(ALL)
    assert ids(api.get(f"{TRANSFERS}?to_time=2022-01-01")) == []
    assert ids(api.get(f"{TRANSFERS}?from_time=2030-01-01")) == []


@pytest.mark.promise("A-04")
@pytest.mark.parametrize(("query", "missing"), [
    ("", [[1040, 1049]]),
    ("from_block=1050", []),
    ("from_block=1045", [[1045, 1049]]),
    ("to_block=1039", []),
    ("to_block=1042", [[1040, 1042]]),
    ("from_block=1041&to_block=1041", [[1041, 1041]]),
    ("to_block=1300", [[1040, 1049], [1300, 1300]]),  # the head, which is not indexed yet
    ("to_block=99999", [[1040, 1049], [1300, 1300]]),  # beyond the head there is nothing to miss
    ("from_block=1300", []),
    ("from_block=0&to_block=999", []),  # before the contract's start nothing is wanted
    (f"from_time={int(block_time(1045).timestamp())}", [[1040, 1049]]),  # which block 1045 is, is not known
    (f"from_time={int(block_time(1050).timestamp())}", [[1040, 1049]]),
    (f"from_time={int(block_time(1051).timestamp())}", []),
    (f"to_time={int(block_time(1039).timestamp())}", [[1040, 1049]]),
    (f"to_time={int(block_time(1038).timestamp())}", []),
    ("finality=finalized&to_block=1300", [[1040, 1049]]),
])  # fmt: skip
def test_what_is_missing_is_told(api, query, missing):
    meta = api.get(f"{TRANSFERS}?{query}")["meta"]
    assert meta["missing"] == missing
    assert meta["complete"] == (missing == [])


@pytest.mark.promise("A-04")
def test_only_the_sources_that_matter_are_missed(own, seed):
    """An address whose history is not there yet makes answers about the other one no less complete."""
    seed.execute(
        "UPDATE gapless.sources s SET place = jsonb_set(place, '{addresses}', %s), "
        "coverage = coverage - '{[1100,1200)}' FROM gapless.events e "
        "WHERE e.id = s.event_id AND e.signature LIKE 'Transfer%%' "
        "AND e.contract_id = (SELECT id FROM gapless.contracts WHERE name = 'coins')",
        (f'["{hex_of(SILVER)}"]',),
    )
    seed.execute(
        "INSERT INTO gapless.sources (chain_id, event_id, place, start_block, coverage) "
        "SELECT chain_id, event_id, jsonb_set(place, '{addresses}', %s), start_block, '{[1000,1300)}' "
        "FROM gapless.sources WHERE coverage @> 1250::bigint AND NOT coverage @> 1150::bigint "
        "AND place->'addresses'->>0 = %s",
        (f'["{hex_of(GOLD)}"]', hex_of(SILVER)),
    )
    path = "/v1/contracts/coins/events/Transfer"
    assert own.get(path)["meta"]["missing"] == [[1100, 1199]]
    assert own.get(f"{path}?address={hex_of(SILVER)}")["meta"]["missing"] == [[1100, 1199]]
    assert own.get(f"{path}?address={hex_of(GOLD)}")["meta"]["complete"] is True


def test_a_contract_that_was_removed_says_what_it_has(own, seed):
    seed.execute("UPDATE gapless.sources SET active = false, coverage = '{[1000,1100)}'")
    answer = own.get("/v1/contracts/coins/events/Transfer?from_block=1000")
    assert answer["meta"]["missing"] == [[1100, TIP]]
    seed.execute("DELETE FROM gapless.sources")
    answer = own.get("/v1/contracts/coins/events/Transfer?from_block=1000")
    assert answer["meta"]["complete"] is False
    assert answer["meta"]["missing"] == [[1000, TIP]]


@pytest.mark.promise("R-08")
def test_a_log_index_beyond_31_bits_is_a_place_like_any_other(own, seed):
    first = 0xFFFFFFE2
    logs = [{"block": 1299, "log": first + i, "address": USDC, "from": BOB, "to": CAROL, "value": i} for i in range(5)]
    seed.rows("usdc", "Transfer", logs)
    pages = walk(own, f"{TRANSFERS}?order=asc&from_block=1299&limit=2")
    assert [one for page in pages for one in page][-5:] == [f"1299-{first + i}" for i in range(5)]
    row = own.get(f"{TRANSFERS}/1299-{first + 2}")["data"]
    assert (row["log_index"], row["tx_index"]) == (first + 2, first + 2)


def test_nothing_indexed_yet_is_no_error(own, seed):
    seed.execute(
        "UPDATE gapless.chains SET tip_number = NULL, tip_time = NULL, head_number = NULL, finalized_number = NULL"
    )
    seed.execute("UPDATE gapless.sources SET coverage = '{}'")
    seed.execute("DELETE FROM usdc.transfer")
    answer = own.get(TRANSFERS)
    assert answer["data"] == []
    assert answer["meta"]["indexed_block"] is None
    assert answer["meta"]["complete"] is False
    assert own.get(f"{TRANSFERS}?from_block=1000&to_block=1100")["meta"]["complete"] is False


def test_backfill_without_a_follower_is_served(own, seed):
    seed.execute(
        "UPDATE gapless.chains SET tip_number = NULL, tip_time = NULL, head_number = NULL, finalized_number = NULL"
    )
    answer = own.get(f"{TRANSFERS}?limit=1")
    assert ids(answer) == ["1299-7"]
    assert answer["meta"]["indexed_block"] == TIP
    assert answer["data"][0]["finality"] == "latest"


def test_finality_is_told_and_filtered(api):
    def finality(query: str) -> set[str]:
        return {row["finality"] for row in api.get(f"{TRANSFERS}?limit=1000&{query}")["data"]}

    assert finality("from_block=1251") == {"latest"}
    assert finality("from_block=1201&to_block=1250") == {"safe"}
    assert finality("to_block=1200") == {"finalized"}
    assert ids(api.get(f"{TRANSFERS}?limit=1&finality=finalized")) == ["1200-7"]
    assert ids(api.get(f"{TRANSFERS}?limit=1&finality=safe")) == ["1250-7"]


def test_addresses_of_one_contract(api):
    path = "/v1/contracts/coins/events/Transfer?limit=1000"
    gold = ids(api.get(f"{path}&address={hex_of(GOLD)}"))
    silver = ids(api.get(f"{path}&address={hex_of(SILVER)}"))
    both = ids(api.get(f"{path}&address={hex_of(GOLD)},{hex_of(SILVER)}"))
    assert gold == [f"{b}-1" for b in range(1198, 1099, -2)]
    assert silver == [f"{b}-1" for b in range(1199, 1099, -2)]
    assert both == ids(api.get(path))
    assert ids(api.get(f"{path}&address={hex_of(USDC)}")) == []
    assert [i for page in walk(api, f"{path[:-4]}13&address={hex_of(SILVER)},{hex_of(USDC)}") for i in page] == silver


def test_the_only_address_of_a_contract_needs_no_index(api):
    assert len(ids(api.get(f"{TRANSFERS}?address={hex_of(USDC)},{hex_of(GOLD)}"))) == 100
    assert ids(api.get(f"{TRANSFERS}?address={hex_of(GOLD)}")) == []


def test_a_contract_by_an_address_has_that_address_only(api):
    by_address = api.get(f"/v1/contracts/{hex_of(PAIR_B)}/events/Sync?limit=1000")
    assert {row["address"] for row in by_address["data"]} == {hex_of(PAIR_B)}
    assert len(by_address["data"]) == 15
    assert api.get(f"/v1/contracts/0x{PAIR_A.hex().upper()}/events/Sync?limit=1")["data"][0]["address"] == hex_of(
        PAIR_A
    )
    row = by_address["data"][0]["id"]
    assert api.get(f"/v1/contracts/{hex_of(PAIR_B)}/events/Sync/{row}")["data"]["id"] == row
    api.refused(f"/v1/contracts/{hex_of(PAIR_A)}/events/Sync/{row}", 404, "NOT_FOUND")
    both = f"{hex_of(PAIR_A)},{hex_of(PAIR_B)}"
    assert len(ids(api.get(f"/v1/contracts/{hex_of(PAIR_B)}/events/Sync?address={both}"))) == 15
    assert ids(api.get(f"/v1/contracts/{hex_of(PAIR_B)}/events/Sync?address={hex_of(PAIR_A)}")) == []


def test_tokens_are_told_when_asked_for(api):
    answer = api.get("/v1/contracts/coins/events/Transfer?include=token&limit=2")
    assert answer["tokens"] == {
        hex_of(GOLD): {"symbol": "GLD", "name": "Gold", "decimals": 18},
        hex_of(SILVER): {"symbol": None, "name": None, "decimals": None},
    }
    answer = api.get("/v1/contracts/coins/events/Transfer?include=token&limit=1")
    assert list(answer["tokens"]) == [hex_of(SILVER)]
    assert api.get(f"{TRANSFERS}?include=token&to_block=999")["tokens"] == {}
    assert api.get(f"{TRANSFERS}/1000-3?include=token")["tokens"][hex_of(USDC)]["decimals"] == 6


def test_fields_choose_members(api):
    (row,) = api.get(f"{TRANSFERS}?limit=1&fields=block_number,args.value")["data"]
    assert row == {"block_number": 1299, "args": {"value": str(10**30 + 12997)}}
    (row,) = api.get(f"{TRANSFERS}?limit=1&fields=args,tx_index,id")["data"]
    assert set(row) == {"id", "tx_index", "args"}
    assert set(row["args"]) == {"from", "to", "value"}
    answer = api.get(f"{TRANSFERS}?limit=1&fields=finality")
    assert answer["page"]["next"].startswith("1299-7")
    api.refused(f"{TRANSFERS}?fields=nonsense", 400, "INVALID_PARAMETER")


def test_a_filter_without_an_index_needs_a_window(api):
    refused = api.refused(f"{TRANSFERS}?arg.value=5", 422, "QUERY_TOO_EXPENSIVE")
    assert "arg.value" in refused["error"]
    assert "at most 50 blocks" in refused["error"]
    value = 10**30 + 11003
    assert ids(api.get(f"{TRANSFERS}?arg.value={value}&from_block=1090&to_block=1139")) == ["1100-3"]
    api.refused(f"{TRANSFERS}?arg.value={value}&from_block=1090&to_block=1140", 422, "QUERY_TOO_EXPENSIVE")
    window = f"from_time={int(block_time(1100).timestamp())}&to_time={int(block_time(1110).timestamp())}"
    assert ids(api.get(f"{TRANSFERS}?arg.value={value}&{window}")) == ["1100-3"]
    hash_of = hex_of(tx_hash(1100, 3))
    assert ids(api.get(f"{TRANSFERS}?tx_hash={hash_of}&from_block=1100&to_block=1100")) == ["1100-3"]
    assert ids(api.get(f"{TRANSFERS}?tx_hash={hash_of}")) == ["1100-3"]
    # Beside an indexed argument it is only a further condition.
    assert ids(api.get(f"{TRANSFERS}?arg.value={value}&arg.from={hex_of(CAROL)}")) == ["1100-3"]


def test_an_index_that_is_built_later_serves(make_client, seed):
    asked = f"{TRANSFERS}?arg.value={10**30 + 11003}"
    client = make_client(api_unindexed_window=50)
    client.refused(asked, 422, "QUERY_TOO_EXPENSIVE")
    seed.execute("CREATE INDEX ON usdc.transfer (chain_id, value, block_number, log_index)")
    assert ids(make_client(api_unindexed_window=50).get(asked)) == ["1100-3"]


def test_chains_are_told_apart(api):
    path = "/v1/contracts/bridge/events/Transfer"
    api.refused(path, 400, "CHAIN_REQUIRED")
    assert api.get(f"{path}?chain=base")["data"][0]["args"]["value"] == "8453"
    assert api.get(f"{path}?chain=1")["data"][0]["args"]["value"] == "1"
    api.refused(f"{path}?chain=nowhere", 404, "CHAIN_NOT_FOUND")
    api.refused(f"{TRANSFERS}?chain=base", 404, "CHAIN_NOT_FOUND")


def test_cursors_above_finalized_carry_their_branch(api):
    answer = api.get(f"{TRANSFERS}?limit=1")
    assert answer["page"]["next"] == f"1299-7.{block_hash(1299).hex()[:12]}"
    assert api.get(f"{TRANSFERS}?limit=1&to_block=1200")["page"]["next"] == "1200-7"
    assert START < 1200


def test_overloads(api):
    names = [event["name"] for event in api.get("/v1/contracts/zoo/events")["data"]]
    overloaded = [name for name in names if name.startswith("Odd~")]
    assert len(overloaded) == 2
    refused = api.refused("/v1/contracts/zoo/events/Odd", 409, "AMBIGUOUS_EVENT")
    assert all(name in refused["error"] for name in overloaded)
    assert sum(len(api.get(f"/v1/contracts/zoo/events/{name}")["data"]) for name in overloaded) == 1
