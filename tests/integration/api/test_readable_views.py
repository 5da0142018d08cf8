"""Readable views beside event tables, names of addresses, and how fresh tables are."""

from __future__ import annotations

from fractions import Fraction

import psycopg
import pytest
from psycopg import errors, sql

from indexer.store import database
from indexer.store.apply import drop, readable_views
from tests.integration.api.seed import hex_of
from tests.integration.api.world import ALICE, FINALIZED, GAP, GOLD, HEAD, MANIFEST, PAIR_A, START, TIP, USDC

EVENTS = """
    SELECT c.schema_name, e.table_name, e.view_name, e.columns FROM gapless.events e
    JOIN gapless.contracts c ON c.id = e.contract_id ORDER BY e.id
"""


@pytest.fixture
def connection(world_url):
    with psycopg.connect(world_url, autocommit=True) as one:
        yield one


@pytest.fixture
def one(connection):
    def value(statement, *values):
        return connection.execute(statement, values).fetchone()[0]

    return value


def shown(value):
    """Bytes as the views write them."""
    if isinstance(value, bytes):
        return hex_of(value)
    return [hex_of(v) if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value


@pytest.mark.promise("O-17")
def test_each_table_has_a_view_with_the_same_values_as_text(connection):
    events = connection.execute(EVENTS).fetchall()
    compared = 0
    for schema, table, view, columns in events:
        assert view == f"{table}_v"
        names = [sql.Identifier(n) for n in ("block_number", "log_index", "tx_hash", "contract_address")]
        names += [sql.Identifier(column["name"]) for column in columns]
        read = sql.SQL("SELECT {} FROM {} ORDER BY chain_id, block_number, log_index")
        select = [read.format(sql.SQL(", ").join(names), sql.Identifier(schema, of)) for of in (table, view)]
        rows, texts = (connection.execute(statement).fetchall() for statement in select)
        assert [tuple(map(shown, row)) for row in rows] == texts, view
        compared += len(rows)
    assert compared > 100


def test_amounts_are_in_units_where_decimals_are_known(connection):
    """Of a Transfer and an Approval of an ERC-20; null without decimals, and never 10^18 by guess."""
    connection.execute("UPDATE gapless.tokens SET decimals = 6, symbol = 'USDC' WHERE address = %s", [USDC])
    read = "SELECT value, value_units, symbol, contract, chain FROM usdc.transfer_v LIMIT 50"
    rows = connection.execute(read).fetchall()
    assert rows
    assert all(Fraction(units) == Fraction(value) / 10**6 for value, units, *_ in rows)
    assert {row[2:] for row in rows} == {("USDC", "usdc", "ethereum")}
    connection.execute("UPDATE gapless.tokens SET decimals = NULL WHERE address = %s", [USDC])
    assert {row[1] for row in connection.execute(read).fetchall()} == {None}
    connection.execute("DELETE FROM gapless.tokens")
    assert {row[1:3] for row in connection.execute(read).fetchall()} == {(None, None)}
    assert connection.execute("SELECT value_units FROM usdc.approval_v LIMIT 1").description


def test_transfers_have_a_view_for_people_too(connection):
    """With symbols and names; null without decimals; searched by the tables' indexes."""
    connection.execute("UPDATE gapless.tokens SET decimals = 6, symbol = 'USDC' WHERE address = %s", [USDC])
    of_usdc = "SELECT DISTINCT symbol, chain, amount_units * 1000000 = amount, token_label FROM gapless.transfers_v "
    assert connection.execute(of_usdc + "WHERE token_bytes = %s", [USDC]).fetchall() == [
        ("USDC", "ethereum", True, "USD Coin")
    ]
    connection.execute("UPDATE gapless.tokens SET decimals = NULL")
    units = "SELECT DISTINCT amount_units FROM gapless.transfers_v WHERE token_bytes = %s"
    assert connection.execute(units, [USDC]).fetchall() == [(None,)]
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        "EXPLAIN SELECT block_number, amount FROM gapless.transfers_v WHERE chain_id = 1 AND token_bytes = %s "
        "ORDER BY block_number DESC, log_index DESC LIMIT 10",
        [USDC],
    ).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "Index" in text, text
    assert not any(name in text for name in ("gapless.tokens", "tokens_pkey", "label", "chains_pkey")), text


def test_what_is_not_selected_is_not_read_and_bytes_are_searched_by_the_tables_indexes(connection):
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        "EXPLAIN SELECT block_number, value FROM usdc.transfer_v WHERE chain_id = 1 "
        f"AND from_address_bytes = gapless.addr('{hex_of(ALICE)}')"
    ).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "Index" in text, text
    assert "tokens" not in text, text
    assert "chains" not in text, text
    assert "label" not in text, text


def test_a_name_that_a_table_has_is_left_to_it(seed):
    """An event may be called Transfer_v, before the view is made or after."""

    def event(name):
        return {"type": "event", "name": name, "inputs": [{"name": "contract", "type": "address"}]}

    manifest = '[chains.ethereum]\nid = 1\nrpc = ["http://127.0.0.1:1"]\n[contracts.late]\nchain = "ethereum"\n'
    manifest += f'abi = "late.json"\naddress = "{hex_of(USDC)}"\nstart_block = 1\n'
    names = [["Paid", "Paid_v"], ["Paid", "Paid_v", "Paid_v_v", "Paid_v_2"]]
    for some in names:
        seed.declare(manifest, {"late.json": [event(name) for name in some]})
    rows = seed.execute(EVENTS).fetchall()
    late = {table: view for schema, table, view, _ in rows if schema == "late"}
    relations = [name for pair in late.items() for name in pair]
    assert len(set(relations)) == len(relations) == 8, relations
    assert late["paid"] == "paid_v_2"  # paid_v is a table
    assert "paid_v_v" not in late  # it was the view's of paid_v when that event came
    columns = [row.name for row in seed.execute("SELECT * FROM late.paid_v_2").description]
    assert columns.count("contract") == 1
    assert "contract_2" in columns  # the argument keeps its name


