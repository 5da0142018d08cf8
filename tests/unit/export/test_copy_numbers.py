"""Numerics as Postgres sends them, a column at once, against Python's own numbers."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.store.export.copy_numbers import MARGIN, TooWideError, decimals

MOST = 10**38 - 1


def sent(value: int) -> bytes:
    """What ``numeric_send`` makes of an integer: no zeros behind the last digit."""
    digits, left = [], abs(value)
    while left:
        left, digit = divmod(left, 10_000)
        digits.insert(0, digit)
    weight = max(len(digits) - 1, 0)
    while digits and digits[-1] == 0:
        digits.pop()
    return struct.pack(f">hhHh{len(digits)}h", len(digits), weight, 0x4000 if value < 0 else 0, 0, *digits)


def read(values: list[int]) -> list[int]:
    data, at = bytearray(b"\xff" * MARGIN), []
    for value in values:
        at.append(len(data))
        data += sent(value)
    data += b"\xff" * MARGIN
    halves = decimals(np.frombuffer(bytes(data), np.uint8), np.array(at, np.int64))
    return [int.from_bytes(bytes(row.tobytes()), "little", signed=True) for row in halves]


@given(st.lists(st.integers(-MOST, MOST) | st.integers(-(10**17), 10**17) | st.integers(0, 37).map(lambda n: 10**n)))
def test_every_integer_of_38_digits_is_read_exactly(values: list[int]) -> None:
    assert read(values) == values


@pytest.mark.parametrize("value", [10**38, -(10**38), 2**256 - 1, 10**40, 10**77])
def test_a_wider_one_is_told(value: int) -> None:
    with pytest.raises(TooWideError):
        read([1, value, 2])


def test_what_is_no_integer_is_refused() -> None:
    for words in ((0, 0, 0xC000, 0), (1, -1, 0, 4, 5000)):
        data = bytes(MARGIN) + struct.pack(f">hhHh{len(words) - 4}h", *words) + bytes(MARGIN)
        with pytest.raises(ValueError, match="fraction"):
            decimals(np.frombuffer(data, np.uint8), np.array([MARGIN]))
