"""What the rows of sources, deployments and chains must become; compared, nothing done.

Part of :mod:`indexer.store.apply.difference`. What is covered already is not lost.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from indexer.store.catalog.declaration import (
    ChainDeclaration,
    Change,
    ContractDeclaration,
    DeclaredDeployment,
    EventDeclaration,
    FactoryRule,
    Place,
    Renamed,
)
from indexer.store.catalog.version import Row
from indexer.store.schema import tables

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Write:
    """A row that is to be written.

    Attributes:
        table: a static table.
        values: by column.
        key: of the row that is there already; None: it is a new one.
    """

    table: sa.Table
    values: Mapping[str, Any]
    key: Mapping[str, Any] | None = None


def values_that_differ(row: Row, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row is to be different."""
    return {name: value for name, value in wanted.items() if getattr(row, name) != value}


@dataclass(frozen=True, slots=True)
class Split:
    """A source of which some addresses go to an inactive one with the same coverage."""

    source_id: int
    kept: Place
    dropped: Place


@dataclass(slots=True)
class Sources:
    """What is to be done, and whether a source begins (or begins again) to be indexed."""

    writes: list[Write] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    begins: bool = False


def sources_of(
    label: str,
    event_id: int,
    event: EventDeclaration,
    deployment: DeclaredDeployment,
    rows: Sequence[Row],
    renamed: Renamed,
) -> Sources:
    """Compares the sources of one event on one chain with what is wanted.

    The wheres of an event's sources are disjoint. An address that is new becomes a source of its own, which starts with
    nothing covered; one that is no longer wanted is split off into an inactive source that keeps its coverage.

    Args:
        label: of the event, for people.
        event_id: its id.
        event: the event.
        deployment: where its contract lives on the chain.
        rows: its sources there, active or not.
        renamed: arguments by which rules name children, and that have other names now.
    """
    done = Sources()
    wanted = deployment.place_of(event.topic0)
    missing = set(wanted.addresses)
    found = False
    for row in rows:
        stored = Place.from_json(row.place)
        place = stored.renamed(renamed)
        if wanted.kind == "addresses" and place.kind == "addresses" and place.filters == wanted.filters:
            kept = tuple(address for address in place.addresses if address in missing)
            dropped = tuple(address for address in place.addresses if address not in missing)
            missing -= set(kept)
            if kept and dropped:
                _split_source(done, label, row, place, kept, dropped)
            active = bool(kept)
        elif wanted.kind == "addresses" and place.kind == "addresses":
            # Another filter from now on. What is not wanted at all any more keeps its rows; the rest is replaced.
            replaced = tuple(address for address in place.addresses if address in wanted.addresses)
            untouched = tuple(address for address in place.addresses if address not in wanted.addresses)
            if replaced and untouched:
                _split_source(done, label, row, place, replaced, untouched)
            active = False
        else:
            active = not found and place == wanted
            found = found or active
        renaming = {"place": place.to_json()} if place != stored else {}
        _compare_source(done, label, row, active, deployment, renaming)
    if wanted.kind == "addresses":
        if missing:
            _add_source(
                done, label, event_id, deployment, Place("addresses", tuple(sorted(missing)), filters=wanted.filters)
            )
    elif not found:
        _add_source(done, label, event_id, deployment, wanted)
    return done


