"""Redis is not believed: what another program wrote there, or answers in its place, is no answer of the API."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import redis

from api.limits import RateLimits
from indexer.store.cache import Cache
from tests.integration.api.world import USDC

TOKEN = f"/v1/tokens/0x{USDC.hex()}?chain=ethereum"
DAILY = "/v1/contracts/usdc/events/Transfer/daily?chain=ethereum&sum=value"
RATE = 3


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def limits(url: str, secret: bytes = b"s" * 32) -> RateLimits:
    return RateLimits(Cache(url, secret=lambda: secret), clock=lambda: 0.0)


def allowed(of: RateLimits, bucket: str = "address:203.0.113.9", times: int = RATE + 1) -> list[bool]:
    return [of.take(bucket, RATE).allowed for _ in range(times)]


FULL = [True] * RATE + [False]


@pytest.mark.promise("S-11")
@pytest.mark.parametrize(
    "forged", [b"", b"\xff\xfe", b"x" * 100_000, b"0 0", b"-1e300 0", b"nan 0", b"1e300 99999999999999"]
)
def test_a_forged_counter_is_none(redis_url: str, store: redis.Redis, forged: bytes) -> None:
    allowed(limits(redis_url))
    (name,) = store.keys("gapless:*")
    tag = bytes(store.get(name)).partition(b" ")[0]  # type: ignore[arg-type]
    for value in (forged, tag + b" " + forged, b"0" * 40 + b" " + forged):
        store.set(name, value)
        assert allowed(limits(redis_url)) == FULL


@pytest.mark.promise("S-11")
def test_a_counter_of_another_kind_is_none(redis_url: str, store: redis.Redis) -> None:
    allowed(limits(redis_url))
    (name,) = store.keys("gapless:*")
    for write in (
        lambda: store.rpush(name, "x"),
        lambda: store.hset(name, mapping={"tokens": "-1000000", "at": "0"}),
        lambda: store.sadd(name, "x"),
    ):
        store.delete(name)
        write()
        assert allowed(limits(redis_url)) == FULL


@pytest.mark.promise("S-11")
def test_a_counter_under_another_name_is_none(redis_url: str, store: redis.Redis) -> None:
    allowed(limits(redis_url), "address:198.51.100.1")
    (empty,) = store.keys("gapless:*")
    allowed(limits(redis_url))
    (mine,) = set(store.keys("gapless:*")) - {empty}
    store.set(mine, store.get(empty))  # type: ignore[arg-type]
    assert allowed(limits(redis_url)) == FULL
    assert b"198.51" not in empty, "nor does it tell of clients"


def test_deployments_with_other_secrets_do_not_disturb_one_another(redis_url: str) -> None:
    one, other = limits(redis_url), limits(redis_url, b"t" * 32)
    assert allowed(one, times=2) == [True, True]
    assert allowed(other, times=2) == [True, True]
    assert allowed(one, times=2) == [True, False]
    assert allowed(other, times=2) == [True, False]


def test_processes_of_one_database_share_their_counts(make_client: Any, redis_url: str) -> None:
    one, other = (make_client(redis_url=redis_url, rate_limit_address=RATE) for _ in range(2))
    for client in (one, other, one):
        client.get("/v1")
    other.refused("/v1", 429, "RATE_LIMITED")


class OddServer:
    """Answers whatever comes with bytes that are no answer to it."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with peer:
            random = Random(7)
            try:
                while peer.recv(65536):
                    peer.sendall(random.choice(self._answers))
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


ODD = {
    "text": [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    "bytes": [bytes(range(256)) * 4, b"\xff\xfe\r\n"],
    "other kinds": [b"+OK\r\n", b":7\r\n", b"$3\r\nabc\r\n", b"*1\r\n$1\r\nx\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n"],
    "lists": [b"*2\r\n:1\r\n$1\r\nx\r\n", b"*2\r\n:1\r\n:-5\r\n", b"*2\r\n:7\r\n:1\r\n", b"*3\r\n:1\r\n:1\r\n:1\r\n"],
    "numbers": [b"*2\r\n:0\r\n:99999999999999999999999999\r\n", b":" + b"9" * 6000 + b"\r\n", b"*x\r\n", b"$x\r\n"],
    "depth": [b"*1\r\n" * 5000 + b":1\r\n"],
    "errors": [b"-ERR no\r\n", b"-WRONGTYPE x\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"-\xff\r\n", b"-NOAUTH x\r\n"],
    "ends": [b""],
}


@pytest.mark.promise("S-11")
@pytest.mark.parametrize("kind", ODD)
def test_what_answers_in_place_of_redis_changes_no_answer(make_client: Any, kind: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("indexer.store.cache._PAUSE_SECONDS", 0.0)
    expected = [make_client().get(path)["data"] for path in (TOKEN, DAILY)]
    server = OddServer(ODD[kind])
    try:
        client = make_client(redis_url=server.url, rate_limit_address=10_000)
        for _ in range(4):
            assert [client.get(path)["data"] for path in (TOKEN, DAILY)] == expected
        assert client.ask("/ready").status_code == 200
    finally:
        server.close()
