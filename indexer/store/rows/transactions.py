"""Blocks and transactions of events (``include``): what is to be fetched, and the coverage of their own.

A deployment's ``included`` is the set of blocks for whose events all that ``include`` names is there, or noted as
something that no node gives (:mod:`indexer.store.rows.transaction_rows`). It follows the
coverage of the deployment's sources, is taken back with them where rows change, and is never ahead of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.block_records import TransactionDetails
from indexer.intervals import BlockRange, RangeSet, contains
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import writing_by
from indexer.store.database import psycopg_connection
from indexer.store.rows import transaction_rows
from indexer.store.rows.transaction_rows import Due
from indexer.store.schema import layout


@dataclass(slots=True)
class IncompleteBlock:
    """A block that bore events, and what of it is not there yet.

    Attributes:
        number: the block.
        hash: its hash.
        time: Unix seconds.
        block: whether the block itself is lacking.
        transactions: by place in the block, the hashes of the transactions that are lacking.
        receipts: the same for receipts.
    """

    number: int
    hash: bytes
    time: int
    block: bool
    transactions: dict[int, bytes] = field(default_factory=dict)
    receipts: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DetailsTask:
    """A range of one deployment that is to be included next.

    Attributes:
        contract_id: the contract.
        source_ids: its sources on the chain, which cover the range.
        block_range: the range.
        incomplete: the blocks of it that lack something.
        rewrites: grows with every change of rows that were covered.
        reorganised: grows with every reorganisation of the chain.
    """

    contract_id: int
    source_ids: tuple[int, ...]
    block_range: BlockRange
    incomplete: tuple[IncompleteBlock, ...]
    rewrites: int
    reorganised: int


@dataclass(frozen=True, slots=True)
class Including:
    """A deployment with ``include``.

    Attributes:
        contract_id: the contract.
        contract: its name.
        include: ``block``, ``transaction``, ``receipt``.
        included: the blocks for whose events all of that is there.
    """

    contract_id: int
    contract: str
    include: tuple[str, ...]
    included: RangeSet


def load(connection: Connection, chain_id: int) -> list[Including]:
    """The active deployments of a chain that include anything, in the order of their contracts' ids."""
    rows = connection.execute(
        sa.text("""
            SELECT d.contract_id, c.name, d.include, d.included
            FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
            WHERE d.chain_id = :chain_id AND d.active AND d.include <> '{}' ORDER BY d.contract_id
        """),
        {"chain_id": chain_id},
    )
    return [
        Including(row.contract_id, row.name, tuple(row.include), layout.ranges_from_sql(row.included)) for row in rows
    ]


def next_task(connection: Connection, chain_id: int, most_blocks: int) -> DetailsTask | None:
    """What is to be fetched next on a chain: at most so many blocks that bore events; None: nothing.

    The newest ones come first: a long history holds up no new event, and neither does one that no node knows any more.
    """
    # Of sources that lack nothing, which may be thousands, none is read.
    rows = connection.execute(_LACKING, {"chain_id": chain_id}).all()
    ranges = [(layout.ranges_from_sql(row.lacking), row) for row in rows]
    if not ranges:
        return None
    lacking, chosen = max(ranges, key=lambda one: one[0][-1][1])
    sources = catalog.load_sources(connection, chain_id, contracts={chosen.name})
    return _task(connection, chain_id, chosen.contract_id, sources, chosen.include, lacking[-1], most_blocks)


_LACKING = sa.text("""
    SELECT d.contract_id, c.name, d.include,
           range_intersect_agg(gapless.covered(s.coverage, s.end_block, n.tip_number)) - d.included AS lacking
    FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
    JOIN gapless.chains n ON n.chain_id = d.chain_id
    JOIN gapless.events e ON e.contract_id = d.contract_id
    JOIN gapless.sources s ON s.event_id = e.id AND s.chain_id = d.chain_id AND s.active
    WHERE d.chain_id = :chain_id AND d.active AND d.include <> '{}'
    GROUP BY d.contract_id, d.chain_id, c.name, d.include, d.included
    HAVING range_intersect_agg(gapless.covered(s.coverage, s.end_block, n.tip_number)) - d.included <> '{}'
    ORDER BY d.contract_id
""")


