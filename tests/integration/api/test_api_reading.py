"""Reading while the chain moves: as of a block, no earlier than a block, through reorganisations."""

import threading

import pytest

from tests.integration.api.seed import Seed, block_hash, hex_of
from tests.integration.api.world import ALICE, BOB, CAROL, HEAD, TIP, USDC

TRANSFERS = "/v1/contracts/usdc/events/Transfer"


def ids(answer) -> list[str]:
    return [row["id"] for row in answer["data"]]


def transfer(block: int, log: int, branch: int, value: int = 0) -> dict:
    return {"block": block, "log": log, "branch": branch, "address": USDC, "from": ALICE, "to": BOB, "value": value}


def test_as_of_a_block(api):
    assert ids(api.get(f"{TRANSFERS}?limit=1&at_block=1150")) == ["1150-7"]
    assert ids(api.get(f"{TRANSFERS}?limit=1&at_block={TIP}")) == [f"{TIP}-7"]
    assert ids(api.get(f"{TRANSFERS}?limit=1&at_block=1150&to_block=1100")) == ["1100-7"]
    assert ids(api.get(f"{TRANSFERS}?limit=1&at_block=1150&finality=finalized")) == ["1150-7"]
    assert str(TIP) in api.refused(f"{TRANSFERS}?at_block={HEAD}", 409, "BLOCK_NOT_INDEXED")["error"]


def test_the_head_is_never_behind_what_is_indexed(own, seed):
    seed.execute("UPDATE gapless.chains SET head_number = 1290")
    assert own.get(TRANSFERS)["meta"]["head_block"] == TIP
    assert own.get("/status")["data"]["chains"][0]["head_block"] == TIP


@pytest.mark.promise("A-05")
def test_no_earlier_than_a_block(api):
    assert ids(api.get(f"{TRANSFERS}?limit=1&min_block={TIP}")) == [f"{TIP}-7"]
    result = api.ask(f"{TRANSFERS}?min_block={HEAD}")
    assert (result.status_code, result.json["code"]) == (409, "BLOCK_NOT_INDEXED")
    assert result.headers["retry-after"] == "1"


@pytest.mark.promise("A-02", "H-08")
def test_a_cursor_of_a_block_that_is_gone(own, seed):
    first = own.get(f"{TRANSFERS}?limit=3")
    cursor = first["page"]["next"]
    assert cursor == f"1298-7.{block_hash(1298).hex()[:12]}"
    seed.reorg(1290, TIP, branch=1)
    body = own.refused(f"{TRANSFERS}?limit=3&after={cursor}", 409, "REORGED")
    assert body["common_block"] == 1290
    assert "1290" in body["error"]
    # The id alone says nothing about the branch, and is read as a place in the order.
    assert ids(own.get(f"{TRANSFERS}?limit=1&after=1298-7")) == ["1290-7"]
    fresh = own.get(f"{TRANSFERS}?limit=1")
    assert ids(fresh) == ["1290-7"]
    assert own.get(f"{TRANSFERS}?limit=1&after={fresh['page']['next']}")["data"]


@pytest.mark.promise("A-02")
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_cursor_below_a_reorganisation_goes_on(own, seed, order):
    cursor = f"1280-3.{block_hash(1280).hex()[:12]}"
    seed.reorg(1290, TIP, branch=1)
    assert own.get(f"{TRANSFERS}?order={order}&after={cursor}")["data"]


@pytest.mark.promise("H-08")
def test_the_common_block_is_that_of_all_reorganisations_since(own, seed):
    cursor = own.get(f"{TRANSFERS}?limit=1")["page"]["next"]
    seed.reorg(1295, TIP, branch=1)
    seed.reorg(1270, TIP, branch=2, old_branch=1)
    assert own.refused(f"{TRANSFERS}?after={cursor}", 409, "REORGED")["common_block"] == 1270
    later = f"1296-0.{block_hash(1296, 1).hex()[:12]}"
    assert own.refused(f"{TRANSFERS}?after={later}", 409, "REORGED")["common_block"] == 1270


def test_a_branch_that_came_back_is_good_again(own, seed):
    cursor = own.get(f"{TRANSFERS}?limit=1")["page"]["next"]
    seed.reorg(1290, TIP, branch=1)
    own.refused(f"{TRANSFERS}?after={cursor}", 409, "REORGED")
    seed.reorg(1290, TIP, branch=0, old_branch=1)
    assert own.get(f"{TRANSFERS}?after={cursor}")["data"]


