"""HTTP: errors, strictness, conditional requests, compression, CORS."""

import gzip
import json
import re

import pytest

from api.errors import CODES
from tests.integration.api.seed import hex_of
from tests.integration.api.world import GOLD, USDC

TRANSFERS = "/v1/contracts/usdc/events/Transfer"

BAD_REQUESTS = [
    ("limit=0", "INVALID_PARAMETER"),
    ("limit=1001", "INVALID_PARAMETER"),
    ("limit=1_0", "INVALID_PARAMETER"),
    ("limit=%D9%A3", "INVALID_PARAMETER"),  # an Arabic three
    ("limit=1&limit=2", "UNKNOWN_PARAMETER"),
    ("limt=1", "UNKNOWN_PARAMETER"),
    ("offset=100", "UNKNOWN_PARAMETER"),
    ("from=0x00", "UNKNOWN_PARAMETER"),
    ("arg.form=0x00", "UNKNOWN_PARAMETER"),
    ("arg.from.like=0x00", "UNKNOWN_PARAMETER"),
    ("arg.from.gt=0x" + "00" * 20, "UNKNOWN_PARAMETER"),
    ("arg.from=0x12", "INVALID_ADDRESS"),
    ("arg.from=0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB4a", "INVALID_ADDRESS"),
    ("arg.from=%00", "INVALID_ADDRESS"),
    ("arg.value=1e5", "INVALID_PARAMETER"),
    (f"arg.value={2**256}", "INVALID_PARAMETER"),
    ("arg.value=-1", "INVALID_PARAMETER"),
    ("address=", "INVALID_ADDRESS"),
    ("tx_hash=0x00", "INVALID_PARAMETER"),
    (f"to_block={2**63}", "INVALID_PARAMETER"),
    (f"to_block={2**63 - 1}", "INVALID_PARAMETER"),
    ("from_block=-1", "INVALID_PARAMETER"),
    ("from_block=%00", "INVALID_PARAMETER"),
    ("from_block=5&to_block=4", "INVALID_PARAMETER"),
    ("from_time=yesterday", "INVALID_PARAMETER"),
    ("order=ASC", "INVALID_PARAMETER"),
    ("order=asc%3Bdrop", "INVALID_PARAMETER"),
    ("finality=final", "INVALID_PARAMETER"),
    ("after=1&before=2", "INVALID_CURSOR"),
    ("after=1-1&before=2-2", "INVALID_PARAMETER"),
    ("after=1-1.zz", "INVALID_CURSOR"),
    ("after=1299-3.000000000000", "INVALID_CURSOR"),
    ("wait=5", "INVALID_PARAMETER"),
    ("wait=11&min_block=1", "INVALID_PARAMETER"),
    ("fields=", "INVALID_PARAMETER"),
    ("include=everything", "INVALID_PARAMETER"),
    ("format=xml", "INVALID_PARAMETER"),
    ("count=yes", "INVALID_PARAMETER"),
    ("chain=%FF", "INVALID_PARAMETER"),
    ("limit=5%", "INVALID_PARAMETER"),
    ("=", "UNKNOWN_PARAMETER"),
    ("&", "UNKNOWN_PARAMETER"),
]


@pytest.mark.promise("A-08")
@pytest.mark.parametrize(("query", "code"), BAD_REQUESTS)
def test_nonsense_is_refused_and_named(api, query, code):
    body = api.refused(f"{TRANSFERS}?{query}", 400, code)
    if "details" in body:
        assert all(set(detail) == {"parameter", "message"} for detail in body["details"])


@pytest.mark.promise("A-08")
@pytest.mark.parametrize("path", ["/v1", "/v1/contracts", "/v1/contracts/usdc", "/v1/contracts/usdc/events", "/health",
                                  "/ready", "/status", "/openapi.json", "/v1/contracts/usdc/abi",
                                  "/v1/contracts/coins/snapshots"])  # fmt: skip
def test_no_path_ignores_a_parameter(api, path):
    api.refused(f"{path}?nonsense=1", 400, "UNKNOWN_PARAMETER")


