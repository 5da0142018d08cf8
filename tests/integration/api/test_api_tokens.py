"""Short-lived tokens, and those of an outside issuer: what they open, and how every wrong one is refused."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import falcon
import jwt
import pytest

from api.access import Access, middleware
from api.access.issuer import FRESH, LOOK_EVERY, MOST_PAUSE, PAUSE
from api.app import create_app
from api.context import create_context
from api.settings import ApiSettings, SettingsError, load_settings
from indexer.store import database
from indexer.store.access import keys
from tests.integration.api.conftest import Client
from tests.integration.api.issuer import AUDIENCE, FakeIssuer

PATH = "/v1/contracts"
ORIGIN = "https://shop.example"


@pytest.fixture
def make_key(world_url: str) -> Iterator[Callable[..., tuple[int, str]]]:
    engine = database.create_engine(world_url)

    def make(**options: Any) -> tuple[int, str]:
        with engine.begin() as connection:
            return keys.create(connection, "someone", **options)

    yield make
    engine.dispose()


@pytest.fixture
def make_timed(world_url: str) -> Iterator[Callable[..., Client]]:
    """Like ``make_client``, with clocks of the access's own: ``clock`` runs evenly, ``wall`` tells the time."""
    contexts = []

    def make(
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time, **settings: Any
    ) -> Any:
        context = create_context(ApiSettings(**settings), world_url, None)
        contexts.append(context)
        return Client(create_app(context, Access(context, clock, wall)))

    yield make
    for context in contexts:
        context.close()


def bearer(text: str) -> str:
    return f"Bearer {text}"


def token_of(client: Client, key: str, body: Any = None, **headers: str) -> str:
    result = client.send("/v1/auth/token", body, authorization=bearer(key), **headers)
    assert result.status_code == 200, result.text
    return str(result.json["data"]["access_token"])


def refused(result: falcon.testing.Result) -> tuple[int, str]:
    assert result.headers["cache-control"] == "no-store"
    return result.status_code, result.json["code"]


# -- our own -----------------------------------------------------------------------------------------------------------


def test_a_key_makes_a_token_that_opens_like_it(make_client, make_key):
    client = make_client(require_api_key=True)
    key_id, key = make_key(scopes=("read", "webhooks"), rate=3)
    result = client.send("/v1/auth/token", authorization=bearer(key))
    made = result.json["data"]
    assert result.headers["cache-control"] == "no-store"
    assert (made["token_type"], made["expires_in"], made["scope"]) == ("Bearer", 900, "read webhooks")
    said = jwt.decode(made["access_token"], options={"verify_signature": False})
    assert (said["iss"], said["aud"], said["sub"]) == ("gapless", "gapless-api", str(key_id))
    assert said["exp"] - said["iat"] == 900
    assert said["jti"]
    assert key not in json.dumps(said)
    answer = client.ask(PATH, authorization=bearer(made["access_token"]))
    assert answer.status_code == 200
    assert answer.headers["cache-control"].startswith("private")
    # What a token uses up is its key's.
    assert answer.headers["ratelimit"].startswith('"default";r=1;')
    assert client.ask(PATH, x_api_key=made["access_token"]).status_code == 200


@pytest.mark.promise("S-05")
def test_a_token_may_do_less_than_its_key(make_client, make_key):
    client = make_client(require_api_key=True)
    _, key = make_key(scopes=("read", "admin"))
    token = token_of(client, key, {"scopes": ["admin"], "ttl": 60})
    assert refused(client.ask(PATH, authorization=bearer(token))) == (403, "INSUFFICIENT_SCOPE")
    assert client.ask("/v1/keys", authorization=bearer(token)).status_code == 200
    more = client.send("/v1/auth/token", {"scopes": ["webhooks"]}, authorization=bearer(key))
    assert refused(more) == (403, "INSUFFICIENT_SCOPE")