def test_a_cursor_of_another_chain_or_database(api):
    assert "never indexed" in api.refused(f"{TRANSFERS}?after=1299-3.0102030405ff", 400, "INVALID_CURSOR")["error"]


def test_a_cursor_of_an_old_block_that_is_not_kept_any_more(own, seed):
    """Blocks that bore no log are thinned out once they are old; a stream may stand at one of them."""
    silent, gone = (f"{number}-3.{block_hash(number).hex()[:12]}" for number in (1250, 1298))
    seed.reorg(1290, TIP, branch=1)
    seed.execute("DELETE FROM gapless.blocks WHERE number IN (1250, 1298)")
    own.refused(f"{TRANSFERS}?after={silent}", 400, "INVALID_CURSOR")
    seed.execute("UPDATE gapless.chains SET thinned_number = 1298")
    assert own.get(f"{TRANSFERS}?after={silent}")["data"]
    assert own.refused(f"{TRANSFERS}?after={gone}", 409, "REORGED")["common_block"] == 1290
    # One that is kept, with another hash, was never of this chain.
    own.refused(f"{TRANSFERS}?after=1251-3.0102030405ff", 400, "INVALID_CURSOR")


def test_a_cursor_stays_good_when_its_block_becomes_final(own, seed):
    cursor = own.get(f"{TRANSFERS}?limit=1")["page"]["next"]
    seed.head(TIP, finalized=TIP, safe=TIP)
    assert own.get(f"{TRANSFERS}?limit=1&after={cursor}")["page"]["next"] == "1299-3"


def test_counts(api, make_client):
    rows = 2 * (300 - 10)
    assert "count" not in api.get(TRANSFERS)["page"]
    for kind in ("exact", "estimated"):
        page = api.get(f"{TRANSFERS}?limit=1&count={kind}")["page"]
        assert (page["count"], page["count_is"]) == (rows, "exact")
    page = api.get(f"{TRANSFERS}?count=exact&limit=1&from_block=1290&after=1295-3")["page"]
    assert page["count"] == 20  # of the request, wherever the page stands
    third = api.get(f"{TRANSFERS}?count=exact&limit=1&arg.from={hex_of(CAROL)}&finality=finalized")["page"]["count"]
    assert third == len(api.get(f"{TRANSFERS}?limit=1000&arg.from={hex_of(CAROL)}&finality=finalized")["data"])
    api.refused(f"{TRANSFERS}?count=exact&arg.value=5", 422, "QUERY_TOO_EXPENSIVE")


def test_a_large_count_is_estimated(own, seed, monkeypatch):
    monkeypatch.setattr("api.sql.query_shape.COUNT_LIMIT", 100)
    seed.execute("ANALYZE")
    page = own.get(f"{TRANSFERS}?count=estimated&limit=1")["page"]
    assert page["count_is"] == "estimated"
    assert 101 <= page["count"] < 10_000
    assert own.get(f"{TRANSFERS}?count=exact&limit=1")["page"] == page | {"count": 580, "count_is": "exact"}


@pytest.mark.promise("A-10")
def test_a_query_that_takes_too_long_is_not_a_5xx(make_client, seed):
    seed.execute("""
        CREATE FUNCTION public.slow(bytea) RETURNS bytea LANGUAGE sql VOLATILE AS 'SELECT $1 FROM pg_sleep(5)';
        ALTER TABLE usdc.transfer RENAME TO fast;
        CREATE VIEW usdc.transfer AS
            SELECT chain_id, block_number, block_time, public.slow(tx_hash) AS tx_hash, tx_index, log_index,
                   contract_address, from_address, to_address, value FROM usdc.fast
    """)
    make_client(api_statement_timeout=0.2).refused(TRANSFERS, 422, "QUERY_TOO_EXPENSIVE")


