"""The catalog as a whole: its version, the lock by which it changes, and all of its rows read at once.

A transaction that writes by the catalog makes sure, last of all, that the version is still the one that it planned by
(:func:`writing_by`). A change of the catalog takes the lock for itself, last of all too: neither waits for longer
than the other's commit.

:class:`CatalogRows` is what :mod:`indexer.store.apply.difference` compares a declaration with: a handful of
statements, however many events there are; without coverage, which writers change all the time.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.store.catalog import ledgers
from indexer.store.catalog.declaration import Declaration
from indexer.store.catalog.ledgers import Ledger
from indexer.store.database import psycopg_connection
from indexer.store.schema import tables

Row: TypeAlias = Any
"""A row of a static table, by the names of its columns."""


class CatalogChangedError(GaplessError):
    """The catalog is no longer the one by which something was planned: plan again."""


class CatalogBusyError(CatalogChangedError):
    """A change of the catalog was being committed for longer than a writer waits: nothing was written, plan again."""


# Held exclusively by the transaction that changes the catalog, shared by each one that writes by it while it commits.
# Advisory, and not the lock of the catalog's row: advisory locks are granted in the order in which they were asked for,
# while writers that share a row's lock one after the other can keep a change away for ever.
_CATALOG_LOCK: Final = 0x6761706C617070

#: Seconds that a writer that is done waits for a change of the catalog that is being committed.
WRITER_WAIT: Final = 5.0

# What a table that was dropped, or a contract whose rows in the catalog are gone, looks like to those who write there.
_GONE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.ForeignKeyViolation,
)


def load_version(connection: Connection) -> int:
    """The version of the catalog; read it before what depends on it."""
    version: int = connection.execute(sa.text("SELECT version FROM gapless.catalog")).scalar_one()
    return version


def hold_version(connection: Connection, version: int) -> None:
    """Makes sure that the catalog is still the one by which a transaction was planned, and stays so until it ends.

    The last thing that the transaction does: every lock that it waited for is held by then, so that nothing is written
    by a catalog that was changed during the wait, and a change of the catalog waits for a commit only.

    Raises:
        CatalogChangedError: it is another one already.
        CatalogBusyError: a change was being committed for :data:`WRITER_WAIT` seconds.
    """
    try:
        # One question. The version is read by a statement of its own, which sees what was committed during the wait.
        cursor = psycopg_connection(connection).execute(
            f"SET LOCAL lock_timeout = {int(WRITER_WAIT * 1000)}; "
            f"SELECT pg_advisory_xact_lock_shared({_CATALOG_LOCK}); SELECT version FROM gapless.catalog"
        )
    except psycopg.errors.LockNotAvailable:
        raise CatalogBusyError("the manifest is being applied; nothing was written, trying again") from None
    while cursor.nextset():
        pass
    if cursor.fetchone() != (version,):
        raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")


@dataclass(slots=True)
class Writing:
    """A transaction that writes by the catalog.

    Attributes:
        forgets: whether those who work by the catalog hold something in memory that this transaction makes untrue: they
            read the catalog anew once it is committed.
    """

    forgets: bool = False


@contextmanager
def writing_by(connection: Connection, version: int) -> Iterator[Writing]:
    """Around all that a transaction writes by the catalog; nothing but the commit may follow.

    Args:
        connection: in a transaction.
        version: of the catalog by which it was planned.

    Raises:
        CatalogChangedError: the catalog is another one now, or what is written to is gone; nothing may be committed.
    """
    writing = Writing()
    try:
        yield writing
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if not isinstance(cause, _GONE):
            raise
        what = cause.diag.message_primary or str(cause)
        raise CatalogChangedError(f"it was dropped meanwhile ({what}); planning again") from None
    if writing.forgets:
        advance_version(connection, version)
    else:
        hold_version(connection, version)


def advance_version(connection: Connection, version: int) -> None:
    """Make every process that works by the catalog read it anew; waits for those that are committing by it.

    The last thing that the transaction does.

    Raises:
        CatalogChangedError: it is another one already.
        CatalogBusyError: a change was being committed for :data:`WRITER_WAIT` seconds.
    """
    try:
        hold_for_change(connection, wait=WRITER_WAIT)
    except psycopg.errors.LockNotAvailable:
        raise CatalogBusyError("the manifest is being applied; nothing was written, trying again") from None
    if load_version(connection) != version:
        raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")
    _bump(connection)


def hold_for_change(connection: Connection, *, wait: float) -> None:
    """Begin a change of the catalog: writers that work by it do not commit before it ends, so it must be short.

    Args:
        connection: in a transaction; no lock is waited for longer than ``wait`` in the rest of it.
        wait: seconds.

    Raises:
        psycopg.errors.LockNotAvailable: others held it for longer.
    """
    psycopg_connection(connection).execute(
        f"SET LOCAL lock_timeout = {int(wait * 1000)}; SELECT pg_advisory_xact_lock({_CATALOG_LOCK})"
    )


def end_change(connection: Connection) -> None:
    """Ends a change of the catalog: every process reads it anew once the transaction is committed."""
    _bump(connection)


def _bump(connection: Connection) -> None:
    connection.execute(sa.text("UPDATE gapless.catalog SET version = version + 1"))


@dataclass(frozen=True, slots=True)
class CatalogRows:
    """All rows of the catalog in one snapshot, the inactive ones too.

    Attributes:
        version: of the catalog.
        chains: by their ids.
        contracts: by their names.
        deployments: by contract id and chain id.
        events: by contract id.
        sources: by event id and chain id, in the order of their ids; ``covered`` instead of coverage.
        series: by their names.
        ledgers: those that are live or served.
        derived: all builds of derived tables, in the order of their ids.
        schemas: every schema of the database, Gapless' own and others'.
        names: by the schemas in which the declaration wants another table: what has a name there.
    """

    version: int = 0
    chains: Mapping[int, Row] = field(default_factory=dict)
    contracts: Mapping[str, Row] = field(default_factory=dict)
    deployments: Mapping[int, Mapping[int, Row]] = field(default_factory=dict)
    events: Mapping[int, list[Row]] = field(default_factory=dict)
    sources: Mapping[tuple[int, int], list[Row]] = field(default_factory=dict)
    series: Mapping[str, Row] = field(default_factory=dict)
    ledgers: tuple[Ledger, ...] = ()
    derived: tuple[Row, ...] = ()
    schemas: frozenset[str] = frozenset()
    names: Mapping[str, Collection[str]] = field(default_factory=dict)


_SOURCES = sa.text("""
    SELECT id, chain_id, event_id, place, start_block, end_block, active, coverage <> '{}' AS covered
    FROM gapless.sources ORDER BY id
