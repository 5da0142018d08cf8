"""``gapless run`` as an operator meets it: real processes and servers, and everything that can be wrong around them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
import requests
from psycopg import sql

from indexer.demo.world import manifest_text
from indexer.store import leases
from indexer.sync.head import decisions
from tests.integration.schema_revisions import FIRST, downgrade
from tests.ready import ReadyProcess

GAPLESS = [sys.executable, "-c", "from indexer.cli import main; main()"]
PATIENCE = 60.0


class Process:
    """One command, and what it has said so far."""

    def __init__(self, arguments: list[str], environment: dict[str, str], cwd: Path) -> None:
        self.popen = ReadyProcess(
            [*GAPLESS, *arguments],
            env={**os.environ, "LOG_FORMAT": "text", "PYTHONUNBUFFERED": "1", **environment},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.said += line

    def until(self, text: str) -> None:
        _until(lambda: text in self.said, lambda: f"it never said {text!r}, but:\n{self.said[-3000:]}")

    def ended(self) -> int:
        status = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status


def _until(condition: Callable[[], Any], complaint: Callable[[], str]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, complaint()
        threading.Event().wait(0.05)
    return found


@pytest.fixture
def node_url(shared_history) -> str:
    return shared_history.world.w3.provider.endpoint_uri


@pytest.fixture
def manifest(shared_history, tmp_path) -> Path:
    path = tmp_path / "indexer.toml"
    path.write_text(manifest_text(shared_history.world))
    return path


@pytest.fixture
def start(manifest, node_url, migrated_url, redis_url, tmp_path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        given = {
            "RPC_URL": node_url,
            "DATABASE_URL": migrated_url,
            "REDIS_URL": redis_url,
            "GAPLESS_MANIFEST": str(manifest),
        }
        processes.append(Process(list(arguments), given | environment, tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.popen.kill()
        process.popen.wait()


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        return row[0] if row else None


COMPLETE = """
    SELECT bool_and(s.coverage @> int8multirange(int8range(s.start_block, n.tip_number + 1)))
    FROM gapless.sources s JOIN gapless.chains n USING (chain_id)
