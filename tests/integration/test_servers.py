"""Behind other servers than the embedded one: an older Postgres, pgbouncer in front of it, a hot standby."""

from __future__ import annotations

import signal

import psycopg
import pytest
import requests
import sqlalchemy as sa

from indexer.demo.anvil import rpc
from indexer.demo.world import manifest_text
from indexer.sync.head.follower import Tick
from tests import databases, servers
from tests.conftest import FAST
from tests.integration.sync.rig import rig
from tests.integration.test_run import (
    Process,
    _closed_port,
    _one,
    _until,
    _until_complete,
    manifest,  # noqa: F401
    node_url,  # noqa: F401
    start,  # noqa: F401
)


def _served(start, url: str, **environment: str) -> tuple[Process, str]:  # noqa: F811
    port = _closed_port()
    process = start("serve", "--port", str(port), DATABASE_URL=url, **environment)
    at = f"http://127.0.0.1:{port}"
    _until(lambda: _answers(f"{at}/ready"), lambda: process.said[-3000:])
    return process, at


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def _page(at: str) -> list[object]:
    answer = requests.get(f"{at}/v1/contracts/coins/events/Transfer?limit=50", timeout=10)
    assert answer.status_code == 200, answer.text
    found: list[object] = answer.json()["data"]
    return found


# -- an older Postgres ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_server(data_dir):
    programs = servers.older()
    with servers.postgres(data_dir / "old", programs, FAST) as cluster:
        yield cluster


@pytest.mark.promise("O-10")
def test_the_main_path_on_an_older_postgres(start, old_server):  # noqa: F811
    """Migrate, apply, history, head, a page of the API, an audit."""
    url = old_server.url
    for command in (["migrate"], ["apply", "--yes"], ["backfill", "coins"]):
        process = start(*command, DATABASE_URL=url)
        assert process.ended() == 0, process.said
    process = start("run", DATABASE_URL=url)
    _until_complete(url, process)
    _, at = _served(start, url)
    assert len(_page(at)) == 50
    assert requests.get(f"{at}/status", timeout=10).json()["data"]["complete"]
    audited = start("audit", DATABASE_URL=url)
    assert audited.ended() == 0, audited.said
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "Traceback" not in process.said, process.said


def test_a_reorganisation_on_an_older_postgres(old_server, history, tmp_path):
    node = history.world.w3.provider.endpoint_uri
    account = history.world.accounts[0]
    with rig(manifest_text(history.world), tmp_path, node, databases.create(old_server.url)) as one:
        follower = one.follower()
        one.catch_up(follower)
        before = one.rows()
        rpc(node, "anvil_reorg", 5, [[{"from": account, "to": account, "value": "0x1"}, 0]])
        assert follower.tick() is Tick.REORGANISED
        one.catch_up(follower)
        assert one.query("SELECT depth FROM gapless.reorgs") == [(5,)]
        assert sum(map(len, one.rows().values())) < sum(map(len, before.values()))
        follower.close()


def test_a_server_before_the_oldest_is_refused(migrated_url, monkeypatch):
    from indexer.store.apply import migrate
    from indexer.store.database import DatabaseError, create_engine

    engine = create_engine(migrated_url)
    with engine.connect() as connection:
        here = connection.execute(sa.text("SELECT current_setting('server_version_num')::int / 10000")).scalar_one()
        migrate.require_usable(connection)
        monkeypatch.setattr(migrate, "OLDEST", here + 1)
        with pytest.raises(DatabaseError, match=f"of version {here}; Gapless needs {here + 1} or newer"):
            migrate.require_usable(connection)
    engine.dispose()


# -- pgbouncer -----------------------------------------------------------------------------------------------------


