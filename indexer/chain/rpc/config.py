"""How a chain's endpoints are configured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from indexer.chain.records.errors import Stopped
from indexer.chain.rpc.credit_prices import ONE_EACH, PriceList
from indexer.redact import redact_url

if TYPE_CHECKING:
    from indexer.chain.rpc.rate_control import UnderWay


CheckHistory: TypeAlias = Literal["bloom", "sample", "none"]


class CallPermits(Protocol):
    """A ceiling of calls a second that several processes keep together. Thread-safe."""

    def take(self, calls: int) -> float:
        """Reserves the next moment at which so many calls may start; returns the seconds until then."""

    def close(self) -> None:
        """Gives up what it needs for that; it may still be used."""


class CreditAccount(Protocol):
    """What is spent at an endpoint by several processes together, and what may be. Thread-safe."""

    @property
    def most_at_once(self) -> int | None:
        """The most credits that are given at once; None: any number."""

    def take(self, cost: int, *, history: bool) -> float:
        """Takes credits for what is sent next; what history asks comes after all else.

        Returns:
            0: they are taken; else nothing is, and it may be asked again after so many seconds.
        """

    def delay(self, *, history: bool) -> float:
        """Seconds for which nothing is to be had, as far as is known; 0: something may be."""

    def close(self) -> None:
        """Gives back what was not spent, and what it needs for that; it may still be used."""


@dataclass(frozen=True, repr=False)
class EndpointConfig:
    """One JSON-RPC endpoint.

    Attributes:
        url: the whole URL, key included. Never shown: ``repr`` and ``host`` hold ``https://host/***``.
        priority: endpoints with a lower number are asked first, the others when those cannot.
        requests_per_second: a hard ceiling, or None. Each item of a JSON-RPC batch counts.
        max_concurrency: the most requests under way at once.
        archive: False when the operator knows that this endpoint lacks old state; None leaves it to be learned.
        headers: HTTP headers to send besides (an ``Authorization``); their values are never shown.
        permits: keeps the ceiling together with other processes; None: this one keeps it by itself.
        prices: what its provider charges for a call.
        credits: counts that, and says what may still be spent; None: nothing is counted.
    """

    url: str
    priority: int = 0
    requests_per_second: float | None = None
    max_concurrency: int = 16
    archive: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    permits: CallPermits | None = None
    prices: PriceList = ONE_EACH
    credits: CreditAccount | None = None

    @property
    def host(self) -> str:
        """What may be shown of the URL."""
        return redact_url(self.url)

    def __repr__(self) -> str:
        return f"EndpointConfig(url={self.host!r}, priority={self.priority})"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What holds for all endpoints of a chain. Times are in seconds.

    Attributes:
        connect_timeout: to open a connection.
        read_timeout: without a single byte from the node.
        deadline: for a whole answer, however steadily it drips.
        probe_timeout: for a probe of an endpoint that failed before.
        attempts: how often one question is asked before it fails (orders to wait are not counted).
        give_up_after: how long one question is retried at most.
        first_backoff: the wait before the first retry, doubled each time, with jitter.
        longest_backoff: the longest wait.
        start_blocks: the first range of a scan.
        max_blocks: the widest range ever asked for.
        target_logs: the number of logs that a response should hold.
        target_bytes: the number of bytes that a response should hold.
        max_bytes: a response is not read beyond this; its range is made smaller instead.
        batch_size: the most calls in one JSON-RPC batch.
        addresses_per_request: the most addresses in one ``eth_getLogs``.
        survey_every: how often the heads of the endpoints not in use are asked for.
        lag_blocks: an endpoint that is further behind the best one is passed over.
        log_index_per_transaction: the chain numbers the logs of each transaction from 0 anew.
        null_blocks: the chain is known to leave block numbers out; else that is found out.
        check_history: how much of history is compared with the blooms of headers.
    """

    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    deadline: float = 120.0
    probe_timeout: float = 5.0
    attempts: int = 8
    give_up_after: float = 120.0
    first_backoff: float = 0.25
    longest_backoff: float = 15.0
    start_blocks: int = 2_000
    max_blocks: int = 1_000_000
    target_logs: int = 7_000
    target_bytes: int = 8_000_000
    max_bytes: int = 48_000_000
    batch_size: int = 100
    addresses_per_request: int = 1_000
    survey_every: float = 15.0
    lag_blocks: int = 8
    log_index_per_transaction: bool = False
    null_blocks: bool = False
    check_history: CheckHistory = "none"


@dataclass(slots=True)
class RequestContext:
    """What one caller wants done: counts what it costs, and knows when the caller wants it no more.

    Attributes:
        requests: HTTP requests so far, failed ones included.
        bytes: bytes of the answers' bodies, decompressed.
        stopped: tells whether the caller no longer waits for the answer.
        urgent: it is for the head, and does not wait long for a place among the requests under way.
        history: it is for history, which is asked for with what credits all else leaves, and waits for them.
        timeout: seconds to wait for a byte, where the settings' are too long.
        under_way: the request that is being answered now.
        waited: seconds that it has waited for credits.
        elsewhere: tells whether another endpoint may well answer what is being asked; None: no other is asked.
    """

    requests: int = 0
    bytes: int = 0
    stopped: Callable[[], bool] | None = None
    urgent: bool = False
    history: bool = False
    timeout: float | None = None
    under_way: "UnderWay | None" = None
    waited: float = 0.0
    elsewhere: Callable[[], bool] | None = None

    def check(self) -> None:
        """Raises Stopped when the caller wants it no more."""
        if self.stopped is not None and self.stopped():
            raise Stopped("stopped while waiting for a node")

    def pause(self, wait: float, sleep: Callable[[float], object]) -> None:
        """Sleeps, but wakes up for a stop.

        Args:
            wait: seconds.
            sleep: a function like ``time.sleep``.

        Raises:
            Stopped: the caller wants it no more.
        """
        while wait > 0:
            self.check()
            step = min(wait, 0.1)
            sleep(step)
            wait -= step
        self.check()
