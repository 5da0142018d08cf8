"""The threads that answer requests."""

import threading
from collections.abc import Callable

from api.http_server import LONG, Threads, quick_at_once


class Task:
    """A request that is answered by a function."""

    def __init__(self, answer: Callable[[], object]) -> None:
        self._answer = answer
        self.done, self.cancelled = threading.Event(), False

    def service(self) -> None:
        """Answer it."""
        try:
            self._answer()
        finally:
            self.done.set()

    def cancel(self) -> None:
        """Nobody answers it."""
        self.cancelled = True


def test_so_many_at_once_and_the_others_wait() -> None:
    threads = Threads(2, "test")
    go, begun = threading.Event(), threading.Semaphore(0)
    tasks = [Task(lambda: (begun.release(), go.wait(10))) for _ in range(3)]
    for task in tasks:
        threads.add_task(task)
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    assert (threads.active_count, threads.waiting) == (2, 1)
    go.set()
    assert all(task.done.wait(10) for task in tasks)
    assert not threads.shutdown(timeout=10)
    assert threads.active_count == 0


class Clock:
    """A time that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Held(Task):
    """A request that is answered when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        super().__init__(lambda: (self.begun.set(), self.go.wait(60)))


def test_only_few_quick_requests_are_answered_at_once_and_a_slow_one_keeps_no_other_waiting():
    clock = Clock()
    threads = Threads(4, "test", quick=2, clock=clock)
    tasks = [Held() for _ in range(5)]
    for task in tasks:
        threads.add_task(task)
    assert all(task.begun.wait(10) for task in tasks[:2])
    threads.tend()
    assert not any(task.begun.wait(0.05) for task in tasks[2:])
    assert (threads.active_count, threads.waiting, threads.keeps_waiting) == (2, 3, True)
    clock.now += LONG + 0.001
    threads.tend()  # both are slow: two others have their turn
    assert all(task.begun.wait(10) for task in tasks[2:4])
    threads.tend()
    assert not tasks[4].begun.wait(0.05)
    clock.now += LONG + 0.001
    threads.tend()  # all threads are taken
    assert not tasks[4].begun.wait(0.05)
    tasks[0].go.set()
    assert tasks[4].begun.wait(10)
    for task in tasks:
        task.go.set()
    assert all(task.done.wait(10) for task in tasks)
    # Afterwards as many at once as before.
    again = [Held() for _ in range(3)]
    for task in again:
        threads.add_task(task)
    assert all(task.begun.wait(10) for task in again[:2])
    assert not again[2].begun.wait(0.05)
    for task in again:
        task.go.set()
    assert all(task.done.wait(10) for task in again)
    assert not threads.shutdown(timeout=10)
    assert threads.active_count == 0


def test_how_many_are_quick_follows_from_the_cores():
    assert quick_at_once(0, threads=8, processes=1, cores=2) == 5
    assert quick_at_once(0, threads=8, processes=2, cores=2) == 3
    assert quick_at_once(0, threads=8, processes=4, cores=2) == 2
    assert quick_at_once(0, threads=8, processes=1, cores=64) == 8
    assert quick_at_once(0, threads=1, processes=1, cores=2) == 1
    assert quick_at_once(6, threads=8, processes=1, cores=2) == 6


def test_a_task_that_fails_costs_no_thread(caplog) -> None:
    def fail() -> None:
        raise SystemExit("a defect")

    threads = Threads(1, "test")
    tasks = [Task(fail), Task(lambda: None)]
    for task in tasks:
        threads.add_task(task)
    assert all(task.done.wait(10) for task in tasks)
    threads.shutdown(timeout=10)
    assert "defect in the thread of a request" in caplog.text


def test_what_no_thread_has_taken_is_cancelled_at_the_end() -> None:
    threads = Threads(1, "test")
    go, begun = threading.Event(), threading.Event()
    first, second = Task(lambda: (begun.set(), go.wait(10))), Task(lambda: None)
    threads.add_task(first)
    assert begun.wait(10)
    threads.add_task(second)
    assert threads.shutdown(timeout=0.05)  # the first is still being answered
    assert (first.cancelled, second.cancelled) == (False, True)
    go.set()
    assert first.done.wait(10)
    assert not second.done.is_set()
