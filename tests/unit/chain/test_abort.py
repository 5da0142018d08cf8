"""Requests and questions that are given up because their work is to end: at once, and as nobody's fault."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import Stopped
from indexer.chain.rpc.config import ClientSettings, EndpointConfig

PART = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Silent:
    """A node that says one thing to each request, and nothing more."""

    def __init__(self, says: bytes) -> None:
        self.asked = threading.Semaphore(0)
        self._says = says
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open = [self._server]
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                one, _ = self._server.accept()
                self._open.append(one)
                one.recv(65536)
                one.sendall(self._says)
                self.asked.release()
        except OSError:
            return

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture(params=[b"", PART, REFUSED], ids=["no answer", "half an answer", "between two attempts"])
def node(request) -> Iterator[Silent]:
    one = Silent(request.param)
    yield one
    one.close()


def test_a_question_ends_at_once_wherever_it_waits(node):
    settings = ClientSettings(first_backoff=1000.0, longest_backoff=1000.0, give_up_after=10_000.0)
    client = ChainClient("demo", 1, [EndpointConfig(node.url)], settings=settings)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            client.header(7)
        except BaseException as error:  # noqa: BLE001 - told to the test
            raised.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert node.asked.acquire(timeout=30)
    client.abort()
    thread.join(20)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [Stopped]
    with pytest.raises(Stopped):
        client.header(8)
    client.close()
