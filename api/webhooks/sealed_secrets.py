"""The secrets of webhooks: what is signed with them, and how they are kept.

Signatures are those of Standard Webhooks 1.0.0 (standardwebhooks.com): a secret is ``whsec_`` and 24 to 64 random bytes
in base64. A signature is ``v1,`` and, in base64, the HMAC-SHA256 of ``id.timestamp.body``; while a secret is being
replaced there are two, with a space between.

Secrets are needed again for each message, so they are kept encrypted: AES-256-GCM under keys made from
``WEBHOOKS_SECRET_KEY``. A sealed value is: a version, four bytes that tell which key, a random nonce, and the
ciphertext
with its tag. What it belongs to is authenticated with it, so a value that is copied to another row cannot be opened
there.
"""

import hmac
import os
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")

#: Characters that a key must have at least: 32 hex digits are 128 random bits.
SHORTEST: Final = 32

_VERSION: Final = b"\x01"
_NONCE: Final = 12
_NAME: Final = 4


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


class SealedError(Exception):
    """A value that none of the keys opens."""


class Vault:
    """Seals and opens values.

    Args:
        keys: the first seals, each opens: a key is replaced by putting a new one before it.
        random: makes so many random bytes.

    Raises:
        ValueError: there is no key, or one is too short. It is not repeated.
    """

    def __init__(self, keys: Sequence[str], random: Callable[[int], bytes] = os.urandom) -> None:
        if not keys or any(len(key) < SHORTEST for key in keys):
            raise ValueError(f"each key needs {SHORTEST} characters or more, such as: openssl rand -hex 32")
        made = [_derived(key) for key in keys]
        self._ciphers = {_name(key): AESGCM(key) for key in made}
        self._first = _name(made[0])
        self._random = random

    @classmethod
    def of(cls, keys: str) -> Self:
        """The vault of a comma list of keys, as ``WEBHOOKS_SECRET_KEY`` has them.

        Raises:
            ValueError: as the constructor.
        """
        return cls([key for part in keys.split(",") if (key := part.strip())])

    def seal(self, text: str, of: str) -> bytes:
        """Encrypt a text.

        Args:
            text: what to keep.
            of: what it belongs to, such as ``wh_1 secret``.
        """
        nonce = self._random(_NONCE)
        return _VERSION + self._first + nonce + self._ciphers[self._first].encrypt(nonce, text.encode(), of.encode())

    def open(self, sealed: bytes, of: str) -> str:
        """Decrypt what :meth:`seal` made.

        Raises:
            SealedError: it was sealed with another key, or for something else.
        """
        name, rest = sealed[1 : 1 + _NAME], sealed[1 + _NAME :]
        cipher = self._ciphers.get(name)
        if sealed[:1] != _VERSION or cipher is None:
            raise SealedError(
                "it was encrypted with another WEBHOOKS_SECRET_KEY: name that one too, behind the new one"
            )
        try:
            return cipher.decrypt(rest[:_NONCE], rest[_NONCE:], of.encode()).decode()
        except (InvalidTag, ValueError):
            raise SealedError("it is damaged, or belongs to something else") from None


def _derived(key: str) -> bytes:
    # Keys are random, not chosen: no slow function is needed.
    return HKDF(SHA256(), 32, salt=None, info=b"gapless webhooks").derive(key.encode())


def _name(key: bytes) -> bytes:
    return sha256(b"name " + key).digest()[:_NAME]
