"""Numerics of COPY's binary form as decimals of 38 digits, a column at once.

A numeric is sent as its count of digits to the base 10,000, the weight of the first one, its sign, its scale, and the
digits, without the zeros behind the last one (``numeric_send``). The inverse is in
:mod:`indexer.store.rows.copy_binary`.
"""

from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Digits that a decimal of Arrow, DuckDB and Spark has at most.
DIGITS: Final = 38

_BASE: Final = 10_000
_NEGATIVE: Final = 0x4000
#: Digits to the base 10,000 that :data:`DIGITS` can take, and those of a group that fits into 64 bits.
_MOST: Final = 10
_GROUP: Final = 4
_GROUP_BASE: Final = _BASE**_GROUP
_TOP: Final = 10 ** (DIGITS - 8 * _GROUP)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)

#: Bytes that may be read before a numeric's value and behind it.
MARGIN: Final = 4 * _MOST


class TooWideError(ValueError):
    """A number has more than :data:`DIGITS` digits."""


def decimal(text: str) -> Decimal:
    """A number of digits.

    Raises:
        TooWideError: there are too many.
    """
    if len(text.lstrip("-")) > DIGITS:
        raise TooWideError
    return Decimal(text)


def windows(data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Every run of ``width`` bytes of some data, as rows of a matrix; no byte is copied."""
    return np.lib.stride_tricks.as_strided(data, (len(data) - width + 1, width), (1, 1), writeable=False)


def integers(data: NDArray[np.uint8], at: NDArray[np.int64], form: str) -> NDArray[np.int64]:
    """The integers of a big-endian form that begin at some places."""
    width = np.dtype(form).itemsize
    return windows(data, width)[at].view(form).reshape(-1).astype(np.int64)


def decimals(data: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Reads integers as Arrow keeps decimals: 128 bits, the low half first, two's complement.

    Args:
        data: with at least :data:`MARGIN` bytes before and behind each numeric.
        at: where each numeric begins.

    Returns:
        Of shape (rows, 2).

    Raises:
        TooWideError: one has too many digits.
        ValueError: one is no integer.
    """
    if not len(at):
        return np.zeros((0, 2), np.uint64)
    heads = windows(data, 8)[at].view(">i2").reshape(-1, 4).astype(np.int64)
    counts, weights, signs = heads[:, 0], heads[:, 1], heads[:, 2]
    if ((signs != 0) & (signs != _NEGATIVE)).any() or (counts > weights + 1).any():
        raise ValueError("a number is infinite, none, or has a fraction")
    weights = np.where(counts == 0, 0, weights)
    width = int(weights.max()) + 1
    if width > _MOST:
        raise TooWideError
    # Column j has the digit of the weight width - 1 - j. Where a row has no such digit there are bytes of others.
    skipped = width - 1 - weights
    digits = windows(data, 2 * width)[at + 8 - 2 * skipped].view(">u2").reshape(-1, width).astype(np.uint64)
    columns = np.arange(width)
    digits[(columns < skipped[:, None]) | (columns >= (skipped + counts)[:, None])] = 0
    low, high = _joined([_grouped(digits[:, max(0, end - _GROUP) : end]) for end in range(width, 0, -_GROUP)][::-1])
    negative = signs == _NEGATIVE
    if negative.any():
        flipped = ~low[negative] + np.uint64(1)
        high[negative] = ~high[negative] + (flipped == 0)
        low[negative] = flipped
    return np.stack([low, high], axis=1)


def _grouped(digits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = digits[:, 0].copy()
    for position in range(1, digits.shape[1]):
        value *= np.uint64(_BASE)
        value += digits[:, position]
    return value


def _joined(groups: list[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Groups of 16 decimal digits, the first ones in front, as low and high halves of 128 bits."""
    if len(groups) == 3 and (groups[0] >= _TOP).any():
        raise TooWideError
    low, high = groups[0], np.zeros_like(groups[0])
    for group in groups[1:]:
        product, carry = _product(low)
        high = high * np.uint64(_GROUP_BASE) + carry
        low = product + group
        high += low < group
    return low, high


def _product(value: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """A number times 10^16: the low and the high half of 128 bits."""
    factor_low, factor_high = np.uint64(_GROUP_BASE & 0xFFFFFFFF), np.uint64(_GROUP_BASE >> 32)
    low, high = value & _LOW, value >> _HALF
    lowest, middle, other = low * factor_low, high * factor_low, low * factor_high
    carried = (lowest >> _HALF) + (middle & _LOW) + (other & _LOW)
    return (lowest & _LOW) | (carried << _HALF), high * factor_high + (middle >> _HALF) + (other >> _HALF) + (
        carried >> _HALF
    )
