"""What a token's answers mean: pure, total, suspicious.

Standards: ERC-20 and ERC-721 metadata (EIP-20, EIP-721), ERC-1155 (EIP-1155), interface ids (EIP-165). Real tokens
answer name and symbol as ``string``, as ``bytes32`` (MKR, SAI), with nothing, with garbage, or with a megabyte.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_typing import Address
from multicall import Call
from multicall.signature import Signature

MAX_TEXT = 256
"""Characters of a name or symbol that are kept; the rest is cut off, and said so."""

_NAME = Signature("name()(string)")
_SYMBOL = Signature("symbol()(string)")
_DECIMALS = Signature("decimals()(uint256)")
_SUPPORTS = "supportsInterface(bytes4)(bool)"
_ERC721 = bytes.fromhex("80ac58cd")
_ERC1155 = bytes.fromhex("d9b67a26")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call came back with; a revert is an answer."""

    success: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class TokenMetadata:
    """What a token says of itself.

    Attributes:
        kind: erc20, erc721, erc1155, or None where it says neither.
        name: None: it has none.
        symbol: None: it has none.
        decimals: None: unknown, which is neither 0 nor 18.
        problems: by field, what was odd about the answer.
    """

    kind: str | None
    name: str | None
    symbol: str | None
    decimals: int | None
    problems: dict[str, str] = field(default_factory=dict)


def calls(address: bytes) -> list[tuple[bytes, bytes]]:
    """The questions to ask a token, as (address, call data), in the order that :func:`interpret` wants the answers."""
    questions: list[str | list[object]] = [
        _NAME.signature,
        _SYMBOL.signature,
        _DECIMALS.signature,
        [_SUPPORTS, _ERC721],
        [_SUPPORTS, _ERC1155],
    ]
    return [(address, Call(Address(address), question).data) for question in questions]


def interpret(answers: Sequence[Answer]) -> TokenMetadata:
    """Reads a token's answers; never raises, whatever they hold."""
    name, symbol, decimals, is_erc721, is_erc1155 = answers
    problems: dict[str, str] = {}
    decoded_name = _text("name", name, problems)
    decoded_symbol = _text("symbol", symbol, problems)
    decoded_decimals = _decimals(decimals, problems)
    kind = None
    if _true(is_erc1155):
        kind = "erc1155"
    elif _true(is_erc721):
        kind = "erc721"
    elif decoded_decimals is not None or decoded_symbol is not None:
        kind = "erc20"
    return TokenMetadata(kind, decoded_name, decoded_symbol, decoded_decimals, problems)


def _true(answer: Answer) -> bool:
    return answer.success and len(answer.data) >= 32 and int.from_bytes(answer.data[:32]) == 1


def _decimals(answer: Answer, problems: dict[str, str]) -> int | None:
    if not answer.success or not answer.data:
        return None
    if len(answer.data) < 32:
        problems["decimals"] = "malformed"
        return None
    (value,) = _DECIMALS.decode_data(answer.data[:32])
    if value > 255:  # EIP-20: uint8
        problems["decimals"] = f"out of range: {value}" if value < 10**9 else "out of range"
        return None
    return int(value)


def _text(field_name: str, answer: Answer, problems: dict[str, str]) -> str | None:
    if not answer.success or not answer.data:
        return None
    data = answer.data
    raw = _string_bytes(data)
    if raw is None and len(data) == 32:
        raw = data.rstrip(b"\0")
        problems[field_name] = "bytes32"
    if raw is None:
        problems[field_name] = "malformed"
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw[: MAX_TEXT * 4].decode(errors="replace")
        problems[field_name] = "not UTF-8"
    if "\0" in text:
        text = text.replace("\0", "")
        problems.setdefault(field_name, "NUL bytes")
    # Control characters and direction overrides could forge what is shown beside them.
    clean = "".join(c for c in text if c == "\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs")).strip()
    if clean != text:
        problems.setdefault(field_name, "control characters or outer white space")
    if len(clean) > MAX_TEXT:
        clean = clean[:MAX_TEXT]
        problems[field_name] = f"longer than {MAX_TEXT} characters"
    return clean or None


def _string_bytes(data: bytes) -> bytes | None:
    """The bytes of an ABI-encoded string, at most as many as could matter; None where it is none."""
    if len(data) < 64:
        return None
    offset = int.from_bytes(data[:32])
    if offset > len(data) - 32:
        return None
    length = int.from_bytes(data[offset : offset + 32])
    body = data[offset + 32 : offset + 32 + length]
    return body[: MAX_TEXT * 8] if len(body) == length else None
