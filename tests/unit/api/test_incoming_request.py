"""A request as waitress knows it, and a client's pace, by a clock that the test moves."""

import socket
import sys

import pytest

from api.door import IncomingRequest, Pace, untaken
from indexer.request_head import HeadReader


def test_a_request_is_written_as_wsgi_names_it():
    request = IncomingRequest()
    data = (
        b"POST http://y/a%20b?c=%64 HTTP/1.7\r\nHost: x\r\nX-A: 1\r\nX-A: 2\r\nX_B: forged\r\nConnection: TE, close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    behind = b"GET "
    place = 0
    while not request.completed:
        place += request.received((data + behind)[place:])
    assert place == len(data)
    assert (request.command, request.path, request.query, request.version) == ("POST", "/a b", "c=%64", "1.1")
    assert request.headers == {"HOST": "y", "X_A": "1, 2", "CONNECTION": "close", "CONTENT_LENGTH": "2"}
    assert request.get_body_stream().read() == b"{}"


def test_whatever_is_raised_while_a_request_is_read_is_a_refusal(monkeypatch, caplog):
    def fail(_reader: object, _data: bytes) -> None:
        raise ValueError("secret of the client")

    monkeypatch.setattr(HeadReader, "feed", fail)
    request = IncomingRequest()
    assert request.received(b"GET / HTTP/1.1\r\n") == 16
    assert (request.completed, request.error.code) == (True, 400)
    assert b"secret" not in request.error.json()
    assert "defect while a request was read" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_what_a_client_has_not_taken_is_known():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert untaken(ours) == 0
        ours.sendall(b"a" * 1000)
        assert untaken(ours) >= 1000
        theirs.recv(1000)
        assert untaken(ours) == 0
    assert untaken(ours) == untaken(None) == 0


def test_a_client_that_takes_too_little_is_found_after_one_window():
    pace = Pace(100, 10.0)
    assert not pace.is_too_slow(0.0, 5000, is_waiting=True)
    assert not pace.is_too_slow(9.9, 5000, is_waiting=True)
    assert pace.is_too_slow(10.0, 5999, is_waiting=True)


def test_one_that_takes_enough_is_measured_again():
    pace = Pace(100, 10.0)
    pace.is_too_slow(0.0, 0, is_waiting=True)
    assert not pace.is_too_slow(10.0, 1000, is_waiting=True)
    assert not pace.is_too_slow(15.0, 1000, is_waiting=True)
    assert pace.is_too_slow(20.0, 1999, is_waiting=True)


def test_one_that_nothing_waits_for_is_not_slow():
    pace = Pace(100, 10.0)
    pace.is_too_slow(0.0, 0, is_waiting=True)
    assert not pace.is_too_slow(9.0, 0, is_waiting=False)
    assert not pace.is_too_slow(18.0, 0, is_waiting=True)
    assert not pace.is_too_slow(27.0, 0, is_waiting=True)
    assert pace.is_too_slow(28.0, 0, is_waiting=True)


def test_no_pace_is_asked_for():
    pace = Pace(0, 10.0)
    pace.is_too_slow(0.0, 0, is_waiting=True)
    assert not pace.is_too_slow(100.0, 0, is_waiting=True)
