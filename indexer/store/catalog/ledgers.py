"""Ledgers: of which contracts balances are kept, and how far.

A ledger is one contract's balances on one chain, true at the end of ``through_block``. It counts the rows of the
contract's transfer events from ``start_block`` on, and goes where all of them are covered without a gap. What it counts
never changes: when the manifest wants something else, or when what it counted can be trusted no more, another ledger
is begun, while the old one stays as it is and is served as stale, until the new one has come as far.

A ledger's row is its lock: a writer that changes its holdings holds it for update until the end of the transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.abi.token_standards import Standard
from indexer.intervals import RangeSet
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.catalog.declaration import Change, Place
from indexer.store.schema import layout, tables


@dataclass(frozen=True, slots=True)
class Ledger:
    """A row of ``ledgers``; see there."""

    ledger_id: int
    chain_id: int
    contract_id: int
    contract: str
    kind: Standard
    event_ids: tuple[int, ...]
    place: Place
    start_block: int
    through_block: int
    live: bool
    served: bool
    remark: str | None
    doubt: str | None
    """Why what its events tell may not be all; shown with every balance."""
    daily: bool
    """Whether it keeps the balances at the ends of days, too."""
    source_ids: frozenset[int]
    """The active sources of its events."""

    @property
    def addresses(self) -> list[bytes] | None:
        """Whose rows count; None: all."""
        return [bytes.fromhex(address[2:]) for address in self.place.addresses] or None


_LOAD = """
    SELECT l.id, l.chain_id, l.contract_id, c.name AS contract, l.kind, l.event_ids, l.place, l.start_block,
           l.through_block, l.live, l.served, l.remark, l.doubt, l.daily,
           ARRAY(SELECT s.id FROM gapless.sources s
                 WHERE s.active AND s.chain_id = l.chain_id AND s.event_id = ANY(l.event_ids)) AS source_ids
    FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
    WHERE l.chain_id = :chain_id AND {} ORDER BY l.id
"""


def load(connection: Connection, chain_id: int) -> list[Ledger]:
    """All ledgers of a chain, unlocked."""
    return _load(connection, "true", "", chain_id)


def load_uncompared(connection: Connection, chain_id: int, seconds: float) -> list[Ledger]:
    """The served, live ledgers of a chain whose tokens were not asked what holders have for so long."""
    condition = "l.live AND l.served AND coalesce(l.compared_at <= now() - make_interval(secs => :seconds), true)"
    return _load(connection, condition, "", chain_id, seconds=seconds)


def note_compared(connection: Connection, ledger: Ledger) -> None:
    """Notes that a ledger's tokens were asked what holders have."""
    connection.execute(
        sa.text("UPDATE gapless.ledgers SET compared_at = now() WHERE id = :id"), {"id": ledger.ledger_id}
    )


def lock(connection: Connection, chain_id: int) -> list[Ledger]:
    """All ledgers of a chain, locked; waits for writers that change one."""
    while True:
        # First the locks, then the look: what another transaction has just committed is seen.
        locked = set(
            connection.execute(
                sa.text("SELECT id FROM gapless.ledgers WHERE chain_id = :chain_id ORDER BY id FOR UPDATE"),
                {"chain_id": chain_id},
            ).scalars()
        )
        found = load(connection, chain_id)
        # A ledger that was begun anew while we waited for the old one is seen, but was not locked with it.
        if locked.issuperset(ledger.ledger_id for ledger in found):
            return found


def try_lock(connection: Connection, chain_id: int, *, at: int) -> list[Ledger]:
    """The live ledgers of a chain that have come exactly to a block, locked; without those that are being changed."""
    return _load(connection, "l.live AND l.through_block = :at", "FOR UPDATE OF l SKIP LOCKED", chain_id, at=at)


def try_lock_one(connection: Connection, chain_id: int, ledger_id: int) -> Ledger | None:
    """A live ledger, locked; None if it is being changed, or if it is gone."""
    locked = connection.execute(
        sa.text("SELECT FROM gapless.ledgers WHERE id = :id AND live FOR UPDATE SKIP LOCKED"), {"id": ledger_id}
    ).rowcount
    found = _load(connection, "l.id = :id", "", chain_id, id=ledger_id) if locked else []
    return found[0] if found else None


def _load(connection: Connection, condition: str, locking: str, chain_id: int, **parameters: object) -> list[Ledger]:
    rows = connection.execute(sa.text(_LOAD.format(condition) + locking), {"chain_id": chain_id, **parameters})
    return [
        Ledger(
            ledger_id=row.id,
            chain_id=row.chain_id,
            contract_id=row.contract_id,
            contract=row.contract,
            kind=row.kind,
            event_ids=tuple(row.event_ids),
            place=Place.from_json(row.place),
            start_block=row.start_block,
            through_block=row.through_block,
            live=row.live,
            served=row.served,
            remark=row.remark,
            doubt=row.doubt,
            daily=row.daily,
            source_ids=frozenset(row.source_ids),
        )
        for row in rows
    ]


