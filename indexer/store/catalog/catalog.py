"""The catalog: what is indexed, as the database knows it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import Column
from indexer.addresses import Children, DiscoveryBlocks
from indexer.intervals import BlockRange, RangeSet, intersect, subtract
from indexer.store.catalog.declaration import Place
from indexer.store.database import psycopg_connection
from indexer.store.schema import layout
from indexer.store.schema.layout import EventTable


@dataclass(frozen=True, slots=True)
class CatalogEvent:
    """One event: its contract, its ABI item, its table.

    Attributes:
        contract_abi: the whole ABI, for an anonymous event only: what is none of its named events may be this one.
        announces: whether a factory rule names it, one that is in force or one that was.
    """

    event_id: int
    contract_id: int
    contract: str
    name: str
    api_name: str
    signature: str
    topic0: bytes
    anonymous: bool
    item: Mapping[str, Any]
    table: EventTable
    contract_abi: Sequence[Any] | None = None
    announces: bool = False

    @property
    def label(self) -> str:
        """``usdc.Transfer``: for people."""
        return f"{self.contract}.{self.api_name}"


@dataclass(frozen=True, slots=True)
class Source:
    """chain x contract x event x where: the unit whose coverage is tracked.

    Attributes:
        adopted: for a factory's children: whether they were looked for among the announcements that are in the tables.
    """

    source_id: int
    chain_id: int
    event: CatalogEvent
    place: Place
    start_block: int
    end_block: int | None
    coverage: RangeSet
    verified: RangeSet
    adopted: bool = True

    def wanted(self, last: int) -> RangeSet:
        """The blocks that the manifest wants of this source, up to a block."""
        end = last if self.end_block is None else min(last, self.end_block)
        return ((self.start_block, end),) if self.start_block <= end else ()

    def gap(self, last: int) -> RangeSet:
        """Wanted blocks minus coverage."""
        return subtract(self.wanted(last), self.coverage)

    def within(self, block_range: BlockRange) -> RangeSet:
        """The part of a range that this source wants."""
        return intersect(self.wanted(block_range[1]), (block_range,))


@dataclass(frozen=True, slots=True)
class Series:
    """A snapshot: which calls of which contract, how often, and where its rows go."""

    series_id: int
    name: str
    contract_id: int
    contract: str
    schema_name: str
    table_name: str
    calls: tuple[str, ...]
    every: str
    columns: tuple[Column, ...]
    abi: Sequence[Any]
    deployments: Mapping[int, tuple[bytes, ...]]

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name of its table, quoted for SQL."""
        return sql.Identifier(self.schema_name, self.table_name)


_EVENTS = sa.text("""
    SELECT e.id, e.contract_id, c.name AS contract, c.schema_name, e.name, e.api_name, e.signature, e.topic0,
           e.anonymous, e.abi, e.table_name, e.columns, CASE WHEN e.anonymous THEN c.abi END AS contract_abi,
           r.event IS NOT NULL AS announces
    FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    LEFT JOIN (
        SELECT f ->> 'contract' AS contract, f ->> 'event' AS event
        FROM gapless.sources s, jsonb_array_elements(s.place -> 'factories') f
        UNION
        SELECT f ->> 'contract', f ->> 'event'
        FROM gapless.deployments d, jsonb_array_elements(d.factories) f
    ) r ON r.contract = c.name AND r.event = e.signature
    WHERE (CAST(:contracts AS text[]) IS NULL
           OR (c.name, e.signature) IN (SELECT * FROM unnest(CAST(:contracts AS text[]), CAST(:named AS text[]))))
      AND (CAST(:signatures AS text[]) IS NULL OR e.signature = ANY(:signatures))
      AND (CAST(:ids AS integer[]) IS NULL OR e.id = ANY(:ids))
      AND (CAST(:of AS text[]) IS NULL OR c.name = ANY(:of))
    ORDER BY e.id
""")

_SOURCES = sa.text("""
    SELECT s.id, s.chain_id, s.event_id, s.place, s.start_block, s.end_block, s.verified,
           gapless.covered(s.coverage, s.end_block, n.tip_number) AS coverage,
           NOT s.place @> '{"kind": "factory"}' OR coalesce(d.adopted, true) AS adopted
    FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id JOIN gapless.events e ON e.id = s.event_id
    LEFT JOIN gapless.deployments d ON d.contract_id = e.contract_id AND d.chain_id = s.chain_id
    WHERE (s.active OR :retired) AND (CAST(:chain_id AS bigint) IS NULL OR s.chain_id = :chain_id)
      AND (CAST(:ids AS integer[]) IS NULL OR s.id = ANY(:ids))
      AND (CAST(:event_ids AS integer[]) IS NULL OR s.event_id = ANY(:event_ids))
    ORDER BY s.id
""")

