"""Streams of a whole server: many clients on one process, several processes, the end."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psutil
import pytest

from tests.integration.api.growing import grow, headers
from tests.integration.api.listening import TRANSFERS, EndedError, Listener
from tests.integration.api.test_api_server import Running, running
from tests.integration.api.world import TIP

CLIENTS = 500


@contextmanager
def many_files() -> Iterator[None]:
    """Clients and server need a file descriptor each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CLIENTS + 200:
        pytest.skip("too few file descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CLIENTS + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def streams_port(server: Running) -> int:
    status, answer, _ = server.get(TRANSFERS)
    assert status == 307
    port = urlsplit(answer["location"]).port
    assert port is not None
    return port


def test_500_idle_clients_on_one_process(world_url, seed):
    headers(seed)
    with many_files(), running(world_url, API_THREADS="4") as server, ExitStack() as stack:
        # A log that nobody reads fills its pipe, and then the server stands still.
        assert server.process.stderr is not None
        threading.Thread(target=server.process.stderr.read, daemon=True).start()
        port = streams_port(server)
        process = psutil.Process(server.process.pid)
        before, threads = process.memory_info().rss, process.num_threads()
        clients = [stack.enter_context(Listener(port)) for _ in range(CLIENTS)]
        for client in clients:
            client.connect()
        for client in clients:
            client.until_status()
        assert process.num_threads() < threads + 20
        grown = process.memory_info().rss - before
        assert grown < CLIENTS * 200_000, f"{grown // CLIENTS} bytes a client"
        # Pages are answered meanwhile, and the one too many is refused.
        assert server.get("/v1/contracts/usdc/events/Transfer?limit=1")[0] == 200
        assert Listener(port).connect().status == 503
        grow(seed, TIP + 1)
        for client in clients:
            client.until(f"{TIP + 1}-7")
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 5
        for client in clients:
            with pytest.raises(EndedError):
                client.until_the_end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_do_not_hold_up_the_end(world_url, number):
    with running(world_url) as server, Listener(streams_port(server)).connect() as client:
        client.until_status()
        started = time.monotonic()
        server.process.send_signal(number)
        with pytest.raises(EndedError):
            client.until_the_end()
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 5


def test_several_processes_share_the_streams(world_url, seed):
    headers(seed)
    with running(world_url, API_PROCESSES="2", STREAMS_MAX="3") as server, ExitStack() as stack:
        port = streams_port(server)
        clients = []
        deadline = time.monotonic() + 20
        while len(clients) < 6:  # a process that is full refuses; the other may have room
            assert time.monotonic() < deadline
            client = stack.enter_context(Listener(port)).connect()
            if client.status == 200:
                clients.append(client)
            else:
                assert client.body()["code"] == "STREAMS_FULL"
        for client in clients:
            client.until_status()
        grow(seed, TIP + 1)
        for client in clients:
            client.until(f"{TIP + 1}-7")


def test_a_port_of_streams_that_is_taken_is_said(world_url):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = {**os.environ, "DATABASE_URL": world_url, "API_PORT": "0", "STREAMS_PORT": port}
        command = [sys.executable, "-m", "api"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} (STREAMS_PORT)" in done.stderr


def test_a_token_is_in_no_log(world_url):
    with running(world_url) as server:
        server.get(f"{TRANSFERS}?access_token=eyJabc.def.ghi")
        Listener(streams_port(server), f"{TRANSFERS}?access_token=eyJabc.def.ghi").connect().close()
        server.process.terminate()
        assert server.process.stderr is not None
        said = server.process.stderr.read()
        assert re.search(r"stream 401", said)
        assert "eyJabc" not in said
