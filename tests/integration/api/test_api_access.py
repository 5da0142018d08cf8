"""Keys, scopes, origins, ends and rates: who is let in, and how the others are refused."""

import base64
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from api.app import PAGES, ROUTES
from api.limits import ClientAddress, RateLimits
from indexer.cli import app
from indexer.errors import GaplessError
from indexer.store import database
from indexer.store.access import key_format, keys
from indexer.store.cache import Cache

PATH = "/v1/contracts"
ORIGIN = "https://shop.example"


@pytest.fixture
def make_key(world_url):
    """Make a key; gives its id and itself."""
    engine = database.create_engine(world_url)

    def make(**options):
        with engine.begin() as connection:
            return keys.create(connection, "someone", **options)

    yield make
    engine.dispose()


def test_reading_is_open_unless_told_otherwise(api):
    result = api.ask(PATH)
    assert result.status_code == 200
    assert "ratelimit" not in result.headers
    assert "private" not in result.headers.get("cache-control", "")


def test_every_path_but_a_few_needs_a_key_when_told_so(make_client):
    closed = make_client(require_api_key=True)
    is_open = {"/health", "/ready", "/openapi.json", "/docs", "/docs/{file}"}
    for template, resource in (*ROUTES, *PAGES):
        assert (resource.scope is None) == (template in is_open), template
        if template not in is_open:
            path = re.sub(r"{\w+}", "1", template)
            result = closed.ask(path)
            assert (result.status_code, result.json["code"]) == (401, "AUTHENTICATION_REQUIRED"), path
            assert result.headers["www-authenticate"].startswith("Bearer")
            assert result.headers["cache-control"] == "no-store"
        elif "{" not in template:
            assert closed.ask(template).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x_api_key"])
def test_a_key_opens(make_client, make_key, header):
    closed = make_client(require_api_key=True)
    _, key = make_key()
    result = closed.ask(PATH, **{header: f"Bearer {key}" if header == "authorization" else key})
    assert result.status_code == 200
    assert "public" not in result.headers["cache-control"]
    assert closed.ask("/v1", authorization=f"bearer {key}").headers["cache-control"].startswith("private")


@pytest.mark.promise("S-02")
def test_a_key_is_kept_as_a_hash_only(make_key, seed):
    _, key = make_key()
    rows = seed.execute("SELECT k::text FROM gapless.api_keys k").fetchall()
    assert len(rows) == 1
    assert key not in rows[0][0]
    assert key_format.PATTERN.fullmatch(key)
    assert make_key()[1] != key


@pytest.mark.parametrize("text", ["", "gapless_", "gapless_" + "A" * 43, "x" * 5000, "gapless_" + "é" * 43, "\x00"])
@pytest.mark.parametrize("required", [True, False])
def test_a_wrong_key_is_refused_even_where_none_is_needed(make_client, text, required):
    client = make_client(require_api_key=required)
    client.refused(PATH, 401, "INVALID_API_KEY", authorization=f"Bearer {text}".encode().decode("latin-1"))


def test_other_kinds_of_authorization_are_nobodys_key(api):
    assert api.ask(PATH, authorization="Basic dTpw").status_code == 200


def test_a_browser_asks_its_user_for_a_key_and_opens_the_page_with_it(make_client, make_key):
    closed = make_client(require_api_key=True)
    _, key = make_key()

    def basic(password):
        return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()

    refused = closed.ask("/")
    assert refused.status_code == 401
    assert 'Basic realm="gapless"' in refused.headers["www-authenticate"]
    assert closed.ask("/", authorization=basic(key)).status_code == 200
    for wrong in (basic("gapless_" + "a" * 43), basic("secret"), "Basic !", "Basic"):
        assert closed.ask("/", authorization=wrong).status_code == 401
    # A browser sends it by itself from then on: so it opens nothing but pages.
    other = closed.ask(PATH, authorization=basic(key))
    assert other.status_code == 401
    assert "Basic" not in other.headers["www-authenticate"]


