"""The administrator's port: ``/metrics`` in Prometheus' text format, ``/health`` and ``/ready``. Off unless asked for.

It is for those who watch over the process, not for the world: it listens on loopback at first, knows no keys, and what
it says holds no secret: of an endpoint's URL no more than its host.
"""

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from indexer.errors import GaplessError

log = logging.getLogger(__name__)

#: Seconds that a client has to say what it wants.
TIMEOUT: Final = 10


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[str], tuple[int, str, bytes]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT
    server: _Server

    def do_GET(self) -> None:
        """Answer."""
        try:
            status, media_type, body = self.server.answer(self.path.partition("?")[0])
        except Exception:
            log.exception("defect in %s of the administrator's port", self.path.partition("?")[0])
            status, media_type, body = _said(500, {"error": "something went wrong here; the log has it"})
        self.send_response_only(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: it is asked every few seconds."""
