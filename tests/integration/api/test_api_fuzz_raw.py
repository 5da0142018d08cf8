"""Thousands of spoilt requests on every port: each is answered, or its connection closed, soon; nothing is left behind.

``make fuzz REQUESTS=100000`` sends more of them.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from random import Random
from time import monotonic

import pytest

from tests.integration.api.ports import PORTS, Ports, all_ports, end_our_side, statuses
from tests.integration.api.raw_requests import raw_request

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "3000"))
SEED = int(os.environ.get("FUZZ_SEED", "14"))
#: Connections at once: most of a request's time is waiting.
AT_ONCE = 16
#: Seconds without a byte and without an end; the server's own deadlines are below it.
PATIENCE = 20.0
#: Refusals by a status that begins with 5, and are no failure.
ALLOWED = {501, 505}
MEMORY = 40_000_000


@pytest.fixture(scope="module")
def ports(copy_world: Callable[[], str]) -> Iterator[Ports]:
    settings = {
        "API_HEAD_SECONDS": "1",
        "API_BODY_SECONDS": "1",
        "API_EXPORT_SLOTS": "8",
    }
    with all_ports(copy_world(), **settings) as ports:
        yield ports


def exchange(ports: Ports, port: str, data: bytes, pieces: Random) -> bytes:
    """Send bytes in pieces and end our side; the answers, or what came before the connection was reset."""
    answer = b""
    deadline = monotonic() + PATIENCE
    with socket.create_connection(("127.0.0.1", ports.of[port]), timeout=PATIENCE) as connection:
        with suppress(ConnectionError):
            if pieces.random() < 0.2:
                place = pieces.randrange(len(data) + 1)
                connection.sendall(data[:place])
                data = data[place:]
            connection.sendall(data)
            end_our_side(connection)
        while True:
            connection.settimeout(max(0.001, deadline - monotonic()))
            try:
                piece = connection.recv(65536)
            except ConnectionError:
                return answer
            answer += piece
            if not piece or b"text/event-stream" in answer:  # which has no end
                return answer


def judged(ports: Ports, port: str, seen: Counter[int], number: int) -> str | None:
    """What is wrong with the answer to a request; None: nothing."""
    random = Random(f"{SEED}-{port}-{number}")
    data = raw_request(random)
    told = f"request {number} of seed {SEED} to {port}, {data[:300]!r},"
    try:
        answer = exchange(ports, port, data, random)
    except TimeoutError:
        return f"{told} hangs"
    seen.update(statuses(answer))
    bad = [status for status in statuses(answer) if status >= 500 and status not in ALLOWED]
    return f"{told} is answered with {bad}" if bad else None


def open_connections(ports: Ports) -> int:
    """How many clients' connections the process has."""
    listening = set(ports.of.values())
    return sum(bool(one.raddr) and one.laddr.port in listening for one in ports.system.net_connections())


@pytest.mark.promise("S-13")
@pytest.mark.parametrize("port", PORTS)
def test_no_bytes_hang_or_break_a_port(ports, port):
    seen: Counter[int] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        warm = REQUESTS // 5
        wrong = list(filter(None, clients.map(partial(judged, ports, port, seen), range(warm))))
        memory = ports.system.memory_info().rss
        wrong += filter(None, clients.map(partial(judged, ports, port, seen), range(warm, REQUESTS)))
    assert not wrong, "\n".join(wrong[:10])
    assert seen.keys() >= {200, 400, 404, 405, 413, 414, 431, 501, 505}, (
        "the requests are spoilt too much or too little"
    )
    assert seen.total() > REQUESTS / 2
    deadline = monotonic() + PATIENCE
    while left := open_connections(ports):
        assert monotonic() < deadline, f"{left} connections are left open"
    grown = ports.system.memory_info().rss - memory
    assert grown < MEMORY, f"{grown:,} bytes more"
    assert statuses(ports.exchange(port, b"GET /health HTTP/1.0\r\n\r\n")) == [200]
    assert not [line for line in ports.said if "defect" in line or "Traceback" in line]
