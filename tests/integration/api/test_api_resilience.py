"""The API when something is wrong around it: no database, no tables, no Redis, a catalog that changes."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from api.app import create_app
from api.catalog_watch import CatalogWatch
from api.context import Context, create_context
from api.settings import ApiSettings
from tests.integration.api.conftest import Client
from tests.integration.api.seed import hex_of
from tests.integration.api.world import MANIFEST, USDC

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nothing"


def test_without_a_database(make_client):
    client = make_client(url=NOWHERE)
    assert client.get("/health") == {"status": "ok"}
    for path in (TRANSFERS, "/status", "/ready"):
        result = client.ask(path)
        assert (result.status_code, result.json["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert result.headers["retry-after"] == "2"
        assert "secret" not in result.text
    assert client.ask("/v2").status_code == 404


def test_a_database_without_tables_says_what_to_run(make_client, database_url):
    client = make_client(url=database_url)
    for path in ("/ready", TRANSFERS, "/status"):
        assert "gapless migrate" in client.refused(path, 503, "DATABASE_UNAVAILABLE")["error"]


def test_an_empty_catalog_is_no_error(make_client, migrated_url):
    client = make_client(url=migrated_url)
    assert client.get("/ready")["status"] == "ready"
    assert client.get("/v1/contracts")["data"] == []
    assert client.get("/status")["data"]["chains"] == []
    assert client.get("/openapi.json")["paths"]
    client.refused("/v1/tokens", 404, "CHAIN_NOT_FOUND")
    client.refused(TRANSFERS, 404, "CONTRACT_NOT_FOUND")


def test_a_shape_of_request_is_planned_once(world_url):
    context = create_context(ApiSettings(api_threads=1), world_url, None)
    try:
        client = Client(create_app(context))
        for block in range(1000, 1020):
            client.get(f"{TRANSFERS}?to_block={block}&address={hex_of(USDC)}")
        text = "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements WHERE statement LIKE '%usdc%'"
        generic, custom = map(int, map(bytes.decode, context.database.query(text)[0]))
        assert generic >= 15
        assert custom == 0
    finally:
        context.close()


def test_connections_that_were_cut_are_replaced_unseen(own, seed):
    """As by a restart of Postgres: every connection of the pool is dead at once."""
    threads = [threading.Thread(target=own.get, args=(TRANSFERS,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        cut = seed.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'gapless%%'"
        ).fetchone()
        assert cut is not None
        assert cut[0] >= 1
        assert own.get(TRANSFERS)["data"]
        assert own.ask(f"{TRANSFERS}?format=csv&limit=1").status_code == 200


@pytest.mark.promise("O-04")
def test_redis_is_not_needed(make_client):
    client = make_client(redis_url="redis://127.0.0.1:1/0")
    assert client.get("/ready") == {"status": "ready", "redis": "away"}
    assert client.get("/status")["data"]["redis"] == "away"
    assert client.get(TRANSFERS)["data"]
    assert client.get(f"{TRANSFERS}?count=exact")["data"]


def test_redis_is_used_where_it_is(make_client, redis_url):
    assert make_client(redis_url=redis_url).get("/ready") == {"status": "ready", "redis": "ok"}


def test_a_table_that_was_dropped_is_gone_at_once(own, seed):
    assert own.get(TRANSFERS)["data"]
    seed.execute("DELETE FROM gapless.series")
    seed.execute(
        "DELETE FROM gapless.events WHERE contract_id = (SELECT id FROM gapless.contracts WHERE name = 'usdc')"
    )
    seed.execute("DELETE FROM gapless.contracts WHERE name = 'usdc'")
    seed.execute("DROP SCHEMA usdc CASCADE")
    seed.execute("UPDATE gapless.catalog SET version = version + 1")
    own.refused(TRANSFERS, 404, "CONTRACT_NOT_FOUND")


def test_a_table_that_was_laid_out_anew_is_read_anew(own, seed):
    before = own.get(f"{TRANSFERS}?limit=1")["data"]
    seed.execute("ALTER TABLE usdc.transfer RENAME COLUMN from_address TO sender")
    seed.execute(
        "UPDATE gapless.events SET columns = jsonb_set(columns, '{0,name}', '\"sender\"') "
        "WHERE table_name = 'transfer' AND contract_id = (SELECT id FROM gapless.contracts WHERE name = 'usdc')"
    )
    seed.execute("UPDATE gapless.catalog SET version = version + 1")
    assert own.get(f"{TRANSFERS}?limit=1")["data"] == before


def test_a_contract_that_left_the_manifest_is_still_read(own, seed):
    assert own.get("/v1/contracts/usdc")["data"]["active"] is True
    head, _, rest = MANIFEST.partition("[contracts.usdc]")
    seed.declare(head + rest[rest.index("[contracts.coins]") :])
    assert own.get(TRANSFERS)["data"]
    with psycopg.connect(seed.url) as connection:
        assert connection.execute("SELECT active FROM gapless.contracts WHERE name = 'usdc'").fetchone() == (False,)


def test_an_address_that_was_added_is_found(own, seed):
    own.refused(f"/v1/contracts/0x{'88' * 20}", 404, "CONTRACT_NOT_FOUND")
    one, two = f'address = "{hex_of(USDC)}"', f'address = ["{hex_of(USDC)}", "0x{"88" * 20}"]'
    seed.declare(MANIFEST.replace(one, two))
    assert own.get(f"/v1/contracts/0x{'88' * 20}")["data"]["name"] == "usdc"
    assert own.get(f"/v1/contracts/0x{'88' * 20}/events/Transfer")["data"] == []
    assert len(own.get(f"/v1/contracts/{hex_of(USDC)}/events/Transfer")["data"]) == 100


@pytest.mark.parametrize("variable", ["API_PORT=x", "API_PORT=70000", "API_THREADS=0", "API_STATEMENT_TIMEOUT=-1"])
def test_settings_that_are_wrong_are_named(monkeypatch, variable):
    from api.settings import SettingsError, load_settings

    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert name in str(caught.value)
    assert value in str(caught.value)
    assert caught.value.exit_status == 2


def test_settings_come_from_the_environment_unless_given(monkeypatch):
    from api.settings import load_settings

    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("API_PORT", "9000")
    settings = load_settings(api_port=9001, api_host=None)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.api_port == 9001


@pytest.fixture
def watched(world_url) -> Iterator[tuple[Context, list[float]]]:
    """The parts of an API whose catalog has a clock of the test's own."""
    context, now = create_context(ApiSettings(api_unindexed_window=50), world_url, None), [0.0]
    yield replace(context, catalog=CatalogWatch(context.database, interval=2.0, clock=lambda: now[0])), now
    context.close()


