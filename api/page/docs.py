"""The interactive page for the OpenAPI document: Swagger UI, served from here."""

from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

_FILES: Final = Path(__file__).parent / "swagger"
_TYPES: Final = {"start.js": "text/javascript", "swagger-ui-bundle.js": "text/javascript", "start.css": "text/css",
                 "swagger-ui.css": "text/css"}  # fmt: skip

#: Scripts from this server alone, none inline; requests to this server alone. Swagger UI's icons are data URLs.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' data:; connect-src 'self'"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page."""

    body: bytes
    media_type: str
    etag: str


def asset(name: str) -> Asset | None:
    """A file by its name; None if it is not one of those that the page needs."""
    return _asset(name) if name in _TYPES else None


@cache
def _asset(name: str) -> Asset:
    body = (_FILES / name).read_bytes()
    tag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
    return Asset(body, f"{_TYPES[name]}; charset=utf-8", tag)


@cache
def page() -> bytes:
    """The page, which is the same everywhere."""
    return Path(__file__).with_name("docs.html").read_bytes()