def test_a_revoked_key_is_refused(make_client, make_key, world_url):
    key_id, key = make_key()
    engine = database.create_engine(world_url)
    with engine.begin() as connection:
        assert keys.revoke(connection, key_id)
        assert not keys.revoke(connection, key_id)
        assert not keys.revoke(connection, 999)
    engine.dispose()
    make_client().refused(PATH, 401, "INVALID_API_KEY", authorization=f"Bearer {key}")


def test_an_expired_key_is_refused_by_another_name(make_client, make_key):
    now = datetime.now(UTC)
    _, old = make_key(expires_at=now - timedelta(seconds=1))
    _, young = make_key(expires_at=now + timedelta(days=1))
    client = make_client()
    client.refused(PATH, 401, "TOKEN_EXPIRED", authorization=f"Bearer {old}")
    client.get(PATH, authorization=f"Bearer {young}")


def test_a_key_without_the_scope_is_refused(make_client, make_key):
    _, key = make_key(scopes=("webhooks",))
    make_client().refused(PATH, 403, "INSUFFICIENT_SCOPE", authorization=f"Bearer {key}")


def test_a_key_for_a_web_page_is_of_no_use_elsewhere(make_client, make_key):
    _, key = make_key(origins=(ORIGIN,))
    client = make_client(require_api_key=True)
    client.get(PATH, authorization=f"Bearer {key}", origin=ORIGIN)
    client.refused(PATH, 403, "ORIGIN_NOT_ALLOWED", authorization=f"Bearer {key}", origin="https://evil.example")
    client.refused(PATH, 403, "ORIGIN_NOT_ALLOWED", authorization=f"Bearer {key}")
    preflight = client.ask(PATH, "OPTIONS", origin=ORIGIN, access_control_request_method="GET")
    assert preflight.status_code == 200
    assert "Authorization" in preflight.headers["access-control-allow-headers"]


def test_a_rate_is_kept_and_told(make_client, make_key):
    _, key = make_key(rate=2)
    client = make_client()
    first = client.ask(PATH, authorization=f"Bearer {key}")
    assert first.headers["ratelimit-policy"] == '"default";q=2;w=60'
    assert first.headers["ratelimit"] == '"default";r=1;t=30'
    client.get(PATH, authorization=f"Bearer {key}")
    refused = client.ask(PATH, authorization=f"Bearer {key}")
    assert (refused.status_code, refused.json["code"]) == (429, "RATE_LIMITED")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    client.get(PATH)  # others are not concerned
    client.get("/health", authorization=f"Bearer {key}")


@pytest.mark.promise("S-09")
def test_clients_without_a_key_have_a_rate_by_address(make_client):
    client = make_client(rate_limit_address=1)
    client.get(PATH)
    client.refused(PATH, 429, "RATE_LIMITED")
    client.refused(PATH, 429, "RATE_LIMITED", x_forwarded_for="203.0.113.9")  # nobody's word


@pytest.mark.promise("S-08")
def test_guessing_keys_is_limited(make_client):
    client = make_client(rate_limit_address=2)
    for _ in range(2):
        client.refused(PATH, 401, "INVALID_API_KEY", authorization="Bearer gapless_" + "A" * 43)
    client.refused(PATH, 429, "RATE_LIMITED", authorization="Bearer gapless_" + "A" * 43)


def test_processes_share_what_redis_counts(redis_url):
    one, other = (RateLimits(Cache(redis_url, secret=lambda: b"s" * 32)) for _ in range(2))
    bucket = f"key:{datetime.now(UTC).timestamp()}"
    assert [limits.take(bucket, 3).allowed for limits in (one, other, one, other)] == [True, True, True, False]


