"""What is derived from the rows, and must follow them at every moment: balances, included transactions, tokens.

As in ``truth``, what must be there is worked out from the made-up chain, and not by the program. Balances alone are
compared with the rows of the database, which are compared with the chain by themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy.engine import Engine

from indexer.store.catalog import ledgers
from indexer.store.derived import generations, recount, steps
from indexer.store.tokens import balance_checks
from tests.chaos.chain import (
    CHAIN_ID,
    TRANSFER,
    Block,
    Chain,
    Transaction,
    between,
    block_at,
    branch_of,
    facts,
    symbol_of,
)
from tests.chaos.truth import WrongError, normal, snapshot

_BLOCKS = "SELECT block_number, block_hash, gas_used, transaction_count, base_fee FROM gapless.block_details"
_TRANSACTIONS = """
    SELECT block_number, tx_index, tx_hash, sender, recipient, value, nonce, status, gas_used FROM gapless.transactions
"""


def check_ledgers(engine: Engine) -> int:
    """Compares all balances with the rows up to where they were counted, in one snapshot.

    Returns:
        How many ledgers have counted something.

    Raises:
        WrongError: one is wrong, or ahead of the tip.
    """
    counted = 0
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        tip = connection.exec_driver_sql("SELECT coalesce(max(tip_number), -1) FROM gapless.chains").scalar_one()
        for ledger in ledgers.load(connection, CHAIN_ID):
            if ledger.through_block > max(tip, ledger.start_block - 1):
                raise WrongError(f"balances are beyond the tip {tip}: {ledger}")
            if not ledger.live:
                continue
            count, differences = balance_checks.differences(connection, ledger, 3)
            if count:
                raise WrongError(f"{count} balances of {ledger} are wrong: {differences}")
            counted += ledger.through_block >= ledger.start_block
        connection.rollback()
    return counted


def check_ledgers_complete(engine: Engine) -> int:
    """Checks that the balances have come to the tip. Returns how many ledgers there are.

    Raises:
        WrongError: one has not.
    """
    with engine.connect() as connection:
        tip = connection.exec_driver_sql("SELECT tip_number FROM gapless.chains").scalar_one()
        live = [ledger for ledger in ledgers.load(connection, CHAIN_ID) if ledger.live]
    for ledger in live:
        if not ledger.served or ledger.through_block != tip:
            raise WrongError(f"the tip is {tip}, and the balances never come to it: {ledger}")
    return len(live)


def check_derived(engine: Engine) -> int:
    """Compares all derived tables with their recomputation from the rows of the blocks that they count.

    Returns:
        How many have counted something.

    Raises:
        WrongError: one is wrong, ahead of the tip, or cannot be computed.
    """
    counted = 0
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        tip = connection.exec_driver_sql("SELECT coalesce(max(tip_number), -1) FROM gapless.chains").scalar_one()
        for one in generations.progress(connection, CHAIN_ID):
            if one.problem is not None or (one.coverage and one.coverage[-1][1] > tip):
                raise WrongError(f"a derived table has a problem, or is beyond the tip {tip}: {one}")
            count, differences = recount.differences(connection, one, 3)
            if count:
                raise WrongError(f"{count} rows of {one} are wrong: {differences}")
            counted += bool(one.coverage)
        connection.rollback()
    return counted


def check_derived_complete(engine: Engine) -> int:
    """Checks that the derived tables have come to the tip and are served. Returns how many there are.

    Raises:
        WrongError: one has not, or is not.
    """
    with engine.connect() as connection:
        active = [one for one in generations.progress(connection, CHAIN_ID) if one.generation.active]
        for one in active:
            if not one.generation.served or steps.lags(connection, one):
                raise WrongError(f"a derived table is never complete: {one}")
    return len(active)


def check_included(reader: psycopg.Connection[Any], chain: Chain) -> int:
    """Compares what ``include`` brought with the branch of the tip.

    Returns:
        How many transactions there are.

    Raises:
        WrongError: a block or a transaction is of another branch, or one is missing where it is said to be included.
    """
    with snapshot(reader):
        found = reader.execute("SELECT tip_hash FROM gapless.chains WHERE tip_hash IS NOT NULL").fetchone()
        if found is None:
            return 0
        blocks = {row[0]: tuple(map(normal, row)) for row in reader.execute(_BLOCKS)}
        transactions = {row[:2]: tuple(map(normal, row)) for row in reader.execute(_TRANSACTIONS)}
        included = reader.execute("""
            SELECT d.contract_id, d.include, d.included, ARRAY(SELECT e.id FROM gapless.events e
                   JOIN gapless.sources s ON s.event_id = e.id AND s.active WHERE e.contract_id = d.contract_id)
            FROM gapless.deployments d WHERE d.active AND d.include <> '{}'
        """).fetchall()
        event_rows = {contract: set(_event_rows(reader, events)) for contract, _, _, events in included}
        noted = set(reader.execute("SELECT kind, block_number, tx_index FROM gapless.missing_details"))
    branch = branch_of(chain.by_hash[bytes(found[0])])
    for number, kept in blocks.items():
        block = block_at(branch, number)
        if block is None or kept != _block(block):
            raise WrongError(f"block {number} is kept as {kept}, which it is not on the branch of the tip")
    for (number, index), row in transactions.items():
        block = block_at(branch, number)
        if block is None or index >= len(block.transactions):
            raise WrongError(f"transaction {index} of block {number} is kept, which is none of the tip's branch")
        expected = _transaction(block, index, block.transactions[index])
        if any(value is not None and value != wanted for value, wanted in zip(row, expected, strict=True)):
            raise WrongError(f"transaction {index} of block {number} is {row} in place of {expected}")
    for contract, include, ranges, _ in included:
        for number, index in event_rows[contract]:
            if not any(r.lower <= number < r.upper for r in ranges):
                continue
            one = transactions.get((number, index))
            lacking = {
                "block": number not in blocks,
                "transaction": one is None or one[5] is None,
                "receipt": one is None or one[8] is None,
            }
            place = {"block": -1, "transaction": index, "receipt": index}
            missing = [name for name in include if lacking[name] and (name, number, place[name]) not in noted]
            if missing:
                raise WrongError(f"block {number} is said to be included, but transaction {index} lacks its {missing}")
    return len(transactions)


def check_included_complete(reader: psycopg.Connection[Any]) -> None:
    """Checks that nothing is left to be included.

    Raises:
        WrongError: something is.
    """
    left = reader.execute("""
        SELECT d.contract_id, d.included FROM gapless.deployments d
        JOIN gapless.events e ON e.contract_id = d.contract_id
        JOIN gapless.sources s ON s.event_id = e.id AND s.active
        JOIN gapless.chains n ON n.chain_id = s.chain_id
        WHERE d.active AND d.include <> '{}'
        GROUP BY d.contract_id, d.included
        HAVING range_intersect_agg(gapless.covered(s.coverage, s.end_block, n.tip_number)) - d.included <> '{}'
    """).fetchall()
    if left:
        raise WrongError(f"not all is included: {left}")
    if missing := reader.execute("SELECT kind, block_number, reason FROM gapless.missing_details").fetchall():
        raise WrongError(f"nodes give all again, and this is missing: {missing}")


def check_tokens(reader: psycopg.Connection[Any], *, complete: bool = False) -> int:
    """Compares the tokens that were read with what they answer; a failed read must not stand there as an answer.

    Args:
        reader: the database.
        complete: whether all listed coins must have been read.

    Returns:
        How many there are.

    Raises:
        WrongError: one is wrong, or was read at a block that is gone.
    """
    with snapshot(reader):
        rows = reader.execute("""
            SELECT t.address, t.kind, t.symbol, t.decimals, t.block_number <= c.tip_number, t.asked_again_at
            FROM gapless.tokens t JOIN gapless.chains c USING (chain_id)
        """).fetchall()
        listed = reader.execute("""
            SELECT unnest(d.addresses) FROM gapless.deployments d JOIN gapless.contracts c ON c.id = d.contract_id
            WHERE c.name = 'coins' AND d.active AND c.active
        """).fetchall()
    for address, kind, symbol, decimals, in_time, asked_again_at in rows:
        coin = "0x" + bytes(address).hex()
        if asked_again_at is not None and (symbol, decimals) in itertools.product((symbol_of(coin), None), (18, None)):
            continue  # no node would run some of its calls
        if (kind, symbol, decimals) != ("erc20", symbol_of(coin), 18) or not in_time:
            raise WrongError(f"token {coin} is kept as {(kind, symbol, decimals, in_time)}")
    if complete and (unread := {bytes(address) for (address,) in listed} - {bytes(row[0]) for row in rows}):
        raise WrongError(f"tokens that were never read: {[address.hex() for address in unread]}")
    return len(rows)


def _event_rows(reader: psycopg.Connection[Any], event_ids: list[int]) -> Iterator[tuple[int, int]]:
    for event_id in event_ids:
        schema, table = reader.execute(
            "SELECT c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id "
            "WHERE e.id = %s",
            (event_id,),
        ).fetchone() or ("", "")
        yield from reader.execute(
            psycopg.sql.SQL("SELECT DISTINCT block_number, tx_index FROM {}").format(
                psycopg.sql.Identifier(schema, table)
            )
        ).fetchall()


def _block(block: Block) -> tuple[Any, ...]:
    return (block.number, block.hash, block.gas_used, len(block.transactions), 7)


def _transaction(block: Block, index: int, transaction: Transaction) -> tuple[Any, ...]:
    said = facts(transaction)
    return (
        block.number, index, transaction.hash, bytes.fromhex(said["from"][2:]), bytes.fromhex(said["to"][2:]),
        int(said["value"], 16), int(said["nonce"], 16), 1, block.gas_of(index),
    )  # fmt: skip


def check_deployed(chain: Chain, address: str, number: int, since: int) -> None:
    """Checks that a contract is as old as its first log, where nodes were asked for all of its logs before that.

    Args:
        chain: what there is.
        address: the contract.
        number: the first block that matters, as was found out.
        since: the first block whose logs were looked at.

    Raises:
        WrongError: the contract spoke before that.
    """
    for block in between(chain.canonical, since, min(number - 1, chain.finalized)):
        if any(log.saying.address == address for log in block.logs):
            raise WrongError(f"{address} is said to be as old as block {number}, and spoke in block {block.number}")


def check_earlier_transfers(reader: psycopg.Connection[Any], chain: Chain) -> int:
    """Checks what is kept of tokens before their transfers are counted. Returns of how many it is known.

    Raises:
        WrongError: one is said to have been silent that was not, or the other way round.
    """
    with snapshot(reader):
        rows = reader.execute("SELECT address, before_block, found_block, silent FROM gapless.earlier_transfers")
        found = rows.fetchall()
    for address, before, first, silent in found:
        coin = "0x" + bytes(address).hex()
        gave = [
            block.number
            for block in between(chain.canonical, 0, before - 1)
            if any(log.saying.address == coin and log.saying.topics[:1] == (TRANSFER,) for log in block.logs)
        ]
        if (silent and gave) or (first is not None and first not in gave):
            raise WrongError(f"{coin} gave in blocks {gave} before block {before}, and is kept as {(first, silent)}")
    return sum(silent or first is not None for _, _, first, silent in found)
