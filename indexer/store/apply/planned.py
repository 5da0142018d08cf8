"""The catalog as it would be if a manifest were applied, for ``gapless plan``: put together, and nothing written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy.engine import Connection

from indexer.intervals import intersect
from indexer.store.apply import derived_tables
from indexer.store.apply.difference import Difference
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent, Series, Source
from indexer.store.catalog.declaration import (
    ContractDeclaration,
    Declaration,
    DerivedDeclaration,
    EventDeclaration,
    Place,
)
from indexer.store.catalog.factory_coverage import announcers, known_until
from indexer.store.catalog.version import CatalogRows
from indexer.store.rows import transactions
from indexer.store.rows.transactions import Including
from indexer.store.schema import tables
from indexer.store.schema.layout import EventTable


@dataclass(frozen=True, slots=True)
class PlannedDerived:
    """A derived table as a manifest would have it.

    Attributes:
        wanted: what the manifest says of it.
        derived_id: the build that goes on; None: one is to begin.
        action: ``begin``: the first build begins; ``replace``: one that takes another's place; ``resume``: one that was
            ended or replaced goes on; None: none of these.
    """

    wanted: DerivedDeclaration
    derived_id: int | None
    action: Literal["begin", "replace", "resume"] | None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a manifest would have of one chain. What is new has negative ids.

    Attributes:
        sources: the active ones, with what they have covered.
        including: the deployments with ``include``.
        series: all snapshots of the manifest.
        derived: all derived tables of the manifest.
    """

    sources: Sequence[Source]
    including: Sequence[Including]
    series: Sequence[Series]
    derived: Sequence[PlannedDerived] = ()


def load(
    connection: Connection, rows: CatalogRows, found: Difference, declaration: Declaration, chain_id: int
) -> Planned:
    """Puts a chain's part of the catalog together.

    Args:
        connection: to read coverage with.
        rows: the catalog as it is.
        found: what lies between it and the declaration.
        declaration: what is wanted.
        chain_id: the chain.
    """
    kept_sources, events = catalog.load_with_events(connection, chain_id, retired=True)
    for contract in declaration.contracts:
        for event in contract.events:
            event_id = found.event_ids[contract.name, event.topic0]
            if event_id not in events:
                events[event_id] = _event(event_id, found.contract_ids[contract.name], contract, event)
    sources = _sources(kept_sources, rows, found, events, chain_id)
    kept = {one.contract_id: one for one in transactions.load(connection, chain_id)}
    return Planned(
        sources=_without_unknown(sources),
        including=list(_including(kept, found, declaration, chain_id)),
        series=list(_series(connection, found, declaration)),
        derived=list(_derived(rows, found, declaration)),
    )


def _derived(rows: CatalogRows, found: Difference, declaration: Declaration) -> Iterable[PlannedDerived]:
    actions = {step.name: step.action for step in found.derived}
    for one in declaration.derived:
        build = derived_tables.same_build(rows.derived, one)
        if build is None:
            has_other = any(row.name == one.name for row in rows.derived)
            yield PlannedDerived(one, None, "replace" if has_other else "begin")
        else:
            yield PlannedDerived(one, build.id, "resume" if actions.get(one.name) == "resume" else None)


def _event(event_id: int, contract_id: int, contract: ContractDeclaration, event: EventDeclaration) -> CatalogEvent:
    return CatalogEvent(
        event_id=event_id,
        contract_id=contract_id,
        contract=contract.name,
        name=event.name,
        api_name=event.api_name,
        signature=event.signature,
        topic0=event.topic0,
        anonymous=event.anonymous,
        item=event.item,
        table=EventTable(event_id, contract.schema_name, event.table_name, event.columns),
        contract_abi=contract.abi if event.anonymous else None,
    )


def _sources(
    kept: Sequence[Source], rows: CatalogRows, found: Difference, events: dict[int, CatalogEvent], chain_id: int
) -> list[Source]:
    changed: dict[int, dict[str, Any]] = {}
    new: list[dict[str, Any]] = []
    for write in found.writes:
        if write.table is tables.sources and write.key is None:
            new.append(dict(write.values))
        elif write.table is tables.sources and write.key is not None:
            changed.setdefault(write.key["id"], {}).update(write.values)
    for split in found.splits:
        changed.setdefault(split.source_id, {})["place"] = split.kept.to_json()
    active = {row.id for some in rows.sources.values() for row in some if row.active}
    sources = []
    for source in kept:
        values = changed.get(source.source_id, {})
        if values.get("active", source.source_id in active):
            place = Place.from_json(values["place"]) if "place" in values else source.place
            bounds = {name: values[name] for name in ("start_block", "end_block") if name in values}
            sources.append(replace(source, place=place, **bounds))
    for number, values in enumerate(new, 1):
        if values["chain_id"] == chain_id:
            event, place = events[values["event_id"]], Place.from_json(values["place"])
            first, last = values["start_block"], values["end_block"]
            sources.append(Source(-number, chain_id, event, place, first, last, (), ()))
    return sources


def _without_unknown(sources: Sequence[Source]) -> list[Source]:
    """Without the coverage of factories' children where not all of them would be known."""
    while True:
        announcing = announcers(sources)
        cut = [
            replace(one, coverage=intersect(one.coverage, ((0, until),)) if until >= 0 else ())
            for one in sources
            for until in (known_until(one, announcing),)
        ]
        if cut == list(sources):
            return cut
        sources = cut


def _including(
    kept: dict[int, Including], found: Difference, declaration: Declaration, chain_id: int
) -> Iterable[Including]:
    for contract in declaration.contracts:
        if contract.include and any(one.chain_id == chain_id for one in contract.deployments):
            contract_id = found.contract_ids[contract.name]
            before = kept.get(contract_id)
            is_same = before is not None and set(before.include) == set(contract.include)
            yield Including(
                contract_id, contract.name, contract.include, before.included if before is not None and is_same else ()
            )


def _series(connection: Connection, found: Difference, declaration: Declaration) -> Iterable[Series]:
    stored = {one.name: one for one in catalog.load_series(connection, retired=True)}
    for number, one in enumerate(declaration.series, 1):
        contract = next(contract for contract in declaration.contracts if contract.name == one.contract)
        deployments = {
            deployment.chain_id: tuple(bytes.fromhex(address[2:]) for address in deployment.place.addresses)
            for deployment in contract.deployments
            if deployment.place.kind == "addresses"
        }
        if one.name in stored:
            yield replace(stored[one.name], deployments=deployments)
        else:
            yield Series(
                series_id=-number,
                name=one.name,
                contract_id=found.contract_ids[contract.name],
                contract=contract.name,
                schema_name=contract.schema_name,
                table_name=one.table_name,
                calls=one.calls,
                every=one.every,
                columns=one.columns,
                abi=contract.abi,
                deployments=deployments,
            )
