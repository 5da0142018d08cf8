"""Streams from outside: a real listener, a real Postgres, and clients that read what comes over the wire."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from api.catalog import Catalog
from api.context import Context, create_context
from api.database import Database
from api.live.changes import Scope, read
from api.live.hub import POLL, Hub
from api.live.scopes import feed_scope
from api.live.topic import Topic
from api.resources.feed import events_of
from api.settings import ApiSettings
from indexer.store import database
from indexer.store.access import keys
from tests.integration.api.growing import grow, headers, swap, transfer, transfers
from tests.integration.api.listening import TRANSFERS, EndedError, Listener, served
from tests.integration.api.seed import Seed, block_hash, hex_of
from tests.integration.api.world import ALICE, FINALIZED, GAP, MANIFEST, START, TIP

FEED = "/v1/events/stream"


def ids(first: int, last: int) -> list[str]:
    return [f"{block}-{log}" for block in range(first, last + 1) for log in (3, 7)]


@dataclass
class Serving:
    """An API in this process."""

    port: int
    context: Context

    def listen(self, path: str = TRANSFERS, **more: Any) -> Listener:
        listener = Listener(self.port, path, **more).connect()
        assert listener.status == 200, listener.body()
        return listener

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def refused(self, path: str, **sent: str) -> tuple[int, str]:
        listener = Listener(self.port, path, headers={k.replace("_", "-"): v for k, v in sent.items()}).connect()
        with listener:
            return listener.status, listener.body()["code"]

    def wait_until_open(self, count: int) -> None:
        deadline = time.monotonic() + 15
        while self.context.streams.used != count:
            assert time.monotonic() < deadline, self.context.streams.used
            time.sleep(0.01)


@pytest.fixture
def serve(world_url: str, seed: Seed) -> Iterator[Callable[..., Serving]]:
    """Start APIs over this test's world, whose blocks above finalized are known."""
    headers(seed)
    started = ExitStack()

    def start(heartbeat: float = 15.0, stalled: float = 20.0, **settings: Any) -> Serving:
        context = create_context(ApiSettings(api_unindexed_window=50, **settings), world_url, None)
        started.callback(context.close)
        port = started.enter_context(served(context, world_url, heartbeat=heartbeat, stalled=stalled))
        return Serving(port, context)

    with started:
        yield start


@pytest.fixture
def serving(serve: Callable[..., Serving]) -> Serving:
    return serve()


# -- what comes -----------------------------------------------------------------------------------------------------


def test_from_now(serving, seed):
    with serving.listen() as listener:
        assert listener.answer["content-type"] == "text/event-stream"
        assert listener.answer["cache-control"] == "no-store"
        status = listener.next()
        assert (status.name, status.id) == ("status", f"{TIP}-9223372036854775807.{block_hash(TIP).hex()[:12]}")
        assert status.data["position"] == status.id
        assert (status.data["through_block"], status.data["waiting_for_block"]) == (TIP, None)
        assert status.data["meta"]["indexed_block"] == TIP
        assert status.data["meta"]["missing"] == [list(GAP)]
        grow(seed, TIP + 1)
        row = listener.next()
        assert (row.name, row.id) == ("row", f"{TIP + 1}-3.{block_hash(TIP + 1).hex()[:12]}")
        listener.until(f"{TIP + 1}-7")
        assert listener.rows == ids(TIP + 1, TIP + 1)


def test_a_row_is_what_a_page_has(serving, seed, own):
    with serving.listen(f"{TRANSFERS}?after=1298-7&fields=id,args.value") as listener:
        page = own.get("/v1/contracts/usdc/events/Transfer?order=asc&from_block=1299&fields=id,args.value")
        listener.until("1299-7")
        assert [told.data for told in listener.told if told.name == "row"] == page["data"]
    with serving.listen(f"{FEED}?chain=ethereum&after=1298-7&contract=usdc") as listener:
        page = own.get("/v1/events?chain=ethereum&order=asc&from_block=1299&contract=usdc")
        listener.until(f"1299-7-{seed.event('usdc', 'Transfer')[0]}")
        assert [told.data for told in listener.told if told.name == "row"] == page["data"]


