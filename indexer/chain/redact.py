"""Keys in text that others wrote: what :mod:`indexer.redact` cannot know by its shape, known by its value.

A node may quote our own key back at us ("invalid key abc…"), and urllib3 logs the path of every request.
"""

import logging
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from indexer.redact import redact

# Shorter path segments are words such as "v2" or "mainnet", not keys.
_SHORTEST_SECRET = 8


class Redactor:
    """Takes every URL, and the secret parts of some URLs wherever they stand alone, out of text.

    Args:
        urls: whole URLs, keys included.
        secrets: other texts that must not be shown (the values of HTTP headers).
    """

    def __init__(self, urls: Iterable[str], secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if secret}
        for url in urls:
            known |= _secret_parts(url)
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def text(self, text: str) -> str:
        """The text with every URL cut to its host and every known secret replaced by ``***``."""
        text = redact(text)
        return self._known.sub("***", text) if self._known else text


class RedactingFilter(logging.Filter):
    """Redacts the records of a logger that is not ours, whatever handlers stand behind it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; never drops it."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True


def _secret_parts(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    pieces = [*parts.path.split("/"), *re.split(r"[&=]", parts.query), parts.username or "", parts.password or ""]
    secrets = {piece for piece in pieces if len(piece) >= _SHORTEST_SECRET}
    secrets |= {unquote(piece) for piece in secrets}
    return secrets | ({parts.password} if parts.password else set())
