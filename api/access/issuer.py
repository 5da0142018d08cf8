"""Tokens of an outside issuer (OpenID Connect): who made them, whom they are for, what they allow.

The issuer's keys are those that its discovery document names (OpenID Connect Discovery 1.0, 4). They are kept, and read
again when a token names another one, as it does after the issuer has changed its keys: not more often than every ten
seconds, because a made-up name costs nothing to send. While the issuer does not answer, the keys that are known go on
proving, and only what they cannot prove is answered with 503: nobody knows whether it is wrong.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic, time
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import orjson
import urllib3

from api.access import claims
from api.access.keys import invalid
from api.access.principal import Principal
from api.errors import ApiError
from indexer.store.access.key_format import SCOPES

log = logging.getLogger(__name__)

#: Asymmetric ones only: with HS256 whoever knows the issuer's public key could sign.
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")

#: Seconds for one question to the issuer, and for a request to wait for another one's.
TIMEOUT: Final = 3.0
WAIT: Final = 1.0
#: Seconds after which keys are read again, so that one that the issuer took back is not believed for ever.
FRESH: Final = 3600.0
#: Seconds between two looks for a key that is not known.
LOOK_EVERY: Final = 10.0
#: Seconds before an issuer that did not answer is asked again.
PAUSE: Final = 5.0
_MOST_BYTES: Final = 1_000_000
_LEAST_RSA_BITS: Final = 2048

Fetch = Callable[[str], bytes]


class FetchError(Exception):
    """The issuer did not answer, or not with what it should."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Which tokens are believed.

    Attributes:
        url: who must have made them: the claim ``iss``, to the letter.
        audience: whom they must be for: the claim ``aud``.
        scopes_claim: which claim has the scopes.
        scopes_prefix: what stands before our scopes there; others are somebody else's.
    """

    url: str
    audience: str
    scopes_claim: str
    scopes_prefix: str


class IssuerKeys:
    """The keys of an issuer.

    Args:
        url: the issuer.
        fetch: gets the body of a URL; raises FetchError.
        clock: monotonic, seconds.
    """

    def __init__(self, url: str, fetch: Fetch, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._read = float("-inf")
        self._failed = float("-inf")

    def get(self, kid: str | None) -> jwt.PyJWK:
        """The key of this name; without a name, the only one there is.

        Raises:
            ApiError: INVALID_API_KEY: there is none; ISSUER_UNAVAILABLE: nobody knows.
        """
        found = self._find(kid)
        if self._is_due(found):
            # One thread asks. The others go on with what they have, and do not wait for long if they have nothing.
            if self._lock.acquire(timeout=WAIT if found is None else 0):
                try:
                    self._renew(kid)
                finally:
                    self._lock.release()
            elif found is None:
                raise _unavailable()
            found = self._find(kid)
        if found is None and self._failed > self._read:
            raise _unavailable()
        if found is None:
            raise invalid("this token is signed with a key that its issuer does not have")
        return found

    def _is_due(self, found: jwt.PyJWK | None) -> bool:
        now = self._clock()
        return now - self._read > (LOOK_EVERY if found is None else FRESH) and now - self._failed > PAUSE

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        keys = self._keys
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(kid) or keys.get(None)

    def _renew(self, kid: str | None) -> None:
        if not self._is_due(self._find(kid)):
            return  # somebody else has just asked
        try:
            self._keys = _keys_of(self._document(), self._fetch)
            self._read = self._clock()
        except FetchError as error:
            self._failed = self._clock()
            log.warning("the issuer's keys cannot be read: %s", error)

    def _document(self) -> Mapping[str, Any]:
        found = _object(self._fetch(self._url.rstrip("/") + "/.well-known/openid-configuration"))
        if found.get("issuer") != self._url:
            raise FetchError("its discovery document is that of another issuer")
        return found


def _unavailable() -> ApiError:
    return ApiError("ISSUER_UNAVAILABLE", "the issuer of this token does not answer: try again", retry_after=5)


class IssuerTokens:
    """Reads tokens of an outside issuer.

    Args:
        issuer: whose, and which.
        fetch: gets the body of a URL; raises FetchError.
        clock: monotonic, seconds.
        wall: seconds since 1970.
    """

    def __init__(
        self, issuer: Issuer, fetch: Fetch, clock: Callable[[], float] = monotonic, wall: Callable[[], float] = time
    ) -> None:
        self._issuer = issuer
        self._keys = IssuerKeys(issuer.url, fetch, clock)
        self._wall = wall

    def made(self, said: Mapping[str, Any]) -> bool:
        """Whether a token says of itself that it is the issuer's."""
        return said.get("iss") == self._issuer.url

    def read(self, text: str, header: Mapping[str, Any]) -> Principal:
        """Who sent a token.

        Args:
            text: the token.
            header: its header, of which nothing is proven yet.

        Raises:
            ApiError: INVALID_API_KEY, TOKEN_EXPIRED, ISSUER_UNAVAILABLE.
        """
        if header.get("alg") not in ALGORITHMS:
            raise invalid(f"this token is not signed with {', '.join(ALGORITHMS[:-1])} or {ALGORITHMS[-1]}")
        kid = header.get("kid")
        if not (kid is None or isinstance(kid, str)):
            raise invalid("the kid of this token is no string")
        key = self._keys.get(kid)
        issuer = self._issuer
        said = claims.proven(
            text, key.key, key.algorithm_name, issuer=issuer.url, audience=issuer.audience, now=self._wall()
        )
        prefix = issuer.scopes_prefix
        given = claims.scopes(said.get(issuer.scopes_claim))
        subject = sha256(f"{issuer.url} {said['sub']}".encode()).hexdigest()[:24]
        return Principal(
            name="issuer's " + "".join(c for c in said["sub"][:100] if c.isprintable()),
            bucket=f"issuer:{subject}",
            scopes=frozenset(SCOPES) & {one.removeprefix(prefix) for one in given if one.startswith(prefix)},
            origins=frozenset(),
            rate=None,
        )


