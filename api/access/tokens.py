"""Short-lived tokens made from keys (``POST /v1/auth/token``), so that a browser never holds a key.

A token is a JWT, signed with a secret that all API processes read from the database. It says less than its key may: the
key is looked up with every request, so that a revoked or expired key takes its tokens along.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, time
from typing import Final

import jwt
import orjson

from api.access import claims
from api.access.keys import Keys, invalid
from api.access.principal import Principal
from api.database import Database
from api.errors import ApiError

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
        said = claims.proven(text, [secret], ALGORITHM, issuer=ISSUER, audience=AUDIENCE, now=self._wall())
        if not _is_id(said["sub"]):
            raise invalid("this token names no key")
        key = self._keys.by_id(int(said["sub"]))
        origin = said.get("origin")
        return replace(
            key,
            scopes=key.scopes & claims.scopes(said.get("scope")),
            origins=frozenset({origin}) if isinstance(origin, str) else key.origins,
            is_key=False,
        )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