def test_paths_that_are_not_there(api):
    for path in ("/v2", "/v1/", "/v1/nothing", "/v1/contracts/usdc/events/Transfer/1000-3/x"):
        api.refused(path, 404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    "name", ["%00", "..", "%2e%2e", "'; DROP TABLE x; --", "%F0%9F%A6%8A", "%FF", "\x7f", "a" * 3000]
)
def test_nasty_names_are_only_unknown(api, name):
    api.refused(f"/v1/contracts/{name}", 404, "CONTRACT_NOT_FOUND")
    api.refused(f"/v1/contracts/usdc/events/{name}", 404, "EVENT_NOT_FOUND")
    api.refused(f"/v1/contracts/usdc/events/Transfer/{name}", 400, "INVALID_PARAMETER")
    api.refused(f"/v1/contracts/coins/snapshots/{name}", 404, "NOT_FOUND")
    api.refused(f"/v1/tokens/{name}?chain=1", 400, "INVALID_ADDRESS")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_not_allowed(api, method):
    result = api.ask(TRANSFERS, method)
    assert (result.status_code, result.json["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert {"GET", "HEAD", "OPTIONS"} <= set(result.headers["allow"].split(", "))


def test_head_is_get_without_a_body(api):
    head, get = api.ask(TRANSFERS, "HEAD"), api.ask(TRANSFERS)
    assert head.status_code == 200
    assert head.content == b""
    same = ("content-length", "etag", "cache-control", "content-type", "link", "vary")
    assert {name: head.headers[name] for name in same} == {name: get.headers[name] for name in same}
    assert api.ask("/v1/contracts/nobody", "HEAD").status_code == 404


def test_options_tells_the_methods(api):
    result = api.ask(TRANSFERS, "OPTIONS")
    assert result.status_code == 200
    assert "GET" in result.headers["allow"]


@pytest.mark.parametrize(("accept", "status"), [
    ("*/*", 200), ("application/json", 200), ("application/*", 200), ("text/html, application/json;q=0.5", 200),
    ("text/html, */*;q=0.1", 200), ("text/html", 406), ("application/json;q=0", 406), ("image/png", 406),
    ("nonsense", 406),
])  # fmt: skip
def test_accept_is_heeded(api, accept, status):
    result = api.ask("/v1/contracts", accept=accept)
    assert result.status_code == status
    if status == 406:
        assert result.json["code"] == "NOT_ACCEPTABLE"


def test_a_long_url_is_refused(api):
    result = api.ask(f"{TRANSFERS}?arg.from.in=" + ",".join([hex_of(USDC)] * 330))
    assert (result.status_code, result.json["code"]) == (414, "URI_TOO_LONG")


def test_request_ids(api):
    given = api.ask("/health", x_request_id="abc-123").headers["x-request-id"]
    assert given == "abc-123"
    made = {api.ask("/health", x_request_id=bad).headers["x-request-id"] for bad in ("", "a b", "x" * 65, 'a"b')}
    assert len(made) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", request_id) for request_id in made)


def test_every_answer_has_the_usual_headers(api):
    for path in ("/health", TRANSFERS, "/v1/nothing", f"{TRANSFERS}?limit=x"):
        headers = api.ask(path).headers
        assert headers["content-type"] == "application/json"
        assert headers["vary"] == "Origin, Accept, Accept-Encoding"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]
        assert headers["cache-control"]


def test_errors_are_not_kept(api):
    assert api.ask("/v1/nothing").headers["cache-control"] == "no-store"
    assert "etag" not in api.ask(f"{TRANSFERS}?limit=x").headers


def test_a_defect_tells_nothing_but_its_request_id(own, seed, caplog):
    seed.execute("ALTER TABLE gapless.blocks RENAME COLUMN time TO zeit")
    result = own.ask(f"{TRANSFERS}?from_time=2023-01-01", x_request_id="find-me")
    assert (result.status_code, result.json["code"]) == (500, "INTERNAL_ERROR")
    assert "zeit" not in result.text
    assert "time" not in result.json["error"]
    record = next(r for r in caplog.records if r.levelname == "ERROR")
    assert record.request_id == "find-me"


SETTLED = f"{TRANSFERS}?from_block=1050&to_block=1150"


CONDITIONAL = [
    TRANSFERS,
    SETTLED,
    f"{TRANSFERS}/1100-3",
    f"{TRANSFERS}?include=token",
    "/v1/tokens?chain=1",
    "/v1/contracts/coins/snapshots/supply",
    "/openapi.json",
    "/v1/contracts/usdc/abi",
]


@pytest.mark.promise("A-09")
@pytest.mark.parametrize("path", CONDITIONAL)
def test_what_the_client_has_is_not_sent_again(api, path):
    etag = api.ask(path).headers["etag"]
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        again = api.ask(path, if_none_match=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert again.headers["cache-control"]
    assert api.ask(path, if_none_match='"other"').status_code == 200


def tags(client, seed, change: str | None = None) -> dict[str, str]:
    if change:
        seed.execute(change)
    return {path: client.ask(path).headers["etag"] for path in (TRANSFERS, SETTLED)}


@pytest.mark.parametrize("change", [
    "UPDATE gapless.events SET version = version + 1",
    "UPDATE gapless.chains SET tip_number = tip_number + 1, head_number = head_number + 1",
    "UPDATE gapless.chains SET tip_hash = sha256('another branch')",
    "UPDATE gapless.chains SET finalized_number = finalized_number + 1",
    "UPDATE gapless.sources SET coverage = coverage + '{[1040,1045)}'",
    # An indexer that stands still: only meta.lag_seconds tells, and a client that asks with its tag must hear of it.
    "UPDATE gapless.chains SET head_seen_at = head_seen_at - interval '1 hour'",
])  # fmt: skip
def test_news_change_open_answers_only(own, seed, change):
    before = tags(own, seed)
    after = tags(own, seed, change)
    assert after[TRANSFERS] != before[TRANSFERS]
    assert after[SETTLED] == before[SETTLED]


@pytest.mark.promise("A-09")
def test_a_rewrite_changes_settled_answers_too(own, seed):
    before = tags(own, seed)
    after = tags(own, seed, "UPDATE gapless.events SET rewrite_version = rewrite_version + 1")
    assert after[SETTLED] != before[SETTLED]


@pytest.mark.parametrize(("query", "kept"), [
    ("from_block=1050&to_block=1200", "public, max-age=300, stale-while-revalidate=3600"),
    ("to_block=1030", "public, max-age=300, stale-while-revalidate=3600"),
    ("", "public, max-age=6"),
    ("from_block=1050", "public, max-age=6"),
    ("from_block=1050&to_block=1201", "public, max-age=6"),  # not finalized
    ("from_block=1030&to_block=1100", "public, max-age=6"),  # not complete
    ("from_block=1050&to_block=1150&finality=finalized", "public, max-age=300, stale-while-revalidate=3600"),
    # What is final now is not all that the request is about: these grow as finality moves on.
    ("from_block=1050&to_block=1201&finality=finalized", "public, max-age=6"),
    ("from_block=1050&to_block=9999&finality=finalized", "public, max-age=6"),
    ("from_block=1050&at_block=1250&finality=finalized", "public, max-age=6"),
    ("from_block=1050&to_time=2100-01-01&finality=finalized", "public, max-age=6"),
])  # fmt: skip
def test_only_settled_answers_are_kept_long(api, query, kept):
    assert api.ask(f"{TRANSFERS}?{query}").headers["cache-control"] == kept


@pytest.mark.promise("A-09")
@pytest.mark.parametrize("query", ["to_block=9999", "to_time=2100-01-01"])
def test_an_end_that_the_chain_has_not_reached_is_never_settled(own, seed, query):
    seed.head(1299, finalized=1299, safe=1299)  # every block is final at once
    kept = own.ask(f"{TRANSFERS}?from_block=1050&{query}").headers["cache-control"]
    assert kept == "public, max-age=6"
    kept = own.ask(f"{TRANSFERS}?from_block=1050&to_block=1299").headers["cache-control"]
    assert kept.startswith("public, max-age=300")


def test_gzip_for_those_who_ask(api):
    plain = api.ask(TRANSFERS)
    packed = api.ask(TRANSFERS, accept_encoding="br, gzip;q=0.5")
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.content))["data"] == plain.json["data"]
    assert len(packed.content) < len(plain.content) / 2
    assert int(packed.headers["content-length"]) == len(packed.content)
    for refused in ("", "br", "gzip;q=0", "identity", "*;q=0"):
        assert "content-encoding" not in api.ask(TRANSFERS, accept_encoding=refused).headers
    assert "content-encoding" not in api.ask("/health", accept_encoding="gzip").headers


