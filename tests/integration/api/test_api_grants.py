"""Roles with the least that each needs: the indexer and the API work as theirs, and nothing more is allowed."""

import json
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


def test_the_command_shows_it_and_does_it(database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)
    shown = CliRunner().invoke(app, ["grants", "--prefix", "shown"])
    assert shown.exit_code == 0, shown.output
    assert "GRANT" in shown.stdout
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname LIKE 'shown%'").fetchone() is None
    wrong = CliRunner().invoke(app, ["grants", "--prefix", "x'; DROP"])
    assert wrong.exit_code != 0
