"""What the tables must hold, worked out from the made-up chain and not by the program; and the comparison.

The rule for a reader at any instant: in one snapshot of the database there is one tip; what each source's coverage says
is indexed must be in the tables exactly as it is on the branch that ends in that tip, and nothing else may be there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from tests.chaos.chain import CHAIN_ID, Birth, Block, Chain, Log, between, block_at, branch_of, topic_of

Row = tuple[Any, ...]
Key = tuple[int, int]
Ranges = tuple[tuple[int, int], ...]
Counted = tuple[int, int, bytes]
"""Block, number of topics and address of a log that is only counted."""

Rule = tuple[str, str, str]
"""A factory's contract, the first topic of its event, and the argument: what announces a child."""

Announced = Mapping[Rule, Mapping[str, Birth]]
"""By rule, every address that it announces, with the earliest announcement."""


class WrongError(AssertionError):
    """The tables are not what they must be."""


@dataclass(frozen=True)
class Table:
    """An event, as the catalog of the database has it."""

    event_id: int
    contract: str
    schema: str
    name: str
    topic0: str
    indexed: int

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Source:
    """A source, as the catalog of the database has it."""

    source_id: int
    event_id: int
    place: Mapping[str, Any]
    start_block: int
    end_block: int | None
    active: bool
    coverage: Ranges


@dataclass(frozen=True)
class Family:
    """What the catalog of the database says of a contract with factory rules.

    Attributes:
        rules: those in force.
        adopted: whether what they announce has been looked for in the tables.
        active: whether the contract is wanted.
    """

    rules: frozenset[Rule]
    adopted: bool
    active: bool


@dataclass(frozen=True)
class Picture:
    """All that a reader can see in one snapshot of the database."""

    tip: int | None
    tip_hash: bytes | None
    finalized: int | None
    tables: Mapping[int, Table]
    sources: Sequence[Source]
    rows: Mapping[int, Mapping[Key, Row]]
    undecoded: Mapping[int, Mapping[Key, bool]]
    foreign: Mapping[int, Counter[Counted]]
    children: Mapping[str, Mapping[str, Birth]]
    families: Mapping[str, Family]
    blocks: Mapping[int, bytes]


def look(connection: psycopg.Connection[Any]) -> Picture:
    """Reads everything in one snapshot."""
    with snapshot(connection):
        tip, tip_hash, finalized = connection.execute(
            "SELECT tip_number, tip_hash, finalized_number FROM gapless.chains WHERE chain_id = %s", (CHAIN_ID,)
        ).fetchone() or (None, None, None)
        tables = {
            row[0]: Table(row[0], row[1], row[2], row[3], "0x" + bytes(row[4]).hex(), row[5])
            for row in connection.execute("""
                SELECT e.id, c.name, c.schema_name, e.table_name, e.topic0,
                       (SELECT count(*) FROM jsonb_array_elements(e.abi -> 'inputs') i WHERE (i ->> 'indexed')::bool)
                FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id ORDER BY e.id
            """)
        }
        sources = [
            Source(*row[:6], tuple((r.lower, r.upper - 1) for r in row[6]))
            for row in connection.execute(
                "SELECT s.id, s.event_id, s.place, s.start_block, s.end_block, s.active, "
                "gapless.covered(s.coverage, s.end_block, n.tip_number) "
                "FROM gapless.sources s JOIN gapless.chains n USING (chain_id) WHERE chain_id = %s ORDER BY s.id",
                (CHAIN_ID,),
            )
        ]
        rows = {}
        for table in tables.values():
            found = connection.execute(
                sql.SQL("SELECT * FROM {} WHERE chain_id = %s").format(sql.Identifier(table.schema, table.name)),
                (CHAIN_ID,),
            ).fetchall()
            rows[table.event_id] = {(row[1], row[5]): tuple(normal(value) for value in row) for row in found}
            if len(found) != len(rows[table.event_id]):
                raise WrongError(f"{table.label}: a log stands there twice")
        undecoded: dict[int, dict[Key, bool]] = {}
        for event_id, number, index, has_row in connection.execute(
            "SELECT event_id, block_number, log_index, has_row FROM gapless.undecoded_logs WHERE chain_id = %s",
            (CHAIN_ID,),
        ):
            undecoded.setdefault(event_id, {})[number, index] = has_row
        foreign: dict[int, Counter[Counted]] = {}
        for event_id, number, count, logs, addresses in connection.execute(
            "SELECT event_id, block_number, topics, logs, addresses FROM gapless.foreign_shapes WHERE chain_id = %s",
            (CHAIN_ID,),
        ):
            if logs != len(addresses) or not logs:
                raise WrongError(f"block {number}: {logs} logs of foreign shapes are {len(addresses)}")
            foreign.setdefault(event_id, Counter()).update((number, count, bytes(address)) for address in addresses)
        children: dict[str, dict[str, Birth]] = {}
        for contract, address, number, index, factory in connection.execute(
            "SELECT c.name, h.address, h.block_number, h.log_index, h.factory_address "
            "FROM gapless.children h JOIN gapless.contracts c ON c.id = h.contract_id WHERE chain_id = %s",
            (CHAIN_ID,),
        ):
            born = Birth(number, index, "0x" + bytes(factory).hex())
            children.setdefault(contract, {})["0x" + bytes(address).hex()] = born
        families = {
            name: Family(frozenset(map(rule_of, factories)), adopted, active)
            for name, factories, adopted, active in connection.execute(
                "SELECT c.name, d.factories, d.adopted, d.active AND c.active FROM gapless.deployments d "
                "JOIN gapless.contracts c ON c.id = d.contract_id "
                "WHERE d.chain_id = %s AND d.factories IS NOT NULL",
                (CHAIN_ID,),
            )
        }
        blocks = {
            number: bytes(block_hash)
            for number, block_hash in connection.execute(
                "SELECT number, hash FROM gapless.blocks WHERE chain_id = %s", (CHAIN_ID,)
            )
        }
    tip_hash = None if tip_hash is None else bytes(tip_hash)
    return Picture(tip, tip_hash, finalized, tables, sources, rows, undecoded, foreign, children, families, blocks)