"""


def _until_complete(url: str, process: Process) -> None:
    _until(lambda: _one(url, COMPLETE), lambda: f"never complete:\n{process.said[-3000:]}")


def test_it_indexes_everything_and_stops_in_order(start, migrated_url):
    process = start("run")
    _until_complete(migrated_url, process)
    _until(lambda: _one(migrated_url, "SELECT count(*) FROM gapless.tokens"), lambda: process.said)
    _until(lambda: _one(migrated_url, "SELECT count(*) FROM coins.supply"), lambda: process.said)
    # What the endpoints were asked is there before a minute's sample counts it.
    _until(lambda: _one(migrated_url, "SELECT count(*) FROM gapless.samples WHERE requests > 0"), lambda: process.said)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(5) == 0
    assert "Traceback" not in process.said
    status = start("status", "--json")
    assert status.ended() == 0
    assert '"complete": true' in status.said
    shown = start("status", COLUMNS="200", NO_COLOR="1")
    assert shown.ended() == 0
    (logs,) = [line for line in shown.said.splitlines() if "eth_getLogs" in line]
    assert "http://127.0.0.1:" in logs
    assert "/***" in logs


def test_it_runs_as_a_role_with_the_least_that_it_needs(start, database_url):
    """As docker-compose.yml does it: roles, migrate, grants, run, from an empty database on."""
    prefix = f"t{uuid4().hex[:8]}"
    passwords = {"INDEXER_PASSWORD": "a password", "MIGRATOR_PASSWORD": "a password", "API_PASSWORD": "another"}
    as_role = "postgresql://{}:a%20password@" + database_url.partition("@")[2]
    indexer = as_role.format(f"{prefix}_indexer")
    for command, url in (
        (("grants", "--apply", "--prefix", prefix), database_url),
        (("migrate",), as_role.format(f"{prefix}_migrator")),
        (("grants", "--apply", "--prefix", prefix), database_url),
    ):
        process = start(*command, DATABASE_URL=url, **passwords)
        assert process.ended() == 0, process.said
        assert "password" not in process.said
    process = start("run", DATABASE_URL=indexer)
    _until_complete(database_url, process)
    _until(lambda: _one(database_url, "SELECT count(*) FROM gapless.tokens"), lambda: process.said)
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(5) == 0
    for trouble in ("Traceback", "permission denied", "must be owner"):
        assert trouble not in process.said, process.said
    others = f"schemaname IN ('gapless', 'coins') AND tableowner <> '{prefix}_indexer'"
    strangers = f"SELECT count(*) FROM pg_tables WHERE {others}"
    assert _one(database_url, strangers) == 0
    assert _one(database_url, f"SELECT rolsuper FROM pg_roles WHERE rolname = '{prefix}_indexer'") is False
    audit = start("audit", DATABASE_URL=indexer)
    assert audit.ended() == 0, audit.said


def test_a_second_one_stands_by_and_takes_over(start, migrated_url):
    first = start("run")
    first.until("following demo from")
    second = start("run")
    second.until("standing by")
    assert "following demo from" not in second.said
    first.popen.kill()
    second.until("following demo from")
    _until_complete(migrated_url, second)


@pytest.mark.promise("O-15")
def test_jobs_belong_to_the_leader_alone(start, migrated_url):
    first = start("run")
    first.until("following demo from")
    second = start("run")
    second.until("standing by")
    ask = """
        INSERT INTO gapless.jobs (kind, parameters, created_by)
        SELECT kind, '{"contract": "coins", "from_block": 1, "to_block": 2}', 'key 1'
        FROM unnest(ARRAY['audit', 'audit', 'audit', 'repair', 'repair', 'redecode']) AS given (kind) RETURNING 1
    """
    done = "SELECT bool_and(state = 'done') FROM gapless.jobs"
    for leader in (first, second):
        _one(migrated_url, ask)
        _until(lambda: _one(migrated_url, done), lambda: first.said + second.said)
        mine = f"SELECT count(*) FROM gapless.jobs WHERE worker LIKE '%:{leader.popen.pid}:%'"
        assert _one(migrated_url, mine) == 6
        if leader is first:
            first.popen.send_signal(signal.SIGTERM)
            second.until("following demo from")


@pytest.mark.promise("H-06")
def test_a_takeover_takes_less_than_fifteen_seconds():
    """The lease ends; the next look comes; one lock is waited for; the look after that succeeds."""
    assert leases.LASTS + 2 * decisions.LONGEST + 2 * 1.0 < 15


@pytest.mark.promise("H-06")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_that_is_killed_or_frozen_is_replaced_in_time(start, migrated_url, how):
    first, second = start("run"), None
    first.until("following demo from")
    second = start("run")
    second.until("standing by")
    first.popen.send_signal(how)
    second.until("following demo from")
    _until_complete(migrated_url, second)
    if how == signal.SIGSTOP:
        # Woken up, it finds that another leads, writes nothing and waits for its turn.
        first.popen.send_signal(signal.SIGCONT)
        first.until("standing by")
        second.popen.send_signal(signal.SIGTERM)
        assert second.ended() == 0
        _until(lambda: first.said.count("following demo from") == 2, lambda: first.said[-3000:])
        assert "Traceback" not in first.said, first.said


def test_a_leader_that_stops_in_order_is_replaced_at_once(start, migrated_url):
    first = start("run")
    first.until("following demo from")
    second = start("run")
    second.until("standing by")
    first.popen.send_signal(signal.SIGTERM)
    assert first.ended() == 0
    left = "SELECT count(*) FROM gapless.leases WHERE holder NOT IN (SELECT application_name FROM pg_stat_activity)"
    assert _one(migrated_url, left) == 0
    second.until("following demo from")


@pytest.mark.parametrize(
    "broken", ["indexer.service.chain_jobs._AtPace.get_next_fire_time", "indexer.store.leases.Renewer._run"]
)
def test_a_process_in_which_nothing_happens_any_more_ends(start, migrated_url, monkeypatch, broken):
    """Whatever kills the thread: a living process that does nothing would never be started anew."""
    module, cls, name = broken.rsplit(".", 2)
    code = f"""
import {module} as module, threading
from indexer.cli import main
before, indexing = module.{cls}.{name}, threading.Event()
def broken(self, *arguments):
    if any(thread.name.startswith("ThreadPool") for thread in threading.enumerate()) or {cls == "Renewer"}:
        raise SystemError("broken for the test")
    return before(self, *arguments)
