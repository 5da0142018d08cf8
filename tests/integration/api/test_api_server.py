"""The API as a process: waitress in front, signals, several processes."""

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests import ready
from tests.processes import living, spawned_by
from tests.ready import ReadyProcess

TRANSFERS = "/v1/contracts/usdc/events/Transfer"


class Running:
    """An API process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, body

    def raw(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer


@contextmanager
def running(url: str, **environment: str) -> Iterator[Running]:
    env = {**os.environ, "DATABASE_URL": url, "API_PORT": "0", "API_THREADS": "4", "LOG_LEVEL": "INFO", **environment}
    env.pop("REDIS_URL", None)
    process = ReadyProcess([sys.executable, "-m", "api"], env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        port = None
        for line in process.stderr:
            if match := re.search(r"listens on http://127\.0\.0\.1:(\d+)", line):
                port = int(match[1])
                break
        assert port is not None, process.wait()
        yield Running(process, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def server(copy_world: Callable[[], str]) -> Iterator[Running]:
    with running(copy_world()) as server:
        yield server


def test_a_database_that_does_not_answer_is_told_at_the_start():
    nowhere = "postgresql://somebody:hush@127.0.0.1:1/x"
    with running(nowhere) as server:
        assert server.process.stderr is not None
        for line in server.process.stderr:
            if "requests are answered with 503 until this is mended" in line:
                break
            assert "hush" not in line
        else:
            raise AssertionError("it said nothing")
        assert server.get("/health")[0] == 200


def test_it_answers(server):
    status, headers, body = server.get(f"{TRANSFERS}?limit=3")
    assert status == 200
    assert len(json.loads(body)["data"]) == 3
    assert "server" not in headers
    assert int(headers["content-length"]) == len(body)


def refusal(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413, "PAYLOAD_TOO_LARGE"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "NOT_IMPLEMENTED"),
    ],
)
def test_what_waitress_refuses_is_json_too(server, request_bytes, status, code):
    assert refusal(server.raw(request_bytes)) == (status, code)


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", [200]),
        (
            b"POST /health HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            [405, 200],
        ),
        (
            b"POST /health HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
            b"Connection: close\r\n\r\n{}",
            [100, 405],
        ),
    ],
)
def test_who_expects_to_be_told_to_go_on_is_answered(server, request_bytes, statuses):
    answer = server.raw(request_bytes)
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)] == statuses


def test_a_page_may_read_what_waitress_refuses(server):
    asked = b"POST /health HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example.org\r\nContent-Length: 999999999\r\n\r\n"
    head = server.raw(asked).partition(b"\r\n\r\n")[0].lower()
    assert b"\r\naccess-control-allow-origin: *\r\n" in head
    assert b"retry-after" in head.partition(b"access-control-expose-headers: ")[2]


def test_a_connection_is_kept(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for _ in range(3):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert response.read() == b'{"status":"ok"}'
        assert not response.will_close
    connection.close()


def test_answers_without_a_body_keep_the_connection(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    path = f"{TRANSFERS}?to_block=1150"
    connection.request("GET", path)
    response = connection.getresponse()
    tag = response.headers["ETag"]
    response.read()
    for method, headers, status in (
        ("GET", {"If-None-Match": tag}, 304),
        ("HEAD", {}, 200),
        ("HEAD", {"If-None-Match": tag}, 304),
        ("GET", {}, 200),
    ):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        response.read()
        assert (response.status, response.will_close) == (status, False), (method, headers)
    connection.request("GET", path, headers={"If-None-Match": tag, "Connection": "close"})
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (304, "close")
    connection.close()


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_nobody_is_told_that_an_export_is_empty(server, form):
    answer = server.raw(f"HEAD {TRANSFERS}?format={form} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, end, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length" not in head.lower()
    assert end
    assert body == b""


def test_requests_that_are_sent_before_the_answers_came_are_answered_in_order(server):
    request = "GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: {}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for turn in range(20):
            wanted = [f"{turn}-{number}" for number in range(5)]
            connection.sendall("".join(map(request.format, wanted)).encode())
            answer = b""
            while answer.count(b'{"status":"ok"}') < 5:
                answer += connection.recv(65536)
            assert re.findall(r"X-Request-Id: (\S+)", answer.decode(), re.IGNORECASE) == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_five_seconds(world_url, number):
    with running(world_url) as server:
        assert server.get("/ready")[0] == 200
        started = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 5


@pytest.mark.promise("A-12")
def test_an_answer_that_is_being_made_is_finished(world_url):
    with running(world_url) as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        assert server.get("/ready")[0] == 200
        connection.sendall(f"GET {TRANSFERS}?min_block=1300&wait=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        deadline = time.monotonic() + 10
        while server.get("/health")[0] != 200:
            assert time.monotonic() < deadline
        server.process.terminate()
        answer = b""
        while piece := connection.recv(65536):  # headers and body may come apart
            answer += piece
        assert b"BLOCK_NOT_INDEXED" in answer
        assert server.process.wait(20) == 0


def is_let_in(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.promise("A-12")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_while_it_stops_nobody_new_is_let_in_and_answers_end_their_connections(world_url, processes):
    with running(world_url, API_PROCESSES=processes) as server:
        server.get("/ready")
        address = ("127.0.0.1", server.port)
        kept = http.client.HTTPConnection(*address, timeout=20)
        kept.request("GET", f"{TRANSFERS}?to_block=1150")
        first = kept.getresponse()
        tag = first.headers["ETag"]
        first.read()
        with socket.create_connection(address, timeout=20) as slow:
            slow.sendall(f"GET {TRANSFERS}?min_block=1300&wait=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            time.sleep(0.5)
            server.process.terminate()
            while is_let_in(address):
                answered, _, _ = select.select([slow], [], [], 0.02)
                assert not answered, "the door was open for longer than the last answer took"
            if processes == "1":  # else it may be one of a process that has nothing left to do
                kept.request("GET", f"{TRANSFERS}?to_block=1150", headers={"If-None-Match": tag})
                answer = kept.getresponse()
                assert (answer.status, answer.headers["Connection"]) == (304, "close")
            assert b"\r\nconnection: close\r\n" in slow.recv(65536).lower()
        assert server.process.wait(20) == 0


def test_several_processes_share_the_port(world_url):
    with running(world_url, API_PROCESSES="2") as server:
        assert server.get(f"{TRANSFERS}?limit=1")[0] == 200
        children = spawned_by(server.process.pid)
        assert len(children) == 2
        children[0].kill()
        deadline = time.monotonic() + 20
        while len(alive := spawned_by(server.process.pid)) < 2 or children[0] in alive:
            assert time.monotonic() < deadline
            assert server.get("/health")[0] == 200
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert not list(living(alive))


def test_processes_end_with_the_one_that_started_them(world_url):
    with running(world_url, API_PROCESSES="2") as server:
        assert server.get("/health")[0] == 200
        children = spawned_by(server.process.pid)
        server.process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_a_port_that_is_taken_is_said(world_url):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {**os.environ, "DATABASE_URL": world_url, "API_PORT": str(taken.getsockname()[1])}
        command = [sys.executable, "-m", "api"]
        done = ready.run(command, env=env, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.promise("A-11")
def test_it_starts_without_web3():
    code = "import sys, api.server; print(sorted({'web3', 'eth_abi', 'eth_utils', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_trusted_proxy_tells_whose_request_it_is(world_url):
    with running(world_url, TRUSTED_PROXIES="127.0.0.1", RATE_LIMIT_ADDRESS="1") as server:
        asked = [server.get("/v1", **{"X-Forwarded-For": f"203.0.113.{client}"})[0] for client in (1, 2, 1)]
        assert asked == [200, 200, 429]


@pytest.mark.promise("S-09")
def test_a_stranger_does_not_tell_whose_request_it_is(world_url):
    with running(world_url, RATE_LIMIT_ADDRESS="1") as server:
        asked = [server.get("/v1", **{"X-Forwarded-For": f"203.0.113.{client}"})[0] for client in (1, 2)]
        assert asked == [200, 429]