def test_filters(serving, seed):
    with serving.listen(f"{TRANSFERS}?after=1289-7&arg.value=1000000000000000000000000012953") as listener:
        listener.until("1295-3")
        assert listener.rows == ["1295-3"]
    with serving.listen(f"{FEED}?chain=1&after=1059-0&event=Sync") as listener:
        listener.until(f"1089-5-{seed.event('pair', 'Sync')[0]}")
        assert len(listener.rows) == 30


def test_one_connection_carries_all_that_concerns_an_address(serving, seed):
    """Rows of several events under several conditions, each once, and what a reorganisation takes back of them."""
    alice, usdc = hex_of(ALICE), seed.event("usdc", "Transfer")[0]
    where = f"usdc.Transfer(from={alice});usdc.Transfer(to={alice});pair.Swap(to={alice})"
    seed.cover("usdc", (START, TIP))
    page = serving.get(f"/v1/events?chain=1&order=asc&from_block=1250&where={where}&limit=1000")["data"]
    with serving.listen(f"{FEED}?chain=1&after=1249-7&where={where}") as listener:
        listener.until(f"{page[-1]['id']}-{usdc}")
        assert [told.data for told in listener.told if told.name == "row"] == page
        assert {alice} < {told.data["args"][side] for told in listener.told[1:] for side in ("from", "to")}
        swap(seed, 1295, TIP, TIP + 1, branch=1)
        listener.until(f"{TIP + 1}-7-{usdc}")
        assert listener.reverts == [1295]
    with serving.listen(f"{FEED}?chain=1&after=1289-7&arg.to={alice}") as listener:
        grow(seed, TIP + 2)  # its transfers are to Bob
        while listener.until_status()["through_block"] != TIP + 2:
            pass
        assert {told.data["args"]["to"] for told in listener.told if told.name == "row"} <= {alice}


def test_how_far_it_is_goes_on_where_no_row_comes(serving, seed):
    seed.cover("usdc", (START, TIP))
    with serving.listen(f"{TRANSFERS}?arg.value=1") as listener:
        assert listener.until_status()["through_block"] == TIP
        for number in (TIP + 1, TIP + 2):
            grow(seed, number)
            while (status := listener.until_status())["through_block"] != number:
                pass
            assert status["meta"]["indexed_block"] == number
        assert not listener.rows


def test_last_event_id_goes_before_after(serving):
    listener = Listener(serving.port, f"{TRANSFERS}?after=1250-3", last_id="1298-3").connect()
    with listener:
        assert listener.until("1299-7").rows == ["1298-7", "1299-3", "1299-7"]
        # A connection that breaks behind the first event must not lose what would have followed.
        assert (listener.told[0].name, listener.told[0].id) == ("status", "1298-3")


def test_only_what_is_final(serving, seed):
    with serving.listen(f"{TRANSFERS}?finality=finalized&after=1199-7") as listener:
        listener.until(f"{FINALIZED}-7")
        assert listener.rows == ids(1200, FINALIZED)
        grow(seed, TIP + 1)
        with pytest.raises(TimeoutError):
            listener.next(0.6)
        grow(seed, TIP + 2, finalized=FINALIZED + 2)
        listener.until(f"{FINALIZED + 2}-7")
        assert listener.rows == ids(1200, FINALIZED + 2)
        assert listener.told[-1].id == f"{FINALIZED + 2}-7"


# -- gaps -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("L-02")
def test_a_gap_holds_the_stream_until_it_is_filled(serving, seed):
    with serving.listen(f"{TRANSFERS}?after=1037-7") as listener:
        status = listener.until_status()
        assert (status["through_block"], status["waiting_for_block"]) == (GAP[0] - 1, GAP[0])
        listener.until("1039-7")
        grow(seed, TIP + 1)
        with pytest.raises(TimeoutError):
            listener.next(0.6)
        seed.rows("usdc", "Transfer", [transfer(1040, 1), transfer(1049, 1)])
        seed.cover("usdc", (START, TIP + 1))
        listener.until(f"{TIP + 1}-7")
        assert listener.rows == [*ids(1038, 1039), "1040-1", "1049-1", *ids(1050, TIP + 1)]
        assert listener.until_status()["waiting_for_block"] is None


