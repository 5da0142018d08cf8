"""Questions over a node's unix socket (``ipc:///path/geth.ipc``).

Each connection has one question or batch under way; as many connections are open as questions are asked at once, and
they are kept for the next ones. So a question that times out, or an answer that is cut short, spoils its own connection
alone, and no late answer meets another question. What goes wrong ends as the same errors as over HTTP
(:mod:`indexer.chain.rpc.transport`).
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from indexer.chain.records.errors import Limit, ProviderError, RangeError, TransientError
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.exchange import CutShortError, Exchange, HttpAnswer, OpenSockets, TooLongError
from indexer.chain.rpc.transport import Transport

_PIECE = 256 * 1024
_SPACE = b" \t\r\n"
_CLOSES = {b"{": b"}", b"[": b"]"}


class IpcConnection:
    """A connection to a node's unix socket, on which JSON values follow each other without a frame.

    At most one question is under way. What goes wrong is an OSError or one of this module's errors.

    Args:
        path: of the socket.
        timeout: seconds to connect.
        sockets: where it is noted, so that another thread can end it.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, path: str, timeout: float, sockets: OpenSockets, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._is_spoiled = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            sockets.add(self._socket)  # not before: only what is connected can be shut down
        except BaseException:
            self._socket.close()
            raise

    def is_idle(self) -> bool:
        """Whether it is still open, with nothing to be read but a line break that followed the last answer."""
        try:
            self._socket.settimeout(0)
            return (
                not self._is_spoiled
                and (rest := self._socket.recv(64)) != b""
                and not rest.strip(_SPACE)
                and self.is_idle()
            )
        except BlockingIOError:
            return True
        except OSError:
            return False

    def ask(self, body: bytes, timeout: float, deadline: float, most: int) -> HttpAnswer:
        """Sends a question and reads its whole answer.

        Args:
            body: the JSON-RPC request or batch.
            timeout: seconds without a byte.
            deadline: seconds for the whole answer.
            most: bytes of the longest answer that is read.
        """
        until = self._clock() + deadline
        self._socket.settimeout(timeout)
        self._socket.sendall(body + b"\n")
        read = bytearray()
        with _cut_short_within(read):
            while piece := self._socket.recv(_PIECE):
                read += piece if read else piece.lstrip(_SPACE)
                if len(read) > most:
                    raise TooLongError
                if (end := end_of(read)) != "not yet":
                    self._is_spoiled = end == "no JSON"  # more of it may follow
                    return HttpAnswer(200, bytes(read), None)
                if self._clock() > until:
                    raise TimeoutError(f"the answer was not complete after {deadline:.0f} s")
            raise ConnectionResetError("the node closed it")

    def close(self) -> None:
        """Closes the socket; may be called twice."""
        self._socket.close()


@contextlib.contextmanager
def _cut_short_within(read: bytearray) -> Iterator[None]:
    """Tells a connection that is closed within an answer from one that is closed before it."""
    try:
        yield
    except ConnectionError:
        if not read:
            raise
    else:
        return
    raise CutShortError


def end_of(read: bytes | bytearray) -> Literal["whole", "not yet", "no JSON"]:
    """Whether what was read is a whole JSON value; ``no JSON``: it is none, whatever follows.

    It is parsed only where it ends as its value would: a long answer in many pieces is parsed a few times at most.

    Args:
        read: bytes without space before them.
    """
    closing = _CLOSES.get(bytes(read[:1]))
    if closing is None:  # no answer of JSON-RPC: words, up to the end of their line
        return "no JSON" if read[-1:] == b"\n" else "not yet"
    if bytes(read[-64:]).rstrip(_SPACE)[-1:] != closing:
        return "not yet"
    try:
        msgspec.json.decode(read, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return "not yet" if "truncated" in str(error) else "no JSON"
    return "whole"


class IpcTransport(Exchange):
    """What :class:`~indexer.chain.rpc.transport.Transport` is over HTTP, over connections that stay open. Thread-safe.

    Args:
        config: the endpoint.
        settings: time-outs and bounds.
        clock: a monotonic clock, seconds.
    """

    failures = (OSError, TooLongError, CutShortError)

    def __init__(
        self, config: EndpointConfig, settings: ClientSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(config, settings, clock)
        self._config = config
        self._lock = threading.Lock()
        self._idle: list[IpcConnection] = []

    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def _exchange(self, body: bytes, timeout: float | None) -> HttpAnswer:
        if (kept := self._take()) is not None:
            # The node may have been restarted since; that it closes a new one too says something.
            with contextlib.suppress(ConnectionError):
                return self._ask(kept, body, timeout)
        try:
            opened = self._open(timeout)
        except OSError as error:
            raise _NoConnectionError(error.strerror or str(error) or type(error).__name__) from error
        return self._ask(opened, body, timeout)

    def _take(self) -> IpcConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                one = self._idle.pop()
            if one.is_idle():
                return one
            one.close()

    def _open(self, timeout: float | None) -> IpcConnection:
        settings = self._settings
        within = settings.connect_timeout if timeout is None else min(timeout, settings.connect_timeout)
        return IpcConnection(socket_path(self._config.url), within, self._sockets, self._clock)

    def _ask(self, one: IpcConnection, body: bytes, timeout: float | None) -> HttpAnswer:
        settings = self._settings
        wait, deadline = (settings.read_timeout, settings.deadline) if timeout is None else (timeout, 2 * timeout)
        try:
            answer = one.ask(body, wait, deadline, settings.max_bytes)
        except BaseException:
            one.close()
            raise
        with self._lock:
            self._idle.append(one)
        return answer

    def _failure(self, error: Exception, ranged: bool, timeout: float) -> ProviderError:
        too_much = False
        limit: Limit = "unknown"
        match error:
            case TooLongError():
                what, too_much, limit = self._too_long, True, "bytes"
            case CutShortError():
                what, too_much = "the answer was cut short (the node closed the connection)", True
            case _NoConnectionError():
                what = f"no connection ({self.redact(str(error))})"
            case TimeoutError():
                text = str(error)
                what, too_much = text if "complete" in text else f"no answer within {timeout:.0f} s", True
            case _:
                what = f"the connection was closed ({self.redact(str(error))})"
        if ranged and too_much:
            return RangeError(what, limit=limit, timed_out=isinstance(error, TimeoutError), host=self._host)
        opened = isinstance(error, ConnectionError) and not isinstance(error, _NoConnectionError)
        return TransientError(what, shrinkable=opened, host=self._host)


class _NoConnectionError(OSError):
    """None could be opened."""


def socket_path(url: str) -> str:
    """The path of the socket that an ``ipc://`` URL names."""
    return unquote(urlsplit(url).path)


def transport_of(
    config: EndpointConfig, settings: ClientSettings, clock: Callable[[], float]
) -> Transport | IpcTransport:
    """What carries questions to an endpoint, as its URL's scheme asks."""
    if config.url.partition(":")[0].lower() == "ipc":
        return IpcTransport(config, settings, clock=clock)
    return Transport(config, settings, clock=clock)
