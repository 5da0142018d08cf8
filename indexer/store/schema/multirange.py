"""Range sets to ``int8multirange`` and back."""

from collections.abc import Sequence
from typing import Any

from indexer.intervals import BlockRange, RangeSet, normalise


def to_sql(ranges: Sequence[BlockRange]) -> str:
    """The literal of a range set, to be cast with ``::int8multirange``: ``{[1,6),[9,10)}``."""
    return "{" + ",".join(f"[{first},{last + 1})" for first, last in ranges) + "}"


def from_sql(value: Any) -> RangeSet:
    """Reads what the driver made of an ``int8multirange``: a sequence of ranges with ``lower`` and ``upper``."""
    return normalise((part.lower, part.upper - 1) for part in value)
