"""A factory's children: a derived table, which says what the rows of the announcing events say.

``gapless.children`` holds, of each contract with factory rules, every address that one of the rules announces, with the
earliest announcement over all of them. :func:`reconcile` alone makes it so, for the blocks in which a transaction has
changed announcing rows; every writer calls it before it covers those blocks. A contract whose rules are new is adopted
(:func:`adopt`) by history, in steps of a transaction each, before anything of it is fetched.

What this needs of the writers: the catalog by which a transaction decided that it has announcing rows is still the one
in force when it commits, and no transaction can change it between that check and the commit; transactions are READ
COMMITTED.
"""

import json
import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.intervals import ALWAYS, RangeSet
from indexer.store.catalog import factory_coverage
from indexer.store.catalog.catalog import CatalogEvent, load_events
from indexer.store.catalog.declaration import FactoryRule
from indexer.store.database import psycopg_connection
from indexer.store.schema import layout

log = logging.getLogger(__name__)

Rule = tuple[FactoryRule, CatalogEvent]
"""How a child is found, and the event that announces it."""

_STEP = 20_000  # announcements in one transaction of an adoption
_LOCK = 0x67610004  # the first key of an advisory lock; the second is the contract's id


@dataclass(frozen=True, slots=True)
class Changed:
    """What a reconciliation did.

    Attributes:
        children: how many children were found, forgotten, or discovered at another block.
        taken: sources (``contract.Event``) whose coverage was taken back, as a child in it had not been looked for.
        outdated: whether what others planned before is wrong now: the transaction ``forgets`` then
            (:class:`indexer.store.catalog.version.Writing`).
    """

    children: int = 0
    taken: tuple[str, ...] = ()
    outdated: bool = False


UNCHANGED: Final = Changed()


def announcements(rules: Iterable[Rule]) -> sql.Composed:
    """A SELECT of all announcements: child (may be null), block_number, log_index, factory. Parameter: ``chain_id``.

    They are the rows of the announcing events, and the logs whose row Postgres refused, which are kept raw.
    """
    arms = []
    for factory, event in rules:
        arms.append(
            sql.SQL(
                "SELECT {} AS child, block_number, log_index, contract_address AS factory FROM {} "
                "WHERE chain_id = %(chain_id)s"
            ).format(event.table.address(factory.argument), event.table.identifier)
        )
        arms.append(
            sql.SQL(
                "SELECT decode(substr(announced ->> {argument}, 3), 'hex'), block_number, log_index, contract_address "
                "FROM gapless.undecoded_logs WHERE chain_id = %(chain_id)s AND event_id = {event} AND NOT has_row "
                "AND announced ->> {argument} IS NOT NULL"
            ).format(argument=sql.Literal(event.table.kept_path(factory.argument)), event=sql.Literal(event.event_id))
        )
    return sql.SQL(" UNION ALL ").join(arms)


def announcing(events: Iterable[CatalogEvent], changed: Collection[int] | None = None) -> set[int]:
    """Those of some events that announce children, and have rows or logs in a transaction.

    Args:
        events: of the sources that are written.
        changed: ids of events that have rows or logs; None: any of them may.
    """
    return {e.event_id for e in events if e.announces and (changed is None or e.event_id in changed)}


def reconcile(
    connection: Connection,
    chain_id: int,
    event_ids: Collection[int],
    ranges: RangeSet,
    *,
    rewritten: bool = False,
    appended: bool = False,
) -> Changed:
    """Makes the children what announcing events say, after their rows in some blocks were changed.

    Where that finds (or forgets) a child in blocks that are covered for its contract already, that coverage is taken
    back in this transaction: it was fetched without the child.

    Args:
        connection: in the transaction that changed the rows, which are in place. Coverage of these blocks, of the
            events themselves or of the children, is added after this.
        chain_id: the chain.
        event_ids: the announcing events whose rows were changed (:func:`announcing`); nothing is done for none.
        ranges: the blocks.
        rewritten: whether blocks were changed that were covered already. Others may be fetching children's logs there
            by what was known before.
        appended: whether the blocks are the newest of the chain, and what their children said comes in this very
            transaction: then no coverage is taken back, and none can have been.
    """
    if not event_ids or not ranges:
        return UNCHANGED
    found: dict[int, int] = {}
    count = 0
    every = _rules(connection, chain_id, event_ids)
    for contract_id, rules in every.items():
        number, first = _reconcile(connection, chain_id, contract_id, rules, ranges)
        count += number
        if first is not None:
            found[contract_id] = first
    if appended or (not found and not rewritten):
        return Changed(count)
    # Of rules that are in force no more, it is not known what they had announced: any row may be new.
    suspect = min(found.values()) if not rewritten else min([ranges[0][0], *found.values()])
    events = {event.event_id: event for rules in every.values() for _, event in rules}
    events = {event_id: event for event_id, event in events.items() if event_id in event_ids}
    taken = _take_back(connection, chain_id, found, events.values(), suspect, locked=rewritten)
    return Changed(count, taken, outdated=bool(taken) or (rewritten and bool(found)))


