"""What an API key looks like, what it may be allowed, and what is kept of it: light, for the API."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

PATTERN: Final = re.compile(r"gapless_[A-Za-z0-9_-]{43}")
"""The beginning lets scanners of leaked secrets know it."""

SCOPES: Final = ("read", "webhooks", "admin")
#: Days that a key may live, unless it never ends: far more would be a time that few programs can read.
MOST_DAYS: Final = 36_500
_SHOWN: Final = len("gapless_") + 6


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made.

    Attributes:
        text: the key itself, to be shown this once.
        hash: what is kept of it.
        prefix: its first characters, to recognise it by.
    """

    text: str
    hash: bytes
    prefix: str


def new_key(random_bytes: Callable[[int], str] = secrets.token_urlsafe) -> NewKey:
    """A key.

    Args:
        random_bytes: makes so many random bytes, as URL-safe text.
    """
    text = "gapless_" + random_bytes(32)
    return NewKey(text, digest(text), text[:_SHOWN])


def digest(key: str) -> bytes:
    """What is kept of a key."""
    return sha256(key.encode()).digest()


def is_origin(text: str) -> bool:
    """Whether a text is a web origin as browsers send it: scheme, host and port alone, in lower case."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and parts.hostname is not None
        and "@" not in parts.netloc
        and text == f"{parts.scheme}://{parts.netloc}".lower()
    )