def _task(
    connection: Connection,
    chain_id: int,
    contract_id: int,
    sources: Sequence[Source],
    include: Sequence[str],
    block_range: BlockRange,
    most_blocks: int,
) -> DetailsTask:
    first, last = block_range
    # Before the rows: where both are still the same when they are stored, these were all.
    rewrites, reorganised = _rewrites(connection, contract_id), _reorganised(connection, chain_id)
    tables = {source.event.event_id: source.event.table.identifier for source in sources}
    # The last few of each table, by its key: the range may be all of history.
    late = sql.SQL(" UNION ").join(
        sql.SQL(
            "(SELECT DISTINCT block_number FROM {} WHERE chain_id = {} AND block_number BETWEEN {} AND {} "
            "ORDER BY block_number DESC LIMIT {})"
        ).format(table, chain_id, first, last, most_blocks)
        for table in tables.values()
    )
    bore = sql.SQL(" UNION ").join(
        sql.SQL(
            "SELECT e.block_number, e.tx_index, e.tx_hash FROM chosen JOIN {} e "
            "ON e.chain_id = {} AND e.block_number = chosen.block_number"
        ).format(table, chain_id)
        for table in tables.values()
    )
    rows = (
        psycopg_connection(connection)
        .execute(
            sql.SQL("""
            WITH chosen AS MATERIALIZED (
                SELECT block_number FROM ({late}) each ORDER BY block_number DESC LIMIT {most}),
            bore AS MATERIALIZED ({bore})
            SELECT b.block_number, k.hash, extract(epoch FROM k.time)::bigint, b.tx_index, b.tx_hash,
                   d.block_number IS NULL, t.value IS NULL, t.gas_used IS NULL
            FROM bore b JOIN gapless.blocks k ON k.chain_id = {chain_id} AND k.number = b.block_number
            LEFT JOIN gapless.block_details d ON d.chain_id = {chain_id} AND d.block_number = b.block_number
            LEFT JOIN gapless.transactions t
              ON t.chain_id = {chain_id} AND t.block_number = b.block_number AND t.tx_index = b.tx_index
            ORDER BY b.block_number, b.tx_index
        """).format(late=late, bore=bore, most=most_blocks, chain_id=chain_id)
        )
        .fetchall()
    )
    incomplete: dict[int, IncompleteBlock] = {}
    seen: set[int] = set()
    for number, block_hash, time, index, tx_hash, no_block, no_transaction, no_receipt in rows:
        seen.add(number)
        block = incomplete.setdefault(
            number, IncompleteBlock(number, bytes(block_hash), time, "block" in include and no_block)
        )
        if "transaction" in include and no_transaction:
            block.transactions[index] = bytes(tx_hash)
        if "receipt" in include and no_receipt:
            block.receipts[index] = bytes(tx_hash)
    # All that bore anything was chosen: the rest of the range is silent and done with it.
    since = first if len(seen) < most_blocks else min(seen)
    lacking = tuple(b for b in incomplete.values() if b.block or b.transactions or b.receipts)
    source_ids = tuple(source.source_id for source in sources)
    return DetailsTask(contract_id, source_ids, (since, last), lacking, rewrites, reorganised)


def _rewrites(connection: Connection, contract_id: int) -> int:
    return int(
        connection.execute(
            sa.text("SELECT sum(rewrite_version) FROM gapless.events WHERE contract_id = :id"), {"id": contract_id}
        ).scalar_one()
    )


def _reorganised(connection: Connection, chain_id: int) -> int:
    return int(
        connection.execute(
            sa.text("SELECT coalesce(max(id), 0) FROM gapless.reorgs WHERE chain_id = :id"), {"id": chain_id}
        ).scalar_one()
    )