def test_a_token_is_made_from_a_key_alone(make_client, make_key):
    client = make_client()
    _, key = make_key(scopes=("webhooks",))
    token = token_of(client, key)
    assert refused(client.send("/v1/auth/token")) == (401, "AUTHENTICATION_REQUIRED")
    assert refused(client.send("/v1/auth/token", authorization=bearer(token))) == (403, "INSUFFICIENT_SCOPE")
    assert refused(client.ask("/v1/auth/token", authorization=bearer(key))) == (405, "METHOD_NOT_ALLOWED")


def test_what_is_asked_for_is_checked(make_client, make_key):
    client, key = make_client(), make_key()[1]
    for body in (
        {"ttl": 0}, {"ttl": 3601}, {"ttl": "60"}, {"scopes": []}, {"scopes": ["all"]}, {"origin": "shop.example"},
        {"origin": "https://shop.example/"}, {"origin": "https://a@shop.example"}, {"lifetime": 1}, [],
    ):  # fmt: skip
        assert client.send("/v1/auth/token", body, authorization=bearer(key)).status_code == 400, body


def test_a_token_for_one_page(make_client, make_key):
    client = make_client()
    _, key = make_key()
    token = token_of(client, key, {"origin": ORIGIN})
    assert client.ask(PATH, authorization=bearer(token), origin=ORIGIN).status_code == 200
    for other in ({"origin": "https://evil.example"}, {}):
        assert refused(client.ask(PATH, authorization=bearer(token), **other)) == (403, "ORIGIN_NOT_ALLOWED")


def test_a_key_of_pages_may_lie_on_a_server_that_makes_tokens(make_client, make_key):
    client = make_client()
    _, key = make_key(origins=(ORIGIN, "https://other.example"))
    token = token_of(client, key)
    assert refused(client.ask(PATH, authorization=bearer(token))) == (403, "ORIGIN_NOT_ALLOWED")
    assert client.ask(PATH, authorization=bearer(token), origin=ORIGIN).status_code == 200
    bound = token_of(client, key, {"origin": ORIGIN})
    assert refused(client.ask(PATH, authorization=bearer(bound), origin="https://other.example"))[0] == 403
    for body, origin in (({"origin": "https://evil.example"}, {}), (None, {"origin": "https://evil.example"})):
        result = client.send("/v1/auth/token", body, authorization=bearer(key), **origin)
        assert refused(result) == (403, "ORIGIN_NOT_ALLOWED")


@pytest.mark.promise("S-05")
def test_a_revoked_key_takes_its_tokens_along(make_timed, make_key, seed):
    now = [0.0]
    client = make_timed(lambda: now[0])
    token = token_of(client, make_key()[1])
    client.get(PATH, authorization=bearer(token))
    seed.execute("UPDATE gapless.api_keys SET revoked_at = now()")
    now[0] += 6
    assert refused(client.ask(PATH, authorization=bearer(token))) == (401, "INVALID_API_KEY")


def test_a_token_ends_with_its_key(make_client, make_key):
    client = make_client()
    _, key = make_key(expires_at=datetime.now(UTC) + timedelta(seconds=100))
    made = client.send("/v1/auth/token", authorization=bearer(key)).json["data"]
    assert 90 <= made["expires_in"] <= 100


@pytest.mark.promise("S-05")
def test_a_token_expires(make_timed, make_key):
    wall = [time.time()]
    client = make_timed(wall=lambda: wall[0])
    token = token_of(client, make_key()[1], {"ttl": 60})
    wall[0] += 50
    client.get(PATH, authorization=bearer(token))
    wall[0] += 20
    assert refused(client.ask(PATH, authorization=bearer(token))) == (401, "TOKEN_EXPIRED")
    wall[0] -= 100
    assert refused(client.ask(PATH, authorization=bearer(token))) == (401, "INVALID_API_KEY"), "not valid yet"


