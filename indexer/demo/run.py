"""``gapless demo``: everything at once on one machine, from a chain of its own to answers over HTTP.

In this process: the embedded Postgres and Redis, anvil, and the traffic. As children: ``gapless run`` and
``gapless serve``, just as an operator would start them, told by their environment where everything is. Whatever is
started here ends with this process, also when that is killed (:mod:`indexer.processes`); all data stays, and the next
start goes on from it. What it prints when it runs (:func:`welcome`) are lines that work as printed.
"""

import contextlib
import fcntl
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NoReturn

import requests

from indexer.demo.analyst import make_login, password_file, psql
from indexer.demo.anvil import anvil
from indexer.demo.traffic import burst
from indexer.demo.traffic import run as run_traffic
from indexer.demo.world import World, build, keep_manifest, manifest_text, request
from indexer.errors import GaplessError
from indexer.processes import lock, tied
from indexer.store import embedded

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
BLOCK_TIME = 1  # seconds
TRAFFIC_INTERVAL = 0.4  # seconds between two transactions, on average

# The past that a new chain is given, so that there is history to fill in and not only a head to follow. Anvil finalizes
# a block 64 blocks later.
HISTORY_BLOCKS = 300
HISTORY_TRANSACTIONS = 600
HISTORY_SEED = 1

_PATIENCE = 180.0  # seconds until there are rows to show; a snapshot is taken every 10 blocks
_GRACE = 10.0  # seconds that a child has to stop
_WEBHOOKS_KEY_LENGTH = 64  # hex digits

# The console script is not sure to be on the path; this is what it does.
_GAPLESS = (sys.executable, "-c", "from indexer.cli import main; main()")

Say = Callable[[str], None]

_NO_CURL = """
  This machine has no curl: open these addresses in a browser.
"""