def fetcher() -> Fetch:
    """What gets a URL of the issuer: with a time-out, a limit, and without following redirects to elsewhere."""
    pool = urllib3.PoolManager(num_pools=2, retries=False, timeout=urllib3.Timeout(total=TIMEOUT))

    def fetch(url: str) -> bytes:
        where = urlsplit(url).netloc
        try:
            with pool.request("GET", url, headers={"Accept": "application/json"}, preload_content=False) as answer:
                if answer.status != 200:
                    raise FetchError(f"{where} answers with {answer.status}")
                body: bytes = answer.read(_MOST_BYTES + 1)
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise FetchError(f"{where}: {type(error).__name__}") from None
        if len(body) > _MOST_BYTES:
            raise FetchError(f"{where} answers with more than {_MOST_BYTES} bytes")
        return body

    return fetch


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise FetchError("it answers with something else than a JSON object")
    return found


def _keys_of(document: Mapping[str, Any], fetch: Fetch) -> dict[str | None, jwt.PyJWK]:
    """The keys that can prove tokens, by name (RFC 7517); others of the set are passed over."""
    url, issuer = document.get("jwks_uri"), str(document["issuer"])
    # Keys that come over an open line could be anybody's; only an issuer that is itself reached so may have them so.
    if not isinstance(url, str) or not url.startswith(("https://", "http://")[: 1 + issuer.startswith("http://")]):
        raise FetchError("its discovery document names no jwks_uri with https")
    listed = _object(fetch(url)).get("keys")
    found: dict[str | None, jwt.PyJWK] = {}
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
            continue
        try:
            key = jwt.PyJWK(one)
        except Exception as error:  # noqa: BLE001 - one odd key must not take the others along
            log.debug("the issuer has a key that is not understood: %s", type(error).__name__)
            continue
        if key.algorithm_name in ALGORITHMS and getattr(key.key, "key_size", _LEAST_RSA_BITS) >= _least(key):
            found[key.key_id] = key
    return found


def _least(key: jwt.PyJWK) -> int:
    return _LEAST_RSA_BITS if key.algorithm_name == "RS256" else 0