def test_a_dropped_event_takes_its_view_along_and_other_views_are_named(seed, world_url):
    engine = database.create_engine(world_url)
    seed.declare(MANIFEST.replace("[contracts.zoo]", "[contracts.zoo_again]"))
    seed.execute("CREATE VIEW public.mine AS SELECT * FROM zoo.everything_v")
    with engine.connect() as connection:
        (zoo,) = drop.find(connection, "zoo")
    with pytest.raises(database.DatabaseError, match="mine"):
        drop.drop(engine, zoo)
    assert readable_views.keep(engine) == 0
    seed.execute("DROP VIEW public.mine")
    drop.drop(engine, zoo)
    assert seed.execute("SELECT to_regnamespace('zoo')").fetchone() == (None,)
    engine.dispose()


def test_views_of_an_earlier_form_are_made_anew(connection, world_url, monkeypatch):
    engine = database.create_engine(world_url)
    monkeypatch.setattr(readable_views, "VERSION", readable_views.VERSION + 1)
    monkeypatch.setattr(readable_views, "_FIXED", (*readable_views._FIXED[:-1], (*readable_views._FIXED[-1][:2], "!")))
    before = connection.execute(EVENTS).fetchall()
    assert readable_views.keep(engine) == len(before)
    assert connection.execute(EVENTS).fetchall() == before
    said = "SELECT col_description('usdc.transfer_v'::regclass, 8)"
    assert connection.execute(said).fetchone() == ("!",)
    assert readable_views.keep(engine) == 0
    engine.dispose()


# -- names of addresses ---------------------------------------------------------------------------------------------


def test_an_address_has_the_name_that_is_trusted_most(connection, one):
    def names(address):
        found = connection.execute(
            "SELECT source, name FROM gapless.labels WHERE chain_id = 1 AND address = %s", [address]
        ).fetchall()
        return dict(found), one("SELECT gapless.label(1, %s)", address)

    connection.execute("DELETE FROM gapless.tokens WHERE address = %s", [GOLD])
    assert one("SELECT count(*) FROM gapless.labels WHERE address = %s AND source = 'manifest'", GOLD) == 2
    assert names(GOLD)[1] == "coins"  # and gold_alone: the first of the alphabet
    connection.execute(
        "INSERT INTO gapless.tokens (chain_id, address, symbol, block_number) VALUES (1, %s, 'GLD', 1)", [GOLD]
    )
    assert names(GOLD)[1] == "GLD"
    connection.execute("INSERT INTO gapless.own_labels VALUES (0, %s, 'everywhere')", [GOLD])
    assert names(GOLD)[1] == "everywhere"
    connection.execute("INSERT INTO gapless.own_labels VALUES (1, %s, 'mine')", [GOLD])
    assert names(GOLD)[1] == "mine"
    assert one("SELECT gapless.label(8453, %s)", GOLD) == "everywhere"
    assert names(PAIR_A) == ({"child": "pair"}, "pair")
    assert names(ALICE) == ({}, None)
    connection.execute("INSERT INTO gapless.own_labels VALUES (1, %s, 'Alice')", [ALICE])
    read = "SELECT DISTINCT from_address_label FROM usdc.transfer_v WHERE from_address_bytes = %s"
    assert connection.execute(read, [ALICE]).fetchall() == [("Alice",)]
    for wrong in ((1, b"1", "short"), (1, USDC, "")):
        with pytest.raises(errors.CheckViolation):
            connection.execute("INSERT INTO gapless.own_labels VALUES (%s, %s, %s)", wrong)


# -- freshness ------------------------------------------------------------------------------------------------------


def test_freshness_says_how_far_a_table_is_complete_and_final(connection, one):
    read = """SELECT complete_to_block, final_to_block, newest_block, missing_blocks, head_block,
                     complete_to_time = (SELECT max(time) FROM gapless.blocks WHERE chain_id = 1
                                         AND number <= complete_to_block), age > interval '1 day'
              FROM gapless.freshness WHERE contract = 'usdc' AND event = 'Transfer'"""
    before_gap, width = GAP[0] - 1, GAP[1] - GAP[0] + 1
    assert connection.execute(read).fetchone() == (before_gap, before_gap, TIP, width, HEAD, True, True)
    source = "WHERE event_id = (SELECT e.id FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id "
    source += "WHERE c.name = 'usdc' AND e.api_name = 'Transfer')"
    connection.execute(f"UPDATE gapless.sources SET coverage = int8multirange(int8range({START}, NULL)) {source}")
    assert connection.execute(read).fetchone()[:4] == (TIP, FINALIZED, TIP, 0)
    connection.execute(f"UPDATE gapless.sources SET coverage = '{{[{START + 5},)}}' {source}")
    assert connection.execute(read).fetchone()[:4] == (None, None, TIP, 5)
    wanted = one("SELECT count(*) FROM (SELECT DISTINCT chain_id, event_id FROM gapless.sources WHERE active) s")
    assert one("SELECT count(*) FROM gapless.freshness") == wanted > 10
    connection.execute("UPDATE gapless.chains SET tip_number = NULL, tip_time = NULL, finalized_number = NULL")
    connection.execute("UPDATE gapless.sources SET coverage = '{}'")
    assert one("SELECT count(*) FROM gapless.freshness WHERE complete_to_block IS NULL AND age IS NULL") == wanted