@pytest.mark.promise("A-03")
def test_readers_never_see_two_branches_in_one_answer(world_url, make_client, seed, tmp_path):
    """A writer swaps branches all the time; each answer must be of one of them, as its cursor says it is."""
    writer = Seed(world_url, tmp_path)
    swaps, stop = 60, threading.Event()
    blocks = range(1281, TIP + 1)

    def swap(branch: int) -> None:
        with writer.connection.transaction():
            writer.reorg(1280, TIP, branch=branch, old_branch=branch - 1)
            rows = [transfer(block, log, branch, value=branch) for block in blocks for log in (0, 1)]
            writer.rows("usdc", "Transfer", rows)

    def swap_on() -> None:
        try:
            for branch in range(2, swaps + 1):
                swap(branch)
        finally:
            stop.set()

    swap(1)
    client = make_client()
    client.get(TRANSFERS)
    swapping = threading.Thread(target=swap_on)
    swapping.start()
    seen: set[str] = set()
    while not stop.is_set():
        answer = client.get(f"{TRANSFERS}?from_block=1281&limit=30")
        values = {row["args"]["value"] for row in answer["data"]}
        assert len(values) == 1
        assert len(answer["data"]) == 30
        block, _, branch = answer["page"]["next"].replace("-", ".").split(".")
        assert branch == block_hash(int(block), int(*values)).hex()[:12]
        seen |= values
    swapping.join()
    writer.close()
    assert len(seen) > 1


def test_a_follower_goes_on_from_the_last_row(own, seed):
    page = own.get(f"{TRANSFERS}?order=asc&from_block=1298")["page"]
    assert page["next"] is None
    assert page["last"] == f"1299-7.{block_hash(1299).hex()[:12]}"
    following = f"{TRANSFERS}?order=asc&after={page['last']}"
    assert own.get(following)["data"] == []
    assert own.get(following)["page"]["last"] is None
    seed.rows("usdc", "Transfer", [transfer(HEAD, 0, 0)])
    seed.cover("usdc", (1000, HEAD))
    seed.head(HEAD)
    assert ids(own.get(following)) == [f"{HEAD}-0"]
    seed.reorg(1298, HEAD, branch=1)
    own.refused(following, 409, "REORGED")


@pytest.mark.promise("A-01")
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_walk_while_the_head_moves_finds_every_finalized_row_once(world_url, make_client, seed, tmp_path, order):
    writer = Seed(world_url, tmp_path)
    stop = threading.Event()

    def grow() -> None:
        number = TIP
        while not stop.is_set():
            number += 1
            with writer.connection.transaction():
                writer.rows("usdc", "Transfer", [transfer(number, log, 0) for log in range(5)])
                writer.cover("usdc", (1000, 1039), (1050, number))
                writer.head(number, finalized=1200, safe=1250)
            if number % 10 == 0:
                with writer.connection.transaction():
                    writer.reorg(number - 5, number, branch=0)
        writer.close()

    client = make_client()
    client.get(TRANSFERS)
    growing = threading.Thread(target=grow)
    growing.start()
    try:
        rows: list[str] = []
        cursor = ""
        while True:
            # Ascending, the walk would follow the growing head for ever: it ends when it has seen all that was final.
            answer = client.ask(f"{TRANSFERS}?order={order}&limit=40{cursor}")
            if answer.status_code == 409:
                common = answer.json["common_block"]
                rows = [r for r in rows if int(r.partition("-")[0]) <= common]
                cursor = f"&after={rows[-1]}" if rows else ""
                continue
            assert answer.status_code == 200
            rows += ids(answer.json)
            if answer.json["page"]["next"] is None or (order == "asc" and int(rows[-1].partition("-")[0]) > 1250):
                break
            cursor = f"&after={answer.json['page']['next']}"
    finally:
        stop.set()
        growing.join()
    final = [r for r in rows if int(r.partition("-")[0]) <= 1200]
    everything = [f"{b}-{log}" for b in range(1000, 1201) if not 1040 <= b <= 1049 for log in (3, 7)]
    assert final == (everything if order == "asc" else everything[::-1])


@pytest.mark.promise("A-04")
@pytest.mark.parametrize("finality", ["safe", "finalized"])
@pytest.mark.parametrize("path", [TRANSFERS, f"{TRANSFERS}/daily", "/v1/events?chain=1"])
def test_nothing_is_complete_while_nobody_knows_what_is_final(own, seed, path, finality):
    asked = f"{path}{'&' if '?' in path else '?'}finality={finality}&from_block=1100&to_block=1150"
    assert own.get(asked)["meta"]["complete"] is True
    seed.execute("UPDATE gapless.chains SET safe_number = NULL, finalized_number = NULL")
    answer = own.get(asked)
    assert (answer["data"], answer["meta"]["complete"]) == ([], False)
    assert own.ask(f"{asked}&format=ndjson").headers["x-complete"] == "false"
