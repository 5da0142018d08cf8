"""The parts of the event loop's Falcon application: the API's middleware and paths, made of those that threads serve.

Nothing is written twice: middleware and resources are the same objects' classes as under waitress. What may query the
database runs in a thread; what waits is here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from time import monotonic
from typing import Any, Final, TypeVar

import falcon
import falcon.asgi

from api.access import Access
from api.context import Slots
from api.errors import ApiError
from api.live.carrier import HEARTBEAT, Carrier
from api.live.connection import LiveConnection
from api.live.hub import Hub
from api.resources.base import Path
from api.resources.collection import Collection
from api.resources.stream import EVENT_STREAM, StreamResource

T = TypeVar("T")

#: Milliseconds after which a client comes back; a random part keeps all of them from coming at once.
RETRY: Final = (1000, 4000)


class LiveRequest(falcon.asgi.Request):
    """A request; who is connected is never read from a header."""

    @property
    def remote_addr(self) -> str:
        """The address of the connection's other end."""
        return str(self.scope["client"][0])


class RequestThreads(ThreadPoolExecutor):
    """The threads for everything that is not waiting.

    Args:
        count: so many.
        patience: seconds that something may wait for a thread; then it is refused, so that the queue shrinks again.
    """

    def __init__(self, count: int, patience: float) -> None:
        super().__init__(count, "live-request")
        self._patience = patience

    async def call(self, act: Callable[..., T], *args: Any) -> T:
        """Call something in a thread.

        Raises:
            ApiError: OVERLOADED, and what it raises itself.
        """
        asked = monotonic()

        def run() -> T:
            if monotonic() - asked > self._patience:
                raise ApiError("OVERLOADED", "no thread was free in time: try again in a moment", retry_after=1)
            return act(*args)

        return await asyncio.get_running_loop().run_in_executor(self, run)


class Middleware:
    """The middleware of the API for an ASGI application.

    Args:
        parts: in their order.
        threads: for what may query the database.
    """

    def __init__(self, parts: Sequence[Any], threads: RequestThreads) -> None:
        self._parts = parts
        self._threads = threads

    async def process_request(self, req: LiveRequest, resp: falcon.asgi.Response) -> None:
        """Run what comes before the route is known."""
        for part in self._parts:
            if isinstance(part, Access):
                await self._threads.call(part.process_request, req, resp)
            elif hasattr(part, "process_request"):
                part.process_request(req, resp)

    async def process_resource(self, req: LiveRequest, resp: falcon.asgi.Response, resource: Any, params: Any) -> None:
        """Let the request pass, or refuse it."""
        for part in self._parts:
            if isinstance(part, Access):
                await self._threads.call(part.process_resource, req, resp, resource, params)

    async def process_response(
        self, req: LiveRequest, resp: falcon.asgi.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Run what comes after the answer is known."""
        # The next request of this client comes in by the door again.
        resp.set_header("Connection", "close")
        for part in reversed(self._parts):
            if hasattr(part, "process_response"):
                part.process_response(req, resp, resource, req_succeeded)
        made: Any = resp.stream
        if isinstance(made, Iterable):  # an export
            resp.stream = _pieces(self._threads, made, req.scope["state"]["connection"])


class ThreadedPath:
    """A path that a thread answers, after it was waited for the block that the request names.

    Args:
        resource: of the API.
        hub: of the process.
        slots: how many requests may wait.
        threads: for everything that is not waiting.
    """

    def __init__(self, resource: Path, hub: Hub, slots: Slots, threads: RequestThreads) -> None:
        self._resource: Any = resource
        self._hub = hub
        self._slots = slots
        self._threads = threads
        self.scope, self.counted = resource.scope, resource.counted

    async def on_get(self, req: LiveRequest, resp: falcon.asgi.Response, **path: str) -> None:
        """Answer a GET."""
        resource = self._resource
        if isinstance(resource, Collection):
            awaited = await self._threads.call(resource.awaited, req.query_string, path)
            if awaited is not None:
                await self._hub.waits.until(
                    awaited,
                    lambda: self._threads.call(awaited.look),
                    self._slots.taken(req.context.get("client")),
                    req.scope["state"]["connection"],
                )
        await self._threads.call(lambda: resource.on_get(req, resp, **path))

    async def on_head(self, req: LiveRequest, resp: falcon.asgi.Response, **path: str) -> None:
        """Answer a HEAD: as a GET, of which Falcon sends the headers only."""
        await self.on_get(req, resp, **path)


class StreamPath:
    """A path that is streamed.

    Args:
        resource: says what is asked for.
        hub: of the process.
        threads: for what may query the database.
        heartbeat: seconds after which a silent stream says that it is alive.
        random: for the clients' return.
    """

    def __init__(
        self,
        resource: StreamResource,
        hub: Hub,
        threads: RequestThreads,
        *,
        heartbeat: float = HEARTBEAT,
        random: Random | None = None,
    ) -> None:
        self._resource = resource
        self._hub = hub
        self._threads = threads
        self._heartbeat = heartbeat
        self._random = random or Random()
        self.scope = resource.scope
        self.takes_query_token = resource.takes_query_token

    async def on_get(self, req: LiveRequest, resp: falcon.asgi.Response, **path: str) -> None:
        """Begin to stream."""
        connection: LiveConnection = req.scope["state"]["connection"]
        stream = await self._threads.call(lambda: self._hub.open(self._resource.request(req, **path)))
        topic = self._hub.join(stream)
        carrier = Carrier(stream, topic, self._hub.readers, heartbeat=self._heartbeat)

        def leave() -> None:
            carrier.end()
            stream.close()
            self._hub.leave(topic, carrier.end)
            carrier.report()

        self._hub.begin(carrier.end)
        connection.when_lost, connection.when_half_closed = leave, carrier.probe
        if connection.is_lost:
            leave()
        elif connection.is_half_closed:
            carrier.probe()
        _describe(resp)
        resp.sse = carrier.pieces(self._random.randint(*RETRY))  # type: ignore[assignment]  # serializable all the same

    async def on_head(self, req: LiveRequest, resp: falcon.asgi.Response, **path: str) -> None:
        """Say what a GET would begin with."""
        await self._threads.call(lambda: self._resource.request(req, **path))
        _describe(resp)
        resp.stream = _pieces(
            self._threads, (), req.scope["state"]["connection"]
        )  # without one, the answer would say that the stream has 0 bytes


def in_thread(threads: RequestThreads | None, handler: Callable[..., None]) -> Any:
    """A handler of the WSGI application for an ASGI one: called in a thread, or at once where it queries nothing."""

    async def handle(*args: Any, **more: Any) -> None:
        if threads is None:
            handler(*args, **more)
        else:
            await threads.call(partial(handler, *args, **more))

    return handle


def _describe(response: falcon.asgi.Response) -> None:
    response.content_type = EVENT_STREAM
    # A proxy that collects answers before it passes them on would hold every event back.
    response.set_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _pieces(threads: RequestThreads, answer: Iterable[bytes], connection: LiveConnection) -> AsyncIterator[bytes]:
    """What a WSGI application's answer consists of, each piece made in a thread, until the client has left."""
    each = iter(answer)
    try:
        while not connection.is_lost and (piece := await threads.call(next, each, None)) is not None:
            yield piece
    finally:
        if hasattr(answer, "close"):
            await asyncio.get_running_loop().run_in_executor(threads, answer.close)
