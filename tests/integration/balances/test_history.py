"""Balances of the past, in SQL: what the transfers up to a block add up to, for every holder."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta

import pytest
from psycopg import errors

from indexer.store.tokens import balances as store_balances
from indexer.sync.tokens import balances
from tests.integration.sync.rig import Rig

TRANSFERS = """
    SELECT block_number, gapless.day(block_time), token, token_id, from_address, to_address, amount
    FROM gapless.transfers ORDER BY block_number, log_index, item
"""
NOBODY = bytes(20)


def recounted(one: Rig, of: bytes, number: int, through: int) -> dict[bytes, int]:
    """What everybody had of a token at the end of a block, added up from the first transfer on."""
    found: dict[bytes, int] = defaultdict(int)
    for block, _, token, token_id, giver, receiver, amount in one.query(TRANSFERS):
        if block <= through and (token, token_id) == (of, number):
            found[giver] -= int(amount)
            found[receiver] += int(amount)
    return {holder: amount for holder, amount in found.items() if amount and holder != NOBODY}


@pytest.mark.promise("B-07", "B-08")
def test_balances_of_the_past_are_those_of_the_transfers_up_to_then(indexed: Rig, history) -> None:
    _at_blocks(indexed, history)
    _not_counted(indexed, history)
    _by_day(indexed, history)
    _at_the_ends_of_days(indexed, history)


def _at_blocks(indexed: Rig, history) -> None:
    tokens = [(history.world.addresses[name], 0) for name in ("gold", "odd")] + [(history.world.addresses["items"], 2)]
    for address, number in tokens:
        token = bytes.fromhex(address[2:])
        for block in (1, 7, history.last // 2, history.last - 1, history.last):
            expected = recounted(indexed, token, number, block)
            held = indexed.query(
                "SELECT h, gapless.balance_at('demo', %s, h, %s, %s) FROM unnest(%s::bytea[]) h",
                token, block, number, [*expected, NOBODY, b"\x99" * 20],
            )  # fmt: skip
            assert {holder: int(amount) for holder, amount in held if amount} == expected
            assert [amount for holder, amount in held if holder not in expected] == [0, 0]
            largest = sorted(((amount, holder) for holder, amount in expected.items() if amount > 0), reverse=True)[:5]
            found = indexed.query(
                "SELECT amount, holder FROM gapless.holders_at('demo', %s, %s, 5, %s) ORDER BY place",
                token, block, number,
            )  # fmt: skip
            assert [(int(amount), holder) for amount, holder in found] == largest
    assert len(expected) > 3


def _by_day(indexed: Rig, history) -> None:
    """A day's balance is that of its last block; with days of ten blocks, since the chain is not a day old."""
    with indexed.engine.begin() as connection:
        tables = connection.exec_driver_sql("""
            SELECT format('%%I.%%I', c.schema_name, e.table_name) FROM gapless.events e
            JOIN gapless.contracts c ON c.id = e.contract_id
        """).scalars()
        for table in tables.all():
            connection.exec_driver_sql(
                f"UPDATE {table} SET block_time = '2024-01-01Z'::timestamptz + block_number * interval '2.4 hours'"
            )
        connection.exec_driver_sql(
            "UPDATE gapless.blocks SET time = '2024-01-01Z'::timestamptz + number * interval '2.4 hours'"
        )
    token = bytes.fromhex(history.world.addresses["gold"][2:])
    holder = max(recounted(indexed, token, 0, 30))
    read = "SELECT day::text, amount FROM gapless.balance_by_day('demo', %s, %s, %s::date, %s::date)"
    found = dict(indexed.query(read, token, holder, "2023-12-20", "2024-01-05"))
    assert list(found) == [f"2024-01-0{n}" for n in range(1, 6)]
    for day, amount in found.items():
        last = int(day[-1]) * 10 - 1  # block 9 is the last of the first day
        assert int(amount) == recounted(indexed, token, 0, last).get(holder, 0), day
        at = "SELECT gapless.balance_at('demo', %s, %s, (%s::date + 1)::timestamp AT TIME ZONE 'UTC' - interval '1 s')"
        assert indexed.query(at, token, holder, day) == [(amount,)]
    everything = indexed.query(read, token, holder, "2023-12-20", "2099-01-01")
    assert len(everything) == history.last // 10 + 1
    assert indexed.query(read, token, holder, "2024-01-04", "2024-01-04") == [("2024-01-04", found["2024-01-04"])]