@pytest.mark.promise("S-05")
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_tampered_and_foreign_tokens(make_client, make_key, seed):
    client = make_client()
    _, key = make_key()
    token = token_of(client, key)
    secret = bytes(seed.execute("SELECT secret FROM gapless.token_secrets").fetchone()[0])
    header, said = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})

    def signed(claims: dict[str, Any], algorithm: str = "HS256", by: Any = secret, **heads: Any) -> str:
        kept = {name: value for name, value in {**said, **claims}.items() if value is not None}
        return jwt.encode(kept, by, algorithm=algorithm, headers={"kid": header["kid"], **heads})

    client.get(PATH, authorization=bearer(signed({})))
    first, middle, last = token.split(".")
    payload = json.dumps({**said, "scope": "admin"}).encode()
    wrong = {
        "another payload": f"{first}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{last}",
        "no signature": f"{first}.{middle}.",
        "another signature": f"{first}.{middle}.{'A' * len(last)}",
        "none": jwt.encode(said, "", algorithm="none", headers={"kid": header["kid"]}),
        "another algorithm": signed({}, "HS512"),
        "another secret": signed({}, by=b"x" * 32),
        "no kid": jwt.encode(said, secret, algorithm="HS256"),
        "unknown kid": signed({}, kid="999"),
        "odd kid": signed({}, kid="../1"),
        "another audience": signed({"aud": "other"}),
        "no audience": signed({"aud": None}),
        "another issuer": signed({"iss": "other"}),
        "no issuer": signed({"iss": None}),
        "no end": signed({"exp": None}),
        "odd end": signed({"exp": True}),
        "huge end": signed({"exp": 10**400}),
        "not yet": signed({"nbf": int(time.time()) + 60}),
        "no subject": signed({"sub": None}),
        "odd subject": signed({"sub": "x"}),
        "nobody's key": signed({"sub": "99999"}),
        "deep": f"{base64.urlsafe_b64encode(b'[' * 5000).decode().rstrip('=')}.{middle}.{last}",
        "no json": f"AAAA.{middle}.{last}",
        "too long": "a" * 9000 + ".b.c",
    }
    for what, text in wrong.items():
        assert refused(client.ask(PATH, authorization=bearer(text))) == (401, "INVALID_API_KEY"), what
    assert refused(client.ask(PATH, authorization=bearer(signed({"exp": 1, "iat": 0})))) == (401, "TOKEN_EXPIRED")


def test_all_processes_take_a_token_and_secrets_are_replaced(make_client, make_key, seed):
    one, other = make_client(), make_client()
    _, key = make_key()
    old = token_of(one, key)
    other.get(PATH, authorization=bearer(old))
    assert token_of(other, key).split(".")[0] == old.split(".")[0], "they share the secret"
    seed.execute("UPDATE gapless.token_secrets SET created_at = now() - interval '30 days 1 minute'")
    third = make_client()
    young = token_of(third, key)
    assert young.split(".")[0] != old.split(".")[0]
    third.get(PATH, authorization=bearer(old))
    one.get(PATH, authorization=bearer(young))
    seed.execute("UPDATE gapless.token_secrets SET created_at = now() - interval '32 days'")
    assert refused(make_client().ask(PATH, authorization=bearer(old))) == (401, "INVALID_API_KEY")


def test_a_database_that_takes_no_changes_refuses_them_with_a_reason_and_stops_no_token(
    make_client, make_key, seed, world_url
):
    """As after a demotion: what is read is read, tokens are made and taken, changes are answered with 503."""
    _, key = make_key(scopes=("read", "admin"))
    with database.create_engine(world_url).begin() as connection:
        keys.renew_token_secret(connection)  # the indexer does
    seed.execute("UPDATE gapless.token_secrets SET created_at = now() - interval '30 days 1 minute'")
    name = world_url.rpartition("/")[2]
    seed.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    client = make_client()
    client.get(PATH, authorization=bearer(token_of(client, key)))
    result = client.send("/v1/keys", {"name": "new", "scopes": ["read"]}, authorization=bearer(key))
    assert refused(result) == (503, "DATABASE_READ_ONLY"), result.text
    assert "read-only" in result.json["error"]
    assert client.get("/ready")["status"] == "ready"
    seed.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def test_the_indexers_secret_comes_long_before_the_apis_would(seed, world_url):
    engine = database.create_engine(world_url)

    def count() -> int:
        with engine.begin() as connection:
            keys.renew_token_secret(connection)
        return int(seed.execute("SELECT count(*) FROM gapless.token_secrets").fetchone()[0])

    before = count()
    assert count() == before
    seed.execute("UPDATE gapless.token_secrets SET created_at = now() - interval '16 days'")
    assert count() == before + 1
    engine.dispose()