# Covered or not, a source wants nothing of blocks between its end and its start: an empty range is in everything.
_LACKING = sa.text("""
    SELECT id FROM gapless.sources
    WHERE chain_id = :chain_id AND active
      AND NOT coverage @> int8range(start_block, greatest(start_block, least(end_block, :last) + 1))
""")
_FINDING = sa.text("""
    SELECT s.id FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id
    JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE s.chain_id = :chain_id AND s.active AND (
        s.place @> '{"kind": "factory"}'
        OR (c.name, e.signature) IN (
            SELECT f ->> 'contract', f ->> 'event'
            FROM gapless.sources r, jsonb_array_elements(r.place -> 'factories') f
            WHERE r.chain_id = :chain_id AND r.active))
""")

_SERIES = sa.text("""
    SELECT s.id, s.name, s.contract_id, c.name AS contract, c.schema_name, c.abi, s.table_name, s.calls, s.every,
           s.columns,
           (SELECT coalesce(jsonb_object_agg(d.chain_id, to_jsonb(
                       ARRAY(SELECT encode(address, 'hex') FROM unnest(d.addresses) address))), '{}')
            FROM gapless.deployments d
            WHERE d.contract_id = c.id AND d.active AND d.kind = 'addresses') AS deployments
    FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id
    WHERE s.active OR :retired
    ORDER BY s.id
""")


def load_events(
    connection: Connection,
    *,
    named: Collection[tuple[str, str]] | None = None,
    signatures: Collection[str] | None = None,
    ids: Collection[int] | None = None,
    contracts: Collection[str] | None = None,
) -> dict[int, CatalogEvent]:
    """Events ever declared, by id: the active ones and those whose data stays.

    There may be ten thousand, which takes half a second: what happens again and again reads those that it needs.

    Args:
        connection: to read with.
        named: only those of such contracts with such signatures; None: all.
        signatures: only those with one of these, of whatever contract; None: all.
        ids: only these; None: all.
        contracts: only those of contracts with such names; None: all.
    """
    wanted = None if named is None else sorted(named)
    parameters = {
        "ids": None if ids is None else sorted(ids),
        "of": None if contracts is None else sorted(contracts),
        "contracts": None if wanted is None else [contract for contract, _ in wanted],
        "named": None if wanted is None else [signature for _, signature in wanted],
        "signatures": None if signatures is None else sorted(signatures),
    }
    return {row.id: _event(row) for row in connection.execute(_EVENTS, parameters)}


def _event(row: sa.Row[Any]) -> CatalogEvent:
    columns = tuple(Column.from_json(column) for column in row.columns)
    return CatalogEvent(
        event_id=row.id,
        contract_id=row.contract_id,
        contract=row.contract,
        name=row.name,
        api_name=row.api_name,
        signature=row.signature,
        topic0=bytes(row.topic0),
        anonymous=row.anonymous,
        item=row.abi,
        table=EventTable(row.id, row.schema_name, row.table_name, columns),
        contract_abi=row.contract_abi,
        announces=row.announces,
    )


def load_sources(
    connection: Connection,
    chain_id: int | None = None,
    *,
    named: Collection[tuple[str, str]] | None = None,
    ids: Collection[int] | None = None,
    contracts: Collection[str] | None = None,
    event_ids: Collection[int] | None = None,
    retired: bool = False,
) -> list[Source]:
    """The active sources of a chain (or of all), with their coverage at this moment, in the order of their ids.

    There may be ten thousand, which takes a second: what happens again and again reads those that it needs.

    Args:
        connection: to read with.
        chain_id: the chain; None: all.
        named: only of events of such contracts with such signatures; None: of all.
        ids: only these; None: all.
        contracts: only those of contracts with such names; None: of all.
        event_ids: only those of these events; None: of all. Not together with ``named`` or ``contracts``.
        retired: also those that are not active.
    """
    if ids is not None and not ids:
        return []
    if named is not None or contracts is not None:
        event_ids = set(load_events(connection, named=named, contracts=contracts))
    rows = _source_rows(connection, chain_id, retired=retired, ids=ids, event_ids=event_ids)
    is_part = ids is not None or event_ids is not None
    return _sources(rows, load_events(connection, ids={row.event_id for row in rows} if is_part else None))


def load_with_events(
    connection: Connection, chain_id: int | None = None, *, retired: bool = False
) -> tuple[list[Source], dict[int, CatalogEvent]]:
    """What :func:`load_sources` and :func:`load_events` load together, each event read once."""
    rows = _source_rows(connection, chain_id, retired=retired)
    events = load_events(connection)
    return _sources(rows, events), events


