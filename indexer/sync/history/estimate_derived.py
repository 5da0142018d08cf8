"""What is left to count of derived tables, and to handle by programs (``gapless plan``), in blocks of their events.

These are no differences between manifest and database: they come to an end by themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet, frontier, intersect, size, subtract, union
from indexer.manifest.model import Chain, Manifest, ManifestProgram
from indexer.store.apply.planned import Planned, PlannedDerived
from indexer.store.catalog.catalog import Source
from indexer.store.derived import generations
from indexer.store.derived.rules import rule_of
from indexer.store.programs import program_generations


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one derived table or program has left to do on a chain.

    Attributes:
        name: in the manifest.
        kind: ``aggregate``, ``rows`` or ``program``.
        blocks: those that it wants, up to the finalized one, and has not counted or handled.
        waiting: how many of them wait for events that are not there yet.
        remark: whether a build is to begin, or why it goes no further.
    """

    name: str
    kind: str
    blocks: int
    waiting: int
    remark: str = ""


def load(connection: Connection, manifest: Manifest, chain: Chain, finalized: int, planned: Planned) -> list[Backlog]:
    """Says what is left to do on a chain.

    Args:
        connection: to read with.
        manifest: says which programs there are.
        chain: one of its chains.
        finalized: history ends here.
        planned: the chain's part of the catalog, as the manifest would have it.
    """
    derived = (_of_derived(connection, chain.chain_id, one, planned.sources, finalized) for one in planned.derived)
    programs = (
        _of_program(connection, chain.chain_id, one, planned.sources, finalized)
        for one in manifest.programs.values()
        if chain.name in one.chains
    )
    return [one for found in (*derived, *programs) for one in found if one.blocks or one.remark]


_DERIVED = {
    "begin": "a new build begins",
    "replace": "a new build begins beside the one that is served",
    "resume": "it goes on where it was",
}


def _of_derived(
    connection: Connection, chain_id: int, one: PlannedDerived, sources: Sequence[Source], finalized: int
) -> Iterator[Backlog]:
    rule = rule_of(one.wanted.kind, one.wanted.definition)
    events = set(rule.events)
    read = [source for source in sources if (source.event.contract, source.event.signature) in events]
    if not rule.is_counted or not read:
        return
    counted: RangeSet = ()
    remarks = [_DERIVED[one.action]] if one.action is not None else []
    condition = "d.id = %(id)s"
    for progress in generations.progress(connection, chain_id, condition, id=one.derived_id) if one.derived_id else ():
        counted = progress.coverage
        if progress.problem is not None:
            remarks.append(f"it stands still: {progress.problem}")
        if not progress.generation.served:
            remarks.append("it is served once it has come as far as the one before")
    wanted = union(*(source.wanted(finalized) for source in read))
    lacking = union(*(source.gap(finalized) for source in read))
    left = subtract(wanted, counted)
    yield Backlog(one.wanted.name, one.wanted.kind, size(left), size(intersect(left, lacking)), "; ".join(remarks))


def _of_program(
    connection: Connection, chain_id: int, program: ManifestProgram, sources: Sequence[Source], finalized: int
) -> Iterator[Backlog]:
    read = [source for source in sources if f"{source.event.contract}.{source.event.api_name}" in program.events]
    if not read:
        return
    start = min(source.start_block for source in read)
    through, remark = start - 1, "its first build begins"
    for one in program_generations.load(connection, program.name, chain_id):
        if not one.live:
            remark = "a new build begins beside the one that is served"
        elif one.code_hash == program.code_hash or one.problem is not None:
            through = one.through_block
            remark = "" if one.problem is None else f"it stands still: {one.problem}"
            if one.code_hash != program.code_hash:
                remark = f"it stood still: {one.problem}; its code is another one since"
            break
        else:
            remark = "its code is another one: a new build begins beside the one that is served"
            break
    left: RangeSet = ((max(start, through + 1), finalized),) if finalized > through else ()
    # Events are handled in the order of the chain: what is behind a gap waits for it.
    there = subtract(((start, finalized),), union(*(source.gap(finalized) for source in read)))
    waiting = subtract(left, ((start, frontier(there, start)),)) if frontier(there, start) >= start else left
    yield Backlog(program.name, "program", size(left), size(waiting), remark)