def test_secrets_that_are_deleted_prove_nothing_any_more(make_timed, make_key, seed):
    now = [0.0]
    client = make_timed(lambda: now[0])
    token = token_of(client, make_key()[1])
    client.get(PATH, authorization=bearer(token))
    seed.execute("DELETE FROM gapless.token_secrets")
    now[0] += 301
    assert refused(client.ask(PATH, authorization=bearer(token))) == (401, "INVALID_API_KEY")


@pytest.mark.promise("S-08")
def test_guessing_tokens_is_limited(make_client):
    client = make_client(rate_limit_address=2)
    guess = bearer(jwt.encode({"iss": "gapless"}, "x" * 32, algorithm="HS256"))
    for _ in range(2):
        assert refused(client.ask(PATH, authorization=guess)) == (401, "INVALID_API_KEY")
    assert refused(client.ask(PATH, authorization=guess)) == (429, "RATE_LIMITED")


@pytest.mark.parametrize(("query", "token", "rest"), [
    ("", None, ""),
    ("a=1&b=2", None, "a=1&b=2"),
    ("access_token=x.y.z", "x.y.z", ""),
    ("a=1&access_token=x%2Ey&b=2", "x.y", "a=1&b=2"),
    ("access_token=x&access_token=y", None, "access_token=x&access_token=y"),
])  # fmt: skip
def test_a_token_in_the_url(query, token, rest):
    assert middleware.split_token(query) == (token, rest)


def test_a_token_in_the_url_is_for_streams_alone(make_client, make_key):
    client = make_client()
    _, key = make_key()
    token = token_of(client, key)
    body = client.refused(f"{PATH}?access_token={token}", 400, "UNKNOWN_PARAMETER")
    assert token not in json.dumps(body)


# -- an outside issuer's -----------------------------------------------------------------------------------------------


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    issuer.add("first")
    yield issuer
    issuer.close()


@pytest.fixture
def outside(make_timed, issuer) -> Callable[..., Client]:
    def make(now: list[float] | None = None, **settings: Any) -> Client:
        clock = (lambda: now[0]) if now else time.monotonic
        return make_timed(clock, require_api_key=True, oidc_issuer=issuer.url, oidc_audience=AUDIENCE, **settings)

    return make


@pytest.mark.promise("S-06")
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_tokens_of_the_issuer_open(outside, issuer, algorithm):
    issuer.add("it", algorithm)
    client = outside()
    for _ in range(3):
        assert client.ask(PATH, authorization=bearer(issuer.token("it"))).status_code == 200
    client.get(PATH, authorization=bearer(issuer.token("it", aud=["x", AUDIENCE])))
    assert len(issuer.asked) == 2, "its keys are kept"


def test_scopes_are_those_of_a_claim(outside, issuer):
    client = outside(oidc_scopes_claim="permissions", oidc_scopes_prefix="gapless:")

    def ask(path: str, permissions: Any) -> int:
        token = issuer.token("first", permissions=permissions)
        return int(client.ask(path, authorization=bearer(token)).status_code)

    assert ask(PATH, ["gapless:read", "x"]) == 200
    assert ask(PATH, "a gapless:read b") == 200
    assert [ask(PATH, given) for given in (["read"], None, 7, {"gapless:read": 1}, [["gapless:read"]])] == [403] * 5
    assert [ask("/v1/keys", given) for given in ("gapless:read", "gapless:admin")] == [403, 200]
    token = issuer.token("first", permissions="gapless:read")
    assert refused(client.send("/v1/auth/token", authorization=bearer(token))) == (403, "INSUFFICIENT_SCOPE")


