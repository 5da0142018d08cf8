"""Balances of the past, in SQL: what the transfers up to a block add up to, for every holder."""

from __future__ import annotations

from collections import defaultdict

import pytest
from psycopg import errors

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


@pytest.mark.promise("B-07")
def test_balances_of_the_past_are_those_of_the_transfers_up_to_then(indexed: Rig, history) -> None:
    _at_blocks(indexed, history)
    _not_counted(indexed, history)
    _by_day(indexed, history)


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
