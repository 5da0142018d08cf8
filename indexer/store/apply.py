"""Making the catalog what the manifest asks for.

One transaction, so that a kill leaves the old state or the new one. Nothing that holds data is ever dropped here: what
is no longer wanted is marked inactive and keeps its rows and its coverage, so that wanting it again costs only what is
missing.
"""

from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine

from indexer.store import announced, indexes, layout, ledgers, lock_waits, tables, transfers
from indexer.store import apply_sources as sources
from indexer.store.catalog import end_change, hold_for_change
from indexer.store.changes import Change, abi_difference
from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.declaration import (
    ChainDeclaration,
    ContractDeclaration,
    Declaration,
    EventDeclaration,
    SeriesDeclaration,
)
from indexer.store.layout import EventTable


def apply(engine: Engine, declaration: Declaration, *, patience: float = lock_waits.PATIENCE) -> list[Change]:
    """Makes the difference between the catalog and a declaration.

    Writers wait for its one transaction only when they commit, and for no more than a moment: it waits for no lock for
    long itself, and is tried again instead.

    Args:
        engine: the database, with the current schema.
        declaration: what is wanted.
        patience: seconds for which it is tried while others hold what it changes.

    Returns:
        What was changed, in the order in which it was done; empty if nothing.

    Raises:
        DatabaseError: the declaration contradicts data that is already there, or others hold what it needs for too
            long; nothing was changed then.
    """

    def change(connection: Connection) -> list[Change]:
        hold_for_change(connection, wait=lock_waits.WAIT)
        changes = _apply(connection, declaration)
        if changes:
            end_change(connection)
        return changes

    changes = lock_waits.attempt(engine, "the manifest cannot be applied", change, patience=patience)
    transfers.keep_view(engine)
    return changes


def as_if_applied(connection: Connection, declaration: Declaration) -> list[Change]:
    """Makes the difference for the rest of a transaction, which must be rolled back: no other one waits for it.

    Raises:
        DatabaseError: as :func:`apply`.
    """
    return _apply(connection, declaration)


def _apply(connection: Connection, declaration: Declaration) -> list[Change]:
    changes: list[Change] = []
    _apply_chains(connection, declaration.chains, changes)
    for contract in declaration.contracts:
        _apply_contract(connection, contract, changes)
    _deactivate_missing(connection, "contract", {c.name for c in declaration.contracts}, changes)
    for series in declaration.series:
        _apply_series(connection, series, changes)
    _deactivate_missing(connection, "snapshot", {s.name for s in declaration.series}, changes)
    sources.retire(connection)
    changes += announced.take_back_unknown(connection, sources.adopt_children(connection))
    changes += ledgers.declare(connection, declaration.balances)
    return changes


def _execute(connection: Connection, statements: Sequence[sql.Composed]) -> None:
    driver = psycopg_connection(connection)
    for statement in statements:
        driver.execute(statement)


def _apply_chains(connection: Connection, chains: Sequence[ChainDeclaration], changes: list[Change]) -> None:
    known = {row.chain_id: row for row in connection.execute(sa.select(tables.chains))}
    for chain in chains:
        wanted = {"name": chain.name, "bloom_checks": chain.bloom_checks, "active": True}
        row = known.get(chain.chain_id)
        if row is None:
            connection.execute(sa.insert(tables.chains).values(chain_id=chain.chain_id, **wanted))
            changes.append(Change("add", "chain", chain.name, f"id {chain.chain_id}"))
        elif any(getattr(row, key) != value for key, value in wanted.items()):
            connection.execute(
                sa.update(tables.chains).where(tables.chains.c.chain_id == chain.chain_id).values(**wanted)
            )
            changes.append(Change("change" if row.active else "add", "chain", chain.name))
    for chain_id in known.keys() - {chain.chain_id for chain in chains}:
        if known[chain_id].active:
            connection.execute(
                sa.update(tables.chains).where(tables.chains.c.chain_id == chain_id).values(active=False)
            )
            changes.append(Change("remove", "chain", known[chain_id].name, "its data stays"))


def _deactivate_missing(
    connection: Connection, kind: Literal["contract", "snapshot"], names: set[str], changes: list[Change]
) -> None:
    table = tables.contracts if kind == "contract" else tables.series
    for row in connection.execute(sa.select(table.c.id, table.c.name).where(table.c.active)).all():
        if row.name not in names:
            connection.execute(sa.update(table).where(table.c.id == row.id).values(active=False))
            changes.append(Change("remove", kind, row.name, "its data stays"))


