"""The view over all transfers: each once, whichever standard and however many tables tell of it."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from psycopg import sql

from indexer.store.database import psycopg_connection
from indexer.store.tokens import transfers
from tests.integration.balances import oracle
from tests.integration.balances.conftest import text_of


def _all(one):
    return one.query("SELECT * FROM gapless.transfers ORDER BY chain_id, block_number, log_index, item")


def test_transfers_make_the_balances(indexed, history):
    sums: Counter[tuple[bytes, int, bytes]] = Counter()
    for row in _all(indexed):
        *_, token, _, giver, receiver, _, number, amount = row
        sums[bytes(token), int(number), bytes(giver)] -= int(amount)
        sums[bytes(token), int(number), bytes(receiver)] += int(amount)
    tokens = {token for token, _, _ in oracle.kept(indexed)}
    made = {key: amount for key, amount in sums.items() if amount and any(key[2]) and key[0] in tokens}
    assert made == oracle.on_chain(history.world)


def test_psql_shows_what_each_column_means(indexed):
    bare = indexed.query("""
        SELECT attname FROM pg_attribute
        WHERE attrelid IN ('gapless.transfers'::regclass, 'gapless.transfers_v'::regclass) AND attnum > 0
          AND col_description(attrelid, attnum) IS NULL
    """)
    assert bare == []


def test_people_read_the_same_rows_as_text_and_amounts_of_erc20_in_units(indexed):
    with indexed.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO gapless.tokens (chain_id, address, decimals, block_number) "
            "SELECT DISTINCT chain_id, token, 2, 1 FROM gapless.transfers"
        )
    columns = "chain_id, block_number, block_time, log_index, item, kind, token_id, amount"
    texts = ("tx_hash", "token", "from_address", "to_address", "operator")
    given = indexed.query(
        f"SELECT {columns}, {', '.join(f'gapless.hex({name})' for name in texts)}, "
        "CASE WHEN kind = 'erc20' THEN gapless.units(amount, 2) END FROM gapless.transfers"
    )
    shown = indexed.query(f"SELECT {columns}, {', '.join(texts)}, amount_units FROM gapless.transfers_v")
    assert Counter(shown) == Counter(given)
    assert {row[5] for row in shown} == {"erc20", "erc721", "erc1155"}


def test_every_item_of_a_batch_is_a_row(indexed):
    batches = indexed.query(
        "SELECT block_number, log_index, operator, from_address, to_address, ids, values FROM items.transfer_batch"
    )
    expected = [
        (number, index, item, operator, giver, receiver, token_id, amount)
        for number, index, operator, giver, receiver, ids, amounts in batches
        for item, (token_id, amount) in enumerate(zip(ids, amounts, strict=True))
    ]
    found = indexed.query(
        "SELECT block_number, log_index, item, operator, from_address, to_address, token_id, amount "
        "FROM gapless.transfers t WHERE EXISTS (SELECT FROM items.transfer_batch b "
        "WHERE b.block_number = t.block_number AND b.log_index = t.log_index)"
    )
    assert sorted(found) == sorted(expected)
    assert any(item > 0 for _, _, item, *_ in expected)


@pytest.mark.promise("B-04")
@pytest.mark.parametrize("few", [1, 100], ids=["many tables", "few tables"])
def test_a_log_in_two_tables_is_one_transfer(indexed, history, tmp_path, monkeypatch, few):
    """Both forms of the view say the same, which depends on how many tables share logs."""
    monkeypatch.setattr(transfers, "FEW", few)
    before = _all(indexed)
    text = text_of(history)
    start = text.index("[contracts.odd_coins]")
    twin = (
        text[text.index("[contracts.coins]") : start]
        .replace("[contracts.coins]", "[contracts.twin]")
        .replace(f'"{history.world.addresses["gold"]}", ', "")
    )
    text = (text[:start] + twin + text[start:]).replace('contracts = ["coins"', 'contracts = ["coins", "twin"')
    indexed.apply(text, tmp_path, history.world.w3.provider.endpoint_uri)
    indexed.catch_up(indexed.following)
    assert indexed.query("SELECT count(*) > 20 FROM twin.transfer") == [(True,)]
    assert _all(indexed) == before
    ((defined,),) = indexed.query("SELECT pg_get_viewdef('gapless.transfers')")
    assert ("PARTITION BY" in defined) is (few == 1)
    giver = before[0][8]
    assert indexed.query(
        sql.SQL("SELECT * FROM gapless.transfers WHERE from_address = {} ORDER BY 1, 2, 5, 6").format(
            sql.Literal(giver)
        )
    ) == [row for row in before if row[8] == giver]


def _newest_are_merged(indexed) -> None:
    """The newest of all tables come by their indexes: no table's rows are sorted."""
    with indexed.engine.connect() as connection:
        driver = psycopg_connection(connection)
        for way in ("seqscan", "bitmapscan", "sort", "incremental_sort"):
            driver.execute(f"SET LOCAL enable_{way} = off".encode())
        for condition in ("token = '\\x01'", "to_address = '\\x01'", "block_number > 7"):
            plan = driver.execute(
                f"EXPLAIN SELECT * FROM gapless.transfers WHERE chain_id = 31337 AND {condition} "
                "ORDER BY block_number DESC, log_index DESC LIMIT 20".encode()
            ).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert "Merge Append" in text, text
            assert "Sort  " not in text, text


def test_tables_that_share_logs_are_looked_up_by_their_indexes(indexed, history, tmp_path, monkeypatch):
    """A condition on a token, a party or blocks reaches every table, whichever form the view has."""
    _newest_are_merged(indexed)
    monkeypatch.setattr(transfers, "FEW", 0)
    with indexed.engine.connect() as connection:
        driver = psycopg_connection(connection)
        (one, *_) = transfers.load(connection)
        (shared,) = transfers._each_once([one, one])
        driver.execute(sql.SQL("CREATE TEMP VIEW shared AS {}").format(shared))
        driver.execute("SET LOCAL enable_seqscan = off")
        for condition in ("from_address = '\\x01'", "to_address = '\\x01'", "token = '\\x01'", "block_number > 7"):
            plan = driver.execute(f"EXPLAIN SELECT * FROM shared WHERE chain_id = 1 AND {condition}").fetchall()
            text = "\n".join(line for (line,) in plan)
            column = condition.split()[0].replace("token", "contract_address")
            assert re.search(rf"(Index Cond|Filter): .*{column}", text), text
            assert "Filter: (t." not in text, text
