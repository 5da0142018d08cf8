"""Jobs that are asked for through the API: what ``gapless run`` makes of them, and what survives which death."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.chain.records.errors import ProviderError
from indexer.service.chain_at_work import Network
from indexer.service.job_queue import KINDS, JobRunner
from indexer.settings import Settings
from indexer.store.access import jobs
from indexer.store.cache import Cache
from tests.integration.audit.conftest import _indexed, execute, indexed  # noqa: F401 - fixtures
from tests.integration.audit.test_audit import CHANGES, a_row
from tests.integration.sync.rig import Rig


@dataclass
class Office:
    """A rig's chain with a desk for jobs, as the service has it, and no scheduler."""

    rig: Rig
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.engine, self.manifest, self.cache = self.rig.engine, self.rig.manifest, Cache(None)
        self.settings = Settings(_env_file=None)
        self.follows = True
        self.network = Network(self.rig.chain, self.rig.client, SimpleNamespace(leads=lambda: self.follows))

    def halt(self, one: Network, error: Exception) -> None:
        raise AssertionError(error)

    def desk(self, kind: str, **more: Any) -> JobRunner:
        return JobRunner(self, lambda: {self.rig.chain.name: self.network}, kind, self.stop, **more)

    def ask(self, kind: str, **parameters: Any) -> int:
        (row,) = self.rig.query(
            "INSERT INTO gapless.jobs (kind, parameters, created_by) VALUES (%s, %s, 'key 1') RETURNING id",
            kind, json.dumps(parameters),
        )  # fmt: skip
        return int(row[0])

    def said(self, job_id: int) -> dict[str, Any]:
        with self.engine.connect() as connection:
            return next(one for one in jobs.load(connection) if one["id"] == job_id)

    def done(self, kind: str, **parameters: Any) -> dict[str, Any]:
        job_id = self.ask(kind, **parameters)
        self.desk(kind).run()
        return self.said(job_id)


@pytest.fixture
def office(indexed) -> Office:  # noqa: F811
    return Office(_committing(indexed))


