"""The documents' queries and commands run as shown."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from indexer.demo import anvil as anvil_program
from indexer.demo.world import manifest_text
from indexer.store.access import grants
from indexer.sync.history.transactions import Includer
from indexer.sync.tokens import balances
from tests.conftest import REPOSITORY
from tests.integration.sync.rig import rig
from tests.integration.test_demo import Demo


def blocks(document: str, language: str) -> list[str]:
    """The blocks of code of a document that are in one language."""
    text = (REPOSITORY / "docs" / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


QUERIES = blocks("tables.md", "sql")


@pytest.fixture
def demo_database(shared_history, migrated_url, tmp_path):
    url = shared_history.world.w3.provider.endpoint_uri
    with rig(manifest_text(shared_history.world), tmp_path, url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        follower.close()
        balances.catch_up(one.engine, one.chain.chain_id)
        Includer(one.engine, one.client, one.chain.chain_id).run()
        yield migrated_url


def test_queries_of_the_tables_document(demo_database):
    assert len(QUERIES) >= 6
    with psycopg.connect(demo_database) as connection:
        for query in QUERIES:
            cursor = connection.execute(query)
            # The demo's chain has all but tokens and snapshots here, which other jobs read.
            if "gapless.tokens" not in query:
                rows = cursor.fetchall()
                assert rows, query
                # A column that is always null shows a reader nothing.
                if "gapless.transactions" in query:
                    assert all(None not in row for row in rows), query


def test_queries_of_the_analysts_document(demo_database):
    """As the login that the document tells its readers to make."""
    prefix = f"docs{uuid4().hex[:8]}"
    with psycopg.connect(demo_database) as connection:
        grants.apply(connection, prefix, {"analyst": "a password"}, "analyst")
    try:
        queries = blocks("analysts.md", "sql")
        assert len(queries) >= 12
        with psycopg.connect(
            f"postgresql://{prefix}_analyst:a%20password@{demo_database.partition('@')[2]}"
        ) as analyst:
            for query in queries:
                assert analyst.execute(query).fetchall(), query
            for query in blocks("analysts.md", "sql may be empty"):
                analyst.execute(query)
    finally:
        with psycopg.connect(demo_database) as connection:
            connection.execute(f"DROP OWNED BY {prefix}_analyst CASCADE")
            connection.execute(f"DROP ROLE {prefix}_analyst")


def test_commands_of_the_page_about_several_machines(shared_history, migrated_url, tmp_path):
    """All on this machine: a scheduler and a worker that speak TLS alone, and a backfill by them."""
    pytest.importorskip("distributed")
    if shutil.which("openssl") is None or shutil.which("bash") is None:
        pytest.skip("the document's commands need openssl and bash")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "indexer.toml").write_text(manifest_text(shared_history.world))
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(
        blocks("scale-out.md", "sh")
    )
    url = shared_history.world.w3.provider.endpoint_uri
    environment = {**os.environ, "DATABASE_URL": migrated_url, "RPC_URL": url, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-c", script.replace("8786", _free_port())], env=environment, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    assert re.search(r"^demo: \d+ blocks, \d{2,} events, ", done.stdout, re.MULTILINE), done.stdout[-8000:]
    assert "does not hide" not in done.stdout


# -- commands, beside a demo ----------------------------------------------------------------------------------------

#: Refusals fail, and streams are left after some seconds, as by Ctrl-C.
BEFORE = """
set -euo pipefail
unset DATABASE_URL
curl() {
    local status=0 most=20
    case "$*" in */stream*) most=5 ;; esac
    command curl --silent --show-error --fail-with-body --max-time $most "$@" || status=$?
    echo
    case "$status $*" in "28 "*/stream*) return 0 ;; esac
    return $status
}
"""


@dataclass(frozen=True)
class Clone:
    """What a reader has before them: a clone with its ``.venv``, in which ``make demo`` runs.

    Attributes:
        directory: of the clone.
        ports: what the documents call them, and what they are here.
    """

    directory: Path
    ports: dict[str, str]

    def here(self, text: str) -> str:
        for shown, port in self.ports.items():
            text = re.sub(rf'(127\.0\.0\.1(?::|", )){shown}\b', rf"\g<1>{port}", text)
        return text

    def run(self, document: str) -> str:
        """What the commands of a document say, in one shell from the first to the last."""
        script = BEFORE + "\n".join(blocks(document, "sh"))
        done = subprocess.run(
            ["bash", "-x", "-c", self.here(script)],
            cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout


def _free_port() -> str:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return str(taken.getsockname()[1])


@pytest.fixture(scope="module")
def clone(anvil_home: Path) -> Iterator[Clone]:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("the documents' commands need curl and bash")
    anvil_program.install(anvil_home)
    # Not pytest's own temporary directory: each new run of pytest closes that to the account Postgres runs as.
    with tempfile.TemporaryDirectory(prefix="gapless-docs-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        home = directory / ".gapless"
        home.mkdir()
        (home / "npm").symlink_to(anvil_home / "npm")
        (directory / ".venv").symlink_to(sys.prefix)
        ports = {shown: _free_port() for shown in ("8000", "9000")}
        demo = Demo(home, API_PORT=ports["8000"])
        try:
            demo.wait_until_ready()
            yield Clone(directory, ports)
            assert demo.interrupt() == 0
        finally:
            if demo.process.poll() is None:
                demo.kill()
            assert not demo.leftovers(patience=20)


def _api(said: str) -> None:
    for member in ('"kind":"erc20"', '"balance":', '"count_is":"exact"'):
        assert member in said


def _streams(said: str) -> None:
    assert len(re.findall(r"^retry: \d+$", said, re.M)) == 8
    assert said.count("event: status") >= 8
    assert "event: balances" in said
    assert re.search(r'^event: derived\ndata: {"reset":true,"all":\w+,"data":\[{"pair":"0x', said, re.M)
    assert said.count("event: row") > 4


def _access(said: str) -> None:
    assert "Key 2 is revoked" in said
    assert "event: status" in said


def _webhooks(said: str) -> None:
    told = re.findall(r"^(event\.rows|event\.reverted|webhook\.test) (\d+|None) \d+$", said, re.MULTILINE)
    assert told[0] == ("event.rows", "1")
    assert ("webhook.test", "None") in told


# The keys of access.md are the first three: it goes first.
DOCUMENTS = {"access.md": _access, "api.md": _api, "streams.md": _streams, "webhooks.md": _webhooks}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_beside_the_demo(clone: Clone, document: str) -> None:
    for program in blocks(document, "python"):
        name = program.partition("\n")[0].removeprefix("# ")
        (clone.directory / name).write_text(clone.here(program))
    DOCUMENTS[document](clone.run(document))


@pytest.mark.parametrize("program", blocks("python.md", "python"), ids=lambda program: program.split()[1])
def test_programs_of_the_python_document(clone: Clone, program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(clone.here(program))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "clients" / "python" / "src")}
    done = subprocess.run(
        [sys.executable, "-W", "error", tmp_path / "program.py"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    assert len(done.stdout.splitlines()) > 0


@pytest.mark.parametrize("document", [*DOCUMENTS, "typescript.md", "python.md"])
def test_no_command_has_a_gap_to_fill_in(document: str) -> None:
    shown = [line for block in blocks(document, "sh") for line in block.splitlines()]
    assert shown
    assert [line for line in shown if "…" in line] == []
