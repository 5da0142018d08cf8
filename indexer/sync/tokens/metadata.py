"""What a token's answers mean: pure, total, suspicious.

Standards: ERC-20 and ERC-721 metadata (EIP-20, EIP-721), ERC-1155 (EIP-1155), interface ids (EIP-165). Real tokens
answer name and symbol as ``string``, as ``bytes32`` (MKR, SAI), with zero words behind it (Vyper's, Uniswap V1's), as
bare text, with a wrong offset or length, with nothing, with garbage, or with a megabyte.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_typing import Address
from multicall import Call
from multicall.signature import Signature

_LABELS = ("name", "symbol", "decimals", "erc721", "erc1155")

MAX_TEXT = 256
"""Characters of a name or symbol that are kept; the rest is cut off, and said so."""

_NAME = Signature("name()(string)")
_SYMBOL = Signature("symbol()(string)")
_DECIMALS = Signature("decimals()(uint256)")
_SUPPORTS = "supportsInterface(bytes4)(bool)"
_ERC721 = bytes.fromhex("80ac58cd")
_ERC1155 = bytes.fromhex("d9b67a26")


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What one call came back with; a revert is an answer.

    Attributes:
        success: whether it returned.
        data: what it returned, or its revert data.
        refusal: where no node would run it, what was said: then there is no answer.
    """

    success: bool
    data: bytes
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class TokenMetadata:
    """What a token says of itself.

    Attributes:
        kind: erc20, erc721, erc1155, or None where it says neither.
        name: None: it has none.
        symbol: None: it has none.
        decimals: None: unknown, which is neither 0 nor 18.
        problems: by field, what was odd about the answer.
        is_whole: whether every call has an answer; the rest is unknown, not absent.
    """

    kind: str | None
    name: str | None
    symbol: str | None
    decimals: int | None
    problems: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True


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


def interpret(answers: Sequence[TokenAnswer]) -> TokenMetadata:
    """Reads a token's answers; never raises, whatever they hold."""
    problems = {
        label: f"not answered: {answer.refusal}"
        for label, answer in zip(_LABELS, answers, strict=True)
        if answer.refusal
    }
    is_whole = not problems
    # A contract that says the same whatever it is asked (its fallback does) says nothing.
    if is_whole and len({(answer.success, answer.data) for answer in answers}) == 1:
        return TokenMetadata(None, None, None, None)
    name, symbol, decimals, is_erc721, is_erc1155 = answers
    decoded_name = _text("name", name, problems)
    decoded_symbol = _text("symbol", symbol, problems)
    decoded_decimals = _decimals(decimals, problems)
    kind = None
    if _true(is_erc1155):
        kind = "erc1155"
    elif _true(is_erc721) and not is_erc1155.refusal:
        kind = "erc721"
    elif is_erc721.refusal or is_erc1155.refusal:
        pass
    elif decoded_decimals is not None or decoded_symbol is not None:
        kind = "erc20"
    return TokenMetadata(kind, decoded_name, decoded_symbol, decoded_decimals, problems, is_whole)


def _true(answer: TokenAnswer) -> bool:
    return answer.success and len(answer.data) >= 32 and int.from_bytes(answer.data[:32]) == 1


def _decimals(answer: TokenAnswer, problems: dict[str, str]) -> int | None:
    if not answer.success or not answer.data:
        return None
    if len(answer.data) < 32:
        problems["decimals"] = "malformed"
        return None
    digits = _string_bytes(answer.data)
    if digits is not None and digits.isdigit() and len(digits) <= 3:
        problems["decimals"] = "string"
        value = int(digits)
    else:
        (value,) = _DECIMALS.decode_data(answer.data[:32])
    if value > 255:  # EIP-20: uint8
        problems["decimals"] = f"out of range: {value}" if value < 10**9 else "out of range"
        return None
    return int(value)


def _text(field_name: str, answer: TokenAnswer, problems: dict[str, str]) -> str | None:
    if not answer.success or not answer.data:
        return None
    raw, form = _text_bytes(answer.data)
    if form:
        problems[field_name] = form
    if raw is None:
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
    clean = _visible(text)
    if clean != text:
        problems.setdefault(field_name, "control characters or outer white space")
    if len(clean) > MAX_TEXT:
        clean = clean[:MAX_TEXT]
        problems[field_name] = f"longer than {MAX_TEXT} characters"
    return clean or None


def _visible(text: str) -> str:
    return "".join(c for c in text if c == "\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs")).strip()


def _text_bytes(data: bytes) -> tuple[bytes | None, str]:
    """The bytes of a text, in whichever form they came, and what was odd about that (empty: nothing).

    All forms but the first are believed only where what they hold is text.
    """
    if (raw := _string_bytes(data)) is not None:
        return raw, ""
    if len(data) == 32:
        is_left_padded = data[0] == 0 and _is_text(data.lstrip(b"\0"))
        return (data.lstrip(b"\0"), "bytes32, padded left") if is_left_padded else (data.rstrip(b"\0"), "bytes32")
    if len(data) > 32:
        # With zero words behind it, or another value. A text of 32 bytes and more may go on in the next word.
        bare = data[: MAX_TEXT * 8].split(b"\0", 1)[0]
        if _is_text(bare) and not any(data[len(bare) : 32]):
            return bare, "bytes32" if len(bare) <= 32 else "bare text"
        for start, form in ((0, "string without an offset"), (32, "string with a wrong offset")):
            length = int.from_bytes(data[start : start + 32])
            raw = data[start + 32 : start + 32 + min(length, MAX_TEXT * 8)]
            if 0 < length <= len(data) - start - 32 and _is_text(raw):
                return raw, form
        rest = data[64:].rstrip(b"\0")
        if int.from_bytes(data[:32]) == 32 and int.from_bytes(data[32:64]) >= len(rest) and _is_text(rest):
            return rest[: MAX_TEXT * 8], "string with a wrong length"
    return None, "malformed"


def _is_text(raw: bytes) -> bool:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and _visible(text) == text.strip()


def _string_bytes(data: bytes) -> bytes | None:
    """The bytes of an ABI-encoded string, at most as many as could matter; None where it is none."""
    if len(data) < 64:
        return None
    offset = int.from_bytes(data[:32])
    if offset < 32 or offset > len(data) - 32:
        return None
    length = int.from_bytes(data[offset : offset + 32])
    body = data[offset + 32 : offset + 32 + length]
    return body[: MAX_TEXT * 8] if len(body) == length else None
