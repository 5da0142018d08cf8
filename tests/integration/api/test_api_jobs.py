"""``/v1/jobs``: asking for work, looking at it, cancelling it; and what ``/status`` tells of it."""

import json

import pytest
from jsonschema import Draft202012Validator
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from indexer.cli import app
from indexer.store import database
from indexer.store.access import keys
from tests.integration.api.test_api_openapi import _resolved, _strict


@pytest.fixture
def make_key(world_url):
    engine = database.create_engine(world_url)

    def make(**options) -> str:
        with engine.begin() as connection:
            return keys.create(connection, "someone", **options)[1]

    yield make
    engine.dispose()


@pytest.fixture
def admin(world_url) -> str:
    engine = database.create_engine(world_url)
    with engine.begin() as connection:
        key_id, key = keys.create(connection, "operator", scopes=("admin",))
    engine.dispose()
    assert key_id == 1
    return f"Bearer {key}"


def test_what_was_asked_for_is_told_to_administrators_alone(own, make_key, seed):
    columns = "kind, parameters, state, progress, error, result, created_by"
    for state in ("queued", "running", "failed"):
        seed.execute(
            f"INSERT INTO gapless.jobs ({columns}) VALUES ('repair', %s, %s, %s, 'hush error', %s, 'hush key')",
            (Jsonb({"contract": "hush"}), state, Jsonb({"at": "hush"}), Jsonb({"of": "hush"})),
        )
    reader, admin = (f"Bearer {make_key(scopes=scopes)}" for scopes in (("read",), ("read", "admin")))
    for headers in ({}, {"authorization": reader}):
        answer = own.ask("/status", **headers)
        assert [one["state"] for one in answer.json["data"]["jobs"]] == ["failed", "running", "queued"]
        assert "hush" not in answer.text
    assert "hush" not in own.ask("/").text
    own.refused("/v1/jobs", 401, "AUTHENTICATION_REQUIRED")
    own.refused("/v1/jobs", 403, "INSUFFICIENT_SCOPE", authorization=reader)
    (job, *_) = own.get("/status", authorization=admin)["data"]["jobs"]
    assert (job["parameters"], job["error"], job["progress"]) == ({"contract": "hush"}, "hush error", {"at": "hush"})
    assert "hush key" not in own.ask("/", authorization=admin).text


def test_a_job_is_asked_for_seen_and_cancelled(own, admin, seed):
    asked = {"kind": "repair", "contract": "usdc", "chain": "1", "from_block": 1040, "to_block": 1049}
    made = own.send("/v1/jobs", asked, authorization=admin)
    assert made.status_code == 202, made.text
    job = made.json["data"]
    assert made.headers["location"] == f"/v1/jobs/{job['id']}"
    assert made.headers["cache-control"] == "no-store"
    assert (job["state"], job["created_by"], job["attempts"]) == ("queued", "key 1", 0)
    assert job["parameters"] == {"contract": "usdc", "chain": "ethereum", "from_block": 1040, "to_block": 1049}
    assert own.get(f"/v1/jobs/{job['id']}", authorization=admin)["data"] == job
    under_way = own.send("/v1/jobs", {"kind": "audit", "sample": 5, "deep": True}, authorization=admin).json["data"]
    seed.execute(
        "UPDATE gapless.jobs SET state = 'running', started_at = now(), heartbeat_at = now(), progress = %s "
        "WHERE id = %s",
        (Jsonb({"done": 1}), under_way["id"]),
    )
    status = own.get("/status")["data"]["jobs"]
    assert [(one["kind"], one["state"]) for one in status] == [("audit", "running"), ("repair", "queued")]
    assert "key 1" not in json.dumps(status)
    for one, state, wanted in ((job, "cancelled", False), (under_way, "running", True)):
        cancelled = own.send(f"/v1/jobs/{one['id']}", method="DELETE", authorization=admin)
        assert (cancelled.status_code, cancelled.json["data"]["state"]) == (200, state)
        assert cancelled.json["data"]["cancel_asked"]
        assert (cancelled.json["data"]["ended_at"] is None) is wanted
    listed = own.get("/v1/jobs?state=cancelled", authorization=admin)["data"]
    assert [one["id"] for one in listed] == [job["id"]]
    assert [one["id"] for one in own.get("/v1/jobs?limit=1", authorization=admin)["data"]] == [under_way["id"]]
    document = own.get("/openapi.json")
    for path, method, answer in (
        ("/v1/jobs", "get", own.get("/v1/jobs", authorization=admin)),
        ("/v1/jobs", "post", made.json),
        ("/v1/jobs/{job}", "delete", cancelled.json),
        ("/status", "get", own.get("/status")),
    ):
        responses = document["paths"][path][method]["responses"]
        done = next(responses[status] for status in ("200", "202") if status in responses)
        Draft202012Validator(_strict(_resolved(done["content"]["application/json"]["schema"], document))).validate(
            answer
        )


