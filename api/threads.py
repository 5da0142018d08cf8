"""The threads that answer requests, and the queue they take them from."""

import logging
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

log = logging.getLogger(__name__)

#: Told to a thread that is to end.
_END: Final = None


class Threads:
    """In place of waitress's dispatcher of tasks, with a queue made in C.

    waitress's is a list under a condition: to hand a request over takes several locks, each of which the receiving
    thread may be woken for in vain while the giving one still holds the interpreter.

    Args:
        count: so many threads.
        name: of the threads.
    """

    def __init__(self, count: int, name: str) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        #: How many threads are at work now.
        self.active_count = 0
        self._counting = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many tasks no thread has taken yet."""
        return self._queue.qsize()

    def add_task(self, task: Any) -> None:
        """Queue a task: an object with ``service`` and ``cancel``."""
        self._queue.put(task)

    def shutdown(self, timeout: float = 5.0) -> bool:
        """End all threads once they have done what they are doing; what no thread has taken is cancelled.

        Args:
            timeout: seconds to wait for the threads.

        Returns:
            Whether something was cancelled.
        """
        pending = []
        with suppress(Empty):
            while True:
                pending.append(self._queue.get_nowait())
        for _ in self._threads:
            self._queue.put(_END)
        end = monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))
        if still := sum(thread.is_alive() for thread in self._threads):
            log.warning("%d requests are still being answered", still)
        for task in pending:
            task.cancel()
        return bool(pending)

    def _work(self) -> None:
        take = self._queue.get
        while (task := take()) is not _END:
            with self._counting:
                self.active_count += 1
            try:
                task.service()
            except BaseException:  # a thread that ended would be missing from then on
                log.exception("defect in the thread of a request")
            finally:
                with self._counting:
                    self.active_count -= 1
