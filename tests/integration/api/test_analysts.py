"""What an analyst has in SQL alone: functions, views of coverage, and a comment on everything there is."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import psycopg
import pytest
from eth_utils import to_checksum_address
from eth_utils.crypto import keccak
from psycopg import errors

from tests.integration.api.seed import block_time, hex_of
from tests.integration.api.world import ALICE, GAP, START, TIP

RANDOM = random.Random(18)
CHECKSUMMED = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


@pytest.fixture
def connection(world_url):
    with psycopg.connect(world_url, autocommit=True) as one:
        yield one


@pytest.fixture
def one(connection):
    def value(statement, *values):
        return connection.execute(statement, values).fetchone()[0]

    return value


# -- addresses and hashes -------------------------------------------------------------------------------------------


def test_keccak_is_that_of_ethereum_at_every_length_around_a_block(connection):
    values = [RANDOM.randbytes(n) for n in (*range(10), 31, 32, *range(130, 141), 271, 272, 273, 1000)]
    found = connection.execute("SELECT gapless.keccak256(v) FROM unnest(%s::bytea[]) v", [values]).fetchall()
    assert [row[0] for row in found] == [keccak(value) for value in values]


def test_checksums_are_those_of_eth_utils(connection):
    addresses = [RANDOM.randbytes(20) for _ in range(3000)] + [bytes(20), b"\xff" * 20]
    found = connection.execute(
        "SELECT gapless.checksum(v), gapless.hex(v), gapless.addr(gapless.checksum(v)), gapless.addr(gapless.hex(v)) "
        "FROM unnest(%s::bytea[]) v",
        [addresses],
    ).fetchall()
    assert found == [(to_checksum_address(a), "0x" + a.hex(), a, a) for a in addresses]


@pytest.mark.parametrize("text", [CHECKSUMMED, CHECKSUMMED.lower(), "0x" + CHECKSUMMED[2:].upper()])
def test_an_address_is_taken_with_its_checksum_or_without_one(one, text):
    assert one("SELECT gapless.addr(%s)", text) == bytes.fromhex(CHECKSUMMED[2:])


@pytest.mark.parametrize(
    "text",
    [
        "", "0x", CHECKSUMMED[2:], CHECKSUMMED[:-1], CHECKSUMMED + "0", CHECKSUMMED + "\n", " " + CHECKSUMMED,
        "0X" + CHECKSUMMED[2:], "\\x" + CHECKSUMMED[2:], CHECKSUMMED[:-1] + "g", "0x" + "é" * 40, "vitalik.eth",
        "0x" + "٣" * 40, "0x" + "0" * 64, "x" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_address_is_an_error_that_says_what_is(one, text):
    with pytest.raises(errors.InvalidTextRepresentation, match="no address: write 0x and 40 hexadecimal digits") as e:
        one("SELECT gapless.addr(%s)", text)
    assert len(str(e.value)) < 400


def test_a_wrong_checksum_is_an_error(one):
    for at in range(2, 42):
        changed = CHECKSUMMED[:at] + CHECKSUMMED[at].swapcase() + CHECKSUMMED[at + 1 :]
        if changed != CHECKSUMMED:
            with pytest.raises(errors.InvalidTextRepresentation, match="checksum"):
                one("SELECT gapless.addr(%s)", changed)


@pytest.mark.parametrize("size", [0, 19, 21, 32])
def test_only_twenty_bytes_have_a_checksum(one, size):
    with pytest.raises(errors.InvalidParameterValue, match=f"{size} bytes are no address"):
        one("SELECT gapless.checksum(%s)", b"1" * size)


def test_null_stays_null(connection):
    found = connection.execute("""
        SELECT gapless.addr(NULL), gapless.hex(NULL), gapless.checksum(NULL), gapless.keccak256(NULL),
               gapless.units(NULL, 18), gapless.units(1, NULL), gapless.hour(NULL), gapless.day(NULL)
    """).fetchone()
    assert found == (None,) * 8


# -- amounts and times ----------------------------------------------------------------------------------------------


def test_units_are_exact(connection):
    amounts = [0, 1, -1, 10**18, 2**256 - 1, -(2**255), *(RANDOM.getrandbits(256) for _ in range(200))]
    for decimals in (0, 1, 6, 18, 77, 255):
        found = connection.execute(
            "SELECT gapless.units(v, %s) FROM unnest(%s::numeric[]) v", [decimals, amounts]
        ).fetchall()
        for (units,), amount in zip(found, amounts, strict=True):
            assert units.as_tuple().exponent == -decimals
            assert Fraction(units) == Fraction(amount, 10**decimals)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_hours_and_days_are_those_of_utc_in_every_session(connection, zone):
    connection.execute(f"SET timezone = '{zone}'")
    for moment in (datetime(2024, 3, 31, 23, 59, 59, 999999, UTC), datetime(2024, 4, 1, tzinfo=UTC)):
        hour, day = connection.execute("SELECT gapless.hour(%s), gapless.day(%s)", [moment, moment]).fetchone()
        assert hour == moment.replace(minute=0, second=0, microsecond=0)
        assert day == date(moment.year, moment.month, moment.day)


def test_the_functions_serve_in_indexes_and_conditions(connection):
    connection.execute("CREATE INDEX ON usdc.transfer (gapless.day(block_time), gapless.hour(block_time))")
    connection.execute("CREATE INDEX ON usdc.transfer (gapless.hex(tx_hash), gapless.units(value, 6))")
    connection.execute("CREATE INDEX ON usdc.transfer (gapless.checksum(from_address))")
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        f"EXPLAIN SELECT FROM usdc.transfer WHERE chain_id = 1 AND from_address = gapless.addr('{hex_of(ALICE)}') "
        "AND block_number <= gapless.block_at('ethereum', now())"
    ).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "from_address = '\\x" in text, text  # it was computed once, before the first row
    assert "Index" in text, text
    volatile = connection.execute("""
        SELECT proname FROM pg_proc WHERE pronamespace = 'gapless'::regnamespace AND prorettype <> 'trigger'::regtype
           AND (provolatile = 'v' OR proparallel <> 's')
    """).fetchall()
    assert volatile == []


# -- chains, blocks, coverage ---------------------------------------------------------------------------------------


def test_a_chain_is_named_or_numbered(one):
    assert one("SELECT gapless.chain_id('base')") == one("SELECT gapless.chain_id('8453')") == 8453
    for wrong in ("SELECT gapless.chain_id('Base')", "SELECT gapless.block_at(2, now())"):
        with pytest.raises(errors.InvalidParameterValue, match=r"there are: ethereum \(1\), base \(8453\)"):
            one(wrong)


def test_the_block_at_a_time_divides_rows_as_the_time_does(connection, one):
    for moment in (block_time(START), block_time(1100), block_time(TIP) + timedelta(days=1)):
        for at in (moment, moment + timedelta(milliseconds=1), moment - timedelta(milliseconds=1)):
            block = one("SELECT gapless.block_at('ethereum', %s)", at)
            assert block == one("SELECT gapless.block_at(1, %s)", at)
            assert block == one("SELECT max(number) FROM gapless.blocks WHERE chain_id = 1 AND time <= %s", at)
            by_time = one("SELECT count(*) FROM usdc.transfer WHERE block_time <= %s", at)
            assert one("SELECT count(*) FROM usdc.transfer WHERE block_number <= coalesce(%s, -1)", block) == by_time
    assert one("SELECT gapless.block_at('ethereum', '1970-01-01Z')") is None


def _ranges(connection, view, contract):
    return connection.execute(
        f"SELECT chain, event, first_block, last_block FROM gapless.{view} WHERE contract = %s ORDER BY 1, 2, 3",
        [contract],
    ).fetchall()


def test_coverage_and_gaps_are_rows_that_together_are_what_is_wanted(connection, one):
    transfer = [r for r in _ranges(connection, "coverage", "usdc") if r[1] == "Transfer"]
    assert transfer == [
        ("ethereum", "Transfer", START, GAP[0] - 1),
        ("ethereum", "Transfer", GAP[1] + 1, TIP),
    ]
    assert ("ethereum", "Transfer", *GAP) in _ranges(connection, "gaps", "usdc")
    types = connection.execute("""
        SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid IN ('gapless.coverage'::regclass, 'gapless.gaps'::regclass) AND attnum > 0
    """).fetchall()
    assert {row[0] for row in types} <= {"bigint", "character varying", "boolean"}
    # What docs/tables.md says of each source, summed up by hand, is what the view says.
    missing = """
        SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM gapless.sources s JOIN gapless.chains n USING (chain_id),
        unnest(int8multirange(int8range(s.start_block, least(s.end_block, n.tip_number) + 1))
               - gapless.covered(s.coverage, s.end_block, n.tip_number)) r
        WHERE s.active AND n.tip_number IS NOT NULL
    """
    in_view = "SELECT sum(blocks) FROM gapless.gaps JOIN gapless.chains USING (chain_id) WHERE tip_number IS NOT NULL"
    assert one(in_view) == one(missing) > 0


def test_two_sources_of_a_table_cover_it_where_both_do_what_they_are_wanted_for(connection):
    """One begins later: before its start it lacks nothing; where it has a gap, the table has one."""
    event = "(SELECT e.id FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id WHERE c.name = 'usdc' "
    event += "AND e.api_name = 'Transfer')"
    connection.execute(f"""
        INSERT INTO gapless.sources (chain_id, event_id, place, start_block, coverage)
        VALUES (1, {event}, '{{"kind": "addresses", "addresses": []}}', 1100, '{{[1100,1150), [1160,)}}')
    """)
    found = connection.execute("SELECT first_block, last_block FROM gapless.covered('usdc', 'Transfer')").fetchall()
    assert found == [(START, GAP[0] - 1), (GAP[1] + 1, 1149), (1160, TIP)]
    connection.execute(f"UPDATE gapless.sources SET active = false WHERE event_id = {event}")
    retired = "SELECT count(*), bool_or(active) FROM gapless.coverage WHERE contract = 'usdc' AND event = 'Transfer'"
    assert connection.execute(retired).fetchone() == (3, False)
    assert [r for r in _ranges(connection, "gaps", "usdc") if r[1] == "Transfer"] == []


def test_coverage_of_what_is_not_there_is_an_error(connection):
    for names in (("usdc", "Transfers"), ("usdt", "Transfer")):
        with pytest.raises(errors.InvalidParameterValue, match="there is no event"):
            connection.execute("SELECT * FROM gapless.covered(%s, %s)", names)


def test_a_source_that_has_never_been_read_is_one_gap_or_none(connection):
    """No block of the chain is indexed: only a source with an end is known to lack something."""
    connection.execute("UPDATE gapless.chains SET tip_number = NULL WHERE chain_id = 8453")
    connection.execute("UPDATE gapless.sources SET coverage = '{}', end_block = NULL WHERE chain_id = 8453")
    assert [r for r in _ranges(connection, "gaps", "bridge") if r[0] == "base"] == []
    connection.execute("UPDATE gapless.sources SET end_block = start_block + 9 WHERE chain_id = 8453")
    assert {r[2:] for r in _ranges(connection, "gaps", "bridge") if r[0] == "base"} == {(START, START + 9)}


# -- comments -------------------------------------------------------------------------------------------------------

OURS = (
    "SELECT oid FROM pg_namespace WHERE nspname = 'gapless' OR nspname IN (SELECT schema_name FROM gapless.contracts)"
)
SILENT = {
    "schemas": f"SELECT oid::regnamespace::text FROM pg_namespace WHERE oid IN ({OURS}) "
    "AND obj_description(oid, 'pg_namespace') IS NULL",
    "relations": f"SELECT oid::regclass::text FROM pg_class WHERE relnamespace IN ({OURS}) "
    "AND relkind IN ('r', 'p', 'v', 'm', 'f') AND coalesce(obj_description(oid, 'pg_class'), '') = ''",
    "columns": "SELECT c.oid::regclass || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
    f"WHERE c.relnamespace IN ({OURS}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 "
    "AND NOT a.attisdropped AND coalesce(col_description(c.oid, a.attnum), '') = ''",
    "functions": f"SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN ({OURS}) "
    "AND coalesce(obj_description(oid, 'pg_proc'), '') = ''",
}


@pytest.mark.parametrize("kind", SILENT)
def test_everything_of_ours_says_what_it_is(connection, kind):
    assert [row[0] for row in connection.execute(SILENT[kind]).fetchall()] == []


def test_event_tables_bear_the_words_of_the_abi(connection):
    events = connection.execute("""
        SELECT c.schema_name, e.table_name, e.signature, e.columns FROM gapless.events e
        JOIN gapless.contracts c ON c.id = e.contract_id
    """).fetchall()
    assert len(events) > 10
    for schema, table, signature, columns in events:
        name = f'"{schema}"."{table}"'
        said = dict(
            connection.execute(
                "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
                "WHERE attrelid = %s::regclass AND attnum > 0",
                [name],
            ).fetchall()
        )
        described = connection.execute("SELECT obj_description(%s::regclass, 'pg_class')", [name]).fetchone()
        assert signature in described[0]
        for column in columns:
            type_, _, _ = column["abi_type"].partition("(")
            assert said[column["name"]].startswith(type_ or "("), (name, column, said)
            if type_ == "address" and not column["hashed"]:
                assert "gapless.addr('0x…') writes it" in said[column["name"]]
            if column["pg_type"].startswith("numeric(78,0)") and not column["pg_type"].endswith("[]"):
                assert "smallest unit" in said[column["name"]]
