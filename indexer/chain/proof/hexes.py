"""Reading hex of a node's own JSON, strictly: what is proven must not rest on a lenient reading."""

from collections.abc import Mapping
from typing import Any

from indexer.errors import GaplessError


class NotProvableError(GaplessError):
    """The block cannot be proven by the rules known here; that says nothing against it."""


def field(document: Mapping[str, Any], name: str) -> str:
    """A field's text.

    Raises:
        NotProvableError: it is missing or no text.
    """
    value = document.get(name)
    if not isinstance(value, str) or not value.startswith("0x"):
        raise NotProvableError(f"no field {name}")
    return value


def octets(document: Mapping[str, Any], name: str, size: int | None = None) -> bytes:
    """A field that is bytes, ``size`` of them where that is fixed. Raises NotProvableError."""
    try:
        value = bytes.fromhex(field(document, name)[2:])
    except ValueError:
        value = None
    if value is None or (size is not None and len(value) != size):
        raise NotProvableError(f"{name} is not {'bytes' if size is None else f'{size} bytes'} in hex")
    return value


def quantity(document: Mapping[str, Any], name: str) -> int:
    """A field that is a number. Raises NotProvableError."""
    try:
        return int(field(document, name)[2:] or "0", 16)
    except ValueError:
        pass
    raise NotProvableError(f"{name} is no number in hex")


def scalar(value: int) -> bytes:
    """A number as RLP writes it: big-endian, without leading zeros, zero as nothing."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
