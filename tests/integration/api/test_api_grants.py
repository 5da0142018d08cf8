"""Roles with the least that each needs: the indexer and the API work as theirs, and nothing more is allowed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from typer.testing import CliRunner

from api.app import create_app
from api.context import create_context
from api.settings import ApiSettings
from indexer.cli import app
from indexer.store import database
from indexer.store.access import grants, keys
from indexer.store.apply import migrate
from tests.integration.api import world
from tests.integration.api.conftest import Client
from tests.integration.api.seed import Seed
from tests.integration.api.test_api_webhooks import SETTINGS

ABIS = Path(__file__).resolve().parents[3] / "abis"


@pytest.fixture
def as_role(database_url: str) -> Iterator[Callable[[str], str]]:
    """URLs of the database as roles that the command makes; before there is any table."""
    prefix = f"t{uuid4().hex[:8]}"
    passwords = dict.fromkeys(grants.ROLES, "a password")
    with psycopg.connect(database_url) as connection:
        grants.apply(connection, prefix, passwords)

    def url_of(role: str) -> str:
        rest = database_url.partition("@")[2]
        return f"postgresql://{prefix}_{role}:a%20password@{rest}"

    yield url_of
    with psycopg.connect(database_url, autocommit=True) as connection:
        for role in grants.ROLES:
            connection.execute(f"DROP OWNED BY {prefix}_{role} CASCADE")
        for role in ("migrator", "api", "analyst", "indexer"):
            connection.execute(f"DROP ROLE {prefix}_{role}")


@pytest.fixture
def indexed(as_role, database_url: str, tmp_path: Path) -> Callable[[str], str]:
    """The world of the API's tests, migrated by the migrator and made by the indexer."""
    engine = database.create_engine(as_role("migrator"))
    migrate.upgrade(engine)
    engine.dispose()
    with psycopg.connect(database_url) as connection:
        prefix = as_role("x").split("//")[1].split("_")[0]
        grants.apply(connection, prefix, {})  # again after a migration
    seed = Seed(as_role("indexer"), tmp_path)
    world.build(seed, {path.name: json.loads(path.read_text()) for path in ABIS.glob("*.json")})
    seed.close()
    return as_role


def test_the_indexer_and_the_api_work_as_their_roles(indexed):
    engine = database.create_engine(indexed("indexer"))
    with engine.begin() as connection:
        admin = "Bearer " + keys.create(connection, "admin", scopes=("read", "admin", "webhooks"))[1]
    engine.dispose()
    context = create_context(ApiSettings(**SETTINGS), indexed("api"), None)
    try:
        client = Client(create_app(context))
        for path in ("/ready", "/status", "/v1/contracts", "/v1/events?chain=1", "/openapi.json", "/v1/tokens?chain=1"):
            assert client.get(path), path
        rows = "/v1/contracts/usdc/events/Transfer"
        assert client.get(rows)["data"]
        assert client.ask(f"{rows}?format=csv").status_code == 200
        assert client.ask("/").status_code == 200
        made = client.send("/v1/keys", {"name": "x"}, authorization=admin)
        assert made.status_code == 201, made.text
        assert client.send("/v1/auth/token", authorization=admin).status_code == 200
        assert client.send("/v1/jobs", {"kind": "audit"}, authorization=admin).status_code == 202
        assert client.send("/v1/jobs/1", method="DELETE", authorization=admin).status_code == 200
        assert client.send("/v1/keys/2", method="DELETE", authorization=admin).status_code == 204
        hook = {"url": "http://127.0.0.1:9/hook", "chain": "ethereum", "contract": "usdc"}
        subscribed = client.send("/v1/webhooks", hook, authorization=admin)
        assert subscribed.status_code == 201, subscribed.text
        one = f"/v1/webhooks/{subscribed.json['data']['id']}"
        assert client.send(f"{one}/test", authorization=admin).status_code == 202
        assert client.send(one, {"state": "paused"}, "PATCH", authorization=admin).status_code == 200
        assert client.send(one, method="DELETE", authorization=admin).status_code == 204
    finally:
        context.close()