def test_history_that_is_filled_in_behind_is_not_told(serving, seed):
    with serving.listen() as listener:
        assert listener.until_status()["waiting_for_block"] is None
        seed.rows("usdc", "Transfer", [transfer(1045, 1)])
        seed.cover("usdc", (START, TIP))
        grow(seed, TIP + 1)
        assert listener.until(f"{TIP + 1}-7").rows == ids(TIP + 1, TIP + 1)


def test_a_chain_that_is_not_followed_is_streamed_as_history_grows(serving, seed):
    seed.execute("UPDATE gapless.chains SET tip_number = NULL, tip_hash = NULL, tip_time = NULL WHERE chain_id = 1")
    with serving.listen() as listener, serving.listen(f"{TRANSFERS}?finality=finalized&after={TIP}-7") as final:
        listener.until_status()
        final.until_status()
        for number in (TIP + 1, TIP + 2):
            with seed.connection.transaction():
                seed.rows("usdc", "Transfer", [transfer(number, 1)])
                seed.cover("usdc", (START, number))
                seed.execute("UPDATE gapless.chains SET finalized_number = %s", (TIP + 5,))
                seed.execute("UPDATE gapless.events SET version = version + 1")
            listener.until(f"{number}-1")
            final.until(f"{number}-1")


TETHER = f"""
[contracts.tether]
chain = "ethereum"
abi = "erc20.json"
address = "0x{"77" * 20}"
start_block = 1290
"""


def test_no_row_of_a_new_contract_is_passed_over_before_the_catalog_is_read_again(serving, seed):
    seed.cover("usdc", (START, TIP))
    hub = Hub(serving.context.database, serving.context.catalog, serving.context.streams)

    def compiled(catalog: Catalog) -> Scope:
        chain = catalog.chain("ethereum")
        return feed_scope(catalog, events_of(catalog, chain, {}), chain, {}, window=50)

    topic = Topic("feed", compiled, serving.context.database, hub.known)
    position = topic.look(None).changes.position
    seed.declare(MANIFEST + TETHER)
    seed.rows("tether", "Transfer", [transfer(TIP + 1, 5) | {"address": bytes.fromhex("77" * 20)}])
    seed.cover("tether", (1290, TIP + 1))
    grow(seed, TIP + 1)
    assert [row.position.log for row in topic.look(position).changes.rows] == [3, 5, 7]
    hub.close()


def test_a_new_contract_joins_the_feed(serving, seed):
    seed.cover("usdc", (START, TIP))
    with serving.listen(f"{FEED}?chain=ethereum") as listener:
        listener.until_status()
        seed.declare(MANIFEST + TETHER)
        grow(seed, TIP + 1)
        # Until it is followed it holds all of the feed up: its rows belong between those of the others.
        assert listener.until_status()["waiting_for_block"] == TIP + 1
        seed.rows("tether", "Transfer", [transfer(TIP + 1, 5) | {"address": bytes.fromhex("77" * 20)}])
        seed.cover("tether", (1290, TIP + 1))
        usdc, new = (seed.event(contract, "Transfer")[0] for contract in ("usdc", "tether"))
        listener.until(f"{TIP + 1}-7-{usdc}")
        assert listener.rows == [f"{TIP + 1}-3-{usdc}", f"{TIP + 1}-5-{new}", f"{TIP + 1}-7-{usdc}"]


# -- reorganisations ------------------------------------------------------------------------------------------------


@pytest.mark.promise("L-03")
def test_reverts(serving, seed):
    with serving.listen(f"{TRANSFERS}?after=1289-7") as listener:
        listener.until(f"{TIP}-7")
        swap(seed, 1295, TIP, TIP + 1, branch=1)
        listener.until(f"{TIP + 1}-7")
        assert (listener.reverts, listener.rows) == ([1295], ids(1290, TIP + 1))
        # Deeper, and below where the client began.
        swap(seed, 1285, TIP + 1, TIP + 2, branch=2)
        listener.until(f"{TIP + 2}-7")
        assert (listener.reverts, listener.rows) == ([1295, 1285], ids(1286, TIP + 2))
        assert {listener.values[row] for row in listener.rows} == {"2"}