def _reconcile(
    connection: Connection,
    chain_id: int,
    contract_id: int,
    rules: Sequence[Rule],
    ranges: RangeSet,
    *,
    later: bool = True,
) -> tuple[int, int | None]:
    """One contract's children. Returns how many were changed, and the first block where that makes a difference."""
    driver = psycopg_connection(connection)
    # One after the other: who comes second sees the rows of the first, and its children.
    driver.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK, contract_id))
    parameters: dict[str, Any] = {
        "chain_id": chain_id,
        "contract_id": contract_id,
        "first": ranges[0][0],
        "last": ranges[-1][1],
        "ranges": layout.ranges_to_sql(ranges),
    }
    every = announcements(rules)
    # Two bounded sets are hashed. Without statistics, as just after a first COPY, one would be searched for each row of
    # the other.
    driver.execute("SET LOCAL enable_nestloop = off")
    gone = driver.execute(
        sql.SQL("""
            DELETE FROM gapless.children c
            WHERE c.chain_id = %(chain_id)s AND c.contract_id = %(contract_id)s AND {of_children}
              AND NOT EXISTS (SELECT FROM ({every}) a WHERE {of_all} AND a.block_number = c.block_number
                              AND a.log_index = c.log_index AND a.child = c.address)
            RETURNING c.address, c.block_number
        """).format(of_children=_within("c"), of_all=_within("a"), every=every),
        parameters,
    ).fetchall()
    driver.execute("SET LOCAL enable_nestloop TO DEFAULT")
    insert = sql.SQL("""
        WITH added AS (
            INSERT INTO gapless.children AS known
                (chain_id, contract_id, address, block_number, log_index, factory_address)
            SELECT DISTINCT ON (child) %(chain_id)s, %(contract_id)s, child, block_number, log_index, factory
            FROM ({every}) a WHERE child IS NOT NULL AND {condition} ORDER BY child, block_number, log_index
            ON CONFLICT (chain_id, contract_id, address) DO UPDATE
            SET block_number = excluded.block_number, log_index = excluded.log_index,
                factory_address = excluded.factory_address
            WHERE (excluded.block_number, excluded.log_index) < (known.block_number, known.log_index)
            RETURNING block_number)
        SELECT count(*), min(block_number) FROM added
    """)
    count, firsts = len(gone), [block for _, block in gone]
    conditions: list[sql.Composable] = [_within("a")]
    if gone and later and ranges[-1][1] < ALWAYS:
        # It may have been announced again; before these blocks it was not, or it would have been known since then.
        conditions.append(sql.SQL("block_number >= %(first)s AND child = ANY(%(gone)s)"))
        parameters["gone"] = [bytes(address) for address, _ in gone]
    for condition in conditions:
        row = driver.execute(insert.format(every=every, condition=condition), parameters).fetchone()
        assert row is not None
        count += row[0]
        if row[1] is not None:
            firsts.append(row[1])
    return count, min(firsts, default=None)


def _within(alias: str) -> sql.Composable:
    column = sql.Identifier(alias, "block_number")
    return sql.SQL("({0} BETWEEN %(first)s AND %(last)s AND {0} <@ %(ranges)s::int8multirange)").format(column)


def rules_of(connection: Connection, chain_id: int, contract_id: int) -> list[Rule]:
    """A contract's rules in force on a chain, each with its announcing event; those without an event are left out."""
    return _rules(connection, chain_id, None).get(contract_id, [])


def _rules(connection: Connection, chain_id: int, event_ids: Collection[int] | None) -> dict[int, list[Rule]]:
    """All rules of the contracts some of whose children such an event announces (None: of all contracts)."""
    rows = connection.execute(
        sa.text("""
            SELECT contract_id, factories FROM gapless.deployments
            WHERE chain_id = :chain_id AND factories IS NOT NULL ORDER BY contract_id
        """),
        {"chain_id": chain_id},
    ).all()
    named = {(factory["contract"], factory["event"]) for row in rows for factory in row.factories}
    events = load_events(connection, named=named).values() if named else ()
    found = {}
    for row in rows:
        factories = [FactoryRule(**factory) for factory in row.factories]
        rules = [(factory, event) for factory in factories for event in events if factory.announced_by(event)]
        if event_ids is None or any(event.event_id in event_ids for _, event in rules):
            found[row.contract_id] = rules
    return found


# -- coverage that was fetched without a child -----------------------------------------------------------------------


