"""Requests that wait for a block: hundreds at once in one process, without a thread or a query each."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from api.context import REQUEST_THREADS, Context, create_context
from api.live.hub import NEAR, POLL, TIPS
from api.settings import ApiSettings
from tests.integration.api.growing import grow, headers
from tests.integration.api.listening import served
from tests.integration.api.seed import Seed
from tests.integration.api.world import TIP

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
NEXT = TIP + 1
WAITS = 300

Answer = tuple[int, dict[str, str], bytes]


class Asked:
    """A request that is under way."""

    def __init__(self, port: int, path: str, **sent: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in sent.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode("latin-1"))

    def answer(self) -> Answer:
        text = b""
        while piece := self._socket.recv(65536):
            text += piece
        self._socket.close()
        head, _, body = text.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body

    def close(self) -> None:
        """Leave without a word that could be taken for the end of the request alone."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def end_own_side(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)


class Serving:
    """An API in this process."""

    def __init__(self, port: int, context: Context) -> None:
        self.port = port
        self.context = context

    def ask(self, path: str, **sent: str) -> Asked:
        return Asked(self.port, path, **sent)

    def refused(self, path: str, **sent: str) -> tuple[int, str]:
        status, _, body = self.ask(path, **sent).answer()
        return status, json.loads(body)["code"]

    def until_waiting(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.context.waits.used != count:
            assert time.monotonic() < deadline, self.context.waits.used
            time.sleep(0.01)


@pytest.fixture
def serve(world_url: str, seed: Seed) -> Iterator[Callable[..., Serving]]:
    headers(seed)
    started = ExitStack()

    def start(**settings: Any) -> Serving:
        context = create_context(ApiSettings(api_unindexed_window=50, **settings), world_url, None)
        started.callback(context.close)
        return Serving(started.enter_context(served(context, world_url)), context)

    with started:
        yield start


@contextmanager
def counted_queries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    from api.database import Database  # the function of now

    texts: list[str] = []
    query = Database.query

    def counted(database: Any, text: Any, values: Any = ()) -> Any:
        texts.append(text)
        return query(database, text, values)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "query", counted)
        yield texts


