"""Fixtures of a living chain: the demo's contracts on anvil, with and without a history of random traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from indexer.demo import anvil as anvil_program

# web3 is imported by the fixtures that need it: conftest.py imports this file for every test run.
if TYPE_CHECKING:
    from indexer.demo.world import World

SEED = 20260101


@dataclass(frozen=True)
class History:
    """A chain on which much has happened.

    Attributes:
        world: its contracts; all of them were deployed in block 1.
        first: first block of the random traffic.
        last: the chain's head when the traffic ended.
        transactions: how many it was, failed ones included.
    """

    world: World
    first: int
    last: int
    transactions: int


def make_history(
    url: str, *, seed: int = SEED, transactions: int = 300, blocks: int = 120, hostile: bool = False
) -> History:
    """Build the world on the anvil at ``url`` and send random traffic; about 3 ms a transaction."""
    from indexer.demo.traffic import burst
    from indexer.demo.world import build

    world = build(url)
    first, last = burst(world, Random(seed), transactions, blocks, hostile=hostile)
    return History(world, first, last, transactions)


@pytest.fixture
def world(anvil: Any) -> World:
    """The demo's contracts on a new chain of this test's own, without traffic."""
    from indexer.demo.world import build

    return build(anvil.url)


@pytest.fixture
def history(anvil: Any) -> History:
    """A new chain of this test's own with 300 transactions in 120 blocks, no hostile ones among them."""
    return make_history(anvil.url)


@pytest.fixture(scope="session")
def shared_history(anvil_home: Path) -> Iterator[History]:
    """A history of 1,000 transactions in 300 blocks, hostile ones among them, that all tests share: only read it."""
    with anvil_program.anvil(anvil_home) as url:
        yield make_history(url, transactions=1_000, blocks=300, hostile=True)


@pytest.fixture
def make_world(make_anvil: Callable[..., Any]) -> Callable[..., History]:
    """Make chains with the arguments of :func:`make_history`, each on an anvil of its own."""

    def make(**arguments: Any) -> History:
        return make_history(make_anvil().url, **arguments)

    return make


def named_abi(abi: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An ABI whose unnamed arguments are called ``arg0``, ``arg1``, ...

    web3 refuses to decode an event that has unnamed arguments both indexed and not.
    """
    return [
        {
            **item,
            "inputs": [{**each, "name": each["name"] or f"arg{at}"} for at, each in enumerate(item.get("inputs", []))],
        }
        for item in abi
    ]
