"""A connection that the door (``api/http_server.py``) has handed over: uvicorn serves one request of it."""

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.errors import from_http_status

#: Seconds after which a client that takes nothing of what is sent is dropped.
STALLED: Final = 20.0


class LiveConnection(HttpToolsProtocol):
    """The protocol of one connection. The application finds it in its scope, as ``scope["state"]["connection"]``.

    A client that falls behind is dropped when it has not caught up within ``stalled`` seconds: that is when what waits
    for it has not shrunk from uvicorn's upper bound to the lower one, so reading slowly is no way to stay.

    Args:
        config: uvicorn's.
        state: uvicorn's, of the server.
        received: what the door has read of it: the head of its request, and perhaps more.
        stalled: seconds.

    Attributes:
        is_lost: whether the client has left.
        is_half_closed: whether it has ended its own side.
        when_lost: called when it does.
        when_half_closed: called when it has ended its own side of the connection: it may still want its answer.
    """

    def __init__(self, config: Config, state: ServerState, *, received: bytes, stalled: float = STALLED) -> None:
        super().__init__(config, state, {"connection": self})
        self._received = received
        self._stalled = stalled
        self._timer: asyncio.TimerHandle | None = None
        self.is_lost = False
        self.when_lost: Callable[[], None] = lambda: None
        self.when_half_closed: Callable[[], None] = lambda: None
        self.is_half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin with what the door has read."""
        super().connection_made(transport)
        received, self._received = self._received, b""
        self.data_received(received)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Keep the connection open: whether the client is gone is known when something is sent to it."""
        self.is_half_closed = True
        self.when_half_closed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application."""
        super().connection_lost(exc)
        self._caught_up()
        self.is_lost = True
        self.when_lost()
        # The two hold each other.
        self.when_lost = self.when_half_closed = lambda: None
        self.app_state = {}

    def send_400_response(self, msg: str) -> None:
        """Refuse what httptools does not take although the door did, in the API's own form."""
        body = from_http_status(400, msg).body()
        head = (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing of an ``Upgrade`` that is not done: the request is answered as without."""

    def pause_writing(self) -> None:
        """More waits for the client than should."""
        super().pause_writing()
        self._timer = self.loop.call_later(self._stalled, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._caught_up()

    def _caught_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