module.{cls}.{name} = broken
main()
"""
    monkeypatch.setitem(globals(), "GAPLESS", [sys.executable, "-c", code])
    process = start("run")
    assert process.ended() == 70
    assert "nothing is indexed any more; this process ends" in process.said, process.said


@pytest.mark.promise("O-04")
def test_without_redis_it_only_does_without_the_cache(start, migrated_url):
    process = start("run", REDIS_URL=f"redis://:secret@127.0.0.1:{_closed_port()}/0")
    _until_complete(migrated_url, process)
    _until(lambda: _one(migrated_url, "SELECT count(*) FROM gapless.tokens"), lambda: process.said)
    process.until("going on without the cache")
    assert "secret" not in process.said


HURRIED = dict.fromkeys(("statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout"), "500ms")
OTHERWISE = {"search_path": "", "bytea_output": "escape", "row_security": "off", "synchronous_commit": "off"}


def test_what_a_database_has_for_those_who_ask_by_hand_is_not_in_the_way(start, migrated_url):
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        known = {row[0] for row in connection.execute("SELECT name FROM pg_settings").fetchall()}
        database = sql.Identifier(connection.info.dbname)
        for name, value in (HURRIED | OTHERWISE).items():
            if name in known:
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET {} TO {}").format(database, sql.Identifier(name), sql.Literal(value))
                )
    assert (applied := start("apply", "--yes")).ended() == 0, applied.said
    quiet = migrated_url + "?options=" + quote(" ".join(f"-c {name}=0" for name in HURRIED if name in known))
    with psycopg.connect(quiet) as other:
        other.execute("LOCK TABLE coins.transfer IN ACCESS EXCLUSIVE MODE")
        process = start("run")
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > interval '2 s'"
        _until(lambda: _one(quiet, waits), lambda: process.said)
    _until_complete(quiet, process)
    assert "trying again" not in process.said, process.said
    backfill = start("backfill", "coins")
    assert backfill.ended() == 0, backfill.said


def _stops_in_order(process: Process) -> None:
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "INFO    cli.run  stopped" in process.said, process.said
    assert "Traceback" not in process.said
    assert "trying again" not in process.said.rpartition("running")[2]


@pytest.mark.promise("O-06")
def test_requests_that_are_never_answered_do_not_hold_it_up_when_it_is_to_stop(start, manifest, migrated_url):
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    asked.append(silent.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        process = start("run", RPC_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        _until(lambda: asked and asked[0].recv(1), lambda: process.said)
        _stops_in_order(process)
        for one in asked:
            one.close()


@pytest.mark.promise("O-06")
def test_statements_that_wait_for_a_lock_do_not_hold_it_up_when_it_is_to_stop(start, migrated_url):
    applied = start("apply", "--yes")
    assert applied.ended() == 0, applied.said
    with psycopg.connect(migrated_url) as other:
        other.execute("LOCK TABLE coins.transfer IN ACCESS EXCLUSIVE MODE")
        process = start("run")
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^gapless run' AND wait_event_type = 'Lock'"
        _until(lambda: _one(migrated_url, waits), lambda: process.said)
        _stops_in_order(process)


def test_a_dead_postgres_is_named(start):
    url = f"postgresql://gapless:secret@127.0.0.1:{_closed_port()}/gapless"
    for command in (["run"], ["backfill", "coins"], ["status"]):
        process = start(*command, DATABASE_URL=url)
        assert process.ended() == 1
        assert "cannot use Postgres at 127.0.0.1" in process.said
        assert "DATABASE_URL" in process.said
        assert "secret" not in process.said
        assert "Traceback" not in process.said


def test_a_node_that_is_not_there_is_waited_for(start, migrated_url, node_url):
    dead = f"http://127.0.0.1:{_closed_port()}/v2/secret-key"
    process = start("run", RPC_URL=dead)
    process.until("check the chain's rpc URLs")
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "secret-key" not in process.said
    again = start("run")
    _until_complete(migrated_url, again)


def test_another_chain_is_refused(start, manifest, migrated_url):
    manifest.write_text(manifest.read_text().replace("id = 31337", "id = 5"))
    process = start("run")
    process.until("it serves chain id 31337, the manifest says 5")
    assert _one(migrated_url, "SELECT count(*) FROM coins.transfer") == 0


def test_a_manifest_with_five_errors(start, tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("""
[chains.main]
id = 1
rpc = ["${NOT_SET}"]

