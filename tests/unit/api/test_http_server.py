"""When the thread of all connections is woken, and when it waits to send."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from api.http_server import _Channel


@pytest.fixture
def channel() -> Iterator[Any]:
    """A connection that a thread answers: its request is under way."""
    ours, theirs = socket.socketpair()
    server = SimpleNamespace(active_channels={})
    channel = _Channel(server, ours, ("127.0.0.1", 1), Adjustments(sockets=[], channel_request_lookahead=1), map={})
    channel.requests = [object()]
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
