"""``requests_per_second`` is a ceiling of all processes of a deployment together."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from itertools import pairwise

import psycopg
import pytest

from indexer.chain.records.errors import ProviderError
from indexer.chain.rpc.config import RequestContext
from indexer.manifest import load_manifest
from indexer.settings import Settings
from indexer.store.call_permits import ASK_AGAIN_AFTER, SHARE, PostgresPermits
from indexer.store.database import create_engine
from indexer.sync.setup import network
from tests.providers.history import make_history
from tests.providers.node import CHAIN_ID, Fragments, Node, serving
from tests.ready import ReadyProcess

ASKING = """
import sys
from pathlib import Path

from indexer.manifest import load_manifest
from indexer.settings import Settings
from indexer.store.database import create_engine
from indexer.sync.setup import network

chain = load_manifest(Path(sys.argv[1]), {"RPC_URL": sys.argv[2]}).chains["sim"]
engine = create_engine(sys.argv[3])
client = network.connect(chain, Settings(_env_file=None), engine)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    client.headers([2 * number, 2 * number + 1] if number % 2 else [number])
client.close()
engine.dispose()
"""


@pytest.fixture
def engine(migrated_url):
    engine = create_engine(migrated_url)
    yield engine
    engine.dispose()


def manifest(folder, *, ceiling, url="http://node.invalid/a-key", more=""):
    folder.joinpath("token.json").write_text('["event E(uint256 a)"]')
    path = folder / "indexer.toml"
    path.write_text(f"""
[chains.sim]
id = {CHAIN_ID}
rpc = [{{ url = "${{RPC_URL}}"{ceiling} }}]
{more}
[contracts.token]
chain = "sim"
abi = "token.json"
address = "0x00000000000000000000000000000000000000aa"
start_block = 0
""")
    return path, load_manifest(path, {"RPC_URL": url}).chains["sim"]


@pytest.mark.promise("N-11")
def test_four_processes_together_keep_the_ceiling(tmp_path, migrated_url):
    ceiling, each = 20, 9
    arrivals = []
    node = Node(
        Fragments(make_history(200, 10)), before=lambda _, calls: arrivals.append((time.monotonic(), len(calls)))
    )
    with serving(node):
        path, _ = manifest(tmp_path, ceiling=f", requests_per_second = {ceiling}")
        command = [sys.executable, "-c", ASKING, path, node.url, migrated_url, str(each)]
        processes = [ReadyProcess(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            with process:
                assert process.wait(60) == 0
    asked = sum(calls for _, calls in arrivals)
    assert asked >= 4 * each, "each asked all of it"
    took = arrivals[-1][0] - arrivals[0][0]
    assert asked <= ceiling * (took + 1)


@pytest.mark.parametrize("ceiling", [0.5, 5, 25, 400])
def test_what_is_reserved_exceeds_the_ceiling_in_no_second_and_wastes_little(engine, migrated_url, ceiling):
    """All reserve at once, single calls and batches of up to half of a second's: the row says when each may start."""
    both = [PostgresPermits(engine, "sim https://node/*** 1", ceiling) for _ in range(2)]
    other = PostgresPermits(engine, "sim https://node/*** 2", ceiling)
    sizes = [1, max(1, int(ceiling / 2)), 1, max(1, int(ceiling / 3)), 1, 1] * 4
    starts = []
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        for place, calls in enumerate(sizes):
            both[place % 2].take(calls)
            kept = connection.execute(
                "SELECT starts_at[cardinality(starts_at)], calls[cardinality(calls)], cardinality(calls) "
                "FROM gapless.call_permits"
            ).fetchall()
            assert kept[0][1] == calls
            assert kept[0][2] <= len(sizes)
            starts.append(kept[0][0].timestamp())
    for place, start in enumerate(starts):
        within = sum(calls for at, calls in zip(starts, sizes, strict=True) if start <= at < start + 1)
        assert within <= max(ceiling, 1), place
    assert all(earlier < later for earlier, later in pairwise(starts))
    assert starts[-1] - starts[0] <= 1.5 * sum(sizes) / ceiling
    assert other.take(1) <= 0, "another endpoint has a ceiling of its own"
    for one in (*both, other):
        one.close()


@pytest.mark.promise("N-11")
def test_without_postgres_a_process_keeps_an_eighth_and_says_so(engine, migrated_url, caplog):
    now = [100.0]
    permits = PostgresPermits(engine, "sim https://node/*** 1", 16.0, clock=lambda: now[0])
    server, _, name = migrated_url.rpartition("/")

    def let(admit):
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {admit}')
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    caplog.set_level(logging.INFO)
    assert permits.take(1) <= 0
    let("false")
    try:
        assert [permits.take(calls) for calls in (1, 2, 1)] == [0.0, SHARE / 16, 3 * SHARE / 16]
    finally:
        let("true")
    (told,) = [one.message for one in caplog.records if "requests_per_second" in one.message]
    assert "sim https://node/*** 1: Postgres does not tell" in told
    assert "at most 2 calls a second" in told
    now[0] += ASK_AGAIN_AFTER + 0.1
    assert permits.take(1) <= 0
    assert "shared by all processes again" in caplog.text
    permits.close()


def test_a_database_without_the_table_has_no_other_processes(database_url, caplog):
    engine = create_engine(database_url)
    permits = PostgresPermits(engine, "sim https://node/*** 1", 16.0, clock=lambda: 100.0)
    assert [permits.take(1) for _ in range(3)] == [0.0, 1 / 16, 2 / 16]
    assert not caplog.records
    permits.close()
    engine.dispose()


def test_without_a_ceiling_nothing_is_asked_of_postgres(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(PostgresPermits, "__init__", lambda *_: pytest.fail("it was asked"))
    _, chain = manifest(tmp_path, ceiling="")
    network.connect(chain, Settings(), engine).close()


def test_endpoints_of_one_host_are_told_apart_without_their_keys(engine, tmp_path):
    portals = """history = [{ url = "sqd:${RPC_URL}", requests_per_second = 2 }, { url = "sqd:${RPC_URL}2" }]"""
    second = ', requests_per_second = 3 }, { url = "${RPC_URL}2", requests_per_second = 4'
    _, chain = manifest(tmp_path, ceiling=second, more=portals)
    client = network.connect(chain, Settings(), engine)
    history = network.history(chain, Settings(), client, engine)
    for endpoint in client.pool.endpoints:
        endpoint.config.permits.take(1)
    with pytest.raises(ProviderError):
        history.source.reach(RequestContext(stopped=lambda: False))
    for part in (history, client):
        part.close()
    with engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT endpoint FROM gapless.call_permits ORDER BY 1").scalars().all()
    assert names == [
        "sim history http://node.invalid/*** 1",
        "sim http://node.invalid/*** 1",
        "sim http://node.invalid/*** 2",
    ]
