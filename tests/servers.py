"""Servers that not every machine has the programs of: Postgres of other versions, standbys, pgbouncer.

None of them outlives the test run, none runs as root, and all listen on 127.0.0.1 only.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest

from indexer.processes import Account, tied
from indexer.store.embedded.programs import binaries as embedded_binaries
from indexer.store.embedded.shared import NotInstalledError, let_through, unprivileged

_PATIENCE = 60.0
_USER = "gapless"
_PASSWORD = "for-this-test-alone"
NEWEST = 18


@dataclass(frozen=True)
class Cluster:
    """A Postgres that runs.

    Attributes:
        url: of a superuser and the database ``gapless``.
        programs: the directory of its programs.
        data: its data directory.
        account: what it runs as; None: as we do.
    """

    url: str
    programs: Path
    data: Path
    account: Account | None


def version(programs: Path) -> int:
    """The major version of Postgres' programs."""
    said = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return int(said.split()[-1 if "(" not in said else 2].partition(".")[0])


def older() -> Path:
    """The programs of the oldest Postgres on this machine that is older than the embedded one; skips without one."""
    given = os.environ.get("GAPLESS_TEST_POSTGRES_BIN")
    found = [Path(given)] if given else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for programs in sorted((one for one in found if (one / "initdb").exists()), key=version):
        if version(programs) < NEWEST:
            return programs
    pytest.skip("no Postgres before 18 is installed here (apt install postgresql-15, or GAPLESS_TEST_POSTGRES_BIN)")


def any_with(program: str) -> Path:
    """The directory of a Postgres' programs that has this one; skips without any."""
    try:
        found = [embedded_binaries()]
    except NotInstalledError:
        found = []
    for programs in [*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]:
        if (programs / program).exists():
            return programs
    pytest.skip(f"no Postgres with {program} is installed here")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def postgres(directory: Path, programs: Path, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A new cluster of these programs, with an empty database ``gapless``."""
    account = _place(directory, programs)
    data = directory / "data"
    secret = directory / "password"
    secret.write_text(_PASSWORD)
    secret.chmod(0o644)
    _call(
        account,
        *(programs / "initdb", f"--pgdata={data}", f"--username={_USER}", f"--pwfile={secret}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
    )
    given = {"timezone": "UTC", **(settings or {})}
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{key} = '{value}'\n" for key, value in given.items())
    with running(data, programs, account) as cluster:
        with psycopg.connect(_maintenance(cluster.url), autocommit=True) as connection:
            connection.execute("CREATE DATABASE gapless")
        yield cluster


@contextmanager
def standby(of: Cluster, directory: Path) -> Iterator[Cluster]:
    """A hot standby that streams from a cluster."""
    account = _place(directory, of.programs)
    data = directory / "data"
    source = psycopg.conninfo.conninfo_to_dict(of.url)
    _call(
        account,
        *(of.programs / "pg_basebackup", f"--pgdata={data}", "--write-recovery-conf", "--no-sync", "--checkpoint=fast"),
        f"--dbname=host=127.0.0.1 port={source['port']} user={_USER} password={_PASSWORD}",
    )
    with running(data, of.programs, account) as cluster:
        yield cluster


@contextmanager
def running(data: Path, programs: Path, account: Account | None) -> Iterator[Cluster]:
    """A server on a data directory, for as long as the block."""
    port = free_port()
    url = f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{port}/gapless"
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    only_here = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with _tied([*command, *only_here], data.parent / "log", account, signal.SIGINT) as answers:
        answers(_maintenance(url))
        yield Cluster(url, programs, data, account)


@contextmanager
def pgbouncer(of: str, directory: Path, mode: str, **settings: str) -> Iterator[str]:
    """A pgbouncer in front of a database; skips where it is not installed.

    Args:
        of: the database's URL.
        directory: for its files.
        mode: ``session`` or ``transaction``.
        settings: of its configuration, besides.

    Yields:
        The URL through it.
    """
    program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed here (apt install pgbouncer)")
    to = psycopg.conninfo.conninfo_to_dict(of)
    account = _place(directory, Path(program))
    port = free_port()
    (directory / "users").write_text(f'"{to["user"]}" "{to["password"]}"\n')
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(directory / "users"),
        "pool_mode": mode,
        "max_client_conn": "400",
        "default_pool_size": "60",
        **settings,
    }
    where = f"* = host=127.0.0.1 port={to['port']} password={to['password']}"
    text = "\n".join(["[databases]", where, "[pgbouncer]", *(f"{key} = {value}" for key, value in lines.items()), ""])
    (directory / "pgbouncer.ini").write_text(text)
    url = f"postgresql://{to['user']}:{to['password']}@127.0.0.1:{port}/{to['dbname']}"
    with _tied([program, str(directory / "pgbouncer.ini")], directory / "log", account, signal.SIGTERM) as answers:
        answers(url)
        yield url


def _maintenance(url: str) -> str:
    """The database that every cluster has from its beginning."""
    return url.rpartition("/")[0] + "/postgres"


def _place(directory: Path, program: Path) -> Account | None:
    """Makes a directory in which an account that is not root may work; returns the account."""
    directory.mkdir(parents=True)
    account = unprivileged(directory / "data")
    let_through(account, directory / "data", program)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    return account


def _call(account: Account | None, *command: object) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    arguments = account.arguments() if account else {}
    made = subprocess.run(
        [str(one) for one in command],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        check=False,
        **arguments,
    )
    assert made.returncode == 0, made.stdout + made.stderr


@contextmanager
def _tied(
    command: list[str], log: Path, account: Account | None, stop_signal: signal.Signals
) -> Iterator[Callable[[str], None]]:
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = stack.enter_context(tied(command, output=output, stop_signal=stop_signal, account=account))

        def answers(url: str) -> None:
            deadline = time.monotonic() + _PATIENCE
            while True:
                try:
                    psycopg.connect(url, connect_timeout=5).close()
                    return
                except psycopg.OperationalError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(f"{command[0]} does not answer:\n{log.read_text()}")
                    time.sleep(0.05)

        yield answers
