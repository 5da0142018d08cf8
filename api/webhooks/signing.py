"""Signatures of messages, as Standard Webhooks 1.0.0 (standardwebhooks.com) wants them.

A secret is ``whsec_`` and 24 to 64 random bytes in base64. A signature is ``v1,`` and, in base64, the HMAC-SHA256 of
``id.timestamp.body``; while a secret is being replaced there are two, with a space between.
"""

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


def new_secret(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A secret: ``whsec_…``.

    Args:
        random: makes so many random bytes.
    """
    return PREFIX + b64encode(random(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for.

    Raises:
        ValueError: it is none. The text is not repeated.
    """
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except (Base64Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("a webhook's secret is whsec_ and 24 to 64 bytes in base64")
    return key


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature: ``v1,…``.

    Args:
        secret: ``whsec_…``.
        message_id: of the message; has no dot.
        timestamp: of the attempt, seconds since 1970.
        body: as it is sent.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.new(key_of(secret), signed, sha256).digest()).decode()


def headers(message_id: str, timestamp: int, body: bytes, valid: Sequence[str]) -> dict[str, str]:
    """The headers that let a receiver check a message.

    Args:
        message_id: the same at every attempt.
        timestamp: of the attempt, seconds since 1970.
        body: as it is sent.
        valid: the secrets that a receiver may know, the newest first.

    Raises:
        ValueError: the id could be mistaken for a part of what is signed.
    """
    if not _ID.fullmatch(message_id):
        raise ValueError(f"{message_id!r} is no message id: letters, digits, - and _")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message_id, timestamp, body) for secret in valid),
    }
