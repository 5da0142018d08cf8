"""What a program handles next: how far all of its events are covered without a gap, and their rows in order.

Everything is read in one snapshot with the generation's row, so that its version says whether the rows still are what
they were when the changes that follow from them are committed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import ALWAYS, frontier, union
from indexer.store.catalog.catalog import CatalogEvent, Source, load_events, load_sources
from indexer.store.database import psycopg_connection
from indexer.store.programs import disturbances, program_generations
from indexer.store.programs.disturbances import Disturbance
from indexer.store.programs.program_generations import ProgramGeneration
from indexer.store.programs.program_tables import reading

EVENT_FIELDS: Final = ("block_number", "log_index", "kind", "block_time", "tx_hash", "tx_index", "address")
"""What stands before the arguments in each row that is read; ``kind`` is the event's position in :class:`Inputs`."""

_POSITION: Final = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The events of a program on one chain.

    Attributes:
        events: in the order of their ids; the ``kind`` of a row is a position here.
        sources: the active sources of these events.
    """

    events: tuple[CatalogEvent, ...]
    sources: tuple[Source, ...]

    @property
    def start_block(self) -> int | None:
        """The first block that any of them wants; None: the chain has none of them."""
        return min((source.start_block for source in self.sources), default=None)

    def addresses(self, event: CatalogEvent) -> list[bytes] | None:
        """Whose rows of an event count; None: all."""
        places = [source.place for source in self.sources if source.event.event_id == event.event_id]
        if any(place.kind != "addresses" for place in places):
            return None
        return sorted({bytes.fromhex(address[2:]) for place in places for address in place.addresses})


@dataclass(frozen=True, slots=True)
class Batch:
    """What one look gives.

    Attributes:
        generation: as it is in this snapshot.
        disturbances: what it has not settled yet.
        finalized: the chain's finalized block; -1 where it is not known yet.
        reach: up to here all events are covered without a gap.
        through: the rows are those up to the end of this block.
        rows: in the order of the chain: :data:`EVENT_FIELDS`, then the event's arguments.
    """

    generation: ProgramGeneration
    disturbances: Sequence[Disturbance]
    finalized: int
    reach: int
    through: int
    rows: Sequence[tuple[Any, ...]]


def load_inputs(connection: Connection, chain_id: int, names: Mapping[str, Sequence[str]]) -> Inputs:
    """The events that a program handles, as far as a chain has them.

    Args:
        connection: to read with.
        chain_id: the chain.
        names: by contract: the names of events in the API.
    """
    wanted = {(contract, name) for contract, names_of in names.items() for name in names_of}
    found = load_events(connection, contracts=list(names))
    sources = [
        source
        for source in load_sources(connection, chain_id, contracts=list(names))
        if (source.event.contract, source.event.api_name) in wanted
    ]
    ids = {source.event.event_id for source in sources}
    return Inputs(tuple(found[event_id] for event_id in sorted(ids)), tuple(sources))


def read(
    connection: Connection,
    program_id: int,
    version: int,
    inputs: Inputs,
    *,
    after: int,
    most_rows: int,
    before: int | None = None,
) -> Batch | None:
    """Reads what comes next.

    Args:
        connection: in a transaction with one snapshot (REPEATABLE READ) that has done nothing yet.
        program_id: the generation.
        version: the version that its writer knows.
        inputs: its events, as they were when the generation began.
        after: the last block that was handled.
        most_rows: about how many rows of each event to read at most; a block is read whole.
        before: the block that is not to be handled; None: there is none.

    Returns:
        None if the generation was changed by others.
    """
    found = [one for one in program_generations.load(connection) if one.program_id == program_id]
    if not found or found[0].version != version or not found[0].live:
        return None
    (generation,) = found
    finalized, tip = connection.execute(
        sa.text(
            "SELECT coalesce(finalized_number, -1), coalesce(tip_number, -1) FROM gapless.chains WHERE chain_id = :id"
        ),
        {"id": generation.chain_id},
    ).one()
    until = min(reach(connection, generation, inputs), tip)
    last = until if generation.near else min(until, finalized)
    if before is not None:
        last = min(last, before - 1)
    rows: list[tuple[Any, ...]] = []
    if last > after:
        last, rows = read_blocks(connection, generation.chain_id, inputs, after + 1, last, most_rows)
    return Batch(generation, disturbances.load(connection, program_id), finalized, until, max(after, last), rows)


def read_blocks(
    connection: Connection, chain_id: int, inputs: Inputs, first: int, last: int, most_rows: int
) -> tuple[int, list[tuple[Any, ...]]]:
    """Reads the rows of some blocks, or of the first of them.

    Returns:
        The last block that was read, and the rows up to its end, in the order of the chain.
    """
    last = _cut(connection, chain_id, inputs, first, last, most_rows)
    return last, _rows(connection, chain_id, inputs, first, last)


def reach(connection: Connection, generation: ProgramGeneration, inputs: Inputs) -> int:
    """The last block up to which every source covers all that it wants."""
    ids = [source.source_id for source in inputs.sources]
    found = ALWAYS
    for source in load_sources(connection, generation.chain_id, ids=ids):
        free = [((0, source.start_block - 1),)] if source.start_block else []
        if source.end_block is not None:
            free.append(((source.end_block + 1, ALWAYS),))
        found = min(found, frontier(union(source.coverage, *free), generation.start_block))
        ids.remove(source.source_id)
    # A source that is not active any more: its disturbance is on the way.
    return generation.start_block - 1 if ids else found


def _cut(connection: Connection, chain_id: int, inputs: Inputs, first: int, last: int, most_rows: int) -> int:
    """The last block before which no event has more rows than wanted."""
    for event in inputs.events:
        full = (
            psycopg_connection(connection)
            .execute(
                sql.SQL(
                    "SELECT block_number FROM {} WHERE chain_id = %s AND block_number BETWEEN %s AND %s "
                    "ORDER BY block_number OFFSET %s LIMIT 1"
                ).format(event.table.identifier),
                (chain_id, first, last, most_rows),
            )
            .fetchone()
        )
        if full is not None:
            last = max(first, full[0] - 1)
    return last


def _rows(connection: Connection, chain_id: int, inputs: Inputs, first: int, last: int) -> list[tuple[Any, ...]]:
    """The rows of all events in some blocks, in the order of the chain."""
    rows: list[tuple[Any, ...]] = []
    for kind, event in enumerate(inputs.events):
        arguments = [sql.Identifier(column.name) for column in event.table.columns]
        statement = sql.SQL("""
            SELECT block_number, log_index, {kind}::smallint, extract(epoch FROM block_time)::bigint, tx_hash, tx_index,
                   {columns}
            FROM {table}
            WHERE chain_id = %(chain)s AND block_number BETWEEN %(first)s AND %(last)s
              AND (%(addresses)s::bytea[] IS NULL OR contract_address = ANY(%(addresses)s::bytea[]))
            ORDER BY block_number, log_index
        """).format(
            kind=sql.Literal(kind),
            columns=sql.SQL(", ").join([sql.Identifier("contract_address"), *arguments]),
            table=event.table.identifier,
        )
        values = {"chain": chain_id, "first": first, "last": last, "addresses": inputs.addresses(event)}
        rows += reading(psycopg_connection(connection)).execute(statement, values).fetchall()
    if len(inputs.events) > 1:
        rows.sort(key=_POSITION)
    return rows
