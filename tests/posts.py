"""A server of POST requests for imitations of nodes: a request's path and body go in, an answer comes out.

It reads of a request's head just what an imitation needs, since tests ask a hundred thousand questions:
``http.server`` parses each head as an e-mail, which took a fifth of a simulation's time.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import responses
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass
class HttpAnswer(Exception):  # noqa: N818 - an answer too
    """A whole HTTP response, which may also be raised in place of an honest one.

    Attributes:
        status: of HTTP; 0: nothing is answered, and the connection is closed.
        body: as it is sent.
        headers: more of them, or others in place of ``Content-Type``.
        cut: the body ends before the length that was announced.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@contextlib.contextmanager
def serving(answer: Callable[[str, bytes], HttpAnswer]) -> Iterator[str]:
    """Serves POST requests on a free port of 127.0.0.1, each connection in a thread; yields the URL without a path.

    Args:
        answer: what is answered to a path and a body; it may also be raised.
    """

    class Handler(StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while (asked := self._read()) is not None:
                try:
                    given = answer(*asked)
                except HttpAnswer as raised:
                    given = raised
                if not given.status:
                    return
                self.wfile.write(_written(given))
                if given.cut:
                    return

        def _read(self) -> tuple[str, bytes] | None:
            line = self.rfile.readline()
            if not line:
                return None
            length = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return line.split()[1].decode(), self.rfile.read(length)

    class Server(ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that goes away is none of a node's business

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _written(given: HttpAnswer) -> bytes:
    headers = {"Content-Type": "application/json", **given.headers}
    headers["Content-Length"] = str(len(given.body) + (1000 if given.cut else 0))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {given.status} {responses.get(given.status, '')}\r\n{head}\r\n".encode() + given.body
