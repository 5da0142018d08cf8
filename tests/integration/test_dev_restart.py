"""A development chain whose node was restarted: begun anew by a running indexer that was told so, and by no other."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest
import requests

from indexer.demo import anvil as anvil_program
from indexer.demo.traffic import burst
from indexer.demo.world import build, manifest_text
from tests.conftest import REPOSITORY
from tests.further import further
from tests.integration.test_run import Process, _closed_port, _one, _until
from tests.ready import ReadyProcess

BORN = 1_700_000_000
"""The time of a genesis block that is the same at every start."""


class Node:
    """An anvil that is killed and started anew on the same port."""

    def __init__(self, program: Path, port: int) -> None:
        self._program, self._port = program, port
        self._popen: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{port}"

    def start(self, *arguments: str) -> None:
        command = [str(self._program), "--port", str(self._port), "--quiet", *arguments]
        self._popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _until(self._answers, lambda: "anvil does not answer")

    def _answers(self) -> bool:
        try:
            return bool(self.rpc("eth_chainId"))
        except requests.RequestException:
            return False

    def rpc(self, method: str, *params: object) -> object:
        return anvil_program.rpc(self.url, method, *params)

    def live(self, seed: int, blocks: int) -> None:
        """Deploys the demo's contracts and has something happen in so many blocks."""
        burst(build(self.url), Random(seed), transactions=2 * blocks, blocks=blocks)

    def kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()

    def hash(self, number: int) -> bytes:
        block = self.rpc("eth_getBlockByNumber", hex(number), False)
        assert isinstance(block, dict)
        return bytes.fromhex(block["hash"][2:])

    @property
    def head(self) -> int:
        return int(str(self.rpc("eth_blockNumber")), 16)

    def transfers(self) -> set[tuple[int, int]]:
        """Block and log index of all Transfers of the demo's coins."""
        coins = [address for name, address in build(self.url).addresses.items() if name in COINS]
        query = {"fromBlock": "0x0", "toBlock": "latest", "address": coins, "topics": [TRANSFER]}
        logs = self.rpc("eth_getLogs", query)
        assert isinstance(logs, list)
        return {(int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in logs}


COINS = ("gold", "silver", "copper", "odd")
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@pytest.fixture
def node(anvil_home) -> Iterator[Node]:
    one = Node(anvil_program.install(anvil_home), _closed_port())
    yield one
    one.kill()


@pytest.fixture
def start(node, migrated_url, redis_url, tmp_path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        given = {
            "RPC_URL": node.url,
            "DATABASE_URL": migrated_url,
            "REDIS_URL": redis_url,
            "GAPLESS_MANIFEST": str(tmp_path / "indexer.toml"),
        }
        processes.append(Process(list(arguments), given, tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture
def write(node, tmp_path) -> Callable[..., None]:
    """Writes the manifest of the demo's contracts on the node."""

    def write(dev: bool, more: str = "", auto: bool = False) -> None:
        text = manifest_text(build(node.url)) + more
        if dev:
            text = text.replace('rpc = ["${RPC_URL}"]', 'rpc = ["${RPC_URL}"]\ndev = true')
        if auto:
            text = re.sub(r"start_block = \d+", 'start_block = "auto"', text)
        (tmp_path / "indexer.toml").write_text(text)

    return write


def rows_of(url: str) -> set[tuple[int, int]]:
    """What is in the tables of :meth:`Node.transfers`."""
    with psycopg.connect(url) as connection:
        return set(connection.execute("SELECT block_number, log_index FROM coins.transfer").fetchall())


def until_as(node: Node, url: str, process: Process) -> None:
    """Waits until the tables hold what the node's chain holds, and nothing else."""

    def found() -> bool:
        with psycopg.connect(url) as connection:
            tip = connection.execute("SELECT tip_number, tip_hash, genesis_hash, state FROM gapless.chains").fetchone()
        head = node.head
        return tip == (head, node.hash(head), node.hash(0), "following") and rows_of(url) == node.transfers()

    _until(found, lambda: f"the tables are never as the chain:\n{process.said[-4000:]}")


def another_genesis(node: Node) -> None:
    node.kill()
    node.start()
    node.live(seed=2, blocks=20)


def a_longer_chain(node: Node) -> None:
    node.kill()
    node.start()
    node.live(seed=2, blocks=200)


def the_same_genesis(node: Node) -> None:
    node.kill()
    node.start("--timestamp", str(BORN))
    node.live(seed=2, blocks=20)


def reset(node: Node) -> None:
    node.rpc("anvil_reset")
    node.live(seed=2, blocks=20)


def far_back(node: Node) -> None:
    """To a block of the same history, far below what was final, and nothing after it."""
    assert node.rpc("evm_revert", "0x0") is True


HOWS = [further(another_genesis), further(a_longer_chain), further(the_same_genesis), reset, far_back]


@pytest.mark.promise("O-13")
@pytest.mark.parametrize("how", HOWS)
def test_a_development_chain_is_begun_anew_by_itself(node, start, write, migrated_url, how):
    node.start("--timestamp", str(BORN))
    node.live(seed=1, blocks=5)
    node.rpc("evm_snapshot")
    node.live(seed=1, blocks=120)
    write(dev=True)
    process = start("run")
    process.until("running 1 chains")
    until_as(node, migrated_url, process)
    assert _one(migrated_url, "SELECT finalized_number FROM gapless.chains") > 30
    how(node)
    until_as(node, migrated_url, process)
    _until(lambda: _one(migrated_url, "SELECT count(*) FROM gapless.tokens"), lambda: process.said)
    node.live(seed=3, blocks=10)
    until_as(node, migrated_url, process)
    assert process.said.count("demo was restarted: all of its rows were deleted, and it is begun anew") == 1
    assert "halted" not in process.said
    assert "Traceback" not in process.said
    assert _one(migrated_url, "SELECT count(*) FROM gapless.reorgs") == 0


def index(node: Node, url: str, process: Process) -> None:
    """Has a chain of 125 blocks indexed."""
    process.until("running")
    until_as(node, url, process)


def test_it_is_begun_anew_after_a_restart_while_the_indexer_was_down(node, start, write, migrated_url):
    """Where contracts were deployed is found out anew, and they may come later than the chain."""
    node.start()
    node.live(seed=1, blocks=120)
    write(dev=True, auto=True)
    process = start("run")
    index(node, migrated_url, process)
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    node.kill()
    node.start()
    node.rpc("anvil_mine", "0x10")
    again = start("run")
    again.until("there is no code")
    node.live(seed=2, blocks=20)
    until_as(node, migrated_url, again)
    assert again.said.count("was restarted") == 1
    assert again.said.count("there is no code") == 1, again.said


def test_the_leader_begins_it_anew_and_a_standby_goes_on_with_it(node, start, write, migrated_url):
    node.start()
    node.live(seed=1, blocks=120)
    write(dev=True)
    first = start("run")
    index(node, migrated_url, first)
    second = start("run")
    second.until("standing by")
    another_genesis(node)
    until_as(node, migrated_url, first)
    first.popen.kill()
    second.until("following demo from")
    node.live(seed=3, blocks=10)
    until_as(node, migrated_url, second)
    assert (first.said + second.said).count("was restarted") == 1
    assert "Traceback" not in first.said + second.said


def test_a_node_of_another_chain_id_deletes_nothing(node, start, write, migrated_url):
    node.start()
    node.live(seed=1, blocks=120)
    write(dev=True)
    process = start("run")
    index(node, migrated_url, process)
    before = _one(migrated_url, "SELECT count(*) FROM coins.transfer")
    node.kill()
    node.start("--chain-id", "5")
    process.until("it serves chain id 5, the manifest says 31337")
    assert _one(migrated_url, "SELECT count(*) FROM coins.transfer") == before
    another_genesis(node)
    until_as(node, migrated_url, process)
    assert process.said.count("was restarted") == 1


OTHER = """
[chains.other]
id = 5
rpc = ["${OTHER_URL}"]

[contracts.other]
chain = "other"
abi = "abis/erc20.json"
address = "%s"
start_block = 0
"""


def asked(command: list[str], environment: dict[str, str], answer: bytes) -> str:
    """What a command says on a terminal where one line is typed."""
    ours, its = pty.openpty()
    try:
        process = ReadyProcess(command, env={**os.environ, **environment}, stdin=its, stdout=subprocess.PIPE)
        os.write(ours, answer)
        said, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(its)
    return said.decode()


@pytest.mark.promise("O-13")
def test_without_dev_it_is_halted_until_it_is_reset(
    node, start, write, migrated_url, make_anvil, tmp_path, monkeypatch
):
    other = make_anvil(chain_id=5)
    world = build(other.url)
    burst(world, Random(1), transactions=40, blocks=20)
    monkeypatch.setenv("OTHER_URL", other.url)
    (tmp_path / "abis").symlink_to(REPOSITORY / "abis")
    node.start()
    node.live(seed=1, blocks=120)
    write(dev=False, more=OTHER % world.addresses["gold"])
    process = start("run")
    index(node, migrated_url, process)
    others = "SELECT count(*) FROM other.transfer"
    _until(lambda: _one(migrated_url, others) >= 10, lambda: process.said)

    def counts() -> dict[str, int]:
        tables = "coins.transfer", "other.transfer"
        return {name: _one(migrated_url, f"SELECT count(*) FROM {name}") for name in tables}

    ours = counts()

    another_genesis(node)
    process.until("demo is halted")
    process.until("gapless reset demo")
    refused = start("reset", "demo", "--yes")
    assert refused.ended() == 1
    assert "chain demo is still being followed by an indexer" in refused.said
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    assert counts() == ours
    assert "deleted, and it is begun anew" not in process.said

    unasked = start("reset", "demo")
    assert unasked.ended() == 1
    assert "there is no terminal to ask on" in unasked.said
    given = {
        "RPC_URL": node.url,
        "DATABASE_URL": migrated_url,
        "GAPLESS_MANIFEST": str(tmp_path / "indexer.toml"),
    }
    command = [sys.executable, "-c", "from indexer.cli import main; main()", "reset", "demo"]
    assert "Delete it for good" in asked(command, given, b"n\n")
    assert counts() == ours
    unknown = start("reset", "nowhere", "--yes")
    assert unknown.ended() == 1
    assert "has no chain nowhere" in unknown.said

    assert "gapless run begins it anew" in asked(command, given, b"y\n")
    assert _one(migrated_url, "SELECT count(*) FROM coins.transfer") == 0
    assert _one(migrated_url, others) == ours["other.transfer"]
    again = start("run")
    again.until("running")
    _until(lambda: rows_of(migrated_url) == node.transfers(), lambda: again.said)


def test_saying_dev_ends_a_halt(node, start, write, migrated_url):
    node.start()
    node.live(seed=1, blocks=120)
    write(dev=False)
    process = start("run")
    index(node, migrated_url, process)
    another_genesis(node)
    process.until("demo is halted")
    write(dev=True)
    until_as(node, migrated_url, process)