def test_the_catalog_is_looked_at_every_two_seconds(watched, seed):
    context, now = watched
    client = Client(create_app(context))
    asked = f"{TRANSFERS}?arg.value={10**30 + 11003}"
    client.refused(asked, 422, "QUERY_TOO_EXPENSIVE")
    seed.execute("CREATE INDEX ON usdc.transfer (chain_id, value, block_number, log_index)")
    now[0] = 1.9
    client.refused(asked, 422, "QUERY_TOO_EXPENSIVE")
    now[0] = 2.0
    assert [row["id"] for row in client.get(asked)["data"]] == ["1100-3"]


def test_the_catalog_is_read_again_only_if_it_changed(watched, seed):
    context, now = watched
    first = context.catalog.current()
    assert first.chains[1].block_seconds == 12
    made = first.once("something", object)
    now[0] = 5
    assert context.catalog.current().once("something", object) is made
    seed.execute("UPDATE gapless.catalog SET version = version + 1")
    now[0] = 10
    assert context.catalog.current().once("something", object) is not made


def test_a_catalog_that_cannot_be_read_anew_is_kept(watched, seed):
    context, now = watched
    first = context.catalog.current()
    seed.execute("ALTER TABLE gapless.catalog RENAME TO hidden")
    now[0] = 5
    assert context.catalog.current() is first