@pytest.mark.promise("S-06")
def test_wrong_tokens_of_the_issuer(outside, issuer):
    client = outside()
    now = int(time.time())
    issuer.add("rsa", "RS256")
    issuer.add("other curve", "ES384")
    stranger = FakeIssuer()
    stranger.add("first")
    stranger.add("unknown")
    said = {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "exp": now + 60, "scope": "read"}
    # What a verifier that believes the token's own alg would take: HMAC with the public key that all may know.
    public = base64.urlsafe_b64encode(issuer.public_pem("rsa")).decode()
    confused = jwt.encode(said, base64.urlsafe_b64decode(public)[27:-27], algorithm="HS256", headers={"kid": "rsa"})
    wrong = {
        "another's key of the same name": stranger.token("first", iss=issuer.url),
        "another's key": stranger.token("unknown", iss=issuer.url),
        "another issuer": stranger.token("first"),
        "another audience": issuer.token("first", aud="https://other.example"),
        "no audience": issuer.token("first", aud=None),
        "no end": issuer.token("first", exp=None),
        "not yet": issuer.token("first", nbf=now + 60),
        "from the future": issuer.token("first", iat=now + 60),
        "no subject": issuer.token("first", sub=None),
        "an algorithm that is not taken": issuer.token("other curve"),
        "none": jwt.encode(said, "", algorithm="none", headers={"kid": "first"}),
        "confused": confused,
        "odd kid": jwt.encode(said, issuer.keys["first"][1], algorithm="ES256", headers={"kid": "é"}),
        "another algorithm of the header": _with_header(issuer.token("rsa"), {"alg": "ES256", "kid": "rsa"}),
    }
    stranger.close()
    for what, text in wrong.items():
        assert refused(client.ask(PATH, authorization=bearer(text))) == (401, "INVALID_API_KEY"), what
    late = issuer.token("first", exp=now - 60)
    assert refused(client.ask(PATH, authorization=bearer(late))) == (401, "TOKEN_EXPIRED")


def _with_header(token: str, header: dict[str, Any]) -> str:
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return ".".join((head, *token.split(".")[1:]))


@pytest.mark.promise("S-07")
def test_a_key_that_the_issuer_has_changed_to_is_found(outside, issuer):
    now = [1000.0]
    client = outside(now)
    client.get(PATH, authorization=bearer(issuer.token("first")))
    issuer.add("second")
    token = bearer(issuer.token("second"))
    assert refused(client.ask(PATH, authorization=token)) == (401, "INVALID_API_KEY")
    assert len(issuer.asked) == 2, "made-up names cost no question each"
    now[0] += LOOK_EVERY + 1
    client.get(PATH, authorization=token)
    now[0] += LOOK_EVERY + 1
    issuer.keys.pop("first")
    issuer.asked.clear()
    client.get(PATH, authorization=token)
    assert issuer.asked == []


@pytest.mark.promise("S-06")
def test_a_key_that_the_issuer_took_back_is_not_believed_for_ever(outside, issuer):
    now = [1000.0]
    client = outside(now)
    token = bearer(issuer.token("first"))
    client.get(PATH, authorization=token)
    issuer.keys.clear()
    issuer.add("second")
    now[0] += FRESH + 1
    assert refused(client.ask(PATH, authorization=token)) == (401, "INVALID_API_KEY")


@pytest.mark.promise("S-07")
def test_an_issuer_that_is_away_is_no_reason_to_call_a_token_wrong(outside, issuer):
    now = [1000.0]
    client = outside(now)
    issuer.down = True
    token = bearer(issuer.token("first"))
    answer = client.ask(PATH, authorization=token)
    assert refused(answer) == (503, "ISSUER_UNAVAILABLE")
    assert answer.headers["retry-after"]
    issuer.down = False
    assert refused(client.ask(PATH, authorization=token)) == (503, "ISSUER_UNAVAILABLE"), "it is left alone for a while"
    now[0] += PAUSE + 1
    client.get(PATH, authorization=token)
    issuer.down = True
    now[0] += FRESH + 1
    client.get(PATH, authorization=token)  # what is known goes on proving
    issuer.add("second")
    now[0] += PAUSE + 1
    assert refused(client.ask(PATH, authorization=bearer(issuer.token("second")))) == (503, "ISSUER_UNAVAILABLE")


