"""Comparing the tables with what they should hold, in Postgres itself: the same COPY, the same types, the same sums."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import POSITION_OF, Column
from indexer.intervals import RangeSet, intersect
from indexer.store.catalog.catalog import Source
from indexer.store.database import psycopg_connection
from indexer.store.integrity import digests
from indexer.store.rows import copy_binary, undecoded_logs
from indexer.store.rows.undecoded_logs import Counted, ForeignLogs, UndecodedLog
from indexer.store.rows.writer import Rows
from indexer.store.schema.layout import EventTable

_BLOCK, _LOG, _ADDRESS = POSITION_OF["block_number"], POSITION_OF["log_index"], POSITION_OF["contract_address"]


NOTHING = digests.Sum(0, 0)


@dataclass(frozen=True, slots=True)
class _Undecoded:
    """How the logs without a row of a source differ from the expected ones.

    Attributes:
        missing: block and log index of those that should be kept raw, and are not.
        surplus: of those that are kept raw, and should not be.
        uncounted: how many of a foreign shape are missing.
        overcounted: how many of a foreign shape are too many.
    """

    missing: set[tuple[int, int]]
    surplus: set[tuple[int, int]]
    uncounted: Counter[Counted]
    overcounted: Counter[Counted]

    @property
    def blocks(self) -> set[int]:
        """The blocks in which there is a difference."""
        of_raw = {number for number, _ in self.missing | self.surplus}
        return of_raw | {number for number, _, _ in (*self.uncounted, *self.overcounted)}

    def lines(self) -> list[str]:
        """The differences, for people."""
        return [
            *(f"block {number} log {log} should be among the undecoded" for number, log in sorted(self.missing)),
            *(f"block {number} log {log} should not be undecoded" for number, log in sorted(self.surplus)),
            *(f"{_foreign(counted)}: {count} not counted" for counted, count in sorted(self.uncounted.items())),
            *(f"{_foreign(counted)}: {count} too many counted" for counted, count in sorted(self.overcounted.items())),
        ]


def _foreign(counted: Counted) -> str:
    number, topics, address = counted
    return f"block {number} logs of 0x{address.hex()} with {topics} topics"


class Expected:
    """What some blocks should add to the tables, kept in temporary tables until the transaction ends."""

    def __init__(self, connection: Connection, rows: Rows) -> None:
        """Copies the rows into temporary tables like the events' own.

        Args:
            connection: in a transaction, which ends the life of this.
            rows: what the tables should hold of some blocks.
        """
        self._connection = connection
        self._driver = psycopg_connection(connection)
        self._tables: dict[int, EventTable] = {}
        self._undecoded = {
            (log.event_id, log.block_number, log.log_index): log for log in rows.undecoded if not log.has_row
        }
        self._foreign = list(rows.foreign)
        for event_id, (table, table_rows) in rows.by_table.items():
            for row, _ in _copy(self._driver, self._table_like(event_id, table), table_rows):
                self._undecoded[event_id, row[_BLOCK], row[_LOG]] = _placeholder(event_id, row)

    def _table_like(self, event_id: int, table: EventTable) -> EventTable:
        if event_id not in self._tables:
            copied = EventTable(event_id, "pg_temp", f"expected_{event_id}", table.columns)
            # What an index of the event's table refuses must be refused here, too; no index refuses a short value.
            like = sql.SQL("INCLUDING INDEXES" if any(map(_may_be_long, table.columns)) else "")
            self._driver.execute(
                sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {} {}) ON COMMIT DROP").format(
                    sql.Identifier(copied.table_name), table.identifier, like
                )
            )
            self._tables[event_id] = copied
        return self._tables[event_id]

    def differing(self, source: Source, ranges: RangeSet) -> list[int]:
        """The blocks in which a source's rows, undecoded or foreign logs are not the expected ones, ascending.

        Args:
            source: whose.
            ranges: blocks that it covers, all of them among those whose rows are expected.
        """
        event, table = source.event, self._tables.get(source.event.event_id)
        theirs = table.identifier if table else None
        found: set[int] = set()
        for block_range in ranges:
            expected = NOTHING
            if theirs:
                expected = digests.measure_rows(self._connection, event, source, block_range, table=theirs)
            if digests.measure_rows(self._connection, event, source, block_range) == expected:
                continue
            here = digests.by_block(self._connection, source, block_range, event.table.identifier)
            there = digests.by_block(self._connection, source, block_range, theirs) if theirs else {}
            found |= {number for number in here.keys() | there.keys() if here.get(number) != there.get(number)}
        return sorted(found | self._compared(source, ranges).blocks)

    def describe(self, source: Source, blocks: Collection[int]) -> list[str]:
        """What is different in some blocks, log by log and field by field, for people."""
        event = source.event
        ours = self._rows(event.table, source, blocks)
        theirs = self._expected_rows(source, blocks)
        lines: list[str] = []
        for key in sorted(ours.keys() | theirs.keys()):
            name = f"block {key[0]} log {key[1]}"
            if key not in ours:
                lines.append(f"{name} is missing")
            elif key not in theirs:
                lines.append(f"{name} should not be there")
            elif ours[key] != theirs[key]:
                pairs = zip(event.table.column_names, ours[key], theirs[key], strict=True)
                lines.append(f"{name} differs in {', '.join(column for column, a, b in pairs if a != b)}")
        ranges: RangeSet = tuple((number, number) for number in sorted(blocks))
        return lines + self._compared(source, ranges).lines()

    def takes_away(self, source: Source, blocks: Collection[int]) -> bool:
        """Whether the tables hold logs in some blocks that are not expected there."""
        ranges: RangeSet = tuple((number, number) for number in sorted(blocks))
        undecoded = self._compared(source, ranges)
        ours = self._rows(source.event.table, source, blocks).keys() | undecoded.surplus
        theirs = self._expected_rows(source, blocks).keys()
        return bool(undecoded.overcounted or ours - theirs - self._expected_undecoded(source, ranges))

    def _expected_rows(self, source: Source, blocks: Collection[int]) -> dict[tuple[int, int], Any]:
        table = self._tables.get(source.event.event_id)
        return self._rows(table, source, blocks) if table else {}

    def _rows(self, table: EventTable, source: Source, blocks: Collection[int]) -> dict[tuple[int, int], Any]:
        rows = self._driver.execute(
            sql.SQL("""
                SELECT {} FROM {} WHERE chain_id = %s AND block_number = ANY(%s)
                AND (%s::bytea[] IS NULL OR contract_address = ANY(%s::bytea[]))
            """).format(sql.SQL(", ").join(map(sql.Identifier, table.column_names)), table.identifier),
            (source.chain_id, sorted(blocks), _addresses(source), _addresses(source)),
        )
        return {(row[_BLOCK], row[_LOG]): row for row in rows}

    def _compared(self, source: Source, ranges: RangeSet) -> _Undecoded:
        stored, expected = self._stored_undecoded(source, ranges), self._expected_undecoded(source, ranges)
        addresses = _addresses(source)
        counted = undecoded_logs.load_foreign(self._driver, source.chain_id, source.event.event_id, ranges, addresses)
        uncounted = self._expected_foreign(source, ranges)
        overcounted = counted - uncounted
        uncounted -= counted
        surplus: set[tuple[int, int]] = set()
        for key in sorted(stored.keys() - expected):
            # Earlier versions kept all of them raw.
            if uncounted[stored[key]]:
                uncounted[stored[key]] -= 1
            else:
                surplus.add(key)
        return _Undecoded(expected - stored.keys(), surplus, +uncounted, overcounted)

    def _stored_undecoded(self, source: Source, ranges: RangeSet) -> dict[tuple[int, int], Counted]:
        """The logs that are kept raw, each with what it would be counted as."""
        if not ranges:
            return {}
        rows = self._driver.execute(
            """
            SELECT block_number, log_index, cardinality(topics), contract_address FROM gapless.undecoded_logs
            WHERE event_id = %s AND chain_id = %s AND NOT has_row AND block_number BETWEEN %s AND %s
              AND (%s::bytea[] IS NULL OR contract_address = ANY(%s::bytea[]))
            """,
            (
                source.event.event_id, source.chain_id, ranges[0][0], ranges[-1][1],
                _addresses(source), _addresses(source),
            ),
        )  # fmt: skip
        return {
            (number, log): (number, topics, bytes(address))
            for number, log, topics, address in rows
            if intersect(ranges, ((number, number),))
        }

    def _expected_foreign(self, source: Source, ranges: RangeSet) -> Counter[Counted]:
        places = set(_addresses(source) or ())
        return Counter(
            (logs.block_number, logs.topics, address)
            for logs in self._foreign
            if logs.event_id == source.event.event_id and intersect(ranges, ((logs.block_number, logs.block_number),))
            for address in logs.addresses
            if not places or address in places
        )

    def _expected_undecoded(self, source: Source, ranges: RangeSet) -> set[tuple[int, int]]:
        places = set(_addresses(source) or ())
        return {
            (number, index)
            for (event_id, number, index), log in self._undecoded.items()
            if event_id == source.event.event_id
            and intersect(ranges, ((number, number),))
            and (not places or log.contract_address in places)
        }


def of_source(rows: Rows, source: Source, blocks: Iterable[int]) -> Rows:
    """The part of decoded rows that one source claims in some blocks."""
    wanted, places, event_id = set(blocks), set(_addresses(source) or ()), source.event.event_id
    table, table_rows = rows.by_table.get(event_id, (source.event.table, []))
    return Rows(
        by_table={
            event_id: (
                table,
                [row for row in table_rows if row[_BLOCK] in wanted and (not places or row[_ADDRESS] in places)],
            )
        },
        undecoded=[
            log
            for log in rows.undecoded
            if log.event_id == event_id
            and log.block_number in wanted
            and (not places or log.contract_address in places)
        ],
        foreign=[
            ForeignLogs(event_id, logs.block_number, logs.topics, found)
            for logs in rows.foreign
            if logs.event_id == event_id
            and logs.block_number in wanted
            and (found := [one for one in logs.addresses if not places or one in places])
        ],
        logs=rows.logs,
    )


def _may_be_long(column: Column) -> bool:
    if column.hashed:
        return False
    return column.pg_type in ("text", "jsonb") or column.pg_type.endswith("[]") or column.abi_type == "bytes"


def _copy(
    driver: psycopg.Connection[Any], table: EventTable, rows: list[copy_binary.Row]
) -> list[tuple[copy_binary.Row, str]]:
    if not rows:
        return []
    return copy_binary.copy_accepted(driver, rows, lambda some: copy_binary.copy_rows(driver, table, some))


def _placeholder(event_id: int, row: copy_binary.Row) -> UndecodedLog:
    """A row that Postgres refuses, as the key under which its log is kept."""
    _, number, time, tx_hash, tx_index, log_index, address, *_ = row
    return UndecodedLog(event_id, number, log_index, time, tx_hash, tx_index, address, [], b"", "refused", False)


def _addresses(source: Source) -> list[bytes] | None:
    return [bytes.fromhex(address[2:]) for address in source.place.addresses] or None