def _take_back(
    connection: Connection,
    chain_id: int,
    found: Mapping[int, int],
    events: Iterable[CatalogEvent],
    suspect: int,
    *,
    locked: bool,
) -> tuple[str, ...]:
    """Takes back the coverage of children in blocks where one was found late; returns the active sources of it.

    Args:
        connection: in the transaction that has changed the children.
        chain_id: the chain.
        found: by contract, the first block where a child is another one than before.
        events: those whose rows were changed.
        suspect: of sources by other rules than those in force: the first block that may be wrong.
        locked: whether no transaction may cover such a source from now on until this transaction ends.
    """
    wanted = {
        "chain_id": chain_id,
        "patterns": [json.dumps([{"contract": event.contract, "event": event.signature}]) for event in events],
        "contracts": list(found),
        "first": suspect,
    }
    if locked:
        # A writer that covers one of them now waits for us, and sees then that its plan is outdated.
        connection.execute(sa.text(f"SELECT s.id {_DEPENDING} ORDER BY s.id FOR NO KEY UPDATE OF s"), wanted)
    covered = connection.execute(
        sa.text(
            f"SELECT EXISTS (SELECT {_DEPENDING} AND s.coverage && int8multirange(int8range(:first, NULL)) "
            "AND (NOT s.active OR e.contract_id = ANY(:contracts)))"
        ),
        wanted,
    ).scalar_one()
    if not covered:
        return ()
    taken = factory_coverage.take_back_unknown(
        connection,
        {(chain_id, contract_id): block for contract_id, block in found.items()},
        chain_id=chain_id,
        suspect={(event.contract, event.signature): suspect for event in events},
    )
    for change in taken:
        log.info("%s: its factory announces other children: its history is filled in anew", change.name)
    return tuple(change.name for change in taken)


_DEPENDING: Final = """
    FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id
    WHERE s.chain_id = :chain_id AND s.place @> '{"kind": "factory"}' AND EXISTS (
        SELECT FROM unnest(CAST(:patterns AS text[])) p WHERE s.place -> 'factories' @> CAST(p AS jsonb))
"""


# -- contracts whose rules are new -----------------------------------------------------------------------------------


def waiting(connection: Connection, chain_id: int) -> list[int]:
    """The contracts whose rules are new on a chain: their children are not looked for among the rows there are yet."""
    return list(
        connection.execute(
            sa.text("""
                SELECT d.contract_id FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
                WHERE d.chain_id = :chain_id AND NOT d.adopted AND d.active AND c.active ORDER BY d.contract_id
            """),
            {"chain_id": chain_id},
        ).scalars()
    )


def adopt(engine: Engine, chain_id: int, stop: threading.Event) -> None:
    """Finds the children of contracts whose rules are new among the rows that are there, a bounded part at a time.

    Stopped or killed, it begins anew the next time; nothing of these contracts is fetched before it has ended.

    Args:
        engine: the database.
        chain_id: the chain.
        stop: ends after the step at hand when set.
    """
    with engine.connect() as connection:
        contracts = waiting(connection, chain_id)
    for contract_id in contracts:
        first: int | None = 0
        begun: Any = None
        while first is not None and not stop.is_set():
            with engine.begin() as connection:
                in_force = _factories(connection, chain_id, contract_id)
                if first == 0:
                    begun = in_force
                if in_force != begun:
                    break  # applied again meanwhile: by other rules, from the start, the next time
                first = _adopt(connection, chain_id, contract_id, first)


def _factories(connection: Connection, chain_id: int, contract_id: int) -> Any:
    return connection.execute(
        sa.text("""
            SELECT factories FROM gapless.deployments
            WHERE contract_id = :contract_id AND chain_id = :chain_id AND NOT adopted FOR SHARE
        """),
        {"contract_id": contract_id, "chain_id": chain_id},
    ).scalar_one_or_none()


def _adopt(connection: Connection, chain_id: int, contract_id: int, first: int) -> int | None:
    """One step from a block on; returns where the next one begins, or None when that was the last."""
    rules = rules_of(connection, chain_id, contract_id)
    last = None
    if rules:
        last = (
            psycopg_connection(connection)
            .execute(
                sql.SQL(
                    "SELECT block_number FROM ({}) a WHERE block_number >= %(first)s ORDER BY block_number "
                    "OFFSET %(step)s LIMIT 1"
                ).format(announcements(rules)),
                {"chain_id": chain_id, "first": first, "step": _STEP},
            )
            .fetchone()
        )
        end = last[0] if last else ALWAYS
        # Those that are announced later are found by later steps. Nothing is covered by these rules but what was
        # covered when they were in force before, and that was taken back where it became wrong since.
        _reconcile(connection, chain_id, contract_id, rules, ((first, end),), later=False)
    if last is not None:
        return int(last[0]) + 1
    connection.execute(
        sa.text(
            "UPDATE gapless.deployments SET adopted = true WHERE contract_id = :contract_id AND chain_id = :chain_id"
        ),
        {"contract_id": contract_id, "chain_id": chain_id},
    )
    return None


def forget_announcements(connection: Connection, contract: str) -> None:
    """Has the children of a contract's events looked for anew, before some of those events' rows are dropped."""
    connection.execute(
        sa.text("""
            UPDATE gapless.deployments SET adopted = false
            WHERE factories @> jsonb_build_array(jsonb_build_object('contract', CAST(:contract AS text)))
        """),
        {"contract": contract},
    )
