"""Up to which block the addresses of a factory's children are known, and what follows when that becomes less.

A factory may come to announce more in blocks that are indexed: it gets another address, or an earlier first block, or a
log of it can be decoded at last. Then the children's coverage promises what was not looked for. The children
themselves are kept by ``store.catalog.children``.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import ALWAYS, frontier
from indexer.store.catalog import ledgers
from indexer.store.catalog.catalog import Source, load_sources
from indexer.store.catalog.declaration import Change, Place
from indexer.store.schema import tables

NOTHING: Final[Mapping[tuple[int, int], int]] = {}
NO_EVENTS: Final[Mapping[tuple[str, str], int]] = {}


class ScopedSource(Protocol):
    """A source, as far as this is concerned."""

    @property
    def adopted(self) -> bool:
        """Whether its children were looked for among the announcements that are in the tables."""

    @property
    def place(self) -> Place:
        """Where its logs come from."""


@dataclass(frozen=True, slots=True)
class _Children:
    """A source of a factory's children, active or not."""

    source_id: int
    chain_id: int
    event_id: int
    contract_id: int
    label: str
    place: Place
    active: bool
    adopted: bool = True


Announcers: TypeAlias = Mapping[tuple[str, str], Sequence[Source]]
"""The sources of a chain, by their events' contracts and signatures, as factory rules name them."""


def announcers(sources: Iterable[Source]) -> Announcers:
    """All active sources of a chain, or those by which children are found, so that rules find theirs among them."""
    found: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        found.setdefault((source.event.contract, source.event.signature), []).append(source)
    return found


def known_until(source: ScopedSource, sources: Announcers) -> int:
    """The last block up to which all addresses of a source are known; ``ALWAYS`` but for a factory's children.

    Args:
        source: whose addresses are in question.
        sources: those of its chain.
    """
    if not source.adopted:
        return -1
    until = ALWAYS
    for factory in source.place.factories:
        announcing = sources.get((factory.contract, factory.event), ())
        if not announcing:
            return -1
        until = min(until, *(_announced_until(s) for s in announcing))
    return until


def _announced_until(source: Source) -> int:
    covered = frontier(source.coverage, source.start_block)
    # Beyond its last wanted block a factory announces nothing that counts.
    return ALWAYS if source.end_block is not None and covered >= source.end_block else covered


def take_back_unknown(
    connection: Connection,
    found: Mapping[tuple[int, int], int] = NOTHING,
    *,
    chain_id: int | None = None,
    suspect: Mapping[tuple[str, str], int] = NO_EVENTS,
) -> list[Change]:
    """Takes from the coverage of factories' children the blocks in which not all of them are known (any more).

    What is taken goes to an inactive source, which keeps the rows until those that are fetched anew displace them.
    Children that are not wanted at present are looked at, too: else they would come back with blocks in which others of
    them were never looked for.

    Args:
        connection: in a transaction that has changed sources (``store.apply``) or children (``catalog.children``).
        found: by chain and contract some of whose children are others than before: the first block where that makes a
            difference.
        chain_id: only of this chain; None: of all.
        suspect: by contract and signature of an announcing event whose rows were changed: the first block of that. It
            counts for sources that are inactive, by whose rules no children are kept.

    Returns:
        What was changed of active sources.
    """
    changes: list[Change] = []
    # Children may be factories themselves: again, until nothing follows from what was taken.
    while taken := _take_all_back(connection, found, chain_id, suspect):
        for one in taken:
            if one.active:
                changes.append(Change("change", "source", one.label, "its factory announces more: filled in anew"))
                _count_anew(connection, one)
    return list(dict.fromkeys(changes))


def _take_all_back(
    connection: Connection,
    found: Mapping[tuple[int, int], int],
    chain_id: int | None,
    suspect: Mapping[tuple[str, str], int],
) -> list[_Children]:
    every = _all_children(connection, chain_id)
    if not every:
        return []
    # Of the announcing events alone: there may be thousands of others, and those who write wait for this transaction.
    named = {(rule.contract, rule.event) for one in every for rule in one.place.factories}
    by_chain: dict[int, list[Source]] = {}
    for source in load_sources(connection, chain_id, named=named):
        by_chain.setdefault(source.chain_id, []).append(source)
    sources = {number: announcers(some) for number, some in by_chain.items()}
    taken = []
    for one in every:
        above = _known_until(one, sources.get(one.chain_id, {})) + 1
        if one.active:
            above = min(above, found.get((one.chain_id, one.contract_id), above))
        else:
            blocks = [suspect.get((rule.contract, rule.event), above) for rule in one.place.factories]
            above = min([above, *blocks])
        if _take_back(connection, one, above):
            taken.append(one)
    return taken


def _known_until(children: _Children, sources: Announcers) -> int:
    # A factory that is not wanted at present is judged when it comes back.
    rules = tuple(rule for rule in children.place.factories if (rule.contract, rule.event) in sources)
    return known_until(replace(children, place=Place("factory", factories=rules)), sources)


def _all_children(connection: Connection, chain_id: int | None) -> list[_Children]:
    rows = connection.execute(
        sa.text("""
            SELECT s.id, s.chain_id, s.event_id, c.id AS contract_id, c.name || '.' || e.api_name AS label, s.place,
                   s.active
            FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id
            JOIN gapless.contracts c ON c.id = e.contract_id
            WHERE s.place ->> 'kind' = 'factory' AND s.coverage <> '{}'
              AND (CAST(:chain_id AS bigint) IS NULL OR s.chain_id = :chain_id)
            ORDER BY s.id
        """),
        {"chain_id": chain_id},
    )
    return [
        _Children(
            row.id, row.chain_id, row.event_id, row.contract_id, row.label, Place.from_json(row.place), row.active
        )
        for row in rows
    ]


def _take_back(connection: Connection, children: _Children, above: int) -> bool:
    """Takes back what is covered from a block on; returns whether there was any."""
    taken = connection.execute(
        sa.text("""
            INSERT INTO gapless.sources (chain_id, event_id, place, start_block, end_block, coverage, active)
            SELECT s.chain_id, s.event_id, CAST(:place AS jsonb), s.start_block, s.end_block,
                   c.covered * int8multirange(int8range(:above, NULL)), false
            FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id,
            LATERAL gapless.covered(s.coverage, s.end_block, n.tip_number) c (covered)
            WHERE s.id = :id AND c.covered && int8multirange(int8range(:above, NULL))
        """),
        # By no rule that can be declared: what it covers is never believed again.
        {"id": children.source_id, "above": above, "place": json.dumps(Place("factory").to_json())},
    ).rowcount
    if not taken:
        return False
    connection.execute(
        sa.text("""
            UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(:above, NULL)),
                                       verified = verified - int8multirange(int8range(:above, NULL))
            WHERE id = :id
        """),
        {"id": children.source_id, "above": above},
    )
    # A digest cannot be cut, only taken anew.
    connection.execute(sa.delete(tables.digests).where(tables.digests.c.source_id == children.source_id))
    return True


def _count_anew(connection: Connection, children: _Children) -> None:
    """What balances have counted of the children's transfers will be other rows."""
    for ledger in ledgers.lock(connection, children.chain_id):
        if ledger.live and children.event_id in ledger.event_ids and ledger.through_block >= ledger.start_block:
            ledgers.restart(connection, ledger, "its factory announces more: it is built anew")
