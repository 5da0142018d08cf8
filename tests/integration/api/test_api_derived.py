"""Derived tables over HTTP: pages both ways by key and by index, filters, completeness, tags, exports, the document."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import httpx
import pytest

from gapless_client import AsyncGapless, Gapless
from indexer.store import database
from indexer.store.programs import program_generations, program_tables
from indexer.store.programs.program_tables import ProgramColumn, ProgramTable, TableChanges
from indexer.sync.history import derived_history
from tests.integration.api import world
from tests.integration.api.test_api_exports import lines, table

RULES = """
[derived.swaps]
from = "pair.Sync"
key = { pair = "contract_address", bucket = "block_number / 10", at = "gapless.day(block_time)" }
count = "swaps"
sum = { volume = "reserve0 + 0.5" }
last = { seen = "block_time", label = "'a \\"b\\" %'::text" }
index = [["swaps"], ["seen"]]
comment = "Swaps of ten blocks"

[derived.senders]
from = "usdc.Transfer"
key = { sender = "from_address" }
count = "transfers"

[derived.prices]
from = "pair.Sync"
select = { twice = "reserve0 * 2" }

[derived.busy]
sql = "SELECT chain_id, pair, sum(swaps) AS swaps FROM derived.swaps GROUP BY 1, 2"
key = ["chain_id", "pair"]
"""


@pytest.fixture
def derived(seed, own):
    seed.declare(world.MANIFEST + RULES)
    engine = database.create_engine(seed.url)
    derived_history.catch_up(engine, 1)
    engine.dispose()
    return own


def walk(client, path, limit):
    rows, page = [], client.get(f"{path}&limit={limit}")
    while page["data"]:
        rows += page["data"]
        page = client.get(f"{path}&limit={limit}&after={page['page']['last']}")
    return rows


def test_what_there_is_and_what_is_none_is_told(derived):
    tables = {one["name"]: one for one in derived.get("/v1/derived")["data"]}
    told = {one["name"]: one for one in derived.get("/status")["data"]["derived"]}
    assert (told["swaps"]["kind"], told["swaps"]["stale"], told["swaps"]["problem"]) == ("aggregate", False, None)
    assert told["swaps"]["blocks_wanted"] > told["swaps"]["blocks_missing"] >= 0
    assert set(tables) == {"swaps", "senders", "prices", "busy"}
    swaps = tables["swaps"]
    assert (swaps["kind"], swaps["stale"], swaps["comment"]) == ("aggregate", False, "Swaps of ten blocks")
    assert swaps["sort"] == ["key", "swaps", "seen"]
    assert {c["name"]: c["type"] for c in swaps["columns"]}["volume"] == "numeric"
    assert "did you mean 'swaps'" in str(derived.refused("/v1/derived/swap?chain=1", 404, "NOT_FOUND"))
    for query, part in (
        ("sort=volume", "swaps, seen"),
        ("at_block=5", "newest state only"),
        ("col.volume=1", "not a parameter here"),
        ("col.bucket.gte=x", "col.bucket.gte"),
        ("after=00", "page.next"),
    ):
        answer = derived.ask(f"/v1/derived/swaps?chain=1&{query}")
        assert answer.status_code in (400, 422), answer.text
        assert part in answer.text


@pytest.mark.promise("D-05")
@pytest.mark.parametrize("sort", ["key", "swaps", "seen"])
def test_pages_walk_both_ways_in_every_order(derived, seed, sort):
    path = f"/v1/derived/swaps?chain=1&sort={sort}"
    whole = derived.get(f"{path}&limit=1000")["data"]
    by = "pair, bucket, at" if sort == "key" else f"{sort}, pair, bucket, at"
    rows = seed.execute(f"SELECT '0x' || encode(pair, 'hex'), bucket, swaps, volume FROM derived.swaps ORDER BY {by}")
    expected = [(a, str(b), str(c), str(d)) for a, b, c, d in rows.fetchall()]
    assert [(r["pair"], r["bucket"], r["swaps"], r["volume"]) for r in whole] == expected
    assert len(whole) > 3
    assert walk(derived, path, 2) == whole
    assert walk(derived, f"{path}&order=desc", 2) == whole[::-1]
    last = derived.get(f"{path}&limit=2&order=desc")
    before = derived.get(f"{path}&limit=2&before={last['page']['last']}")
    assert before["data"] == whole[-4:-2]
    assert whole[0]["label"] == 'a "b" %'


def test_a_block_is_answered_for_where_rows_are_of_blocks(derived, program, seed):
    path, block = "/v1/derived/prices?chain=1&limit=1000", 1070
    whole = derived.get(path)["data"]
    past = derived.get(f"{path}&at_block={block}&count=exact")
    assert past["data"] == [row for row in whole if int(row["block_number"]) <= block]
    assert 0 < past["page"]["count"] == len(past["data"]) < len(whole)
    assert past["meta"]["complete"] is True
    assert walk(derived, "/v1/derived/prices?chain=1&at_block=1070", 2) == past["data"]
    assert lines(derived.ask(f"{path}&at_block={block}&format=ndjson").text) == past["data"]
    # A gap behind the block is none; one before it is told.
    gap = (seed.execute("SELECT min(block_number) FROM derived.prices").fetchone()[0], block + 5)
    for first, missing in ((gap[1], []), (gap[0], [[gap[0], block]])):
        seed.cover("pair", (world.START, first - 1))
        meta = derived.get(f"{path}&at_block={block}")["meta"]
        assert (meta["complete"], meta["missing"]) == (not missing, missing)
    derived.refused(f"{path}&at_block={world.TIP + 1}", 409, "BLOCK_NOT_INDEXED")
    for name, instead in (
        ("swaps", "col.bucket.lte, col.at.lte"),
        ("senders", "to_block"),
        ("busy", "gapless.balance_at"),
        ("position", "meta says how far"),
    ):
        body = derived.refused(f"/v1/derived/{name}?chain=1&at_block={block}", 422, "KIND_UNSUPPORTED")
        assert f"not that of block {block}" in body["error"]
        assert instead in body["error"]


def test_filters_counts_exports_and_tags(derived, seed):
    path = "/v1/derived/swaps?chain=1"
    whole = derived.get(f"{path}&limit=1000&count=exact")
    assert whole["page"]["count"] == len(whole["data"])
    pair = whole["data"][0]["pair"]
    mine = [row for row in whole["data"] if row["pair"] == pair and int(row["bucket"]) >= 107]
    found = derived.get(f"{path}&col.pair={pair}&col.bucket.gte=107&limit=1000")
    assert found["data"] == mine
    seen = whole["data"][1]["seen"]
    assert all(row["seen"] >= seen for row in derived.get(f"{path}&col.seen.gte={seen}&limit=1000")["data"])
    assert derived.get(f"{path}&fields=pair,swaps&limit=1")["data"] == [
        {name: whole["data"][0][name] for name in ("pair", "swaps")}
    ]
    assert lines(derived.ask(f"{path}&format=ndjson").text) == whole["data"]
    assert [row["pair"] for row in table(derived.ask(f"{path}&format=csv").text)] == [
        row["pair"] for row in whole["data"]
    ]
    first = derived.ask(f"{path}&limit=1")
    tag = first.headers["ETag"]
    assert derived.ask(f"{path}&limit=1", if_none_match=tag).status_code == 304
    seed.execute("UPDATE gapless.derived_progress SET version = version + 1")
    assert derived.ask(f"{path}&limit=1", if_none_match=tag).status_code == 200


@pytest.mark.promise("D-05")
def test_what_is_missing_is_told(derived, seed):
    assert derived.get("/v1/derived/senders?chain=1")["meta"]["missing"] == [list(world.GAP)]
    for name in ("swaps", "prices", "busy"):
        assert derived.get(f"/v1/derived/{name}?chain=1&limit=1")["meta"]["complete"] is True
    seed.execute("UPDATE gapless.derived_progress SET coverage = coverage - '{[1070,1080)}'")
    for name in ("swaps", "busy"):
        meta = derived.get(f"/v1/derived/{name}?chain=1")["meta"]
        assert (meta["complete"], meta["missing"]) == (False, [[1070, 1079]])
    assert derived.get("/v1/derived/prices?chain=1")["meta"]["complete"] is True


@pytest.fixture
def program(derived, seed):
    """A program's table with five rows, which has handled blocks 1000 to 1079."""
    columns = (
        ProgramColumn("owner", "bytea", key=True, comment="who has it"),
        ProgramColumn("since", "timestamptz", key=True),
        ProgramColumn("amount", "numeric(78,0)", nullable=True),
    )
    engine = database.create_engine(seed.url)
    with engine.begin() as connection:
        one = program_generations.begin(
            connection, "positions", 1, code_hash="", event_ids=[], start_block=1000,
            tables=[ProgramTable("position", columns, comment="Shares of pairs")],
        )  # fmt: skip
        rows = [(bytes(19) + bytes([at]), 1_704_067_200 + at * 86_400, at or None) for at in range(5)]
        program_tables.write(connection, 1, one.tables[0], TableChanges(added=rows))
        program_generations.move(connection, one, 1079, near=False)
        program_generations.change_ends(connection)
    yield derived
    engine.dispose()