@pytest.mark.promise("L-03")
def test_who_got_nothing_of_the_old_branch_hears_nothing_of_it(serving, seed):
    with serving.listen() as listener, serving.listen(f"{TRANSFERS}?after=1200-3&arg.value.lt=5") as filtered:
        listener.until_status()
        filtered.until_status()
        swap(seed, TIP - 1, TIP, TIP, branch=1)
        grow(seed, TIP + 1, branch=1)
        listener.until(f"{TIP + 1}-7")
        assert (listener.reverts, listener.rows) == ([], ids(TIP, TIP + 1))
        filtered.until(f"{TIP + 1}-7")
        assert (filtered.reverts, filtered.rows) == ([], ids(TIP, TIP + 1))


@pytest.mark.promise("L-01")
def test_a_reorganisation_while_away(serving, seed):
    with serving.listen(f"{TRANSFERS}?after=1289-7") as listener:
        listener.until(f"{TIP}-7")
    for number, common in enumerate((1295, 1292, 1297), 1):
        swap(seed, common, TIP, TIP, branch=number)
    with Listener(serving.port, rows=listener.rows, last_id=listener.last_id).connect() as again:
        while again.reverts != [1292]:
            again.next()
        again.until(f"{TIP}-7")
        assert again.rows == ids(1290, TIP)
        assert again.values[f"{TIP}-7"] == "3"


@pytest.mark.promise("L-01")
@pytest.mark.parametrize("number", range(2))
def test_nothing_is_lost_or_twice(serving, seed, world_url, tmp_path, number):
    """Blocks come, branches are swapped, the connection breaks anywhere: the client has what is there."""
    chance = random.Random(number)
    path = chance.choice((TRANSFERS, f"{TRANSFERS}?finality=safe"))
    seed.cover("usdc", (START, TIP))
    state = {"tip": TIP, "branch": 0, "floor": FINALIZED}
    stop = threading.Event()
    done: list[bool] = []

    def live_on() -> None:
        writer = Seed(world_url, tmp_path)
        try:
            for _ in range(60):
                some = {block: chance.choice(((), (3, 7), (3, 7, 9))) for block in range(1200, 1500)}
                if chance.random() < 0.3:
                    common = max(state["floor"], state["tip"] - chance.randrange(8))
                    new_tip = common + chance.randrange(1, 8)
                    state["branch"] += 1
                    swap(
                        writer,
                        common,
                        state["tip"],
                        new_tip,
                        branch=state["branch"],
                        finalized=state["floor"],
                        logs=some,
                    )
                    state["tip"] = new_tip
                else:
                    state["tip"] += 1
                    state["floor"] = min(state["tip"] - 5, state["floor"] + chance.randrange(3))
                    grow(
                        writer,
                        state["tip"],
                        branch=state["branch"],
                        finalized=state["floor"],
                        logs=some[state["tip"]],
                    )
                time.sleep(chance.random() * 0.02)
            # An end that every client can wait for, finality or not.
            for _ in range(2):
                state["tip"] += 1
                grow(writer, state["tip"], branch=state["branch"], finalized=state["tip"], logs=(99,))
            done.append(True)
        finally:
            stop.set()
            writer.close()

    when = random.Random(number + 100)
    living = threading.Thread(target=live_on)
    living.start()
    listener = Listener(serving.port, path, last_id="1189-7")
    breaks = 0
    while not stop.is_set():
        listener = Listener(serving.port, path, rows=listener.rows, last_id=listener.last_id).connect()
        with listener:
            end = time.monotonic() + when.random() * 0.3
            while time.monotonic() < end:
                try:
                    listener.next(end - time.monotonic())
                except TimeoutError:
                    break
        breaks += 1
    living.join()
    assert done
    with Listener(serving.port, path, rows=listener.rows, last_id=listener.last_id).connect() as listener:
        listener.until(f"{state['tip']}-99")
        assert listener.rows == transfers(seed, 1190)
    assert breaks > 3