_RSA = {"kty": "RSA", "e": "AQAB", "n": "AQAB"}


@pytest.mark.promise("S-06")
@pytest.mark.parametrize("odd", [
    {"kid": ["it"], **_RSA}, {"kid": {}, **_RSA}, {"kid": 7, **_RSA}, {"kid": None, **_RSA}, {"kid": "it", **_RSA},
    {"kid": "it", "kty": "EC", "crv": "P-256", "x": "", "y": ""}, {"kid": "it", "kty": "oct", "k": "AAAA"},
    {"kid": "it", "kty": "RSA", "alg": [], "n": {}, "e": []}, {"kid": "it", "kty": ["RSA"]}, {"use": {}, "kid": "it"},
    {"kid": "it", **_RSA, "n": "_" * 40_000}, {"kid": "it", "alg": "ES256", **_RSA}, [], None, "it", 10**30,
    "another key of the same name", "another kind of the same name", "one without a name",
])  # fmt: skip
def test_an_odd_key_takes_no_other_along(outside, issuer, odd):
    issuer.add("it", "RS256")
    stranger = FakeIssuer()
    stranger.add("it", "EdDSA" if odd == "another kind of the same name" else "RS256")
    match odd:
        case "one without a name":
            odd = {name: value for name, value in stranger._public("it").items() if name != "kid"}
        case str() if odd != "it":
            odd = stranger._public("it")
    stranger.close()
    issuer.odd = [odd]
    assert outside().ask(PATH, authorization=bearer(issuer.token("it"))).status_code == 200
    assert outside().ask(PATH, authorization=bearer(issuer.token("first"))).status_code == 200


@pytest.mark.promise("S-07")
@pytest.mark.parametrize("part", ["head", "body"])
def test_an_issuer_that_never_ends_its_answer_holds_no_request_for_long(outside, issuer, part):
    client = outside()
    issuer.trickles = part
    answers: list[Any] = []
    token = bearer(issuer.token("first"))
    asking = threading.Thread(target=lambda: answers.append(client.ask(PATH, authorization=token)), daemon=True)
    asking.start()
    asking.join(60)
    assert [refused(answer) for answer in answers] == [(503, "ISSUER_UNAVAILABLE")]


@pytest.mark.promise("S-07")
def test_an_issuer_that_fails_again_and_again_is_asked_less_and_less(outside, issuer):
    now = [1000.0]
    client = outside(now)
    issuer.down = True
    token = bearer(issuer.token("first"))
    for _ in range(100):
        assert refused(client.ask(PATH, authorization=token)) == (503, "ISSUER_UNAVAILABLE")
        now[0] += PAUSE
    assert 4 <= len(issuer.asked) <= 15
    issuer.down = False
    now[0] += MOST_PAUSE + 1
    client.get(PATH, authorization=token)


@pytest.mark.promise("S-08")
@pytest.mark.parametrize("down", [False, True])
def test_made_up_names_of_keys_count_against_the_address(outside, issuer, down):
    now = [1000.0]
    client = outside(now, rate_limit_address=2)
    if not down:
        client.get(PATH, authorization=bearer(issuer.token("first")))  # counts once: the key was not known
        now[0] += 60
    issuer.down = down
    stranger = FakeIssuer()
    stranger.add("made up")
    guess = bearer(stranger.token("made up", iss=issuer.url))
    stranger.close()
    expected = (503, "ISSUER_UNAVAILABLE") if down else (401, "INVALID_API_KEY")
    assert [refused(client.ask(PATH, authorization=guess)) for _ in range(2)] == [expected] * 2
    asked = len(issuer.asked)
    now[0] += LOOK_EVERY + 1  # time for another look, but not for another request of this address
    assert refused(client.ask(PATH, authorization=guess)) == (429, "RATE_LIMITED")
    assert len(issuer.asked) == asked
    if not down:
        client.get(PATH, authorization=bearer(issuer.token("first")))  # known: no concern of the address


