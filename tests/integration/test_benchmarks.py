"""The benchmarks themselves, very small: what they measure must be right before it is fast."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import api, head, measure, portal, portal_node, streams, workloads

_BOUND = 300_000_000

# The benchmarks measure with it; nothing else needs it.
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH")


@needs_curl
@pytest.mark.parametrize(("name", "scale"), [("factory", 0.01), ("sparse", 0.01), ("many", 0.01)])
def test_every_workload_is_indexed_right(name: str, scale: float, tmp_path, postgres_url: str) -> None:
    workload = workloads.make(name, tmp_path / name, scale=scale)
    result = measure.run(tmp_path / name, postgres_url)
    assert result.workload.events == workload.events > 0
    assert result.seconds > 0
    assert 0 < result.peak < _BOUND


def test_a_process_is_not_said_to_be_as_large_as_the_one_that_started_it() -> None:
    ballast = b"x" * 2 * _BOUND
    said = subprocess.run(
        [sys.executable, "-c", "from benchmarks.memory import peak; print(peak())"],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    assert 0 < int(said.stdout) < _BOUND < len(ballast)


def test_history_from_a_portal_is_indexed_right(tmp_path, postgres_url: str) -> None:
    workload = workloads.make("dense", tmp_path, scale=0.003)
    portal_node.write_lines(tmp_path)
    said = portal.run(tmp_path, workload, postgres_url, 0.0, "sample")
    assert said["rows"] == workload.events
    assert said["of the limit"] > 0


def test_wrong_rows_are_not_timed(tmp_path, postgres_url: str) -> None:
    workload = workloads.make("dense", tmp_path / "dense", scale=0.002)
    logs = tmp_path / "dense" / "token.logs"
    logs.write_bytes(logs.read_bytes().replace(b'"data":"0x0', b'"data":"0x1', 1))
    assert workload.events
    with pytest.raises(measure.WrongRowsError):
        measure.run(tmp_path / "dense", postgres_url)


@pytest.mark.long
def test_head_latency_is_measured(tmp_path, postgres_url: str) -> None:
    with measure.database(postgres_url) as url:
        found = head.measure(url, tmp_path, 0.5, 2, 3.0, pushed=True, saying=2)
    assert len(found.rows) >= 4
    assert found.answers
    assert all(seconds > 0 for seconds in (*found.rows, *found.answers))
    assert found.behind <= 10


@pytest.mark.long
def test_streams_and_waiting_requests_are_measured() -> None:
    waits, listening = streams.run(20, 10, 0.5)
    assert (waits.clients, listening.clients) == (10, 20)
    assert 0 < listening.median <= listening.last
    assert 0 < waits.median <= waits.last


@needs_curl
def test_the_read_path_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = api.run(20_000, 0.5)
    assert [speed.name for speed in found] == ["by block range", "by address", "by argument"]
    assert all(load.rate > 0 and load.cpu > 0 for speed in found for load in (speed.api, speed.sql))
    assert all(speed.api.server > 0 and speed.api.p99 > 0 for speed in found)
    assert "20,000 rows" in capsys.readouterr().out
