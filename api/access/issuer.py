"""Tokens of an outside issuer (OpenID Connect): who made them, whom they are for, what they allow.

The issuer's keys are those that its discovery document names (OpenID Connect Discovery 1.0, 4). They are kept, and read
again when a token names another one, as it does after the issuer has changed its keys: not more often than every ten
seconds, because a made-up name costs nothing to send, and counts against the address that sends it. While the issuer
does not answer, the keys that are known go on proving, and only what they cannot prove is answered with 503: whether it
is wrong is not known. It is asked less and less often then.
"""

import http.client
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic, time
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import orjson

from api.access import tokens
from api.access.keys import invalid
from api.access.principal import Principal
from api.errors import ApiError
from api.outbound import Destination, exchange
from api.webhooks.targets import system_resolver
from indexer.store.access.key_format import SCOPES

log = logging.getLogger(__name__)

#: Asymmetric ones only: with HS256 the issuer's public key would be enough to sign.
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")

#: Seconds for one question to the issuer, and for a request to wait for another one's.
TIMEOUT: Final = 3.0
WAIT: Final = 1.0
#: Seconds after which keys are read again, so that one that the issuer took back is not believed for ever.
FRESH: Final = 3600.0
#: Seconds between two looks for a key that is not known.
LOOK_EVERY: Final = 10.0
#: Seconds before an issuer that did not answer is asked again: twice as long after each further failure, up to most.
PAUSE: Final = 5.0
MOST_PAUSE: Final = 60.0
_MOST_BYTES: Final = 1_000_000
#: Fewer are weak, and more cost more than a request may.
_RSA_BITS: Final = range(2048, 16385)
#: Keys of an issuer that are kept, and of one name that are tried.
_MOST_KEYS: Final = 1000
_MOST_TRIED: Final = 8

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
        scopes_prefix: what stands before our scopes there; scopes without it belong to other services.
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
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._read = float("-inf")
        self._failures = 0
        self._failed = float("-inf")

    def find(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """The keys that may have signed, as far as they are known: by name, those without one, or all without a name.

        One name may belong to several (RFC 7517, 4.5), and whose is the right one the signature alone tells.
        """
        found = [
            key
            for key in self._keys
            if key.algorithm_name == algorithm and (kid is None or key.key_id is None or key.key_id == kid)
        ]
        return sorted(found, key=lambda key: key.key_id is None)[:_MOST_TRIED]

    def get(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """The keys that may have signed; asks the issuer where none is known, or where they were read long ago.

        Raises:
            ApiError: INVALID_API_KEY: there is none; ISSUER_UNAVAILABLE: the issuer does not answer.
        """
        found = self.find(kid, algorithm)
        if self._is_due(bool(found)):
            # One thread asks. The others go on with what they have, and wait a little only where that is nothing.
            if self._lock.acquire(timeout=0 if self._keys else WAIT):
                try:
                    if self._is_due(bool(self.find(kid, algorithm))):
                        self._renew()
                finally:
                    self._lock.release()
            elif not found:
                raise _unavailable()
            found = self.find(kid, algorithm)
        if not found and self._failures:
            raise _unavailable()
        if not found:
            raise invalid("this token is signed with a key that its issuer does not have")
        return found

    def _is_due(self, found: bool) -> bool:
        now = self._clock()
        pause = min(MOST_PAUSE, PAUSE * 2 ** max(0, self._failures - 1))
        return now - self._read > (FRESH if found else LOOK_EVERY) and now - self._failed > pause

    def _renew(self) -> None:
        try:
            self._keys = _keys_of(self._document(), self._fetch)
        except Exception as error:  # noqa: BLE001 - whatever it sends, it is a failure of the issuer
            self._failures += 1
            self._failed = self._clock()
            why = error if isinstance(error, FetchError) else type(error).__name__
            log.warning("the issuer's keys cannot be read, trying again later: %s", why)
        else:
            self._failures = 0
            self._read = self._clock()

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

    def knows(self, header: Mapping[str, Any]) -> bool:
        """Whether a token with this header is judged without asking the issuer for its keys."""
        kid, algorithm = header.get("kid"), header.get("alg")
        return (kid is None or isinstance(kid, str)) and bool(self._keys.find(kid, str(algorithm)))

    def read(self, text: str, header: Mapping[str, Any]) -> Principal:
        """Who sent a token.

        Args:
            text: the token.
            header: its header, of which nothing is proven yet.

        Raises:
            ApiError: INVALID_API_KEY, TOKEN_EXPIRED, ISSUER_UNAVAILABLE.
        """
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise invalid(f"this token is not signed with {', '.join(ALGORITHMS[:-1])} or {ALGORITHMS[-1]}")
        kid = header.get("kid")
        if not (kid is None or isinstance(kid, str)):
            raise invalid("the kid of this token is no string")
        keys = [key.key for key in self._keys.get(kid, algorithm)]
        issuer = self._issuer
        said = tokens.proven(text, keys, algorithm, issuer=issuer.url, audience=issuer.audience, now=self._wall())
        tokens.require_access_token(header, said)
        prefix = issuer.scopes_prefix
        given = tokens.scopes(said.get(issuer.scopes_claim))
        subject = sha256(f"{issuer.url} {said['sub']}".encode()).hexdigest()[:24]
        return Principal(
            name="issuer's " + "".join(c for c in said["sub"][:100] if c.isprintable()),
            bucket=f"issuer:{subject}",
            scopes=frozenset(SCOPES) & {one.removeprefix(prefix) for one in given if one.startswith(prefix)},
            origins=frozenset(),
            rate=None,
        )


def fetcher() -> Fetch:
    """What gets a URL of the issuer: within a time, up to a size, and without following redirects to elsewhere."""
    tls = ssl.create_default_context()

    def fetch(url: str) -> bytes:
        host: str | None = None
        try:
            parts = urlsplit(url)
            host, secure = parts.hostname, parts.scheme == "https"
            if host is None or parts.username is not None:
                raise FetchError("it names a URL without a host, or with a password")
            port = parts.port or (443 if secure else 80)
            destination = Destination(system_resolver(host, port), host, port, tls if secure else None)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Host": parts.netloc, "Accept": "application/json", "Connection": "close"}
            answer = exchange(destination, "GET", path, headers, timeout=TIMEOUT, most=_MOST_BYTES + 1)
        except (http.client.HTTPException, ValueError, OSError) as error:
            raise FetchError(f"{host}: {type(error).__name__}") from None
        if answer.status != 200:
            raise FetchError(f"{host} answers with {answer.status}")
        if not answer.whole:
            raise FetchError(f"{host} does not end its answer")
        if len(answer.body) > _MOST_BYTES:
            raise FetchError(f"{host} answers with more than {_MOST_BYTES} bytes")
        return answer.body

    return fetch


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise FetchError("it answers with something else than a JSON object")
    return found


def _keys_of(document: Mapping[str, Any], fetch: Fetch) -> tuple[jwt.PyJWK, ...]:
    """The keys that can prove tokens (RFC 7517); others of the set are passed over."""
    url, issuer = document.get("jwks_uri"), str(document["issuer"])
    # Keys that come in clear could be forged on the way: http only for an issuer that is itself reached over http.
    if not isinstance(url, str) or not url.startswith(("https://", "http://")[: 1 + issuer.startswith("http://")]):
        raise FetchError("its discovery document names no jwks_uri with https")
    listed = _object(fetch(url)).get("keys")
    if not isinstance(listed, list):
        raise FetchError("its set of keys has no list of keys")
    found = (_key(one) for one in listed[:_MOST_KEYS])
    return tuple(key for key in found if key is not None)


def _key(given: object) -> jwt.PyJWK | None:
    """A key that can prove tokens; None: it is another kind of key, or not understood."""
    if not isinstance(given, dict) or given.get("use", "sig") != "sig" or given.get("kty") == "oct":
        return None
    if not isinstance(given.get("kid"), str | None) or not isinstance(given.get("alg"), str | None):
        return None
    try:
        key = jwt.PyJWK(given)
    except Exception as error:  # noqa: BLE001 - one odd key must not take the others along
        log.debug("the issuer has a key that is not understood: %s", type(error).__name__)
        return None
    if key.algorithm_name not in ALGORITHMS or not hasattr(key.key, "verify"):
        return None
    if key.algorithm_name == "RS256" and key.key.key_size not in _RSA_BITS:
        return None
    return key
