"""What is missing, and in which order it may be fetched: the pure part of backfill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.intervals import EMPTY, BlockRange, RangeSet, intersect, shared, size, subtract
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.factory_coverage import announcers, known_until


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of blocks that the same sources lack: they are fetched together.

    Attributes:
        ranges: in ascending order.
        sources: each lacks every block of ``ranges``.
    """

    ranges: RangeSet
    sources: tuple[Source, ...]

    @property
    def blocks(self) -> int:
        """How many blocks that is."""
        return size(self.ranges)


def gaps(
    sources: Sequence[Source],
    finalized: int,
    within: BlockRange | None = None,
    resting: Mapping[int, RangeSet] | None = None,
) -> list[Gap]:
    """What history lacks, grouped so that each block is fetched as few times as may be.

    A factory's children are only known where the factory's own events are covered from their start without a break;
    beyond that their gap does not count yet.

    Args:
        sources: the active sources of one chain that may lack something, and all by which children are found.
        finalized: history ends here.
        within: only this range, if given.
        resting: by source: blocks that could not be read lately and are not asked for yet.

    Returns:
        The gaps that can be worked on now, those of address lists before those of factories' children.
    """
    groups: dict[bool, list[tuple[int, RangeSet]]] = {False: [], True: []}
    by_id = {source.source_id: source for source in sources}
    announcing = announcers(sources)
    for source in sources:
        missing = source.gap(min(finalized, known_until(source, announcing)))
        if within is not None:
            missing = intersect(missing, (within,))
        if resting:
            missing = subtract(missing, resting.get(source.source_id, EMPTY))
        if missing:
            groups[source.place.kind == "factory"].append((source.source_id, missing))
    found: list[Gap] = []
    for is_child in (False, True):
        together: dict[tuple[int, ...], list[BlockRange]] = {}
        for block_range, owners in shared(groups[is_child]):
            together.setdefault(owners, []).append(block_range)
        found += [Gap(tuple(ranges), tuple(by_id[owner] for owner in owners)) for owners, ranges in together.items()]
    return found


def waiting(sources: Sequence[Source], finalized: int) -> list[Source]:
    """The sources that lack history which cannot be fetched yet, since their factory's own lacks some."""
    announcing = announcers(sources)
    return [source for source in sources if source.gap(finalized) and known_until(source, announcing) < finalized]
