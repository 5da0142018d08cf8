"""Derived tables: do their rows follow from the rows of events in the blocks that they count? And mending them."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy.engine import Connection

from indexer.store.derived import generations, recount
from indexer.store.integrity.findings import Finding
from indexer.sync.audit.scope import AuditScope

DIFFERENCES_SHOWN: Final = 3


def counted(connection: Connection, scope: AuditScope) -> Iterator[Finding]:
    """Keys of derived tables that are not what their rule makes of the rows in the tables; all are computed anew."""
    events = {event.event_id: event for event in scope.events}
    for one in generations.progress(connection, scope.chain_id):
        event = next((events[number] for number in one.generation.event_ids if number in events), None)
        if event is None or not one.coverage:
            continue
        first, last = one.coverage[0][0], one.coverage[-1][1]
        if not scope.within[0] <= first <= last <= scope.within[1]:
            continue  # what is summed up has no parts
        count, differences = recount.differences(connection, one, DIFFERENCES_SHOWN)
        if count:
            shown = "; ".join(one.described() for one in differences)
            more = f"; and {count - len(differences)} more" if count > len(differences) else ""
            detail = f"derived.{one.generation.table_name}: {shown}{more}"
            yield Finding("derived", scope.chain_id, event.label, event.event_id, None, first, last, count, detail)


def mend(connection: Connection, chain_id: int, event_id: int) -> None:
    """Writes the rows that differ as they must be, of all derived tables that count an event."""
    reading = "%(event)s = ANY(d.event_ids)"
    for one in generations.progress(connection, chain_id, reading, event=event_id):
        recount.mend(connection, chain_id, one.generation.derived_id)
