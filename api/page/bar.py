"""The coverage bar: where along the wanted blocks something is missing."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from indexer.intervals import RangeSet

#: Parts of a bar; each stands for so many blocks that no page gets large.
CELLS: Final = 200


def runs(wanted: RangeSet, missing: RangeSet, cells: int = CELLS) -> list[tuple[int, int, str]]:
    """The bar as ``(first cell, cells, kind)``; kinds are ``whole``, ``part`` and ``none``.

    A cell in which one block is missing is not whole: the smallest gap can be seen.
    """
    if not wanted:
        return []
    first, end = wanted[0][0], wanted[-1][1] + 1
    cells = min(cells, end - first)
    if not missing:
        return [(0, cells, "whole")]
    edges = [first + cell * (end - first) // cells for cell in range(cells + 1)]
    found: list[tuple[int, int, str]] = []
    for cell, (inside, lacking) in enumerate(zip(_inside(wanted, edges), _inside(missing, edges), strict=True)):
        kind = "whole" if not lacking else "none" if lacking >= inside else "part"
        if found and found[-1][2] == kind:
            start, length, _ = found.pop()
            found.append((start, length + 1, kind))
        else:
            found.append((cell, 1, kind))
    return found


def _inside(ranges: RangeSet, edges: Sequence[int]) -> list[int]:
    """How many blocks of the ranges lie in each cell; cell ``i`` is ``edges[i]`` to ``edges[i + 1] - 1``."""
    counts = [0] * (len(edges) - 1)
    for low, high in ranges:
        cell = bisect_right(edges, low) - 1
        while cell < len(counts) and edges[cell] <= high:
            counts[cell] += min(high + 1, edges[cell + 1]) - max(low, edges[cell])
            cell += 1
    return counts
