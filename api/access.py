"""Who may ask: API keys, what they may do, and how often.

Open for reading unless ``REQUIRE_API_KEY`` is set. A key that is sent is judged in either case: whoever sends a wrong
one is told so.
"""

import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import falcon
import orjson

from api.context import Context
from api.database import Database
from api.errors import ApiError
from api.limits import ClientAddress, RateLimits
from indexer.store.key_format import PATTERN, digest

#: Seconds for which a key is believed to be as it was: a revoked one is refused after them at the latest.
KEPT: Final = 5.0
_MOST_KEPT: Final = 10_000

_FIND: Final = """
SELECT json_build_object('id', id, 'hash', encode(hash, 'hex'), 'scopes', scopes, 'origins', origins, 'rate', rate,
    'revoked', revoked_at IS NOT NULL, 'expires_in', extract(epoch FROM expires_at - now())::float8)
FROM gapless.api_keys WHERE hash = $1
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it was found.

    Attributes:
        rate: requests a minute; None: as the settings say.
        ends: the moment on our clock at which it expires, or None.
    """

    key_id: int
    scopes: frozenset[str]
    origins: frozenset[str]
    rate: int | None
    revoked: bool
    ends: float | None


class Keys:
    """Finds keys, and remembers them for some seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[bytes, tuple[float, Key | None]] = {}

    def remembered(self, text: str) -> bool:
        """Whether the key can be judged without asking the database."""
        kept = self._kept.get(digest(text))
        return kept is not None and self._clock() - kept[0] <= KEPT

    def find(self, text: str) -> Key:
        """The key that a request sent.

        Raises:
            ApiError: INVALID_API_KEY, TOKEN_EXPIRED; DATABASE_UNAVAILABLE and the like.
        """
        if not PATTERN.fullmatch(text):
            raise _invalid()
        hashed, now = digest(text), self._clock()
        kept = self._kept.get(hashed)
        if kept is None or now - kept[0] > KEPT:
            kept = (now, self._ask(hashed, now))
            with self._lock:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[hashed] = kept
        key = kept[1]
        if key is None or key.revoked:
            raise _invalid()
        if key.ends is not None and now >= key.ends:
            raise ApiError("TOKEN_EXPIRED", "this key has expired: ask for a new one")
        return key

    def _ask(self, hashed: bytes, now: float) -> Key | None:
        rows = self._database.query(_FIND, [hashed])
        if not rows:
            return None
        found = orjson.loads(rows[0][0] or b"{}")
        if not hmac.compare_digest(bytes.fromhex(found["hash"]), hashed):
            return None
        return Key(
            key_id=found["id"],
            scopes=frozenset(found["scopes"]),
            origins=frozenset(found["origins"]),
            rate=found["rate"],
            revoked=found["revoked"],
            ends=None if found["expires_in"] is None else now + found["expires_in"],
        )


def _invalid() -> ApiError:
    return ApiError("INVALID_API_KEY", "this is no valid API key")


class Access:
    """Falcon middleware: lets a request pass or refuses it, before its resource sees it.

    Args:
        context: for settings, database and Redis.
        clock: seconds.
    """

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        settings = context.settings
        self._required = settings.require_api_key
        self._rates = {"key": settings.rate_limit_key, "address": settings.rate_limit_address}
        self._clients = ClientAddress(settings.trusted_proxies)
        self._keys = Keys(context.database, clock)
        self._limits = RateLimits(context.cache, clock)

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: Any, params: Any) -> None:
        """Judge a request.

        Raises:
            ApiError: AUTHENTICATION_REQUIRED, INVALID_API_KEY, TOKEN_EXPIRED, INSUFFICIENT_SCOPE, ORIGIN_NOT_ALLOWED or
                RATE_LIMITED.
        """
        scope: str | None = getattr(resource, "scope", None)
        if scope is None or req.method == "OPTIONS":  # a browser asks beforehand without its key
            return
        sent = _sent(req)
        req.context.private = self._required or sent is not None
        if sent is None:
            self._take(req, resp, None)
            if self._required or scope != "read":  # only reading is ever open
                raise ApiError("AUTHENTICATION_REQUIRED", "send a key: `Authorization: Bearer gapless_…`")
            return
        counted = not self._keys.remembered(sent)
        if counted:
            # Guessing is limited like asking without a key, and before it costs a query.
            self._take(req, resp, None)
        try:
            key = self._keys.find(sent)
        except ApiError as error:
            if error.status == 401 and not counted:
                self._take(req, resp, None)
            raise
        self._take(req, resp, key)
        if scope not in key.scopes:
            raise ApiError("INSUFFICIENT_SCOPE", f"this key may not do that: it lacks the scope {scope}")
        if key.origins and req.get_header("Origin") not in key.origins:
            raise ApiError("ORIGIN_NOT_ALLOWED", "this key is for web pages of other origins")
        req.context.key_id = key.key_id

    def _take(self, req: falcon.Request, resp: falcon.Response, key: Key | None) -> None:
        rate = self._rates["address"] if key is None else key.rate or self._rates["key"]
        if not rate:
            return
        if key is None:
            bucket = "address:" + self._clients.of(req.remote_addr, req.get_header("X-Forwarded-For"))
        else:
            bucket = f"key:{key.key_id}"
        taken = self._limits.take(bucket, rate)
        resp.set_headers(taken.headers)
        if not taken.allowed:
            raise ApiError(
                "RATE_LIMITED", f"more than {rate} requests a minute: wait a little", retry_after=taken.retry_after
            )

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Keep what needed a key out of caches that others share."""
        control = resp.get_header("Cache-Control")
        if control and getattr(req.context, "private", False):
            resp.set_header("Cache-Control", control.replace("public", "private"))


def _sent(request: falcon.Request) -> str | None:
    """The key of a request. Other kinds of ``Authorization`` are somebody else's, such as a proxy's."""
    scheme, _, token = (request.get_header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return str(token.strip())
    return request.get_header("X-API-Key")
