"""New heads that a node pushes over a WebSocket (``ws://``, ``wss://``): hints that a look at the head is due.

A pushed header is never believed: the follower asks its questions as ever, only sooner. So a node that pushes nothing,
too little or lies delays nothing beyond the slow beat at which the follower looks anyway.

States: connecting, subscribed, trusted. A subscription is trusted while each of its headers follows the one before by
number and parent hash (or replaces some, in a reorganisation), and while the follower's tip is not above the newest
one. One that is not is renewed, with pauses that double.
"""

import logging
import threading
import time
from collections.abc import Callable

import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from indexer.chain.records.errors import ProviderError
from indexer.chain.records.messages import Header, parse_header
from indexer.chain.rpc.config import EndpointConfig
from indexer.log import Trouble
from indexer.redact import Redactor

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a subscription is renewed: they double until one pushes headers that follow each other."""

BEHIND_FOR = 2.0
"""Seconds for which the follower's tip may be above the newest pushed header: the node that pushes may be slower."""

CLOSEST = 0.05
"""Seconds between two wakings: a node that pushes without end makes no more questions than that."""

CONNECT_TIMEOUT = 5.0
_LONGEST_HEADER = 1_000_000
_SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'

logging.getLogger("websockets.client").setLevel(logging.CRITICAL)  # it writes URLs; what went wrong is told here


class UntrustedError(Exception):
    """A subscription that says too little, or what cannot be; its text says what."""


class _Message(msgspec.Struct):
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")


class _Pushed(msgspec.Struct):
    subscription: str
    result: msgspec.Raw


class PushedHeads:
    """Subscribes to one endpoint, on a thread of its own, until it is stopped.

    Args:
        config: the endpoint, whose URL is one of a WebSocket.
        name: the chain's name, for the log.
        wake: called for each header, on that thread.
        clock: a monotonic clock, seconds.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        name: str,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._name = name
        self._wake = wake
        self._clock = clock
        self._redactor = Redactor([config.url], config.headers.values())
        self._trouble = Trouble()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._newest: Header | None = None
        self._has_followed = False  # whether a header of this subscription followed the one before
        self._tip = -1
        self._floor: int | None = None  # the tip when it was subscribed: what is at or below need not be pushed
        self._behind_since: float | None = None
        self._connection: ClientConnection | None = None
        self._thread = threading.Thread(target=self._run, name=f"heads {name}", daemon=True)

    def start(self) -> None:
        """Begins; once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, whatever it waits for; the thread ends soon after."""
        self._stop.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            threading.Thread(target=connection.close, daemon=True).start()

    def is_trusted(self) -> bool:
        """Whether the follower may look at a slow beat: headers come, and it has indexed the newest one."""
        with self._lock:
            return self._newest is not None and self._newest.number == self._tip

    def indexed(self, tip: int) -> None:
        """The follower has indexed this block, whether or not it was pushed."""
        with self._lock:
            self._tip = tip
            if self._floor is None:
                self._floor = tip
            if tip <= (self._floor if self._newest is None else self._newest.number):
                self._behind_since = None
            elif self._behind_since is None:
                self._behind_since = self._clock()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._subscribe()
            except UntrustedError as error:
                self._say(str(error))
            except (OSError, WebSocketException, msgspec.MsgspecError, ProviderError) as error:
                self._say(self._redactor.text(str(error) or type(error).__name__))
            except Exception:
                log.exception("%s: pushed heads failed: this is a defect; they are subscribed to again", self._name)
            with self._lock:
                had, self._has_followed = self._has_followed, False
                self._newest = self._behind_since = self._connection = self._floor = None
            pause = FIRST_PAUSE if had else min(2 * pause, LONGEST_PAUSE)
            self._stop.wait(pause)

    def _say(self, what: str) -> None:
        if not self._stop.is_set() and self._trouble.failed("pushed heads") is not None:
            log.warning(
                "%s: no new heads are pushed by %s: %s; it is tried again, and the head is polled meanwhile",
                *(self._name, self._config.host, what),
            )

    def _subscribe(self) -> None:
        timeout = CONNECT_TIMEOUT
        with connect(
            self._config.url,
            open_timeout=timeout,
            close_timeout=1.0,
            additional_headers=dict(self._config.headers),
            max_size=_LONGEST_HEADER,
        ) as connection:
            with self._lock:
                self._connection = connection
            if self._stop.is_set():
                return
            connection.send(_SUBSCRIBE, text=True)
            answer = msgspec.json.decode(connection.recv(timeout, decode=False), type=_Message)
            if answer.id != 1 or not bytes(answer.result):
                words = self._redactor.text(bytes(answer.error).decode())[:200]
                raise UntrustedError(f"it refuses eth_subscribe: {words}")
            subscription = msgspec.json.decode(answer.result, type=str)
            self._wake()  # what came before it is pushed by none
            while not self._stop.is_set():
                try:
                    text = connection.recv(BEHIND_FOR / 2, decode=False)
                except TimeoutError:
                    self._require_not_behind()
                    continue
                message = msgspec.json.decode(text, type=_Message)
                if message.method != "eth_subscription":
                    continue
                pushed = msgspec.json.decode(message.params, type=_Pushed)
                if pushed.subscription == subscription and (header := parse_header(pushed.result)) is not None:
                    self._take(header)
                    self._require_not_behind()

    def _take(self, header: Header) -> None:
        with self._lock:
            before, self._newest = self._newest, header
            if header.number >= self._tip:
                self._behind_since = None
        self._wake()
        if before is not None:
            missed = header.number > before.number + 1
            if missed or (header.number == before.number + 1 and header.parent_hash != before.hash):
                what = f"block {header.number:,} does not follow the one before, {before.number:,}"
                raise UntrustedError(what)
            self._has_followed = True
            self._trouble.worked()
        self._stop.wait(CLOSEST)

    def _require_not_behind(self) -> None:
        with self._lock:
            since, newest, tip = self._behind_since, self._newest, self._tip
        if since is not None and self._clock() - since > BEHIND_FOR:
            last = "none" if newest is None else f"block {newest.number:,}"
            raise UntrustedError(f"block {tip:,} is indexed, and the newest that it pushed is {last}")
