"""A row that Postgres refuses goes to the undecoded logs; every other row of the chunk is written."""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from indexer.store.database import describe_error
from indexer.store.rows import undecoded_logs
from indexer.store.rows.copy_binary import copy_accepted
from indexer.sync.audit.repair import Repair
from indexer.sync.rows import router as rows
from tests.integration.audit.conftest import execute, run


@pytest.fixture
def table(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE t (id integer PRIMARY KEY, name text)")
        connection.execute("CREATE INDEX ON t (name)")
        yield connection


def copied(connection, rows):
    def copy(some):
        with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT BINARY)") as out:
            out.set_types(["int4", "text"])
            for row in some:
                out.write_row(row)

    return copy_accepted(connection, rows, copy)


HUGE = Random(1).randbytes(10_000).hex()  # too long for a btree, and hardly compressible


@pytest.mark.promise("R-09")
@pytest.mark.parametrize("bad", [[], [0], [99], [50], [3, 4, 77], list(range(100))])
def test_only_the_refused_rows_are_missing(table, bad):
    rows = [(i, HUGE if i in bad else "fine") for i in range(100)]
    refused = copied(table, rows)
    assert [row[0] for row, _ in refused] == bad
    assert all("index row" in reason for _, reason in refused)
    assert [i for (i,) in table.execute("SELECT id FROM t ORDER BY id")] == [i for i in range(100) if i not in bad]


def test_what_is_not_the_rows_fault_is_raised(table):
    with pytest.raises(psycopg.errors.UniqueViolation):
        copied(table, [(1, "a"), (1, "b")])


@pytest.mark.promise("R-09")
def test_a_backfill_goes_on_past_a_row_that_postgres_refuses(indexed):
    """A text that an index cannot hold, in a chunk of others."""
    (label, column), *_ = [
        (schema + "." + table, column)
        for schema, table, column in indexed.query(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns "
            "JOIN information_schema.tables USING (table_schema, table_name) "
            "WHERE data_type = 'text' AND table_type = 'BASE TABLE' AND table_schema IN ('zoo', 'items') ORDER BY 1, 2"
        )
    ]
    rows = indexed.query(f"SELECT block_number, log_index FROM {label} WHERE block_number <= 237")
    assert rows
    # A check stands for whatever Postgres may refuse: here one value of the column.
    (text,) = indexed.query(f"SELECT {column} FROM {label} WHERE block_number <= 237 LIMIT 1")[0]
    schema, table = label.split(".")
    (source_id,) = indexed.query(
        "SELECT s.id FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c "
        "ON c.id = e.contract_id WHERE c.schema_name = %s AND e.table_name = %s",
        schema,
        table,
    )[0]
    execute(indexed, f"DELETE FROM {label} WHERE block_number <= 237")
    execute(indexed, "DELETE FROM gapless.digests")
    execute(indexed, "UPDATE gapless.sources SET coverage = coverage - '{[0,238)}' WHERE id = %s", source_id)
    execute(
        indexed,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION SQLSTATE '54000' USING MESSAGE = 'too much for an index'; END$$",
    )
    literal = text.replace("'", "''")
    execute(
        indexed,
        f"CREATE TRIGGER refuse BEFORE INSERT ON {label} FOR EACH ROW WHEN (NEW.{column} = '{literal}') "
        "EXECUTE FUNCTION refuse()",
    )
    indexed.backfill().run()
    execute(indexed, f"DROP TRIGGER refuse ON {label}")
    kept = indexed.query(f"SELECT count(*) FROM {label} WHERE block_number <= 237")[0][0]
    with indexed.engine.connect() as connection:
        reasons = [r for r in undecoded_logs.reasons(connection) if "too much for an index" in r.reason]
    assert kept + sum(r.logs for r in reasons) == len(rows)
    assert sum(r.logs for r in reasons) > 0
    assert not [f for f in run(indexed).findings if f.kind == "gap"]
    # What was refused is kept raw, whole enough to be decoded again.
    from indexer.sync.audit.redecode import redecode

    done = redecode(indexed.engine, schema)
    assert done.rows.total() == sum(r.logs for r in reasons)
    assert indexed.query(f"SELECT count(*) FROM {label} WHERE block_number <= 237")[0][0] == len(rows)


