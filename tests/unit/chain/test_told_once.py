"""What is told of nodes that fail: each fault at most once a minute, with the host, in whatever words it comes."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indexer.chain.client import ChainClient
from indexer.log import Troubles
from indexer.service.chain_at_work import Network
from indexer.service.jobs import Job, ServiceResources
from tests.further import further
from tests.providers.node import Node, Refusal
from tests.unit.chain.conftest import Clock
from tests.unit.chain.test_error_table import CASES

BEATS, BEAT = 20, 12.0
METHOD = "eth_gasPrice"
"""A question without parts or proofs: what is told is the same for all, and one request shows it."""

# Code, words and HTTP status: the table's own, and some that it does not know.
FAULTS = [(case.code, case.text, case.status) for case in CASES] + [
    (-32000, "der Knoten mag nicht", 200),
    (None, "", 500),
    (418, "teapot", 418),
    (-1, "block 1,234 of 5,678 after 91.2 s", 200),
]


@contextmanager
def told(clock: Clock) -> Iterator[list[tuple[float, str]]]:
    """Warnings and worse of the indexer, with the made-up time of each."""
    found: list[tuple[float, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((clock(), record.getMessage()))

    handler, logger = Handler(logging.WARNING), logging.getLogger("indexer")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def job_of(client: ChainClient, clock: Clock) -> Job:
    """The scheduler's own beat, around one question."""
    network = SimpleNamespace(
        chain=SimpleNamespace(name="demo"),
        client=client,
        follower=SimpleNamespace(leads=lambda: True),
        stop=threading.Event(),
        checked=True,
        troubles=Troubles(clock),
        hindrances={},
        at_work=nullcontext,
    )

    def work(_: ServiceResources, one: Network) -> None:
        one.client.raw(METHOD, [])

    return Job(cast(ServiceResources, SimpleNamespace()), cast(Network, network), work, "follow")


@pytest.mark.promise("O-07")
@pytest.mark.parametrize("every", [further(1), 2], ids=["always", "every second time"])
@pytest.mark.parametrize(("code", "text", "status"), FAULTS, ids=[text[:60] or f"{code}" for code, text, _ in FAULTS])
def test_a_fault_is_told_at_most_once_a_minute_with_the_host(
    code: int | None,
    text: str,
    status: int,
    every: int,
    serve: Callable[..., Node],
    connect: Callable[..., ChainClient],
    clock: Clock,
) -> None:
    node, numbers = serve(), iter(range(10_000))

    def refuse(_: list[Any]) -> bytes:
        # Byte counts and block numbers make each text new.
        raise Refusal(code if code is not None else -32000, f"{text} ({next(numbers)})", status=status)

    def answer(_: list[Any]) -> bytes:
        return b'"0x1"'

    client = connect(node, attempts=2)
    job = job_of(client, clock)
    with told(clock) as lines:
        for beat in range(BEATS):
            node.answers[METHOD] = refuse if beat % every == 0 else answer
            job.run()
            clock.sleep(BEAT)
    assert all(client.pool.endpoints[0].host in line for _, line in lines), "a fault names its host"
    assert lines, "it is told"
    for teller in ("follow: ", "demo: "):
        times = [at for at, line in lines if line.startswith(teller)]
        assert all(later - before >= 60.0 for before, later in itertools.pairwise(times)), lines
