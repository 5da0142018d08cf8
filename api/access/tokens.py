"""Tokens: what any must be and say, and those that are made here from keys.

What holds for all of them, of whatever issuer, is RFC 7519; the time is passed in. Those made here (``POST
/v1/auth/token``) live shortly, so that a browser never holds a key: each is a JWT, signed with a secret that all API
processes read from the database. It says less than its key may: the key is looked up with every request, so that a
revoked or expired key takes its tokens along.
"""

import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic, time
from typing import Any, Final

import jwt
import orjson
from jwt.types import Options

from api.access.keys import Keys, invalid
from api.access.principal import Principal
from api.database import Database
from api.errors import ApiError

#: Seconds that the clocks of two machines may differ.
LEEWAY: Final = 5.0
MOST_CHARACTERS: Final = 8192

#: Header ``typ`` of a token that is meant for this (RFC 9068, 2.1); most issuers say ``JWT``, or nothing.
_ACCESS_TYPE: Final = "at+jwt"
#: Claims by which issuers say what a token is, and what they say of access tokens: Keycloak, Cognito.
_KINDS: Final = {"typ": "Bearer", "token_use": "access"}
#: Claims of ID tokens and of logout tokens (OpenID Connect Core 2 and 3.3.2.11, Back-Channel Logout 2.4).
_OF_OTHERS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
#: Claims that access tokens have and ID tokens do not: what was granted, and to which client. RFC 9068, Auth0, Okta,
#: Entra.
_OF_ACCESS: Final = frozenset({"scope", "scp", "client_id", "cid", "appid", "azpacr", "permissions", "gty"})

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")

