"""The topics of values, as a manifest writes them: the decoder, eth-abi and web3 must agree."""

from decimal import Decimal

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from indexer.abi.decoder import compile_decoder
from indexer.abi.model import parse_abi
from indexer.abi.topics import topic_value
from indexer.abi.types import AbiError

USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


def event(type_, *components):
    parameter = {"name": "x", "type": type_, "indexed": True, "components": list(components)}
    return parse_abi([{"type": "event", "name": "E", "inputs": [parameter]}]).events[0]


def topic(type_, value, *components):
    return topic_value(event(type_, *components).inputs[0], value)


def component(type_, name=""):
    return {"name": name, "type": type_}


@pytest.mark.parametrize(
    ("type_", "given_value", "value"),
    [
        ("address", USDC, bytes.fromhex(USDC[2:])),
        ("address", USDC.lower(), bytes.fromhex(USDC[2:])),
        ("address", "0x" + USDC[2:].upper(), bytes.fromhex(USDC[2:])),
        ("address", bytes(20), bytes(20)),
        ("uint256", 2**256 - 1, 2**256 - 1),
        ("uint256", "115", 115),
        ("uint256", "0xff", 255),
        ("int24", -887272, -887272),
        ("int24", "-887272", -887272),
        ("bool", True, True),
        ("bytes4", "0xA9059cbb", bytes.fromhex("a9059cbb")),
        ("bytes32", b"x" * 32, b"x" * 32),
        ("function", "0x" + "ab" * 24, b"\xab" * 24),
        ("fixed168x10", "-0.5", Decimal("-0.5")),
        ("ufixed8x1", "25.5", Decimal("25.5")),
        ("fixed168x10", 3, Decimal(3)),
    ],
)
def test_words_come_back_from_the_decoder(type_, given_value, value):
    found = topic(type_, given_value)
    assert found == encode([type_], [value])
    assert compile_decoder(event(type_)).decode([event(type_).topic0, found], b"", []) == (value,)


@given(st.text())
def test_a_string_is_hashed_as_it_is(text):
    assert topic("string", text) == keccak(text.encode())


def test_bytes_are_hashed_as_they_are():
    assert topic("bytes", "0x") == keccak(b"")
    assert topic("bytes", "0x0102") == topic("bytes", b"\1\2") == keccak(b"\1\2")


def test_arrays_and_tuples_are_hashed_without_lengths_and_with_padding():
    assert topic("uint8[]", [1, "2"]) == keccak(encode(["uint8[2]"], [[1, 2]]))
    assert topic("uint8[]", []) == keccak(b"")
    assert topic("uint8[2]", [1, 2]) == topic("uint8[]", [1, 2])
    padded = b"a".ljust(32, b"\0") + b"b" * 33 + bytes(31)
    assert topic("string[]", ["a", "b" * 33]) == keccak(padded)
    assert topic("uint8[2][]", [[1, 2], [3, 4]]) == topic("uint8[]", [1, 2, 3, 4])
    pair = [component("bytes", "raw"), component("uint8")]
    assert topic("tuple", ["0x61", 5], *pair) == keccak(b"a".ljust(32, b"\0") + encode(["uint8"], [5]))
    assert topic("tuple", {"arg1": 5, "raw": "0x61"}, *pair) == topic("tuple", ["0x61", 5], *pair)
    assert topic("tuple[1]", [["0x61", 5]], *pair) == topic("tuple", ["0x61", 5], *pair)


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        ("address", "0xa0b8", "0x hex of exactly 20 bytes"),
        ("address", USDC[2:], "0x hex of exactly 20 bytes"),
        (
            "address",
            USDC.replace("A0b8", "a0B8"),
            "wrong checksum: 0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48 would be",
        ),
        ("address", 5, "0x hex of exactly 20 bytes"),
        ("bytes4", "0xa9059c", "0x hex of exactly 4 bytes"),
        ("bytes4", "0xa9059cbbff", "0x hex of exactly 4 bytes"),
        ("bytes", "0xabc", "0x hex of whole bytes"),
        ("bytes", "0xzz", "0x hex of whole bytes"),
        ("uint8", 256, "a whole number of uint8, 0 to 255"),
        ("uint8", -1, "0 to 255"),
        ("int8", 128, "-128 to 127"),
        ("uint8", 1.0, "0 to 255"),
        ("uint8", True, "0 to 255"),
        ("uint256", "1_0", "whole number"),
        ("uint256", "٣", "whole number"),
        ("uint256", "1" * 5000, "whole number"),
        ("bool", 1, "true or false"),
        ("bool", "true", "true or false"),
        ("string", 5, "expected a string"),
        ("string", "\ud800", "whole characters"),
        ("fixed8x1", "12.8", "a decimal number of fixed8x1, with at most 1 places"),
        ("fixed8x1", "0.25", "at most 1 places"),
        ("ufixed8x1", "-1", "decimal number"),
        ("fixed8x1", "1E9", "decimal number"),
        ("uint8[]", 5, "expected a list of uint8"),
        ("uint8[]", "12", "expected a list of uint8"),
        ("uint8[2]", [1], "expected a list of 2 uint8"),
        ("uint8[]", [1, 256], "0 to 255"),
        ("tuple", [1], "an object with the keys a, arg1, or a list of 2 values"),
        ("tuple", {"a": 1}, "an object with the keys"),
        ("tuple", "ab", "an object with the keys"),
    ],
)
def test_values_that_an_argument_cannot_have(type_, value, message):
    with pytest.raises(AbiError) as caught:
        topic(type_, value, component("uint8", "a"), component("uint8"))
    assert message in str(caught.value)


def test_an_argument_that_is_not_indexed_has_no_topic():
    [parameter] = parse_abi([{"type": "event", "name": "E", "inputs": [component("bool")]}]).events[0].inputs
    with pytest.raises(AbiError, match="not indexed"):
        topic_value(parameter, True)