def _split_source(
    done: Sources, label: str, row: Row, place: Place, kept: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    both = (Place("addresses", addresses, filters=place.filters) for addresses in (kept, dropped))
    done.splits.append(Split(row.id, *both))
    done.changes.append(_stopped(label, dropped))


def _compare_source(
    done: Sources, label: str, row: Row, active: bool, deployment: DeclaredDeployment, renaming: Mapping[str, Any]
) -> None:
    wanted: dict[str, Any] = {"active": active}
    if active:
        wanted |= {"start_block": deployment.start_block, "end_block": deployment.end_block}
    values = {key: value for key, value in wanted.items() if getattr(row, key) != value}
    if values or renaming:
        done.writes.append(Write(tables.sources, {**values, **renaming}, {"id": row.id}))
    if not values:
        return
    if active and row.active:
        done.changes.append(Change("change", "source", label, _blocks(deployment)))
    elif active:
        done.begins = True
        done.changes.append(Change("add", "source", label))
    else:
        done.changes.append(_stopped(label, Place.from_json(row.place).addresses))


def _stopped(label: str, addresses: tuple[str, ...]) -> Change:
    """What a source leaves that is no longer wanted, or some of whose addresses are not."""
    named = ", ".join(addresses[:_MOST_NAMED])
    if len(addresses) > _MOST_NAMED:
        named += f" and {len(addresses) - _MOST_NAMED} more addresses"
    return Change("remove", "source", label, f"{named}: its data stays" if named else "its data stays")


def _add_source(done: Sources, label: str, event_id: int, deployment: DeclaredDeployment, place: Place) -> None:
    done.begins = True
    values = {
        "chain_id": deployment.chain_id,
        "event_id": event_id,
        "place": place.to_json(),
        "start_block": deployment.start_block,
        "end_block": deployment.end_block,
    }
    done.writes.append(Write(tables.sources, values))
    where = {
        "addresses": f"{len(place.addresses)} addresses" if len(place.addresses) > 1 else "1 address",
        "factory": "a factory's children",
        "any": "any address",
    }
    done.changes.append(Change("add", "source", label, f"{where[place.kind]} {_blocks(deployment)}"))


def _blocks(deployment: DeclaredDeployment) -> str:
    until = "" if deployment.end_block is None else f" to {deployment.end_block:,}"
    return f"on {deployment.chain or deployment.chain_id} from block {deployment.start_block:,}{until}"


def deployments_of(
    contract_id: int,
    contract: ContractDeclaration,
    kept: Mapping[int, Row],
    looked_again: Collection[int],
    renamed: Renamed,
) -> tuple[list[Write], list[Change]]:
    """Compares where a contract lives with what is wanted.

    Args:
        contract_id: its id.
        contract: as it is wanted.
        kept: its deployments, by chain.
        looked_again: the chains where more events come in blocks that are included.
        renamed: arguments by which rules name children, and that have other names now.
    """
    include = list(contract.include)
    writes: list[Write] = []
    for deployment in contract.deployments:
        key = {"contract_id": contract_id, "chain_id": deployment.chain_id}
        row = kept.get(deployment.chain_id)
        values = _deployment(deployment, include)
        if row is None:
            writes.append(Write(tables.deployments, {**key, **values, "adopted": not deployment.place.factories}))
            continue
        rules = _rules(row.factories, renamed)
        # With something else to include, everything is looked at again; what is there already is not fetched twice.
        if list(row.include) != include or (deployment.chain_id in looked_again and row.include):
            values["included"] = []
        if rules != set(deployment.place.factories):
            # By other rules others are children: history looks for them before it fetches anything of them.
            values["adopted"] = False
        changed = {
            name: value for name, value in values.items() if name == "included" or _plain(getattr(row, name)) != value
        }
        if changed:
            writes.append(Write(tables.deployments, changed, key))
    chain_ids = {deployment.chain_id for deployment in contract.deployments}
    writes += [
        Write(tables.deployments, {"active": False}, {"contract_id": contract_id, "chain_id": chain_id})
        for chain_id, row in kept.items()
        if chain_id not in chain_ids and row.active
    ]
    # Those of chains that the contract has left stay as they were.
    if any(list(row.include) != include for chain_id, row in kept.items() if chain_id in chain_ids):
        detail = f"include: {', '.join(include) or 'only the logs'}"
        return writes, [Change("change", "contract", contract.name, detail)]
    return writes, []


def _plain(value: Any) -> Any:
    return (
        [bytes(item) if isinstance(item, memoryview) else item for item in value] if isinstance(value, list) else value
    )


def _deployment(deployment: DeclaredDeployment, include: list[str]) -> dict[str, Any]:
    place = deployment.place
    return {
        "kind": place.kind,
        "addresses": [bytes.fromhex(address[2:]) for address in place.addresses],
        "factories": [factory.to_json() for factory in place.factories] or None,
        "start_block": deployment.start_block,
        "end_block": deployment.end_block,
        "active": True,
        "include": include,
    }


def _rules(stored: Sequence[Mapping[str, str]] | None, renamed: Renamed) -> set[FactoryRule]:
    return {FactoryRule(**rule).renamed(renamed) for rule in stored or ()}


@dataclass(slots=True)
class Chains:
    """What is to be done about chains, in order, and what of it is told."""

    writes: list[Write] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def chains_of(known: Mapping[int, Row], declared: Sequence[ChainDeclaration]) -> Chains:
    """Compares the chains with those that are wanted.

    Args:
        known: by their ids.
        declared: those of the manifest.
    """
    done = Chains()
    wanted = {chain.chain_id: chain for chain in declared}
    names = {chain.name for chain in declared}
    # Names are unique at every moment: those that change are put aside first.
    for chain_id, row in known.items():
        if chain_id in wanted and wanted[chain_id].name != row.name and row.name in names:
            done.writes.append(Write(tables.chains, {"name": f"{row.name}~{chain_id}"}, {"chain_id": chain_id}))
    for chain_id, row in known.items():
        if chain_id not in wanted:
            _retired_chain(done, row, names)
    for chain in declared:
        _declared_chain(done, chain, known.get(chain.chain_id))
    return done


def _retired_chain(done: Chains, row: Row, taken: set[str]) -> None:
    if row.active:
        done.changes.append(Change("remove", "chain", row.name, "its data stays"))
    values: dict[str, Any] = {"active": False} if row.active else {}
    if row.name in taken:
        values["name"] = f"{row.name}-{row.chain_id}"
        detail = f"its name is another chain's now; its data is kept under the name {values['name']}"
        done.changes.append(Change("change", "chain", row.name, detail))
    if values:
        done.writes.append(Write(tables.chains, values, {"chain_id": row.chain_id}))


def _declared_chain(done: Chains, chain: ChainDeclaration, row: Row | None) -> None:
    wanted = {"name": chain.name, "bloom_checks": chain.bloom_checks, "dev": chain.dev, "active": True}
    if row is None:
        done.writes.append(Write(tables.chains, {"chain_id": chain.chain_id, **wanted}))
        done.changes.append(Change("add", "chain", chain.name, f"id {chain.chain_id}"))
    elif values := values_that_differ(row, wanted):
        done.writes.append(Write(tables.chains, values, {"chain_id": chain.chain_id}))
        detail = f"was called {row.name}" if row.name != chain.name else ""
        done.changes.append(Change("change" if row.active else "add", "chain", chain.name, detail))
