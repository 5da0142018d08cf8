"""waitress as it serves the API, and the threads that answer its requests.

Its parser is not used (``door``), and its connections have deadlines (``http_channel``). Its defaults that do not suit
an open API are replaced: 100 connections, a proxy's headers taken away.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from api.context import Slots
from api.cors import Cors
from api.door import Patience, Refusal
from api.errors import ApiError
from api.http_channel import MAX_UNTAKEN, Channel, HandOver
from api.limits import ClientAddress
from api.metrics import Metrics
from api.settings import ApiSettings
from indexer.request_head import RequestHead

log = logging.getLogger(__name__)

#: Told to a thread that is to end.
_END: Final = None

#: Seconds between two looks at deadlines.
TEND_EVERY: Final = 0.5
#: Seconds after which a request is no longer one of the few that are answered at once: some times what a page takes on
#: cores that are all at work.
LONG: Final = 0.025
#: Connections that are always kept free for further clients, at the price of those that rest longest.
ROOM: Final = 4
#: Seconds for answers that are being made when the server is told to stop.
GRACE: Final = 3.0
#: Asks nothing but this process, and has a thread of its own: an orchestrator ends what does not answer here.
LIVENESS: Final = "/health"


class Threads:
    """In place of waitress's dispatcher of tasks, with a queue made in C.

    waitress's is a list under a condition: to hand a request over takes several locks, each of which the receiving
    thread may be woken for in vain while the giving one still holds the interpreter.

    Only a few threads work at once as long as each request is quick, and the others wait in the order in which they
    came. With all threads at work their requests share the cores as chance has it, and a few take several times as
    long as most. A request that takes long counts no more: another thread has its turn.

    Args:
        count: so many threads.
        name: of the threads.
        quick: how many of them work at once as long as each request is quick; None: all.
        clock: seconds that never jump.
    """

    def __init__(
        self, count: int, name: str, *, quick: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        #: How many threads are at work now.
        self.active_count = 0
        self._counting = threading.Lock()
        self._clock = clock
        # What a thread needs to take a request; it keeps it until its request takes long.
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(count if quick is None else quick):
            self._turns.put(None)
        #: Since when a thread with a turn has been at its request.
        self._began: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many tasks no thread has taken yet."""
        return self._queue.qsize()

    def add_task(self, task: Any) -> None:
        """Queue a task: an object with ``service`` and ``cancel``."""
        self._queue.put(task)

    @property
    def keeps_waiting(self) -> bool:
        """Whether :meth:`tend` may be needed soon: something waits, for a thread that has a turn."""
        return bool(self._began) and not self._queue.empty()

    def tend(self) -> None:
        """Give the turns of requests that take long to other threads."""
        began_long_ago = self._clock() - LONG
        for number, began in list(self._began.items()):
            if began < began_long_ago and self._began.pop(number, None) is not None:
                self._turns.put(None)

    def shutdown(self, timeout: float = 5.0) -> bool:
        """End all threads once they have done what they are doing; what no thread has taken is cancelled.

        Args:
            timeout: seconds to wait for the threads.

        Returns:
            Whether something was cancelled.
        """
        pending = []
        with suppress(Empty):
            while True:
                pending.append(self._queue.get_nowait())
        for _ in self._threads:
            self._queue.put(_END)
            self._turns.put(None)
        end = monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))
        if still := sum(thread.is_alive() for thread in self._threads):
            log.warning("%d requests are still being answered", still)
        for task in pending:
            task.cancel()
        return bool(pending)

    def _work(self, number: int) -> None:
        take, has_turn = self._queue.get, False
        while True:
            if not has_turn:
                self._turns.get()
            if (task := take()) is _END:
                return
            self._began[number] = self._clock()
            with self._counting:
                self.active_count += 1
            try:
                task.service()
            except BaseException:  # a thread that ended would be missing from then on
                log.exception("defect in the thread of a request")
            finally:
                with self._counting:
                    self.active_count -= 1
                has_turn = self._began.pop(number, None) is not None