@pytest.mark.promise("D-05")
def test_a_program_s_tables_are_served_alike(program, seed):
    (listed,) = [one for one in program.get("/v1/derived")["data"] if one["kind"] == "program"]
    assert (listed["name"], listed["comment"], listed["stale"]) == ("position", "Shares of pairs", False)
    assert (listed["key"], listed["sort"]) == (["chain_id", "owner", "since"], ["key"])
    assert [(c["name"], c["type"]) for c in listed["columns"]] == [
        ("chain_id", "bigint"), ("owner", "bytea"), ("since", "timestamp with time zone"), ("amount", "numeric(78,0)"),
    ]  # fmt: skip
    assert listed["columns"][1]["comment"] == "who has it"

    path = "/v1/derived/position?chain=1"
    whole = program.get(f"{path}&limit=1000")
    assert [row["amount"] for row in whole["data"]] == [None, "1", "2", "3", "4"]
    assert walk(program, path, 2) == whole["data"]
    assert walk(program, f"{path}&order=desc", 2) == whole["data"][::-1]
    assert program.get(f"{path}&col.owner={whole['data'][3]['owner']}")["data"] == whole["data"][3:4]
    assert program.get(f"{path}&col.since.gte={whole['data'][3]['since']}")["data"] == whole["data"][3:]
    assert lines(program.ask(f"{path}&format=ndjson").text) == whole["data"]
    tip = seed.execute("SELECT tip_number FROM gapless.chains WHERE chain_id = 1").fetchone()[0]
    assert (whole["meta"]["complete"], whole["meta"]["missing"]) == (False, [[1080, tip]])

    tag = program.ask(path).headers["ETag"]
    assert program.ask(path, if_none_match=tag).status_code == 304
    seed.execute("UPDATE gapless.programs SET through_block = %s, version = version + 1", (tip,))
    assert program.ask(path, if_none_match=tag).status_code == 200
    assert program.get(path)["meta"]["complete"] is True
    # Rows that it has handled are others now.
    seed.execute("INSERT INTO gapless.program_disturbances SELECT 1, id, 1050, 'repaired' FROM gapless.programs")
    seed.execute("UPDATE gapless.programs SET problem = 'it fails', problem_block = %s", (tip + 1,))
    assert program.get(path)["meta"]["missing"] == [[1050, tip]]
    (listed,) = [one for one in program.get("/v1/derived")["data"] if one["kind"] == "program"]
    assert (listed["stale"], listed["problem"]) == (True, "it fails")
    seed.execute("INSERT INTO gapless.program_standstills VALUES ('stakes', 1, 'stakes.py, line 1: NameError: x')")
    told = {one["name"]: one for one in program.get("/status")["data"]["programs"]}
    assert (told["positions"]["problem"], told["positions"]["true_at_block"]) == ("it fails", tip)
    assert told["stakes"] == {
        "name": "stakes", "chain_id": 1, "stale": True, "problem": "stakes.py, line 1: NameError: x",
        "true_at_block": None, "rebuilt_to": None, "tables": [],
    }  # fmt: skip

    document = program.get("/openapi.json")
    rows = document["components"]["schemas"][document["x-gapless"]["derived"]["position"]]
    assert set(rows["properties"]) == {"owner", "since", "amount"}


