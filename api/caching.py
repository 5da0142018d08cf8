"""What clients and proxies may keep: entity tags, conditional requests, Cache-Control; and gzip for who takes it."""

import re
import zlib
from typing import Any, Final

import falcon

VARY: Final = "Origin, Accept, Accept-Encoding"
SETTLED: Final = "max-age=300, stale-while-revalidate=3600"

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')

#: Below this, headers and checksums eat what is saved.
MIN_BYTES: Final = 1400
#: Level 6 is a third of level 1's speed for a tenth fewer bytes.
LEVEL: Final = 1

_QVALUE: Final = re.compile(r";\s*q\s*=\s*([0-9.]+)", re.IGNORECASE)


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


def accepts_gzip(header: str | None) -> bool:
    """Whether an ``Accept-Encoding`` header allows gzip (RFC 9110, 12.5.3)."""
    verdict = False
    for part in (header or "").split(","):
        coding = part.partition(";")[0].strip().lower()
        if coding in ("gzip", "x-gzip", "*"):
            weight = _QVALUE.search(part)
            allowed = weight is None or weight[1].strip("0.") != ""
            if coding != "*":
                return allowed
            verdict = allowed
    return verdict


class Compression:
    """Falcon middleware: compresses answers that are in memory; streams do it themselves."""

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Compress the body where that is wanted and pays."""
        data = resp.data
        if data is None or len(data) < MIN_BYTES or not accepts_gzip(req.get_header("Accept-Encoding")):
            return
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
        resp.data = compressor.compress(data) + compressor.flush()
        resp.set_header("Content-Encoding", "gzip")