def quick_at_once(wanted: int, *, threads: int, processes: int, cores: int) -> int:
    """How many requests a process answers at once as long as each is quick.

    Two for each core, one of which waits for Postgres while the other is in Python, and one more keep the cores at
    work.

    Args:
        wanted: so many; 0: as follows from the rest.
        threads: of the process.
        processes: that share the cores.
        cores: of the machine.
    """
    return min(threads, wanted or max(2, -(-(2 * cores + 1) // processes)))


class Server(TcpWSGIServer):  # type: ignore[misc]
    """waitress on a socket that is listening already, with a stop that may be called from a signal handler.

    Args:
        application: the WSGI callable.
        listener: the socket.
        settings: for threads and limits.
        handover: requests that another server answers; None: none.
        patience: with clients; left out, as the settings say.
    """

    channel_class = Channel

    def __init__(
        self,
        application: Callable[..., Any],
        listener: socket.socket,
        settings: ApiSettings,
        *,
        handover: HandOver | None = None,
        patience: Patience | None = None,
    ) -> None:
        adjustments = Adjustments(
            sockets=[listener],
            threads=settings.api_threads,
            connection_limit=settings.api_connection_limit,
            # An export waits when so much is not sent yet; beyond it waitress would write to the disk.
            outbuf_high_watermark=1_000_000,
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
        self.handover = handover
        self.patience = patience or Patience(
            queue=settings.api_queue_seconds,
            head=settings.api_head_seconds,
            body=settings.api_body_seconds,
            answer=settings.api_export_timeout,
            pace=settings.api_least_pace,
        )
        self._next_look = 0.0
        self.metrics: Metrics | None = None
        self.cors = Cors(settings.cors_origins)
        self._clients = ClientAddress(settings.trusted_proxies)
        self.connections = Slots(settings.api_connection_limit, "connections")
        self._liveness = Threads(1, "api-liveness")
        super().__init__(
            application,
            {},
            True,
            listener,
            dispatcher=Threads(settings.api_threads, "api", quick=_quick_at_once(settings)),
            adj=adjustments,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
        )

    def add_task(self, task: Any) -> None:
        """Queue a channel that has a request for a thread to answer.

        All other threads may wait for Postgres or for a client: whether the process is alive must not depend on them.
        """
        if task.total_outbufs_len > MAX_UNTAKEN:
            task.is_postponed = True
            return
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

    def hands_over(self, head: RequestHead) -> bool:
        """Whether another server answers this request."""
        return self.handover is not None and self.handover.wanted(head)

    def maintenance(self, now: float) -> None:
        """Nothing: waitress would close connections in the midst of asking them what they wait for."""

    def run(self) -> None:
        """Serve until :meth:`stop`, then finish what is being answered."""
        while not self.is_stopping:
            timeout = LONG if self.task_dispatcher.keeps_waiting else TEND_EVERY
            wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)
            self.task_dispatcher.tend()
            self._tend()
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

    def _tend(self) -> None:
        """Do for every connection what is due because of the time."""
        if (now := monotonic()) >= self._next_look:
            self._next_look = now + TEND_EVERY
            channels = list(self.active_channels.values())
            for channel in channels:
                try:
                    channel.tend(now)
                except Exception:  # one connection must not end the thread of all
                    log.exception("defect in a connection")
                    channel.handle_error()
            if len(channels) + ROOM > self.adj.connection_limit:
                log.warning(
                    "%d of %d connections are closed, those that rested longest: API_CONNECTION_LIMIT is reached",
                    _make_room(channels),
                    len(channels),
                )

    def admit(self, channel: Channel) -> None:
        """Count a connection that was just made.

        An address has half of all at most, as of everything that clients hold. Beyond that those of its own give way
        that rested longest, and while none rests it is refused. A proxy's connections are those of many clients.
        """
        peer = channel.addr[0]
        client = None if self._clients.is_proxy(peer) else self._clients.of(peer, None)
        try:
            self.connections.take(client)
        except ApiError as error:
            if not _make_room([one for one in list(self.active_channels.values()) if one.client == client]):
                log.warning("a connection of %s is refused: %s", client, error.message)
                is_roomy = len(self.active_channels) < self.adj.connection_limit * 3 // 4
                channel.turn_away(Refusal(503, "Service Unavailable", error.message), lingers=is_roomy)
                return
            self.connections.take(client)
        channel.client, channel.is_counted = client, True

    def _busy(self) -> bool:
        if self.handover is not None and self.handover.is_busy():
            return True
        return any(channel.requests or channel.total_outbufs_len for channel in list(self.active_channels.values()))

    def stop(self) -> None:
        """Make :meth:`run` come to its end."""
        self.is_stopping = True
        with suppress(OSError):
            self.pull_trigger()


def _quick_at_once(settings: ApiSettings) -> int:
    cores = os.cpu_count() or 2
    return quick_at_once(
        settings.api_quick, threads=settings.api_threads, processes=settings.api_processes, cores=cores
    )


def _make_room(channels: Sequence[Channel]) -> int:
    """Close a quarter of the connections that rest, those that have rested longest. Returns how many."""
    resting = sorted((one for one in channels if one.is_counted and one.is_resting), key=lambda one: one.waits_since)
    longest = resting[: max(ROOM, len(resting) // 4)]
    for channel in longest:
        channel.drop()
    return len(longest)


def _asks_liveness(request: Any) -> bool:
    return request.error is None and request.path == LIVENESS and request.command in ("GET", "HEAD")