def _at_the_ends_of_days(indexed: Rig, history) -> None:
    """As :func:`_by_day` has timed the blocks: the kept days, everybody's, and the largest of each."""
    with indexed.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE gapless.holdings, gapless.holdings_daily")
        connection.exec_driver_sql("UPDATE gapless.ledgers SET through_block = start_block - 1")
    balances.catch_up(indexed.engine, indexed.chain.chain_id, step_rows=13)
    _compare_days(indexed, history)
    # Rows of the first days are replaced: what everybody has later is another amount, too.
    with indexed.engine.begin() as connection:
        ids = connection.exec_driver_sql("SELECT event_ids FROM gapless.ledgers WHERE daily AND live").scalar_one()
        with store_balances.rewriting(connection, indexed.chain.chain_id, ids, ((10, 39),)):
            changed = connection.exec_driver_sql(
                "UPDATE coins.transfer SET value = value + 7 WHERE block_number BETWEEN 10 AND 39"
            )
    assert changed.rowcount > 2
    _compare_days(indexed, history)
    other = bytes.fromhex(history.world.addresses["items"][2:])
    with pytest.raises(Exception, match=r"no balances at the ends of days are kept of the token 0x.* on demo"):
        indexed.query("SELECT * FROM gapless.holders_by_day('demo', %s, '2024-01-01', '2024-01-02', 3, 2)", other)


def _compare_days(indexed: Rig, history) -> None:
    token = bytes.fromhex(history.world.addresses["gold"][2:])
    read = (
        "SELECT day::text, place, holder, amount FROM gapless.holders_by_day('demo', %s, '2023-12-20', '2099-01-01', 3)"
    )
    found = [(day, place, holder, int(amount)) for day, place, holder, amount in indexed.query(read, token)]
    largest, kept = [], set()
    before: dict[bytes, int] = {}
    for number in range(history.last // 10 + 1):
        day = str(date(2024, 1, 1) + timedelta(number))
        now = recounted(indexed, token, 0, min(number * 10 + 9, history.last))
        top = sorted(((amount, holder) for holder, amount in now.items() if amount > 0), reverse=True)[:3]
        largest += [(day, place, holder, amount) for place, (amount, holder) in enumerate(top, 1)]
        changed = {who for who in now.keys() | before.keys() if now.get(who, 0) != before.get(who, 0)}
        kept |= {(day, who, now.get(who, 0), now.get(who, 0) - before.get(who, 0)) for who in changed}
        before = now
    assert found == largest
    rows = indexed.query(
        "SELECT day::text, holder, amount, change, next_day::text FROM gapless.balance_daily WHERE token = %s", token
    )
    assert {(day, holder, int(amount), int(change)) for day, holder, amount, change, _ in rows} == kept
    for day, holder, _, _, next_day in rows:
        assert next_day == min((other[0] for other in kept if other[1] == holder and other[0] > day), default=None)


def test_a_ledger_that_counts_a_token_no_more_does_not_answer_for_one_that_does(indexed: Rig, history) -> None:
    """Of two contracts with one token, the first may be kept no longer, and the second not have come as far."""
    token = bytes.fromhex(history.world.addresses["gold"][2:])
    asked = (
        "SELECT gapless.ledger_of('demo', %s), (SELECT id FROM gapless.ledgers WHERE daily), "
        "gapless.balance_at('demo', %s, holder, %s) = amount FROM gapless.balances WHERE token = %s LIMIT 1"
    )
    for live, through in ((False, history.last), (True, 5), (False, 5)):
        with indexed.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM gapless.ledgers WHERE id < 0")
            connection.exec_driver_sql(
                "INSERT INTO gapless.ledgers (id, chain_id, contract_id, kind, event_ids, place, start_block, "
                'through_block, live, served) SELECT -1, l.chain_id, c.id, l.kind, l.event_ids, \'{"kind": "any"}\', '
                "0, %s, %s, true FROM gapless.ledgers l, gapless.contracts c WHERE l.daily AND c.name = 'exchange'",
                (through, live),
            )
        ((found, expected, is_same),) = indexed.query(asked, token, token, history.last, token)
        assert (found, is_same) == (expected, True)


def _not_counted(indexed: Rig, history) -> None:
    """Null where a block is not counted, an error where no balances are kept."""
    token = bytes.fromhex(history.world.addresses["gold"][2:])
    for block in (0, history.last + 1):
        assert indexed.query("SELECT gapless.balance_at('demo', %s, %s, %s)", token, token, block) == [(None,)]
        assert indexed.query("SELECT * FROM gapless.holders_at('demo', %s, %s)", token, block) == []
    assert indexed.query("SELECT gapless.balance_at('demo', %s, %s, 'epoch'::timestamptz)", token, token) == [(None,)]
    with pytest.raises(Exception, match=r"no balances are kept of the token 0x9999.* on demo") as caught:
        indexed.query("SELECT gapless.balance_at('demo', %s, %s, 1)", b"\x99" * 20, token)
    assert isinstance(getattr(caught.value, "orig", caught.value), errors.InvalidParameterValue)