@contextmanager
def snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """All that is read within is of one instant."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction():
        yield


class Judge:
    """Compares pictures with the chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._expected: dict[tuple[bytes, str, int, str], list[_Entry]] = {}

    def check(self, picture: Picture) -> None:
        """Checks what a reader saw.

        Raises:
            WrongError: it is not one branch, whole where it says so.
        """
        if picture.tip_hash is None:
            return
        tip = self._chain.by_hash.get(picture.tip_hash)
        if tip is None or tip.number != picture.tip:
            raise WrongError(f"the tip {picture.tip} 0x{picture.tip_hash.hex()} is no block of the chain")
        branch = branch_of(tip)
        for number, block_hash in picture.blocks.items():
            block = block_at(branch, number)
            if block is None or block.hash != block_hash:
                raise WrongError(
                    f"block {number} is kept with a hash of another branch than that of the tip {tip.number}"
                )
        referring = {number for rows in (*picture.rows.values(), *picture.undecoded.values()) for number, _ in rows}
        referring |= {number for counted in picture.foreign.values() for number, _, _ in counted}
        if dangling := referring - picture.blocks.keys():
            raise WrongError(f"rows of blocks that are not kept: {sorted(dangling)[:5]}")
        announced = _announced(picture, branch)
        for table in picture.tables.values():
            self._check_table(picture, table, branch, announced)
        for contract, family in picture.families.items():
            expected = _earliest(announced, family.rules)
            if family.adopted and picture.children.get(contract, {}) != expected:
                said = _difference(expected, picture.children.get(contract, {}))
                raise WrongError(f"children of {contract}, tip {picture.tip}: {said}")

    def check_complete(self, picture: Picture) -> None:
        """Checks that nothing is missing: the tip is the head, and coverage is all that is wanted.

        Raises:
            WrongError: something is.
        """
        self.check(picture)
        head = self._chain.head
        if picture.tip_hash != head.hash:
            raise WrongError(f"the tip is {picture.tip}, the head is {head.number}")
        for source in picture.sources:
            last = head.number if source.end_block is None else min(head.number, source.end_block)
            wanted = ((source.start_block, last),) if source.start_block <= last else ()
            covered = tuple(
                (max(a, source.start_block), min(b, last))
                for a, b in source.coverage
                if b >= source.start_block and a <= last
            )
            if source.active and covered != wanted:
                raise WrongError(f"source {source.source_id} covers {source.coverage}, wanted is {wanted}")
        for contract, family in picture.families.items():
            if family.active and not family.adopted:
                raise WrongError(f"children of {contract} were never looked for")

    def _check_table(self, picture: Picture, table: Table, branch: Sequence[Block], announced: Announced) -> None:
        rows: dict[Key, Row] = {}
        undecoded: dict[Key, bool] = {}
        foreign: dict[Key, Counted] = {}
        # Of sources whose coverage is not trusted: rows that may be there, and need not.
        more_rows: dict[Key, Row] = {}
        more_undecoded: dict[Key, bool] = {}
        more_foreign: dict[Key, Counted] = {}
        for source in picture.sources:
            if source.event_id != table.event_id:
                continue
            children: Mapping[str, Birth] | None = None
            doubted = False
            if source.place["kind"] == "factory":
                rules = frozenset(map(rule_of, source.place.get("factories", ())))
                children, doubted = _earliest(announced, rules), not rules
            to_rows, to_undecoded = (more_rows, more_undecoded) if doubted else (rows, undecoded)
            to_foreign = more_foreign if doubted else foreign
            for first, last in source.coverage:
                if last > branch[-1].number:
                    raise WrongError(
                        f"{table.label}: blocks {first}-{last} are covered, the tip is {branch[-1].number}"
                    )
                for block in between(branch, first, last):
                    for entry in self._of(block, source, table):
                        if children is not None and not doubted:
                            birth = children.get(entry.address)
                            if birth is None or birth.number > block.number:
                                continue
                        if entry.key in rows or entry.key in undecoded or entry.key in foreign:
                            raise WrongError(f"{table.label}: block {block.number} is covered by two sources")
                        if entry.row is not None:
                            to_rows[entry.key] = entry.row
                        if entry.noted:
                            to_undecoded[entry.key] = entry.row is not None
                        if entry.foreign is not None:
                            to_foreign[entry.key] = entry.foreign
        held, noted = picture.rows[table.event_id], picture.undecoded.get(table.event_id, {})
        rows |= {key: row for key, row in more_rows.items() if key in held}
        undecoded |= {key: has_row for key, has_row in more_undecoded.items() if key in noted}
        if held != rows:
            raise WrongError(f"{table.label}, tip {picture.tip}: {_difference(rows, held)}")
        if noted != undecoded:
            raise WrongError(f"undecoded logs of {table.label}, tip {picture.tip}: {_difference(undecoded, noted)}")
        counted, least = picture.foreign.get(table.event_id, Counter()), Counter(foreign.values())
        if not least <= counted <= least + Counter(more_foreign.values()):
            raise WrongError(f"foreign shapes of {table.label}, tip {picture.tip}: {_difference(least, counted)}")

    def _of(self, block: Block, source: Source, table: Table) -> list[_Entry]:
        """What a source may claim of a block; of a factory's, from any address."""
        place = {name: source.place[name] for name in ("kind", "addresses", "filters") if name in source.place}
        key = (block.hash, table.contract, table.event_id, repr(place))
        if key not in self._expected:
            self._expected[key] = entries = []
            for log in block.logs:
                saying = log.saying
                silent = saying.row is None and not saying.noted and not saying.foreign
                if silent or not claims(place, table, log):
                    continue
                row = None
                address = bytes.fromhex(saying.address[2:])
                counted = (block.number, len(saying.topics), address) if saying.foreign else None
                if saying.row is not None:
                    fixed = (CHAIN_ID, block.number, block.moment, log.tx_hash, log.tx_index, log.log_index, address)
                    row = (*fixed, *(normal(value) for value in saying.row))
                entries.append(_Entry((block.number, log.log_index), saying.address, row, saying.noted, counted))
        return self._expected[key]