REFUSED = [
    ("api", "DELETE FROM usdc.transfer"), ("api", "UPDATE gapless.chains SET name = 'x'"),
    ("api", "UPDATE gapless.sources SET active = false"), ("api", "DELETE FROM gapless.api_keys"),
    ("api", "CREATE TABLE gapless.mine ()"), ("api", "CREATE SCHEMA mine"), ("api", "CREATE ROLE other"),
    ("api", "COPY gapless.chains TO PROGRAM 'true'"), ("api", "TRUNCATE gapless.jobs"),
    ("analyst", "SELECT * FROM gapless.api_keys"), ("analyst", "SELECT * FROM gapless.token_secrets"),
    ("analyst", "SELECT * FROM gapless.cache_secret"), ("analyst", "SELECT * FROM gapless.webhooks"),
    ("analyst", "SELECT * FROM gapless.jobs"), ("analyst", "DELETE FROM usdc.transfer"),
    ("analyst", "CREATE SCHEMA mine"), ("indexer", "CREATE ROLE other"), ("indexer", "CREATE DATABASE other"),
    ("indexer", "COPY gapless.chains TO PROGRAM 'true'"), ("migrator", "CREATE ROLE other"),
]  # fmt: skip


def test_no_role_may_do_more(indexed):
    for role, statement in REFUSED:
        with psycopg.connect(indexed(role), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")  # the analyst's, which it may lift
            with pytest.raises(errors.InsufficientPrivilege):  # noqa: PT012 - says which one is allowed
                connection.execute(statement)
                raise AssertionError(f"{role} may {statement}")
            assert connection.execute("SELECT count(*) FROM usdc.transfer").fetchone()


def test_a_database_that_a_superuser_made_is_taken_over(world_url, tmp_path):
    prefix = f"t{uuid4().hex[:8]}"
    with psycopg.connect(world_url) as connection:
        grants.apply(connection, prefix, dict.fromkeys(grants.ROLES, "a password"))
    rest = world_url.partition("@")[2]
    seed = Seed(f"postgresql://{prefix}_indexer:a%20password@{rest}", tmp_path)
    abis = {path.name: json.loads(path.read_text()) for path in ABIS.glob("*.json")}
    changed = world.MANIFEST.replace('events = ["Transfer"]', 'events = ["Transfer", "Approval"]')
    seed.declare(changed, {**abis, "zoo.json": world.ZOO_ABI})  # views are made anew, tables may come
    for owner in ("pg_class WHERE relnamespace", "pg_proc WHERE pronamespace"):
        name = "relowner" if "class" in owner else "proowner"
        left = seed.execute(
            f"SELECT count(*) FROM {owner} IN (SELECT oid FROM pg_namespace WHERE nspname IN ('gapless', 'usdc')) "
            f"AND {name}::regrole <> '{prefix}_indexer'::regrole"
        ).fetchone()
        assert left == (0,), owner
    seed.close()
    context = create_context(ApiSettings(), f"postgresql://{prefix}_api:a%20password@{rest}", None)
    try:
        assert Client(create_app(context)).get("/v1/contracts/usdc/events/Transfer")["data"]
    finally:
        context.close()


@pytest.fixture
def analyst_url(world_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A login that the command makes alone, in a database whose owner is not one of our roles."""
    prefix = f"t{uuid4().hex[:8]}"
    (tmp_path / "password").write_text("its p@ssword\n")
    monkeypatch.setenv("DATABASE_URL", world_url)
    command = ["grants", "--apply", "--role", "analyst", "--prefix", prefix]
    done = CliRunner().invoke(app, [*command, "--password-file", str(tmp_path / "password")])
    assert done.exit_code == 0, done.output
    with psycopg.connect(world_url, autocommit=True) as connection:
        made = connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [prefix]).fetchall()
        assert made == [(f"{prefix}_analyst",)]
    yield f"postgresql://{prefix}_analyst:its%20p%40ssword@{world_url.partition('@')[2]}"
    with psycopg.connect(world_url, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {prefix}_analyst CASCADE")
        connection.execute(f"DROP ROLE {prefix}_analyst")


def test_an_analyst_reads_all_that_is_public_now_and_later_and_nothing_else(analyst_url, world_url, tmp_path):
    names = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "
    names += "n.nspname !~ '^pg_|^information_schema$' AND c.relkind IN ('r', 'p', 'v', 'm')"
    seed = Seed(world_url, tmp_path)
    abis = {path.name: json.loads(path.read_text()) for path in ABIS.glob("*.json")}
    later = (
        world.MANIFEST
        + f'''
    [contracts.later]
    chain = "ethereum"
    abi = "erc20.json"
    address = "{world.hex_of(world.SILVER)}"
    start_block = 1000
    '''
    )
    seed.declare(later, {**abis, "zoo.json": world.ZOO_ABI})  # tables and schemas that were not there
    seed.close()
    hidden = {f"gapless.{table}" for table in grants.SECRET}
    with psycopg.connect(analyst_url, autocommit=True) as connection:
        tables = {row[0] for row in connection.execute(names).fetchall()}
        assert {"later.transfer", "later.transfer_v", "gapless.coverage", "gapless.transfers"} | hidden <= tables
        for table in tables:
            if table in hidden:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(f"SELECT FROM {table}")
            else:
                connection.execute(f"SELECT * FROM {table} LIMIT 1")
        assert connection.execute("SELECT count(*) > 0 FROM gapless.covered('usdc', 'Transfer')").fetchone() == (True,)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMPORARY TABLE mine ()")


def test_an_analyst_who_lifts_the_time_outs_is_ended_and_no_other(analyst_url, world_url):
    engine = database.create_engine(world_url)
    with (
        psycopg.connect(analyst_url) as idle, psycopg.connect(analyst_url, autocommit=True) as busy,
        psycopg.connect(analyst_url) as waiting, psycopg.connect(world_url) as other,
    ):  # fmt: skip
        shown = idle.execute(
            "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
        )
        assert shown.fetchone() == ("5min", "1min")
        idle.execute("SET idle_in_transaction_session_timeout = 0")
        busy.execute("SET statement_timeout = 0")
        busy.execute("SET default_transaction_read_only = off")
        name = busy.info.user
        for change in (f"ALTER ROLE {name} CONNECTION LIMIT -1", f"COMMENT ON ROLE {name} IS NULL"):
            with pytest.raises(errors.InsufficientPrivilege):
                busy.execute(change)
        waiting.execute("SELECT 1")
        waiting.rollback()
        other.execute("SELECT 1")
        with engine.begin() as connection:
            assert grants.end_overlong_sessions(connection) == 0
        with engine.begin() as connection:
            assert grants.end_overlong_sessions(connection, statement=0, idle=0) == 1
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
        for one in (waiting, other, busy):
            assert one.execute("SELECT 1").fetchone() == (1,)
    engine.dispose()


def test_a_statement_that_works_for_too_long_is_ended_by_the_indexer_that_is_no_superuser(indexed):
    engine = database.create_engine(indexed("indexer"))
    with psycopg.connect(indexed("analyst"), autocommit=True) as busy:
        busy.execute("SET statement_timeout = 0")
        failed: list[BaseException] = []

        def work() -> None:
            try:
                busy.execute("SELECT pg_sleep(600)")
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        deadline, ended = time.monotonic() + 60, 0
        while not ended and time.monotonic() < deadline:
            with engine.begin() as connection:
                ended = grants.end_overlong_sessions(connection, statement=0.1)
        thread.join(60)
        assert ended == 1
        assert not thread.is_alive()
        assert failed
    engine.dispose()


def test_only_the_analyst_is_made_alone_and_only_where_there_are_tables(database_url, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", database_url)
    command = ["grants", "--apply", "--prefix", f"t{uuid4().hex[:8]}", "--role"]
    assert "--role analyst" in str(CliRunner().invoke(app, [*command, "api"]).exception.hint)
    assert "gapless migrate" in str(CliRunner().invoke(app, [*command, "analyst"]).exception)
    missing = CliRunner().invoke(app, [*command, "analyst", "--password-file", str(tmp_path / "none")])
    assert "cannot be read" in str(missing.exception)


def test_the_command_shows_it_and_does_it(database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)
    shown = CliRunner().invoke(app, ["grants", "--prefix", "shown"])
    assert shown.exit_code == 0, shown.output
    assert "GRANT" in shown.stdout
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname LIKE 'shown%'").fetchone() is None
    wrong = CliRunner().invoke(app, ["grants", "--prefix", "x'; DROP"])
    assert wrong.exit_code != 0