def test_every_origin_may_read_unless_configured(api, make_client):
    result = api.ask(TRANSFERS, origin="https://dapp.example")
    assert result.headers["access-control-allow-origin"] == "*"
    assert "X-Request-Id" in result.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in result.headers
    assert "access-control-allow-origin" not in api.ask(TRANSFERS).headers
    assert api.ask("/v1/nothing", origin="https://dapp.example").headers["access-control-allow-origin"] == "*"
    some = make_client(cors_origins=("https://dapp.example",))
    allowed = some.ask("/v1", origin="https://dapp.example").headers
    assert allowed["access-control-allow-origin"] == "https://dapp.example"
    assert "access-control-allow-origin" not in some.ask("/v1", origin="https://evil.example").headers


def test_preflight(api):
    result = api.ask(TRANSFERS, "OPTIONS", origin="https://dapp.example", access_control_request_method="GET")
    assert result.status_code == 200
    assert "GET" in result.headers["access-control-allow-methods"]
    assert "If-None-Match" in result.headers["access-control-allow-headers"]
    assert result.headers["access-control-max-age"] == "86400"


def test_every_code_has_a_status_and_a_meaning():
    assert all(400 <= status < 600 and meaning for status, meaning in CODES.values())


def test_an_address_filter_takes_any_case(api):
    path = "/v1/contracts/coins/events/Transfer?address="
    assert api.get(path + hex_of(GOLD))["data"] == api.get(f"{path}0x{GOLD.hex().upper()}")["data"] != []
