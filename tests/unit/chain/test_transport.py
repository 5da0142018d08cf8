"""What goes out over HTTP: credentials of the URL, a balancer's cookie, an environment's proxy, one connection."""

import socket
import threading
from collections.abc import Iterator

import pytest

from indexer.chain.records.errors import FatalError, TransientError
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.transport import Transport

BODY = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'


class Listener:
    """A server that keeps the heads of requests as they came, and answers each alike.

    Attributes:
        heads: of the requests, in lower case.
        connections: how many were opened.
        more: header lines of the answers to come.
        said: how long a body the answers claim to have; its length where None.
    """

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.more = ""
        self.said: int | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                opened, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(opened,), daemon=True).start()

    def _serve(self, opened: socket.socket) -> None:
        with opened, opened.makefile("rb") as came:
            while lines := self._head(came):
                length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
                came.read(length)
                self.heads.append("\n".join(lines))
                claimed = len(ANSWER) if self.said is None else self.said
                opened.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {claimed}\r\n{self.more}\r\n".encode() + ANSWER)
                if claimed > len(ANSWER):
                    return

    @staticmethod
    def _head(came: "socket.SocketIO") -> list[str]:  # type: ignore[name-defined]
        lines: list[str] = []
        while (line := came.readline().decode().strip()) != "":
            lines.append(line.lower())
        return lines


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def to(url: str) -> Transport:
    return Transport(EndpointConfig(url), ClientSettings())


def test_questions_share_a_connection_and_a_closed_transport_opens_another(listener: Listener) -> None:
    transport = to(f"http://127.0.0.1:{listener.port}/key")
    for _ in range(3):
        answer = transport.exchange(BODY)
        assert (answer.status, answer.body) == (200, ANSWER)
    assert listener.connections == 1
    assert listener.heads[0].startswith("post /key http/1.1\n")
    transport.close()
    assert transport.exchange(BODY).body == ANSWER
    assert listener.connections == 2


def test_credentials_of_the_url_are_sent_as_a_header(listener: Listener) -> None:
    to(f"http://user:secret@127.0.0.1:{listener.port}").exchange(BODY)
    assert "\nauthorization: basic dxnlcjpzzwnyzxq=" in listener.heads[0]  # of user:secret, in lower case
    assert "secret" not in listener.heads[0].replace("dxnlcjpzzwnyzxq=", "")


def test_a_balancers_cookie_comes_back_so_that_one_node_answers(listener: Listener) -> None:
    transport = to(f"http://127.0.0.1:{listener.port}")
    listener.more = "Set-Cookie: node=seven; Path=/\r\n"
    transport.exchange(BODY)
    listener.more = ""
    transport.exchange(BODY)
    transport.exchange(BODY)
    assert "cookie:" not in listener.heads[0]
    assert all("\ncookie: node=seven" in head for head in listener.heads[1:])


def test_the_proxy_of_the_environment_is_asked_for_the_whole_url(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{listener.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    transport = to("http://node.example/key")
    assert transport.exchange(BODY).body == ANSWER
    assert transport.exchange(BODY).body == ANSWER
    assert listener.connections == 1
    for head in listener.heads:
        assert head.startswith("post http://node.example/key http/1.1\n")
        assert "\nproxy-authorization: basic bwu6d29yza==" in head  # of me:word, in lower case


def test_an_answer_that_is_cut_short_is_asked_for_anew_on_another_connection(listener: Listener) -> None:
    transport = to(f"http://127.0.0.1:{listener.port}")
    listener.said = len(ANSWER) + 10
    with pytest.raises(TransientError, match="the answer was cut short"):
        transport.exchange(BODY)
    listener.said = None
    assert transport.exchange(BODY).body == ANSWER
    assert listener.connections == 2


@pytest.mark.parametrize("url", ["http://", "http://[::1", "ftp://127.0.0.1/key", "http://a b/"])
def test_what_is_no_url_is_said_so(url: str) -> None:
    transport = Transport(EndpointConfig("http://node.example"), ClientSettings())
    transport._url = url
    with pytest.raises(FatalError, match="not a URL that can be asked"):
        transport.exchange(BODY)
