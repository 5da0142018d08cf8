"""What a process does when it is told to stop: at once, whatever its threads hold.

A handler of Python's runs between two instructions of the main thread, which may hold the very lock that the handler
needs: ``Event.set`` within ``Event.wait`` never returns. So the handlers here do nothing. The interpreter writes each
signal's number to a pipe (``signal.set_wakeup_fd``), also while the main thread is inside of a call that does not
return, and a thread that holds no locks reads it and acts.
"""

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

log = logging.getLogger(__name__)

WITHIN = 4.5
"""Seconds from a signal to the end of the process: service managers and clusters begin to count at five."""

# A terminal's Ctrl-C comes from the terminal and from what runs us, such as make or a container's init: one order.
_SAME = 0.05

# Seconds that threads have to end once the work is done: of a process that was told to stop, and of any other.
_THREADS_END_WITHIN = {True: 0.5, False: 5.0}


@contextmanager
def acting_on(
    acts: Mapping[signal.Signals, Callable[[], None]],
    *,
    within: float = WITHIN,
    status: int | None = None,
    insistent: bool = True,
) -> Iterator[None]:
    """Acts on signals in place of what they do otherwise; to be entered in the main thread.

    Signals with the same act as SIGTERM are orders to stop. A second order ends the process at once, and so does the
    time that the first one leaves. What was committed stays; open transactions are rolled back by Postgres.

    Args:
        acts: what to do, on a thread of its own. That of SIGTERM must be there.
        within: seconds from the first order, after which the process is ended where the block was not left.
        status: of a process that had to be ended; None: 128 and the signal's number.
        insistent: whether a second order ends the process at once; not where another process passes orders on.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watch = _Watch(reader, acts, within, status, insistent=insistent)
    fd_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {signum: signal.signal(signum, _nothing) for signum in acts}
    thread = threading.Thread(target=watch.run, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(fd_before)
        os.close(writer)
        thread.join()


def end_soon(status: int) -> None:
    """Makes sure that the interpreter comes to its end once it leaves, though threads of it hang, such as at a node.

    Args:
        status: with which the process ends where it does not end by itself.
    """
    leaving = threading.Event()
    # The one hook that is called before the threads of executors are waited for, which may be for ever.
    threading._register_atexit(leaving.set)  # type: ignore[attr-defined]

    def end() -> None:
        leaving.wait()
        time.sleep(_THREADS_END_WITHIN[_Watch.was_ordered])
        os._exit(status)

    threading.Thread(target=end, name="end", daemon=True).start()


def _nothing(*_: object) -> None:
    """Runs in the main thread: touches nothing."""


class _Watch:
    """Reads signals from a pipe, on a thread of its own, until its other end is closed."""

    was_ordered = False
    """Whether this process was ever told to stop."""

    def __init__(
        self,
        reader: int,
        acts: Mapping[signal.Signals, Callable[[], None]],
        within: float,
        status: int | None,
        *,
        insistent: bool,
    ) -> None:
        self._reader = reader
        self._acts = acts
        self._within = within
        self._status = status
        self._insistent = insistent
        self._ordered_at = 0.0
        self.ordered: signal.Signals | None = None
        """The first order to stop, once there was one."""

    def run(self) -> None:
        try:
            while signums := os.read(self._reader, 64):
                for signum in signums:
                    self._act(signum)
                if self.ordered is not None:
                    break
            if self.ordered is not None:
                self._count_down(self.ordered)
        finally:
            os.close(self._reader)

    def _act(self, number: int) -> None:
        if number not in self._acts:
            return  # another one that has a handler of Python's, such as of a child's end
        signum = signal.Signals(number)
        act = self._acts[signum]
        if act == self._acts[signal.SIGTERM]:
            if self.ordered is not None:
                if self._insistent and time.monotonic() - self._ordered_at > _SAME:
                    self._end(signum, f"was told to stop again, by {signum.name}")
                return
            self.ordered, self._ordered_at = signum, time.monotonic()
            _Watch.was_ordered = True
        try:
            act()
        except Exception:
            log.exception("what was to be done on %s failed: this is a defect", signum.name)

    def _count_down(self, ordered: signal.Signals) -> None:
        """Until the block is left, or the process must be ended."""
        end = time.monotonic() + self._within
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._reader], [], [], left)
            if ready:
                signums = os.read(self._reader, 64)
                if not signums:
                    return  # the block was left in time
                for number in signums:
                    self._act(number)
        self._end(ordered, f"did not come to an end within {self._within:g} s of {ordered.name}")

    def _end(self, signum: signal.Signals, why: str) -> None:
        with suppress(Exception):
            log.warning("the process %s: what it was at is abandoned; nothing that was committed is lost", why)
            sys.stdout.flush()
            sys.stderr.flush()
        if (processes := sys.modules.get("multiprocessing")) is not None:
            with suppress(Exception):
                for child in processes.active_children():
                    child.terminate()
        os._exit(128 + signum if self._status is None else self._status)
