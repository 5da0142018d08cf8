"""The builds of derived tables, as the catalog knows them, and how far each is counted on each chain.

A *generation* is one build of one rule. Another rule begins a new one beside it; the old one is still counted and
served, with a remark, until the new one has come as far.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.database import psycopg_connection
from indexer.store.derived import levels, statements
from indexer.store.derived.rules import EventName, Kind, Rule, rule_of
from indexer.store.schema import layout
from indexer.store.schema.layout import EventTable

SCHEMA: Final = "derived"


@dataclass(frozen=True, eq=False)
class Generation:
    """A row of ``gapless.derived``; see there. There is one object for each row and the tables that it reads."""

    derived_id: int
    name: str
    kind: Kind
    generation: int
    rule: Rule
    table_name: str | None
    key: tuple[str, ...]
    event_ids: tuple[int, ...]
    lookup_ids: tuple[int, ...]
    active: bool
    served: bool
    tables: Mapping[EventName, EventTable]

    @cached_property
    def identifiers(self) -> tuple[sql.Identifier, ...]:
        """The tables of its levels: into the first it is counted, the last one is shown."""
        names = () if self.table_name is None else levels.table_names(self.rule, self.table_name)
        return tuple(sql.Identifier(SCHEMA, name) for name in names)

    @property
    def counted(self) -> tuple[Rule, sql.Identifier]:
        """What is counted from the rows of events, and into which table."""
        return self.rule.levels[0], self.identifiers[0]

    @cached_property
    def count(self) -> bytes:
        """Counts a range (:func:`statements.count`)."""
        return statements.count(*self.counted, self.tables).as_bytes(None)

    @cached_property
    def take_back(self) -> bytes:
        """Takes a range back (:func:`statements.take_back`)."""
        return statements.take_back(*self.counted, self.tables).as_bytes(None)


@lru_cache(maxsize=128)
def count_together(every: tuple[Generation, ...]) -> bytes:
    """Counts a range for several builds (:func:`statements.count_together`)."""
    return statements.count_together((*one.counted, one.tables) for one in every).as_bytes(None)


@dataclass(frozen=True, slots=True)
class DerivedProgress:
    """How far a generation is counted on one chain.

    Attributes:
        coverage: the blocks whose rows are counted.
        problem: why it is not counted further.
        source_ids: the active sources of the events that it reads there.
    """

    generation: Generation
    chain_id: int
    coverage: RangeSet
    problem: str | None
    source_ids: frozenset[int]


_COLUMNS: Final = """
    d.id, d.name, d.kind, d.generation, d.definition::text, d.table_name, d.key, d.event_ids, d.lookup_ids, d.active,
    d.served
"""
# Programs count by themselves, and views not at all.
_COUNTED = """
    gapless.derived_progress p JOIN gapless.derived d ON d.id = p.derived_id
    WHERE p.chain_id = %(chain_id)s AND d.kind IN ('rows', 'aggregate') AND d.table_name IS NOT NULL AND
"""
_SOURCES = """
    ARRAY(SELECT s.id FROM gapless.sources s
          WHERE s.active AND s.chain_id = p.chain_id AND s.event_id = ANY(d.event_ids || d.lookup_ids))
