"""Serving the API with waitress: in one process, or in several that share a listening socket.

waitress answers some requests itself, before the application sees them (a malformed request line, headers or a body
too large): here those answers are JSON like all others. Its defaults that do not suit an open API are replaced: a body
of up to 1 GiB, 100 connections, five seconds to stop.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from time import monotonic, sleep
from types import FrameType
from typing import Any, Final

from waitress import utilities, wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from api.app import create_app
from api.context import Context, create_context
from api.errors import from_http_status
from api.live import server as live
from api.metrics import Metrics, Shared, admin, shared
from api.settings import ApiSettings, load_settings
from api.webhooks import worker as webhooks
from indexer.errors import GaplessError

log = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_BODY_BYTES: Final = 256 * 1024
#: Seconds after which a connection is closed that is not used, or whose client reads nothing.
IDLE: Final = 60
#: Seconds for answers that are being made when the server is told to stop.
GRACE: Final = 3.0
#: Seconds before a process that ended by itself is replaced.
RESPAWN_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Listeners:
    """The sockets that all processes share: of the API, and of its streams, if there are any."""

    api: socket.socket
    streams: socket.socket | None


class ListenError(GaplessError):
    """The address to listen on cannot be had."""


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress is untyped
    """What waitress itself refuses, in the API's own form."""

    def execute(self) -> None:
        refusal = self.request.error
        if self.channel.server.metrics is not None:
            self.channel.server.metrics.refused(refusal.code)
        body = from_http_status(refusal.code, f"{refusal.reason}: {refusal.body}").body()
        self.status = f"{refusal.code} {refusal.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if refusal.code == 503:
            self.response_headers.append(("Retry-After", "1"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _JsonErrorTask

    def service(self) -> None:
        """Answer a request; one that waited too long for a thread is refused, so that the queue shrinks again."""
        if monotonic() - self.queued_at > self.server.patience and self.requests[0].error is None:
            self.requests[0].error = _Overloaded("no thread was free in time: try again in a moment")
        super().service()


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
            ident=None,
            log_socket_errors=False,
        )
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(settings.api_threads)
        self._stopping = False
        self.patience = settings.api_queue_seconds
        self.metrics: Metrics | None = None
        super().__init__(
            application,
            {},
            True,
            listener,
            dispatcher=dispatcher,
            adj=adjustments,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
        )

    def add_task(self, task: Any) -> None:
        """Queue a channel that has a request for a thread to answer."""
        task.queued_at = monotonic()
        super().add_task(task)

    def maintenance(self, now: float) -> None:
        """Close connections that are idle, as waitress does, and those that take nothing of what is sent to them."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.total_outbufs_len and channel.last_activity < now - IDLE:
                channel.will_close = True

    def run(self) -> None:
        """Serve until :meth:`stop`, then finish what is being answered."""
        while not self._stopping:
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)
        self.accepting = False
        end = monotonic() + GRACE
        while monotonic() < end and self._busy():
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        self.task_dispatcher.shutdown(timeout=0.2)
        wasyncore.close_all(self._map)

    def _busy(self) -> bool:
        return any(channel.requests or channel.total_outbufs_len for channel in list(self.active_channels.values()))

    def stop(self) -> None:
        """Make :meth:`run` come to its end."""
        self._stopping = True
        with suppress(OSError):
            self.pull_trigger()


def listen(host: str, port: int, setting: str = "API_PORT") -> socket.socket:
    """A listening socket.

    Args:
        host: address.
        port: 0: a free one.
        setting: that says the port.

    Raises:
        ListenError: if the address is taken, or not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host}:{port} ({setting}): {error.strerror or error}",
            hint=f"choose another address with API_HOST and {setting}, or end what listens there",
        ) from None
    listener.setblocking(False)
    return listener


