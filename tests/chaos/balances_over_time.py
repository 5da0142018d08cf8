"""Balances over time, once all is settled: what SQL says of every day and block, beside the chain's transfers.

The rows of the picture were compared with the made-up chain; the sums are made of them here, and not by the program.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import psycopg

from tests.chaos.chain import CHAIN_ID
from tests.chaos.truth import Picture, Row, WrongError, normal, snapshot

_LEDGER = """
    SELECT l.start_block, l.through_block, ARRAY(SELECT decode(substr(a, 3), 'hex')
           FROM jsonb_array_elements_text(l.place -> 'addresses') a)
    FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
    WHERE c.name = 'coins' AND l.live AND l.served AND l.daily
"""
_DAYS = "SELECT token, day, holder, amount, change FROM gapless.balance_daily WHERE contract = 'coins'"
_LARGEST = """
    SELECT f.day, f.holder, f.amount
    FROM gapless.holders_by_day(%(chain)s, %(token)s, '2000-01-01', '2100-01-01', 5) f ORDER BY f.day, f.place
"""
_COUNTED_BY = """
    SELECT c.name, l.start_block FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
    WHERE l.id = gapless.ledger_of(%(chain)s, %(token)s)
"""
_AT = "SELECT gapless.balance_at(%(chain)s, %(token)s, h, %(block)s::bigint) FROM unnest(%(holders)s) h"

Sums = dict[bytes, int]


def check(reader: psycopg.Connection[Any], picture: Picture) -> int:
    """Compares days, the largest holders of days, and balances at some blocks.

    Args:
        reader: the database, of that moment.
        picture: what is in its tables.

    Returns:
        How many days of holders there are; 0 where no balances are kept.

    Raises:
        WrongError: one is wrong.
    """
    with snapshot(reader):
        found = reader.execute(_LEDGER).fetchone()
        if found is None:
            return 0
        first, last, tokens = found
        days = {(bytes(t), day, bytes(h)): (int(a), int(c)) for t, day, h, a, c in reader.execute(_DAYS)}
        expected: dict[tuple[bytes, date, bytes], tuple[int, int]] = {}
        for token in map(bytes, tokens):
            values = {"chain": str(CHAIN_ID), "token": token}
            ends = _day_ends(_transfers(picture, "coins", token, first, last))
            largest, before = [], Sums()
            for day, now in ends.items():
                for who in now.keys() | before.keys():
                    if change := now.get(who, 0) - before.get(who, 0):
                        expected[token, day, who] = (now.get(who, 0), change)
                top = sorted(((amount, who) for who, amount in now.items() if amount > 0), reverse=True)[:5]
                largest += [(day, who, amount) for amount, who in top]
                before = now
            told = [(day, bytes(who), int(amount)) for day, who, amount in reader.execute(_LARGEST, values)]
            # A day on which nothing was moved is told as well: with the largest of the day before.
            if [one for one in told if one[0] in ends] != largest:
                raise WrongError(f"the largest holders of {token.hex()} are {told} in place of {largest}")
            # Another contract may count the same token, from another block on.
            contract, start = reader.execute(_COUNTED_BY, values).fetchone() or ("coins", first)
            for block in sorted({start, (start + last) // 2, last}):
                now = _sums(_transfers(picture, contract, token, start, block))
                holders = [*now, b"\x07" * 20]
                rows = reader.execute(_AT, values | {"block": block, "holders": holders}).fetchall()
                if [normal(row[0]) for row in rows] != [now.get(who, 0) for who in holders]:
                    raise WrongError(f"balances of {token.hex()} at block {block} are {rows} in place of {now}")
    if days != expected:
        raise WrongError(f"balances at the ends of days: {sorted(days.items() ^ expected.items())[:5]}")
    return len(days)


def _transfers(picture: Picture, contract: str, token: bytes, first: int, last: int) -> list[Row]:
    (event,) = (one.event_id for one in picture.tables.values() if (one.contract, one.name) == (contract, "transfer"))
    rows = sorted(picture.rows[event].values(), key=lambda row: row[1])
    return [row for row in rows if row[6] == token and first <= row[1] <= last]


def _moved(sums: Counter[bytes], row: Row) -> None:
    giver, receiver, amount = row[7:10]
    sums[giver] -= amount
    sums[receiver] += amount


def _sums(transfers: list[Row]) -> Sums:
    sums: Counter[bytes] = Counter()
    for row in transfers:
        _moved(sums, row)
    return {who: amount for who, amount in sums.items() if amount and any(who)}


def _day_ends(transfers: list[Row]) -> dict[date, Sums]:
    ends: dict[date, Sums] = {}
    sums: Counter[bytes] = Counter()
    for row in transfers:
        _moved(sums, row)
        ends[row[2].date()] = {who: amount for who, amount in sums.items() if amount and any(who)}
    return ends
