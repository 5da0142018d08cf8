"""Streams of derived rows: what changes of a page is told, so that a client that applies it has the page."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from api.context import create_context
from api.settings import ApiSettings
from gapless_client import DerivedRows, Gapless
from indexer.store import database
from indexer.sync.history import derived_history
from tests.integration.api import world
from tests.integration.api.growing import headers
from tests.integration.api.listening import Listener, Told, served
from tests.integration.api.test_api_derived import RULES, derived, program  # noqa: F401
from tests.integration.api.test_api_streams_views import until

PATH = "/v1/derived/swaps"
PAIR = world.PAIR_A
KEYS = ("pair", "bucket", "at")


@pytest.fixture
def port(world_url: str, derived: Any, seed) -> Iterator[int]:  # noqa: F811
    headers(seed)
    with ExitStack() as stack:
        context = create_context(ApiSettings(), world_url, None)
        stack.callback(context.close)
        yield stack.enter_context(served(context, world_url))


@pytest.fixture
def listen(port: int) -> Iterator[Callable[..., Listener]]:
    with ExitStack() as stack:

        def start(path: str, **more: Any) -> Listener:
            listener = stack.enter_context(Listener(port, path, **more).connect())
            assert listener.status == 200, listener.body()
            return listener

        yield start


class Held:
    """What a client has of a page."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], Any] = {}

    def take(self, told: Told) -> Told:
        if told.data["reset"]:
            self.rows = {}
        for row in told.data["data"]:
            self.rows[tuple(row[name] for name in KEYS)] = row
        for key in told.data["gone"]:
            assert set(key) == set(KEYS)
            del self.rows[tuple(key[name] for name in KEYS)]
        return told


def by_key(rows: Any) -> dict[tuple[Any, ...], Any]:
    return {tuple(row[name] for name in KEYS): row for row in rows}


def change(seed, statement: str, *values: Any) -> None:
    """What a writer does: rows and the version in one transaction."""
    with seed.connection.transaction():
        seed.execute(statement, values)
        seed.execute("UPDATE gapless.derived_progress SET version = version + 1")


def catch_up(seed) -> None:
    engine = database.create_engine(seed.url)
    derived_history.catch_up(engine, 1)
    engine.dispose()


@pytest.mark.promise("L-07")
@pytest.mark.parametrize("query", ["", "&sort=swaps&order=desc&limit=4", f"&col.pair=0x{PAIR.hex()}&order=desc"])
def test_what_is_told_makes_the_page(listen, seed, own, query):
    chance, held = random.Random(query), Held()
    page = f"{PATH}?chain=1{query}" + ("" if "limit" in query else "&limit=1000")
    with listen(f"{PATH}/stream?chain=1{query}") as listener:
        first = held.take(until(listener, "derived"))
        assert (first.data["reset"], first.data["gone"]) == (True, [])
        assert first.data["data"] == own.get(page)["data"]
        for turn in range(12):
            kind = chance.choice(("new", "changed", "gone"))
            bucket = chance.choice(seed.execute("SELECT bucket FROM derived.swaps").fetchall())[0]
            if kind == "new":
                like = "(jsonb_populate_record(s, jsonb_build_object('bucket', %s::int))).*"
                change(
                    seed,
                    f"INSERT INTO derived.swaps_g1 SELECT {like} FROM derived.swaps_g1 s WHERE pair = %s LIMIT 1",
                    200 + turn, PAIR,
                )  # fmt: skip
            elif kind == "changed":
                change(seed, "UPDATE derived.swaps SET swaps = swaps + 1 WHERE bucket = %s", bucket)
            else:
                change(seed, "DELETE FROM derived.swaps WHERE bucket = %s AND pair = %s", bucket, PAIR)
            truth = own.get(page)
            while held.rows != by_key(truth["data"]):
                told = held.take(until(listener, "derived"))
                assert not told.data["reset"]
                assert len(told.data["data"]) + len(told.data["gone"]) < 8
            assert all(
                one.data["all"] is (truth["page"]["next"] is None)
                for one in listener.told[-1:]
                if one.name == "derived"
            )


def test_a_client_that_comes_back_hears_what_changed_meanwhile(listen, seed):
    held = Held()
    with listen(f"{PATH}/stream?chain=1") as listener:
        held.take(until(listener, "derived"))
        place = listener.last_id
    with listen(f"{PATH}/stream?chain=1", last_id=place) as listener:
        until(listener, "status")
        change(seed, "UPDATE derived.swaps SET swaps = 77 WHERE bucket = (SELECT max(bucket) FROM derived.swaps)")
        told = held.take(until(listener, "derived"))
        assert [one.name for one in listener.told].count("derived") == 1
        assert not told.data["reset"]
        assert {row["swaps"] for row in told.data["data"]} == {"77"}
    # What it was told is not known here: another process, or long ago.
    build, block, digest = place.split("-")
    with listen(f"{PATH}/stream?chain=1", last_id=f"{build}-{block}-{'0' * len(digest)}") as listener:
        told = held.take(until(listener, "derived"))
        assert told.data["reset"]
        assert len(told.data["data"]) == len(held.rows)
    # Of another build it was told nothing that holds.
    with listen(f"{PATH}/stream?chain=1", last_id=f"{int(build) + 1}-{block}-{digest}") as listener:
        assert until(listener, "derived").data["reset"]


