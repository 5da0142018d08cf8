"""Real servers for the tests: Postgres, Redis and anvil, none of which outlives the test run."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

import indexer.chain  # noqa: F401 - before anything imports web3
from indexer.demo import anvil as anvil_program
from indexer.log import NOISY
from indexer.store import embedded
from tests import databases, further, servers
from tests.world import history, make_world, shared_history, world  # noqa: F401 - fixtures for all tests

if TYPE_CHECKING:
    from web3 import Web3

# A busy machine is no failure.
hypothesis_settings.register_profile("gapless", deadline=None)
hypothesis_settings.load_profile("gapless")

REPOSITORY = Path(__file__).resolve().parent.parent

# A test's database may vanish with the machine: nothing that a test says depends on the disk.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "256MB",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--promise R-01``: only the tests that guard this promise of docs/promises.md."""
    parser.addoption("--promise", action="append", default=[], metavar="ID", help="run only the tests of a promise")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out further variants, and the tests that guard none of the promises that were asked for."""
    if not further.ALL:
        _leave_out(config, items, [item for item in items if item.get_closest_marker("long")])
    if wanted := set(config.getoption("--promise")):
        others = [item for item in items if not any(wanted & set(mark.args) for mark in item.iter_markers("promise"))]
        _leave_out(config, items, others)


def _leave_out(config: pytest.Config, items: list[pytest.Item], others: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=others)
    gone = set(others)
    items[:] = [item for item in items if item not in gone]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Each test ends with the logging that it began with.

    A logger made quiet would be so for all that follow, and a command's handler would write to a stream that pytest has
    closed. pytest's own handlers come and go within a test, so only new ones are taken away.
    """
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in (None, "api", "indexer", *NOISY)]
    levels, handlers = [logger.level for logger in loggers], list(root.handlers)
    hooks = sys.excepthook, threading.excepthook
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers and not type(handler).__module__.startswith("_pytest."):
            root.removeHandler(handler)
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """The data directory of this test run; its servers run here.

    Not below pytest's own: another run closes that to other accounts, and as root the servers run as one of them.
    """
    with databases.servers_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres_url(data_dir: Path) -> Iterator[str]:
    """The server's own database. Tests want ``database_url``.

    With ``GAPLESS_TEST_POSTGRES_BIN=/usr/lib/postgresql/15/bin`` the server is one of those programs.
    """
    if given := os.environ.get("GAPLESS_TEST_POSTGRES_BIN"):
        with servers.postgres(data_dir / "other", Path(given), FAST) as one:
            yield one.url
        return
    with embedded.postgres(data_dir, settings=FAST) as url:
        yield url


@contextlib.contextmanager
def copy_of(server: str, template: str) -> Iterator[str]:
    """A database of its own, made like another one of the same server; yields its URL."""
    url = databases.create(server, template)
    try:
        yield url
    finally:
        databases.drop(server, url)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A ``postgresql://`` URL of an empty database of this test's own."""
    with copy_of(postgres_url, "template1") as url:
        yield url


@pytest.fixture
def make_database(postgres_url: str) -> Callable[[], contextlib.AbstractContextManager[str]]:
    """Like ``database_url``, as many as a test wants: a function that returns a context manager."""
    return lambda: copy_of(postgres_url, "template1")


@pytest.fixture(scope="session")
def _migrated(postgres_url: str) -> Iterator[str]:
    from indexer.store import database
    from indexer.store.apply import migrate

    with copy_of(postgres_url, "template1") as url:
        engine = database.create_engine(url)
        migrate.upgrade(engine)
        engine.dispose()
        yield url.rpartition("/")[2]


@pytest.fixture
def migrated_url(postgres_url: str, _migrated: str) -> Iterator[str]:
    """Like ``database_url``, with the static tables already there."""
    with copy_of(postgres_url, _migrated) as url:
        yield url


@pytest.fixture(scope="session")
def _redis_server(data_dir: Path) -> Iterator[str]:
    with embedded.redis(data_dir) as url:
        yield url


@pytest.fixture
def redis_url(_redis_server: str) -> str:
    """A ``redis://`` URL; the server is empty."""
    import redis

    with contextlib.closing(redis.Redis.from_url(_redis_server)) as client:
        client.flushall()
    return _redis_server


@dataclass(frozen=True)
class Anvil:
    """A running anvil chain."""

    url: str

    @cached_property
    def w3(self) -> Web3:
        """A client of the chain."""
        from web3 import HTTPProvider, Web3

        return Web3(HTTPProvider(self.url))

    def rpc(self, method: str, *params: object) -> object:
        """One JSON-RPC call, such as ``rpc("anvil_reorg", {"depth": 3, "txBlockPairs": []})``."""
        return anvil_program.rpc(self.url, method, *params)

    def mine(self, blocks: int = 1) -> int:
        """Mine blocks; returns the new head's number."""
        self.rpc("anvil_mine", hex(blocks))
        return int(str(self.rpc("eth_blockNumber")), 16)


@pytest.fixture(scope="session")
def anvil_home() -> Path:
    """Where the anvil program is installed: in the clone, so that it is fetched once and not with every test run."""
    return REPOSITORY / ".gapless"


@pytest.fixture
def make_anvil(anvil_home: Path) -> Iterator[Callable[..., Anvil]]:
    """Start chains with the arguments of :func:`indexer.demo.anvil.anvil`; they end with the test."""
    with contextlib.ExitStack() as stack:

        def make(**arguments: object) -> Anvil:
            return Anvil(stack.enter_context(anvil_program.anvil(anvil_home, **arguments)))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def anvil(make_anvil: Callable[..., Anvil]) -> Anvil:
    """A new chain of this test's own, in which every transaction makes a block at once."""
    return make_anvil()
