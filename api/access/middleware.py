"""Falcon middleware: lets a request pass or refuses it, before its resource sees it.

Open for reading unless ``REQUIRE_API_KEY`` is set. A key or token that is sent is judged in either case: a
wrong one is refused.
"""

import base64
from collections.abc import Callable
from functools import partial
from time import monotonic, time
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import falcon

from api.access import tokens
from api.access.issuer import Fetch, Issuer, IssuerTokens, fetcher
from api.access.keys import Keys, invalid
from api.access.principal import ANY_KEY, Principal
from api.access.tokens import Secrets, Tokens
from api.context import Context
from api.errors import ApiError
from api.export import Export
from api.limits import ClientAddress, Concurrency, RateLimits
from api.settings import ApiSettings
from indexer.store.access.key_format import PATTERN

#: A token in the URL: for an ``EventSource`` of a browser, which cannot send headers, and for nothing else. URLs are
#: kept in logs and histories, so that only short-lived tokens are taken there, never a key.
TOKEN_PARAMETER: Final = "access_token"  # noqa: S105 - its name

#: Enough for a list of 100 addresses in three filters.
MAX_URL_BYTES: Final = 14_000


def split_token(query_string: str) -> tuple[str | None, str]:
    """The token of a query string, and the query string without it.

    Given twice it is left where it is: the path refuses it like any parameter that it does not know.

    Args:
        query_string: as it was sent.
    """
    parts = query_string.split("&") if query_string else []
    mine = [part for part in parts if part.partition("=")[0] == TOKEN_PARAMETER]
    if len(mine) != 1:
        return None, query_string
    return unquote(mine[0].partition("=")[2]), "&".join(part for part in parts if part is not mine[0])