def test_a_full_disk_ends_with_a_message_and_loses_nothing(indexed):
    rows = indexed.rows()
    execute(indexed, "DELETE FROM coins.transfer WHERE block_number BETWEEN 2 AND 237")
    execute(
        indexed,
        "UPDATE gapless.sources SET coverage = coverage - '{[2,238)}' WHERE event_id = (SELECT e.id "
        "FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id "
        "WHERE c.name = 'coins' AND e.name = 'Transfer')",
    )
    execute(
        indexed,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION SQLSTATE '53100' "
        "USING MESSAGE = 'could not extend file \"base/1\": No space left on device'; END$$",
    )
    execute(
        indexed,
        "CREATE TRIGGER full_disk BEFORE INSERT ON coins.transfer FOR EACH ROW WHEN (NEW.block_number > 100) "
        "EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(psycopg.errors.DiskFull) as failure:
        indexed.backfill().run()
    described = describe_error(failure.value)
    assert "No space left on device" in str(described)
    assert "make room" in described.hint
    # Rows and coverage of what was committed before belong together.
    assert not [f for f in run(indexed).findings if f.kind not in ("gap", "digest")]
    execute(indexed, "DROP TRIGGER full_disk ON coins.transfer")
    indexed.backfill().run()
    assert indexed.rows() == rows
    assert not run(indexed).findings


def test_a_child_whose_announcement_postgres_refuses_is_a_child(indexed, monkeypatch):
    """Its row is not in the table, but the log was decoded: what the child says is indexed."""
    children = indexed.query("SELECT * FROM gapless.children ORDER BY address")
    block, log = indexed.query(
        "SELECT block_number, log_index FROM exchange.pair_created WHERE block_number <= 237 ORDER BY 1 DESC LIMIT 1"
    )[0]
    execute(indexed, "DELETE FROM exchange.pair_created WHERE block_number = %s", block)
    execute(indexed, "DELETE FROM gapless.digests")
    execute(
        indexed,
        "UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(%s, %s)) WHERE event_id = "
        "(SELECT e.id FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id "
        "WHERE c.name = 'exchange' AND e.name = 'PairCreated')",
        block,
        block + 1,
    )
    execute(
        indexed,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION SQLSTATE '54000' USING MESSAGE = 'too much for an index'; END$$",
    )
    execute(
        indexed,
        f"CREATE TRIGGER refuse BEFORE INSERT ON exchange.pair_created FOR EACH ROW WHEN (NEW.block_number = {block} "
        f"AND NEW.log_index = {log}) EXECUTE FUNCTION refuse()",
    )
    execute(indexed, "DELETE FROM gapless.children WHERE block_number = %s", block)
    # As if it had a text among its arguments: rows of arguments of one word are never refused.
    monkeypatch.setattr(rows, "encoder", lambda *_: None)
    indexed.backfill().run()
    execute(indexed, "DROP TRIGGER refuse ON exchange.pair_created")
    assert indexed.query("SELECT * FROM gapless.children ORDER BY address") == children
    # What the follower indexed without knowing the child is covered no more, and the follower's to fetch.
    follower = indexed.follower()
    indexed.catch_up(follower)
    assert run(indexed).findings == []
    repair = Repair(indexed.engine, indexed.client, indexed.chain.chain_id, indexed.chain.name)
    repair.range("exchange", block, block)
    indexed.catch_up(follower)
    follower.close()
    assert run(indexed).findings == []
    assert indexed.query("SELECT * FROM gapless.children ORDER BY address") == children
