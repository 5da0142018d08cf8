"""One request to a server elsewhere, within a time that it cannot stretch, however slowly it answers.

Redirects are not followed: where they lead was not judged.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic


class TooLateError(TimeoutError):
    """The time was over before there was an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: of the answer.
        headers: of the answer.
        body: its first bytes, as many as were asked for.
        whole: whether the connection held until so many bytes, or the end, had come.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    whole: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request goes.

    Attributes:
        addresses: of the host, tried in turn; no name, so that nothing is resolved again.
        host: its name, which its certificate has to bear.
        port: of the host.
        tls: how the host proves who it is; None: it need not.
    """

    addresses: Sequence[str]
    host: str
    port: int
    tls: ssl.SSLContext | None


def exchange(
    destination: Destination,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout: float,
    most: int,
    clock: Callable[[], float] = monotonic,
) -> Answer:
    """Send a request and read its answer.

    Args:
        destination: where to.
        method: of the request.
        path: with its query.
        headers: of the request, ``Host`` among them.
        body: of the request.
        timeout: seconds for all of it, from the connection to the last byte.
        most: bytes of the answer's body that are read.
        clock: monotonic, seconds.

    Raises:
        TimeoutError: the time is over.
        OSError, http.client.HTTPException, ValueError: no connection, or no HTTP.
    """
    deadline = clock() + timeout
    with _connected(destination, deadline, clock) as raw, _ended_at(raw, deadline, clock) as late:
        connection = http.client.HTTPConnection(destination.host, destination.port)
        try:
            connection.sock = (
                raw if destination.tls is None else destination.tls.wrap_socket(raw, server_hostname=destination.host)
            )
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            try:
                content, whole = response.read(most), True
            except (OSError, http.client.HTTPException):
                content, whole = b"", False
            return Answer(response.status, response.headers, content, whole and not late.is_set())
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            if late.is_set():
                raise TooLateError from None
            raise
        finally:
            connection.close()


@contextmanager
def _connected(destination: Destination, deadline: float, clock: Callable[[], float]) -> Iterator[socket.socket]:
    """A connection to the first address that takes one."""
    failure: OSError = TimeoutError()
    for address in destination.addresses:
        left = deadline - clock()
        if left <= 0:
            break
        try:
            found = socket.create_connection((address, destination.port), timeout=left)
        except OSError as error:
            failure = error
            continue
        try:
            yield found
        finally:
            found.close()
        return
    raise failure


@contextmanager
def _ended_at(connection: socket.socket, deadline: float, clock: Callable[[], float]) -> Iterator[threading.Event]:
    """Cut a connection when its time is over; a time-out of its own only watches each single read.

    Yields:
        What is set when that has happened.
    """
    late = threading.Event()
    # Another handle of the same connection: TLS takes the first one over.
    handle = connection.dup()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - clock()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
        handle.close()