def _committing(one: Rig) -> Rig:
    def query(text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with one.engine.begin() as connection:
            found: list[tuple[Any, ...]] = connection.connection.driver_connection.execute(text, parameters).fetchall()
            return found

    one.query = query
    return one


def test_an_audit_finds_and_a_repair_mends(office):
    block, log = a_row(office.rig)
    execute(office.rig, CHANGES["value"], block, log)
    audit = office.done("audit", contract="coins", from_block=block - 2, to_block=block, deep=True)
    assert (audit["state"], audit["error"], audit["attempts"]) == ("done", None, 1)
    said = audit["result"]["demo"]
    assert said["findings_count"] == 2
    assert f"block {block} log {log} differs in value" in json.dumps(said["findings"])
    assert audit["started_at"] <= audit["heartbeat_at"] <= audit["ended_at"]
    repair = office.done("repair", contract="coins")
    assert repair["state"] == "done"
    assert repair["result"]["demo"]["findings_settled"] == 2
    again = office.done("audit")
    assert again["result"]["demo"]["findings"] == []


def test_a_range_is_fetched_anew(office):
    block, log = a_row(office.rig)
    execute(office.rig, CHANGES["value"], block, log)
    repair = office.done("repair", contract="coins", from_block=block, to_block=block)
    assert repair["result"]["demo"]["blocks_replaced"] == 1


def test_tokens_are_read_again_and_logs_decoded_again(office):
    (coin,) = office.rig.manifest.contracts["coins"].deployments[0].addresses[:1]
    address = coin if isinstance(coin, str) else "0x" + coin.hex()
    first = office.done("refresh_tokens", addresses=[address.lower()])
    assert first["result"] == {"demo": {"tokens_read": 1}}, first["error"]
    execute(office.rig, "UPDATE gapless.tokens SET symbol = 'OLD'")
    assert office.done("refresh_tokens")["result"]["demo"]["tokens_read"] == 1
    assert office.rig.query("SELECT symbol FROM gapless.tokens")[0][0] != "OLD"
    redecoded = office.done("redecode", contract="zoo")
    assert redecoded["state"] == "done"
    assert sum(redecoded["result"]["rows"].values()) == 0


def test_what_cannot_be_done_says_why(office):
    assert "no contract nobody" in office.done("repair", contract="nobody")["error"]
    assert "no such chain" in office.done("audit", chain="moon")["error"]
    office.network.stop.set()
    failed = office.done("audit")
    assert (failed["state"], "halted" in failed["error"]) == ("failed", True)


def test_a_node_that_is_away_and_a_defect(office, monkeypatch):
    def away(*_: Any) -> Any:
        raise ProviderError("no endpoint of demo answers: https://node.example/v2/SECRET")

    monkeypatch.setattr("indexer.service.job_queue.auditing.audit", lambda *a, **k: away())
    failed = office.done("audit")
    assert failed["state"] == "failed"
    assert "SECRET" not in failed["error"]
    monkeypatch.setattr("indexer.service.job_queue.auditing.audit", lambda *a, **k: {}["SECRET"])
    failed = office.done("audit")
    assert (failed["state"], failed["error"]) == ("failed", "a defect of gapless: the indexer's log has it")


@pytest.fixture
def slow(monkeypatch) -> threading.Event:
    """An audit that goes on until it is told to stop; the event says that it has begun."""
    begun = threading.Event()

    def work(task: Any) -> dict[str, Any]:
        task.progress = lambda: {"done": 7, "of": 9}
        begun.set()
        assert task.stop.wait(30)
        return {"so far": 7}

    monkeypatch.setattr("indexer.service.job_queue.KINDS", {**KINDS, "audit": work})
    monkeypatch.setattr("indexer.service.job_queue.BEAT_EVERY", 0.2)
    return begun


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_under_way_tells_how_far_it_is_and_can_be_cancelled(office, slow):
    job_id = office.ask("audit")
    thread = threading.Thread(target=office.desk("audit").run)
    thread.start()
    assert slow.wait(30)
    _until(lambda: office.said(job_id)["progress"] == {"done": 7, "of": 9})
    assert office.said(job_id)["state"] == "running"
    execute(office.rig, "UPDATE gapless.jobs SET cancel_asked = true")
    thread.join(30)
    said = office.said(job_id)
    assert (said["state"], said["result"]) == ("cancelled", {"so far": 7})


def test_a_process_that_is_told_to_stop_gives_its_job_back(office, slow):
    job_id = office.ask("audit")
    thread = threading.Thread(target=office.desk("audit").run)
    thread.start()
    assert slow.wait(30)
    office.stop.set()
    thread.join(30)
    assert (office.said(job_id)["state"], office.said(job_id)["attempts"]) == ("queued", 0)


def test_a_process_that_stands_by_leaves_jobs_to_the_leader(office):
    ids = [office.ask("audit", contract="coins", from_block=1, to_block=2), office.ask("audit", contract="nobody")]
    office.follows = False
    office.desk("audit").run()
    assert [office.said(one)["state"] for one in ids] == ["queued", "queued"]
    office.follows = True
    office.desk("audit").run()
    assert [office.said(one)["state"] for one in ids] == ["done", "failed"]


def test_a_process_that_leads_no_more_gives_its_job_back(office, slow):
    job_id = office.ask("audit")
    thread = threading.Thread(target=office.desk("audit").run)
    thread.start()
    assert slow.wait(30)
    office.follows = False
    thread.join(30)
    assert (office.said(job_id)["state"], office.said(job_id)["attempts"]) == ("queued", 0)


def test_a_dead_process_s_job_is_taken_up_again(office):
    job_id = office.ask("audit", contract="coins", from_block=1, to_block=5)
    with office.engine.begin() as connection:
        dead = jobs.claim(connection, "audit", "dead")
        assert jobs.claim(connection, "audit", "other") is None
    forget = "UPDATE gapless.jobs SET heartbeat_at = now() - interval '1 minute'"
    execute(office.rig, forget)
    with office.engine.begin() as connection:
        assert jobs.claim(connection, "audit", "other").attempt == 2
        # The dead one turns out to live, and what it says counts no more.
        assert jobs.beat(connection, dead, {}) == "lost"
        assert not jobs.finish(connection, dead, "failed", error="late")
        jobs.give_back(connection, dead)
    assert (office.said(job_id)["state"], office.said(job_id)["worker"]) == ("running", "other")
    execute(office.rig, forget)
    office.desk("audit").run()
    assert (office.said(job_id)["state"], office.said(job_id)["attempts"]) == ("done", 3)


def test_a_job_that_kills_is_given_up(office):
    job_id = office.ask("audit")
    for _ in range(jobs.MOST_ATTEMPTS):
        with office.engine.begin() as connection:
            assert jobs.claim(connection, "audit", "dead") is not None
        execute(office.rig, "UPDATE gapless.jobs SET heartbeat_at = now() - interval '1 minute'")
    office.desk("audit").run()
    said = office.said(job_id)
    assert (said["state"], said["attempts"]) == ("failed", jobs.MOST_ATTEMPTS)
    assert "begun 3 times" in said["error"]


def test_two_processes_never_do_the_same_job(office):
    ids = {office.ask("audit", contract="coins", from_block=1, to_block=2) for _ in range(6)}
    with office.engine.begin() as one, office.engine.begin() as other:
        first = jobs.claim(one, "audit", "one")
        second = jobs.claim(other, "audit", "other")
        assert {first.job_id, second.job_id} == set(sorted(ids)[:2])
        one.rollback()
        other.rollback()
    threads = [threading.Thread(target=office.desk("audit").run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [(office.said(one)["state"], office.said(one)["attempts"]) for one in ids] == [("done", 1)] * 6
