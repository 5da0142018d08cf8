"""What an event's table must become: one that is new, or other names, indexes and states; compared, nothing done.

Part of :mod:`indexer.store.apply.difference`. A tuple is kept as a JSON object, and rows written after a renaming
must not differ in their keys from those before it: tables and factory rules keep the names of components that they
began with (:func:`with_kept_components`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from indexer.abi.columns import Column, Component
from indexer.store.apply.difference_sources import Write, values_that_differ
from indexer.store.catalog.declaration import Change, ContractDeclaration, Declaration, EventDeclaration, FactoryRule
from indexer.store.catalog.version import CatalogRows, Row
from indexer.store.database import DatabaseError
from indexer.store.schema import tables


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that needs a table."""

    contract: str
    schema_name: str
    event: EventDeclaration
    table_name: str
    indexes: tuple[str, ...]


@dataclass(slots=True)
class EventDifference:
    """What is to be done about the tables of a contract's events.

    Attributes:
        new: those that need a table.
        writes: of rows.
        changes: for people.
        ids: by topic; negative where the event is new.
        indexed: ids of events whose indexes are to be others.
    """

    new: list[NewEvent] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    ids: dict[bytes, int] = field(default_factory=dict)
    indexed: list[int] = field(default_factory=list)


def events_of(
    rows: CatalogRows,
    contract: ContractDeclaration,
    contract_id: int,
    covered: Collection[int],
    new_id: Callable[[], int],
) -> EventDifference:
    """Compares the tables of a contract's events with what is wanted.

    Args:
        rows: the catalog.
        contract: as it is wanted.
        contract_id: its id.
        covered: the events that have something indexed: their indexes are built beside other work.
        new_id: gives ids to those that are new.

    Raises:
        DatabaseError: a table has another layout, or its name is taken.
    """
    done = EventDifference()
    stored = rows.events.get(contract_id, [])
    known = {bytes(row.topic0): row for row in stored}
    taken = set(rows.names.get(contract.schema_name, ())) | {row.table_name for row in stored}
    ours = {row.table_name for row in stored} | {row.view_name for row in stored}
    ours |= {one.table_name for one in rows.series.values() if one.contract_id == contract_id}
    for event in contract.events:
        label = f"{contract.name}.{event.api_name}"
        row = known.get(event.topic0)
        if row is None:
            table_name = event.table_name
            if table_name in ours:
                table_name = f"{table_name[:54]}_{event.topic0[:4].hex()}"
            refuse_taken(label, contract.schema_name, table_name, taken)
            taken.add(table_name)
            ours.add(table_name)
            done.ids[event.topic0] = new_id()
            indexes = _indexes(contract, event, [column.name for column in event.columns])
            done.new.append(NewEvent(contract.name, contract.schema_name, event, table_name, indexes))
            detail = "" if table_name == event.table_name else f"its table is {contract.schema_name}.{table_name}"
            done.changes.append(Change("add", "event", label, detail))
            continue
        done.ids[event.topic0] = row.id
        _event(done, label, contract, event, row, is_covered=row.id in covered)
    wanted = {event.topic0 for event in contract.events}
    for topic0, row in known.items():
        if row.active and topic0 not in wanted:
            done.writes.append(Write(tables.events, {"active": False}, {"id": row.id}))
            done.changes.append(Change("remove", "event", f"{contract.name}.{row.api_name}", "its data stays"))
    return done


def _event(
    done: EventDifference,
    label: str,
    contract: ContractDeclaration,
    event: EventDeclaration,
    row: Row,
    *,
    is_covered: bool,
) -> None:
    _refuse_other_layout(contract.name, event, row)
    # Names of tables and columns never change; the ABI's own (of arguments) may.
    columns = row.columns
    if [column["argument"] for column in columns] != [now.argument for now in event.columns]:
        columns = [
            {**Column.from_json(column).to_json(), "argument": now.argument}
            for column, now in zip(row.columns, event.columns, strict=True)
        ]
    indexes = _indexes(contract, event, [column["name"] for column in row.columns])
    wanted = {
        "name": event.name,
        "api_name": event.api_name,
        "abi": dict(event.item),
        "columns": columns,
        "active": True,
    }
    if set(indexes) != set(row.indexes):
        wanted["indexes"] = list(indexes)
        done.indexed.append(row.id)
    told = any(getattr(row, name) != value for name, value in wanted.items() if name != "indexes")
    if values := values_that_differ(row, wanted):
        done.writes.append(Write(tables.events, values, {"id": row.id}))
    if told:
        renamed = dict(row.abi) != dict(event.item)
        detail = "arguments are named otherwise, columns keep their names" if renamed else ""
        done.changes.append(Change("change" if row.active else "add", "event", label, detail))
    if is_covered:
        done.changes += [
            Change("add", "index", f"{label}({name})", "built by the running indexer, beside all other work")
            for name in indexes
            if name not in row.indexes
        ]
    done.changes += [
        Change("remove", "index", f"{label}({name})", "dropped by the running indexer")
        for name in row.indexes
        if name not in indexes
    ]


