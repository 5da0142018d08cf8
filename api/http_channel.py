"""One connection of the API under waitress: requests come in, answers go out, and neither may take for ever.

A client has so long for a request's head, its body and the answer, and takes waiting bytes at a least pace. One that
has ended its own side gets its answers all the same. A refusal reaches a client that is still sending. A request that
another server answers is handed over together with its connection.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from time import monotonic, time
from typing import Any, Final, NamedTuple

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import build_http_date

from api.caching import VARY
from api.door import IncomingRequest, Pace, Refusal, untaken
from indexer.request_head import RequestHead

log = logging.getLogger(__name__)

#: Seconds for which a client that was refused is still listened to, so that the refusal reaches it.
LINGER: Final = 2.0
#: Bytes that may wait for a client when its next request is begun: a thread that cannot write would wait with them.
MAX_UNTAKEN: Final = 64 * 1024


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress is untyped
    """What waitress itself refuses, in the API's own form."""

    def execute(self) -> None:
        refusal = self.request.error
        if self.channel.server.metrics is not None:
            self.channel.server.metrics.refused(refusal.code)
        body = Refusal(refusal.code, refusal.reason, refusal.body).json()
        self.status = f"{refusal.code} {refusal.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Vary", VARY)]
        self.response_headers += self.channel.server.cors.headers(self.request.headers.get("ORIGIN")).items()
        if refusal.code == 503:
            self.response_headers.append(("Retry-After", "1"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)


class _Task(WSGITask):  # type: ignore[misc]
    """A request that the application answers."""

    wrote_header: bool

    def write(self, data: bytes) -> None:
        """Send a part of the answer. One that is the whole goes out together with its head, in one piece."""
        if self.complete and not self.wrote_header and data and self.has_body and self.content_length == len(data):
            head = self.build_response_header()
            if not self.chunked_response:
                self.wrote_header = True
                self.content_bytes_written += len(data)
                self.channel.write_soon(head + data)
                return
        super().write(data)

    def finish(self) -> None:
        """End the answer. One to HEAD ends with its head, so the mark at the end of chunks would be a stray line."""
        if not self.wrote_header:
            self.write(b"")
        if self.request.command == "HEAD":
            self.chunked_response = False
        super().finish()

    def set_close_on_finish(self) -> None:
        """Close the connection after this answer; not for the mere reason that a 204 or 304 has no length.

        waitress would do that, so that who asks with a tag paid each 304 with a new connection. Such an answer ends
        with its head.
        """
        is_kept = self.version == "1.1" and self.request.headers.get("CONNECTION") != "close"
        if self.has_body or not is_kept or self.channel.server.is_stopping:
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        """The head of the answer. While the server stops, it says that the connection ends with this answer."""
        if self.channel.server.is_stopping:
            self.set_close_on_finish()
        is_kept = self.version == "1.1" and self.request.headers.get("CONNECTION") != "close"
        if is_kept and not self.close_on_finish and self.content_length is not None and self.has_body:
            # waitress looks at each header for what none of ours says: this is the head that it makes of them.
            lines = [f"{_capitalised(name)}: {value}\r\n" for name, value in self.response_headers]
            date = build_http_date(self.start_time)
            return f"HTTP/1.1 {self.status}\r\n{''.join(lines)}Date: {date}\r\n\r\n".encode("latin-1")
        head: bytes = super().build_response_header()
        return head


@cache  # the API's own headers, which are few
def _capitalised(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


class HandOver(NamedTuple):
    """Requests that another server answers, on the connection that they came by.

    Attributes:
        wanted: whether a request is one of those; called with each head that is whole and right.
        adopt: takes the connection, which does not block and is no longer ours, and all bytes from the request's head
            on. It neither waits nor raises, and ends the connection with the answer.
        is_busy: whether it makes answers that the end of the process should wait for.
    """

    wanted: Callable[[RequestHead], bool]
    adopt: Callable[[socket.socket, bytes], None]
    is_busy: Callable[[], bool] = lambda: False


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. All but ``service`` and ``write_soon`` is called in the thread of all connections."""

    task_class = _Task
    error_task_class = _JsonErrorTask
    parser_class = IncomingRequest
    request: IncomingRequest | None
    requests: list[IncomingRequest]
    will_close: bool
    socket: Any
    is_awaited = False
    #: Whether the client has ended its side: nothing more comes, but it may read.
    half_closed = False
    #: The bytes of a request that is handed over as soon as all that came before it is answered.
    leaving: bytes | None = None
    #: Whether the last answer was a refusal, of a request that the client may still be sending.
    refused = False
    #: When a client that was refused is no longer listened to.
    lingers_until: float | None = None
    #: When the answer began that is being made or taken.
    answer_began: float | None = None
    #: Whether the next request waits until the client has taken more of the answers before it.
    is_postponed = False
    #: Bytes that the system took.
    sent = 0
    #: Whose connection it is while it counts as one; None: it does not, or is a proxy's.
    client: str | None = None
    is_counted = False

    def __init__(self, server: Any, *args: Any, **kwargs: Any) -> None:
        #: Since when something is waited for: the first request, the rest of one, the next one.
        self.waits_since = monotonic()
        self._pace = Pace(server.patience.pace, server.patience.window)
        super().__init__(server, *args, **kwargs)
        server.admit(self)

    def del_channel(self, map: Any = None) -> None:  # noqa: A002  # waitress's name
        """Count the connection no longer."""
        super().del_channel(map)
        if self.is_counted:
            self.is_counted = False
            self.server.connections.give_back(self.client)

    def turn_away(self, refusal: Refusal, *, lingers: bool) -> None:
        """Refuse the client before it has said anything.

        Args:
            refusal: why.
            lingers: whether there is room to wait until it has read that.
        """
        with suppress(OSError):
            self.socket.send(refusal.answer())
        self.refused = lingers
        self.handle_close()

    def service(self) -> None:
        """Answer a request; one that waited too long for a thread is refused, so that the queue shrinks again."""
        request = self.requests[0]
        if request.error is None and monotonic() - self.queued_at > self.server.patience.queue:
            request.error = Refusal(503, "Service Unavailable", "no thread was free in time: try again in a moment")
        self.refused = request.error is not None
        self.server.answering.channel = self
        self.answer_began = monotonic()
        super().service()
        self.waits_since = monotonic()
        if not self.total_outbufs_len:
            self.answer_began = None

    def write_soon(self, data: Any) -> int:
        """Send bytes, or keep them to be sent; without the detour through a buffer as far as the client takes them now.

        Raises:
            ClientDisconnected: the client has closed the connection.
        """
        size = len(data) if data else 0
        if isinstance(data, bytes):
            # A failure is met once more below, where it is dealt with.
            with self.outbuf_lock, suppress(OSError):
                if self.connected and not self.total_outbufs_len and (sent := self.send(data, do_close=False)):
                    self.last_activity = time()
                    data = data[sent:]
        if data:
            super().write_soon(data)
        return size

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Hand bytes to the system; returns how many it took."""
        taken: int = super().send(data, do_close)
        self.sent += taken
        return taken

    def handle_read(self) -> None:
        """Take what has come. That the client has ended its side is no reason to leave its requests unanswered."""
        try:
            data = self.socket.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        self.last_activity = time()
        if self.lingers_until is not None:
            if not data:
                self.handle_close()
        elif data:
            self.received(data)
        else:
            self._end_of_input()

    def received(self, data: bytes) -> bool:
        """Make requests of bytes; the first of them is answered at once, the others in their turn."""
        with self.requests_lock:
            while data and not self._is_over:
                if self.request is None:
                    self.request = self.parser_class()
                    self.waits_since = monotonic()
                request, had_head = self.request, self.request.headers_finished
                data = data[request.received(data) :]
                if request.head is not None and not had_head:
                    self.waits_since = monotonic()
                    if request.error is None and self.server.hands_over(request.head):
                        self.leaving, self.request = request.head.raw + data, None
                        break
                    if request.expect_continue and not self.requests and not self.sent_continue:
                        self.send_continue()
                if request.completed:
                    self._queue(request)
        self._leave()
        return True

    def _queue(self, request: IncomingRequest) -> None:
        """Let a request be answered; with the lock of requests."""
        self.sent_continue = False
        self.request = None
        self.requests.append(request)
        if len(self.requests) == 1:
            if not self.total_outbufs_len:
                self.answer_began = None
            self.server.add_task(self)

    def _end_of_input(self) -> None:
        self.half_closed = True
        with self.requests_lock:
            if self.request is not None and self.request.has_begun and not self._is_over:
                self.request.refuse(Refusal(400, "Bad Request", "the request ends before it is whole"))
                self._queue(self.request)
        if self._has_answered and self.leaving is None:
            self.handle_close()

    @property
    def _is_over(self) -> bool:
        """Whether nothing more that comes is answered."""
        return bool(self.will_close or self.close_when_flushed or self.leaving is not None)

    @property
    def _has_answered(self) -> bool:
        """Whether nothing is being answered or sent."""
        return not self.requests and not self.total_outbufs_len

    def _leave(self) -> None:
        """Hand the connection over, if it is to be and everything before is answered."""
        if self.leaving is None or not self._has_answered or self.will_close or self.close_when_flushed:
            return
        received, self.leaving = self.leaving, None
        connection = self.socket
        self.del_channel()
        self.socket = None
        self.connected = False
        self.server.handover.adopt(connection, received)

    def readable(self) -> bool:
        """Whether the thread of all connections is to wait for something to read, about which it asks each time."""
        self.is_awaited = False  # first: a thread that finds it true knows that what it did before will be seen
        if self.lingers_until is not None:
            return True
        if not self.half_closed and self.leaving is None:
            self.is_awaited = bool(super().readable())
        return self.is_awaited

    def writable(self) -> bool:
        """Whether the thread of all connections is to wait until something can be sent.

        Not while another thread is sending: that one says so if it could not send all. waitress would ask again and
        again meanwhile, a socket being writable most of the time, and take the interpreter's lock from who sends.
        """
        if self.lingers_until is not None:
            return False
        if (self.half_closed or self.leaving is not None) and self._has_answered:
            return True
        if self.is_postponed and self.total_outbufs_len <= MAX_UNTAKEN:
            return True
        if not super().writable() or not self.outbuf_lock.acquire(blocking=False):
            return False
        self.outbuf_lock.release()
        return True

    def handle_write(self) -> None:
        """Send what waits, or do what comes after the last answer."""
        if self._has_answered:
            self._leave()
            if not self.connected:
                return
            self.will_close = self.will_close or self.half_closed
        super().handle_write()
        if self.is_postponed and self.requests and self.total_outbufs_len <= MAX_UNTAKEN:
            self.is_postponed = False
            self.server.add_task(self)

    def handle_close(self) -> None:
        """Close the connection; after a refusal, once the client has ended its side or had time to read.

        A connection that is closed while bytes come in is reset, and a reset takes with it what was not read yet.
        """
        if self.refused and self.connected and not self.half_closed and self.lingers_until is None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                self.lingers_until = monotonic() + LINGER
                return
        super().handle_close()

    @property
    def is_settled(self) -> bool:
        """Whether the thread of all connections has nothing to do for this one but to wait for its next request."""
        return self.is_awaited and self._has_answered and not (self.close_when_flushed or self.will_close)

    @property
    def is_resting(self) -> bool:
        """Whether nothing is being answered: at most a part of a request has come."""
        return self.connected and self._has_answered and self.lingers_until is None

    def tend(self, now: float) -> None:
        """Do what is due because of the time.

        Args:
            now: of ``monotonic``.
        """
        patience = self.server.patience
        waited = now - self.waits_since
        if self.lingers_until is not None:
            if now > self.lingers_until:
                self.drop()
        elif not self._has_answered:
            self._tend_answer(now)
        elif self.request is not None:
            part, most = ("body", patience.body) if self.request.headers_finished else ("head", patience.head)
            if waited > most:
                with self.requests_lock:
                    self.request.refuse(Refusal(408, "Request Timeout", f"the {part} did not come within {most:g} s"))
                    self._queue(self.request)
        elif waited > patience.idle:
            self.drop()

    def _tend_answer(self, now: float) -> None:
        patience = self.server.patience
        is_slow = self._pace.is_too_slow(now, self.sent - untaken(self.socket), is_waiting=bool(self.total_outbufs_len))
        if self.answer_began is not None and now - self.answer_began > patience.answer:
            self.drop(f"its answer was not taken within {patience.answer:g} s (API_EXPORT_TIMEOUT)")
        elif is_slow:
            self.drop(f"it takes less than {patience.pace} bytes of its answer a second (API_LEAST_PACE)")

    def drop(self, why: str | None = None) -> None:
        """Close the connection now, also for the thread that makes an answer.

        Args:
            why: for the log, of what is not simply over.
        """
        if why is not None:
            log.warning("the connection of %s is closed: %s", self.addr[0], why)
        self.refused = False
        self.will_close = True
        self.handle_close()
