"""A server program that several of our processes share: the first one in starts it, the last one out stops it.

Four files in the server's directory carry the agreement; all locks are ``flock`` and vanish with their holder:

* ``owners.lock``: shared by every process that uses the server. Its exclusive lock means: none does.
* ``supervisor.lock``: exclusive to the supervisor (:mod:`indexer.processes`) for as long as the server runs.
* ``start.lock``: exclusive while a process looks whether the server runs and starts it if not.
* ``port``: the TCP port, kept so that a ``psql`` line from yesterday works today.

An owner that is killed leaves no trace: the kernel drops its lock, and the supervisor stops the server if it was the
last one.

Postgres refuses to run as root, and a server that needs no privilege should have none. When we are root it runs as
the owner of its data or, for new data, as ``nobody``: an account that every machine has, so that none must be
created.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import secrets
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from indexer.errors import GaplessError
from indexer.processes import Account, Keeper, lock, start_supervisor, supervisor_command

log = logging.getLogger(__name__)

_POLL = 0.02  # seconds between two looks at a server that starts or stops
_LOG_LIMIT = 16 * 2**20  # bytes; a larger log starts anew, with one predecessor kept


class NotInstalledError(GaplessError):
    """An embedded server is wanted, and its wheel is not installed."""


class ServerExitedError(GaplessError):
    """The server ended while it was starting; ``output`` is what it said."""

    def __init__(self, name: str, output: str) -> None:
        super().__init__(f"the embedded {name} server ended while starting:\n{output}")
        self.output = output


class SharedServer:
    """One server program with its directory.

    Args:
        name: what messages call it.
        directory: where its files are; made when missing.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory.resolve()
        self.log_file = self.directory / "log"
        self._owners = self.directory / "owners.lock"
        self._supervisor = self.directory / "supervisor.lock"
        self._start = self.directory / "start.lock"
        self._log_start = 0

    @contextlib.contextmanager
    def hold(self, ensure: Callable[[], str]) -> Iterator[str]:
        """Be an owner for as long as this block.

        Args:
            ensure: makes sure that the server runs and answers, and returns its URL; one process at a time is in it.

        Yields:
            What ``ensure`` returned.
        """
        self.prepare()
        with self._owners.open("r+b") as owners:
            if not lock(owners, fcntl.LOCK_SH):
                log.info("waiting for the previous embedded %s server to stop", self.name)
                fcntl.flock(owners, fcntl.LOCK_SH)
            try:
                with self._start.open("r+b") as start:
                    fcntl.flock(start, fcntl.LOCK_EX)
                    url = ensure()
                yield url
            finally:
                if lock(owners, fcntl.LOCK_EX):
                    self.stop(patience=4.0)
                elif not lock(owners, fcntl.LOCK_SH):
                    self._wait_for_stop(4.0)  # the supervisor saw that we were the last before we did

    def prepare(self) -> None:
        """Make the directory and the lock files."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in (self._owners, self._supervisor, self._start):
                path.touch()
        except OSError as error:
            raise GaplessError(
                f"cannot write to {self.directory}: {error.strerror}",
                hint="Set GAPLESS_DATA_DIR to a directory of yours, or set DATABASE_URL and REDIS_URL.",
            ) from error

    def supervised(self) -> bool:
        """Whether a supervisor, and so the server, runs."""
        with self._supervisor.open("rb") as file:
            return not lock(file, fcntl.LOCK_SH)

    def stop(self, patience: float) -> bool:
        """Ask the supervisor to stop the server, and wait for that up to ``patience`` seconds.

        Returns:
            Whether the server ran.
        """
        self.prepare()
        while self.supervised():
            # While its lock is held, the process id in the file is the supervisor's; it writes it a little later.
            if text := self._supervisor.read_text().strip():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(text), signal.SIGTERM)
                self._wait_for_stop(patience)
                return True
            time.sleep(_POLL)
        return False

    def _wait_for_stop(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while self.supervised():
            if time.monotonic() > deadline:
                log.info("the embedded %s server is still stopping and will finish by itself", self.name)
                return
            time.sleep(_POLL)

    def launch(self, command: Sequence[str], *, stop_signal: signal.Signals, account: Account | None) -> None:
        """Start the server under a supervisor; :meth:`wait_until_ready` follows."""
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_LIMIT:
            self.log_file.replace(self.log_file.with_name("log.1"))
        self._supervisor.write_bytes(b"")  # an old process id must not be taken for the new supervisor's
        keeper = Keeper(self._owners, self._supervisor)
        with self.log_file.open("ab") as output:
            self._log_start = output.tell()
            start_supervisor(
                supervisor_command(command, keeper=keeper, stop_signal=stop_signal, grace=60.0, account=account), output
            )

    def answers_already(self, ready: Callable[[], bool], patience: float) -> bool:
        """Whether the server runs; waits until it answers. The arguments are those of :meth:`wait_until_ready`."""
        if not self.supervised():
            return False
        try:
            self.wait_until_ready(ready, patience)
        except ServerExitedError:
            return False
        return True

    def wait_until_ready(self, ready: Callable[[], bool], patience: float) -> None:
        """Wait until the server answers.

        Args:
            ready: whether it does; called again and again.
            patience: seconds.

        Raises:
            ServerExitedError: it ended instead.
            GaplessError: it did not answer in time.
        """
        begin = time.monotonic()
        while not ready():
            waited = time.monotonic() - begin
            if not self.supervised():
                raise ServerExitedError(self.name, self._recent_log())
            if waited > patience:
                raise GaplessError(
                    f"the embedded {self.name} server does not answer after {patience:.0f} s",
                    hint=f"Its log is {self.log_file}.",
                )
            time.sleep(min(_POLL + waited / 10, 0.5))  # each refused attempt is a line in the server's log

    def last_port(self) -> int | None:
        """The port that the server listens on, or did when it last ran."""
        file = self.directory / "port"
        return int(file.read_text()) if file.exists() else None

    def port(self, *, renew: bool = False) -> int:
        """The remembered port, or a free one if there is none, it is taken, or ``renew`` asks for another."""
        remembered = self.last_port()
        if remembered is not None and not renew:
            deadline = time.monotonic() + 1.0  # a server that was killed may be gone in a moment
            while time.monotonic() < deadline:
                if is_free(remembered):
                    return remembered
                time.sleep(_POLL)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        if remembered is not None:
            log.warning(
                "port %d of the embedded %s server is taken by another program; it moves to %d",
                remembered,
                self.name,
                port,
            )
        write_private(self.directory / "port", f"{port}\n")
        return port

    def password(self) -> str:
        """The server's password, made on first use and kept in a file that only its owner can read."""
        file = self.directory / "password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24) + "\n")
        return file.read_text().strip()

    def _recent_log(self) -> str:
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-20:])


