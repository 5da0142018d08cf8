"""Reasons of reverts, as Solidity encodes them."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from indexer.abi.model import parse_abi
from indexer.sync.snapshots.points import revert_reason

ABI = parse_abi(
    [
        {
            "type": "error",
            "name": "InsufficientBalance",
            "inputs": [{"name": "holder", "type": "address"}, {"name": "needed", "type": "uint256"}],
        },
        {"type": "function", "name": "f", "inputs": [], "outputs": [], "stateMutability": "view"},
    ]
)


def error(signature: str, *values: object) -> bytes:
    types = signature[signature.index("(") + 1 : -1]
    return keccak(signature.encode())[:4] + encode(types.split(",") if types else [], values)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "reverted without a reason"),
        (error("Error(string)", "ERC20: paused"), "reverted: ERC20: paused"),
        (error("Error(string)", "a\0b"), "reverted: a\ufffdb"),
        (error("Panic(uint256)", 0x11), "panic 0x11: arithmetic overflow or underflow"),
        (error("Panic(uint256)", 0x99), "panic 0x99: unknown code"),
        (
            error("InsufficientBalance(address,uint256)", "0x" + "ab" * 20, 2**200),
            f"reverted: InsufficientBalance(0x{'ab' * 20}, {2**200})",
        ),
        (bytes.fromhex("deadbeef"), "reverted with 0xdeadbeef"),
        # Cut short, or with absurd lengths: said as raw bytes, never a defect.
        (error("Error(string)", "x")[:20], "reverted with 0x"),
        (error("InsufficientBalance(address,uint256)", "0x" + "ab" * 20, 1)[:-1], "reverted with 0x"),
        (b"\xff" * 5000, "reverted with 0x"),
    ],
)
def test_reasons(data, expected):
    found = revert_reason(data, ABI)
    assert found.startswith(expected)
    assert len(found) <= 520


@pytest.mark.parametrize("length", [2**255, 10**6, 0])
def test_a_length_that_lies_is_no_trouble(length):
    data = bytes.fromhex("08c379a0") + (32).to_bytes(32) + length.to_bytes(32) + b"text"
    assert revert_reason(data, ABI).startswith("reverted: ")