# -- beginning and ending ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerDeclaration:
    """What a ledger is to count."""

    contract: str
    contract_id: int
    chain_id: int
    kind: Standard
    event_ids: tuple[int, ...]
    place: Place
    start_block: int
    doubt: str | None
    daily: bool = False

    def is_kept_by(self, ledger: Ledger) -> bool:
        """Whether that is what a ledger counts."""
        return (self.kind, self.event_ids, self.place, self.start_block, self.daily) == (
            ledger.kind,
            ledger.event_ids,
            ledger.place,
            ledger.start_block,
            ledger.daily,
        )


@dataclass(frozen=True, slots=True)
class LedgerStep:
    """What becomes of one contract's balances on one chain.

    Attributes:
        action: ``end`` a ledger, ``begin`` one, ``resume`` one that was ended, or note another ``doubt``.
        ledger: the one that is ended or goes on.
        wanted: what the one that begins or goes on is to count.
        remark: why the one that is ended ends.
    """

    action: Literal["end", "begin", "resume", "doubt"]
    ledger: Ledger | None = None
    wanted: LedgerDeclaration | None = None
    remark: str = ""


def difference(known: Iterable[Ledger], wanted: Iterable[LedgerDeclaration]) -> tuple[list[LedgerStep], list[Change]]:
    """Compares the ledgers that there are with those that the manifest wants.

    One that was ended, and has kept all that it had counted since then, goes on where it was.
    """
    steps: list[LedgerStep] = []
    changes: list[Change] = []
    left = {(one.contract_id, one.chain_id): one for one in wanted}
    ended = {(one.contract_id, one.chain_id): one for one in known if not one.live and one.remark == _NOT_KEPT}
    for ledger in (one for one in known if one.live):
        one = left.get((ledger.contract_id, ledger.chain_id))
        if one is not None and one.is_kept_by(ledger):
            del left[ledger.contract_id, ledger.chain_id]
            if one.doubt != ledger.doubt:
                steps.append(LedgerStep("doubt", ledger, one))
        elif one is not None:
            del left[ledger.contract_id, ledger.chain_id]
            steps += [LedgerStep("end", ledger, remark=_OTHER), LedgerStep("begin", wanted=one)]
            changes.append(Change("change", "balances", ledger.contract, f"anew from block {one.start_block}"))
        else:
            steps.append(LedgerStep("end", ledger, remark=_NOT_KEPT))
            changes.append(Change("remove", "balances", ledger.contract, "its data stays"))
    for key, one in left.items():
        if (before := ended.get(key)) is not None and one.is_kept_by(before):
            steps.append(LedgerStep("resume", before, one))
            changes.append(Change("add", "balances", one.contract, f"on from block {before.through_block + 1}"))
        else:
            steps.append(LedgerStep("begin", wanted=one))
            changes.append(Change("add", "balances", one.contract, f"from block {one.start_block}"))
    return steps, changes


_NOT_KEPT = "no longer kept"
_OTHER = "the manifest wants other addresses, events, blocks or days: it is built anew"
_REPLACED = "no longer kept, and rows that it counted were replaced"


def take(connection: Connection, steps: Iterable[LedgerStep]) -> None:
    """Begins and ends ledgers; part of ``store.apply``.

    Args:
        connection: in a transaction that holds the catalog.
        steps: what :func:`difference` returned for the catalog as it is.
    """
    for step in steps:
        if step.action == "begin" and step.wanted is not None:
            _begin(connection, step.wanted)
        elif step.action == "end" and step.ledger is not None:
            _freeze(connection, step.ledger, step.remark)
        elif step.ledger is not None and step.wanted is not None:
            connection.execute(
                sa.text("""
                    UPDATE gapless.ledgers SET live = true, remark = NULL, doubt = :doubt, version = version + 1,
                                               updated_at = now()
                    WHERE id = :id
                """),
                {"id": step.ledger.ledger_id, "doubt": step.wanted.doubt},
            )


def cannot_resume(connection: Connection, chain_id: int, event_ids: Iterable[int]) -> None:
    """Notes that rows were replaced which a ledger that is not kept any more may have counted."""
    connection.execute(
        sa.text("""
            UPDATE gapless.ledgers SET remark = :replaced
            WHERE chain_id = :chain_id AND NOT live AND remark = :not_kept AND event_ids && CAST(:ids AS integer[])
        """),
        {"replaced": _REPLACED, "not_kept": _NOT_KEPT, "chain_id": chain_id, "ids": list(event_ids)},
    )


