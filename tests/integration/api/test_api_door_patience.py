"""How long a client may take: for a head, a body, an answer; and one that has ended its own side."""

import http.client
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.integration.api.hooks import until
from tests.integration.api.ports import PATIENCE, Ports, all_ports, statuses, until_the_end

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
SECONDS = 2


@pytest.fixture(scope="module")
def world(copy_world: Callable[[], str]) -> str:
    return copy_world()


@pytest.fixture(scope="module")
def ports(world: str) -> Iterator[Ports]:
    with all_ports(world, API_HEAD_SECONDS=str(SECONDS), API_BODY_SECONDS=str(SECONDS)) as ports:
        yield ports


def trickle(ports: Ports, port: str, begin: bytes, more: bytes) -> bytes:
    """Send one byte after the other until the server ends the connection; returns what it said."""
    with socket.create_connection(("127.0.0.1", ports.of[port]), timeout=PATIENCE) as connection:
        stop = threading.Event()

        def send() -> None:
            for byte in more:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                if stop.wait(0.05):
                    return

        connection.sendall(begin)
        sending = threading.Thread(target=send)
        sending.start()
        try:
            return until_the_end(connection)
        finally:
            stop.set()
            sending.join()


@pytest.mark.promise("S-14")
@pytest.mark.parametrize("port", ["api", "admin"])
@pytest.mark.parametrize("begin", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_head_that_trickles_has_one_deadline(ports, port, begin):
    answer = trickle(ports, port, begin, b"a" * 2000)
    assert statuses(answer) == [408]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.promise("S-14")
@pytest.mark.parametrize(
    "begin",
    [
        b"Content-Length: 5000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1388\r\n",
        b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    ],
)
def test_a_body_that_trickles_has_one_deadline(ports, begin):
    answer = trickle(
        ports, "api", b"POST /v1/keys HTTP/1.1\r\nHost: x\r\n" + begin, b"a" * (8 if b"9" in begin else 2000)
    )
    assert [status for status in statuses(answer) if status != 100] == [408]


def test_a_kept_connection_may_rest_for_longer_than_a_head(ports):
    asked = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", ports.of["api"]), timeout=PATIENCE) as connection:
        for _ in range(2):
            connection.sendall(asked)
            assert statuses(connection.recv(65536)) == [200]
            connection.settimeout(SECONDS + 1.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(PATIENCE)
        # The next head has a deadline like the first.
        connection.sendall(asked[:10])
        assert statuses(until_the_end(connection)) == [408]


WAIT = b"GET /v1/contracts/usdc/events/Transfer?min_block=1300&wait=1 HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_CLOSED = {
    "one": (b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
    "several": (b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n" * 5, [200] * 5),
    "with bodies": (b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" * 2, [401] * 2),
    "HTTP/1.0": (b"GET /v1 HTTP/1.0\r\n\r\n", [200]),
    "and half of one": (b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\nGET /v1 HT", [200, 400]),
    "one that waits": (WAIT, [409]),
    "one that waits behind others": (b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + WAIT, [200, 200, 200, 409]),
    "a stream of nothing": (b"GET /v1/contracts/nothing/events/x/stream HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
    "half of a head": (b"GET /v1 HTTP/1.1\r\nHost: x\r\n", [400]),
    "half of a body": (b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{", [400]),
    "nothing": (b"", []),
    "an empty line": (b"\r\n", []),
}


@pytest.mark.promise("S-14")
@pytest.mark.parametrize("name", HALF_CLOSED)
def test_a_client_that_has_ended_its_side_gets_its_answers(ports, name):
    request, wanted = HALF_CLOSED[name]
    for _ in range(5):
        assert statuses(ports.exchange("api", request, half_close=True)) == wanted


@pytest.mark.parametrize("request_bytes", [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n"])
def test_the_administrators_port_answers_one_that_has_ended_its_side(ports, request_bytes):
    assert statuses(ports.exchange("admin", request_bytes, half_close=True)) == [200]
    assert statuses(ports.exchange("admin", request_bytes[:20], half_close=True)) == [400]


def test_an_export_is_given_whole_to_one_that_has_ended_its_side(ports):
    asked = f"GET {TRANSFERS}?format=csv HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    answer = ports.exchange("api", asked, half_close=True)
    assert statuses(answer) == [200]
    assert answer.endswith(b"0\r\n\r\n")


@pytest.mark.promise("S-14")
def test_connections_that_are_only_held_keep_nobody_out(world):
    with all_ports(world, API_CONNECTION_LIMIT="20", API_HEAD_SECONDS="3600") as ports, ExitStack() as stack:
        address = ("127.0.0.1", ports.of["api"])
        kept = http.client.HTTPConnection(*address, timeout=PATIENCE)
        for begin in (b"", b"GET / HTTP/1.1\r\n") * 40:
            stack.enter_context(socket.create_connection(address, timeout=PATIENCE)).sendall(begin)
        for _ in range(3):
            assert statuses(ports.exchange("api", b"GET /health HTTP/1.0\r\n\r\n")) == [200]
        kept.request("GET", "/health")
        assert kept.getresponse().status == 200
        kept.close()


def answered(address: tuple[str, int], source: str) -> int:
    """The status of a request that comes from another address of this machine."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE, source_address=(source, 0))
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs further addresses of the loopback")
@pytest.mark.promise("S-15")
def test_an_address_has_half_of_the_connections(world):
    with (
        all_ports(world, API_CONNECTION_LIMIT="40", TRUSTED_PROXIES="127.0.0.3", API_LEAST_PACE="0") as ports,
        ExitStack() as stack,
    ):
        address = ("127.0.0.1", ports.of["api"])

        def hold(count: int, source: str) -> list[socket.socket]:
            """Connections whose answers are not taken: none of them rests."""
            export = b"GET /v1/contracts/usdc/events/Transfer HTTP/1.1\r\nHost: x\r\n\r\n" * 200
            made = [socket.socket() for _ in range(count)]
            for one in made:
                stack.enter_context(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                one.bind((source, 0))
                one.settimeout(PATIENCE)
                one.connect(address)
                one.setblocking(False)
                with suppress(OSError):
                    one.send(export)
            return made

        held = hold(20, "127.0.0.1")
        until(lambda: all(has_answer(one, b"HTTP/1.1 200") for one in held))
        refused = hold(5, "127.0.0.1")
        until(lambda: all(has_answer(one, b"too many connections of one client") for one in refused))
        assert answered(address, "127.0.0.2") == 200
        # A proxy: its clients are many. One client would get ten of the other half.
        many = hold(11, "127.0.0.3")
        until(lambda: all(has_answer(one, b"HTTP/1.1 200") for one in many))


def has_answer(connection: socket.socket, part: bytes) -> bool:
    """Whether an answer has come that holds this; it stays where it is."""
    with suppress(OSError):
        return part in connection.recv(4096, socket.MSG_PEEK)
    return False
