"""A process that is frozen (SIGSTOP) in the middle of a transaction: others go on within seconds, and so does it."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from tests.further import further
from tests.integration.test_run import (  # noqa: F401 - fixtures
    Process,
    _one,
    _until,
    _until_complete,
    manifest,
    node_url,
    start,
)

# Where it freezes: between two statements of a chunk's transaction, whose sources are locked; with the chain's row
# locked; within a COPY.
POINTS = {
    "between": ("indexer.store.rows.writer", "cover"),
    "chain": ("indexer.store.rows.transactions", "_is_still_so"),
    "copy": ("psycopg", "Copy.write"),
}
CODE = """
import importlib, os, signal, sys
import indexer.cli
module, name = {module!r}, {name!r}
owner = importlib.import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
before, frozen = getattr(owner, name), []
def freezing(*arguments, **named):
    if {first} and not frozen:
        frozen.append(1)
        os.kill(os.getpid(), signal.SIGSTOP)
        signal.sigtimedwait([], 0.2)
    return before(*arguments, **named)
setattr(owner, name, freezing)
indexer.cli.main()
"""


@pytest.mark.promise("O-14")
@pytest.mark.parametrize("where", [further("between"), further("chain"), "copy"])
def test_a_frozen_process_holds_up_nothing_for_long(start, migrated_url, monkeypatch, where):  # noqa: F811
    module, name = POINTS[where]
    code = CODE.format(module=module, name=name, first=True)
    with monkeypatch.context() as patch:
        patch.setattr("tests.integration.test_run.GAPLESS", [sys.executable, "-c", code])
        frozen: Process = start("run") if where == "chain" else start("backfill", "coins")
    stopped = psutil.Process(frozen.popen.pid)
    _until(lambda: stopped.status() == psutil.STATUS_STOPPED, lambda: f"it never froze: {frozen.said}")
    held = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '{}@' AND xact_start IS NOT NULL"
    # At least the one in which it froze: another job of `run` may have been in one of its own at that moment.
    assert _one(migrated_url, held.format(frozen.popen.pid)) >= 1
    process = start("run")
    _until_complete(migrated_url, process)
    assert _one(migrated_url, held.format(frozen.popen.pid)) == 0
    os.kill(frozen.popen.pid, signal.SIGCONT)
    if where != "chain":
        assert frozen.ended() == 0, frozen.said
    assert "Traceback" not in frozen.said + process.said