def _begin(connection: Connection, one: LedgerDeclaration) -> None:
    connection.execute(
        sa.insert(tables.ledgers).values(
            chain_id=one.chain_id,
            contract_id=one.contract_id,
            kind=one.kind,
            event_ids=list(one.event_ids),
            place=one.place.to_json(),
            start_block=one.start_block,
            through_block=one.start_block - 1,
            live=True,
            doubt=one.doubt,
            daily=one.daily,
            served=sa.text(
                "NOT EXISTS (SELECT FROM gapless.ledgers WHERE contract_id = :contract AND chain_id = :chain "
                "AND served)"
            ).bindparams(contract=one.contract_id, chain=one.chain_id),
        )
    )


def _freeze(connection: Connection, ledger: Ledger, remark: str) -> None:
    if not ledger.served:
        forget(connection, ledger)
        return
    connection.execute(
        sa.text("UPDATE gapless.ledgers SET live = false, remark = :remark, updated_at = now() WHERE id = :id"),
        {"id": ledger.ledger_id, "remark": remark},
    )


def restart(connection: Connection, ledger: Ledger, reason: str) -> None:
    """Begins a live ledger anew from its first block, since what it counted is not what the tables hold.

    Args:
        connection: in a transaction that holds the ledger's lock.
        ledger: the ledger.
        reason: for people.
    """
    _freeze(connection, ledger, reason)
    _begin(
        connection,
        LedgerDeclaration(
            ledger.contract,
            ledger.contract_id,
            ledger.chain_id,
            ledger.kind,
            ledger.event_ids,
            ledger.place,
            ledger.start_block,
            ledger.doubt,
            ledger.daily,
        ),
    )


def forget_events(connection: Connection, event_ids: Iterable[int]) -> None:
    """Deletes the ledgers that counted events which are being dropped."""
    connection.execute(
        sa.text("DELETE FROM gapless.ledgers WHERE event_ids && CAST(:ids AS integer[])"), {"ids": list(event_ids)}
    )


def forget(connection: Connection, ledger: Ledger) -> None:
    """Deletes a ledger; ``store.tokens.orphan_holdings`` deletes its holdings later, a few at a time."""
    connection.execute(sa.text("DELETE FROM gapless.ledgers WHERE id = :id"), {"id": ledger.ledger_id})


def serve(connection: Connection, ledger: Ledger) -> bool:
    """Serves a ledger in place of a stale one, if it has come as far as that.

    Returns:
        Whether it is the one that is served from now on, and was not before.
    """
    if ledger.served:
        return False
    ahead = connection.execute(
        sa.text("""
            SELECT EXISTS (SELECT FROM gapless.ledgers
                           WHERE contract_id = :contract AND chain_id = :chain AND served AND through_block > :through)
        """),
        {"contract": ledger.contract_id, "chain": ledger.chain_id, "through": ledger.through_block},
    ).scalar_one()
    if ahead:
        return False
    connection.execute(
        sa.text("DELETE FROM gapless.ledgers WHERE contract_id = :contract AND chain_id = :chain AND served"),
        {"contract": ledger.contract_id, "chain": ledger.chain_id},
    )
    connection.execute(sa.text("UPDATE gapless.ledgers SET served = true WHERE id = :id"), {"id": ledger.ledger_id})
    return True


def move(connection: Connection, ledger_ids: Iterable[int], through: int) -> None:
    """Notes that ledgers are true at a block now; never before the block before their first one."""
    connection.execute(
        sa.text("""
            UPDATE gapless.ledgers SET through_block = greatest(:through, start_block - 1), version = version + 1,
                                       updated_at = now()
            WHERE id = ANY(:ids)
        """),
        {"ids": list(ledger_ids), "through": through},
    )


# -- how far it may go ---------------------------------------------------------------------------------------------


def coverage(connection: Connection, ledger: Ledger) -> RangeSet:
    """The blocks that all sources of a ledger have covered; empty if it has none."""
    value: Any = connection.execute(
        sa.text("""
            SELECT range_intersect_agg(gapless.covered(s.coverage, s.end_block, n.tip_number))
            FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id WHERE s.id = ANY(:ids)
        """),
        {"ids": list(ledger.source_ids)},
    ).scalar_one()
    return () if value is None else layout.ranges_from_sql(value)


def events_of(connection: Connection, ledger: Ledger) -> Mapping[int, CatalogEvent]:
    """The events that a ledger counts, by id, as far as they still are in the catalog."""
    return catalog.load_events(connection, ids=ledger.event_ids)