@dataclass(frozen=True)
class _Entry:
    """A log that a source may claim, and what the tables hold of it then."""

    key: Key
    address: str
    row: Row | None
    noted: bool
    foreign: Counted | None


def rule_of(factory: Mapping[str, str]) -> Rule:
    """A factory rule, as the catalog of the database has it."""
    return factory["contract"], topic_of(factory["event"]), factory["argument"]


def _announced(picture: Picture, branch: Sequence[Block]) -> Announced:
    """What the rows announce that a reader saw: whether they are right is another question."""
    announced: dict[Rule, dict[str, Birth]] = {}
    for table in picture.tables.values():
        for number, index in sorted(picture.rows[table.event_id]):
            block = block_at(branch, number)
            logs = () if block is None else block.logs
            saying = next((log.saying for log in logs if log.log_index == index), None)
            if saying is None:
                continue  # no such log: the table is wrong
            for argument, child in saying.announces:
                birth = Birth(number, index, saying.address)
                announced.setdefault((table.contract, table.topic0, argument), {}).setdefault(child, birth)
    return announced


def _earliest(announced: Announced, rules: frozenset[Rule]) -> Mapping[str, Birth]:
    """The children of some rules, each by the earliest announcement over all of them."""
    found: dict[str, Birth] = {}
    for rule in rules:
        for child, birth in announced.get(rule, {}).items():
            known = found.get(child)
            if known is None or (birth.number, birth.log_index) < (known.number, known.log_index):
                found[child] = birth
    return found


def claims(place: Mapping[str, Any], table: Table, log: Log) -> bool:
    """Whether a log belongs to a source, but for the addresses of a factory's children."""
    topics, address = log.saying.topics, log.saying.address
    if topics[0] != table.topic0:
        return False
    if place["kind"] == "addresses" and address not in place["addresses"]:
        return False
    return not place.get("filters") or any(
        all(int(position) < len(topics) and topics[int(position)] in allowed for position, allowed in one.items())
        for one in place["filters"]
    )


def normal(value: Any) -> Any:
    """Values from Postgres and from the chain in one form."""
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        return bytes.fromhex(value[2:])
    if isinstance(value, list | tuple):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {name: normal(item) for name, item in value.items()}
    return value


def _difference(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> str:
    missing = sorted(expected.keys() - found.keys())
    surplus = sorted(found.keys() - expected.keys())
    other = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    shown = f"{len(missing)} missing {missing[:5]}, {len(surplus)} too many {surplus[:5]}, {len(other)} different"
    return shown + (f": {found[other[0]]!r} in place of {expected[other[0]]!r}" if other else "")
