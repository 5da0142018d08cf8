"""The catalog as it is, read at once: what :mod:`indexer.store.apply.difference` compares a declaration with.

A handful of statements, however many events there are; without coverage, which writers change all the time.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.catalog import ledgers
from indexer.store.catalog.declaration import Declaration
from indexer.store.catalog.ledgers import Ledger
from indexer.store.catalog.version import load_version
from indexer.store.schema import tables

Row: TypeAlias = Any
"""A row of a static table, by the names of its columns."""


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


def load(connection: Connection, declaration: Declaration) -> CatalogRows:
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
