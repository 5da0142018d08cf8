"""What an operator is told of one endpoint: its state, what it has cost, and the limits that were learned."""

from dataclasses import dataclass

from indexer.chain.rpc.health import State


@dataclass(slots=True)
class MethodCount:
    """What a method has cost at one endpoint.

    Attributes:
        requests: calls asked.
        errors: calls failed, for whatever reason.
        bytes: of results.
        limited: calls failed because too many were asked.
    """

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    limited: int = 0


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What an operator wants to know of one endpoint.

    Attributes:
        host: ``https://host/***``.
        state: ``healthy``, ``unhealthy`` or ``unknown``.
        reason: why it is unhealthy, or empty.
        priority: as configured.
        head: its newest known block.
        error_rate: the share of failures among the last answers, 0 to 1.
        latency: seconds for a request, a running mean, or None before the first.
        http_requests: HTTP requests so far.
        counts: method -> calls, failures and bytes.
        max_batch: the most calls it takes in a batch (1: none).
        max_blocks: the most blocks it allows in one ``eth_getLogs``, or None where no limit is known.
        concurrency: the requests that may be under way at once now.
        pace: calls a second that it allows, or None where no limit is known.
        refuses: method -> the block at or below which it is refused (None: at every block).
    """

    host: str
    state: State
    reason: str
    priority: int
    head: int | None
    error_rate: float
    latency: float | None
    http_requests: int
    counts: dict[str, MethodCount]
    max_batch: int
    max_blocks: int | None
    concurrency: int
    pace: float | None
    refuses: dict[str, int | None]