def store(
    connection: Connection,
    chain_id: int,
    task: DetailsTask,
    *,
    catalog_version: int,
    facts: TransactionDetails,
) -> bool:
    """Keeps what was fetched for a task, and covers its range.

    Args:
        connection: in a transaction that has done nothing yet.
        chain_id: the chain.
        task: as it was planned.
        catalog_version: of the catalog by which it was planned.
        facts: what came of the task's blocks, and what no node gave: the range is covered with both.

    Returns:
        False if the blocks are others now, or their events: nothing was written.

    Raises:
        CatalogChangedError: the catalog is another one now.
    """
    with writing_by(connection, catalog_version):
        # A reorganisation moves the tip first: it waits for us, or we see what it left.
        connection.execute(
            sa.text("SELECT FROM gapless.chains WHERE chain_id = :chain_id FOR SHARE"), {"chain_id": chain_id}
        )
        # Writers that change rows take their range back (forget): they wait for our commit, or we see theirs.
        connection.execute(
            sa.text(
                "SELECT FROM gapless.deployments WHERE contract_id = :contract_id AND chain_id = :chain_id FOR UPDATE"
            ),
            {"contract_id": task.contract_id, "chain_id": chain_id},
        )
        if not _is_still_so(connection, chain_id, task):
            return False
        transaction_rows.write_details(
            connection, chain_id, {block.number: block.time for block in task.incomplete}, facts
        )
        connection.execute(
            sa.text("""
                UPDATE gapless.deployments SET included = included + CAST(:range AS int8multirange)
                WHERE contract_id = :contract_id AND chain_id = :chain_id
            """),
            {
                "range": layout.ranges_to_sql((task.block_range,)),
                "contract_id": task.contract_id,
                "chain_id": chain_id,
            },
        )
        return True


def store_again(connection: Connection, chain_id: int, asked: Sequence[Due], facts: TransactionDetails) -> None:
    """Keep what came of what was missing, and note what is missing still; of blocks that are others now, nothing.

    Args:
        connection: in a transaction that has done nothing yet.
        chain_id: the chain.
        asked: what was asked for.
        facts: what came.
    """
    connection.execute(
        sa.text("SELECT FROM gapless.chains WHERE chain_id = :chain_id FOR SHARE"), {"chain_id": chain_id}
    )
    hashes = _hashes(connection, chain_id, [one.number for one in asked])
    if all(hashes.get(one.number) == one.block_hash for one in asked):
        transaction_rows.write_details(connection, chain_id, {one.number: one.time for one in asked}, facts)


def _is_still_so(connection: Connection, chain_id: int, task: DetailsTask) -> bool:
    coverages: Mapping[int, RangeSet] = {
        row.id: layout.ranges_from_sql(row.coverage)
        for row in connection.execute(
            sa.text("""
                SELECT s.id, gapless.covered(s.coverage, s.end_block, n.tip_number) AS coverage
                FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
                WHERE s.id = ANY(:ids) FOR SHARE OF s
            """),
            {"ids": list(task.source_ids)},
        )
    }
    if not all(contains(coverages.get(source_id, ()), task.block_range) for source_id in task.source_ids):
        return False
    if _rewrites(connection, task.contract_id) != task.rewrites:
        return False
    # Another branch may have events in blocks that were silent, while all that was asked for is as it was.
    if _reorganised(connection, chain_id) != task.reorganised:
        return False
    hashes = _hashes(connection, chain_id, [block.number for block in task.incomplete])
    return all(hashes.get(block.number) == block.hash for block in task.incomplete)


def _hashes(connection: Connection, chain_id: int, numbers: Sequence[int]) -> dict[int, bytes]:
    stored = connection.execute(
        sa.text("SELECT number, hash FROM gapless.blocks WHERE chain_id = :chain_id AND number = ANY(:numbers)"),
        {"chain_id": chain_id, "numbers": list(numbers)},
    )
    return {number: bytes(block_hash) for number, block_hash in stored}


def forget(connection: Connection, chain_id: int, contract_id: int, ranges: RangeSet) -> None:
    """Takes ranges back in which a contract's rows change: what they lack then is fetched again.

    Whatever is being included there at the moment waits for the change, and is looked at again: hence the row is
    written even if nothing is taken back.
    """
    connection.execute(
        sa.text("""
            UPDATE gapless.deployments SET included = included - CAST(:ranges AS int8multirange)
            WHERE contract_id = :contract_id AND chain_id = :chain_id AND include <> '{}'
        """),
        {"ranges": layout.ranges_to_sql(ranges), "contract_id": contract_id, "chain_id": chain_id},
    )


def forget_above(connection: Connection, chain_id: int, common: int) -> None:
    """Takes back all that was included above a block, on every contract of a chain: the branch is gone."""
    transaction_rows.forget_missing_above(connection, chain_id, common)
    connection.execute(
        sa.text("""
            UPDATE gapless.deployments SET included = included - int8multirange(int8range(:above, NULL))
            WHERE chain_id = :chain_id AND included && int8multirange(int8range(:above, NULL))
        """),
        {"chain_id": chain_id, "above": common + 1},
    )
