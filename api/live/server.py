"""The streams' listener: one thread with an event loop, beside the threads that answer everything else.

A waitress thread would be held by each stream: 500 of them cost 500 threads and, worse, 500 wake-ups with every block.
Here an idle client costs a socket and three small tasks (19 KB measured), and no query.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from random import Random
from time import monotonic
from typing import Any, Final

from api.app import create_stream_app
from api.context import Context
from api.database import Database
from api.http_channel import LINGER
from api.live import http
from api.live.carrier import HEARTBEAT, Carrier
from api.live.hub import READERS, Hub, Stream

log = logging.getLogger(__name__)

#: Seconds within which a request must be there.
PATIENCE: Final = 10.0
#: Seconds after which a client that takes nothing of what is sent is dropped.
STALLED: Final = 20.0
#: Seconds after which a stream that needed a key or token ends, so that the client shows it again.
MOST_PRIVATE: Final = 3600.0
#: Bytes that may wait for a client before no more is read for it.
MOST_WAITING: Final = 64 * 1024
#: Seconds that a query may take. After that fewer blocks are asked for, which others need not wait for.
MOST_QUERY: Final = 2.0
#: Threads that answer requests until they are streams.
REQUESTS: Final = 2
#: Connections beside those of streams, for requests that are refused.
SPARE: Final = 64
#: Milliseconds after which a client comes back; a random part keeps all of them from coming at once.
RETRY: Final = (1000, 4000)

Application = Callable[..., Iterable[bytes]]


def start(
    context: Context,
    database_url: str,
    listener: socket.socket,
    *,
    heartbeat: float = HEARTBEAT,
    stalled: float = STALLED,
) -> "StreamServer":
    """Serve a process' streams on a socket that is listening already, until its ``stop``.

    Args:
        context: of the process.
        database_url: ``postgresql://...``
        listener: the socket.
        heartbeat: seconds, as of :class:`StreamServer`.
        stalled: likewise.
    """
    settings = context.settings
    database = Database(
        database_url,
        size=READERS + REQUESTS + 1,
        statement_timeout=min(MOST_QUERY, settings.api_statement_timeout),
        wait=settings.api_statement_timeout,
        name="streams",
    )
    database.open()
    hub = Hub(database, context.catalog, context.streams)
    application = create_stream_app(replace(context, database=database), hub)
    server = StreamServer(
        application,
        listener,
        hub,
        most=settings.streams_max + SPARE,
        heartbeat=heartbeat,
        stalled=stalled,
        on_stop=database.close,
    )
    server.start()
    return server


class StreamServer:
    """Serves streams on a socket that is listening already.

    Args:
        application: answers requests; a :class:`Stream` that it returns is carried here.
        listener: the socket, not blocking.
        hub: of the streams.
        most: connections at once; those beyond are closed.
        heartbeat: seconds after which a silent stream says that it is alive.
        stalled: seconds after which a client that takes nothing is dropped.
        random: for the clients' return.
        on_stop: called at the end.
    """

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        hub: Hub,
        *,
        most: int,
        heartbeat: float = HEARTBEAT,
        stalled: float = STALLED,
        random: Random | None = None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._application = application
        self._listener = listener
        self._hub = hub
        self._most = most
        self._heartbeat = heartbeat
        self._stalled = stalled
        self._random = random or Random()
        self._on_stop = on_stop
        self._requests = ThreadPoolExecutor(REQUESTS, "stream-request")
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._main: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def end(self) -> None:
        """Make all streams end; may be called from a signal handler."""
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._cancel)

    def stop(self) -> None:
        """End all streams, and wait for that; from any other thread."""
        self.end()
        self._thread.join(2)
        self._requests.shutdown(wait=False, cancel_futures=True)
        self._hub.close()
        self._on_stop()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._serve())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("streams have ended")
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        watching = asyncio.create_task(self._hub.watch())
        watching.add_done_callback(_report)
        try:
            await self._accept()
        finally:
            for task in (watching, *self._connections):
                task.cancel()
            await asyncio.gather(watching, *self._connections, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # One at a time, so that processes that share the socket share the clients.
            try:
                connection, client = await loop.sock_accept(self._listener)
            except OSError as error:  # out of file descriptors, for example
                log.warning("a stream's client could not be let in: %s", error)
                await asyncio.sleep(0.5)
                continue
            if len(self._connections) >= self._most:
                connection.close()
                continue
            _guard(connection)
            task = asyncio.create_task(self._connection(connection, client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            task.add_done_callback(_report)

    async def _connection(self, connection: socket.socket, client: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=16 * 1024)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        transport.set_write_buffer_limits(high=MOST_WAITING)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        with suppress(OSError, TimeoutError):
            await self._answer(reader, writer, (client[0], client[1]))
        # What has not been taken by now is not waited for.
        if transport.get_write_buffer_size():
            transport.abort()
        transport.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: tuple[str, int]
    ) -> None:
        async with asyncio.timeout(PATIENCE):
            request = await http.read_request(reader)
        if request is None:
            return
        server = writer.get_extra_info("sockname")[:2]
        environ = {} if request.error is not None else http.environment(request, client, server)
        loop = asyncio.get_running_loop()
        # Shielded: a slot that was taken must come here to be given back.
        answering = loop.run_in_executor(self._requests, http.answer, self._application, request, environ)
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            answering.add_done_callback(_close)
            raise
        try:
            if isinstance(answer.body, Stream):
                await self._carry(answer.body, answer, reader, writer)
                return
            body = b"".join(answer.body)
            # Of a stream, HEAD says no length: it has none.
            is_told = getattr(request, "command", "") == "HEAD" or any(
                name.lower() == "content-length" for name, _ in answer.headers
            )
            length = () if is_told else (("Content-Length", str(len(body))),)
            writer.write(answer.head(*length, ("Connection", "close")) + body)
            async with asyncio.timeout(self._stalled):
                await _flushed(writer)
            if request.error is not None:
                await _lingered(reader, writer)
        finally:
            if hasattr(answer.body, "close"):
                answer.body.close()

    async def _carry(
        self, stream: Stream, answer: http.Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        began = monotonic()

        async def send(data: bytes) -> None:
            writer.write(data)
            async with asyncio.timeout(self._stalled):
                await writer.drain()

        topic = self._hub.join(stream)
        carrier = Carrier(stream, topic, send, self._hub.readers, heartbeat=self._heartbeat)
        retry = self._random.randint(*RETRY)
        writer.write(answer.head(("Connection", "close")))
        tasks = {asyncio.create_task(carrier.run(retry)), asyncio.create_task(_gone(reader))}
        try:
            done, _ = await asyncio.wait(
                tasks,
                timeout=MOST_PRIVATE if stream.request.private else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hub.leave(topic)
            log.info(
                "stream of %s ended after %.1f s",
                stream.request.path,
                monotonic() - began,
                extra={"rows": carrier.rows},
            )


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until all that was written has been handed to the system."""
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()


async def _lingered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let a client that is still sending read its answer: closed at once, its connection would be reset."""
    with suppress(OSError, TimeoutError):
        writer.write_eof()
        async with asyncio.timeout(LINGER):
            await _gone(reader)


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait until the client leaves; whatever it still says is passed over."""
    while await reader.read(4096):
        pass


def _guard(connection: socket.socket) -> None:
    """Let the system find out about clients that have vanished without a word."""
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)


def _close(answering: "asyncio.Future[http.Answer]") -> None:
    if not answering.cancelled() and answering.exception() is None:
        body = answering.result().body
        if hasattr(body, "close"):
            body.close()


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("defect in a stream", exc_info=error)
