"""Which web pages may read the API: cross-origin resource sharing."""

from collections.abc import Collection
from typing import Any, Final

import falcon

EXPOSED: Final = (
    "ETag, Link, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, X-Complete, X-Indexed-Block, X-At-Block, "
    "X-Exact"
)
ALLOWED_HEADERS: Final = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-API-Key, X-Request-Id"
PREFLIGHT_SECONDS: Final = 86400


class Cors:
    """Falcon middleware.

    Args:
        origins: those allowed, ``*`` for all. No answer ever allows credentials: the API knows no cookies.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """What lets a page read an answer; nothing if it may not. Refusals too: else it is told of a broken network.

        Args:
            origin: of the page, the request's ``Origin``.
        """
        if not origin or not (self._any or origin in self._origins):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if self._any else origin,
            "Access-Control-Expose-Headers": EXPOSED,
        }

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Name the origin that may read this answer, and answer preflight requests."""
        named = self.headers(req.get_header("Origin"))
        if not named:
            return
        resp.set_headers(named)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            allowed = resp.get_header("Allow") or "GET, HEAD, OPTIONS"
            resp.set_header("Access-Control-Allow-Methods", allowed)
            resp.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
            resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))
