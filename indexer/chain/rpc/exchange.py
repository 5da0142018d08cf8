"""What ways to a node have in common: a request's bytes, the answer's bytes, errors of ours, and an end on demand."""

import contextlib
import socket
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from indexer.chain.records.errors import ProviderError, Stopped
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.redact import Redactor


class OpenSockets:
    """All sockets that connections have opened, and that are not closed yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_shut_down = False

    def add(self, opened: Any) -> None:
        """Notes one; shuts it down where all others were before."""
        if isinstance(opened, socket.socket):
            with self._lock:
                self._sockets.add(opened)
                if self._is_shut_down:
                    _shut_down(opened)

    def shut_down(self) -> None:
        """Has whatever reads or writes them, or others to come, fail at once."""
        with self._lock:
            self._is_shut_down = True
            for one in self._sockets:
                _shut_down(one)


def _shut_down(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(one, socket.SHUT_RDWR)  # of TLS, too, without a word to the other side


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP response, whatever its status.

    Attributes:
        status: the HTTP status.
        body: the whole body, decompressed.
        retry_after: seconds, from ``Retry-After``, or None.
        begun: how many requests had begun at the endpoint when this was asked for, its own included.
    """

    status: int
    body: bytes
    retry_after: float | None
    begun: int = 0


class CutShortError(Exception):
    """The connection was closed within an answer, or its body cannot be unpacked."""


class TooLongError(Exception):
    """An answer grows beyond what is read."""


class Exchange(ABC):
    """Requests to one endpoint and their answers. Thread-safe.

    Args:
        config: the endpoint.
        settings: time-outs and bounds.
        clock: a monotonic clock, seconds.
    """

    failures: ClassVar[tuple[type[Exception], ...]]
    """What an exchange that fails raises; anything else is a defect."""

    def __init__(self, config: EndpointConfig, settings: ClientSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._host = config.host
        self._redactor = Redactor([config.url], config.headers.values())
        self._sockets = OpenSockets()
        self._is_aborted = False

    def __str__(self) -> str:
        return f"RPC connection {self._host}"

    __repr__ = __str__

    def redact(self, text: str) -> str:
        """The text without anything of this endpoint's URL but what may be shown."""
        return self._redactor.text(text)

    def abort(self) -> None:
        """Ends all requests that are under way, and those to come: each raises Stopped."""
        self._is_aborted = True
        self._sockets.shut_down()

    def exchange(self, body: bytes, *, ranged: bool = False, timeout: float | None = None) -> HttpAnswer:
        """Sends a request body and reads the whole answer.

        Args:
            body: the JSON-RPC request or batch.
            ranged: whether it asks for a range of blocks, so that a time-out or a body cut short means "too much".
            timeout: seconds to wait for a byte, where the settings' are too long.

        Raises:
            RangeError: a ranged question timed out, or its answer was cut short or is too long.
            TransientError: no connection, or an answer cut short or too long.
            FatalError: the URL redirects elsewhere, or is none.
            Stopped: it was aborted, which says nothing of the endpoint.
        """
        failure: ProviderError
        self._require_open()
        try:
            return self._exchange(body, timeout)
        except self.failures as error:
            failure = self._failure(error, ranged, self._settings.read_timeout if timeout is None else timeout)
        self._require_open()
        raise failure

    def _require_open(self) -> None:
        if self._is_aborted:
            raise Stopped("a request to a node was given up, since its work is to end")

    @property
    def _too_long(self) -> str:
        return f"the answer is longer than {self._settings.max_bytes:,} bytes"

    @abstractmethod
    def _exchange(self, body: bytes, timeout: float | None) -> HttpAnswer:
        """As :meth:`exchange`; raises one of :attr:`failures`."""

    @abstractmethod
    def _failure(self, error: Exception, ranged: bool, timeout: float) -> ProviderError:
        """The error of ours for one of :attr:`failures`, built of redacted text."""