def _apply_contract(connection: Connection, contract: ContractDeclaration, changes: list[Change]) -> None:
    row = connection.execute(sa.select(tables.contracts).where(tables.contracts.c.name == contract.name)).one_or_none()
    if row is None:
        _execute(connection, layout.create_schema(contract.schema_name, f"contract {contract.name}"))
        contract_id = connection.execute(
            sa.insert(tables.contracts)
            .values(name=contract.name, schema_name=contract.schema_name, abi=contract.abi)
            .returning(tables.contracts.c.id)
        ).scalar_one()
        changes.append(Change("add", "contract", contract.name))
    else:
        contract_id = row.id
        if row.abi != contract.abi or not row.active:
            connection.execute(
                sa.update(tables.contracts)
                .where(tables.contracts.c.id == contract_id)
                .values(abi=contract.abi, active=True)
            )
            detail = abi_difference(row.abi, contract.abi)
            changes.append(Change("change" if row.active else "add", "contract", contract.name, detail))
    deployed = _apply_deployments(connection, contract_id, contract, changes)
    event_ids = _apply_events(connection, contract_id, contract, changes)
    for event in contract.events:
        event_id = event_ids[event.topic0]
        for deployment in contract.deployments:
            sources.apply(connection, f"{contract.name}.{event.api_name}", event_id, event, deployment, changes)
        sources.stop_chains(connection, f"{contract.name}.{event.api_name}", event_id, deployed, changes)
        _apply_indexes(connection, contract, event, event_id, changes)


def _apply_deployments(
    connection: Connection, contract_id: int, contract: ContractDeclaration, changes: list[Change]
) -> set[int]:
    deployments, include = contract.deployments, list(contract.include)
    kept = {
        row.chain_id: row
        for row in connection.execute(
            sa.select(tables.deployments).where(tables.deployments.c.contract_id == contract_id)
        )
    }
    chain_ids = {deployment.chain_id for deployment in deployments}
    # Those of chains that the contract has left stay as they were.
    if any(row.include != include for chain_id, row in kept.items() if chain_id in chain_ids):
        detail = f"include: {', '.join(include) or 'only the logs'}"
        changes.append(Change("change", "contract", contract.name, detail))
    for deployment in deployments:
        place = deployment.place
        values = {
            "kind": place.kind,
            "addresses": [bytes.fromhex(address[2:]) for address in place.addresses],
            "factories": [factory.to_json() for factory in place.factories] or None,
            "start_block": deployment.start_block,
            "end_block": deployment.end_block,
            "active": True,
            "include": include,
        }
        key = {"contract_id": contract_id, "chain_id": deployment.chain_id}
        if (before := kept.get(deployment.chain_id)) and (before.factories or None) != values["factories"]:
            # By another rule others are children. Those that the new one announces are adopted at the end.
            sources.forget_children(connection, contract_id, deployment.chain_id)
        statement = insert(tables.deployments).values(**key, **values)
        # With something else to include, everything is looked at again; what is there already is not fetched twice.
        same = tables.deployments.c.include == statement.excluded.include
        included = sa.case((same, tables.deployments.c.included), else_=statement.excluded.included)
        update = values | {"included": included}
        connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=update))
    connection.execute(
        sa.update(tables.deployments)
        .where(tables.deployments.c.contract_id == contract_id, tables.deployments.c.chain_id.not_in(chain_ids))
        .values(active=False)
    )
    return chain_ids


def _apply_events(
    connection: Connection, contract_id: int, contract: ContractDeclaration, changes: list[Change]
) -> dict[bytes, int]:
    rows = connection.execute(sa.select(tables.events).where(tables.events.c.contract_id == contract_id)).all()
    known = {bytes(row.topic0): row for row in rows}
    taken = {row.table_name for row in rows}
    ids: dict[bytes, int] = {}
    for event in contract.events:
        row = known.get(event.topic0)
        if row is None:
            ids[event.topic0], table_name = _add_event(connection, contract_id, contract, event, taken)
            detail = "" if table_name == event.table_name else f"its table is {contract.schema_name}.{table_name}"
            changes.append(Change("add", "event", f"{contract.name}.{event.api_name}", detail))
            continue
        ids[event.topic0] = row.id
        _refuse_other_layout(contract.name, event, row)
        # Names of tables and columns never change; the ABI's own (of arguments) may.
        wanted = {"name": event.name, "api_name": event.api_name, "abi": dict(event.item), "active": True}
        if any(getattr(row, key) != value for key, value in wanted.items()):
            connection.execute(sa.update(tables.events).where(tables.events.c.id == row.id).values(**wanted))
            renamed = dict(row.abi) != dict(event.item)
            detail = "arguments are named otherwise, columns keep their names" if renamed else ""
            name = f"{contract.name}.{event.api_name}"
            changes.append(Change("change" if row.active else "add", "event", name, detail))
    for topic0, row in known.items():
        if row.active and topic0 not in ids:
            connection.execute(sa.update(tables.events).where(tables.events.c.id == row.id).values(active=False))
            changes.append(Change("remove", "event", f"{contract.name}.{row.api_name}", "its data stays"))
    return ids


