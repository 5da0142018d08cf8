"""Finding where two branches part: pure, asks for hashes through the functions it is given."""

from collections.abc import Callable, Mapping

HashesOf = Callable[[int, int], Mapping[int, bytes]]
"""The hashes of the blocks of a range (both ends included), by number; a block that is not known is left out."""

_FIRST_STEP = 8


def last_common(ours: HashesOf, theirs: HashesOf, floor: int, top: int) -> int | None:
    """The highest block at or below ``top`` on which two branches agree.

    Asks downwards in steps that double, since most reorganisations are a block or two deep.

    Args:
        ours: stored hashes.
        theirs: the node's.
        floor: nothing below this block is looked at.
        top: the highest block that both may have.

    Returns:
        The block's number, or None if the branches differ even at ``floor``.
    """
    step = _FIRST_STEP
    while top >= floor:
        bottom = max(floor, top - step + 1)
        known, heard = ours(bottom, top), theirs(bottom, top)
        for number in range(top, bottom - 1, -1):
            if number in known and known[number] == heard.get(number):
                return number
        top, step = bottom - 1, step * 2
    return None