[contracts.one]
chain = "main"
abi = "missing.json"
address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB49"
start_block = 20
end_block = 10
colour = "red"
""")
    for command in (["check"], ["run"], ["migrate"]):
        process = start(*command, GAPLESS_MANIFEST=str(broken))
        assert process.ended() == 2
        for part in ("NOT_SET", "missing.json", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB49", "end_block", "colour"):
            assert part in process.said
        assert "has 5 problems" in process.said
        assert "Traceback" not in process.said


def test_backfill_by_hand_resumes_and_then_has_nothing_to_do(start, migrated_url):
    part = start("backfill", "coins", "--event", "Transfer", "--from", "20", "--to", "60")
    assert part.ended() == 0, part.said
    assert _one(migrated_url, "SELECT count(*) FROM coins.transfer WHERE block_number NOT BETWEEN 20 AND 60") == 0
    assert _one(migrated_url, "SELECT count(*) FROM coins.transfer") > 0
    assert _one(migrated_url, "SELECT count(*) FROM coins.approval") == 0
    whole = start("backfill", "coins")
    assert whole.ended() == 0, whole.said
    assert _one(migrated_url, "SELECT count(*) FROM coins.approval") > 0
    shared = start("backfill", "zoo", "--workers", "2")
    assert shared.ended() == 0, shared.said
    assert _one(migrated_url, "SELECT count(*) FROM zoo.texts") > 0
    nothing = start("backfill", "coins")
    assert nothing.ended() == 0
    assert "nothing to do" in nothing.said
    for wrong, right in (
        (["nobody"], "it has: coins"),
        (["coins", "--event", "Nothing"], "it has: Approval, Transfer"),
    ):
        process = start("backfill", *wrong)
        assert process.ended() == 1
        assert right in process.said


@pytest.mark.promise("O-02")
def test_postgres_is_restarted_under_it(start, migrated_url):
    """Connections that are cut are opened anew; what was under way is done again."""
    process = start("run")
    process.until("following demo from")
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        for _ in range(5):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            threading.Event().wait(0.3)
    _until_complete(migrated_url, process)
    assert "Traceback" not in process.said, process.said


@pytest.mark.promise("O-02")
def test_a_full_disk_is_told_and_waited_for(start, migrated_url):
    """Imitated by a trigger that raises what Postgres raises then (SQLSTATE 53100), in the middle of COPY."""
    assert start("migrate").ended() == 0
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE USING ERRCODE = '53100', MESSAGE = 'could not extend file: No space left on device';
            END $$
        """)
        connection.execute("CREATE TRIGGER full_disk BEFORE INSERT ON coins.transfer EXECUTE FUNCTION full_disk()")
        port = _closed_port()
        process = start("run", ADMIN_PORT=str(port))
        process.until("No space left on device")
        process.until("nothing was written by this step; trying again")
        assert _one(migrated_url, "SELECT count(*) FROM coins.transfer") == 0
        told = "SELECT state = 'waiting' AND state_reason LIKE '%disk is full%' FROM gapless.chains"
        _until(lambda: _one(migrated_url, told), lambda: process.said[-3000:])
        ready = f"http://127.0.0.1:{port}/ready"
        _until(lambda: "disk is full" in requests.get(ready, timeout=10).text, lambda: process.said[-3000:])
        assert requests.get(ready, timeout=10).status_code == 503
        connection.execute("DROP TRIGGER full_disk ON coins.transfer")
        _until(lambda: requests.get(ready, timeout=10).status_code == 200, lambda: process.said[-3000:])
        following = "SELECT state = 'following' AND state_reason IS NULL FROM gapless.chains"
        _until(lambda: _one(migrated_url, following), lambda: process.said[-3000:])
    _until_complete(migrated_url, process)
    assert _one(migrated_url, "SELECT count(*) FROM coins.transfer") > 0
    assert "Traceback" not in process.said, process.said


