"""However much is wrong with a request, the error is short, says how much it is, and costs little to make."""

from time import process_time

import pytest

from api.errors import MAX_ERROR_BYTES, MAX_PROBLEMS, ApiError, Problem
from indexer.store import database
from indexer.store.access import keys

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
LENGTH = 13_800

QUERIES = {
    "empty names": "&" * LENGTH,
    "names without values": "a&" * (LENGTH // 2),
    "other names": "&".join(f"a{number}" for number in range(1_900)),
    "names nearly right": "&".join(f"arg.valu{number}=1" for number in range(900)),
    "a long name": "a" * LENGTH,
    "a long name nearly right": "arg.from" * (LENGTH // 8),
    "a long value": "limit=" + "1" * (LENGTH - 10),
    "a long list": "arg.from.in=" + "," * (LENGTH - 20),
    "bad escapes": "%&" * (LENGTH // 2),
    "control characters": "%00&" * (LENGTH // 4),
    "names of control characters": "%01" * (LENGTH // 3),
    "the same again": "limit=1&" * (LENGTH // 8),
    "a long chain": "chain=" + "%01" * (LENGTH // 3 - 10),
    "a long cursor": "after=" + "1" * (LENGTH - 10),
}


@pytest.mark.parametrize("path", [TRANSFERS, "/v1/events", "/v1/contracts", "/status", "/v1/tokens"])
@pytest.mark.parametrize("name", QUERIES)
def test_queries(api, path, name):
    began = process_time()
    result = api.ask(f"{path}?{QUERIES[name]}")
    assert process_time() - began < 3  # 350,000 comparisons of names took half a minute
    assert 400 <= result.status_code < 500
    assert len(result.content) <= MAX_ERROR_BYTES
    assert len(result.json.get("details", ())) <= MAX_PROBLEMS


@pytest.mark.promise("A-08")
def test_how_many_more_there_are_is_said_and_the_names_once(api):
    body = api.refused(f"{TRANSFERS}?{QUERIES['other names']}", 400, "UNKNOWN_PARAMETER")
    assert len(body["details"]) == MAX_PROBLEMS
    assert body["error"].startswith("1900 problems, of which these are the first 10; ")
    assert sum("there are" in detail["message"] for detail in body["details"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/v1/contracts/{}",
        "/v1/contracts/usdc/events/{}",
        "/v1/contracts/usdc/events/Transfer/{}",
        "/v1/contracts/usdc/snapshots/{}",
        "/v1/tokens/{}?chain=1",
        "/v1/addresses/{}",
        "/v1/blocks/{}",
        "/v1/webhooks/{}",
        "/v1/jobs/{}",
        "/docs/{}",
        "/{}",
    ],
)
@pytest.mark.parametrize("text", ["a" * LENGTH, "%01" * (LENGTH // 3), "0x" + "1" * LENGTH, "%F0%9F%A6%8A" * 1000])
def test_paths(api, path, text):
    result = api.ask(path.format(text))
    assert 400 <= result.status_code < 500
    assert len(result.content) <= MAX_ERROR_BYTES


@pytest.mark.parametrize("name", ["x_api_key", "authorization", "accept", "if_none_match", "origin", "x_forwarded_for",
                                  "accept_encoding", "last_event_id", "x_request_id", "content_type"])  # fmt: skip
@pytest.mark.parametrize("text", ["a", "a,", '"a",', "Bearer a.", ";q=0.", "gapless_"])
def test_headers(api, name, text):
    began = process_time()
    result = api.ask(TRANSFERS, **{name: text * (30_000 // len(text))})
    assert process_time() - began < 3
    assert result.status_code < 500
    if result.status_code >= 400:
        assert len(result.content) <= MAX_ERROR_BYTES


BODIES = {
    "many members": {f"member{number}": 1 for number in range(4_000)},
    "a long member": {"a" * 60_000: 1},
    "members of control characters": {"\x01" * 6_000: 1},
    "many wrong values": {"scopes": [1] * 20_000},
    "a long text": {"name": "a" * 60_000},
    "a list": [1] * 20_000,
}


def test_bodies(make_client, world_url, subtests):
    engine = database.create_engine(world_url)
    with engine.begin() as connection:
        _, key = keys.create(connection, "operator", scopes=("read", "admin"))
    engine.dispose()
    client = make_client(webhooks_secret_key="s" * 32)
    for path in ("/v1/keys", "/v1/jobs", "/v1/webhooks"):
        for name, body in BODIES.items():
            with subtests.test(path=path, name=name):
                result = client.send(path, body, x_api_key=key)
                assert 400 <= result.status_code < 500, result.text
                assert len(result.content) <= MAX_ERROR_BYTES
                assert len(result.json.get("details", ())) <= MAX_PROBLEMS


@pytest.mark.parametrize("character", ["a", "\x01", "é", "\U0001f98a", '"'])
def test_no_text_makes_an_error_long(character):
    problems = [Problem(character * 10_000, character * 10_000) for _ in range(1_000)]
    for error in (ApiError.invalid(problems), ApiError("NOT_FOUND", character * 100_000)):
        assert len(error.body()) <= MAX_ERROR_BYTES