def refuse_taken(label: str, schema_name: str, table_name: str, taken: Collection[str]) -> None:
    """Refuses a table whose name something has that is not in the catalog."""
    if table_name in taken:
        raise DatabaseError(
            f"{label} needs a table {schema_name}.{table_name}, and there is one already that Gapless did not make",
            hint="rename it, or move it to another schema: the schemas of contracts are Gapless' own",
        )


def _refuse_other_layout(contract: str, event: EventDeclaration, row: Row) -> None:
    stored = [(column["pg_type"], column["indexed"]) for column in row.columns]
    if stored != [(column.pg_type, column.indexed) for column in event.columns] or row.anonymous != event.anonymous:
        indexed = [column["indexed"] for column in row.columns] == [column.indexed for column in event.columns]
        alike = indexed and row.anonymous == event.anonymous
        differs = "arguments stored otherwise" if alike else "other indexed arguments"
        raise DatabaseError(
            f"{contract}.{event.api_name}: the ABI now declares {event.signature} with {differs} than "
            f"the table {row.table_name}, which holds its rows",
            hint="rows of the two would not mean the same. Give the contract with the new ABI a name of its own; or "
            f"take the event out of the manifest, run: gapless apply, then: gapless drop {contract}.{row.api_name}, "
            "and put it back: its history is fetched anew",
        )


def _indexes(contract: ContractDeclaration, event: EventDeclaration, names: Sequence[str]) -> tuple[str, ...]:
    """The columns that are to have an index, by the names that they have in the table."""
    pairs = list(zip(names, event.columns, strict=True))
    wanted = [name for name, column in pairs if column.indexed]
    wanted += [name for name, column in pairs if column.argument in event.indexes and name not in wanted]
    if any(d.place.kind != "addresses" or len(d.place.addresses) > 1 for d in contract.deployments):
        wanted.append("contract_address")
    if event.tx_hash_index:
        wanted.append("tx_hash")
    return tuple(wanted)


def with_kept_components(declaration: Declaration, stored: Mapping[tuple[str, bytes], Sequence[Column]]) -> Declaration:
    """The declaration with factory rules that name components as the tables do.

    Args:
        declaration: by the ABI's names.
        stored: by contract and topic0, the columns of the events that have a table, at least of those with tuples.
    """
    kept: dict[tuple[str, str], dict[str, str]] = {}
    for contract in declaration.contracts:
        for event in contract.events:
            pairs = zip(event.columns, stored.get((contract.name, event.topic0), ()), strict=False)
            paths = {
                new: old
                for now, before in pairs
                for new, old in _paths(now.argument, now.argument, now.components, before.components)
                if new != old
            }
            if paths:
                kept[contract.name, event.signature] = paths
    if not kept:
        return declaration

    def rule(factory: FactoryRule) -> FactoryRule:
        paths = kept.get((factory.contract, factory.event), {})
        return replace(factory, argument=paths.get(factory.argument, factory.argument))

    return replace(
        declaration,
        contracts=tuple(
            replace(
                contract,
                deployments=tuple(
                    replace(one, place=replace(one.place, factories=tuple(map(rule, one.place.factories))))
                    for one in contract.deployments
                ),
            )
            for contract in declaration.contracts
        ),
    )


def _paths(new: str, old: str, now: Sequence[Component], before: Sequence[Component]) -> Iterator[tuple[str, str]]:
    for one, kept in zip(now, before, strict=False):
        path = f"{new}.{one.name}", f"{old}.{kept.name}"
        yield path
        yield from _paths(*path, one.components, kept.components)
