"""The administrator's port: ``/metrics`` in Prometheus' text format, ``/health`` and ``/ready``. Off unless asked for.

It is for those who watch over the process, not for the world: it listens on loopback at first, knows no keys, and what
it says holds no secret: of an endpoint's URL no more than its host.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from socketserver import BaseRequestHandler, ThreadingTCPServer
from time import monotonic
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from indexer.errors import GaplessError
from indexer.request_body import BodyReader
from indexer.request_head import REASONS, HeadReader, RefusedRequestError, RequestHead

log = logging.getLogger(__name__)

#: Seconds that a client has to say what it wants, and to take the answer.
TIMEOUT: Final = 10
#: Seconds for which a client is listened to after its answer, so that the answer reaches it.
LINGER: Final = 1.0
MAX_BODY_BYTES: Final = 4 * 1024
#: Clients that are answered at once; those beyond are turned away.
MAX_CONNECTIONS: Final = 32


class AdminError(GaplessError):
    """The administrator's port cannot be had."""


class AdminServer:
    """Answers on a thread of its own until it is closed.

    Args:
        host: address to listen on.
        port: 0: a free one.
        registry: the metrics.
        trouble: what keeps the process from its work, or None; asked by ``/ready``.

    Raises:
        AdminError: the address is taken, or not one of this machine.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, trouble: Callable[[], str | None]) -> None:
        self._registry = registry
        self._trouble = trouble
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise AdminError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="choose another address with ADMIN_HOST and ADMIN_PORT, or end what listens there; "
                "gapless run and gapless serve need a port each",
            ) from None
        self._server.answer = self._answer
        self._thread = threading.Thread(target=self._server.serve_forever, name="admin", daemon=True)
        self._thread.start()
        log.info("the administrator's port is at %s: /metrics, /health, /ready", self.url)

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        match path:
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case "/health":
                return _said(200, {"status": "ok"})
            case "/ready":
                trouble = self._trouble()
                return _said(200, {"status": "ready"}) if trouble is None else _said(503, {"error": trouble})
            case _:
                return _said(404, {"error": "there are /metrics, /health and /ready"})


def _said(status: int, body: dict[str, str]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body).encode()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    answer: Callable[[str], tuple[int, str, bytes]]

    def __init__(self, address: tuple[str, int], handler: type[BaseRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, unless too many are answered already."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, in the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are nothing to print."""


class _Handler(BaseRequestHandler):
    """Answers one request; then the connection ends."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        """Read, and answer."""
        self._deadline = monotonic() + TIMEOUT
        try:
            head = self._read()
        except RefusedRequestError as error:
            reason = REASONS[error.status]
            self._send(error.status, reason, *_said(error.status, {"error": f"{reason}: {error.message}"})[1:])
            self._linger()
            return
        if head is None:
            return
        try:
            status, media_type, body = self.server.answer(head.path)
        except Exception:
            log.exception("defect in %s of the administrator's port", head.path)
            status, media_type, body = _said(500, {"error": "something went wrong here; the log has it"})
        if head.method not in ("GET", "HEAD"):
            status, media_type, body = _said(405, {"error": "there is nothing but GET"})
        self._send(status, HTTPStatus(status).phrase, media_type, body, with_body=head.method != "HEAD")
        self._linger()

    def _read(self) -> RequestHead | None:
        reader = HeadReader()
        while data := self._receive():
            if head := reader.feed(data):
                BodyReader(head, MAX_BODY_BYTES)  # which nothing here needs: it is passed over
                return head
        if reader.has_begun:
            raise RefusedRequestError(400, "the request ends before it is whole")
        return None

    def _receive(self) -> bytes:
        try:
            self.request.settimeout(max(0.001, self._deadline - monotonic()))
            return self.request.recv(8192)
        except TimeoutError:
            raise RefusedRequestError(408, f"the head did not come within {TIMEOUT} s") from None

    def _send(self, status: int, reason: str, media_type: str, body: bytes, *, with_body: bool = True) -> None:
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        self.request.settimeout(TIMEOUT)
        self.request.sendall(head.encode() + (body if with_body else b""))

    def _linger(self) -> None:
        """Let a client that is still sending read its answer: closed at once, its connection would be reset."""
        self.request.shutdown(socket.SHUT_WR)
        self._deadline = monotonic() + LINGER
        with suppress(RefusedRequestError):
            while self._receive():
                pass
