"""The administrator's port: what ``gapless run`` and the API tell whoever watches over them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.api.conftest import copy_world, world_template  # noqa: F401 - fixtures
from tests.integration.api.test_api_server import Running, running
from tests.integration.test_run import (  # noqa: F401 - fixtures
    _closed_port,
    _until,
    _until_complete,
    manifest,
    node_url,
    start,
)
from tests.processes import spawned_by

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
ROUTE = "/v1/contracts/{contract}/events/{event}"


def ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


class Seen:
    """One answer of ``/metrics``."""

    def __init__(self, port: int) -> None:
        status, self.text = ask(port, "/metrics")
        assert status == 200
        self.samples = [one for family in text_string_to_metric_families(self.text) for one in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())


def requests(seen: Seen, status: str) -> float:
    return seen("gapless_api_requests_total", route=ROUTE, method="GET", status=status)


def test_the_api_counts_requests(copy_world):  # noqa: F811
    port = _closed_port()
    with running(copy_world(), ADMIN_PORT=str(port)) as server:
        for query in ("", "?limit=1", "?limit=x"):
            server.get(TRANSFERS + query)
        server.get("/nothing/at/all")
        server.raw(b"nonsense\r\n\r\n")
        seen = Seen(port)
        assert (requests(seen, "200"), requests(seen, "400")) == (2, 1)
        assert seen("gapless_api_requests_total", route="none", status="404") == 1
        assert seen("gapless_api_requests_total", route="none", status="400") == 1
        assert seen("gapless_api_request_seconds_count", route=ROUTE) == 3
        assert seen("gapless_api_request_seconds_bucket", route=ROUTE, le="+Inf") == 3
        assert {s.labels["what"] for s in seen.samples if s.name == "gapless_api_in_use"} == {
            "threads", "queue", "connections", "streams", "exports", "waits",
        }  # fmt: skip
        assert seen("process_resident_memory_bytes") > 0
        assert "nothing/at" not in seen.text, "what clients make up is no series"
        assert json.loads(ask(port, "/health")[1]) == {"status": "ok"}
        assert ask(port, "/ready")[0] == 200
        assert ask(port, TRANSFERS)[0] == 404
        assert server.get("/metrics")[0] == 404, "never on the port that faces the world"


def test_several_processes_are_added_up(copy_world):  # noqa: F811
    port = _closed_port()
    with running(copy_world(), ADMIN_PORT=str(port), API_PROCESSES="2") as server:
        _ask_often(server, 40)
        _until(lambda: requests(Seen(port), "200") == 40, lambda: Seen(port).text[:3000])
        assert Seen(port)("gapless_api_request_seconds_count", route=ROUTE) == 40
        children = spawned_by(server.process.pid)
        assert len(children) == 2
        os.kill(children[0].pid, signal.SIGKILL)
        time.sleep(0.5)
        _ask_often(server, 5)
        _until(lambda: requests(Seen(port), "200") == 45, lambda: "what a dead process counted is lost")


def _ask_often(server: Running, times: int) -> None:
    for _ in range(times):
        assert server.get(f"{TRANSFERS}?limit=1")[0] == 200


def test_without_a_database_it_is_alive_but_not_ready():
    port = _closed_port()
    url = f"postgresql://gapless:SECRET@127.0.0.1:{_closed_port()}/gapless"
    with running(url, ADMIN_PORT=str(port)) as server:
        assert server.get("/health")[0] == 200
        assert ask(port, "/health")[0] == 200
        status, body = ask(port, "/ready")
        assert status == 503
        assert "SECRET" not in body + Seen(port).text


def test_the_indexer_tells_how_far_it_is_what_it_cost_and_does_jobs(start, migrated_url, node_url):  # noqa: F811
    port = _closed_port()
    process = start("run", ADMIN_PORT=str(port))
    _until_complete(migrated_url, process)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("INSERT INTO gapless.jobs (kind, parameters, created_by) VALUES ('audit', '{}', 'key 1')")

        def job() -> Any:
            return connection.execute("SELECT state, result FROM gapless.jobs").fetchone()

        _until(lambda: job()[0] == "done", lambda: f"{job()}\n{process.said[-3000:]}")
        assert job()[1]["demo"]["findings"] == []
        tip = connection.execute("SELECT tip_number FROM gapless.chains").fetchone()[0]
    seen = Seen(port)
    assert seen("gapless_database_up") == 1
    for name in ("head_block", "indexed_block"):
        assert seen(f"gapless_{name}", chain="demo") == tip
    assert 0 < seen("gapless_finalized_block", chain="demo") < tip
    assert seen("gapless_missing_blocks", chain="demo") == 0
    assert any(s.name == "gapless_missing_blocks" and s.labels["contract"] == "coins" for s in seen.samples)
    assert seen("gapless_chain_state", chain="demo", state="following") == 1
    host = node_url.rstrip("/") + "/***"
    assert seen("gapless_endpoint_requests_total", host=host, method="eth_getLogs") > 0
    assert seen("gapless_endpoint_bytes_total", host=host, method="eth_getLogs") > 0
    assert seen("gapless_endpoint_rate_limited_total", host=host) == 0
    assert seen("gapless_endpoint_state", state="healthy") == 1
    assert ask(port, "/ready")[0] == 200
    second = start("run", ADMIN_PORT=str(port))
    assert second.ended() == 1
    assert "ADMIN_PORT" in second.said
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(5) == 0
    assert "Traceback" not in process.said


@pytest.mark.parametrize("value", ["x", "70000", "-1"])
def test_a_port_that_is_none(start, value):  # noqa: F811
    process = start("run", ADMIN_PORT=value)
    assert process.ended() == 2
    assert "ADMIN_PORT" in process.said
