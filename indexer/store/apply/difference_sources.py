"""What an event's sources on one chain must become, without losing what is covered already; compared, nothing done.

Part of :mod:`indexer.store.apply.difference`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from indexer.store.catalog.catalog_rows import Row
from indexer.store.catalog.changes import Change
from indexer.store.catalog.declaration import Deployment, EventDeclaration, Place, Renamed
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
    deployment: Deployment,
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
                _split(done, label, row, place, kept, dropped)
            active = bool(kept)
        elif wanted.kind == "addresses" and place.kind == "addresses":
            # Another filter from now on. What is not wanted at all any more keeps its rows; the rest is replaced.
            replaced = tuple(address for address in place.addresses if address in wanted.addresses)
            untouched = tuple(address for address in place.addresses if address not in wanted.addresses)
            if replaced and untouched:
                _split(done, label, row, place, replaced, untouched)
            active = False
        else:
            active = not found and place == wanted
            found = found or active
        renaming = {"place": place.to_json()} if place != stored else {}
        _compare(done, label, row, active, deployment, renaming)
    if wanted.kind == "addresses":
        if missing:
            _add(done, label, event_id, deployment, Place("addresses", tuple(sorted(missing)), filters=wanted.filters))
    elif not found:
        _add(done, label, event_id, deployment, wanted)
    return done


def _split(done: Sources, label: str, row: Row, place: Place, kept: tuple[str, ...], dropped: tuple[str, ...]) -> None:
    both = (Place("addresses", addresses, filters=place.filters) for addresses in (kept, dropped))
    done.splits.append(Split(row.id, *both))
    done.changes.append(_stopped(label, dropped))


def _compare(
    done: Sources, label: str, row: Row, active: bool, deployment: Deployment, renaming: Mapping[str, Any]
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


def _add(done: Sources, label: str, event_id: int, deployment: Deployment, place: Place) -> None:
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


def _blocks(deployment: Deployment) -> str:
    until = "" if deployment.end_block is None else f" to {deployment.end_block:,}"
    return f"on {deployment.chain or deployment.chain_id} from block {deployment.start_block:,}{until}"
