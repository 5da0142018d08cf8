"""Imitated nodes for the client's tests, and time that passes only when somebody sleeps."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from tests.providers.history import make_history
from tests.providers.node import CHAIN_ID, Fragments, Node, serving


@dataclass
class Clock:
    """A clock that moves when somebody sleeps; thread-safe."""

    now: float = 1000.0
    sleeps: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> float:
        with self.lock:
            return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds
            self.sleeps.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def fragments() -> Fragments:
    return Fragments(make_history(2_000, 500))


@pytest.fixture
def serve(fragments: Fragments) -> Iterator[Callable[..., Node]]:
    """Starts imitated nodes: ``serve(limit=..., before=..., ...)``."""
    with ExitStack() as stack:

        def start(**arguments: Any) -> Node:
            node = Node(arguments.pop("fragments", fragments), **arguments)
            stack.enter_context(serving(node))
            return node

        yield start


@pytest.fixture
def connect(clock: Clock) -> Callable[..., ChainClient]:
    """A client of some nodes, in made-up time: ``connect(node, other, read_timeout=1.0)``."""

    def make(*nodes: Node | EndpointConfig, chain_id: int = CHAIN_ID, **settings: Any) -> ChainClient:
        endpoints = [node if isinstance(node, EndpointConfig) else EndpointConfig(node.url) for node in nodes]
        return ChainClient(
            "demo",
            chain_id,
            endpoints,
            settings=ClientSettings(**{"read_timeout": 5.0, **settings}),
            clock=clock,
            sleep=clock.sleep,
            random=random.Random(1),
            spawn=lambda job: job(),
        )

    return make
