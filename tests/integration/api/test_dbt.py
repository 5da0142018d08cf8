"""The example project for dbt: its models' SQL, run as dbt runs it, while the head moves and is reorganised."""

from __future__ import annotations

from pathlib import Path

import jinja2
import psycopg
import pytest

MODELS = Path(__file__).resolve().parents[3] / "docs" / "dbt" / "models"
ROW = """
    INSERT INTO coins.transfer SELECT chain_id, %s, block_time + interval '1 day' * %s, tx_hash, 0, 0, contract_address,
        from_address, to_address, %s FROM coins.transfer WHERE chain_id = 1 ORDER BY block_number DESC LIMIT 1
"""


@pytest.fixture
def connection(world_url):
    with psycopg.connect(world_url, autocommit=True) as one:
        one.execute("CREATE SCHEMA models")
        one.execute("UPDATE gapless.sources SET coverage = int8multirange(int8range(start_block, NULL))")
        yield one


def rendered(model, *, incremental):
    told = {}
    text = jinja2.Template((MODELS / f"{model}.sql").read_text()).render(
        config=lambda **values: told.update(values) or "",
        source=lambda schema, table: f"{schema}.{table}",
        ref=lambda name: f"models.{name}",
        is_incremental=lambda: incremental,
        this=f"models.{model}",
    )
    return text, told


def run(connection):
    """What ``dbt run`` does: makes a table at first, then appends or puts rows in the place of those of their key."""
    for model in ("final_transfers", "daily_volume"):
        (there,) = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"models.{model}"]).fetchone()
        text, told = rendered(model, incremental=there)
        assert told["materialized"] == "incremental"
        connection.execute(f"CREATE {'TEMP' if there else ''} TABLE {'new' if there else f'models.{model}'} AS {text}")
        if there:
            if told["incremental_strategy"] == "delete+insert":
                keys = ", ".join(told["unique_key"])
                connection.execute(f"DELETE FROM models.{model} WHERE ({keys}) IN (SELECT {keys} FROM new)")
            connection.execute(f"INSERT INTO models.{model} SELECT * FROM new")
            connection.execute("DROP TABLE new")


def test_models_are_what_a_full_refresh_makes_whatever_was_reorganised(connection):
    def is_right():
        for model in ("final_transfers", "daily_volume"):
            whole, _ = rendered(model, incremental=False)
            kept = connection.execute(f"SELECT * FROM models.{model} ORDER BY 1, 2, 3, 4").fetchall()
            assert kept == connection.execute(f"SELECT * FROM ({whole}) w ORDER BY 1, 2, 3, 4").fetchall()
        return len(connection.execute("SELECT FROM models.final_transfers").fetchall())

    run(connection)
    counts = [is_right()]
    assert counts[0] > 10
    (tip, final) = connection.execute(
        "SELECT tip_number, finalized_number FROM gapless.chains WHERE chain_id = 1"
    ).fetchone()
    # A reorganisation replaces what is not final; then the head and finality move, past it and into another day.
    for days in range(3):
        connection.execute("DELETE FROM coins.transfer WHERE chain_id = 1 AND block_number > %s", [final])
        connection.execute(ROW, [tip, days, 7 + days])
        run(connection)
        assert is_right() == counts[-1]
        connection.execute(ROW, [tip + 1, days, 8])
        final, tip = tip, tip + 10
        connection.execute(
            "UPDATE gapless.chains SET tip_number = %s, finalized_number = %s WHERE chain_id = 1", [tip, final]
        )
        run(connection)
        counts.append(is_right())
    assert counts == sorted(set(counts)), "each time something became final"


def test_a_gap_is_not_passed(connection):
    run(connection)
    blocks = [
        row[0] for row in connection.execute("SELECT DISTINCT block_number FROM models.final_transfers ORDER BY 1")
    ]
    connection.execute("DROP TABLE models.final_transfers, models.daily_volume")
    at = len(blocks) // 2
    lacking = f"{{[{blocks[at]},{blocks[at] + 1})}}"
    connection.execute("UPDATE gapless.sources SET coverage = coverage - %s::int8multirange", [lacking])
    run(connection)
    assert connection.execute("SELECT max(block_number) FROM models.final_transfers").fetchone() == (blocks[at - 1],)
