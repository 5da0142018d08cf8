"""A client of streams: reads what comes over the wire and keeps what a program would keep."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from api import server as api_server
from api.access import Access
from api.app import create_app
from api.context import Context
from api.http_channel import HandOver
from api.http_server import Server
from api.live import server as live

TRANSFERS = "/v1/contracts/usdc/events/Transfer/stream"


class EndedError(Exception):
    """The server closed the connection."""


@dataclass
class Told:
    """One event."""

    name: str
    data: Any
    id: str | None


@dataclass
class Listener:
    """One connection; ``rows`` and ``last_id`` can be handed on to the next one.

    Attributes:
        rows: the places of the rows that hold, in the order in which they came.
    """

    port: int
    path: str = TRANSFERS
    headers: dict[str, str] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    last_id: str | None = None
    reverts: list[int] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = 0
        self.answer: dict[str, str] = {}
        self.told: list[Told] = []
        self.comments = 0
        self._buffer = b""
        # What came of chunks that are not whole; None: the answer is not sent in chunks.
        self._chunks: bytes | None = None
        self._socket: socket.socket | None = None

    def connect(self, *, receive_buffer: int | None = None) -> "Listener":
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect(("127.0.0.1", self.port))
        headers = {"Host": "x", **self.headers}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        lines = [f"GET {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode())
        self._buffer, self._chunks = b"", None
        head = self._until(b"\r\n\r\n", 20).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.answer = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:])}
        if self.answer.get("transfer-encoding") == "chunked":
            self._chunks, self._buffer = self._buffer, b""
            self._unpack()
        return self

    def body(self) -> Any:
        """The JSON of an answer that is no stream."""
        while True:
            try:
                self._more(20)
            except EndedError:
                return json.loads(self._buffer)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _more(self, timeout: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(max(timeout, 0.001))
        try:
            piece = self._socket.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise EndedError
        if self._chunks is None:
            self._buffer += piece
        else:
            self._chunks += piece
            self._unpack()

    def _unpack(self) -> None:
        while self._chunks and b"\r\n" in self._chunks:
            size, _, rest = self._chunks.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                break
            self._buffer += rest[:length]
            self._chunks = rest[length + 2 :]

    def _until(self, end: bytes, timeout: float) -> bytes:
        deadline = monotonic() + timeout
        while end not in self._buffer:
            self._more(deadline - monotonic())
        block, _, self._buffer = self._buffer.partition(end)
        return block

    def next(self, timeout: float = 15) -> Told:
        """The next event; comments and other fields are passed over.

        Raises:
            TimeoutError: none came.
            EndedError: none will.
        """
        deadline = monotonic() + timeout
        while True:
            block = self._until(b"\n\n", deadline - monotonic()).decode()
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            self.comments += block.startswith(":")
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields:
                return self._keep(Told(fields["event"], json.loads(fields["data"]), fields.get("id")))

    def _keep(self, told: Told) -> Told:
        self.told.append(told)
        if told.name == "row":
            assert told.id is not None
            row = told.id.partition(".")[0]
            self.rows.append(row)
            self.values[row] = told.data.get("args", {}).get("value")
            assert len(set(self.rows)) == len(self.rows), "a row came twice"
        if told.name == "revert":
            self.reverts.append(told.data["common_block"])
            self.rows = [row for row in self.rows if int(row.partition("-")[0]) <= told.data["common_block"]]
        return told

    def until(self, row: str, timeout: float = 15) -> "Listener":
        """Listen until this row comes."""
        deadline = monotonic() + timeout
        while not self.rows or self.rows[-1] != row:
            self.next(deadline - monotonic())
        return self

    def until_the_end(self) -> None:
        """Listen until the server closes the connection."""
        while True:
            self.next()

    def until_status(self, timeout: float = 15) -> Any:
        """Listen until a status comes."""
        deadline = monotonic() + timeout
        while (told := self.next(deadline - monotonic())).name != "status":
            pass
        return told.data


@contextmanager
def served(context: Context, url: str, **more: Any) -> Iterator[int]:
    """The API in this process: the door, its threads, and the event loop behind it; the port."""
    access = Access(context)
    streaming = live.start(context, access, url, **more)
    listener = api_server.listen("127.0.0.1", 0)
    handover = HandOver(live.is_asgi, streaming.adopt, streaming.is_busy)
    server = Server(create_app(context, access), listener, context.settings, handover=handover)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.stop()
        streaming.end()
        thread.join(10)
        streaming.stop()
