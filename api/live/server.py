"""uvicorn's side of the API's port: streams and requests that wait, in one thread with an event loop.

The door (``api/http_server.py``) accepts every connection and reads the head of each request. Those that may take long
without anything to do are handed over with their socket: a thread each would be too dear. A connection that was handed
over ends with the answer.
"""

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from typing import Any, Final

import uvicorn

from api.access import Access
from api.app import create_live_app
from api.context import REQUEST_THREADS, Context
from api.database import Database
from api.live.application import RequestThreads
from api.live.carrier import HEARTBEAT
from api.live.connection import STALLED, LiveConnection
from api.live.hub import READERS, Hub
from indexer.request_head import RequestHead

log = logging.getLogger(__name__)

#: Seconds that a query for streams may take. After that fewer blocks are asked for, which others need not wait for.
MOST_QUERY: Final = 2.0
#: Connections beside those of streams and waiting requests, for requests that are refused.
SPARE: Final = 64
#: Seconds for answers that are being made when the loop ends.
_GRACE: Final = 1
#: Seconds after which the system ends a connection whose client takes nothing and says nothing.
_VANISHED: Final = 60


def is_asgi(head: RequestHead) -> bool:
    """Whether a request is for the event loop: one for a stream, or one that may wait."""
    if head.method not in ("GET", "HEAD"):
        return False
    return head.path.endswith("/stream") or any(one.startswith("wait=") for one in head.query.split("&"))


class LiveServer:
    """Serves the connections that the door hands over.

    Args:
        context: of the process; the caller closes it.
        access: that of the other application.
        database_url: ``postgresql://...``
        heartbeat: seconds after which a silent stream says that it is alive.
        stalled: seconds after which a client that takes nothing is dropped.
    """

    def __init__(
        self,
        context: Context,
        access: Access,
        database_url: str,
        *,
        heartbeat: float = HEARTBEAT,
        stalled: float = STALLED,
    ) -> None:
        settings = context.settings
        self._context = context
        self._stalled = stalled
        self._most = settings.streams_max + settings.api_wait_slots + SPARE
        self._database = Database(
            database_url,
            size=READERS + REQUEST_THREADS + 1,
            statement_timeout=min(MOST_QUERY, settings.api_statement_timeout),
            wait=settings.api_statement_timeout,
            name="streams",
        )
        self.hub = Hub(self._database, context.catalog, context.streams)
        self._threads = RequestThreads(REQUEST_THREADS, settings.api_queue_seconds)
        self._config = uvicorn.Config(
            create_live_app(context, access, self.hub, self._threads, heartbeat=heartbeat),
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._config.load()
        self._server = uvicorn.Server(self._config)
        self._adopting: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._database.open()
        self._thread.start()
        self._ready.wait()

    @property
    def connections(self) -> int:
        """How many connections it has."""
        return len(self._server.server_state.connections)

    def is_busy(self) -> bool:
        """Whether requests wait for a block, which may still be answered while the server stops."""
        return self._context.waits.used > 0

    def adopt(self, connection: socket.socket, received: bytes) -> None:
        """Take over a connection; from any thread, without waiting.

        Args:
            connection: not blocking, and used by nothing else from now on.
            received: what was read of it: the head of a request, and what came after it.
        """
        try:
            assert self._loop is not None, "adopt is called after start"
            self._loop.call_soon_threadsafe(self._adopt, connection, received)
        except RuntimeError:  # the loop has ended
            connection.close()

    def end(self) -> None:
        """End all streams. Requests that wait go on until :meth:`stop`. May be called from a signal handler."""
        self._call(self.hub.end)

    def stop(self) -> None:
        """End everything, and wait for that; from any other thread."""
        self._call(self._end)
        self._thread.join(_GRACE + 1)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.hub.close()
        self._database.close()

    def _call(self, act: Any) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(act)

    def _end(self) -> None:
        self.hub.end()
        self.hub.waits.end()
        self._server.should_exit = True

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._config.get_loop_factory()) as runner:
                runner.run(self._serve())
        except Exception:
            log.exception("streams and waiting requests have ended")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        watching = self._loop.create_task(self.hub.watch())
        watching.add_done_callback(_report)
        self._loop.call_soon(self._ready.set)
        try:
            await self._server.serve(sockets=[])
        finally:
            watching.cancel()
            for task in self._adopting:
                task.cancel()

    def _adopt(self, connection: socket.socket, received: bytes) -> None:
        if self.connections + len(self._adopting) >= self._most or self._server.should_exit:
            connection.close()
            return
        task = asyncio.ensure_future(self._serve_one(connection, received))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)
        task.add_done_callback(_report)

    async def _serve_one(self, connection: socket.socket, received: bytes) -> None:
        def protocol() -> LiveConnection:
            return LiveConnection(self._config, self._server.server_state, received=received, stalled=self._stalled)

        try:
            _guard(connection)
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        except OSError:  # it has left
            connection.close()


def start(context: Context, access: Access, database_url: str, **more: Any) -> LiveServer:
    """A server that has begun; arguments as of :class:`LiveServer`."""
    server = LiveServer(context, access, database_url, **more)
    server.start()
    return server


def _guard(connection: socket.socket) -> None:
    """Let the system find out about clients that have vanished without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _VANISHED * 1000)


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("defect in the event loop", exc_info=error)