@pytest.mark.promise("L-07")
def test_late_history_and_another_rule_are_told(listen, seed, own):
    with listen(f"{PATH}/stream?chain=1") as listener:
        held = Held()
        first = held.take(until(listener, "derived"))
        seed.execute("UPDATE gapless.derived_progress SET coverage = coverage - '{[1070,1080)}', version = version + 1")
        seed.execute(
            "DELETE FROM derived.swaps WHERE bucket = 107",
        )
        change(seed, "SELECT 1")
        while any(key[1] == "107" for key in held.rows):
            assert not held.take(until(listener, "derived")).data["reset"]
        catch_up(seed)
        while held.rows != by_key(first.data["data"]):
            assert not held.take(until(listener, "derived")).data["reset"]
        seed.declare(world.MANIFEST + RULES.replace("reserve0 + 0.5", "reserve0 + 1"))
        catch_up(seed)
        while not (told := held.take(until(listener, "derived"))).data["reset"]:
            pass
        assert told.id.split("-")[0] != first.id.split("-")[0]
        own_page = own.get(f"{PATH}?chain=1&limit=1000")["data"]
        assert held.rows == by_key(own_page)
        # Another key, and a column that is there no more.
        buckets = ', bucket = "block_number / 10", at = "gapless.day(block_time)"'
        seed.declare(world.MANIFEST + RULES.replace(buckets, "").replace(", label = ", ", text = "))
        catch_up(seed)
        build = told.id.split("-")[0]
        while (told := until(listener, "derived")).id.split("-")[0] == build or "bucket" in told.data["data"][0]:
            pass
        assert told.data["reset"]
        assert told.data["data"] == own.get(f"{PATH}?chain=1&limit=1000")["data"]


def test_how_far_it_is_counted_is_told(listen, seed):
    change(seed, "UPDATE gapless.derived_progress SET coverage = coverage - '{[1290,2000)}'")
    with listen(f"{PATH}/stream?chain=1") as listener:
        status = until(listener, "status").data
        assert (status["through_block"], status["meta"]["missing"]) == (1289, [[1290, world.TIP]])
        change(seed, "UPDATE gapless.derived_progress SET coverage = coverage + '{[1290,2000)}'")
        while status["through_block"] != world.TIP:
            status = until(listener, "status").data
        assert status["meta"]["complete"] is True


def test_a_program_s_table_and_the_python_client(program, port, seed):  # noqa: F811
    with Gapless(f"http://127.0.0.1:{port}") as client:
        stream = client.stream_derived("position", chain=1, order="desc", limit=3)
        told = next(message for message in stream if isinstance(message, DerivedRows))
        assert (told.is_reset, told.is_all, [row["amount"] for row in told.rows]) == (True, False, [4, 3, 2])
        with seed.connection.transaction():
            seed.execute("DELETE FROM derived.position WHERE amount = 3")
            seed.execute("UPDATE gapless.programs SET version = version + 1")
        told = next(message for message in stream if isinstance(message, DerivedRows))
        assert (told.is_reset, [row["amount"] for row in told.rows]) == (False, [1])
        assert [set(key) for key in told.gone] == [{"owner", "since"}]
        where = {"owner": told.rows[0]["owner"]}
        mine = client.stream_derived("position", where=where, chain=1)
        assert len(next(message for message in mine if isinstance(message, DerivedRows)).rows) == 1


def test_refusals(port):
    for path, sent, status, part in (
        ("/v1/derived/busy/stream?chain=1", {}, 422, "Follow the streams of what it reads"),
        ("/v1/derived/prices/stream?chain=1", {}, 422, "Follow the stream of the event whose rows it shows"),
        ("/v1/derived/nothing/stream?chain=1", {}, 404, "NOT_FOUND"),
        (f"{PATH}/stream", {}, 400, "CHAIN_REQUIRED"),
        (f"{PATH}/stream?chain=1", {"last_id": "5-3"}, 400, "INVALID_CURSOR"),
        (f"{PATH}/stream?chain=1&after=5-3", {}, 400, "INVALID_CURSOR"),
        (f"{PATH}/stream?chain=1&before=00", {}, 400, "UNKNOWN_PARAMETER"),
        (f"{PATH}/stream?chain=1&limit=1001", {}, 400, "INVALID_PARAMETER"),
        (f"{PATH}/stream?chain=1&sort=volume", {}, 400, "swaps, seen"),
        (f"{PATH}/stream?chain=1&col.volume=1", {}, 400, "UNKNOWN_PARAMETER"),
    ):
        with Listener(port, path, **sent).connect() as listener:
            body = listener.body()
            assert (listener.status, part in str(body)) == (status, True), body
