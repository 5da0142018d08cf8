"""Streams of a whole server: many clients on one process, several processes, the end."""

import re
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from tests.integration.api.growing import grow, headers
from tests.integration.api.listening import TRANSFERS, EndedError, Listener
from tests.integration.api.test_api_server import running
from tests.integration.api.world import TIP

#: Of one address, which has half of the slots at most.
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


def test_500_idle_clients_on_one_process(world_url, seed):
    headers(seed)
    limits = {"API_THREADS": "4", "STREAMS_MAX": str(2 * CLIENTS), "TRUSTED_PROXIES": "127.0.0.1"}
    with many_files(), running(world_url, **limits) as server, ExitStack() as stack:
        # A log that is not read fills its pipe, and then the server stands still.
        assert server.process.stderr is not None
        threading.Thread(target=server.process.stderr.read, daemon=True).start()
        port = server.port
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        clients = [stack.enter_context(Listener(port)) for _ in range(CLIENTS)]
        for client in clients:
            client.connect()
        for client in clients:
            client.until_status()
        assert process.num_threads() < 50
        grown = process.memory_info().rss - before
        assert grown < CLIENTS * 200_000, f"{grown // CLIENTS} bytes a client"
        # Pages are answered meanwhile, and the one too many is refused.
        assert server.get("/v1/contracts/usdc/events/Transfer?limit=1")[0] == 200
        assert Listener(port).connect().status == 503
        other = stack.enter_context(Listener(port, headers={"X-Forwarded-For": "203.0.113.9"})).connect()
        other.until_status()
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
    with running(world_url) as server, Listener(server.port).connect() as client:
        client.until_status()
        started = time.monotonic()
        server.process.send_signal(number)
        with pytest.raises(EndedError):
            client.until_the_end()
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 5


def test_several_processes_share_the_streams(world_url, seed):
    headers(seed)
    with running(world_url, API_PROCESSES="2", STREAMS_MAX="6") as server, ExitStack() as stack:
        port = server.port
        clients = []
        deadline = time.monotonic() + 20
        while len(clients) < 6:  # a process refuses what is more than half of its slots; the other may have room
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


def test_a_token_is_in_no_log(world_url):
    with running(world_url) as server:
        server.get(f"{TRANSFERS}?access_token=eyJabc.def.ghi")
        Listener(server.port, f"{TRANSFERS}?access_token=eyJabc.def.ghi").connect().close()
        server.process.terminate()
        assert server.process.stderr is not None
        said = server.process.stderr.read()
        assert re.search(r"stream 401", said)
        assert "eyJabc" not in said
