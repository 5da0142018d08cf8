"""Which files a folder should have: an aligned grid of block ranges, cut where rows are not to be had yet. Pure.

A cell of the grid whose blocks are all there becomes one file, which stays as it is. Of a cell that is not finished,
each run adds what is new as a further file; the run that finishes the cell joins them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from indexer.intervals import BlockRange, RangeSet, contains, intersect, normalise, subtract


@dataclass(frozen=True, slots=True)
class FileStep:
    """A file to be written.

    Attributes:
        blocks: the range whose rows it gets.
        replaces: ranges of the files whose place it takes.
    """

    blocks: BlockRange
    replaces: tuple[BlockRange, ...] = ()


def plan(
    available: RangeSet, wanted: RangeSet, there: Sequence[BlockRange], changed: Iterable[BlockRange], width: int
) -> list[FileStep]:
    """The files that are to be written, in the order of their blocks.

    Args:
        available: blocks whose rows may be exported.
        wanted: blocks that may ever be; ``available`` is part of it.
        there: ranges of the files that exist, disjoint. A file that holds other blocks than those that are available
            stays as it is until all of them are available again.
        changed: those of them whose rows are others by now.
        width: blocks of a cell.
    """
    kept = [blocks for blocks in there if not contains(available, blocks)]
    free = subtract(available, normalise(kept))
    inside = [blocks for blocks in there if contains(available, blocks)]
    stale = set(changed)
    steps: list[FileStep] = []
    for cell in _cells(free, width):
        ours = [blocks for blocks in inside if cell[0] <= blocks[0] and blocks[1] <= cell[1]]
        rows = intersect(free, (cell,))
        sound = [blocks for blocks in ours if blocks not in stale]
        missing = subtract(rows, normalise(sound))
        if rows == intersect(wanted, (cell,)) and len(rows) == 1 and (missing or len(sound) > 1):
            steps.append(FileStep(rows[0], tuple(ours)))
        else:
            steps += [FileStep(blocks, tuple(b for b in ours if contains((blocks,), b))) for blocks in missing]
    return steps


def _cells(blocks: RangeSet, width: int) -> Iterator[BlockRange]:
    last = -1
    for first, end in blocks:
        for start in range(max(first // width * width, last + 1), end + 1, width):
            last = start + width - 1
            yield start, last


def cell_of(block: int, width: int) -> int:
    """The first block of a block's cell."""
    return block // width * width