class Access:
    """Who may ask, and how often.

    Args:
        context: for settings, databases and Redis.
        clock: monotonic, seconds.
        wall: seconds since 1970.
        fetch: gets what an outside issuer publishes.
    """

    def __init__(
        self,
        context: Context,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        fetch: Fetch | None = None,
    ) -> None:
        settings = context.settings
        self._required = settings.require_api_key
        self._rates = {"key": settings.rate_limit_key, "address": settings.rate_limit_address}
        self._clients = ClientAddress(settings.trusted_proxies)
        self._limits = RateLimits(context.cache, clock)
        self._concurrency = Concurrency(settings.api_client_concurrency)
        self._keys = Keys(context.database, clock)
        self._tokens = Tokens(Secrets(context.database, context.writes, clock), self._keys, wall)
        issuer = _issuer(settings)
        self._issuer = None if issuer is None else IssuerTokens(issuer, fetch or fetcher(), clock, wall)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Refuse what is too long to be looked at.

        Raises:
            ApiError: URI_TOO_LONG, RATE_LIMITED.
        """
        if len(req.path) + len(req.query_string) > MAX_URL_BYTES:
            self._count(req, resp)
            raise ApiError("URI_TOO_LONG", f"the URL is longer than {MAX_URL_BYTES} bytes")

    def nowhere(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> NoReturn:
        """A Falcon sink: answers for paths that lead nowhere, which cost the client a request like all others.

        Raises:
            ApiError: RATE_LIMITED.
            falcon.HTTPRouteNotFound: otherwise.
        """
        self._count(req, resp)
        raise falcon.HTTPRouteNotFound

    def process_resource(self, req: falcon.Request, resp: falcon.Response, resource: Any, params: Any) -> None:
        """Judge a request.

        Raises:
            ApiError: AUTHENTICATION_REQUIRED, INVALID_API_KEY, TOKEN_EXPIRED, INSUFFICIENT_SCOPE, ORIGIN_NOT_ALLOWED,
                RATE_LIMITED, OVERLOADED or ISSUER_UNAVAILABLE.
        """
        if not getattr(resource, "counted", True) and req.method in ("GET", "HEAD"):
            return
        scope: str | None = getattr(resource, "scope", None)
        if scope is None or req.method == "OPTIONS":  # a browser asks beforehand without its key
            self._count(req, resp)
            self._enter(req, self._address(req))
            return
        address = self._address(req)
        sent = _of_a_browser(req) if getattr(resource, "is_page", False) else None
        sent = sent or _sent(req, in_query=getattr(resource, "takes_query_token", False))
        req.context.private = self._required or sent is not None
        if sent is None:
            self._take(resp, address, self._rates["address"])
            if self._required or scope != "read":  # only reading is ever open
                raise ApiError("AUTHENTICATION_REQUIRED", "send a key: `Authorization: Bearer gapless_…`")
            self._enter(req, address)
            return
        found = self._judge(resp, sent, address)
        self._take(resp, found.bucket, found.rate or self._rates["key"])
        if scope not in found.scopes and not (scope == ANY_KEY and found.is_key):
            raise ApiError("INSUFFICIENT_SCOPE", _lacks(scope))
        origin = req.get_header("Origin")
        # A program that makes tokens for pages has no origin; the tokens it makes are bound to the key's.
        if found.origins and origin not in found.origins and not (scope == ANY_KEY and origin is None):
            raise ApiError("ORIGIN_NOT_ALLOWED", "this key is for web pages of other origins")
        req.context.principal = found
        self._enter(req, found.bucket)

    def _judge(self, resp: falcon.Response, sent: str, address: str) -> Principal:
        """Who sent a key or a token. Guessing is limited like asking without, and before it costs a query."""
        counted = False
        try:
            known, judge = self._judge_of(sent)
            if not known:
                counted = True
                self._take(resp, address, self._rates["address"])
            return judge()
        except ApiError as error:
            if error.status == 401 and not counted:
                self._take(resp, address, self._rates["address"])
            raise

    def _judge_of(self, sent: str) -> tuple[bool, Callable[[], Principal]]:
        """Whether a key or a token can be judged without asking the database or the issuer, and what judges it.

        Raises:
            ApiError: INVALID_API_KEY: it is no token.
        """
        if not tokens.is_token(sent):
            return self._keys.remembered(sent), partial(self._keys.find, sent)
        header, said = tokens.unverified(sent)
        # What a token says of its maker only chooses who judges it; each judge has keys and algorithms of its own.
        if self._issuer is not None and self._issuer.made(said):
            return self._issuer.knows(header), partial(self._issuer.read, sent, header)
        kid = header.get("kid")
        return self._tokens.knows(kid), partial(self._tokens.read, sent, kid)

    def _address(self, req: falcon.Request) -> str:
        return "address:" + self._clients.of(req.remote_addr, req.get_header("X-Forwarded-For"))

    def _count(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Count a request that no key is needed for, or that was never judged, against its address."""
        self._take(resp, self._address(req), self._rates["address"])

    def _take(self, resp: falcon.Response, bucket: str, rate: int) -> None:
        if not rate:
            return
        taken = self._limits.take(bucket, rate)
        resp.set_headers(taken.headers)
        if not taken.allowed:
            raise ApiError(
                "RATE_LIMITED", f"more than {rate} requests a minute: wait a little", retry_after=taken.retry_after
            )

    def _enter(self, req: falcon.Request, client: str) -> None:
        req.context.client = client
        self._concurrency.enter(client)
        req.context.entered = client

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Keep what needed a key out of caches that others share; let the client's next request in."""
        if getattr(resource, "is_page", False) and resp.status_code == 401:
            # A browser that is asked like this asks its user; of "Bearer" it knows nothing.
            resp.append_header("WWW-Authenticate", 'Basic realm="gapless", charset="UTF-8"')
        control = resp.get_header("Cache-Control")
        if control and getattr(req.context, "private", False):
            resp.set_header("Cache-Control", control.replace("public", "private"))
        if (client := req.context.get("entered")) is None:
            return
        if isinstance(resp.stream, Export):  # its rows are still to be sent
            resp.stream.when_closed(partial(self._concurrency.leave, client))
        else:
            self._concurrency.leave(client)


def _issuer(settings: ApiSettings) -> Issuer | None:
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    return Issuer(
        settings.oidc_issuer, settings.oidc_audience, settings.oidc_scopes_claim, settings.oidc_scopes_prefix or ""
    )


def _lacks(scope: str) -> str:
    if scope == ANY_KEY:
        return "a token is made from a key itself, not from another token"
    return f"this key may not do that: it lacks the scope {scope}"


def _of_a_browser(request: falcon.Request) -> str | None:
    """The key that a person gave a browser as password (RFC 7617).

    For pages only: a browser sends it by itself from then on, also when another site makes it ask, so it must open
    nothing that acts.
    """
    scheme, _, encoded = (request.get_header("Authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return password if colon and (tokens.is_token(password) or PATTERN.fullmatch(password)) else None


def _sent(request: falcon.Request, *, in_query: bool) -> str | None:
    """The key or token of a request. Other kinds of ``Authorization`` are for others, such as a proxy."""
    scheme, _, token = (request.get_header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return str(token.strip())
    key: str | None = request.get_header("X-API-Key")
    if key is not None or not in_query:
        return key
    found, rest = split_token(request.query_string)
    if found is None:
        return None
    request.query_string = rest
    if not tokens.is_token(found):
        raise invalid("access_token takes a token, never a key: URLs are kept in logs")
    return found
