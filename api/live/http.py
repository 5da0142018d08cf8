"""HTTP for the streams' listener: one request a connection, read as waitress reads it, answered by a WSGI application.

So paths, parameters, keys, CORS and errors are those of the rest of the API; only what is a stream is taken over by
this listener itself.
"""

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from api.door import IncomingRequest, Refusal

#: No request here has a body; a small one is passed over.
MAX_BODY_BYTES: Final = 4 * 1024
_PLAIN_HEADERS: Final = ("CONTENT_LENGTH", "CONTENT_TYPE")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an application answered.

    Attributes:
        status: such as ``200 OK``.
        body: what it returned; to be closed where it can be.
    """

    status: str
    headers: list[tuple[str, str]]
    body: Any

    def head(self, *more: tuple[str, str]) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in (*self.headers, *more)), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_request(reader: asyncio.StreamReader) -> IncomingRequest | None:
    """Read one request; None if the client leaves before it is whole, or sends none."""
    parser = IncomingRequest(most=MAX_BODY_BYTES)
    while not parser.completed:
        data = await reader.read(16 * 1024)
        if not data:
            return None
        while data and not parser.completed:
            data = data[parser.received(data) :]
    return parser


def answer(application: Callable[..., Iterable[bytes]], request: IncomingRequest, environ: dict[str, Any]) -> Answer:
    """What the application answers; what waitress refuses is refused in the same form."""
    if request.error is not None:
        refusal: Refusal = request.error
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        return Answer(f"{refusal.code} {refusal.reason}", headers, [refusal.json()])
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        started.append((status, headers))

    body = application(environ, start_response)
    status, headers = started[-1]
    return Answer(status, headers, body)


def environment(request: IncomingRequest, client: tuple[str, int], server: tuple[str, int]) -> dict[str, Any]:
    """The WSGI environment of a request.

    Args:
        request: without an error.
        client: address and port.
        server: those that it came to.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.command.upper(),
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        environ[name if name in _PLAIN_HEADERS else f"HTTP_{name}"] = value
    environ["CONTENT_LENGTH"] = "0"
    return environ
