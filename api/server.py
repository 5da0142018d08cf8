"""Serving the API: in one process, or in several that share a listening socket."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from time import monotonic, sleep
from typing import Final

from api.app import create_app
from api.context import Context, create_context
from api.errors import ApiError
from api.http_server import GRACE, Server
from api.live import server as live
from api.metrics import Shared, admin, shared
from api.settings import ApiSettings, load_settings
from api.webhooks import worker as webhooks
from indexer import signals
from indexer.errors import GaplessError

log = logging.getLogger(__name__)

#: Seconds before a process that ended by itself is replaced.
RESPAWN_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Listeners:
    """The sockets that all processes share: of the API, and of its streams, if there are any."""

    api: socket.socket
    streams: socket.socket | None


class ListenError(GaplessError):
    """The address to listen on cannot be had."""


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

    threading.Thread(target=_first_look, args=(context,), name="first-look", daemon=True).start()
    orders = {signal.SIGTERM: stop, signal.SIGINT: stop}
    with signals.acting_on(orders, insistent=multiprocessing.parent_process() is None):
        _run(server, context, admin_port, database_url, streaming, delivering)


def _run(
    server: Server,
    context: Context,
    admin_port: int | None,
    database_url: str,
    streaming: live.StreamServer | None,
    delivering: webhooks.Webhooks | None,
) -> None:
    try:
        with _counted(context, server, admin_port, database_url):
            server.run()
    finally:
        if streaming is not None:
            streaming.stop()
        if delivering is not None:
            delivering.stop()
        context.close()


def _first_look(context: Context) -> None:
    """Read the catalog before anybody asks, and tell the operator now, not at the first request, if that cannot be."""
    try:
        context.catalog.current()
    except ApiError as error:
        log.warning("requests are answered with %d until this is mended: %s", error.status, error.message)


@contextmanager
def _counted(context: Context, server: Server, admin_port: int | None, database_url: str) -> Iterator[None]:
    """Count how full the server is while it runs, and show it at the administrator's port, if anybody will look."""
    if context.metrics is None:
        yield
        return
    in_use = {
        "threads": lambda: server.task_dispatcher.active_count,
        "queue": lambda: server.task_dispatcher.waiting,
        "connections": lambda: len(server.active_channels),
        "streams": lambda: context.streams.used,
        "exports": lambda: context.export_slots.used,
        "waits": lambda: context.waits.used,
    }
    host = context.settings.admin_host
    stalled = context.settings.ready_fails_when_stalled
    with (
        context.metrics.watching(in_use),
        admin(host, admin_port, context.metrics.registry, database_url, fails_when_stalled=stalled),
    ):
        yield


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
        admin(
            settings.admin_host,
            settings.admin_port,
            counted.registry if counted else None,
            database_url,
            fails_when_stalled=settings.ready_fails_when_stalled,
        ),
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

    with signals.acting_on({signal.SIGTERM: stopping.set, signal.SIGINT: stopping.set}):
        _keep_running(start, listeners, settings, counted, stopping)


def _keep_running(
    start: Callable[[], BaseProcess],
    listeners: _Listeners,
    settings: ApiSettings,
    counted: Shared | None,
    stopping: threading.Event,
) -> None:
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
        # Else who comes now would wait for the last process to end, at a door that nobody opens.
        for listener in (listeners.api, listeners.streams):
            if listener is not None:
                listener.close()
        for process in processes:
            process.terminate()
        end = monotonic() + GRACE + 1
        for process in processes:
            process.join(max(0.0, end - monotonic()))
            if process.is_alive():
                process.kill()


def _serve_child(
    listeners: _Listeners,
    database_url: str,
    redis_url: str | None,
    settings: ApiSettings,
    configure_logging: Callable[[], None] | None,
) -> None:
    if configure_logging is not None:
        configure_logging()
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
