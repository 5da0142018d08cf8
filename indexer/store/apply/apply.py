"""Making the catalog what the manifest asks for.

* What differs is found out first (:mod:`indexer.store.apply.difference`), in a snapshot, holding nothing.
* What needs tables is created ahead, a few at a time, in transactions of their own: rows of the catalog that are not
  active yet, and by which no one works.
* One transaction then writes the rows of the catalog that differ, so that a kill leaves the old state or the new one.
  It takes the catalog's lock last, like every writer.
* What must lock tables that others read (views, indexes of empty tables) comes after it, in transactions of its own.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import database
from indexer.store.apply import derived_tables, readable_views
from indexer.store.apply.difference import Difference, NewSeries, difference
from indexer.store.apply.difference_events import NewEvent
from indexer.store.apply.difference_sources import Split, Write
from indexer.store.catalog import factory_coverage, ledgers, version
from indexer.store.catalog.declaration import Change, ContractDeclaration, Declaration
from indexer.store.catalog.version import end_change, hold_for_change, load_version
from indexer.store.database import BusyError, DatabaseError, psycopg_connection
from indexer.store.rows import indexes
from indexer.store.schema import layout, tables
from indexer.store.schema.layout import EventTable
from indexer.store.tokens import transfers

log = logging.getLogger(__name__)

_CANNOT: Final = "the manifest cannot be applied"
#: Tables that are created in one transaction: each holds a lock until its end, and the server has room for thousands.
_STEP: Final = 50
#: How often it is compared anew where another process changes the catalog at the same time.
_MOST_ROUNDS: Final = 20
# Told by constraints of the catalog: what the comparison has not foreseen.
_CONTRADICTIONS = (
    psycopg.errors.IntegrityError,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateObject,
)


def compare(engine: Engine, declaration: Declaration) -> Difference:
    """Says what applying a declaration would do; holds nothing and changes nothing.

    Raises:
        DatabaseError: the declaration contradicts data that is already there.
        ProblemsError: rules of derived tables are wrong.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        rows = version.load_rows(connection, declaration)
    found = difference(rows, declaration)
    derived_tables.require_right(engine, declaration, found.derived)
    return found


def apply(engine: Engine, declaration: Declaration, *, patience: float = database.PATIENCE) -> list[Change]:
    """Makes the difference between the catalog and a declaration.

    Writers wait for it only when they commit, and for no more than a moment: it waits for no lock for long itself, and
    is tried again instead. Killed in the middle, it goes on at its next run.

    Args:
        engine: the database, with the current schema.
        declaration: what is wanted.
        patience: seconds for which each step is tried while others hold what it changes.

    Returns:
        What was changed, in the order in which the manifest names it; empty if nothing.

    Raises:
        DatabaseError: the declaration contradicts data that is already there; the catalog is as before then.
        BusyError: others hold what it needs for too long; the same.
    """
    changes: list[Change] = []
    found, contradiction = compare(engine, declaration), None
    for _ in range(_MOST_ROUNDS):
        changes = changes or found.changes
        if not found:
            break
        try:
            if found.creates:
                _create(engine, found, patience)
            elif (taken := _write(engine, found, patience)) is not None:
                changes += taken
                _index_empty(engine, found.indexed)
                kept = {table for _, made in declaration.programs for table in made}
                derived_tables.take(engine, found.derived, kept, patience)
                break
            contradiction = None
        except (psycopg.Error, sa.exc.DBAPIError) as error:
            contradiction = _contradiction(error)
        before, found = found, compare(engine, declaration)
        # Where another process has made the same meanwhile, less is left to do.
        if contradiction is not None and found == before:
            raise contradiction
    else:
        raise BusyError(f"{_CANNOT}: other processes change the catalog all the time", hint="run it again")
    if changes or transfers.is_missing(engine):
        try:
            transfers.keep_view(engine)
        except BusyError as error:
            log.warning("%s; it lacks what was added last until the indexer has renewed it", error)
        readable_views.keep_or_say(engine)
    return changes


