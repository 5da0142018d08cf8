"""The commands as an operator runs them: what they print, and what they exit with."""

from __future__ import annotations

import json
import os
import sys

from tests import ready
from tests.integration.audit.conftest import execute, node_url
from tests.integration.audit.test_audit import CHANGES, a_row

PROGRAM = """
from indexer.programs import Program, Table, address, key

class Move(Table):
    token: address = key()
    moves: int = 0

program = Program(tables=[Move])

@program.on("coins.Transfer")
def moved(event, db):
    db.get_or_new(Move, token=event.address).moves += 1
"""


def gapless(one, tmp_path, url: str, *arguments: str, status: int = 0) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")},
        "DATABASE_URL": one.engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "RPC_URL": url,
        "GAPLESS_MANIFEST": str(tmp_path / "indexer.toml"),
    }
    command = [sys.executable, "-c", "from indexer.cli import main; main()", *arguments]
    done = ready.run(command, env=environment, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + (done.stderr if status else "")


def test_audit_repair_and_undecoded(indexed, shared_history, tmp_path):
    url = node_url(shared_history)
    block, log = a_row(indexed)
    near = ("coins", "--from", str(block - 2), "--to", str(block))
    assert "nothing is wrong" in gapless(indexed, tmp_path, url, "audit", *near, "--deep", "--against", url)
    execute(indexed, CHANGES["value"], block, log)
    printed = gapless(indexed, tmp_path, url, "audit", *near, "--deep", "--again", status=1)
    assert f"block {block} log {log} differs in value" in printed
    assert "2 findings. To repair them: gapless repair" in printed
    report = json.loads(gapless(indexed, tmp_path, url, "audit", *near, "--against", url, "--json", status=1))
    assert [f["kind"] for f in report[0]["findings"]] == ["digest", "against"]
    assert "3 findings settled" in gapless(indexed, tmp_path, url, "repair")
    (tmp_path / "moves.py").write_text(PROGRAM)
    with (tmp_path / "indexer.toml").open("a") as manifest:
        manifest.write('\n[programs.moves]\nmodule = "moves.py"\n')
    said = gapless(indexed, tmp_path, url, "audit")
    assert "nothing is wrong" in said
    assert "program moves: it has no build yet" in said
    listed = json.loads(gapless(indexed, tmp_path, url, "undecoded", "--json"))
    assert sum(one["logs"] for one in listed) == indexed.query("SELECT count(*) FROM gapless.undecoded_logs")[0][0]


def test_what_cannot_be_asked_is_told(indexed, shared_history, tmp_path):
    url = node_url(shared_history)
    for command in ("audit", "repair", "undecoded", "redecode"):
        said = gapless(indexed, tmp_path, url, command, "nobody", status=1)
        assert "has no contract nobody" in said
        assert "coins" in said, "it names those that there are"
    assert "needs a contract" in gapless(indexed, tmp_path, url, "repair", "coins", "--from", "5", status=1)
    for command in ("audit", "repair"):
        said = gapless(indexed, tmp_path, url, command, "coins", "--from", "20", "--to", "10", status=1)
        assert "--from 20 lies after --to 10" in said
    said = gapless(indexed, tmp_path, url, "audit", "coins", "--against", "http://127.0.0.1:9/key", status=1)
    assert "check the second endpoint's URL (--against, AUDIT_RPC_URL)" in said
    assert "/key" not in said
    for command in ("audit", "repair"):
        deep = ("--deep",) if command == "audit" else ()
        said = gapless(indexed, tmp_path, "http://127.0.0.1:9/key", command, "coins", *deep, status=1)
        assert "no endpoint can be used. http://127.0.0.1:9/***: eth_chainId: no connection" in said
        assert "check the chain's rpc URLs, and that a node answers there" in said


def test_a_manifest_that_is_not_in_force_is_refused(indexed, shared_history, tmp_path):
    """Commands that only work change nothing of what is declared, and ask no node."""
    path = tmp_path / "indexer.toml"
    path.write_text(path.read_text().replace("start_block = 1\n", "start_block = 2\n"))
    before = indexed.query("SELECT * FROM gapless.catalog"), indexed.query("SELECT * FROM gapless.sources ORDER BY id")
    for command in (("backfill", "coins"), ("audit",), ("repair",)):
        said = gapless(indexed, tmp_path, "http://127.0.0.1:9", *command, status=1)
        assert "indexer.toml is not the manifest that was applied last; applying it would do: " in said
        assert "gapless apply puts it in force, for a running indexer too" in said
    after = indexed.query("SELECT * FROM gapless.catalog"), indexed.query("SELECT * FROM gapless.sources ORDER BY id")
    assert after == before
