"""What may be shown of a URL, its scheme and its host, and of text that others wrote.

Endpoint URLs carry keys (in the path, the query, or as a user and password), and the URLs of Postgres and Redis carry
passwords. Everything that leaves the program for a person's eyes passes through here: log lines, errors, tracebacks.
:func:`redact` knows secrets by their shape. :class:`Redactor` knows some by their value too: a node may quote our own
key back at us ("invalid key abc…"), and urllib3 logs the path of every request.
"""

import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_SCHEMES = r"(?:https?|wss?|postgres(?:ql)?(?:\+\w+)?|rediss?|unix|tcp|ipc)"
_URL = re.compile(rf"\b({_SCHEMES})://([^\s\"'<>`|]*)", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_FILE = re.compile(r"[A-Za-z0-9._-]+")
# A URL's end in running text is not part of it: "see https://host/path." or "(https://host/path)".
_TRAILING = ".,;:!)]}\\"

# Where other libraries take a URL apart before they print it, the key stands alone.
_FOREIGN = (
    (re.compile(r"(with url: )\S+"), r"\1/***"),  # urllib3.exceptions.MaxRetryError
    (re.compile(r"(https?://\S+ \"[A-Z]+ )\S+( HTTP/)"), r"\1/***\2"),  # urllib3.connectionpool at DEBUG
    (re.compile(r"(\bpassword\s*=\s*)('[^']*'|\S+)", re.IGNORECASE), r"\1***"),  # a libpq connection string
    (re.compile(r"(\bbearer\s+)[\w.~+/=-]+", re.IGNORECASE), r"\1***"),  # an Authorization header
    (re.compile(r"\bgapless_[A-Za-z0-9_-]{43}\b"), "gapless_***"),  # a key of the API
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]{20,}"), "whsec_***"),  # a webhook's secret
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "***"),  # a JWT, as in a stream's URL
)

# What every secret above has about it. Most texts have none of it, and are not looked at any further.
_SUSPECT = ("://", "with url: ", "password", "bearer", "gapless_", "whsec_", "eyj")

# Shorter path segments are words such as "v2" or "mainnet", not keys.
_SHORTEST_SECRET = 8


def redact_url(url: str) -> str:
    """Return ``scheme://host:port/***``, or ``scheme://***`` where it is not certain which part is the host.

    Of a node's socket, the file's name is shown: ``ipc://***/geth.ipc``.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    if scheme.lower() == "ipc":
        name = rest.rpartition("/")[2]
        return f"{scheme}://***/{name}" if _FILE.fullmatch(name) else f"{scheme}://***"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    beyond = rest[len(authority) :]
    # An @ behind the authority is a password with an unescaped slash, or a path with an @: there is no telling.
    host = authority.rpartition("@")[2]
    if "@" in beyond or not _HOST.fullmatch(host):
        return f"{scheme}://***"
    return f"{scheme}://{host}/***"


def is_suspect(text: str) -> bool:
    """Whether a text, plain or as JSON, may hold something that :func:`redact` would take out."""
    lowered = text.lower()
    return any(part in lowered for part in _SUSPECT)


def redact(text: str) -> str:
    """Return the text with every URL in it cut down to what may be shown.

    A URL of nothing but scheme and host (``http://127.0.0.1:8545``) hides nothing and stays as it is.
    """
    if not is_suspect(text):
        return text
    for pattern, replacement in _FOREIGN:
        text = pattern.sub(replacement, text)
    return _URL.sub(_redact_match, text)


def _redact_match(match: re.Match[str]) -> str:
    url = match.group()
    if _HOST.fullmatch(match.group(2).rstrip("/").rstrip(_TRAILING)):
        return url
    tail = url[len(url.rstrip(_TRAILING)) :]
    return redact_url(url[: len(url) - len(tail)]) + tail


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
    if parts.scheme == "ipc":
        return {parts.path, unquote(parts.path)} - {"", "/"}  # folders' names are words like any others
    pieces = [*parts.path.split("/"), *re.split(r"[&=]", parts.query), parts.username or "", parts.password or ""]
    secrets = {piece for piece in pieces if len(piece) >= _SHORTEST_SECRET}
    secrets |= {unquote(piece) for piece in secrets}
    return secrets | ({parts.password} if parts.password else set())


class SecretText:
    """A text that is never shown (a header's value); ``reveal()`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself: to send, never to show."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class SecretUrl(SecretText):
    """A URL whose text and representation are redacted; ``reveal()`` gives the real one."""

    __slots__ = ()

    def __str__(self) -> str:
        return redact_url(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic read it from a string and write it redacted."""
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validate(cls, value: object) -> "SecretUrl":
        if isinstance(value, SecretUrl):
            return value
        if not isinstance(value, str):
            raise ValueError("expected a URL")
        return cls(value)
