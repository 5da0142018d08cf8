"""Every refusal of the list, from outside: a real server, a real client."""

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from api.errors import CODES
from indexer.store import database
from indexer.store.access import keys
from tests.integration.api.issuer import AUDIENCE, FakeIssuer
from tests.integration.api.seed import Seed
from tests.integration.api.test_api_server import Running, running
from tests.integration.api.world import TIP

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
SEEN: set[str] = set()


class Asking:
    """Asks one server, and notes which codes it saw."""

    def __init__(self, server: Running) -> None:
        self.server = server

    def refused(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, str]:
        status, code = self.asked(path, method, body, **headers)
        assert code is not None
        return status, code

    def asked(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, str | None]:
        """The status, and the code if it is a refusal, which is then looked at closely."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=named)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status == 200:
            return response.status, None
        code = answer["code"]
        SEEN.add(code)
        assert answer["error"]
        assert CODES[code][0] == response.status
        assert response.getheader("Cache-Control") == "no-store"
        assert response.getheader("Content-Type") == "application/json"
        assert (response.getheader("WWW-Authenticate") is not None) == (response.status == 401)
        if response.status in (429, 503):
            assert int(response.getheader("Retry-After", "0")) >= 1
        return response.status, code


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    issuer.add("it")
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def world(copy_world: Callable[[], str]) -> str:
    return copy_world()


@pytest.fixture(scope="module")
def asking(world: str, issuer: FakeIssuer) -> Iterator[Asking]:
    with running(
        world, OIDC_ISSUER=issuer.url, OIDC_AUDIENCE=AUDIENCE, API_UNINDEXED_WINDOW="50", RATE_LIMIT_ADDRESS="100000"
    ) as server:
        yield Asking(server)


@pytest.fixture(scope="module")
def make_key(world: str) -> Iterator[Callable[..., str]]:
    engine = database.create_engine(world)

    def make(**options: Any) -> str:
        with engine.begin() as connection:
            return "Bearer " + keys.create(connection, "someone", **options)[1]

    yield make
    engine.dispose()


@pytest.mark.parametrize(("path", "code"), [
    (f"{TRANSFERS}?limit=0", "INVALID_PARAMETER"),
    (f"{TRANSFERS}?limti=1", "UNKNOWN_PARAMETER"),
    (f"{TRANSFERS}?limit=1&limit=1", "UNKNOWN_PARAMETER"),
    (f"{TRANSFERS}?access_token=a.b.c", "UNKNOWN_PARAMETER"),
    (f"{TRANSFERS}?address=0x1", "INVALID_ADDRESS"),
    (f"{TRANSFERS}?after=x", "INVALID_CURSOR"),
    ("/v1/contracts/bridge/events/Transfer", "CHAIN_REQUIRED"),
    ("/nothing", "ROUTE_NOT_FOUND"),
    ("/v1/events?chain=nowhere", "CHAIN_NOT_FOUND"),
    ("/v1/contracts/nobody", "CONTRACT_NOT_FOUND"),
    ("/v1/contracts/usdc/events/Nothing", "EVENT_NOT_FOUND"),
    (f"{TRANSFERS}/1-1", "NOT_FOUND"),
    ("/v1/contracts/zoo/events/Odd", "AMBIGUOUS_EVENT"),
    (f"{TRANSFERS}?at_block=99999999", "BLOCK_NOT_INDEXED"),
    (f"{TRANSFERS}?arg.value=5", "QUERY_TOO_EXPENSIVE"),
    (f"{TRANSFERS}?tx_hash=" + "0" * 20_000, "URI_TOO_LONG"),
    ("/v1/keys", "AUTHENTICATION_REQUIRED"),
    ("/v1/auth/token", "AUTHENTICATION_REQUIRED"),
])  # fmt: skip
def test_paths_and_parameters(asking, path, code):
    assert asking.refused(path)[1] == code


def test_an_address_of_two_contracts(asking):
    gold = re.search(rb"0x[0-9a-f]{40}", asking.server.get("/v1/contracts/gold_alone")[2])
    assert gold is not None
    assert asking.refused(f"/v1/contracts/{gold[0].decode()}")[1] == "AMBIGUOUS_CONTRACT"


def test_http_itself(asking, make_key):
    admin = make_key(scopes=("admin",))
    as_json = {"Content_Type": "application/json", "Authorization": admin}
    assert asking.refused(TRANSFERS, "POST") == (405, "METHOD_NOT_ALLOWED")
    assert asking.refused(TRANSFERS, Accept="image/png") == (406, "NOT_ACCEPTABLE")
    assert asking.refused("/v1/keys", "POST", b"x" * 70_000, **as_json) == (413, "PAYLOAD_TOO_LARGE")
    assert asking.refused("/v1/keys", "POST", b"{}", Authorization=admin) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert asking.refused("/v1/keys", "POST", b"{", **as_json) == (400, "BAD_REQUEST")
    assert asking.refused("/v1/keys", "POST", b"{}", **as_json) == (400, "INVALID_PARAMETER")
    assert asking.refused(TRANSFERS, X_Padding="x" * 40_000) == (431, "HEADERS_TOO_LARGE")
    assert b'"BAD_REQUEST"' in asking.server.raw(b"NONSENSE\r\n\r\n")


def test_keys_and_tokens(asking, make_key, issuer):
    assert asking.refused(TRANSFERS, Authorization="Bearer gapless_x") == (401, "INVALID_API_KEY")
    assert asking.refused(TRANSFERS, X_API_Key="a.b.c") == (401, "INVALID_API_KEY")
    late = issuer.token("it", exp=1)
    assert asking.refused(TRANSFERS, Authorization=f"Bearer {late}") == (401, "TOKEN_EXPIRED")
    assert asking.refused(TRANSFERS, Authorization=make_key(scopes=("webhooks",))) == (403, "INSUFFICIENT_SCOPE")
    of_a_page = make_key(origins=("https://shop.example",))
    assert asking.refused(TRANSFERS, Authorization=of_a_page) == (403, "ORIGIN_NOT_ALLOWED")
    once = make_key(rate=1)
    assert asking.server.get(TRANSFERS, Authorization=once)[0] == 200
    assert asking.refused(TRANSFERS, Authorization=once) == (429, "RATE_LIMITED")


def test_an_issuer_that_is_away(asking, world, issuer):
    gone = FakeIssuer()
    gone.add("it")
    gone.close()
    with running(world, OIDC_ISSUER=gone.url, OIDC_AUDIENCE=AUDIENCE) as server:
        other = Asking(server)
        assert other.refused(TRANSFERS, Authorization=f"Bearer {gone.token('it')}") == (503, "ISSUER_UNAVAILABLE")
        assert server.get(TRANSFERS)[0] == 200


def test_a_cursor_whose_block_is_gone(asking, world, tmp_path):
    cursor = json.loads(asking.server.get(f"{TRANSFERS}?limit=1")[2])["page"]["next"]
    seed = Seed(world, tmp_path)
    seed.reorg(1290, TIP, branch=1)
    seed.close()
    assert asking.refused(f"{TRANSFERS}?after={cursor}") == (409, "REORGED")


@contextmanager
def waiting(server: Running) -> Iterator[None]:
    """A request that is under way for some seconds, or about to be."""

    def wait() -> None:
        while server.get(f"{TRANSFERS}?min_block={TIP + 1}&wait=5")[0] == 503:
            pass  # another one was in its way

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


@contextmanager
def busy(server: Running, url: str) -> Iterator[None]:
    """A request that keeps a thread until a lock is given back."""
    thread = threading.Thread(target=server.get, args=(TRANSFERS,))
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE usdc.transfer IN ACCESS EXCLUSIVE MODE")
        thread.start()
        yield
    thread.join()


def until_refused(asking: Asking) -> None:
    """Ask until the request that waits has come before."""
    deadline = time.monotonic() + 20
    while (answer := asking.asked("/v1/contracts")) == (200, None):
        assert time.monotonic() < deadline
    assert answer == (503, "OVERLOADED")


def test_too_much_at_once(world):
    with running(world, API_THREADS="1", API_QUEUE_SECONDS="0.2") as server:
        asking = Asking(server)
        with busy(server, world):
            until_refused(asking)  # no thread is free in time
        assert server.get(TRANSFERS)[0] == 200


def test_too_much_of_one_client_at_once(world, make_key):
    with running(world, API_CLIENT_CONCURRENCY="1") as server:
        asking = Asking(server)
        with waiting(server):
            until_refused(asking)
            assert server.get(TRANSFERS, Authorization=make_key())[0] == 200, "another client"
        assert server.get(TRANSFERS)[0] == 200


def test_a_database_that_is_away():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with running(f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/nothing") as server:
            assert Asking(server).refused("/v1/contracts") == (503, "DATABASE_UNAVAILABLE")


def test_the_list_is_whole():
    """What the tests above did not meet is met elsewhere, and named here."""
    if len(SEEN) < 10:
        pytest.skip("only with the others")
    elsewhere = {
        "INTERNAL_ERROR": "test_api_http.py",
        "NOT_IMPLEMENTED": "test_api_server.py",
        "REQUEST_TIMEOUT": "test_api_door_patience.py",
        "VERSION_NOT_SUPPORTED": "test_api_door.py",
        "NOT_CONFIGURED": "test_api_webhooks.py",
        "LIMIT_REACHED": "test_api_webhooks.py",
        "STREAMS_FULL": "test_api_streams.py",
        "DATABASE_READ_ONLY": "test_api_tokens.py",
        "NOT_READY": "test_api_troubles.py",
        "KIND_UNSUPPORTED": "test_api_streams_derived.py",
    }
    assert set(CODES) - SEEN - elsewhere.keys() == set()
