"""Everybody a turn: what one client does leaves room for the others, and everything that it asks counts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import falcon.testing
import pytest

from api.app import create_app
from api.context import Slots, create_context
from api.errors import ApiError
from api.resources.webhook_deliveries import TESTS
from api.settings import ApiSettings
from indexer.store import database
from indexer.store.access import keys
from tests.integration.api.conftest import Client
from tests.integration.api.test_api_webhooks import SETTINGS

PATH = "/v1/contracts"
EXPORT = "/v1/contracts/usdc/events/Transfer"
PROXY = "10.0.0.1"


def slots_taken(slots: Slots, client: str | None, tries: int) -> int:
    taken = 0
    for _ in range(tries):
        try:
            slots.take(client)
        except ApiError:
            break
        taken += 1
    return taken


@pytest.mark.promise("S-15")
def test_no_client_takes_all_slots():
    slots = Slots(8, "exports")
    assert [slots_taken(slots, client, 20) for client in ("a", "b", "c")] == [4, 2, 1]
    for _ in range(4):
        slots.give_back("a")
    assert slots_taken(slots, "c", 20) == 2
    assert slots.used == 5
    alone = Slots(1, "exports")
    assert [slots_taken(alone, client, 2) for client in ("a", "b")] == [1, 0]


@contextmanager
def begun(app: Any, peer: str, path: str = EXPORT, query: str = "format=csv", **headers: str) -> Iterator[int]:
    """A request whose answer is not taken yet; yields its status."""
    environ = falcon.testing.create_environ(path, query_string=query, remote_addr=peer, headers=headers)
    told = falcon.testing.StartResponseMock()
    answer = app(environ, told)
    try:
        yield int(told.status.split()[0])
    finally:
        if hasattr(answer, "close"):
            answer.close()


@pytest.fixture
def make_app(world_url: str) -> Iterator[Callable[..., Any]]:
    contexts = []

    def make(**settings: Any) -> Any:
        contexts.append(create_context(ApiSettings(**settings), world_url, None))
        app = create_app(contexts[-1])
        deadline = monotonic() + 60
        while True:  # the first connection may take its time, which is a 503 too
            with begun(app, "192.0.2.1") as status:
                if status == 200:
                    return app
            assert monotonic() < deadline, status

    yield make
    for context in contexts:
        context.close()


@pytest.mark.promise("S-15")
def test_one_address_leaves_exports_to_others(make_app):
    app = make_app(api_export_slots=2, trusted_proxies=(PROXY,))
    with begun(app, "198.51.100.1") as first, begun(app, "198.51.100.1") as second:
        assert (first, second) == (200, 503)
        with begun(app, PROXY, **{"X-Forwarded-For": "198.51.100.1"}) as same:
            assert same == 503
        with begun(app, PROXY, **{"X-Forwarded-For": "203.0.113.9"}) as other:
            assert other == 200
    with begun(app, "198.51.100.1") as again:
        assert again == 200, "what was taken is given back"


def test_a_network_of_ipv6_is_one_client(make_app):
    app = make_app(api_export_slots=2)
    with begun(app, "2001:db8:1:2::1") as first, begun(app, "2001:db8:1:2:ffff::1") as second:
        assert (first, second) == (200, 503)
        with begun(app, "2001:db8:1:3::1") as other:
            assert other == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("POST", "/nowhere/at/all"),
        ("OPTIONS", "/nowhere"),
        ("GET", "/ready"),
        ("HEAD", "/ready"),
        ("POST", "/ready"),
        ("GET", "/ready?x=1"),
        ("GET", "/docs"),
        ("GET", "/docs/start.js"),
        ("GET", "/docs/nothing"),
        ("GET", "/openapi.json"),
        ("OPTIONS", PATH),
        ("OPTIONS", "/health"),
        ("PUT", PATH),
        ("GET", f"{PATH}?{'x' * 15_000}"),
        ("GET", f"/{'x' * 15_000}"),
    ],
)
def test_whatever_an_address_asks_counts_but_for_liveness(make_client, method, path):
    client = make_client(rate_limit_address=2)
    statuses = [client.ask(path, method).status_code for _ in range(3)]
    assert 429 not in statuses[:2]
    assert statuses[2] == 429
    refused = client.ask("/v1")
    assert (refused.status_code, refused.json["code"]) == (429, "RATE_LIMITED")
    assert client.get("/health") == {"status": "ok"}


def test_clients_behind_a_proxy_have_a_rate_each(make_client):
    client = make_client(rate_limit_address=1, trusted_proxies=("127.0.0.1",))
    for path in ("/nowhere", "/docs"):
        for network in ("198.51.100", "203.0.113"):
            ask = {"x_forwarded_for": f"{network}.{len(path)}"}
            assert client.ask(path, **ask).status_code in (200, 404)
            assert client.ask(path, **ask).status_code == 429


@pytest.mark.promise("S-15")
def test_test_messages_are_counted_and_one_at_a_time(make_client, world_url):
    client = make_client(**SETTINGS)
    engine = database.create_engine(world_url)
    with engine.begin() as connection:
        mine, other = (keys.create(connection, "me", scopes=("webhooks",))[1] for _ in range(2))
    engine.dispose()

    def subscribe(key: str) -> str:
        body = {"url": "http://127.0.0.1:9/hook", "chain": "ethereum", "contract": "usdc"}
        made = client.send("/v1/webhooks", body, authorization=f"Bearer {key}")
        assert made.status_code == 201, made.text
        return str(made.json["data"]["id"])

    def status(client: Client, webhook: str, key: str) -> int:
        return int(client.send(f"/v1/webhooks/{webhook}/test", authorization=f"Bearer {key}").status_code)

    one, two, others = subscribe(mine), subscribe(mine), subscribe(other)
    assert status(client, one, mine) == 202
    assert status(client, two, mine) == 429, "one is on its way, and nothing delivers here"
    assert status(client, others, other) == 202
    assert [status(client, one, mine) for _ in range(TESTS)] == [202] * (TESTS - 1) + [429]
    assert status(client, others, other) == 202