@pytest.mark.promise("S-06")
def test_access_tokens_alone_are_taken(outside, issuer):
    """What issuers really send: few say ``at+jwt``, all say in some way what is no access token."""
    client = outside()
    taken: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "RFC 9068": ({"typ": "at+jwt"}, {"client_id": "app", "jti": "1"}),
        "RFC 9068, in full": ({"typ": "application/AT+JWT"}, {"auth_time": 1, "acr": "1"}),
        "Auth0": ({"typ": "JWT"}, {"azp": "app", "aud": [AUDIENCE, "https://x/userinfo"]}),
        "Okta": ({"typ": None}, {"cid": "app", "uid": "1", "ver": 1, "scp": ["read"]}),
        "Keycloak": ({"typ": "JWT"}, {"typ": "Bearer", "azp": "app", "nonce": "n", "session_state": "1"}),
        "Cognito": ({}, {"token_use": "access", "client_id": "app"}),
    }
    for what, (head, said) in taken.items():
        assert client.ask(PATH, authorization=bearer(issuer.token("first", head, **said))).status_code == 200, what
    wrong: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "an id token": ({}, {"nonce": "n", "at_hash": "h"}),
        "an id token with a nonce": ({}, {"nonce": "n"}),
        "an id token of a code": ({}, {"c_hash": "h"}),
        "an id token without any mark": ({}, {"scope": None, "email": "x@example.org", "azp": AUDIENCE}),
        "an id token with roles": ({"typ": None}, {"scope": None, "roles": ["read"]}),
        "Keycloak's id token": ({}, {"typ": "ID"}),
        "Keycloak's refresh token": ({}, {"typ": "Refresh"}),
        "Cognito's id token": ({}, {"token_use": "id"}),
        "a logout token": ({"typ": "logout+jwt"}, {}),
        "a logout token of old": ({}, {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        "a security event": ({"typ": "secevent+jwt"}, {}),
        "a proof": ({"typ": "dpop+jwt"}, {}),
        "an odd type": ({"typ": ["at+jwt"]}, {}),
        "an odd kind": ({}, {"typ": {}}),
    }
    for what, (head, said) in wrong.items():
        answer = client.ask(PATH, authorization=bearer(_with_typ(issuer, head, said)))
        assert refused(answer) == (401, "INVALID_API_KEY"), what


def _with_typ(issuer: FakeIssuer, head: dict[str, Any], said: dict[str, Any]) -> str:
    """A token whose header may hold what the library that signs refuses."""
    now = int(time.time())
    all_said = {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "iat": now, "exp": now + 60, "scope": "read", **said}
    payload = json.dumps({name: value for name, value in all_said.items() if value is not None}).encode()
    return jwt.api_jws.encode(payload, issuer.keys["first"][1], "ES256", headers={"kid": "first", **head})


@pytest.mark.parametrize(
    "uri", ["https://[", "http://[::1", 7, None, "https://user:hush@127.0.0.1:1/keys", "file:///x", "http://"]
)
def test_a_discovery_document_that_leads_nowhere(outside, issuer, monkeypatch, caplog, uri):
    monkeypatch.setattr(issuer, "_answer", lambda path: {"issuer": issuer.url, "jwks_uri": uri})
    result = outside().ask(PATH, authorization=bearer(issuer.token("first")))
    assert refused(result) == (503, "ISSUER_UNAVAILABLE")
    assert "hush" not in caplog.text


def test_a_discovery_document_of_another_issuer_is_not_believed(outside, issuer):
    issuer.name = "https://evil.example"
    result = outside().ask(PATH, authorization=bearer(issuer.token("first")))
    assert refused(result) == (503, "ISSUER_UNAVAILABLE")


def test_keys_of_our_own_stay_valid_beside_the_issuers(outside, make_key):
    client = outside()
    _, key = make_key()
    client.get(PATH, authorization=bearer(key))
    client.get(PATH, authorization=bearer(token_of(client, key)))


@pytest.mark.parametrize("environment", [
    {"OIDC_ISSUER": "https://login.example"},
    {"OIDC_AUDIENCE": "x"},
    {"OIDC_ISSUER": "login.example", "OIDC_AUDIENCE": "x"},
    {"OIDC_ISSUER": "https://login.example?a=1", "OIDC_AUDIENCE": "x"},
])  # fmt: skip
def test_settings_of_an_issuer_that_make_no_sense(monkeypatch, tmp_path, environment):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATE_LIMIT_KEY", "77")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "OIDC_ISSUER" in str(caught.value)
    assert "77" not in str(caught.value), "no other settings are shown, which may be secret"


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("S-02")
def test_keys_are_made_shown_once_and_revoked(make_client, make_key):
    client = make_client(require_api_key=True)
    admin = bearer(make_key(scopes=("admin",))[1])
    asked = {"name": "the shop", "scopes": ["webhooks", "read"], "origins": [ORIGIN], "rate": 70,
             "expires_at": "2099-01-01T00:00:00Z"}  # fmt: skip
    result = client.send("/v1/keys", asked, authorization=admin)
    assert result.status_code == 201
    assert result.headers["cache-control"] == "no-store"
    made = result.json["data"]
    key = made.pop("key")
    assert result.headers["location"] == f"/v1/keys/{made['id']}"
    assert {**asked, "scopes": ["read", "webhooks"]}.items() <= made.items()
    assert key.startswith(made["begins"])
    client.get(PATH, authorization=bearer(key), origin=ORIGIN)
    listed = client.ask("/v1/keys", authorization=admin)
    assert listed.json["data"][-1] == made == client.get(f"/v1/keys/{made['id']}", authorization=admin)["data"]
    assert key not in listed.text
    gone = client.send(f"/v1/keys/{made['id']}", method="DELETE", authorization=admin)
    assert (gone.status_code, gone.text, gone.headers["cache-control"]) == (204, "", "no-store")
    assert client.get(f"/v1/keys/{made['id']}", authorization=admin)["data"]["revoked_at"]
    fresh = make_client(require_api_key=True)
    assert refused(fresh.ask(PATH, authorization=bearer(key), origin=ORIGIN)) == (401, "INVALID_API_KEY")


def test_keys_that_make_no_sense(make_client, make_key):
    client, admin = make_client(), bearer(make_key(scopes=("admin",))[1])
    for body in (
        {}, {"name": ""}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["write"]}, {"name": "x", "rate": 0},
        {"name": "x", "origins": ["*"]}, {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2099-01-01T00:00:00"}, {"name": "x", "key": "gapless_"}, {"name": "a\0b"},
    ):  # fmt: skip
        result = client.send("/v1/keys", body, authorization=admin)
        assert result.status_code == 400, body
        assert result.json["code"] in ("INVALID_PARAMETER", "UNKNOWN_PARAMETER")


def test_keys_are_the_administrators(make_client, make_key):
    client = make_client()
    reader = bearer(make_key()[1])
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/v1/keys/1"), ("DELETE", "/v1/keys/1")):
        assert refused(client.ask(path, method)) == (401, "AUTHENTICATION_REQUIRED")
        assert refused(client.ask(path, method, authorization=reader)) == (403, "INSUFFICIENT_SCOPE")
    admin = bearer(make_key(scopes=("admin",))[1])
    for number in ("77", "x", "-1", "1_0", "٣", "9" * 30):
        for method in ("GET", "DELETE"):
            assert refused(client.ask(f"/v1/keys/{number}", method, authorization=admin)) == (404, "NOT_FOUND")
