"""Interval algebra over block numbers: the arithmetic of coverage and gaps.

A *range* is a pair ``(first, last)`` of block numbers, both included, ``first <= last``. A *range set* is a tuple of
ranges in ascending order, disjoint and not adjacent: the normal form, in which equal sets are equal tuples. Postgres
keeps the same thing as ``int8multirange``.

Pure: no I/O, nothing but integers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

BlockRange: TypeAlias = tuple[int, int]
RangeSet: TypeAlias = tuple[BlockRange, ...]

EMPTY: RangeSet = ()

ALWAYS: Final = 2**62
"""A block that no chain reaches: the end of a range that ends nowhere."""


def normalise(ranges: Iterable[BlockRange]) -> RangeSet:
    """Sorts ranges and joins those that overlap or touch; empty ones (``first > last``) vanish."""
    joined: list[BlockRange] = []
    for first, last in sorted(r for r in ranges if r[0] <= r[1]):
        if joined and first <= joined[-1][1] + 1:
            if last > joined[-1][1]:
                joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def union(*sets: Iterable[BlockRange]) -> RangeSet:
    """The blocks that are in any of the sets."""
    return normalise(r for ranges in sets for r in ranges)


def intersect(left: Sequence[BlockRange], right: Sequence[BlockRange]) -> RangeSet:
    """The blocks that are in both of two normal sets."""
    common: list[BlockRange] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first = max(left[i][0], right[j][0])
        last = min(left[i][1], right[j][1])
        if first <= last:
            common.append((first, last))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(common)


def subtract(left: Sequence[BlockRange], right: Sequence[BlockRange]) -> RangeSet:
    """The blocks of one normal set that are not in another."""
    rest: list[BlockRange] = []
    j = 0
    for first, last in left:
        start = first
        while j < len(right) and right[j][1] < start:
            j += 1
        k = j
        while k < len(right) and right[k][0] <= last:
            if right[k][0] > start:
                rest.append((start, right[k][0] - 1))
            start = right[k][1] + 1
            k += 1
        if start <= last:
            rest.append((start, last))
    return tuple(rest)


def size(ranges: Iterable[BlockRange]) -> int:
    """How many blocks a normal set holds."""
    return sum(last - first + 1 for first, last in ranges)


def contains(ranges: Sequence[BlockRange], block_range: BlockRange) -> bool:
    """Whether a normal set holds every block of a range; an empty range is held by every set."""
    first, last = block_range
    return first > last or any(a <= first and last <= b for a, b in ranges)


def frontier(ranges: Sequence[BlockRange], start: int) -> int:
    """The last block up to which a normal set holds everything from ``start`` on; ``start - 1`` if not even that."""
    for first, last in ranges:
        if first <= start <= last:
            return last
    return start - 1


def pieces(ranges: Iterable[BlockRange], length: int) -> Iterator[BlockRange]:
    """Cuts ranges into pieces of at most ``length`` blocks, in order."""
    for first, last in ranges:
        for start in range(first, last + 1, length):
            yield start, min(start + length - 1, last)


def shared(sets: Iterable[tuple[int, Sequence[BlockRange]]]) -> list[tuple[BlockRange, tuple[int, ...]]]:
    """Cuts the union of many sets where their owners change.

    Args:
        sets: pairs of an owner's id and its normal set.

    Returns:
        Ranges in ascending order, disjoint, each with the ascending ids of exactly those owners whose sets hold every
        block of it. Neighbours differ in their owners, or do not touch.
    """
    edges: dict[int, list[tuple[bool, int]]] = {}
    for owner, ranges in sets:
        for first, last in ranges:
            edges.setdefault(first, []).append((True, owner))
            edges.setdefault(last + 1, []).append((False, owner))
    result: list[tuple[BlockRange, tuple[int, ...]]] = []
    owners: set[int] = set()
    previous = 0
    for edge in sorted(edges):
        if owners:
            result.append(((previous, edge - 1), tuple(sorted(owners))))
        for opens, owner in edges[edge]:
            if opens:
                owners.add(owner)
            else:
                owners.discard(owner)
        previous = edge
    return result


def format_ranges(ranges: Sequence[BlockRange], most: int = 5) -> str:
    """Ranges for a person: ``1-5, 9, 12-20`` and how many more."""
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges[:most])
    return shown + (f" and {len(ranges) - most} more" if len(ranges) > most else "") or "none"
