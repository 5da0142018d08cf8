"""Child processes that never outlive us, even when we are killed with SIGKILL.

A child is not started directly but by a small supervisor, a second Python process that runs this file and uses the
standard library alone. The supervisor waits for one of two things: that the child ends by itself, or that no process
wants it any more. Both ways of wanting it are undone by the kernel when a process dies, so no death is too sudden for
them:

- *a pipe* (:func:`tied`): the supervisor's standard input is a pipe that only we hold open;
- *a lock* (:class:`Keeper`): every process that uses a shared server holds a shared ``flock`` on one file, and the
  supervisor waits for the exclusive one.

The supervisor leads a session of its own: a Ctrl-C in the terminal reaches us alone, and we decide in which order
things stop. On Linux the child also receives its stop signal when the supervisor itself is killed; elsewhere such a
child stays and is found by the next start.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True)
class Account:
    """The operating system's user and group that a child runs as."""

    uid: int
    gid: int

    def arguments(self) -> dict[str, Any]:
        """What ``subprocess`` needs to run a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Keeper:
    """The two lock files of a shared server.

    Attributes:
        owners: each process that uses the server holds a shared ``flock`` on it.
        supervisor: the supervisor holds an exclusive ``flock`` on it as long as it lives; it contains its process id.
    """

    owners: Path
    supervisor: Path


def supervisor_command(
    command: Sequence[str],
    *,
    keeper: Keeper | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace: float = 20.0,
    account: Account | None = None,
) -> list[str]:
    """The command line of a supervisor that runs ``command``.

    Args:
        command: the program and its arguments.
        keeper: wait for these locks; without it, for the end of standard input.
        stop_signal: what asks the program to stop.
        grace: seconds that it has to do so, before SIGKILL.
        account: run the program (not the supervisor) as this user; only root may ask for that.
    """
    arguments = ["--stop-signal", str(int(stop_signal)), "--grace", str(grace)]
    if keeper is not None:
        arguments += ["--owners", str(keeper.owners), "--supervisor", str(keeper.supervisor)]
    if account is not None:
        arguments += ["--uid", str(account.uid), "--gid", str(account.gid)]
    # -I and -S: neither the environment nor site-packages can break the supervisor, and it starts in 20 ms.
    return [sys.executable, "-I", "-S", __file__, *arguments, "--", *command]


@contextlib.contextmanager
def tied(
    command: Sequence[str],
    *,
    output: IO[bytes] | int | None = None,
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace: float = 20.0,
    account: Account | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child for as long as this block, and no longer than this process.

    Args:
        command: the program and its arguments.
        output: where its standard output and error go (a file, ``subprocess.DEVNULL``); None: to ours.
        environment: its whole environment; None: ours.
        stop_signal: what asks it to stop at the end of the block.
        grace: seconds that it then has before SIGKILL.
        account: run the program as this user; only root may ask for that.

    Yields:
        The supervisor's process. It ends when the child does: ``poll()`` and ``wait()`` give the child's exit status,
        128 + N for a death by signal N, 127 if the program could not be run.
    """
    process = subprocess.Popen(
        supervisor_command(command, stop_signal=stop_signal, grace=grace, account=account),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()


def start_supervisor(command: Sequence[str], log: IO[bytes]) -> None:
    """Run a :func:`supervisor_command` with a keeper; returns as soon as the supervisor holds its lock."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=True)


def lock(file: IO[bytes] | int, operation: int) -> bool:
    """Take a ``flock`` without waiting; False if another holds it."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# The supervisor. Everything below runs in its process.


def _die_with_parent(stop_signal: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    supervisor = os.getpid()

    def arrange() -> None:
        # Runs in the child after setuid, which would clear the setting, and before exec.
        prctl(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != supervisor:
            os._exit(1)  # the supervisor died before prctl took effect

    return arrange


def _wait_until_unwanted(owners: Path | None) -> None:
    """Return when no process wants the child any more."""
    if owners is None:
        while os.read(0, 4096):
            pass
    else:
        fcntl.flock(os.open(owners, os.O_RDWR), fcntl.LOCK_EX)  # held until this process has ended


def _supervise(arguments: argparse.Namespace) -> NoReturn:
    # A handler must take no lock: the code that it interrupts may hold it.
    told, tell = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(tell, b"."))
    held = None if arguments.supervisor is None else arguments.supervisor.open("r+b")
    if held is not None:
        fcntl.flock(held, fcntl.LOCK_EX)
        if os.fork():
            os._exit(0)  # our parent may rely on the lock from here on, and never has a zombie to reap
        os.setsid()
        held.write(b"%d\n" % os.getpid())
        held.flush()
    demoted = {} if arguments.uid is None else Account(arguments.uid, arguments.gid).arguments()
    try:
        child = subprocess.Popen(
            arguments.command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent(arguments.stop_signal),  # noqa: PLW1509 - one thread so far
            **demoted,
        )
    except OSError as error:
        sys.stderr.write(f"cannot run {arguments.command[0]}: {error}\n")
        sys.exit(127)

    def stop() -> None:
        child.send_signal(arguments.stop_signal)
        try:
            child.wait(arguments.grace)
        except subprocess.TimeoutExpired:
            child.kill()

    def stop_when_told() -> None:
        os.read(told, 1)
        stop()

    def stop_when_unwanted() -> None:
        _wait_until_unwanted(arguments.owners)
        stop()

    for duty in (stop_when_told, stop_when_unwanted):
        threading.Thread(target=duty, daemon=True).start()
    status = child.wait()
    if held is not None:
        held.close()  # first: who gets the owners' lock next must find that nothing runs
    os._exit(status if status >= 0 else 128 - status)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a program for as long as a process wants it.")
    parser.add_argument("--owners", type=Path)
    parser.add_argument("--supervisor", type=Path)
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


if __name__ == "__main__":
    _supervise(_parse(sys.argv[1:]))
