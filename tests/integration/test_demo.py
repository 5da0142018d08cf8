"""``gapless demo``, as a process of its own: what it prints works, it stops whole, and it goes on from its data."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest

from indexer.demo import anvil as anvil_program
from indexer.demo.analyst import psql
from indexer.demo.run import welcome
from indexer.demo.world import keep_manifest

# Stands in for `gapless migrate`, `run` and `serve` where a test is about the demo around them: it can be told to fail.
STAND_IN = """
import http.server, os, sys, time

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{}], "meta": {"indexed_block": 1000000}}')

command = sys.argv[1]
print(command, "was here", flush=True)
if command == os.environ.get("FAILS"):
    sys.exit(3)
if command == "migrate":  # the analyst's login is made for real
    from indexer.store.apply import migrate
    from indexer.store.database import create_engine

    migrate.upgrade(create_engine(os.environ["DATABASE_URL"]))
if command == "run":
    time.sleep(3600)
if command == "serve":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["API_PORT"])), Answer).serve_forever()
"""
WITH_STAND_IN = """
import sys
from indexer.cli import main
from indexer.demo import run
run._GAPLESS = (sys.executable, sys.argv.pop(1))
run.HISTORY_TRANSACTIONS = 30
main()
"""


class Demo:
    """One start of the demo in ``home``; it leads a process group, as in a terminal."""

    def __init__(self, home: Path, *, stand_in: bool = False, **environment: str) -> None:
        self.home = home
        self.output = home / "output"
        command = [sys.executable, "-c", "from indexer.cli import main; main()", "demo"]
        if stand_in:
            (home / "stand_in.py").write_text(STAND_IN)
            command = [sys.executable, "-c", WITH_STAND_IN, str(home / "stand_in.py"), "demo"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "GAPLESS_DATA_DIR": str(home), **environment},
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8")

    def wait_until_ready(self) -> str:
        deadline = time.monotonic() + 120
        while "Ctrl-C stops everything" not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)
        return self.text

    def rpc(self, method: str, *params: object) -> object:
        port = (self.home / "demo" / "anvil" / "port").read_text().strip()
        return anvil_program.rpc(f"http://127.0.0.1:{port}", method, *params)

    def interrupt(self) -> int:
        """Ctrl-C, by an impatient hand."""
        for _ in range(2):
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def leftovers(self, patience: float = 0.0) -> list[str]:
        """Command lines of processes that still have to do with this demo, after waiting for their end."""
        deadline = time.monotonic() + patience
        while True:
            found = [line for line in map(_about, psutil.process_iter()) if str(self.home) in line]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


def _about(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            variables = process.environ()
            return " ".join([*process.cmdline(), variables.get("GAPLESS_DATA_DIR", "")])
    return ""


@pytest.fixture(scope="module")
def home(anvil_home):
    """One for all tests: they also show that whatever the last one did, the next start works."""
    anvil_program.install(anvil_home)
    # Not pytest's own temporary directory: each new run of pytest closes that to the account Postgres runs as.
    with tempfile.TemporaryDirectory(prefix="gapless-demo-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        (home / "npm").symlink_to(anvil_home / "npm")
        yield home


@pytest.fixture
def start(home):
    """Start demos in ``home``; whatever a failed test leaves is killed, and its servers end by themselves."""
    demos = []

    def begin(**arguments):
        demos.append(Demo(home, **arguments))
        return demos[-1]

    yield begin
    for demo in demos:
        if demo.process.poll() is None:
            demo.kill()
    assert not demos or not demos[-1].leftovers(patience=20)


def test_it_stops_whole_and_goes_on_from_its_chain(start):
    first = start(stand_in=True)
    first.wait_until_ready()
    second = start(stand_in=True)
    assert second.process.wait(30) == 1
    assert f"running already, as process {first.process.pid}" in second.text

    assert first.interrupt() == 0
    assert first.leftovers() == []

    third = start(stand_in=True)
    third.wait_until_ready()
    genesis, tip = third.rpc("eth_getBlockByNumber", "0x0", False), third.rpc("eth_blockNumber")
    assert int(tip, 16) > 300
    blocks = [third.rpc("eth_getBlockByNumber", hex(number), False) for number in range(int(tip, 16) + 1)]
    times = [int(block["timestamp"], 16) for block in blocks]
    assert times == sorted(times), "the clock never goes back"
    assert times[-1] - times[1] > 300, "the history lies in the past"
    old = third.rpc("eth_getBlockByNumber", hex(int(tip, 16) - 20), False)
    third.kill()
    assert third.leftovers(patience=20) == []

    fourth = start(stand_in=True)
    fourth.wait_until_ready()
    assert fourth.rpc("eth_getBlockByNumber", "0x0", False)["hash"] == genesis["hash"]
    assert fourth.rpc("eth_getBlockByNumber", old["number"], False)["hash"] == old["hash"]
    newest = fourth.rpc("eth_getBlockByNumber", "latest", False)
    assert int(newest["number"], 16) >= int(old["number"], 16)
    assert abs(int(newest["timestamp"], 16) - time.time()) < 60
    assert fourth.interrupt() == 0


@pytest.mark.parametrize("command", ["migrate", "run", "serve"])
def test_a_child_that_ends_ends_the_demo_and_is_quoted(start, command):
    demo = start(stand_in=True, FAILS=command)
    assert demo.process.wait(60) == 1
    assert f"`gapless {command}` has ended with status 3" in demo.text
    assert f"{command} was here" in demo.text.partition("The last lines")[2]
    assert "Traceback" not in demo.text
    assert demo.leftovers() == []


def test_a_port_that_is_asked_for_and_taken_is_said_so(start):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        demo = start(stand_in=True, API_PORT=str(port))
        assert demo.process.wait(60) == 1
        assert f"API_PORT {port} is taken" in demo.text


def test_what_it_prints_works_as_printed_also_after_a_kill(start):
    def lines_of(text, program):
        return [shlex.split(line) for line in text.splitlines() if line.split()[:1] and program in line.split()[0]]

    def look(demo):
        text = demo.wait_until_ready()
        assert "password" not in text.lower()
        asked = [shlex.split(line) for line in text.splitlines() if "/v1/" in line]
        # Where there is no curl, addresses for a browser.
        program = ["curl"] if shutil.which("curl") else []
        options = [[option] if program else [] for option in ("-s", "-s", "-s", "-sN", "-s")]
        assert [words[:-1] for words in asked] == [program + each for each in options]
        [stream] = [url for *_, url in asked if url.endswith("/stream")]
        with urllib.request.urlopen(stream, timeout=30) as events:
            assert any(line == b"event: row\n" for line in events)
        answers = []
        for url in [url for *_, url in asked if url != stream]:
            with urllib.request.urlopen(url, timeout=10) as answer:
                answers.append(json.load(answer))
        [question] = lines_of(text, "psql")
        rows = subprocess.run(
            [*question, "--csv"], capture_output=True, text=True, check=True, timeout=30
        ).stdout.splitlines()
        assert len(rows) == 6
        assert rows[0] == "block_number,block_time,symbol,to_address,value_units"
        refused = subprocess.run(
            [*question[:-1], "select * from gapless.api_keys"], capture_output=True, text=True, check=False, timeout=30
        )
        assert "permission denied" in refused.stderr
        transfers, supply, candles, contracts = answers
        assert candles["data"][0].keys() >= {"pair", "hour", "open", "high", "low", "close"}
        api = asked[0][-1].partition("/v1/")[0]
        for name in ("swap_price", "whales", "stake"):
            until_it_has_rows(f"{api}/v1/derived/{name}?limit=1")
        assert len(transfers["data"]) == 3
        assert supply["data"]
        assert {"coins", "portraits", "items", "exchange", "pair", "zoo"} <= {c["name"] for c in contracts["data"]}
        [line] = [line.strip() for line in text.splitlines() if line.endswith("gapless status")]
        status = subprocess.run(line, shell=True, capture_output=True, text=True, check=True, timeout=60)
        assert "following" in status.stdout
        return transfers["data"][0]["block_number"]

    def until_it_has_rows(url):
        deadline = time.monotonic() + 60
        while True:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)
            if found["data"] and found["meta"]["complete"]:
                return
            assert time.monotonic() < deadline, found
            time.sleep(0.3)

    def until_snapshots_reach(demo, height):
        [url] = [shlex.split(line)[-1] for line in demo.text.splitlines() if "snapshots/supply" in line]
        deadline = time.monotonic() + 60
        while True:
            with urllib.request.urlopen(url, timeout=10) as answer:
                if json.load(answer)["data"][0]["block_number"] >= height:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.5)

    first = start()
    height = look(first)
    assert first.interrupt() == 0
    assert first.leftovers() == []

    second = start()
    assert look(second) >= height
    # The series of snapshots goes on, too, though anvil keeps no states of before its start.
    height = int(second.rpc("eth_blockNumber"), 16)
    until_snapshots_reach(second, height)
    second.kill()
    assert second.leftovers(patience=20) == []

    third = start()
    third.wait_until_ready()
    until_snapshots_reach(third, height)
    third.process.terminate()
    assert third.process.wait(30) == 0
    assert third.leftovers() == []


def test_without_a_curl_there_are_addresses_for_a_browser(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "curl" else f"/usr/bin/{name}")
    text = welcome("http://127.0.0.1:1", "postgresql://gapless@127.0.0.1:2/gapless", "http://127.0.0.1:3", Path("/d"))
    assert "curl -s" not in text
    assert "This machine has no curl: open these addresses in a browser." in text
    assert "\n    http://127.0.0.1:1/v1/contracts/coins/snapshots/supply?limit=4\n" in text


def test_without_a_psql_the_one_that_came_with_the_server_is_printed(postgres_url, data_dir, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    program, connection, *query = shlex.split(psql(postgres_url, data_dir / "postgres" / "pgpass"))
    assert Path(program).is_absolute()
    assert psycopg.conninfo.conninfo_to_dict(postgres_url)["password"] not in connection
    assert query[0] == "-c"
    said = subprocess.run([program, connection, "-Atc", "select 1 + 1"], capture_output=True, text=True, check=True)
    assert said.stdout == "2\n"


def test_a_manifest_that_was_edited_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "indexer.toml"
    assert keep_manifest(path, "one")
    assert keep_manifest(path, "two"), "nobody has touched it: another version's manifest takes its place"
    path.write_text("two, and a contract of mine")
    assert not keep_manifest(path, "three")
    assert path.read_text() == "two, and a contract of mine"
    (tmp_path / ".indexer.toml.sha256").unlink()
    assert not keep_manifest(path, "three"), "who wrote it is not known"
    path.unlink()
    assert keep_manifest(path, "three")
    assert path.read_text() == "three"