#: Signature, audience and issuer are PyJWT's to check; times are checked here, against a clock that tests can set.
OPTIONS: Final[Options] = {
    "require": ["iss", "aud", "sub", "exp"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}

ISSUER: Final = "gapless"
AUDIENCE: Final = "gapless-api"
ALGORITHM: Final = "HS256"
LONGEST: Final = 3600
"""Seconds that a token lives at most."""

#: Days for which a secret signs; for an hour and more after them it still proves the tokens that it signed.
_SIGNS_FOR: Final = "30 days"
_PROVES_FOR: Final = "31 days"
#: Seconds between two looks for a secret that is not known: a made-up id must not cost a query each.
_LOOK_EVERY: Final = 1.0
#: Seconds after which the secrets are read again: which is the newest, and which are gone.
_ASK_AGAIN: Final = 300.0

_LOAD: Final = f"""
SELECT json_agg(json_build_object('id', id, 'secret', encode(secret, 'hex'),
                                  'fresh', created_at > now() - interval '{_SIGNS_FOR}') ORDER BY id)
FROM gapless.token_secrets WHERE created_at > now() - interval '{_PROVES_FOR}'
"""
# Two processes may both find that a new secret is needed, and make two: any that is young enough proves.
_RENEW: Final = f"""
WITH gone AS (DELETE FROM gapless.token_secrets WHERE created_at <= now() - interval '{_PROVES_FOR}')
INSERT INTO gapless.token_secrets (secret) SELECT $1
WHERE NOT EXISTS (SELECT FROM gapless.token_secrets WHERE created_at > now() - interval '{_SIGNS_FOR}')
"""


def is_token(text: str) -> bool:
    """Whether a text has the form of a signed token, and is not a key."""
    return len(text) <= MOST_CHARACTERS and _FORM.fullmatch(text) is not None


def unverified(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, of which nothing is proven yet.

    Raises:
        ApiError: INVALID_API_KEY.
    """
    try:
        found = jwt.decode_complete(text, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise invalid("this is no token") from None
    return found["header"], found["payload"]


def proven(
    text: str, keys: Sequence[Any], algorithm: str, *, issuer: str, audience: str, now: float
) -> Mapping[str, Any]:
    """The claims of a token.

    Args:
        text: the token.
        keys: with one of which it must be signed.
        algorithm: how: the one that belongs to the keys, whatever the token says of itself (RFC 8725, 3.1).
        issuer: who must have made it.
        audience: whom it must be for.
        now: seconds since 1970.

    Raises:
        ApiError: TOKEN_EXPIRED, INVALID_API_KEY.
    """
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                text, key, algorithms=[algorithm], issuer=issuer, audience=audience, options=OPTIONS
            )
        except jwt.InvalidAudienceError:
            raise invalid("this token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise invalid("this token is of another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise invalid(f"this token lacks the claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            continue
        _check_times(claims, now)
        return claims
    raise invalid("this token is not signed as it should be")


def require_access_token(header: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse what an issuer signed for another use: ID tokens, refresh tokens, logout tokens, proofs.

    Args:
        header: of the token.
        said: its claims.

    Raises:
        ApiError: INVALID_API_KEY.
    """
    kind = header.get("typ")
    if isinstance(kind, str) and kind.lower().removeprefix("application/") == _ACCESS_TYPE:
        return
    is_any = kind is None or (isinstance(kind, str) and kind.upper() == "JWT")
    told = {name: said[name] for name in _KINDS if name in said}
    if not is_any or any(said[name] != _KINDS[name] for name in told):
        raise invalid("this is no access token: its issuer made it for another use")
    if not told and (said.keys() & _OF_OTHERS or not said.keys() & _OF_ACCESS):
        raise invalid("this is an ID token, or another one that is no access token: send the access token")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, now)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
            raise invalid(f"the claim {name} of this token is no time")
    if now >= claims["exp"] + LEEWAY:
        raise ApiError("TOKEN_EXPIRED", "this token has expired: ask for a new one")
    if max(claims.get("nbf", now), claims.get("iat", now)) > now + LEEWAY:
        raise invalid("this token is not valid yet: do the clocks agree?")


def scopes(value: object) -> frozenset[str]:
    """The scopes of a claim: a string with blanks between them (RFC 8693, 4.2), or a list of strings."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(one for one in value if isinstance(one, str))
    return frozenset()


class Secrets:
    """What tokens are signed with: made at the first use, replaced every month; by the indexer, where one runs, sooner.

    Args:
        database: to read them.
        writes: to make one.
        clock: monotonic, seconds.
    """

    def __init__(self, database: Database, writes: Database, clock: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._writes = writes
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, bytes] = {}
        self._newest: int | None = None
        self._fresh = False
        self._looked = float("-inf")

    def newest(self) -> tuple[int, bytes]:
        """The secret to sign with.

        Raises:
            ApiError: DATABASE_UNAVAILABLE and the like.
        """
        with self._lock:
            if self._newest is None or self._clock() - self._looked > _ASK_AGAIN:
                self._load()
            if not self._fresh:
                self._renew_if_possible()
            assert self._newest is not None
            return self._newest, self._known[self._newest]

    def knows(self, secret_id: int) -> bool:
        """Whether this secret was read already."""
        return secret_id in self._known

    def get(self, secret_id: int) -> bytes | None:
        """The secret of this id, as long as its tokens may live.

        Raises:
            ApiError: DATABASE_UNAVAILABLE and the like.
        """
        if secret_id not in self._known or self._clock() - self._looked > _ASK_AGAIN:
            with self._lock:
                if self._clock() - self._looked >= _LOOK_EVERY:
                    self._load()
        return self._known.get(secret_id)

    def _load(self) -> None:
        rows = orjson.loads(self._database.query(_LOAD)[0][0] or b"[]")
        self._known = {row["id"]: bytes.fromhex(row["secret"]) for row in rows}
        self._newest = max((row["id"] for row in rows), default=None)
        self._fresh = any(row["fresh"] for row in rows)
        self._looked = self._clock()

    def _renew_if_possible(self) -> None:
        """Makes a new secret; where nothing can be written, the newest there is signs on, as long as it proves."""
        try:
            self._renew()
        except ApiError:
            if self._newest is None:
                raise
            return
        self._load()

    def _renew(self) -> None:
        self._writes.query(_RENEW, [secrets.token_bytes(32)])


def make(stored: Secrets, key: Principal, scopes: frozenset[str], seconds: int, origin: str | None, now: float) -> str:
    """A token.

    Args:
        stored: what it is signed with.
        key: from which it is made.
        scopes: what it may do; the key's, or fewer.
        seconds: that it lives.
        origin: the web origin that may use it; None: those of its key.
        now: seconds since 1970.

    Raises:
        ApiError: DATABASE_UNAVAILABLE and the like.
    """
    secret_id, secret = stored.newest()
    body: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(key.key_id),
        "scope": " ".join(sorted(scopes)),
        "iat": int(now),
        "exp": int(now) + seconds,
        "jti": secrets.token_urlsafe(12),
    }
    if origin is not None:
        body["origin"] = origin
    return jwt.encode(body, secret, algorithm=ALGORITHM, headers={"kid": str(secret_id)})


class Tokens:
    """Reads tokens.

    Args:
        stored: what they are signed with.
        keys: what they are made from.
        wall: seconds since 1970.
    """

    def __init__(self, stored: Secrets, keys: Keys, wall: Callable[[], float] = time) -> None:
        self._secrets = stored
        self._keys = keys
        self._wall = wall

    def knows(self, kid: object) -> bool:
        """Whether a token with this key's name is judged without asking the database for that key."""
        return isinstance(kid, str) and _is_id(kid) and self._secrets.knows(int(kid))

    def read(self, text: str, kid: object) -> Principal:
        """Who sent a token.

        Args:
            text: the token.
            kid: which secret it says that it is signed with.

        Raises:
            ApiError: INVALID_API_KEY, TOKEN_EXPIRED; DATABASE_UNAVAILABLE and the like.
        """
        secret = self._secrets.get(int(kid)) if isinstance(kid, str) and _is_id(kid) else None
        if secret is None:
            raise invalid("this token is signed with a secret that is not ours, or no longer")
        said = proven(text, [secret], ALGORITHM, issuer=ISSUER, audience=AUDIENCE, now=self._wall())
        if not _is_id(said["sub"]):
            raise invalid("this token names no key")
        key = self._keys.by_id(int(said["sub"]))
        origin = said.get("origin")
        return replace(
            key,
            scopes=key.scopes & scopes(said.get("scope")),
            origins=frozenset({origin}) if isinstance(origin, str) else key.origins,
            is_key=False,
        )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