def _refuse_other_layout(contract: str, event: EventDeclaration, row: sa.Row[Any]) -> None:
    stored = [(column["pg_type"], column["indexed"]) for column in row.columns]
    if stored != [(column.pg_type, column.indexed) for column in event.columns] or row.anonymous != event.anonymous:
        raise DatabaseError(
            f"{contract}.{event.api_name}: the ABI now declares {event.signature} with other indexed arguments than "
            f"the table {row.table_name}, which holds its rows",
            hint="rows of the two would not mean the same. Give the contract with the new ABI a name of its own; or "
            f"take the event out of the manifest, run: gapless apply, then: gapless drop {contract}.{row.api_name}, "
            "and put it back: its history is fetched anew",
        )


def _add_event(
    connection: Connection,
    contract_id: int,
    contract: ContractDeclaration,
    event: EventDeclaration,
    taken: set[str],
) -> tuple[int, str]:
    table_name = event.table_name
    if table_name in taken:
        table_name = f"{table_name[:54]}_{event.topic0[:4].hex()}"
    taken.add(table_name)
    event_id: int = connection.execute(
        sa.insert(tables.events)
        .values(
            contract_id=contract_id,
            name=event.name,
            api_name=event.api_name,
            signature=event.signature,
            topic0=event.topic0,
            anonymous=event.anonymous,
            abi=dict(event.item),
            table_name=table_name,
            columns=[column.to_json() for column in event.columns],
            layout_version=layout.LAYOUT_VERSION,
        )
        .returning(tables.events.c.id)
    ).scalar_one()
    table = EventTable(event_id, contract.schema_name, table_name, event.columns)
    _execute(connection, layout.create_event_table(table, event.signature))
    return event_id, table_name


def _apply_indexes(
    connection: Connection,
    contract: ContractDeclaration,
    event: EventDeclaration,
    event_id: int,
    changes: list[Change],
) -> None:
    """Notes which columns are to have an index. It is made now where there are no rows, else later, beside all work."""
    events = tables.events
    row = connection.execute(
        sa.select(events.c.table_name, events.c.columns, events.c.indexes).where(events.c.id == event_id)
    ).one()
    names = [column["name"] for column in row.columns]
    wanted = [name for name, column in zip(names, event.columns, strict=True) if column.indexed]
    wanted += [
        name
        for name, column in zip(names, event.columns, strict=True)
        if column.argument in event.indexes and name not in wanted
    ]
    if any(d.place.kind != "addresses" or len(d.place.addresses) > 1 for d in contract.deployments):
        wanted.append("contract_address")
    if set(wanted) != set(row.indexes):
        connection.execute(sa.update(events).where(events.c.id == event_id).values(indexes=wanted))
    table = EventTable(event_id, contract.schema_name, row.table_name, event.columns)
    missing = set(wanted) - indexes.columns_with_index(connection, contract.schema_name, row.table_name)
    is_empty = (
        psycopg_connection(connection)
        .execute(sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(table.identifier))
        .fetchone()
    )
    label = f"{contract.name}.{event.api_name}"
    if is_empty == (True,):
        _execute(connection, [indexes.create(contract.schema_name, row.table_name, name) for name in sorted(missing)])
    else:
        changes += [
            Change("add", "index", f"{label}({name})", "built by the running indexer, beside all other work")
            for name in wanted
            if name in missing and name not in row.indexes
        ]
    changes += [
        Change("remove", "index", f"{label}({name})", "dropped by the running indexer")
        for name in row.indexes
        if name not in wanted
    ]


def _apply_series(connection: Connection, series: SeriesDeclaration, changes: list[Change]) -> None:
    contract = connection.execute(sa.select(tables.contracts).where(tables.contracts.c.name == series.contract)).one()
    row = connection.execute(sa.select(tables.series).where(tables.series.c.name == series.name)).one_or_none()
    columns = [column.to_json() for column in series.columns]
    if row is None:
        connection.execute(
            sa.insert(tables.series).values(
                name=series.name,
                contract_id=contract.id,
                calls=list(series.calls),
                every=series.every,
                definition=dict(series.definition),
                table_name=series.table_name,
                columns=columns,
            )
        )
        comment = f"snapshot {series.name}: {', '.join(series.calls)} every {series.every}"
        _execute(
            connection, layout.create_series_table(contract.schema_name, series.table_name, series.columns, comment)
        )
        changes.append(Change("add", "snapshot", series.name, f"every {series.every}"))
        return
    is_other = row.definition is not None and row.definition != dict(series.definition)
    if row.calls != list(series.calls) or row.contract_id != contract.id or is_other or row.columns != columns:
        raise DatabaseError(
            f"snapshot {series.name}: its calls, their arguments, its query or its contract have changed; its table "
            "holds the old ones",
            hint="give the new series a name of its own; or take it out of the manifest, run: gapless apply, then: "
            f"gapless drop {series.name}, and put it back",
        )
    if row.definition is None:
        definition = dict(series.definition)
        connection.execute(sa.update(tables.series).where(tables.series.c.id == row.id).values(definition=definition))
    if row.every != series.every or not row.active:
        connection.execute(
            sa.update(tables.series).where(tables.series.c.id == row.id).values(every=series.every, active=True)
        )
        changes.append(Change("change" if row.active else "add", "snapshot", series.name, f"every {series.every}"))
