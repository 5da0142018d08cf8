"""What the API's connections are made of: a request from its bytes, a refusal, a client's pace.

waitress's own parser is not used: several of its expressions are quadratic or worse in what a client sends.
"""

import io
import logging
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from api.errors import from_http_status
from indexer.request_body import BodyReader
from indexer.request_head import REASONS, HeadReader, RefusedRequestError, RequestHead

if sys.platform == "linux":
    import fcntl
    import termios

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused before the application sees it, in the form that waitress has for that.

    Attributes:
        code: the HTTP status.
        reason: the status in words.
        body: for a person.
    """

    code: int
    reason: str
    body: str

    @classmethod
    def of(cls, error: RefusedRequestError) -> "Refusal":
        """From what the reader of heads and bodies says."""
        return cls(error.status, REASONS[error.status], error.message)

    def json(self) -> bytes:
        """The body of the answer."""
        return from_http_status(self.code, f"{self.reason}: {self.body}").body()

    def answer(self) -> bytes:
        """A whole answer, for who has asked nothing yet."""
        body = self.json()
        lines = (
            f"HTTP/1.1 {self.code} {self.reason}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Retry-After: 1",
            "Connection: close",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class IncomingRequest:
    """One request as waitress's channel and tasks know it.

    Args:
        _: what waitress hands over when it makes one to say that an answer failed.
        most: bytes of a body.

    Attributes:
        head: once it is whole and right.
        completed: whether there is something to answer: the whole request, or a refusal.
        error: the refusal.
        headers: by name as WSGI writes it, without ``HTTP_``.
    """

    url_scheme: Final = "http"

    def __init__(self, _: Any = None, *, most: int = MAX_BODY_BYTES) -> None:
        self._most = most
        self._reader = HeadReader()
        self._body: BodyReader | None = None
        self.head: RequestHead | None = None
        self.completed = False
        self.error: Any = None
        self.expect_continue = False
        self.headers: dict[str, str] = {}
        self.version = "1.1"
        self.command = ""
        self.path = self.query = self.request_uri = ""

    @property
    def has_begun(self) -> bool:
        """Whether anything has come but empty lines."""
        return self._reader.has_begun

    @property
    def headers_finished(self) -> bool:
        """Whether the head is whole."""
        return self.head is not None

    def received(self, data: bytes) -> int:
        """Take bytes; returns how many belong to this request. Behind a refused one nothing is a request."""
        try:
            return self._take(data)
        except RefusedRequestError as error:
            self.refuse(Refusal.of(error))
        except Exception:
            log.exception("defect while a request was read")
            self.refuse(Refusal(400, REASONS[400], "it could not be read"))
        return len(data)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, whatever is there of the request."""
        if self.head is None:
            self.command = self._reader.method
            self.headers = _headers(self._reader.fields)
        self.error = refusal
        self.expect_continue = False
        self.completed = True

    def get_body_stream(self) -> io.BytesIO:
        """The body, for the application to read."""
        return io.BytesIO(self._body.content if self._body else b"")

    def close(self) -> None:
        """Nothing: no file is open."""

    def _take(self, data: bytes) -> int:
        if self._body is not None:
            taken = self._body.feed(data)
            self._finish_body()
            return taken
        head = self._reader.feed(data)
        if head is None:
            return len(data)
        self._read(head)
        self._body = BodyReader(head, self._most)
        self._finish_body()
        self.expect_continue = head.awaits_continue and not self.completed
        return len(data) - len(self._reader.rest)

    def _read(self, head: RequestHead) -> None:
        self.head = head
        self.command = head.method
        self.version = head.version
        self.path = unquote_to_bytes(head.path).decode("latin-1")
        self.query = head.query
        self.request_uri = head.target
        self.headers = _headers(head.fields)
        # The tasks look at one word.
        self.headers["CONNECTION"] = "close" if head.closes else "keep-alive"

    def _finish_body(self) -> None:
        assert self._body is not None
        if self._body.is_whole:
            self.completed = True
            if self.headers.pop("TRANSFER_ENCODING", None):
                self.headers["CONTENT_LENGTH"] = str(len(self._body.content))


def _headers(fields: Any) -> dict[str, str]:
    """Header fields as WSGI names them; without those that have an underscore, which WSGI takes for a dash."""
    headers: dict[str, str] = {}
    for name, value in fields:
        if "_" not in name:
            key = name.upper().replace("-", "_")
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client, and a client's request, may take: seconds.

    Attributes:
        queue: that a request may wait for a thread.
        head: for a request's head, from its first byte.
        body: for a request's body.
        answer: from the beginning of an answer until the client has taken all of it.
        pace: bytes a second that a client must take of what waits for it; 0: any.
        window: over which that is measured.
        idle: after which a connection that is not used is closed.
    """

    queue: float
    head: float
    body: float
    answer: float
    pace: int
    window: float = 20.0
    idle: float = 60.0


class Pace:
    """Whether a client takes what waits for it fast enough.

    Args:
        least: bytes a second; 0: any pace will do.
        window: seconds over which the pace is measured.
    """

    def __init__(self, least: int, window: float) -> None:
        self._least = least
        self._window = window
        self._since: float | None = None
        self._taken = 0

    def is_too_slow(self, now: float, taken: int, *, is_waiting: bool) -> bool:
        """Look again.

        Args:
            now: seconds, of a clock that does not jump.
            taken: bytes that the client has taken since it came.
            is_waiting: whether there is more to send than the system takes.
        """
        if not is_waiting or self._since is None:
            self._since, self._taken = now if is_waiting else None, taken
            return False
        if now - self._since < self._window:
            return False
        is_too_slow = taken - self._taken < self._least * (now - self._since)
        self._since, self._taken = now, taken
        return is_too_slow


def untaken(connection: socket.socket | None) -> int:
    """Bytes that the system keeps for a client that has not taken them; 0 where the system does not say."""
    if connection is None or sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # it is closed
        return 0