# -- connections ----------------------------------------------------------------------------------------------------


def test_heartbeats_move_the_position(serve, seed):
    serving = serve(heartbeat=0.2)
    with serving.listen(f"{TRANSFERS}?arg.value.lt=5") as listener:
        listener.until_status()
        grow(seed, TIP + 1, branch=7)
        deadline = time.monotonic() + 15
        while listener.last_id != f"{TIP + 1}-9223372036854775807.{block_hash(TIP + 1, 7).hex()[:12]}":
            assert time.monotonic() < deadline
            with suppress(TimeoutError):
                listener.next(0.3)
        assert listener.comments


def test_a_slot_is_free_again_when_the_client_has_left(serve, seed):
    serving = serve(streams_max=2, trusted_proxies=("127.0.0.1",))
    one, other = ({"X-Forwarded-For": f"203.0.113.{client}"} for client in (1, 2))
    first = serving.listen(headers=one)
    # The last slot is for another client.
    assert serving.refused(TRANSFERS, X_Forwarded_For="203.0.113.1") == (503, "STREAMS_FULL")
    second = serving.listen(headers=other)
    assert serving.refused(TRANSFERS, X_Forwarded_For="203.0.113.3") == (503, "STREAMS_FULL")
    first.close()
    serving.wait_until_open(1)
    third = serving.listen(headers=one)
    for listener in (second, third):
        listener.until_status()
        listener.close()
    serving.wait_until_open(0)
    assert serving.refused(f"{TRANSFERS}?after=1299-3.0102030405ff") == (400, "INVALID_CURSOR")
    assert serving.refused(f"{TRANSFERS}?nonsense=1") == (400, "UNKNOWN_PARAMETER")
    serving.wait_until_open(0)


@pytest.mark.promise("L-06")
def test_a_client_that_reads_nothing_is_dropped_and_holds_nobody_up(serve, seed):
    serving = serve(stalled=1.0)
    seed.cover("usdc", (START, TIP))
    seed.execute(
        "INSERT INTO usdc.transfer SELECT chain_id, block_number, block_time, tx_hash, tx_index, 100 + i, "
        "contract_address, from_address, to_address, value FROM usdc.transfer, generate_series(1, 60) i "
        "WHERE log_index = 7"
    )
    slow = Listener(serving.port, f"{TRANSFERS}?after=0-0").connect(receive_buffer=4096)
    with slow, serving.listen() as other:
        other.until_status()
        grow(seed, TIP + 1)
        other.until(f"{TIP + 1}-7")
        serving.wait_until_open(1)
        with pytest.raises(EndedError):
            slow.until_the_end()
        grow(seed, TIP + 2)
        other.until(f"{TIP + 2}-7")


def test_a_restart_of_postgres_ends_no_stream(serving, seed):
    with serving.listen() as listener:
        listener.until_status()
        seed.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'gapless%'")
        grow(seed, TIP + 1)
        assert listener.until(f"{TIP + 1}-7").rows == ids(TIP + 1, TIP + 1)


def test_a_stream_of_what_is_dropped_ends(serving, seed):
    with serving.listen("/v1/contracts/gold_alone/events/Approval/stream") as listener:
        listener.until_status()
        seed.execute("DROP TABLE gold_alone.approval CASCADE")
        seed.execute("DELETE FROM gapless.contracts WHERE name = 'gold_alone'")
        seed.execute("UPDATE gapless.catalog SET version = version + 1")
        grow(seed, TIP + 1)
        with pytest.raises(EndedError):
            listener.until_the_end()
    serving.wait_until_open(0)