@pytest.mark.promise("O-10")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_everything_works_through_pgbouncer(start, migrated_url, data_dir, mode):  # noqa: F811
    with servers.pgbouncer(migrated_url, data_dir / f"bouncer {mode}", mode) as url:
        filled = start("backfill", "coins", DATABASE_URL=url)
        assert filled.ended() == 0, filled.said
        assert _told(filled) == (mode == "transaction")
        process = start("run", DATABASE_URL=url)
        server, at = _served(start, url)
        _until_complete(migrated_url, process)
        # More often than statements are prepared at once, on more connections than one.
        for _ in range(20):
            assert len(_page(at)) == 50
        assert requests.get(f"{at}/v1/contracts/coins/events/Transfer?format=csv", timeout=30).status_code == 200
        made = start("keys", "create", "me", "--scope", "admin", DATABASE_URL=url)
        assert made.ended() == 0, made.said
        # What only reads and what writes share the pooler's sessions.
        answer = requests.post(
            f"{at}/v1/jobs",
            json={"kind": "audit", "contract": "coins", "sample": 1},
            headers={"Authorization": f"Bearer {made.said.split()[-1]}"},
            timeout=10,
        )
        assert answer.status_code == 202, answer.text
        done = "SELECT state = 'done' FROM gapless.jobs"
        _until(lambda: _one(migrated_url, done), lambda: process.said[-3000:])
        process.popen.send_signal(signal.SIGTERM)
        assert process.ended() == 0
        assert _told(process) == (mode == "transaction")
        for one in (process, server, filled):
            assert "Traceback" not in one.said, one.said
            assert "prepared statement" not in one.said, one.said
            errors = [line for line in one.said.splitlines() if " ERROR " in line and "is stalled" not in line]
            assert not errors, one.said


def _told(process: Process) -> bool:
    said = process.said.count("a pooler in transaction mode stands before Postgres")
    assert said <= 1, process.said
    return said == 1


def test_the_direct_url_goes_past_the_pooler(start, migrated_url, data_dir):  # noqa: F811
    with servers.pgbouncer(migrated_url, data_dir / "bouncer passed", "transaction") as url:
        process = start("run", DATABASE_URL=url, DATABASE_DIRECT_URL=migrated_url)
        _until_complete(migrated_url, process)
        assert not _told(process)


def test_the_sessions_of_a_pooler_are_as_they_were(migrated_url, data_dir):
    """Each transaction of the API has its settings, and leaves none of them to others."""
    from api.database import Database
    from api.errors import ApiError

    with servers.pgbouncer(migrated_url, data_dir / "bouncer shared", "transaction", default_pool_size="1") as url:
        reads = Database(url, size=2, statement_timeout=0.5, wait=10)
        writes = Database(url, size=2, statement_timeout=20, wait=10, read_only=False)
        reads.open()
        writes.open()
        try:
            for _ in range(5):
                names = ("statement_timeout", "timezone", "transaction_read_only", "plan_cache_mode")
                (row,) = reads.query("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
                assert row == (b"500ms", b"UTC", b"on", b"force_generic_plan")
                writes.query("CREATE TABLE IF NOT EXISTS public.noted (n integer)")
                assert writes.query("INSERT INTO public.noted VALUES ($1) RETURNING n", [1]) == [(b"1",)]
            with pytest.raises(ApiError, match="took too long"):
                reads.query("SELECT pg_sleep(5)")
            with pytest.raises(ApiError, match="takes no changes"):
                reads.query("INSERT INTO public.noted VALUES (2)")
            connection, rows = reads.begin(b"SELECT current_setting('transaction_isolation')", [])
            assert rows == [(b"repeatable read",)]
            reads.release(connection)
        finally:
            reads.close()
            writes.close()


# -- a hot standby -------------------------------------------------------------------------------------------------


def test_a_standby_is_read_and_after_its_promotion_written(start, data_dir, tmp_path):  # noqa: F811
    programs = servers.any_with("pg_basebackup")
    settings = {**FAST, "full_page_writes": "on", "wal_level": "replica", "max_wal_senders": "5"}
    with servers.postgres(data_dir / "primary", programs, settings) as primary:
        filled = start("backfill", "coins", DATABASE_URL=primary.url)
        assert filled.ended() == 0, filled.said
        key = start("keys", "create", "me", "--scope", "admin", DATABASE_URL=primary.url)
        assert key.ended() == 0, key.said
        with servers.standby(primary, data_dir / "standby") as standby:
            _, at = _served(start, standby.url)
            assert len(_page(at)) == 50

            def ask() -> requests.Response:
                return requests.post(
                    f"{at}/v1/jobs",
                    json={"kind": "audit", "contract": "coins"},
                    headers={"Authorization": f"Bearer {key.said.split()[-1]}"},
                    timeout=10,
                )

            refused = ask()
            assert (refused.status_code, refused.json()["code"]) == (503, "DATABASE_READ_ONLY"), refused.text
            process = start("run", DATABASE_URL=standby.url)
            process.until("the database takes no changes: it is a standby of another server; waiting until it does")
            assert process.popen.poll() is None
            with psycopg.connect(standby.url, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            _until_complete(standby.url, process)
            _until(lambda: ask().status_code == 202, lambda: ask().text)
            process.popen.send_signal(signal.SIGTERM)
            assert process.ended() == 0
            assert "Traceback" not in process.said, process.said
