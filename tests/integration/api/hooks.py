"""A receiver of webhooks that checks every message as Standard Webhooks says, and keeps what it was told."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

#: What an answer does: a status, or None: cuts the connection.
Answer = Callable[[dict[str, Any]], int | None]


@dataclass
class Attempt:
    """A request: the message's id and body, and the status that was answered; None: none was."""

    message_id: str
    body: dict[str, Any]
    status: int | None = None


@dataclass
class Receiver:
    """What was received, in the order of arrival.

    Attributes:
        secret: what signatures are checked with.
        answer: decides what is answered; called with the message's body.
        attempts: every request.
        problems: whatever was wrong with a request.
    """

    port: int = 0
    secret: str | None = None
    answer: Answer = lambda _: 204
    attempts: list[Attempt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=query-secret"

    def take(self, headers: dict[str, str], body: bytes) -> int | None:
        try:
            until(lambda: self.secret, "the secret", 10)  # a message may come before the answer with its secret
            assert self.secret is not None
            message = Webhook(self.secret).verify(body, headers)
        except (WebhookVerificationError, AssertionError) as error:
            self.problems.append(f"{type(error).__name__}: {error}")
            return 400
        # Noted as it comes: an answer may take its time.
        attempt = Attempt(headers["webhook-id"], message)
        self.attempts.append(attempt)
        attempt.status = status = self.answer(message)
        return status

    def messages(self) -> list[dict[str, Any]]:
        """The messages that were acknowledged, each once, in order.

        Insists on what is promised: the same id has the same body; numbers go up by one, and no message is sent before
        the one before it was acknowledged.
        """
        assert self.problems == []
        bodies: dict[str, dict[str, Any]] = {}
        done: dict[str, dict[str, Any]] = {}
        for attempt in list(self.attempts):
            message_id, body = attempt.message_id, attempt.body
            assert bodies.setdefault(message_id, body) == body, "the same id, the same body"
            if body["type"] == "webhook.test":
                continue
            assert list(bodies)[-1] == message_id, "none is sent again after a later one"
            number = body["data"]["sequence"]
            if message_id not in done and done:
                assert number == list(done.values())[-1]["data"]["sequence"] + 1, "none is passed by"
            if attempt.status is not None and 200 <= attempt.status < 300:
                done[message_id] = body
        return list(done.values())

    def told(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """The rows that hold now, in the order in which they came."""
        rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        for message in self.messages():
            data = message["data"]
            if message["type"] == "event.reverted":
                rows = {key: row for key, row in rows.items() if row["block_number"] <= data["common_block"]}
            elif message["type"] == "event.rows":
                rows |= {(row["contract"], row["event"], row["id"]): row for row in data["rows"]}
        return rows

    def places(self) -> list[tuple[int, int]]:
        """Block and log of the rows that hold now."""
        return [(row["block_number"], row["log_index"]) for row in self.told().values()]

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.messages()]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.take({k.lower(): v for k, v in self.headers.items()}, body)
            if status is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"said")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # a sender that gave up

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def until(condition: Callable[[], object], what: str = "it", seconds: float = 30) -> None:
    """Wait for something that must come true."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, f"{what} did not come true in {seconds} s"
        sleep(0.02)


def parsed(body: bytes) -> Any:
    return json.loads(body) if body else None