def _source_rows(
    connection: Connection,
    chain_id: int | None,
    *,
    retired: bool,
    ids: Collection[int] | None = None,
    event_ids: Collection[int] | None = None,
) -> Sequence[sa.Row[Any]]:
    parameters = {
        "chain_id": chain_id,
        "retired": retired,
        "ids": None if ids is None else sorted(ids),
        "event_ids": None if event_ids is None else sorted(event_ids),
    }
    return connection.execute(_SOURCES, parameters).all()


def _sources(rows: Iterable[sa.Row[Any]], events: Mapping[int, CatalogEvent]) -> list[Source]:
    # The events are read after the sources: what a manifest that is applied in between adds is no part of them. What it
    # drops is left out.
    return [
        Source(
            source_id=row.id,
            chain_id=row.chain_id,
            event=events[row.event_id],
            place=Place.from_json(row.place),
            start_block=row.start_block,
            end_block=row.end_block,
            coverage=layout.ranges_from_sql(row.coverage),
            verified=layout.ranges_from_sql(row.verified),
            adopted=row.adopted,
        )
        for row in rows
        if row.event_id in events
    ]


def load_lacking(connection: Connection, chain_id: int, last: int) -> list[Source]:
    """The active sources of a chain that lack a wanted block up to one, and all by which children are found.

    Where nothing is lacking, nothing is read: of thousands of sources that are whole an idle chain reads none.

    Args:
        connection: to read with.
        chain_id: the chain.
        last: a block that is not above the chain's tip.
    """
    parameters = {"chain_id": chain_id, "last": last}
    if not (lacking := set(connection.execute(_LACKING, parameters).scalars())):
        return []
    return load_sources(
        connection, chain_id, ids=lacking.union(connection.execute(_FINDING, {"chain_id": chain_id}).scalars())
    )


def load_series(connection: Connection, *, retired: bool = False) -> list[Series]:
    """The active snapshot series, and if asked for those whose data stays."""
    return [
        Series(
            series_id=row.id,
            name=row.name,
            contract_id=row.contract_id,
            contract=row.contract,
            schema_name=row.schema_name,
            table_name=row.table_name,
            calls=tuple(row.calls),
            every=row.every,
            columns=tuple(Column.from_json(column) for column in row.columns),
            abi=row.abi,
            deployments={
                int(chain_id): tuple(bytes.fromhex(address) for address in addresses)
                for chain_id, addresses in row.deployments.items()
            },
        )
        for row in connection.execute(_SERIES, {"retired": retired})
    ]


def table_identifiers(connection: Connection) -> list[sql.Identifier]:
    """The tables of all events that were ever declared, quoted for SQL."""
    rows = connection.execute(
        sa.text("""
            SELECT c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
            ORDER BY e.id
        """)
    )
    return [sql.Identifier(row.schema_name, row.table_name) for row in rows]


def contract_ids(connection: Connection, names: Collection[str]) -> set[int]:
    """The ids of the contracts with some names."""
    rows = connection.execute(sa.text("SELECT id FROM gapless.contracts WHERE name = ANY(:names)"), {"names": [*names]})
    return set(rows.scalars())


def load_starts(connection: Connection) -> dict[tuple[str, str], int]:
    """By (contract, chain): the first wanted block of all deployments that were ever declared."""
    rows = connection.execute(
        sa.text("""
            SELECT c.name AS contract, n.name AS chain, d.start_block
            FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
            JOIN gapless.chains n USING (chain_id)
        """)
    )
    return {(row.contract, row.chain): row.start_block for row in rows}


def load_children(connection: Connection, chain_id: int, contract_ids: Collection[int] | None = None) -> Children:
    """By contract id: the addresses that factories announced, each with the block of its discovery.

    Args:
        connection: to read with.
        chain_id: the chain.
        contract_ids: only theirs; None: all.
    """
    if contract_ids is not None and not contract_ids:
        return {}
    wanted = None if contract_ids is None else list(contract_ids)
    # One row for each contract, in binary: a factory may have 300,000 children.
    cursor = psycopg_connection(connection).cursor(binary=True)
    cursor.execute(
        """
        SELECT contract_id, string_agg(address, ''::bytea ORDER BY address),
               string_agg(int8send(block_number), ''::bytea ORDER BY address)
        FROM gapless.children WHERE chain_id = %s AND (%s::integer[] IS NULL OR contract_id = ANY(%s))
        GROUP BY contract_id
        """,
        (chain_id, wanted, wanted),
    )
    return {contract_id: DiscoveryBlocks(addresses, births) for contract_id, addresses, births in cursor}