@pytest.mark.promise("O-05")
def test_a_head_that_stands_still_is_told_and_that_it_moves_again(start, migrated_url):
    port = _closed_port()
    process = start("run", ADMIN_PORT=str(port), READY_FAILS_WHEN_STALLED="true")
    _until_complete(migrated_url, process)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("UPDATE gapless.chains SET moved_at = now() - interval '1 day'")
        process.until("demo is stalled: no new block is indexed since")
        answer = requests.get(f"http://127.0.0.1:{port}/ready", timeout=10)
        assert (answer.status_code, "no new block is indexed of demo" in answer.text) == (503, True)
        metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        assert 'gapless_chain_stalled{chain="demo"} 1.0' in metrics
        shown = start("status", "--json")
        assert shown.ended() == 0
        assert '"state": "stalled"' in shown.said
        connection.execute("UPDATE gapless.chains SET moved_at = now()")
    process.until("demo moves again")
    assert process.said.count("is stalled") == 1
    assert requests.get(f"http://127.0.0.1:{port}/ready", timeout=10).status_code == 200


def _made_read_only(url: str, setting: str) -> None:
    name = url.rpartition("/")[2]
    with psycopg.connect(url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {setting}")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


@pytest.mark.promise("O-02")
def test_a_database_that_takes_no_changes_is_waited_for(start, migrated_url):
    _made_read_only(migrated_url, "on")
    process = start("run")
    process.until("the database takes no changes: default_transaction_read_only is on there; waiting until it does")
    _made_read_only(migrated_url, "off")
    _until_complete(migrated_url, process)
    _made_read_only(migrated_url, "on")
    process.until("read-only transaction")
    _made_read_only(migrated_url, "off")
    followed = process.said.count("following demo from")
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("UPDATE gapless.leases SET expires_at = '-infinity' WHERE name LIKE 'follow %'")
        connection.execute("UPDATE gapless.chains SET state = 'unknown'")
        connection.execute("DELETE FROM gapless.leases")
    _until(lambda: process.said.count("following demo from") > followed, lambda: process.said[-3000:])
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "Traceback" not in process.said, process.said
    _made_read_only(migrated_url, "on")
    for command in ("backfill", "coins"), ("migrate",):
        refused = start(*command)
        refused.ended()
        assert "Traceback" not in refused.said, refused.said
    _made_read_only(migrated_url, "off")


def test_a_schema_of_an_earlier_version_is_left_to_those_who_use_it(start, migrated_url):
    from indexer.store.apply import migrate

    assert start("migrate").ended() == 0
    downgrade(migrated_url, FIRST)
    process = start("run")
    process.until("waiting for: gapless migrate")
    assert _one(migrated_url, "SELECT version_num FROM gapless.alembic_version") != migrate.latest_revision()
    assert start("migrate").ended() == 0
    _until_complete(migrated_url, process)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_refused_in_a_sentence(start, postgres_url, encoding):
    name = f"test_{encoding.lower()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        try:
            process = start("run", DATABASE_URL=postgres_url.rpartition("/")[0] + "/" + name)
            assert process.ended() == 1
            assert f"the database {name} has the encoding {encoding}" in process.said
            assert "Traceback" not in process.said
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_parameters_of_the_url_and_foreign_defaults_do_no_harm(start, migrated_url):
    name = migrated_url.rpartition("/")[2]
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        for setting in (
            "datestyle = 'SQL, DMY'",
            "intervalstyle = 'iso_8601'",
            "timezone = 'Asia/Kathmandu'",
            "default_transaction_isolation = 'repeatable read'",
            "client_encoding = 'LATIN1'",
        ):
            connection.execute(f"ALTER DATABASE {name} SET {setting}")
    url = f"{migrated_url}?options=-c%20work_mem%3D7MB&application_name=ours&keepalives_idle=7"
    process = start("run", DATABASE_URL=url)
    _until_complete(migrated_url, process)
    seen = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ours gapless run %'"
    assert _one(migrated_url, seen) > 0
    assert "Traceback" not in process.said, process.said


def test_options_of_the_url_are_those_of_the_session(migrated_url):
    from indexer.store.database import create_engine

    engine = create_engine(f"{migrated_url}?options=-c%20work_mem%3D7MB")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW work_mem").scalar_one() == "7MB"
        assert connection.exec_driver_sql("SHOW timezone").scalar_one() == "UTC"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"
    engine.dispose()
