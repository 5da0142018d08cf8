"""Two steps of work at once, with a bounded queue between them: a full queue stops the one in front."""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_UP_EVERY = 0.1


class Prefetcher(Generic[T]):
    """Draws items from an iterable on a thread of its own, a few ahead of their consumer.

    Use it as a context manager: at its end the thread closes the iterable, if it is a generator, and ends.

    Args:
        items: where they come from; used on the thread only.
        room: how many may wait.
        halt: set here when the items are wanted no more, so that ``items`` need not wait for the next to notice it.
        name: of the thread.
    """

    def __init__(self, items: Iterable[T], *, room: int, halt: threading.Event, name: str) -> None:
        self._items = items
        self._room = room
        self._halt = halt
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._draw, name=name, daemon=True)

    def __enter__(self) -> "Prefetcher[T]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def take(self, stop: threading.Event, most: int = 1) -> list[T]:
        """The next items: as many as wait, up to ``most``; waits for one. Empty at the end, or when stopped.

        Raises:
            BaseException: what the iterable raised, after the items that came before it.
        """
        with self._changed:
            while not self._waiting:
                if self._failure is not None:
                    raise self._failure
                if self._ended or stop.is_set():
                    return []
                self._changed.wait(_LOOK_UP_EVERY)
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._changed.notify_all()
            return taken

    def _draw(self) -> None:
        items: Iterator[T] = iter(self._items)
        try:
            for item in items:
                with self._changed:
                    while len(self._waiting) >= self._room and not self._halt.is_set():
                        self._changed.wait(_LOOK_UP_EVERY)
                    if self._halt.is_set():
                        return
                    self._waiting.append(item)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
            self._failure = error
        finally:
            if isinstance(items, Generator):
                items.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
