"""Questions over a node's unix socket: answers in any pieces, what goes wrong, and restarts of the node."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import ProviderError, RangeError, Stopped, TransientError
from indexer.chain.records.messages import Call, encode_batch
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.ipc import IpcTransport, end_of
from indexer.redact import Redactor, redact

Say = Callable[[socket.socket, bytes], None]


class SocketNode:
    """A node on a unix socket; ``say`` answers each request."""

    def __init__(self, path: Path, say: Say) -> None:
        self.path, self.say = path, say
        self.connections = 0
        self.asked = threading.Semaphore(0)
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._open = [server := socket.socket(socket.AF_UNIX)]
        server.bind(str(self.path))
        server.listen(64)
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def stop(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, server: socket.socket) -> None:
        try:
            while True:
                one, _ = server.accept()
                self.connections += 1
                self._open.append(one)
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()
        except OSError:
            return

    def _serve(self, one: socket.socket) -> None:
        read = b""
        try:
            while piece := one.recv(65536):
                read += piece
                while b"\n" in read:
                    line, _, read = read.partition(b"\n")
                    self.asked.release()
                    self.say(one, line)
        except OSError:
            return


def result_of(line: bytes, result: object = "0x1") -> bytes:
    asked = msgspec.json.decode(line)
    if isinstance(asked, list):
        return msgspec.json.encode([{"jsonrpc": "2.0", "id": one["id"], "result": one["params"]} for one in asked])
    return msgspec.json.encode({"jsonrpc": "2.0", "id": asked["id"], "result": result})


def echo(one: socket.socket, line: bytes) -> None:
    one.sendall(result_of(line) + b"\n")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Say], SocketNode]]:
    nodes: list[SocketNode] = []

    def start(say: Say) -> SocketNode:
        nodes.append(SocketNode(tmp_path / f"node{len(nodes)}.ipc", say))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


def client_of(node: SocketNode | str, **settings: object) -> ChainClient:
    url = node if isinstance(node, str) else f"ipc://{node.path}"
    quick = {"first_backoff": 0.001, "attempts": 2, "read_timeout": 20.0, **settings}
    return ChainClient("demo", 1, [EndpointConfig(url)], settings=ClientSettings(**quick))  # type: ignore[arg-type]


def transport_of(node: SocketNode, **settings: object) -> IpcTransport:
    return IpcTransport(EndpointConfig(f"ipc://{node.path}"), ClientSettings(**settings))  # type: ignore[arg-type]


BODY = b'{"jsonrpc":"2.0","id":7,"method":"eth_chainId","params":[]}'


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("end", [b"", b"\n", b" \r\n"])
def test_an_answer_comes_in_any_pieces_and_with_any_end(serve, size, end):
    result = {"text": 'a } and a ] and a " in {[ text }', "more": [{"a": {}}, []]}

    def pieces(one: socket.socket, line: bytes) -> None:
        answer = b"\n " + result_of(line, result) + end
        for at in range(0, len(answer), size):
            one.sendall(answer[at : at + size])

    node = serve(pieces)
    transport = transport_of(node)
    for _ in range(3):
        assert msgspec.json.decode(transport.exchange(BODY).body) == {"jsonrpc": "2.0", "id": 7, "result": result}
    transport.close()


def test_questions_and_batches_side_by_side_get_their_own_answers(serve):
    barrier = threading.Barrier(4, timeout=30)

    def together(one: socket.socket, line: bytes) -> None:
        barrier.wait()
        one.sendall(result_of(line))

    transport = transport_of(serve(together))
    found: dict[int, object] = {}

    def ask(number: int) -> None:
        calls = [Call("test_echo", (number, at)) for at in range(20)]
        found[number] = msgspec.json.decode(transport.exchange(encode_batch(calls, 100 * number)).body)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in range(4):
        assert found[number] == [
            {"jsonrpc": "2.0", "id": 100 * number + at, "result": [number, at]} for at in range(20)
        ]
    transport.close()


def test_a_node_that_was_restarted_is_asked_at_once(serve):
    node = serve(echo)
    transport = transport_of(node)
    transport.exchange(BODY)
    transport.exchange(BODY)
    assert node.connections == 1
    node.stop()
    with pytest.raises(TransientError, match="no connection"):
        transport.exchange(BODY)
    node.start()
    assert transport.exchange(BODY).status == 200
    transport.close()


def test_thousands_of_reconnects_leave_no_descriptor_and_no_thread(serve):
    def close(one: socket.socket, line: bytes) -> None:
        one.sendall(result_of(line)[:-3] if node.connections % 2 else b"")
        one.shutdown(socket.SHUT_RDWR)
        one.close()

    node = serve(close)
    transport = transport_of(node)
    messages = set()
    before, threads = sum(map(_is_socket, Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(1_000):
        with pytest.raises(TransientError) as caught:
            transport.exchange(BODY)
        messages.add(str(caught.value))
    assert len(messages) == 2
    assert any("cut short" in text for text in messages)
    gc.collect()
    assert sum(map(_is_socket, Path("/proc/self/fd").iterdir())) - before < 100
    assert threading.active_count() - threads < 100  # other tests of this process left some
    transport.close()


def _is_socket(descriptor: Path) -> bool:
    try:
        return "socket" in str(descriptor.readlink())
    except OSError:
        return False


def test_what_goes_wrong_is_told_as_over_http(serve, tmp_path):
    with pytest.raises(ProviderError, match=r"no connection .No such file or directory") as caught:
        client_of(f"ipc://{tmp_path}/of-a-secret-name/geth.ipc").header(1)
    assert "of-a-secret-name" not in str(caught.value)
    (tmp_path / "file.ipc").touch()
    with pytest.raises(ProviderError, match=r"no connection .Connection refused"):
        client_of(f"ipc://{tmp_path}/file.ipc").header(1)
    with pytest.raises(ProviderError, match="no connection"):
        client_of("ipc://" + "/long" * 40).header(1)
    words = transport_of(serve(lambda one, line: one.sendall(b"go away {}\n")))
    assert words.exchange(BODY).body == b"go away {}\n"
    with pytest.raises(ProviderError):
        client_of(serve(lambda one, line: one.sendall(b"go away\n"))).header(1)
    silent = transport_of(serve(lambda one, line: None), read_timeout=0.05)
    with pytest.raises(TransientError, match="no answer within"):
        silent.exchange(BODY)
    with pytest.raises(RangeError) as ranged:
        silent.exchange(BODY, ranged=True)
    assert ranged.value.timed_out
    half = transport_of(serve(lambda one, line: (one.sendall(b'{"id":'), one.shutdown(socket.SHUT_RDWR))))
    with pytest.raises(RangeError, match="cut short"):
        half.exchange(BODY, ranged=True)
    long = transport_of(serve(lambda one, line: one.sendall(result_of(line, "0" * 10_000))), max_bytes=5_000)
    with pytest.raises(RangeError, match="longer than 5,000 bytes") as caught_long:
        long.exchange(BODY, ranged=True)
    assert caught_long.value.limit == "bytes"


def test_a_late_answer_meets_no_other_question(serve):
    answers = [threading.Event(), threading.Event()]

    def late(one: socket.socket, line: bytes) -> None:
        if not answers[0].is_set():
            answers[0].set()
            answers[1].wait(30)
        with contextlib.suppress(OSError):
            one.sendall(result_of(line))

    node = serve(late)
    transport = transport_of(node, read_timeout=0.2)
    with pytest.raises(TransientError):
        transport.exchange(BODY)
    answers[1].set()
    body = BODY.replace(b"7", b"8")
    assert msgspec.json.decode(transport.exchange(body).body)["id"] == 8
    assert node.connections == 2


def test_a_question_under_way_is_given_up_at_once(serve):
    node = serve(lambda one, line: None)
    client = client_of(node, read_timeout=1000.0, deadline=1000.0)
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
    assert [type(error) for error in raised] == [Stopped]
    with pytest.raises(Stopped):
        client.header(8)


@pytest.mark.parametrize(
    ("read", "end"),
    [
        (b'{"a":{}', "not yet"),
        (b'{"a":{}}', "whole"),
        (b'[{"a":"]"}]\n', "whole"),
        (b'{"a":"}', "not yet"),
        (b"{}{}", "no JSON"),
        (b"{}\n[", "not yet"),
        (b"", "not yet"),
        (b"words", "not yet"),
        (b"words\n", "no JSON"),
    ],
)
def test_where_a_value_ends(read, end):
    assert end_of(read) == end


def test_a_socket_is_shown_by_its_name_alone():
    url = "ipc:///home/of-a-person/some%20node/geth.ipc"
    assert redact(f"at {url}: gone") == "at ipc://***/geth.ipc: gone"
    assert redact(redact(url)) == redact(url)
    assert redact("ipc:///a b") == "ipc://***/a b"
    assert Redactor([url]).text("cannot open /home/of-a-person/some node/geth.ipc") == "cannot open ***"