def test_tokens_to_read_again(own, admin):
    address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
    made = own.send("/v1/jobs", {"kind": "refresh_tokens", "addresses": [address]}, authorization=admin)
    assert made.json["data"]["parameters"] == {"addresses": [address.lower()]}
    assert own.send("/v1/jobs", {"kind": "redecode", "contract": "zoo"}, authorization=admin).status_code == 202


def test_jobs_that_make_no_sense(own, admin):
    for body, code in (
        ({}, "INVALID_PARAMETER"),
        ({"kind": "drop"}, "INVALID_PARAMETER"),
        ({"kind": "repair", "from_block": 1}, "INVALID_PARAMETER"),
        ({"kind": "repair", "contract": "usdc", "from_block": 2, "to_block": 1}, "INVALID_PARAMETER"),
        ({"kind": "repair", "deep": True}, "INVALID_PARAMETER"),
        ({"kind": "audit", "from_block": -1}, "INVALID_PARAMETER"),
        ({"kind": "audit", "from_block": 2**63}, "INVALID_PARAMETER"),
        ({"kind": "redecode", "chain": "ethereum"}, "INVALID_PARAMETER"),
        ({"kind": "refresh_tokens", "addresses": []}, "INVALID_PARAMETER"),
        ({"kind": "refresh_tokens", "addresses": ["0x1"]}, "INVALID_PARAMETER"),
        ({"kind": "audit", "url": "http://x"}, "UNKNOWN_PARAMETER"),
        ({"kind": "audit", "chain": "moon"}, "CHAIN_NOT_FOUND"),
        ({"kind": "audit", "contract": "nobody"}, "CONTRACT_NOT_FOUND"),
    ):
        result = own.send("/v1/jobs", body, authorization=admin)
        assert result.json["code"] == code, (body, result.text)
    assert own.get("/v1/jobs", authorization=admin)["data"] == []


def test_jobs_are_the_administrators_and_not_without_number(own, admin, seed):
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("DELETE", "/v1/jobs/1")):
        assert own.ask(path, method).json["code"] == "AUTHENTICATION_REQUIRED"
        if path.endswith("1"):
            assert own.ask(path, method, authorization=admin).json["code"] == "NOT_FOUND"
    seed.execute(
        "INSERT INTO gapless.jobs (kind, parameters, created_by) SELECT 'audit', '{}', 'x' FROM generate_series(1, 100)"
    )
    result = own.send("/v1/jobs", {"kind": "audit"}, authorization=admin)
    assert (result.status_code, result.json["code"]) == (409, "LIMIT_REACHED")


def test_the_command_lists_them(own, admin, world_url, monkeypatch, seed):
    monkeypatch.setenv("DATABASE_URL", world_url)
    own.send("/v1/jobs", {"kind": "repair", "contract": "usdc"}, authorization=admin)
    own.send("/v1/jobs", {"kind": "audit"}, authorization=admin)
    seed.execute("UPDATE gapless.jobs SET state = 'failed', error = 'no [node] answers' WHERE kind = 'audit'")
    listed = CliRunner().invoke(app, ["jobs", "list"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0, listed.output
    assert "contract=usdc" in listed.output
    assert "no [node] answers" in listed.output
    assert "key 1" in listed.output
