"""What of an event's table may be exported now, and by what a later run knows that history changed something of it."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import ALWAYS, RangeSet, intersect, normalise, subtract, union
from indexer.store.schema.layout import ranges_from_sql

_SOURCES = sa.text("""
    SELECT s.id, s.chain_id, n.name AS chain, s.start_block, s.end_block, n.finalized_number, n.tip_number, s.verified,
           gapless.covered(s.coverage, s.end_block, n.tip_number) AS coverage, e.version, e.rewrite_version
    FROM gapless.sources s JOIN gapless.chains n USING (chain_id) JOIN gapless.events e ON e.id = s.event_id
    WHERE s.event_id = :event_id
      AND (s.active OR NOT EXISTS (SELECT FROM gapless.sources o
                                   WHERE o.event_id = s.event_id AND o.chain_id = s.chain_id AND o.active))
    ORDER BY s.chain_id, s.id
""")


@dataclass(frozen=True, slots=True)
class Exportable:
    """What of an event may be exported on one chain.

    Attributes:
        chain_id, chain: the chain.
        mark: another one once history changed rows or coverage of the event. Rows of the head, which are not final,
            do not change it.
        wanted: blocks that the manifest wants, up to its end or for ever.
        covered: blocks whose rows are all there.
        proven: those of them that were proven against receipts roots.
        finalized: the newest block that is final; -1: none.
    """

    chain_id: int
    chain: str
    mark: str
    wanted: RangeSet
    covered: RangeSet
    proven: RangeSet
    finalized: int


def load(connection: Connection, event_id: int) -> list[Exportable]:
    """Reads it for every chain of an event. Of an event that left the manifest, what it had then."""
    rows = connection.execute(_SOURCES, {"event_id": event_id}).all()
    found = []
    for chain_id in dict.fromkeys(row.chain_id for row in rows):
        ours = [row for row in rows if row.chain_id == chain_id]
        wanted: list[RangeSet] = [normalise([(row.start_block, _end(row.end_block))]) for row in ours]
        every = union(*wanted)
        uncovered = union(*(subtract(w, ranges_from_sql(row.coverage)) for w, row in zip(wanted, ours, strict=True)))
        unproven = union(*(subtract(w, ranges_from_sql(row.verified)) for w, row in zip(wanted, ours, strict=True)))
        covered = subtract(every, uncovered)
        first = ours[0]
        sources = ",".join(str(row.id) for row in ours)
        found.append(
            Exportable(
                chain_id=chain_id,
                chain=first.chain,
                mark=f"{event_id}:{first.version}:{first.rewrite_version}:{sources}",
                wanted=every,
                covered=covered,
                proven=intersect(covered, subtract(every, unproven)),
                finalized=-1 if first.finalized_number is None else first.finalized_number,
            )
        )
    return found


def _end(block: int | None) -> int:
    return ALWAYS if block is None else block