@pytest.mark.promise("A-05")
def test_hundreds_wait_at_once_without_a_thread_or_a_query_each(serve, seed, monkeypatch):
    serving = serve(api_threads=1)
    assert serving.ask(TRANSFERS, Connection="close").answer()[0] == 200
    threads = threading.active_count()
    waiting = [serving.ask(f"{TRANSFERS}?min_block={NEXT}&wait=10&limit=1&order=desc") for _ in range(WAITS // 2)]
    waiting += [serving.ask(f"{TRANSFERS}?min_block={NEXT}&wait=10&limit=1") for _ in range(WAITS - len(waiting))]
    serving.until_waiting(WAITS)
    assert threading.active_count() < threads + 60, "those of asyncio's pool for short work"
    with counted_queries(monkeypatch) as queries:
        started = time.monotonic()
        # Pages are answered meanwhile, by the one thread there is.
        assert serving.ask(TRANSFERS, Connection="close").answer()[0] == 200
        while time.monotonic() - started < 5 * POLL:
            time.sleep(POLL)
        near = sum(query == TIPS for query in queries)
        assert len(queries) - near < 10 + 3 * (time.monotonic() - started) / POLL
        assert near < 10 + (time.monotonic() - started) / NEAR
        grow(seed, NEXT)
        for one in waiting:
            status, _, body = one.answer()
            assert (status, [row["id"] for row in json.loads(body)["data"]]) == (200, [f"{NEXT}-7"])
        assert len(queries) < 4 * WAITS
    assert serving.context.waits.used == 0


@pytest.mark.promise("A-05")
def test_a_wait_in_vain_ends(serve):
    serving = serve()
    started = time.monotonic()
    assert serving.refused(f"{TRANSFERS}?min_block={NEXT}&wait=1") == (409, "BLOCK_NOT_INDEXED")
    assert 1 <= time.monotonic() - started < 5
    assert serving.context.waits.used == 0


@pytest.mark.parametrize("block", [TIP + 100_000, 10**12, 2**62])
def test_a_block_far_above_the_head_is_refused_at_once(serve, block):
    serving = serve()
    started = time.monotonic()
    status, sent, body = serving.ask(f"{TRANSFERS}?min_block={block}&wait=10").answer()
    assert time.monotonic() - started < 5
    assert (status, json.loads(body)["code"]) == (409, "BLOCK_NOT_INDEXED")
    assert "above the chain's head" in json.loads(body)["error"]
    assert int(sent["retry-after"]) > 1


def test_what_is_there_already_is_answered_at_once_as_without_a_wait(serve):
    serving = serve(api_wait_slots=0)
    assert serving.refused(f"{TRANSFERS}?min_block={NEXT}&wait=10") == (503, "OVERLOADED")
    path = f"{TRANSFERS}?min_block={TIP}&limit=2"
    plain = serving.ask(path, Connection="close").answer()
    waited = serving.ask(f"{path}&wait=10").answer()
    assert waited[0] == plain[0] == 200
    for name in ("etag", "content-type", "cache-control", "vary", "x-content-type-options", "link"):
        assert waited[1].get(name, "").replace("&wait=10", "") == plain[1].get(name, ""), name
    assert json.loads(waited[2])["data"] == json.loads(plain[2])["data"]
    status, sent, body = serving.ask(f"{path}&wait=10", If_None_Match=plain[1]["etag"]).answer()
    assert (status, body, sent["connection"]) == (304, b"", "close")


def test_an_export_waits_too(serve, seed):
    serving = serve()
    asked = serving.ask(f"{TRANSFERS}?min_block={NEXT}&wait=10&format=csv&from_block={NEXT}&fields=id")
    serving.until_waiting(1)
    grow(seed, NEXT)
    status, sent, body = asked.answer()
    assert (status, sent["content-type"].partition(";")[0]) == (200, "text/csv")
    assert f"{NEXT}-7\n{NEXT}-3\n".encode() in body
    assert serving.context.export_slots.used == 0


def test_an_export_whose_client_leaves_is_broken_off(serve, seed):
    seed.execute(
        "INSERT INTO usdc.transfer SELECT chain_id, block_number, block_time, tx_hash, tx_index, 100 + i, "
        "contract_address, from_address, to_address, value FROM usdc.transfer, generate_series(1, 300) i "
        "WHERE log_index = 7"
    )
    serving = serve()
    asked = serving.ask(f"{TRANSFERS}?min_block={TIP}&wait=1&format=csv")
    deadline = time.monotonic() + 20
    while not serving.context.export_slots.used:
        assert time.monotonic() < deadline
    asked.close()
    while serving.context.export_slots.used:
        assert time.monotonic() < deadline


def test_a_client_that_leaves_gives_its_slot_back(serve):
    serving = serve()
    asked = serving.ask(f"{TRANSFERS}?min_block={NEXT}&wait=10")
    serving.until_waiting(1)
    asked.close()
    serving.until_waiting(0)


def test_a_client_that_has_ended_its_own_side_gets_its_answer(serve, seed):
    serving = serve()
    asked = serving.ask(f"{TRANSFERS}?min_block={NEXT}&wait=10&limit=1")
    asked.end_own_side()
    serving.until_waiting(1)
    grow(seed, NEXT)
    assert asked.answer()[0] == 200


def test_one_client_does_not_take_all_slots(serve):
    serving = serve(api_wait_slots=4, trusted_proxies=("127.0.0.1",))
    path = f"{TRANSFERS}?min_block={NEXT}&wait=10"
    with ExitStack() as stack:
        for count in (1, 2):
            stack.callback(serving.ask(path, X_Forwarded_For="203.0.113.1").close)
            serving.until_waiting(count)
        assert serving.refused(path, X_Forwarded_For="203.0.113.1") == (503, "OVERLOADED")
        stack.callback(serving.ask(path, X_Forwarded_For="203.0.113.2").close)
        serving.until_waiting(3)


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        (f"{TRANSFERS}?wait=5", (400, "INVALID_PARAMETER")),
        (f"{TRANSFERS}?wait=11&min_block=1", (400, "INVALID_PARAMETER")),
        (f"{TRANSFERS}?wait=1&wait=1&min_block=1", (400, "UNKNOWN_PARAMETER")),
        ("/v1/contracts/nothing/events/Transfer?wait=1&min_block=1", (404, "CONTRACT_NOT_FOUND")),
        ("/v1/nothing?wait=1", (404, "ROUTE_NOT_FOUND")),
        ("/health?wait=1", (400, "UNKNOWN_PARAMETER")),
    ],
)
def test_refusals(serve, path, refusal):
    assert serve().refused(path) == refusal


