"""Making the catalog what the manifest asks for.

One transaction, so that a kill leaves the old state or the new one. Run it and roll back to see the difference without
making it. Nothing that holds data is ever dropped here: what is no longer wanted is marked inactive and keeps its rows
and its coverage, so that wanting it again costs only what is missing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from indexer.store import layout, tables
from indexer.store.catalog import CATALOG_LOCK, load_sources
from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.declaration import (
    ChainDeclaration,
    ContractDeclaration,
    Declaration,
    Deployment,
    EventDeclaration,
    Factory,
    Place,
    SeriesDeclaration,
)
from indexer.store.layout import EventTable


@dataclass(frozen=True, slots=True)
class Change:
    """One difference that was made."""

    action: Literal["add", "remove", "change"]
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        sign = {"add": "+", "remove": "-", "change": "~"}[self.action]
        return f"{sign} {self.subject}" + (f": {self.detail}" if self.detail else "")


def apply(connection: Connection, declaration: Declaration) -> list[Change]:
    """Makes the difference between the catalog and a declaration, in the connection's transaction.

    Returns:
        What was changed, in the order in which it was done; empty if nothing.

    Raises:
        DatabaseError: the declaration contradicts data that is already there; nothing may be committed then.
    """
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": CATALOG_LOCK})
    changes: list[Change] = []
    _apply_chains(connection, declaration.chains, changes)
    for contract in declaration.contracts:
        _apply_contract(connection, contract, changes)
    _deactivate_missing(connection, tables.contracts, "contract", {c.name for c in declaration.contracts}, changes)
    for series in declaration.series:
        _apply_series(connection, series, changes)
    _deactivate_missing(connection, tables.series, "snapshot", {s.name for s in declaration.series}, changes)
    _retire_sources(connection)
    _adopt_children(connection)
    if changes:
        connection.execute(sa.update(tables.catalog).values(version=tables.catalog.c.version + 1))
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
            changes.append(Change("add", f"chain {chain.name}", f"id {chain.chain_id}"))
        elif any(getattr(row, key) != value for key, value in wanted.items()):
            connection.execute(
                sa.update(tables.chains).where(tables.chains.c.chain_id == chain.chain_id).values(**wanted)
            )
            changes.append(Change("change" if row.active else "add", f"chain {chain.name}"))
    for chain_id in known.keys() - {chain.chain_id for chain in chains}:
        if known[chain_id].active:
            connection.execute(
                sa.update(tables.chains).where(tables.chains.c.chain_id == chain_id).values(active=False)
            )
            changes.append(Change("remove", f"chain {known[chain_id].name}", "its data stays"))


def _deactivate_missing(
    connection: Connection, table: sa.Table, what: str, names: set[str], changes: list[Change]
) -> None:
    for row in connection.execute(sa.select(table.c.id, table.c.name).where(table.c.active)).all():
        if row.name not in names:
            connection.execute(sa.update(table).where(table.c.id == row.id).values(active=False))
            changes.append(Change("remove", f"{what} {row.name}", "its data stays"))


def _apply_contract(connection: Connection, contract: ContractDeclaration, changes: list[Change]) -> None:
    row = connection.execute(sa.select(tables.contracts).where(tables.contracts.c.name == contract.name)).one_or_none()
    if row is None:
        _execute(connection, layout.create_schema(contract.schema_name, f"contract {contract.name}"))
        contract_id = connection.execute(
            sa.insert(tables.contracts)
            .values(name=contract.name, schema_name=contract.schema_name, abi=contract.abi)
            .returning(tables.contracts.c.id)
        ).scalar_one()
        changes.append(Change("add", f"contract {contract.name}"))
    else:
        contract_id = row.id
        if row.abi != contract.abi or not row.active:
            connection.execute(
                sa.update(tables.contracts)
                .where(tables.contracts.c.id == contract_id)
                .values(abi=contract.abi, active=True)
            )
            changes.append(Change("change" if row.active else "add", f"contract {contract.name}", "ABI"))
    deployed = _apply_deployments(connection, contract_id, contract.deployments)
    event_ids = _apply_events(connection, contract_id, contract, changes)
    for event in contract.events:
        event_id = event_ids[event.topic0]
        for deployment in contract.deployments:
            _apply_sources(connection, f"{contract.name}.{event.api_name}", event_id, event, deployment, changes)
        _stop_chains(connection, event_id, deployed)
        _apply_indexes(connection, contract, event, event_id)


def _apply_deployments(connection: Connection, contract_id: int, deployments: Sequence[Deployment]) -> set[int]:
    for deployment in deployments:
        place = deployment.place
        values = {
            "kind": place.kind,
            "addresses": [bytes.fromhex(address[2:]) for address in place.addresses],
            "factories": [factory.to_json() for factory in place.factories] or None,
            "start_block": deployment.start_block,
            "end_block": deployment.end_block,
            "active": True,
        }
        key = {"contract_id": contract_id, "chain_id": deployment.chain_id}
        statement = insert(tables.deployments).values(**key, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
    chain_ids = {deployment.chain_id for deployment in deployments}
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
            ids[event.topic0] = _add_event(connection, contract_id, contract, event, taken)
            changes.append(Change("add", f"event {contract.name}.{event.api_name}"))
            continue
        ids[event.topic0] = row.id
        _refuse_other_layout(contract.name, event, row)
        # Names of tables and columns never change; the ABI's own (of arguments) may.
        wanted = {"name": event.name, "api_name": event.api_name, "abi": dict(event.item), "active": True}
        if any(getattr(row, key) != value for key, value in wanted.items()):
            connection.execute(sa.update(tables.events).where(tables.events.c.id == row.id).values(**wanted))
            changes.append(Change("change" if row.active else "add", f"event {contract.name}.{event.api_name}"))
    for topic0, row in known.items():
        if row.active and topic0 not in ids:
            connection.execute(sa.update(tables.events).where(tables.events.c.id == row.id).values(active=False))
            changes.append(Change("remove", f"event {contract.name}.{row.api_name}", "its data stays"))
    return ids


def _refuse_other_layout(contract: str, event: EventDeclaration, row: sa.Row[Any]) -> None:
    stored = [(column["pg_type"], column["indexed"]) for column in row.columns]
    if stored != [(column.pg_type, column.indexed) for column in event.columns] or row.anonymous != event.anonymous:
        raise DatabaseError(
            f"{contract}.{event.api_name}: the ABI now declares {event.signature} with other indexed arguments than "
            "the table that holds its rows",
            hint=f"rows of the two would not mean the same; name the contract anew, or run: gapless drop {contract}",
        )


def _add_event(
    connection: Connection,
    contract_id: int,
    contract: ContractDeclaration,
    event: EventDeclaration,
    taken: set[str],
) -> int:
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
    return event_id


def _apply_indexes(
    connection: Connection, contract: ContractDeclaration, event: EventDeclaration, event_id: int
) -> None:
    row = connection.execute(
        sa.select(tables.events.c.table_name, tables.events.c.columns).where(tables.events.c.id == event_id)
    ).one()
    stored = [column["name"] for column in row.columns]
    table = EventTable(event_id, contract.schema_name, row.table_name, event.columns)
    wanted = [name for name, column in zip(stored, event.columns, strict=True) if column.indexed]
    wanted += [
        name
        for name, column in zip(stored, event.columns, strict=True)
        if column.argument in event.indexes and name not in wanted
    ]
    if any(d.place.kind != "addresses" or len(d.place.addresses) > 1 for d in contract.deployments):
        wanted.append("contract_address")
    existing = set(
        connection.execute(
            sa.text("""
                SELECT (SELECT attname FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = i.indkey[1])
                FROM pg_index i
                WHERE i.indrelid = format('%I.%I', CAST(:schema AS text), CAST(:table AS text))::regclass
                  AND NOT i.indisprimary AND i.indnatts = 4
            """),
            {"schema": contract.schema_name, "table": row.table_name},
        ).scalars()
    )
    _execute(connection, [layout.create_index(table, name) for name in wanted if name not in existing])


def _apply_sources(
    connection: Connection,
    label: str,
    event_id: int,
    event: EventDeclaration,
    deployment: Deployment,
    changes: list[Change],
) -> None:
    """Makes the sources of one event on one chain cover its place, keeping what is covered already.

    The wheres of an event's sources are disjoint. An address that is new becomes a source of its own, which starts with
    nothing covered; one that is no longer wanted is split off into an inactive source that keeps its coverage.
    """
    wanted = deployment.place_of(event.topic0)
    rows = connection.execute(
        sa.select(tables.sources)
        .where(tables.sources.c.event_id == event_id, tables.sources.c.chain_id == deployment.chain_id)
        .order_by(tables.sources.c.id)
        .with_for_update()
    ).all()
    missing = set(wanted.addresses)
    found = False
    for row in rows:
        place = Place.from_json(row.place)
        if wanted.kind == "addresses" and place.kind == "addresses" and place.filters == wanted.filters:
            kept = tuple(address for address in place.addresses if address in missing)
            dropped = tuple(address for address in place.addresses if address not in missing)
            missing -= set(kept)
            if kept and dropped:
                _split(connection, row, place, kept, dropped)
            active = bool(kept)
        elif wanted.kind == "addresses" and place.kind == "addresses":
            # Another filter from now on. What is not wanted at all any more keeps its rows; the rest is replaced.
            replaced = tuple(address for address in place.addresses if address in wanted.addresses)
            untouched = tuple(address for address in place.addresses if address not in wanted.addresses)
            if replaced and untouched:
                _split(connection, row, place, replaced, untouched)
            active = False
        else:
            active = not found and place == wanted
            found = found or active
        _update_source(connection, label, row, active, deployment, changes)
    if wanted.kind == "addresses":
        if missing:
            place = Place("addresses", tuple(sorted(missing)), filters=wanted.filters)
            _add_source(connection, label, event_id, deployment, place, changes)
    elif not found:
        _add_source(connection, label, event_id, deployment, wanted, changes)


def _split(
    connection: Connection, row: sa.Row[Any], place: Place, kept: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    sources = tables.sources
    connection.execute(
        sa.update(sources)
        .where(sources.c.id == row.id)
        .values(place=Place("addresses", kept, filters=place.filters).to_json())
    )
    connection.execute(
        sa.text("""
            INSERT INTO gapless.sources (chain_id, event_id, place, start_block, end_block, coverage, verified, active)
            SELECT chain_id, event_id, CAST(:place AS jsonb), start_block, end_block, coverage, verified, false
            FROM gapless.sources WHERE id = :id
        """),
        {"id": row.id, "place": json.dumps(Place("addresses", dropped, filters=place.filters).to_json())},
    )
    # A digest sums the rows of all its source's addresses; it cannot be split, only taken anew (gapless audit does).
    connection.execute(sa.delete(tables.digests).where(tables.digests.c.source_id == row.id))


def _update_source(
    connection: Connection, label: str, row: sa.Row[Any], active: bool, deployment: Deployment, changes: list[Change]
) -> None:
    wanted: dict[str, Any] = {"active": active}
    if active:
        wanted |= {"start_block": deployment.start_block, "end_block": deployment.end_block}
    if all(getattr(row, key) == value for key, value in wanted.items()):
        return
    connection.execute(sa.update(tables.sources).where(tables.sources.c.id == row.id).values(**wanted))
    if active and row.active:
        changes.append(Change("change", f"source {label}", f"from block {deployment.start_block}"))
    else:
        changes.append(Change("add" if active else "remove", f"source {label}"))


def _add_source(
    connection: Connection, label: str, event_id: int, deployment: Deployment, place: Place, changes: list[Change]
) -> None:
    connection.execute(
        sa.insert(tables.sources).values(
            chain_id=deployment.chain_id,
            event_id=event_id,
            place=place.to_json(),
            start_block=deployment.start_block,
            end_block=deployment.end_block,
        )
    )
    count = f"{len(place.addresses)} addresses" if len(place.addresses) > 1 else place.kind
    changes.append(Change("add", f"source {label}", f"{count} from block {deployment.start_block}"))


def _stop_chains(connection: Connection, event_id: int, chain_ids: set[int]) -> None:
    connection.execute(
        sa.update(tables.sources)
        .where(tables.sources.c.event_id == event_id, tables.sources.c.chain_id.not_in(chain_ids))
        .values(active=False)
    )


def _retire_sources(connection: Connection) -> None:
    """Sources of contracts, events and chains that are no longer wanted stop; their rows and coverage stay."""
    connection.execute(
        sa.text("""
            UPDATE gapless.sources s SET active = false
            FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id, gapless.chains n
            WHERE s.active AND e.id = s.event_id AND n.chain_id = s.chain_id
              AND NOT (e.active AND c.active AND n.active)
        """)
    )


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
                table_name=series.table_name,
                columns=columns,
            )
        )
        comment = f"snapshot {series.name}: {', '.join(series.calls)} every {series.every}"
        _execute(
            connection, layout.create_series_table(contract.schema_name, series.table_name, series.columns, comment)
        )
        changes.append(Change("add", f"snapshot {series.name}"))
        return
    if row.calls != list(series.calls) or row.contract_id != contract.id:
        raise DatabaseError(
            f"snapshot {series.name}: its calls or its contract have changed, and its table holds the old ones",
            hint=f"give the new series a name of its own, or run: gapless drop {series.name}",
        )
    if row.every != series.every or not row.active:
        connection.execute(
            sa.update(tables.series).where(tables.series.c.id == row.id).values(every=series.every, active=True)
        )
        changes.append(Change("change" if row.active else "add", f"snapshot {series.name}", f"every {series.every}"))


def _adopt_children(connection: Connection) -> None:
    """Finds the children that factories announced before their rule was declared: their events are in the tables."""
    driver = psycopg_connection(connection)
    sources = load_sources(connection)
    done: set[tuple[int, int, Factory]] = set()
    for child in sources:
        for factory in child.place.factories:
            key = (child.chain_id, child.event.contract_id, factory)
            announcing = next((s.event for s in sources if factory.announced_by(s.event)), None)
            if key in done or announcing is None:
                continue
            done.add(key)
            name, *path = factory.argument.split(".")
            column = next(column for column in announcing.table.columns if column.argument == name)
            address: sql.Composable = sql.Identifier(column.name)
            if path:
                keys = sql.SQL(", ").join(map(sql.Literal, path))
                address = sql.SQL("decode(substr({} #>> ARRAY[{}], 3), 'hex')").format(address, keys)
            driver.execute(
                sql.SQL("""
                    INSERT INTO gapless.children
                        (chain_id, contract_id, address, block_number, log_index, factory_address)
                    SELECT DISTINCT ON (child) chain_id, %s, child, block_number, log_index, contract_address
                    FROM (SELECT chain_id, {} AS child, block_number, log_index, contract_address FROM {}
                          WHERE chain_id = %s) announced
                    ORDER BY child, block_number, log_index
                    ON CONFLICT (chain_id, contract_id, address) DO NOTHING
                """).format(address, announcing.table.identifier),
                (child.event.contract_id, child.chain_id),
            )