def test_the_python_client_reads_them_with_their_types(derived, seed):
    columns = "'0x' || encode(pair, 'hex'), bucket, swaps, volume, seen"
    truth = [list(row) for row in seed.execute(f"SELECT {columns} FROM derived.swaps ORDER BY pair, bucket, at")]
    assert len(truth) > 3
    app = derived.http.app
    with Gapless("http://test", http=httpx.Client(transport=httpx.WSGITransport(app=app))) as client:
        rows = client.derived("swaps", chain=1, limit=2)
        names = ("pair", "bucket", "swaps", "volume")
        assert [[row[name] for name in names] for row in rows] == [row[:4] for row in truth]
        assert {type(row["volume"]) for row in rows} == {Decimal}
        table = rows.to_arrow()
        assert [str(table.schema.field(name).type) for name in names] == [
            "string", "int64", "int64", "decimal256(76, 1)",
        ]  # fmt: skip
        frame = rows.to_pandas()
        assert list(frame["volume"]) == [row[3] for row in truth]
        assert list(frame["seen"]) == [row[4] for row in truth]
        where = {"pair": truth[-1][0], "bucket.gte": 107, "seen.lte": truth[-1][4]}
        page = client.derived_page("swaps", where=where, chain=1, order="desc", sort="seen", limit=1)
        assert [row["bucket"] for row in page.rows] == [
            max(row[1] for row in truth if row[0] == truth[-1][0] and row[1] >= 107)
        ]
        assert page.meta["complete"] is True
        (listed,) = [one for one in client.get("/v1/derived")["data"] if one["name"] == "swaps"]
        assert listed["key"] == ["chain_id", "pair", "bucket", "at"]

    async def walked() -> list[int]:
        def whole(request: httpx.Request) -> httpx.Response:
            answered = httpx.WSGITransport(app=app).handle_request(request)
            return httpx.Response(answered.status_code, content=answered.read())

        http = httpx.AsyncClient(transport=httpx.MockTransport(whole))
        async with AsyncGapless("http://test", http=http) as client:
            return [row["swaps"] async for row in client.derived("swaps", chain=1, limit=3)]

    assert asyncio.run(walked()) == [row[2] for row in truth]


def test_rows_are_described(derived):
    document = derived.get("/openapi.json")
    assert "/v1/derived/{table}" in document["paths"]
    rows = document["components"]["schemas"][document["x-gapless"]["derived"]["swaps"]]
    assert set(rows["properties"]) >= {"pair", "bucket", "swaps", "volume"}
    assert rows["properties"]["swaps"]["anyOf"][0] == {"$ref": "#/components/schemas/int64"}
    assert (rows["x-key"], rows["x-sort"]) == (["pair", "bucket", "at"], ["key", "swaps", "seen"])
    assert {"pair", "pair.in", "swaps.gte"} < set(rows["x-filters"])
    assert "volume" not in rows["x-filters"]
