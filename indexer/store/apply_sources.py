"""Making an event's sources what the manifest asks for, without losing what is covered already.

Part of :mod:`indexer.store.apply`: everything here works in its transaction.
"""

import json
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store import tables
from indexer.store.catalog import load_sources
from indexer.store.changes import Change
from indexer.store.database import psycopg_connection
from indexer.store.declaration import Deployment, EventDeclaration, Factory, Place

_MOST_NAMED = 3


def apply(
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
                changes.append(_stopped(label, dropped))
            active = bool(kept)
        elif wanted.kind == "addresses" and place.kind == "addresses":
            # Another filter from now on. What is not wanted at all any more keeps its rows; the rest is replaced.
            replaced = tuple(address for address in place.addresses if address in wanted.addresses)
            untouched = tuple(address for address in place.addresses if address not in wanted.addresses)
            if replaced and untouched:
                _split(connection, row, place, replaced, untouched)
                changes.append(_stopped(label, untouched))
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
    if active and not row.active:
        _look_again(connection, row.event_id, row.chain_id)
    if active and row.active:
        changes.append(Change("change", "source", label, _blocks(deployment)))
    elif active:
        changes.append(Change("add", "source", label))
    else:
        changes.append(_stopped(label, Place.from_json(row.place).addresses))


def _stopped(label: str, addresses: tuple[str, ...]) -> Change:
    """What a source leaves that is no longer wanted, or some of whose addresses are not."""
    named = ", ".join(addresses[:_MOST_NAMED])
    if len(addresses) > _MOST_NAMED:
        named += f" and {len(addresses) - _MOST_NAMED} more addresses"
    return Change("remove", "source", label, f"{named}: its data stays" if named else "its data stays")


def _add_source(
    connection: Connection, label: str, event_id: int, deployment: Deployment, place: Place, changes: list[Change]
) -> None:
    _look_again(connection, event_id, deployment.chain_id)
    connection.execute(
        sa.insert(tables.sources).values(
            chain_id=deployment.chain_id,
            event_id=event_id,
            place=place.to_json(),
            start_block=deployment.start_block,
            end_block=deployment.end_block,
        )
    )
    where = {
        "addresses": f"{len(place.addresses)} addresses" if len(place.addresses) > 1 else "1 address",
        "factory": "a factory's children",
        "any": "any address",
    }
    changes.append(Change("add", "source", label, f"{where[place.kind]} {_blocks(deployment)}"))


def _look_again(connection: Connection, event_id: int, chain_id: int) -> None:
    """More events come in blocks for which all was included: they are looked at again."""
    connection.execute(
        sa.text("""
            UPDATE gapless.deployments SET included = '{}'
            WHERE chain_id = :chain_id AND contract_id = (SELECT contract_id FROM gapless.events WHERE id = :event_id)
        """),
        {"chain_id": chain_id, "event_id": event_id},
    )


def _blocks(deployment: Deployment) -> str:
    until = "" if deployment.end_block is None else f" to {deployment.end_block:,}"
    return f"on {deployment.chain or deployment.chain_id} from block {deployment.start_block:,}{until}"


def stop_chains(connection: Connection, label: str, event_id: int, chain_ids: set[int], changes: list[Change]) -> None:
    """An event's sources on chains where its contract no longer lives stop; their rows and coverage stay."""
    sources = tables.sources
    stopped = connection.execute(
        sa.update(sources)
        .where(sources.c.event_id == event_id, sources.c.chain_id.not_in(chain_ids), sources.c.active)
        .values(active=False)
        .returning(sources.c.chain_id)
    ).scalars()
    for chain_id in sorted(set(stopped)):
        changes.append(Change("remove", "source", label, f"on chain {chain_id}, its data stays"))


def retire(connection: Connection) -> None:
    """Sources of contracts, events and chains that are no longer wanted stop; their rows and coverage stay."""
    connection.execute(
        sa.text("""
            UPDATE gapless.sources s SET active = false
            FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id, gapless.chains n
            WHERE s.active AND e.id = s.event_id AND n.chain_id = s.chain_id
              AND NOT (e.active AND c.active AND n.active)
        """)
    )


def forget_children(connection: Connection, contract_id: int, chain_id: int) -> None:
    """Forgets whom a contract's factories have announced on a chain, for a rule that is no longer the same."""
    connection.execute(
        sa.text("DELETE FROM gapless.children WHERE contract_id = :contract_id AND chain_id = :chain_id"),
        {"contract_id": contract_id, "chain_id": chain_id},
    )


def adopt_children(connection: Connection) -> dict[tuple[int, int], int]:
    """Finds the children that factories announced before their rule was declared: their events are in the tables.

    Returns:
        By chain and contract whose children were found: the first block in which one was born.
    """
    driver = psycopg_connection(connection)
    sources = load_sources(connection)
    done: set[tuple[int, int, Factory]] = set()
    found: dict[tuple[int, int], int] = {}
    for child in sources:
        for factory in child.place.factories:
            key = (child.chain_id, child.event.contract_id, factory)
            announcing = next((s.event for s in sources if factory.announced_by(s.event)), None)
            if key in done or announcing is None:
                continue
            done.add(key)
            first = driver.execute(
                sql.SQL("""
                    WITH adopted AS (INSERT INTO gapless.children
                        (chain_id, contract_id, address, block_number, log_index, factory_address)
                    SELECT DISTINCT ON (child) chain_id, %s, child, block_number, log_index, contract_address
                    FROM (SELECT chain_id, {} AS child, block_number, log_index, contract_address FROM {}
                          WHERE chain_id = %s) announced
                    ORDER BY child, block_number, log_index
                    ON CONFLICT (chain_id, contract_id, address) DO NOTHING RETURNING block_number)
                    SELECT min(block_number) FROM adopted
                """).format(announcing.table.address(factory.argument), announcing.table.identifier),
                (child.event.contract_id, child.chain_id),
            ).fetchone()
            if first is not None and first[0] is not None:
                contract = (child.chain_id, child.event.contract_id)
                found[contract] = min(first[0], found.get(contract, first[0]))
    return found
