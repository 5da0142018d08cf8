"""When the thread of all connections is woken, when it waits to send, and what is sent without it."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected

from api.http_server import _Channel, _Task


@pytest.fixture
def channel() -> Iterator[Any]:
    """A connection that a thread answers: its request is under way."""
    ours, theirs = socket.socketpair()
    server = SimpleNamespace(active_channels={}, woken=[], is_stopping=False, adj=SimpleNamespace(ident=None))
    server.pull_trigger = lambda: server.woken.append(True)
    channel = _Channel(server, ours, ("127.0.0.1", 1), Adjustments(sockets=[], channel_request_lookahead=1), map={})
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