def test_keys_and_limits_hold(serve):
    assert serve(require_api_key=True).refused(f"{TRANSFERS}?min_block={TIP}&wait=1") == (
        401,
        "AUTHENTICATION_REQUIRED",
    )
    limited = serve(rate_limit_address=2)
    path = f"{TRANSFERS}?min_block={TIP}&wait=1&limit=1"
    # One count for both ways: a wait, a page, and no more.
    assert limited.ask(path).answer()[0] == 200
    assert limited.ask(TRANSFERS, Connection="close").answer()[0] == 200
    status, sent, _ = limited.ask(path, Origin="https://app.example.org").answer()
    assert (status, sent["access-control-allow-origin"]) == (429, "*")
    assert int(sent["retry-after"]) > 0


def test_a_request_that_no_thread_took_in_time_is_refused(serve, seed, world_url):
    serving = serve(api_queue_seconds=0.2)
    path = f"{TRANSFERS}?min_block={TIP}&wait=1&limit=1"
    assert serving.ask(path).answer()[0] == 200
    with psycopg.connect(world_url) as connection:
        connection.execute("LOCK TABLE usdc.transfer IN ACCESS EXCLUSIVE MODE")
        held = [serving.ask(path) for _ in range(REQUEST_THREADS)]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        deadline = time.monotonic() + 20
        while seed.execute(waiting).fetchone() != (REQUEST_THREADS,):
            assert time.monotonic() < deadline
        late = serving.ask(path)
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            time.sleep(0.1)
    status, sent, body = late.answer()
    assert (status, json.loads(body)["code"], sent["retry-after"]) == (503, "OVERLOADED", "1")
    assert [one.answer()[0] for one in held] == [200] * REQUEST_THREADS


def test_an_upgrade_that_is_not_done_is_passed_over(serve, caplog):
    asked = serve().ask(f"{TRANSFERS}?min_block={TIP}&wait=1", Connection="Upgrade", Upgrade="websocket")
    assert asked.answer()[0] == 200
    assert "uvicorn" not in {record.name.partition(".")[0] for record in caplog.records}


@pytest.mark.parametrize(
    "target", ["/v1/%zz/stream", "/v1/\xe4/stream", "/v1/events/stream?chain=\xe4", "http://x:y/v1/stream"]
)
def test_what_a_parser_does_not_take_is_refused_in_the_same_form(serve, target):
    status, sent, body = Asked(serve().port, target).answer()
    assert 400 <= status < 500
    assert (sent["content-type"], sent["connection"]) == ("application/json", "close")
    assert json.loads(body)["error"]


@pytest.mark.parametrize("forwarded", ['for="a:b"', "for=203.0.113.9:x", "for=[::1"])
def test_a_header_that_names_nobody_harms_nothing(serve, forwarded):
    assert (
        serve(rate_limit_address=9).ask(f"{TRANSFERS}?min_block={TIP}&wait=1", Forwarded=forwarded).answer()[0] == 200
    )