def test_clients_of_the_same_share_one_query_and_idle_ones_make_none(serving, seed, monkeypatch):
    listeners = [serving.listen() for _ in range(20)]
    for listener in listeners:
        listener.until_status()
    looks: list[str] = []
    monkeypatch.setattr("api.live.changes.read", _counted(read, looks))
    monkeypatch.setattr("api.database.Database.query", _counted(Database.query, asked := []))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        listeners[0].next(1.0)
    # The watcher's look, and now and then the catalog's version.
    assert len(asked) <= 2 * (time.monotonic() - began) / POLL
    looks.clear()
    grow(seed, TIP + 1)
    for listener in listeners:
        assert listener.until(f"{TIP + 1}-7").rows == ids(TIP + 1, TIP + 1)
        listener.close()
    assert len(looks) <= 3  # one for all; more where a look came between the rows and the tip


def _counted(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(function.__name__)
        return function(*args, **kwargs)

    return counted


# -- who may, and how it is asked -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sent", "refusal"),
    [
        (f"{TRANSFERS}?limit=5", {}, (400, "UNKNOWN_PARAMETER")),
        (f"{TRANSFERS}?from_block=5", {}, (400, "UNKNOWN_PARAMETER")),
        (f"{TRANSFERS}?before=5-1", {}, (400, "UNKNOWN_PARAMETER")),
        (f"{TRANSFERS}?after=x", {}, (400, "INVALID_CURSOR")),
        (TRANSFERS, {"Last_Event_ID": "x"}, (400, "INVALID_CURSOR")),
        (f"{TRANSFERS}?arg.from=0x12", {}, (400, "INVALID_ADDRESS")),
        (FEED, {}, (400, "CHAIN_REQUIRED")),
        (f"{FEED}?chain=1&contract=nobody", {}, (400, "INVALID_PARAMETER")),
        ("/v1/contracts/nobody/events/Transfer/stream", {}, (404, "CONTRACT_NOT_FOUND")),
        ("/v1/contracts/usdc/events/Nothing/stream", {}, (404, "EVENT_NOT_FOUND")),
        ("/v1/no/stream", {}, (404, "ROUTE_NOT_FOUND")),
        (TRANSFERS, {"A": "x" * 40_000}, (431, "HEADERS_TOO_LARGE")),
    ],
)
def test_refusals(serving, path, sent, refusal):
    assert serving.refused(path, **sent) == refusal


def test_nobody_is_told_that_a_stream_is_empty(serving):
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=20)
    connection.request("HEAD", TRANSFERS)
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Length"]) == (200, None)
    connection.close()


def test_keys_and_tokens(serve, seed, make_client):
    serving = serve(require_api_key=True)
    assert serving.refused(TRANSFERS) == (401, "AUTHENTICATION_REQUIRED")
    engine = database.create_engine(seed.url)
    with engine.begin() as connection:
        _, key = keys.create(connection, "someone")
    engine.dispose()
    with serving.listen(headers={"Authorization": f"Bearer {key}"}) as listener:
        listener.until_status()
    client = make_client(require_api_key=True)
    made = client.ask("/v1/auth/token", "POST", authorization=f"Bearer {key}").json
    token = made["data"]["access_token"]
    with serving.listen(f"{TRANSFERS}?after=1298-7&access_token={token}") as listener:
        assert listener.until("1299-7").rows == ids(1299, 1299)
    assert serving.refused(f"{TRANSFERS}?access_token={key}") == (401, "INVALID_API_KEY")


def test_without_streams(make_client, serve):
    """A bare WSGI server has none; what is wrong with the request is said all the same."""
    client = make_client()
    client.refused(TRANSFERS, 503, "STREAMS_FULL")
    client.refused(f"{TRANSFERS}?nonsense=1", 400, "UNKNOWN_PARAMETER")
    make_client(require_api_key=True).refused(TRANSFERS, 401, "AUTHENTICATION_REQUIRED")
    make_client(streams_max=0).refused(TRANSFERS, 503, "STREAMS_FULL")
    assert serve(streams_max=0).refused(TRANSFERS) == (503, "STREAMS_FULL")


def test_cors_head_and_health(serve):
    serving = serve(cors_origins=("https://app.example.org",))
    with serving.listen(headers={"Origin": "https://app.example.org"}) as listener:
        assert listener.answer["access-control-allow-origin"] == "https://app.example.org"
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=20)
    connection.request("HEAD", TRANSFERS)
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
    connection.close()
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    connection.close()
    serving.wait_until_open(0)
