"""Looking at processes, any of which may end while one looks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence

import psutil


def living(among: Iterable[psutil.Process] | None = None) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Processes, all of the machine if not told which, with their arguments; those that ended meanwhile left out."""
    for process in psutil.process_iter() if among is None else among:
        try:
            # Its number may be another one's by now.
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            arguments = process.cmdline()
        except psutil.Error:  # it has just ended, or is not ours to look at
            continue
        yield process, arguments


def spawned_by(pid: int | None = None) -> list[psutil.Process]:
    """What `multiprocessing` started for the process `pid`, this one by default; not its resource tracker."""
    children = psutil.Process(os.getpid() if pid is None else pid).children()
    return [child for child, arguments in living(children) if "spawn_main" in " ".join(arguments)]


def wait_until_gone(processes: Sequence[psutil.Process], patience: float = 60.0) -> None:
    """Wait until the last of them has ended or is a zombie.

    Raises:
        AssertionError: One still lives after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while left := [process for process, _ in living(processes)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