def write_private(file: Path, content: str | bytes, account: Account | None = None) -> None:
    """Write a file of mode 0600, all at once, owned by ``account`` if that is not None."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f"{file.name}.", delete=False) as draft:
        draft.write(content.encode() if isinstance(content, str) else content)
    if account is not None:
        os.chown(draft.name, account.uid, account.gid)
    Path(draft.name).replace(file)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def unprivileged(data: Path) -> Account | None:
    """The account for the server whose data are in ``data``; None: our own, because we are not root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def let_through(account: Account | None, *paths: Path) -> None:
    """Let the account reach these paths: every directory above them becomes searchable (not readable) by others.

    A clone under ``/root`` is the usual case. Each directory that is changed is named in the log.
    """
    if account is None:
        return
    for path in paths:
        for directory in reversed(path.resolve().parents):
            status = directory.stat()
            own = status.st_uid == account.uid and status.st_mode & stat.S_IXUSR
            if not own and not status.st_mode & stat.S_IXOTH:
                directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
                log.warning("made %s searchable (chmod o+x): the embedded servers do not run as root", directory)


def publish(account: Account | None, tree: Path) -> None:
    """Make an installed program's files readable by others, which they are not under ``umask 077``."""
    if account is None or tree.stat().st_mode & stat.S_IXOTH:
        return
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
