"""What tokens say of themselves, in all the forms in which real ones say it."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from indexer.sync.tokens.metadata import MAX_TEXT, TokenAnswer, TokenMetadata, interpret

REVERT = TokenAnswer(False, b"")
NOTHING = TokenAnswer(True, b"")


def word(value: int) -> bytes:
    return value.to_bytes(32)


def string(text: str) -> bytes:
    return encode(["string"], [text])


def told(symbol: bytes, decimals: bytes = word(18)) -> TokenMetadata:
    return interpret(
        [TokenAnswer(True, string("Name")), TokenAnswer(True, symbol), TokenAnswer(True, decimals), REVERT, REVERT]
    )


MKR = b"MKR".ljust(32, b"\0")
LONG = "A text that does not fit into a word of 32 bytes"


@pytest.mark.parametrize(
    ("data", "symbol", "problem"),
    [
        (string("USDC"), "USDC", None),
        (string("USDC")[:68], "USDC", None),  # not padded
        (string("USDC") + b"\xff" * 40, "USDC", None),  # garbage behind it
        (string(""), None, None),
        (string("₮ether"), "₮ether", None),
        (MKR, "MKR", "bytes32"),
        (MKR + bytes(32), "MKR", "bytes32"),
        (MKR + bytes(64), "MKR", "bytes32"),
        (MKR + bytes(4096), "MKR", "bytes32"),
        (MKR + b"Maker".ljust(32, b"\0"), "MKR", "bytes32"),
        (MKR + b"\x01\xff" * 20, "MKR", "bytes32"),
        (b"x" * 32, "x" * 32, "bytes32"),
        (b"x" * 32 + bytes(32), "x" * 32, "bytes32"),
        (b"MKR".rjust(32, b"\0"), "MKR", "bytes32, padded left"),
        (LONG.encode().ljust(64, b"\0"), LONG, "bare text"),
        (word(0) + word(4) + b"USDC".ljust(32, b"\0"), "USDC", "string with a wrong offset"),
        (word(2**200) + word(4) + b"USDC".ljust(32, b"\0"), "USDC", "string with a wrong offset"),
        (word(4) + b"USDC".ljust(32, b"\0"), "USDC", "string without an offset"),
        (word(64) + word(7) + word(4) + b"USDC".ljust(32, b"\0"), "USDC", None),
        (word(32) + word(900) + b"USDC".ljust(32, b"\0"), "USDC", "string with a wrong length"),
        (word(32) + word(2**255) + b"USDC".ljust(32, b"\0"), "USDC", "string with a wrong length"),
        (word(32) + word(4) + b"US\xff\xfe".ljust(32, b"\0"), "US\ufffd\ufffd", "not UTF-8"),
        (b"US\xff\xfe".ljust(32, b"\0"), "US\ufffd\ufffd", "not UTF-8"),
        (string("US\0DC"), "USDC", "NUL bytes"),
        (string(" USDC\u202e"), "USDC", "control characters or outer white space"),
        (string("x" * 5_000), "x" * MAX_TEXT, f"longer than {MAX_TEXT} characters"),
        (bytes(32), None, "bytes32"),
        (bytes(64), None, "malformed"),
        (b"\x95\xd8\x9b\x41", None, "malformed"),
        (b"\xff" * 64, None, "malformed"),
        (word(32), None, "bytes32, padded left"),
        (b"", None, None),
    ],
)
def test_a_text_in_any_form(data: bytes, symbol: str | None, problem: str | None) -> None:
    found = told(data)
    assert found.symbol == symbol
    assert found.problems.get("symbol") == problem
    assert (found.name, found.decimals, found.kind) == ("Name", 18, "erc20")


@pytest.mark.parametrize(
    ("data", "decimals", "problem"),
    [
        (word(18), 18, None),
        (word(0), 0, None),
        (word(255), 255, None),
        (word(32), 32, None),
        (word(18) + b"\xff" * 40, 18, None),
        (word(256), None, "out of range: 256"),
        (word(2**256 - 1), None, "out of range"),
        (string("18"), 18, "string"),
        (b"\x12", None, "malformed"),
        (b"", None, None),
    ],
)
def test_decimals_in_any_form(data: bytes, decimals: int | None, problem: str | None) -> None:
    found = told(string("USDC"), data)
    assert (found.decimals, found.problems.get("decimals")) == (decimals, problem)


@pytest.mark.promise("B-05")
def test_what_no_node_would_run_is_unknown_and_not_absent() -> None:
    name, symbol, unknown = (
        TokenAnswer(True, string("Name")),
        TokenAnswer(True, string("USDC")),
        TokenAnswer(False, b"", "timed out"),
    )
    found = interpret([name, symbol, unknown, REVERT, REVERT])
    assert (found.kind, found.symbol, found.decimals, found.is_whole) == ("erc20", "USDC", None, False)
    assert found.problems == {"decimals": "not answered: timed out"}
    found = interpret([name, symbol, REVERT, unknown, REVERT])
    assert (found.kind, found.is_whole) == (None, False), "it may be an ERC-721"
    assert interpret([REVERT] * 5).is_whole


@pytest.mark.parametrize("same", [REVERT, NOTHING, TokenAnswer(True, word(1)), TokenAnswer(True, string("me"))])
def test_a_contract_that_says_the_same_whatever_it_is_asked_says_nothing(same: TokenAnswer) -> None:
    assert interpret([same] * 5) == TokenMetadata(None, None, None, None)


@given(st.lists(st.builds(TokenAnswer, st.booleans(), st.binary(max_size=300)), min_size=5, max_size=5))
def test_anything_has_a_meaning(answers: list[TokenAnswer]) -> None:
    found = interpret(answers)
    assert found.decimals is None or 0 <= found.decimals <= 255
    for text in (found.name, found.symbol):
        assert text is None or (0 < len(text) <= MAX_TEXT and "\0" not in text)