@dataclass(frozen=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def check(self) -> None:
        """Raises GaplessError if the child has ended."""
        status = self.process.poll()
        if status is None:
            return
        lines = self.log_file.read_text("utf-8", "replace").splitlines()[-15:]
        raise GaplessError(
            "\n  ".join([f"`gapless {self.name}` has ended with status {status}. The last lines of its log:", *lines]),
            hint=f"The whole log is {self.log_file}",
        )


def demo(home: Path, environ: Mapping[str, str], say: Say) -> None:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; returns when everything has stopped.

    Call it in the main thread.

    Args:
        home: Gapless' data directory. The demo's own is ``demo`` in it; deleting that begins anew.
        environ: the environment. ``API_PORT`` is the port for the API; left out: 8000, or a free one.
        say: prints something for the user.

    Raises:
        GaplessError: something could not be started, or ended by itself; all the rest has stopped then, too.
    """
    with _stopped_by_signals():
        try:
            with contextlib.ExitStack() as stack:
                _run(home, environ, say, stack)
        except KeyboardInterrupt:
            say("The demo has stopped; the next start goes on from its data.")


def _run(home: Path, environ: Mapping[str, str], say: Say, stack: contextlib.ExitStack) -> NoReturn:
    """Starts everything, each on the stack, and then watches it for ever."""
    directory = home.resolve() / "demo"
    logs = directory / "logs"
    killed = stack.enter_context(_alone(directory))
    say(f"Starting the demo. Its data: {directory}")
    postgres = stack.enter_context(embedded.postgres(directory))
    redis = stack.enter_context(embedded.redis(directory))
    node = stack.enter_context(anvil(home, state=directory / "anvil", genesis_age=HISTORY_BLOCKS + 60))
    world = build(node)
    _bring_to_life(world, say)
    manifest = directory / "indexer.toml"
    is_ours = keep_manifest(manifest, manifest_text(world, derived=True))
    if not is_ours:
        say(f"{manifest} was edited, and is used as it is; remove it to have the demo's own again")
    patience = _GRACE if killed else 0.0
    port = _port(environ, patience)
    environment = {
        **environ,
        "DATABASE_URL": postgres,
        "REDIS_URL": redis,
        "RPC_URL": node,
        "GAPLESS_MANIFEST": str(manifest),
        "GAPLESS_DATA_DIR": str(directory),
        "API_HOST": HOST,
        "API_PORT": str(port),
        "REQUIRE_API_KEY": "false",
        **_webhooks(environ, directory),
        "ADMIN_PORT": "0",  # one of an .env would be wanted by both
    }
    stack.enter_context(_traffic(world))
    say("Making the tables")
    with _child("migrate", logs, environment) as migrate:
        if migrate.process.wait() != 0:
            migrate.check()
    children = [stack.enter_context(_child(name, logs, environment)) for name in ("run", "serve")]
    say("Waiting for the first rows and the first snapshot")
    url = f"http://{HOST}:{port}"
    shown = ["contracts/coins/events/Transfer", "contracts/coins/snapshots/supply"]
    shown += ["derived/pair_hour"] if is_ours else []
    _wait_for_rows(url, shown, world.w3.eth.block_number, children)
    say(welcome(url, make_login(postgres, directory), node, directory))
    try:
        while True:
            for child in children:
                child.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("Stopping ...")
        raise


def _webhooks(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Webhooks are on, and may go to receivers on this machine alone, unless the environment says otherwise."""
    kept = directory / "webhooks.key"
    if len(kept.read_text("utf-8") if kept.exists() else "") < _WEBHOOKS_KEY_LENGTH:
        kept.touch(0o600)
        kept.write_text(secrets.token_hex(_WEBHOOKS_KEY_LENGTH // 2), "utf-8")
    here = {
        # Kept, so that the next start can go on with the webhooks of this one.
        "WEBHOOKS_SECRET_KEY": kept.read_text("utf-8"),
        "WEBHOOKS_ALLOW_HTTP": "true",
        "WEBHOOKS_ALLOW_PRIVATE": "127.0.0.0/8",
    }
    return {name: environ.get(name) or value for name, value in here.items()}


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """The first signal to stop raises KeyboardInterrupt in the block.

    Further ones change nothing: stopping is under way then, and each part of it takes a bounded time.
    """
    told: list[object] = []  # a handler must take no lock: the code that it interrupts may hold it

    def stop(*_: object) -> None:
        if not told:
            told.append(None)
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Keeps a second demo away from the same data.

    Yields:
        Whether the last one was killed: what it had started may still be stopping.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "running").open("a+") as file:
        file.seek(0)
        last = file.read().strip()
        if not lock(file.fileno(), fcntl.LOCK_EX):
            raise GaplessError(
                f"The demo in {directory} is running already, as process {last}",
                hint="Stop it first, or set GAPLESS_DATA_DIR to another directory to have two.",
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield bool(last)
        finally:
            file.truncate(0)


def _bring_to_life(world: World, say: Say) -> None:
    """Gives a new chain a past, and lets every chain mine by the clock from now on."""
    w3 = world.w3
    if w3.eth.block_number <= world.start_block:
        say(f"Making a history of {HISTORY_TRANSACTIONS} transactions in {HISTORY_BLOCKS} blocks")
        request(w3, "evm_setTime", w3.eth.get_block("latest")["timestamp"] + 1)
        burst(world, Random(HISTORY_SEED), HISTORY_TRANSACTIONS, HISTORY_BLOCKS)
        request(w3, "evm_setTime", int(time.time()))
    request(w3, "evm_setIntervalMining", BLOCK_TIME)


@contextlib.contextmanager
def _traffic(world: World) -> Iterator[None]:
    stop = threading.Event()
    # Seeded by the height: no start repeats what an earlier one sent.
    random = Random(world.w3.eth.block_number)
    thread = threading.Thread(target=run_traffic, args=(world, random, stop, TRAFFIC_INTERVAL), name="traffic")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _child(name: str, logs: Path, environment: Mapping[str, str]) -> Iterator[_Child]:
    """``gapless NAME`` for as long as this block. Its output goes to a log file; the last start's is kept beside it."""
    logs.mkdir(exist_ok=True)
    log_file = logs / f"{name}.log"
    if log_file.exists():
        log_file.replace(log_file.with_suffix(".log.1"))
    # Whatever uses the demo's database is of this version.
    arguments = ("run", "--migrate") if name == "run" else (name,)
    with (
        log_file.open("wb") as output,
        tied([*_GAPLESS, *arguments], output=output, environment=environment, grace=_GRACE) as process,
    ):
        yield _Child(name, process, log_file)


def _port(environ: Mapping[str, str], patience: float) -> int:
    """A port for the API: as asked for, else the usual one, or any free one if another program has that.

    Args:
        environ: may hold ``API_PORT``.
        patience: seconds to wait for a port that the last demo's API may not have given back yet.
    """
    wanted = int(environ.get("API_PORT") or 0)
    deadline = time.monotonic() + patience
    while not _is_free(wanted or DEFAULT_PORT):
        if time.monotonic() >= deadline:
            if wanted:
                raise GaplessError(f"API_PORT {wanted} is taken by another program", hint="Choose another API_PORT.")
            with socket.create_server((HOST, 0)) as probe:
                return int(probe.getsockname()[1])
        time.sleep(0.1)
    return wanted or DEFAULT_PORT


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _wait_for_rows(url: str, shown: Sequence[str], height: int, children: list[_Child]) -> None:
    """Waits until the lines that will be printed have something to show, and it is not what an earlier start left.

    Args:
        url: the API's.
        shown: paths of rows.
        height: a block that must be indexed.
        children: those that must be alive meanwhile.

    Raises:
        GaplessError: a child ended, or minutes have passed.
    """
    deadline = time.monotonic() + _PATIENCE
    for path in shown:
        while not _has_rows(f"{url}/v1/{path}", height):
            for child in children:
                child.check()
            if time.monotonic() > deadline:
                raise GaplessError(
                    f"The API has no rows of {path} as of block {height} after {_PATIENCE:.0f} s",
                    hint=f"The logs are in {children[0].log_file.parent}",
                )
            time.sleep(0.2)


def _has_rows(url: str, height: int) -> bool:
    try:
        answer = requests.get(url, params={"limit": "1"}, timeout=5)
    except requests.RequestException:
        return False
    if not answer.ok:
        return False
    page = answer.json()
    return bool(page["data"]) and (page["meta"]["indexed_block"] or 0) >= height


def welcome(api: str, database: str, node: str, directory: Path) -> str:
    """The text.

    Args:
        api: the API's URL.
        database: the URL of the embedded Postgres as an analyst; the password is in a file.
        node: the URL of the demo's chain.
        directory: the demo's data.
    """
    coins = f"{api}/v1/contracts/coins"
    return f"""
Gapless is running at {api}/
{"" if shutil.which("curl") else _NO_CURL}
  The newest transfers of four ERC-20 coins, with their names and decimals:
    {_ask(f"{coins}/events/Transfer?limit=3&include=token")}

  How much there is of each, read every 10 blocks:
    {_ask(f"{coins}/snapshots/supply?limit=4")}

  The newest candles of the pools, kept by a rule of the manifest (see also swap_price, whales and stake):
    {_ask(f"{api}/v1/derived/pair_hour?sort=hour&order=desc&limit=3")}

  Every transfer as it is indexed, until Ctrl-C:
    {_ask(f"{coins}/events/Transfer/stream", "-sN")}

  All contracts, their events, and the blocks that are covered:
    {_ask(f"{api}/v1/contracts")}

  The same in SQL, as an analyst who may read:
    {psql(database, password_file(directory))}

  How it stands, as its operator sees it (plan, audit and all other commands work likewise):
    {operator(node, directory)}

The logs are in {directory / "logs"}. Ctrl-C stops everything.
"""


def _ask(url: str, options: str = "-s") -> str:
    """A command line that gets something, or on a machine without curl what a browser opens."""
    return f"curl {options} {shlex.quote(url)}" if shutil.which("curl") else url


def operator(node: str, directory: Path) -> str:
    """A command line of an operator's command on the demo."""
    variables = {"GAPLESS_DATA_DIR": directory, "GAPLESS_MANIFEST": directory / "indexer.toml", "RPC_URL": node}
    given = [f"{name}={shlex.quote(str(value))}" for name, value in variables.items()]
    return " ".join([*given, shlex.quote(str(Path(sys.executable).with_name("gapless"))), "status"])
