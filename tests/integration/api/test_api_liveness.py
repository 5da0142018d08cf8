"""Liveness and the status page while the database makes everything else wait."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg
import pytest

from api.errors import ApiError
from api.page import facts
from api.resources import pages
from tests.integration.api.test_api_server import TRANSFERS, Running, running

ASKED = f"GET {TRANSFERS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


@contextmanager
def locked(url: str, table: str) -> Iterator[psycopg.Connection]:
    """Hold a lock on a table that every reader has to wait for; yields a connection to look about with."""
    with psycopg.connect(url) as holding, psycopg.connect(url, autocommit=True) as looking:
        holding.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield looking


def wait_for_waiting(looking: psycopg.Connection, count: int) -> None:
    """Wait until so many statements wait for a lock."""
    text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = monotonic() + 60
    while True:
        row = looking.execute(text).fetchone()
        assert row is not None
        if row[0] >= count:
            return
        assert monotonic() < deadline, f"{row[0]} statements wait"


def asked(server: Running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(ASKED)
    return connection


def test_liveness_is_told_while_all_threads_wait_for_the_database(world_url):
    patient = {"API_STATEMENT_TIMEOUT": "60", "API_QUEUE_SECONDS": "60", "API_THREADS": "2", "API_QUICK": "1"}
    with running(world_url, **patient) as server:
        assert server.get(TRANSFERS)[0] == 200
        with locked(world_url, "usdc.transfer") as looking:
            slow = [asked(server) for _ in range(6)]
            wait_for_waiting(looking, 2)  # one at a time while it is quick: the first is not, and the second began
            for path in ("/health", "/health?"):
                assert server.get(path)[0] == 200
            head = server.raw(b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            # They all wait still: it was not that one of them had been answered.
            for connection in slow:
                connection.settimeout(0)
                with pytest.raises(BlockingIOError):
                    connection.recv(1)
        for connection in slow:
            connection.settimeout(60)
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
            connection.close()


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event, list[int]]]:
    """Make the making of the page wait: set by it when it waits, to be set for it to go on; how often it was made."""
    waiting, go_on, made = threading.Event(), threading.Event(), []
    load = facts.load
    go_on.set()

    def slowly(context):
        made.append(1)
        if not go_on.is_set():
            waiting.set()
            assert go_on.wait(60)
        return load(context)

    monkeypatch.setattr(facts, "load", slowly)
    monkeypatch.setattr(pages, "KEPT", -1.0)  # always due
    yield waiting, go_on, made
    go_on.set()


def test_one_request_makes_the_status_page_and_the_others_show_the_old_one(own, blocked):
    waiting, go_on, made = blocked
    old = own.ask("/")
    assert old.status_code == 200
    go_on.clear()
    maker = threading.Thread(target=own.ask, args=("/",))
    maker.start()
    assert waiting.wait(60)
    answers = []
    others = [threading.Thread(target=lambda: answers.append(own.ask("/")), daemon=True) for _ in range(5)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(30)
    assert [one.text for one in answers] == [old.text] * 5
    assert len(made) == 2
    go_on.set()
    maker.join()


@pytest.mark.parametrize(("most", "status", "told"), [
    (pages.MOST_MAKING, 202, "is being read"), (0.0, 503, "the page is being made for"),
])  # fmt: skip
def test_nobody_waits_long_for_the_first_status_page(own, blocked, monkeypatch, most, status, told):
    monkeypatch.setattr(pages, "MOST_MAKING", most)
    waiting, go_on, made = blocked
    go_on.clear()
    maker = threading.Thread(target=own.ask, args=("/",))
    maker.start()
    assert waiting.wait(60)
    answers = []
    other = threading.Thread(target=lambda: answers.append(own.ask("/")), daemon=True)
    other.start()
    other.join(30)
    assert [(one.status_code, one.headers["retry-after"]) for one in answers] == [(status, "1")]
    assert told in answers[0].text
    assert answers[0].headers.get("refresh") == ("1" if status == 202 else None)
    assert len(made) == 1
    go_on.set()
    maker.join()


def test_a_status_page_that_cannot_be_made_is_not_hidden_by_an_old_one(own, blocked, monkeypatch):
    assert own.ask("/").status_code == 200

    def fail(context):
        raise ApiError("DATABASE_UNAVAILABLE", "the database does not answer at the moment", retry_after=2)

    monkeypatch.setattr(facts, "load", fail)
    for _ in range(2):
        assert own.ask("/").status_code == 503
