"""Serving the API: in one process, or in several that share a listening socket."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from time import monotonic, sleep
from typing import Final

from api.access import Access
from api.app import create_app
from api.context import Context, create_context
from api.errors import ApiError
from api.http_channel import HandOver
from api.http_server import GRACE, Server
from api.live import server as live
from api.metrics import Shared, admin, shared
from api.settings import ApiSettings, load_settings
from api.webhooks import worker as webhooks
from indexer import signals
from indexer.errors import GaplessError

if sys.platform != "win32":
    import resource

log = logging.getLogger(__name__)

#: Files that a process opens beside those of its clients' connections.
SPARE_FILES: Final = 200
#: Seconds before a process that ended by itself is replaced.
RESPAWN_PAUSE: Final = 1.0


class ListenError(GaplessError):
    """The address to listen on cannot be had."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: address.
        port: 0: a free one.

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
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="choose another address with API_HOST and API_PORT, or end what listens there",
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
    _allow_files(settings)
    log.info("the API listens on %s", url, extra={"processes": settings.api_processes, "threads": settings.api_threads})
    if on_listening is not None:
        on_listening(url)
    if settings.api_processes == 1:
        _serve_here(listener, database_url, redis_url, settings, admin_port=settings.admin_port)
    else:
        _supervise(listener, database_url, redis_url, settings, configure_logging)


def _allow_files(settings: ApiSettings) -> None:
    """Let each process open as many files as its connections may need, as far as the system allows."""
    if sys.platform == "win32":
        return
    wanted = settings.api_connection_limit + settings.streams_max + settings.api_wait_slots + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # "All addresses" is no address to be asked at.
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _serve_here(
    listener: socket.socket, database_url: str, redis_url: str | None, settings: ApiSettings, *, admin_port: int | None
) -> None:
    context = create_context(settings, database_url, redis_url)
    access = Access(context)
    streaming = live.start(context, access, database_url)
    handover = HandOver(live.is_asgi, streaming.adopt, streaming.is_busy)
    server = Server(create_app(context, access), listener, settings, handover=handover)
    server.metrics = context.metrics
    delivering = webhooks.start(context, database_url)

    def stop() -> None:
        server.stop()
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
    streaming: live.LiveServer,
    delivering: webhooks.Webhooks | None,
) -> None:
    try:
        with _counted(context, server, streaming, admin_port, database_url):
            server.run()
    finally:
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
def _counted(
    context: Context, server: Server, streaming: live.LiveServer, admin_port: int | None, database_url: str
) -> Iterator[None]:
    """Count how full the server is while it runs, and show it at the administrator's port, if anybody will look."""
    if context.metrics is None:
        yield
        return
    in_use = {
        "threads": lambda: server.task_dispatcher.active_count,
        "queue": lambda: server.task_dispatcher.waiting,
        "connections": lambda: len(server.active_channels) + streaming.connections,
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
    listener: socket.socket,
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
        _supervise_counted(listener, database_url, redis_url, settings, configure_logging, counted)


def _supervise_counted(
    listener: socket.socket,
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
        arguments = (listener, database_url, redis_url, settings, configure_logging)
        process = spawn.Process(target=_serve_child, args=arguments, name="gapless-api")
        process.start()
        return process

    with signals.acting_on({signal.SIGTERM: stopping.set, signal.SIGINT: stopping.set}):
        _keep_running(start, listener, settings, counted, stopping)


def _keep_running(
    start: Callable[[], BaseProcess],
    listener: socket.socket,
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
        listener.close()
        for process in processes:
            process.terminate()
        end = monotonic() + GRACE + 1
        for process in processes:
            process.join(max(0.0, end - monotonic()))
            if process.is_alive():
                process.kill()


def _serve_child(
    listener: socket.socket,
    database_url: str,
    redis_url: str | None,
    settings: ApiSettings,
    configure_logging: Callable[[], None] | None,
) -> None:
    if configure_logging is not None:
        configure_logging()
    listener.setblocking(False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _serve_here(listener, database_url, redis_url, settings, admin_port=None)


def _end_with_parent() -> None:
    """Stop this process when the one that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        sleep(GRACE + 1)
        os._exit(1)