def serve(
    database_url: str,
    redis_url: str | None,
    *,
    settings: ApiSettings | None = None,
    on_listening: Callable[[str], None] | None = None,
    configure_logging: Callable[[], None] | None = None,
) -> None:
    """Serve the API until SIGTERM or SIGINT; ends within five seconds of it. To be called in the main thread.

    Args:
        database_url: ``postgresql://...``; need not answer yet.
        redis_url: ``redis://...``, or None to do without.
        settings: left out, those of the environment.
        on_listening: called with the API's URL when it can be asked.
        configure_logging: called in every further process; must be picklable.

    Raises:
        SettingsError: the environment holds something wrong.
        ListenError: the address cannot be listened on.
    """
    settings = settings or load_settings()
    listener = listen(settings.api_host, settings.api_port)
    url = _url(listener)
    streams = None
    if settings.streams_max:
        streams = listen(settings.api_host, settings.streams_port_number, "STREAMS_PORT")
        # Every process must know the port, to send clients there.
        settings = settings.model_copy(update={"streams_port": streams.getsockname()[1]})
        log.info("streams are at %s", _url(streams), extra={"most": settings.streams_max})
    log.info("the API listens on %s", url, extra={"processes": settings.api_processes, "threads": settings.api_threads})
    listeners = _Listeners(listener, streams)
    if on_listening is not None:
        on_listening(url)
    # waitress warns whenever a request has to wait for a thread, which is what threads are for.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    if settings.api_processes == 1:
        _serve_here(listeners, database_url, redis_url, settings, admin_port=settings.admin_port)
    else:
        _supervise(listeners, database_url, redis_url, settings, configure_logging)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # "All addresses" is no address to be asked at.
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _serve_here(
    listeners: _Listeners, database_url: str, redis_url: str | None, settings: ApiSettings, *, admin_port: int | None
) -> None:
    context = create_context(settings, database_url, redis_url)
    server = Server(create_app(context), listeners.api, settings)
    server.metrics = context.metrics
    streaming = None if listeners.streams is None else live.start(context, database_url, listeners.streams)
    delivering = webhooks.start(context, database_url)

    def stop() -> None:
        server.stop()
        if streaming is not None:
            streaming.end()
        if delivering is not None:
            delivering.begin_to_stop()

    restore = _on_signal(stop)
    try:
        with _counted(context, server, admin_port, database_url):
            server.run()
    finally:
        restore()
        if streaming is not None:
            streaming.stop()
        if delivering is not None:
            delivering.stop()
        context.close()


@contextmanager
def _counted(context: Context, server: Server, admin_port: int | None, database_url: str) -> Iterator[None]:
    """Count how full the server is while it runs, and show it at the administrator's port, if anybody will look."""
    if context.metrics is None:
        yield
        return
    in_use = {
        "threads": lambda: server.task_dispatcher.active_count,
        "queue": lambda: len(server.task_dispatcher.queue),
        "connections": lambda: len(server.active_channels),
        "streams": lambda: context.streams.used,
        "exports": lambda: context.export_slots.used,
        "waits": lambda: context.waits.used,
    }
    host = context.settings.admin_host
    with context.metrics.watching(in_use), admin(host, admin_port, context.metrics.registry, database_url):
        yield


def _on_signal(act: Callable[[], None]) -> Callable[[], None]:
    """Act on SIGTERM and SIGINT; returns what restores the handlers of before."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        act()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _supervise(
    listeners: _Listeners,
    database_url: str,
    redis_url: str | None,
    settings: ApiSettings,
    configure_logging: Callable[[], None] | None,
) -> None:
    """Keep as many processes running as asked for, until told to stop."""
    with (
        shared(settings.admin_port is not None) as counted,
        admin(settings.admin_host, settings.admin_port, counted.registry if counted else None, database_url),
    ):
        _supervise_counted(listeners, database_url, redis_url, settings, configure_logging, counted)


def _supervise_counted(
    listeners: _Listeners,
    database_url: str,
    redis_url: str | None,
    settings: ApiSettings,
    configure_logging: Callable[[], None] | None,
    counted: Shared | None,
) -> None:
    # A fresh interpreter each: a fork would copy locks that other threads may hold.
    spawn = multiprocessing.get_context("spawn")
    stopping = threading.Event()

    def start() -> BaseProcess:
        arguments = (listeners, database_url, redis_url, settings, configure_logging)
        process = spawn.Process(target=_serve_child, args=arguments, name="gapless-api")
        process.start()
        return process

    restore = _on_signal(stopping.set)
    processes = [start() for _ in range(settings.api_processes)]
    try:
        while not stopping.wait(0.2):
            for place, process in enumerate(processes):
                if process.is_alive():
                    continue
                log.error("an API process ended with status %s, starting another", process.exitcode)
                if counted is not None and process.pid is not None:
                    counted.ended(process.pid)
                if stopping.wait(RESPAWN_PAUSE):
                    break
                processes[place] = start()
    finally:
        for process in processes:
            process.terminate()
        end = monotonic() + GRACE + 1
        for process in processes:
            process.join(max(0.0, end - monotonic()))
            if process.is_alive():
                process.kill()
        restore()


def _serve_child(
    listeners: _Listeners,
    database_url: str,
    redis_url: str | None,
    settings: ApiSettings,
    configure_logging: Callable[[], None] | None,
) -> None:
    if configure_logging is not None:
        configure_logging()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    for listener in (listeners.api, listeners.streams):
        if listener is not None:
            listener.setblocking(False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _serve_here(listeners, database_url, redis_url, settings, admin_port=None)


def _end_with_parent() -> None:
    """Stop this process when the one that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        sleep(GRACE + 1)
        os._exit(1)