def _contradiction(error: psycopg.Error | sa.exc.DBAPIError) -> DatabaseError:
    """What a constraint of the catalog has refused, for people; raises the error itself where it is another one."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if not isinstance(cause, _CONTRADICTIONS):
        raise error
    return DatabaseError(
        f"the manifest contradicts what is in the database: {cause.diag.message_primary}; "
        f"{cause.diag.message_detail or 'nothing was changed'}",
        hint="gapless apply --dry-run shows what it would change; nothing that holds data was touched",
    )


# -- what is new, ahead --------------------------------------------------------------------------------------------


def _create(engine: Engine, found: Difference, patience: float) -> None:
    for contract in found.contracts:
        database.attempt(engine, _CANNOT, partial(_create_contract, contract=contract), patience=patience)
    for at in range(0, len(found.events), _STEP):
        some = found.events[at : at + _STEP]
        database.attempt(engine, _CANNOT, partial(_create_events, events=some), patience=patience)
    for series in found.series:
        database.attempt(engine, _CANNOT, partial(_create_series, one=series), patience=patience)


def _create_contract(connection: Connection, contract: ContractDeclaration) -> None:
    _execute(connection, layout.create_schema(contract.schema_name, f"contract {contract.name}"))
    connection.execute(
        sa.insert(tables.contracts).values(
            name=contract.name, schema_name=contract.schema_name, abi=contract.abi, active=False
        )
    )


def _create_events(connection: Connection, events: Sequence[NewEvent]) -> None:
    contract_ids = _contract_ids(connection, {one.contract for one in events})
    for one in events:
        event = one.event
        event_id: int = connection.execute(
            sa.insert(tables.events)
            .values(
                contract_id=contract_ids[one.contract],
                name=event.name,
                api_name=event.api_name,
                signature=event.signature,
                topic0=event.topic0,
                anonymous=event.anonymous,
                abi=dict(event.item),
                table_name=one.table_name,
                columns=[column.to_json() for column in event.columns],
                layout_version=layout.LAYOUT_VERSION,
                indexes=list(one.indexes),
                active=False,
            )
            .returning(tables.events.c.id)
        ).scalar_one()
        table = EventTable(event_id, one.schema_name, one.table_name, event.columns)
        _execute(connection, layout.create_event_table(table, event.signature))
        indexed = (*sorted(one.indexes), indexes.TIME)
        _execute(connection, [indexes.create(one.schema_name, one.table_name, name) for name in indexed])


def _create_series(connection: Connection, one: NewSeries) -> None:
    series = one.series
    connection.execute(
        sa.insert(tables.series).values(
            name=series.name,
            contract_id=_contract_ids(connection, {series.contract})[series.contract],
            calls=list(series.calls),
            every=series.every,
            definition=dict(series.definition),
            table_name=one.table_name,
            columns=[column.to_json() for column in series.columns],
            active=False,
        )
    )
    comment = f"snapshot {series.name}: {', '.join(series.calls)} every {series.every}"
    _execute(connection, layout.create_series_table(one.schema_name, one.table_name, series.columns, comment))


def _contract_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    contracts = tables.contracts
    rows = connection.execute(sa.select(contracts.c.name, contracts.c.id).where(contracts.c.name.in_(set(names))))
    return {row.name: row.id for row in rows}


def _execute(connection: Connection, statements: Sequence[sql.Composed]) -> None:
    if statements:
        # One question for all: a table has a dozen comments.
        psycopg_connection(connection).execute(sql.SQL("; ").join(statements))


# -- the catalog ---------------------------------------------------------------------------------------------------


def _write(engine: Engine, found: Difference, patience: float) -> list[Change] | None:
    """Writes what differs; returns what followed from it, or None if the catalog is another one meanwhile."""

    def change(connection: Connection) -> list[Change] | None:
        _write_rows(connection, found.writes)
        # Last, as every writer: who holds a row that is written above is waited for before, and not under this lock.
        hold_for_change(connection, wait=database.WAIT)
        if load_version(connection) != found.version:
            connection.rollback()
            return None
        return _follow(connection, found)

    return database.attempt(engine, _CANNOT, change, patience=patience)


def _write_all(connection: Connection, found: Difference) -> None:
    _write_rows(connection, found.writes)
    _follow(connection, found)


def _follow(connection: Connection, found: Difference) -> list[Change]:
    """What depends on coverage and on digests, which are as they are from here on, and the new version."""
    for split in found.splits:
        _split(connection, split)
    taken = factory_coverage.take_back_unknown(connection)
    ledgers.take(connection, found.ledgers)
    if found or taken:
        end_change(connection)
    return taken


def _write_rows(connection: Connection, writes: Sequence[Write]) -> None:
    """Writes rows in order, those of one kind that follow one another at once."""

    def kind(write: Write) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        return write.table.name, tuple(sorted(write.key or ())), tuple(sorted(write.values))

    for _, group in groupby(writes, kind):
        some = list(group)
        table, key, values = some[0].table, some[0].key, some[0].values
        if key is None:
            connection.execute(sa.insert(table), [dict(one.values) for one in some])
            continue
        statement = (
            sa.update(table)
            .where(*(table.c[name] == sa.bindparam(f"key_{name}") for name in key))
            .values({name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in values})
        )
        connection.execute(statement, [_parameters(one) for one in some])


def _parameters(write: Write) -> dict[str, Any]:
    keys = {f"key_{name}": value for name, value in (write.key or {}).items()}
    return keys | {f"new_{name}": value for name, value in write.values.items()}


def _split(connection: Connection, split: Split) -> None:
    """Splits addresses off a source; the part that is no longer wanted keeps what the whole has covered."""
    sources = tables.sources
    connection.execute(sa.update(sources).where(sources.c.id == split.source_id).values(place=split.kept.to_json()))
    copied = [sources.c[name] for name in ("chain_id", "event_id", "start_block", "end_block", "coverage", "verified")]
    dropped = sa.bindparam("dropped", split.dropped.to_json(), type_=sources.c.place.type)
    connection.execute(
        sa.insert(sources).from_select(
            [*copied, sources.c.place, sources.c.active],
            sa.select(*copied, dropped, sa.false()).where(sources.c.id == split.source_id),
        )
    )
    # A digest sums the rows of all its source's addresses; it cannot be split, only taken anew (gapless audit does).
    connection.execute(sa.delete(tables.digests).where(tables.digests.c.source_id == split.source_id))


# -- afterwards ----------------------------------------------------------------------------------------------------


def _index_empty(engine: Engine, event_ids: Sequence[int]) -> None:
    """Builds the indexes of tables without rows at once; where there are rows, the running indexer does, beside all."""
    for event_id in event_ids:
        try:
            database.attempt(
                engine, _CANNOT, partial(indexes.create_if_empty, event_id=event_id), patience=database.WAIT
            )
        except BusyError:
            return  # it is being read; the running indexer does it
