"""How processes end when they are told to: whatever their threads hold, and whatever hangs in them."""

from __future__ import annotations

import signal
import subprocess
import sys
from random import Random

import pytest

PATIENCE = 60.0

# The main thread is inside of the event's lock most of the time, as that of a command that waits for its end.
WAITING = """
import signal, threading
from indexer import signals
stop = threading.Event()
acts = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: stop.set}
with signals.acting_on(acts):
    print("ready", flush=True)
    while not stop.is_set():
        stop.wait(0.0)
print("stopped in order", flush=True)
"""

# Nothing here heeds the order, and the main thread never returns to the interpreter.
HANGING = """
import signal, threading
from indexer import signals
lock = threading.Lock()
with signals.acting_on({{signal.SIGTERM: lambda: print("told", flush=True)}}, within={within}, status={status}):
    print("ready", flush=True)
    with lock:
        lock.acquire()
"""


SLOW = """
import signal
from indexer import signals
with signals.acting_on({signal.SIGTERM: lambda: print("told", flush=True)}, within=1000, insistent=False):
    print("ready", flush=True)
    input()
print("stopped in order", flush=True)
"""


def started(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.promise("O-06")
@pytest.mark.parametrize("seed", range(8))
def test_processes_that_are_told_at_random_moments_all_stop_in_order(seed):
    random = Random(seed)
    processes = [started(WAITING) for _ in range(5)]
    for process in processes:
        # So many turns of an empty loop, and no time: any instruction of the other process may be the one.
        for _ in range(random.randrange(20_000)):
            pass
        process.send_signal(random.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))
    for process in processes:
        said, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (0, "stopped in order\n")


@pytest.mark.promise("O-06")
def test_a_second_order_ends_a_process_that_hangs_at_once():
    process = started(HANGING.format(within=1000, status=None))
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    while process.poll() is None:  # the first and one right behind it are one order
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    process.stdout.close()


def test_a_process_that_hangs_ends_when_its_time_is_over():
    for status, found in ((None, 128 + signal.SIGTERM), (0, 0)):
        process = started(HANGING.format(within=0.2, status=status))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == found


def test_orders_that_another_process_passes_on_do_not_add_up():
    process = started(SLOW)
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    for _ in range(100):
        process.send_signal(signal.SIGTERM)
    said, _ = process.communicate("go on\n", timeout=PATIENCE)
    assert (process.returncode, said) == (0, "stopped in order\n")


def test_threads_that_hang_do_not_hold_up_the_end():
    """An executor's threads are waited for by the interpreter, whatever they are at."""
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
from indexer import signals
signals._THREADS_END_WITHIN[False] = 0.1
executor = ThreadPoolExecutor(1)
executor.submit(threading.Event().wait)
print("ready", flush=True)
signals.end_soon(7)
"""
    process = started(code)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 7


def test_what_was_there_before_is_there_again():
    from indexer import signals

    acts = {signal.SIGTERM: lambda: None, signal.SIGHUP: lambda: None}
    before = {number: signal.getsignal(number) for number in acts}
    with signals.acting_on(acts):
        assert all(signal.getsignal(number) != before[number] for number in acts)
    assert {number: signal.getsignal(number) for number in acts} == before