def test_without_redis_a_process_counts_for_itself():
    now = [0.0]
    for url in (None, "redis://127.0.0.1:1/0"):
        limits = RateLimits(Cache(url), clock=lambda: now[0])
        assert [limits.take("a", 2).allowed for _ in range(3)] == [True, True, False]
        assert limits.take("b", 2).allowed
        now[0] += 30
        assert [limits.take("a", 2).allowed for _ in range(2)] == [True, False]


@pytest.mark.promise("S-09")
@pytest.mark.parametrize(("peer", "forwarded", "client"), [
    ("198.51.100.1", None, "198.51.100.1"),
    ("198.51.100.1", "203.0.113.9", "198.51.100.1"),
    ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
    ("10.0.0.1", "1.2.3.4, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
    ("10.0.0.1", "nonsense", "10.0.0.1"),
    ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
    ("10.0.0.1", "[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
    ("10.0.0.1", "[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
    ("10.0.0.1", "203.0.113.9:4711:1", "10.0.0.1"),
    ("::ffff:10.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("", None, "unknown"),
])  # fmt: skip
def test_whose_request_it_is(peer, forwarded, client):
    assert ClientAddress(("10.0.0.0/8",)).of(peer, forwarded) == client


@pytest.mark.parametrize(("forwarded", "client"), [
    (None, "127.0.0.1"), ("203.0.113.9", "203.0.113.9"), ("1.2.3.4, 2001:db8::5", "2001:db8::5"), ("x", "127.0.0.1"),
])  # fmt: skip
def test_the_log_names_the_client_behind_a_proxy(make_client, caplog, forwarded, client):
    caplog.set_level(logging.INFO, "api.access")
    headers = {} if forwarded is None else {"x_forwarded_for": forwarded}
    for path in (PATH, "/nowhere", "/health", f"/{'x' * 15_000}"):
        make_client(trusted_proxies=("127.0.0.1",)).ask(path, **headers)
        assert caplog.records[-1].client == client, path
        make_client().ask(path, **headers)
        assert caplog.records[-1].client == "127.0.0.1", "a stranger's word"


def test_no_token_is_logged(make_client, caplog):
    caplog.set_level(logging.INFO, "api.access")
    for query in ("access_token=eyJ.hush.x", "a=1&access_token=eyJ.hush.x&access_token=hush&b=2"):
        make_client().ask(f"{PATH}?{query}")
        assert "hush" not in str(vars(caplog.records[-1]))
        assert "access_token=***" in caplog.records[-1].query


def test_the_commands(world_url, make_client, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", world_url)
    run = CliRunner()
    made = run.invoke(app, ["keys", "create", "the [red]shop", "--origin", ORIGIN, "--rate", "7", "--days", "1"])
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert key_format.PATTERN.fullmatch(key)
    client = make_client(require_api_key=True)
    assert client.ask(PATH, authorization=f"Bearer {key}", origin=ORIGIN).headers["ratelimit"] == '"default";r=6;t=9'
    listed = run.invoke(app, ["keys", "list"], env={"COLUMNS": "200"}).output
    assert "the [red]shop" in listed
    assert "valid until" in listed
    assert key not in listed
    assert run.invoke(app, ["keys", "revoke", "1"]).exit_code == 0
    assert "revoked" in run.invoke(app, ["keys", "list"], env={"COLUMNS": "200"}).output
    make_client().refused(PATH, 401, "INVALID_API_KEY", authorization=f"Bearer {key}", origin=ORIGIN)


@pytest.mark.parametrize("wrong", [
    ["keys", "create", "x", "--scope", "write"],
    ["keys", "create", "x", "--origin", "shop.example"],
    ["keys", "create", "x", "--origin", "https://shop.example/page"],
    ["keys", "revoke", "77"],
])  # fmt: skip
def test_commands_refuse_nonsense(world_url, monkeypatch, wrong):
    monkeypatch.setenv("DATABASE_URL", world_url)
    result = CliRunner().invoke(app, wrong)
    assert isinstance(result.exception, GaplessError)
    assert result.exception.hint
