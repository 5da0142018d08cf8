"""The threads that answer requests."""

import threading
from collections.abc import Callable

from api.http_server import Threads


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
