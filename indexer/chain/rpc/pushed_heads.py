"""New heads that a node pushes over a WebSocket (``ws://``, ``wss://``).

Each wakes the follower. One that hashes to its own hash may also stand for the answer to "which is the newest block?",
which saves that question, once its subscription is *confirmed*: some of its headers were the very blocks that polling
brought. The follower takes such a header only where it grows from its tip, asks for its logs by its hash, and still
polls at a slow beat. So a node that lies can put blocks on the tip that are none, until the next poll or the next true
block, which take them back as they do with any branch that was left; final blocks are compared by their hashes.

States: connecting, subscribed, confirmed. A subscription is ended, and renewed with pauses that double, where a header
does not follow the one before by number and parent hash (or replaces some, in a reorganisation), and where the
follower's tip is a block that it never pushed.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from indexer.chain.records.errors import ProviderError
from indexer.chain.records.messages import Header, parse_proven_header
from indexer.chain.rpc.config import EndpointConfig
from indexer.log import Trouble
from indexer.redact import Redactor

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a subscription is renewed: they double until one pushes headers that follow each other."""

UNKNOWN_FOR = 2.0
"""Seconds for which the follower's tip may be a block that was not pushed: the node that pushes may be slower."""

CONFIRMED = 3
"""So many of its headers must have been found by polling, too, before they stand for an answer."""

CLOSEST = 0.05
"""Seconds between two wakings: a node that pushes without end makes no more questions than that."""

CONNECT_TIMEOUT = 5.0
_LONGEST_HEADER = 1_000_000
_REMEMBERED = 256
_SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'

logging.getLogger("websockets.client").setLevel(logging.CRITICAL)  # it writes URLs; what went wrong is told here


@dataclass(frozen=True, slots=True)
class PushedStatus:
    """What an operator is told of a subscription.

    Attributes:
        host: of the endpoint, ``wss://host/***``.
        state: ``connecting``, ``subscribed`` or ``confirmed``.
        head: the newest block that it pushed.
        renewals: how often it was subscribed to again.
        reason: why it was last renewed.
    """

    host: str
    state: str = "connecting"
    head: int | None = None
    renewals: int = 0
    reason: str = ""


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
        wake: called for each header, on that thread, once it is known.
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
        self._status = PushedStatus(config.host)
        self._headers: dict[bytes, Header] = {}  # that were pushed, in their order
        self._confirmed: set[bytes] = set()  # those that the follower had by polling
        self._has_followed = False  # whether a header of this subscription followed the one before
        self._tip = (-1, b"")
        self._floor: int | None = None  # the tip when it was subscribed: what is at or below need not be pushed
        self._unknown_since: float | None = None
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

    @property
    def status(self) -> PushedStatus:
        """How the subscription does."""
        with self._lock:
            head = self._newest.number if self._newest is not None else self._status.head
            confirmed = self._status.state == "subscribed" and len(self._confirmed) >= CONFIRMED
            return dataclasses.replace(self._status, head=head, state="confirmed" if confirmed else self._status.state)

    def is_trusted(self) -> bool:
        """Whether the follower may look at a slow beat: headers come, and it has indexed the newest one."""
        with self._lock:
            newest = self._newest
            return newest is not None and self._is_confirmed() and (newest.number, newest.hash) == self._tip

    def headers(self) -> list[Header]:
        """Headers above the follower's tip, ascending, that may stand for an answer: proven, of a confirmed node."""
        with self._lock:
            if not self._is_confirmed():
                return []
            return sorted(
                (one for one in self._headers.values() if one.number > self._tip[0] and one.proven),
                key=lambda one: one.number,
            )

    def indexed(self, tip: int, tip_hash: bytes) -> None:
        """The follower has indexed this block, whether or not it was pushed."""
        with self._lock:
            self._tip = (tip, tip_hash)
            if self._floor is None:
                self._floor = tip
            if tip_hash in self._headers:
                # Of a subscription that is not confirmed no header was taken: the block came by polling.
                self._confirmed.add(tip_hash)
            if tip_hash in self._headers or tip <= self._floor:
                self._unknown_since = None
            elif self._unknown_since is None:
                self._unknown_since = self._clock()

    @property
    def _newest(self) -> Header | None:
        return next(reversed(self._headers.values()), None)

    def _is_confirmed(self) -> bool:
        return len(self._confirmed) >= CONFIRMED and self._unknown_since is None

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
                did_well = self._has_followed and self._unknown_since is None
                head = self._newest.number if self._newest is not None else self._status.head
                self._status = dataclasses.replace(
                    self._status, state="connecting", renewals=self._status.renewals + 1, head=head
                )
                self._has_followed = False
                self._headers, self._confirmed = {}, set()
                self._unknown_since = self._connection = self._floor = None
            pause = FIRST_PAUSE if did_well else min(2 * pause, LONGEST_PAUSE)
            self._stop.wait(pause)

    def _say(self, what: str) -> None:
        with self._lock:
            self._status = dataclasses.replace(self._status, reason=what)
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
            with self._lock:
                self._status = dataclasses.replace(self._status, state="subscribed")
            self._wake()  # what came before it is pushed by none
            while not self._stop.is_set():
                try:
                    text = connection.recv(UNKNOWN_FOR / 2, decode=False)
                except TimeoutError:
                    self._require_known_tip()
                    continue
                message = msgspec.json.decode(text, type=_Message)
                if message.method != "eth_subscription":
                    continue
                pushed = msgspec.json.decode(message.params, type=_Pushed)
                if pushed.subscription == subscription and (header := parse_proven_header(pushed.result)) is not None:
                    self._take(header)
                    self._require_known_tip()

    def _take(self, header: Header) -> None:
        with self._lock:
            before = self._newest
            self._headers.pop(header.hash, None)
            self._headers[header.hash] = header
            if len(self._headers) > _REMEMBERED:
                del self._headers[next(iter(self._headers))]
            if header.hash == self._tip[1]:
                self._unknown_since = None
                self._confirmed.add(header.hash)
        self._wake()
        if before is not None:
            missed = header.number > before.number + 1
            if missed or (header.number == before.number + 1 and header.parent_hash != before.hash):
                what = f"block {header.number:,} does not follow the one before, {before.number:,}"
                raise UntrustedError(what)
            self._has_followed = True
            self._trouble.worked()
        self._stop.wait(CLOSEST)

    def _require_known_tip(self) -> None:
        with self._lock:
            since, newest, tip = self._unknown_since, self._newest, self._tip[0]
        if since is not None and self._clock() - since > UNKNOWN_FOR:
            last = "none" if newest is None else f"block {newest.number:,}"
            raise UntrustedError(f"it did not push block {tip:,}, which is indexed; its newest is {last}")