""")
_SCHEMAS = sa.text("SELECT nspname::text FROM pg_catalog.pg_namespace")
_NAMES = sa.text("""
    SELECT n.nspname::text AS schema_name, c.relname::text AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY(:schemas)
    UNION
    SELECT n.nspname::text, t.typname::text
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = ANY(:schemas)
""")


def load_rows(connection: Connection, declaration: Declaration) -> CatalogRows:
    """Reads the catalog.

    Args:
        connection: in a transaction with one snapshot (REPEATABLE READ), or in one that nothing else changes.
        declaration: what it will be compared with.
    """
    deployments: dict[int, dict[int, Row]] = {}
    for row in connection.execute(sa.select(tables.deployments)):
        deployments.setdefault(row.contract_id, {})[row.chain_id] = row
    events: dict[int, list[Row]] = {}
    for row in connection.execute(sa.select(tables.events).order_by(tables.events.c.id)):
        events.setdefault(row.contract_id, []).append(row)
    sources: dict[tuple[int, int], list[Row]] = {}
    for row in connection.execute(_SOURCES):
        sources.setdefault((row.event_id, row.chain_id), []).append(row)
    chains = {row.chain_id: row for row in connection.execute(sa.select(tables.chains).order_by(tables.chains.c.name))}
    contracts = {row.name: row for row in connection.execute(sa.select(tables.contracts).order_by("id"))}
    series = {row.name: row for row in connection.execute(sa.select(tables.series).order_by("id"))}
    return CatalogRows(
        version=load_version(connection),
        chains=chains,
        contracts=contracts,
        deployments=deployments,
        events=events,
        sources=sources,
        series=series,
        ledgers=tuple(ledger for chain_id in sorted(chains) for ledger in ledgers.load(connection, chain_id)),
        derived=tuple(connection.execute(sa.select(tables.derived).order_by(tables.derived.c.id))),
        schemas=frozenset(connection.execute(_SCHEMAS).scalars()),
        names=_names(connection, _growing(declaration, contracts, events, series)),
    )


def _growing(
    declaration: Declaration, contracts: Mapping[str, Row], events: Mapping[int, list[Row]], series: Mapping[str, Row]
) -> list[str]:
    """The schemas in which the declaration wants a table that is not in the catalog."""
    growing = {
        contract.schema_name
        for contract in declaration.contracts
        if (row := contracts.get(contract.name)) is not None
        and not {event.topic0 for event in contract.events} <= {bytes(e.topic0) for e in events.get(row.id, ())}
    }
    growing |= {
        contracts[one.contract].schema_name
        for one in declaration.series
        if one.name not in series and one.contract in contracts
    }
    return sorted(growing)


def _names(connection: Connection, schemas: list[str]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for row in connection.execute(_NAMES, {"schemas": schemas}) if schemas else ():
        names.setdefault(row.schema_name, set()).add(row.name)
    return names
