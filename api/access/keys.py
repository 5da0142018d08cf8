"""API keys: found in the database by their hash, and believed for some seconds."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import orjson

from api.access.principal import Principal
from api.bounded_cache import BoundedCache
from api.database import Database
from api.errors import ApiError
from indexer.store.access.key_format import PATTERN, digest

#: Seconds for which a key is believed to be as it was: a revoked one, and its tokens, are refused after them at most.
KEPT: Final = 5.0
#: Bytes of keys that are remembered, valid or not.
_MOST_BYTES: Final = 8 * 2**20

_FIND: Final = """
SELECT json_build_object('id', id, 'hash', encode(hash, 'hex'), 'scopes', scopes, 'origins', origins, 'rate', rate,
    'revoked', revoked_at IS NOT NULL, 'expires_in', extract(epoch FROM
        greatest(least(expires_at, now() + interval '100 years'), now() - interval '100 years') - now())::float8)
FROM gapless.api_keys
"""
_BY_HASH: Final = _FIND + "WHERE hash = $1"
_BY_ID: Final = _FIND + "WHERE id = $1"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A key as it was found; ``principal`` is None where there is none."""

    at: float
    principal: Principal | None = None
    revoked: bool = False


class Keys:
    """Finds keys, and remembers them for some seconds.

    Args:
        database: where they are.
        clock: monotonic, seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._clock = clock
        self._kept: BoundedCache[bytes | int, _Kept] = BoundedCache(_MOST_BYTES)

    def remembered(self, text: str) -> bool:
        """Whether the key can be judged without asking the database."""
        kept = self._kept.get(digest(text))
        return kept is not None and self._clock() - kept.at <= KEPT

    def find(self, text: str) -> Principal:
        """The key that a request sent.

        Raises:
            ApiError: INVALID_API_KEY, TOKEN_EXPIRED; DATABASE_UNAVAILABLE and the like.
        """
        if not PATTERN.fullmatch(text):
            raise invalid()
        return self._judged(digest(text))

    def by_id(self, key_id: int) -> Principal:
        """The key that a token was made from.

        Raises:
            ApiError: as :meth:`find`.
        """
        return self._judged(key_id)

    def _judged(self, wanted: bytes | int) -> Principal:
        now = self._clock()
        kept = self._kept.get(wanted)
        if kept is None or now - kept.at > KEPT:
            kept = self._ask(wanted, now)
            self._kept.put(wanted, kept)
        key = kept.principal
        if key is None or kept.revoked:
            raise invalid()
        if key.ends is not None and now >= key.ends:
            raise ApiError("TOKEN_EXPIRED", "this key has expired: ask for a new one")
        return key

    def _ask(self, wanted: bytes | int, now: float) -> _Kept:
        rows = self._database.query(_BY_HASH if isinstance(wanted, bytes) else _BY_ID, [wanted])
        if not rows:
            return _Kept(now)
        found = orjson.loads(rows[0][0] or b"{}")
        if isinstance(wanted, bytes) and not hmac.compare_digest(bytes.fromhex(found["hash"]), wanted):
            return _Kept(now)
        key = Principal(
            name=f"key {found['id']}",
            bucket=f"key:{found['id']}",
            scopes=frozenset(found["scopes"]),
            origins=frozenset(found["origins"]),
            rate=found["rate"],
            key_id=found["id"],
            is_key=True,
            ends=None if found["expires_in"] is None else now + found["expires_in"],
        )
        return _Kept(now, key, found["revoked"])


def invalid(why: str = "this is no valid API key") -> ApiError:
    """The refusal of a key or a token that is none."""
    return ApiError("INVALID_API_KEY", why)