"""


def load(connection: Connection, condition: str = "true", **parameters: object) -> list[Generation]:
    """Generations, in the order of their ids.

    Args:
        connection: to read with.
        condition: over a row ``d`` of ``gapless.derived``; its parameters are written ``%(name)s``.
        parameters: theirs.
    """
    cursor = psycopg_connection(connection).execute(
        f"SELECT {_COLUMNS} FROM gapless.derived d WHERE {condition} ORDER BY d.id", parameters
    )
    return _generations(connection, cursor.fetchall(), {})


def _generations(
    connection: Connection, rows: Sequence[Sequence[Any]], known: Mapping[int, CatalogEvent]
) -> list[Generation]:
    """What rows that begin with the columns of generations say; events that are not known are looked up at once."""
    ids = {event_id for row in rows for event_id in (*row[7], *row[8])}.difference(known)
    events = {**known, **catalog.load_events(connection, ids=ids)} if ids else known
    return [_generation(row, events) for row in rows]


def _generation(row: Sequence[Any], events: Mapping[int, CatalogEvent]) -> Generation:
    mine = [events[one] for one in (*row[7], *row[8]) if one in events]
    known = tuple(sorted((event.contract, event.signature, event.event_id) for event in mine))
    of_ids = {event.event_id: event.table for event in mine}
    return _made(
        (row[0], row[1], row[2], row[3], row[4], row[5], tuple(row[6]), tuple(row[7]), tuple(row[8]), row[9], row[10]),
        tuple((contract, signature, of_ids[event_id]) for contract, signature, event_id in known),
    )


@lru_cache(maxsize=512)
def _made(row: tuple[Any, ...], tables: tuple[tuple[str, str, EventTable], ...]) -> Generation:
    """One object for each row and tables, so that statements are built once."""
    given = {(contract, signature): table for contract, signature, table in tables}
    rule = rule_of(row[2], json.loads(row[4]))
    number, name, kind, generation, _, table_name, key, event_ids, lookup_ids, active, served = row
    return Generation(
        *(number, name, kind, generation, rule), table_name, key, event_ids, lookup_ids, active, served, given
    )


def is_any(connection: Connection, chain_id: int, condition: str = "true", **parameters: object) -> bool:
    """Whether there is any such generation on a chain: what most chains have none of is asked in one look."""
    cursor = psycopg_connection(connection).execute(
        f"SELECT EXISTS (SELECT FROM {_COUNTED} {condition})",
        {"chain_id": chain_id, **parameters},
    )
    row = cursor.fetchone()
    return bool(row and row[0])


def progress(
    connection: Connection,
    chain_id: int,
    condition: str = "true",
    *,
    known: Mapping[int, CatalogEvent] | None = None,
    **parameters: object,
) -> list[DerivedProgress]:
    """How far generations with rows of their own are counted on a chain, unlocked.

    Args:
        connection: to read with.
        chain_id: the chain.
        condition: over their rows ``d`` and ``p`` of ``gapless.derived`` and ``gapless.derived_progress``.
        known: events that need not be looked up.
        parameters: of the condition.
    """
    cursor = psycopg_connection(connection).execute(
        f"SELECT {_COLUMNS}, p.coverage, p.problem, {_SOURCES} FROM {_COUNTED} {condition} ORDER BY p.derived_id",
        {"chain_id": chain_id, **parameters},
    )
    rows = cursor.fetchall()
    return [
        DerivedProgress(one, chain_id, layout.ranges_from_sql(coverage), problem, frozenset(sources))
        for one, (*_, coverage, problem, sources) in zip(_generations(connection, rows, known or {}), rows, strict=True)
    ]


def lock(connection: Connection, chain_id: int, condition: str = "true", **parameters: object) -> list[DerivedProgress]:
    """The same, locked until the transaction ends; waits for writers that change one."""
    # First the locks, then the look: what another transaction has just committed is seen.
    psycopg_connection(connection).execute(
        f"SELECT FROM {_COUNTED} {condition} ORDER BY p.derived_id FOR UPDATE OF p",
        {"chain_id": chain_id, **parameters},
    )
    return progress(connection, chain_id, condition, known=None, **parameters)


def lock_briefly(
    connection: Connection, chain_id: int, condition: str, wait: float, known: Mapping[int, CatalogEvent]
) -> list[DerivedProgress] | None:
    """The same for the head, in fewer round trips; None where others hold one for longer than ``wait``.

    Args:
        connection: in a transaction; the rest of it plans prepared statements once, and by indexes: their tables may
            have been empty then.
        chain_id: the chain.
        condition: without parameters.
        wait: seconds.
        known: events that need not be looked up.
    """
    driver = psycopg_connection(connection)
    counted = _COUNTED.replace("%(chain_id)s", str(int(chain_id)))
    try:
        driver.execute(
            f"SAVEPOINT brief_lock; SET LOCAL lock_timeout = {int(wait * 1000)}; "
            f"SELECT FROM {counted} {condition} ORDER BY p.derived_id FOR UPDATE OF p; "
            "SET LOCAL lock_timeout = 0; RELEASE SAVEPOINT brief_lock; "
            "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off"
        )
    except psycopg.errors.LockNotAvailable:
        driver.execute("ROLLBACK TO SAVEPOINT brief_lock; RELEASE SAVEPOINT brief_lock")
        return None
    return progress(connection, chain_id, condition, known=known)


def try_lock(connection: Connection, chain_id: int, derived_id: int) -> DerivedProgress | None:
    """One of them, locked; None if it is being changed, or gone."""
    locked = (
        psycopg_connection(connection)
        .execute(
            "SELECT FROM gapless.derived_progress WHERE derived_id = %s AND chain_id = %s FOR UPDATE SKIP LOCKED",
            (derived_id, chain_id),
        )
        .rowcount
    )
    found = progress(connection, chain_id, "d.id = %(id)s", id=derived_id) if locked else []
    return found[0] if found else None


def add_coverage(connection: Connection, chain_id: int, ids: Iterable[int], ranges: RangeSet) -> None:
    """Notes that blocks are counted now."""
    _change(connection, "coverage + %s::int8multirange", chain_id, ids, ranges)


def remove_coverage(connection: Connection, chain_id: int, ids: Iterable[int], ranges: RangeSet) -> None:
    """Notes that blocks are counted no more."""
    _change(connection, "coverage - %s::int8multirange", chain_id, ids, ranges)


def _change(connection: Connection, coverage: str, chain_id: int, ids: Iterable[int], ranges: RangeSet) -> None:
    psycopg_connection(connection).execute(
        "UPDATE gapless.derived_progress SET coverage = " + coverage + ", version = version + 1, updated_at = now() "
        "WHERE chain_id = %s AND derived_id = ANY(%s)",
        (layout.ranges_to_sql(ranges), chain_id, list(ids)),
    )


def note_problem(
    connection: Connection, chain_id: int, derived_id: int, problem: str | None, block: int | None
) -> None:
    """Notes why a generation is not counted further on a chain; None: it is."""
    psycopg_connection(connection).execute(
        "UPDATE gapless.derived_progress SET problem = %s, problem_block = %s, version = version + 1, "
        "updated_at = now() WHERE chain_id = %s AND derived_id = %s",
        (problem, block, chain_id, derived_id),
    )


def note_remark(connection: Connection, name: str, remark: str) -> bool:
    """Notes why the served generation is stale; returns whether that is another reason than was known."""
    noted = psycopg_connection(connection).execute(
        "UPDATE gapless.derived SET remark = %(remark)s "
        "WHERE name = %(name)s AND served AND remark IS DISTINCT FROM %(remark)s",
        {"name": name, "remark": remark},
    )
    return bool(noted.rowcount)
