"""What clients and proxies may keep: entity tags, conditional requests, Cache-Control."""

import re
from typing import Final

import falcon

VARY: Final = "Origin, Accept, Accept-Encoding"
SETTLED: Final = "max-age=300, stale-while-revalidate=3600"

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


def not_modified(request: falcon.Request, etag: str) -> bool:
    """Whether the client has this answer already (``If-None-Match``, weak comparison of RFC 9110, 8.8.3.2)."""
    header = request.get_header("If-None-Match")
    if not header:
        return False
    return header.strip() == "*" or etag.removeprefix("W/") in _TAG.findall(header)


def answer_not_modified(response: falcon.Response, etag: str, cache_control: str) -> None:
    """Make 304 the response."""
    response.status = falcon.HTTP_304
    describe(response, etag, cache_control)


def describe(response: falcon.Response, etag: str, cache_control: str) -> None:
    """Set the headers that say how long an answer may be kept."""
    response.set_header("ETag", etag)
    response.set_header("Cache-Control", cache_control)


def cache_control(*, settled: bool, block_seconds: float | None) -> str:
    """How long an answer may be kept.

    Args:
        settled: nothing but a rewrite can change it. Even so it is not immutable: backfills and re-decoding happen.
        block_seconds: time between the chain's blocks; any other answer may be kept for half of it.
    """
    return "public, " + (SETTLED if settled else f"max-age={int((block_seconds or 0) / 2)}")
