"""waitress as it serves the API.

It answers some requests itself, before the application sees them (a malformed request line, headers or a body too
large): here those answers are JSON like all others. Its defaults that do not suit an open API are replaced: a body of
up to 1 GiB, 100 connections, a proxy's headers taken away.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final

from waitress import utilities, wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask

from api.caching import VARY
from api.cors import Cors
from api.errors import from_http_status
from api.metrics import Metrics
from api.settings import ApiSettings
from api.threads import Threads

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_BODY_BYTES: Final = 256 * 1024
#: Seconds after which a connection is closed that is not used, or whose client reads nothing.
IDLE: Final = 60
#: Seconds for answers that are being made when the server is told to stop.
GRACE: Final = 3.0
#: Asks nothing but this process, and has a thread of its own: an orchestrator ends what does not answer here.
LIVENESS: Final = "/health"


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress is untyped
    """What waitress itself refuses, in the API's own form."""

    def execute(self) -> None:
        refusal = self.request.error
        if self.channel.server.metrics is not None:
            self.channel.server.metrics.refused(refusal.code)
        body = from_http_status(refusal.code, f"{refusal.reason}: {refusal.body}").body()
        self.status = f"{refusal.code} {refusal.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Vary", VARY)]
        self.response_headers += self.channel.server.cors.headers(self.request.headers.get("ORIGIN")).items()
        if refusal.code == 503:
            self.response_headers.append(("Retry-After", "1"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


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
        is_kept = self.version == "1.1" and self.request.headers.get("CONNECTION", "").lower() != "close"
        if self.has_body or not is_kept or self.channel.server.is_stopping:
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        """The head of the answer. While the server stops, it says that the connection ends with this answer."""
        if self.channel.server.is_stopping:
            self.set_close_on_finish()
        head: bytes = super().build_response_header()
        return head


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _Task
    error_task_class = _JsonErrorTask
    is_awaited = False

    def service(self) -> None:
        """Answer a request; one that waited too long for a thread is refused, so that the queue shrinks again."""
        if monotonic() - self.queued_at > self.server.patience and self.requests[0].error is None:
            self.requests[0].error = _Overloaded("no thread was free in time: try again in a moment")
        self.server.answering.channel = self
        super().service()

    def write_soon(self, data: Any) -> int:
        """Send bytes, or keep them to be sent; without the detour through a buffer as far as the client takes them now.

        Raises:
            ClientDisconnected: nobody takes them.
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

    def send_continue(self) -> None:
        """Say that the body may come; not where none will: waitress would wait for it without an end."""
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def readable(self) -> bool:
        """Whether the thread of all connections is to wait for something to read, about which it asks each time."""
        self.is_awaited = False  # first: whoever finds it true knows that what he did before will be seen
        self.is_awaited = bool(super().readable())
        return self.is_awaited

    def writable(self) -> bool:
        """Whether the thread of all connections is to wait until something can be sent.

        Not while another thread is sending: that one says so if it could not send all. waitress would ask again and
        again meanwhile, a socket being writable most of the time, and take the interpreter's lock from who sends.
        """
        if not super().writable() or not self.outbuf_lock.acquire(blocking=False):
            return False
        self.outbuf_lock.release()
        return True

    @property
    def is_settled(self) -> bool:
        """Whether the thread of all connections has nothing to do for this one but to wait for its next request."""
        busy = self.requests or self.total_outbufs_len or self.close_when_flushed or self.will_close
        return self.is_awaited and not busy


class _Overloaded(utilities.Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


class Server(TcpWSGIServer):  # type: ignore[misc]
    """waitress on a socket that is listening already, with a stop that may be called from a signal handler.

    Args:
        application: the WSGI callable.
        listener: the socket.
        settings: for threads and limits.
    """

    channel_class = _Channel

    def __init__(self, application: Callable[..., Any], listener: socket.socket, settings: ApiSettings) -> None:
        adjustments = Adjustments(
            sockets=[listener],
            threads=settings.api_threads,
            connection_limit=settings.api_connection_limit,
            channel_timeout=IDLE,
            # An export waits when so much is not sent yet; beyond it waitress would write to the disk.
            outbuf_high_watermark=1_000_000,
            cleanup_interval=10,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=MAX_BODY_BYTES,
            # Lets a client's disconnection be seen while its answer is made.
            channel_request_lookahead=1,
            asyncore_use_poll=True,
            # Whom to believe what X-Forwarded-For says is decided for each request: TRUSTED_PROXIES.
            clear_untrusted_proxy_headers=False,
            ident=None,
            log_socket_errors=False,
        )
        #: Whether it answers what is under way and nothing else.
        self.is_stopping = False
        #: The channel that a thread answers.
        self.answering = threading.local()
        self.patience = settings.api_queue_seconds
        self.metrics: Metrics | None = None
        self.cors = Cors(settings.cors_origins)
        self._liveness = Threads(1, "api-liveness")
        super().__init__(
            application,
            {},
            True,
            listener,
            dispatcher=Threads(settings.api_threads, "api"),
            adj=adjustments,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
        )

    def add_task(self, task: Any) -> None:
        """Queue a channel that has a request for a thread to answer.

        All other threads may wait for Postgres or for a client: whether the process is alive must not depend on them.
        """
        task.queued_at = monotonic()
        if _asks_liveness(task.requests[0]):
            self._liveness.add_task(task)
        else:
            super().add_task(task)

    def pull_trigger(self) -> None:
        """Wake the thread of all connections, unless it waits for just what comes next.

        waitress wakes it after every answer. Where all is sent, it waits for the connection's next request already
        (``channel_request_lookahead``), and a thread that is woken for nothing takes the lock of the interpreter from
        those that answer.
        """
        channel = getattr(self.answering, "channel", None)
        if channel is None or not channel.is_settled:
            super().pull_trigger()

    def maintenance(self, now: float) -> None:
        """Close connections that are idle, as waitress does, and those that take nothing of what is sent to them."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.total_outbufs_len and channel.last_activity < now - IDLE:
                channel.will_close = True

    def run(self) -> None:
        """Serve until :meth:`stop`, then finish what is being answered."""
        while not self.is_stopping:
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)
        self._close_door()
        end = monotonic() + GRACE
        while monotonic() < end and self._busy():
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        self.task_dispatcher.shutdown(timeout=0.2)
        self._liveness.shutdown(timeout=0.2)
        wasyncore.close_all(self._map)

    def _close_door(self) -> None:
        """Let in who stands at the door, whose connection would be reset otherwise; who comes later is refused."""
        for _ in range(self.adj.backlog):
            connections = len(self.active_channels)
            self.handle_accept()
            if len(self.active_channels) == connections:
                break
        self.accepting = False
        wasyncore.dispatcher.close(self)  # the socket alone: the trigger is still needed
        wasyncore.loop(timeout=0, use_poll=True, map=self._map, count=1)  # hears what they want

    def _busy(self) -> bool:
        return any(channel.requests or channel.total_outbufs_len for channel in list(self.active_channels.values()))

    def stop(self) -> None:
        """Make :meth:`run` come to its end."""
        self.is_stopping = True
        with suppress(OSError):
            self.pull_trigger()


def _asks_liveness(request: Any) -> bool:
    return request.error is None and request.path == LIVENESS and request.command in ("GET", "HEAD")
