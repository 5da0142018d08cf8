"""When the thread of all connections is woken, when it waits to send, and what is sent without it."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected

from api.door import Patience
from api.http_channel import Channel, HandOver, _Task


@pytest.fixture
def channel() -> Iterator[Any]:
    """A connection that a thread answers: its request is under way."""
    ours, theirs = socket.socketpair()
    server = SimpleNamespace(active_channels={}, woken=[], is_stopping=False, adj=SimpleNamespace(ident=None))
    server.patience = Patience(queue=10, head=10, body=10, answer=10, pace=0)
    server.admit = lambda _: None
    server.pull_trigger = lambda: server.woken.append(True)
    channel = Channel(server, ours, ("127.0.0.1", 1), Adjustments(sockets=[], channel_request_lookahead=1), map={})
    channel.requests = [object()]
    channel.theirs = theirs
    yield channel
    channel.close()
    theirs.close()


def test_nobody_waits_to_send_while_another_thread_sends(channel) -> None:
    channel.total_outbufs_len = 10
    assert channel.writable()
    sending, sent = threading.Event(), threading.Event()

    def send() -> None:
        with channel.outbuf_lock:
            sending.set()
            sent.wait(10)

    thread = threading.Thread(target=send)
    thread.start()
    assert sending.wait(10)
    assert not channel.writable()
    sent.set()
    thread.join()
    assert channel.writable()
    channel.total_outbufs_len = 0
    assert not channel.writable()


def test_who_has_sent_all_wakes_nobody(channel) -> None:
    assert channel.readable()
    assert not channel.is_settled  # it is being answered
    channel.requests = []
    assert channel.is_settled


@pytest.mark.parametrize(
    "left", [{"total_outbufs_len": 10}, {"will_close": True}, {"close_when_flushed": True}, {"requests": [1, 2]}]
)
def test_what_is_left_to_do_wakes_the_thread_of_all_connections(channel, left: dict[str, Any]) -> None:
    channel.requests = []
    assert channel.readable()
    for name, value in left.items():
        setattr(channel, name, value)
    assert not channel.is_settled


def test_a_connection_that_was_not_listened_to_is_listened_to_again(channel) -> None:
    channel.requests = [1, 2, 3]  # more than are read ahead
    assert not channel.readable()
    channel.requests = []
    assert not channel.is_settled
    assert channel.readable()
    assert channel.is_settled


def test_what_a_client_takes_at_once_is_in_no_buffer(channel) -> None:
    assert channel.write_soon(b"answer") == 6
    assert channel.theirs.recv(100) == b"answer"
    assert channel.total_outbufs_len == 0


def test_what_a_client_does_not_take_is_sent_later_and_in_order(channel) -> None:
    channel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    parts = [bytes([number]) * 100_000 for number in range(3)]
    for part in parts:
        assert channel.write_soon(part) == len(part)
    assert channel.total_outbufs_len > 100_000
    assert channel.server.woken  # the thread of all connections is to go on
    got = b""
    while len(got) < 300_000:
        channel.handle_write()
        got += channel.theirs.recv(1_000_000)
    assert got == b"".join(parts)
    assert channel.total_outbufs_len == 0


def test_nothing_is_sent_to_a_client_that_is_gone(channel) -> None:
    channel.connected = False
    with pytest.raises(ClientDisconnected):
        channel.write_soon(b"answer")


def test_head_and_body_go_out_together(channel) -> None:
    sent: list[bytes] = []
    channel.write_soon = sent.append
    request = SimpleNamespace(version="1.1", headers={})
    task = _Task(channel, request)
    task.complete, task.content_length = True, 4
    task.write(b"body")
    (whole,) = sent
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\nbody")
    assert task.content_bytes_written == 4


def test_an_answer_in_parts_goes_out_in_parts(channel) -> None:
    sent: list[bytes] = []
    channel.write_soon = sent.append
    task = _Task(channel, SimpleNamespace(command="GET", version="1.1", headers={}))
    task.complete = True
    task.write(b"some")
    task.write(b"more")
    task.finish()
    assert sent[0].endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert b"".join(sent[1:]) == b"4\r\nsome\r\n4\r\nmore\r\n0\r\n\r\n"


def adopting(channel: Any) -> list[tuple[socket.socket, bytes]]:
    """What the server hands over: requests for /stream."""
    adopted: list[tuple[socket.socket, bytes]] = []
    channel.requests = []
    server = channel.server
    server.handover = HandOver(
        lambda head: bool(head.path == "/stream"), lambda connection, received: adopted.append((connection, received))
    )
    server.hands_over = server.handover.wanted
    server.queued = []
    server.add_task = server.queued.append
    return adopted


STREAM = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_request_is_handed_over_with_its_connection_and_all_that_came(channel, size) -> None:
    adopted = adopting(channel)
    connection, theirs = channel.socket, channel.theirs
    data = STREAM + b"more"
    for place in range(0, len(data), size):
        if channel.socket is not None:
            channel.received(data[place : place + size])
    ((taken, received),) = adopted
    assert taken is connection
    assert received in (STREAM, data)  # what comes later is still in the socket
    assert not channel.server.active_channels
    assert not channel._map
    # What waitress still does with the channel does not touch the connection.
    channel.handle_close()
    channel.tend(1e9)
    taken.sendall(b"answer")
    assert theirs.recv(100) == b"answer"
    taken.close()


def test_it_is_handed_over_only_after_the_answers_before_it(channel) -> None:
    adopted = adopting(channel)
    channel.received(PAGE + STREAM)
    assert channel.server.queued == [channel]
    assert not adopted
    assert not channel.readable()
    assert not channel.writable()
    channel.requests.clear()  # the page was answered
    assert channel.writable()
    channel.handle_write()
    assert [received for _, received in adopted] == [STREAM]
    adopted[0][0].close()


def test_it_is_not_handed_over_where_the_answer_before_it_ends_the_connection(channel) -> None:
    adopted = adopting(channel)
    channel.received(PAGE + STREAM)
    channel.requests.clear()
    channel.close_when_flushed = True
    assert channel.writable()
    channel.handle_write()
    assert not adopted
    assert channel.socket is None
