"""Two steps of work at once: chunks are fetched and made ready as rows, a few ahead of their writer.

Between the two stands a bounded queue (:class:`Prefetcher`): a full one stops the step in front.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from indexer.block_records import BlockColumns
from indexer.chain.records.log_columns import LogChunk
from indexer.intervals import RangeSet
from indexer.store.rows.writer import Rows
from indexer.sync.rows.router import Router

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


@dataclass(slots=True)
class Prepared:
    """A range of blocks as it will be written."""

    first: int
    last: int
    rows: Rows
    blocks: BlockColumns
    requests: int
    bytes: int


def prepared_chunks(chunks: Iterator[LogChunk], router: Router) -> Iterator[Prepared]:
    """Chunks as they will be written, their logs decoded."""
    for chunk in chunks:
        logs, blocks = chunk.columns, chunk.block_columns
        if logs is None:
            rows = router.rows(chunk.logs, dict(zip(blocks.numbers.tolist(), blocks.times.tolist(), strict=True)))
        else:
            rows = router.columns(logs, blocks.times[np.searchsorted(blocks.numbers, logs.block_numbers)])
        yield Prepared(chunk.first, chunk.last, rows, blocks, chunk.requests, chunk.bytes)


def joined_parts(parts: Sequence[Prepared]) -> Iterator[Prepared]:
    """Neighbours as one: a commit costs the same for many rows as for few."""
    whole: Prepared | None = None
    for part in parts:
        if whole is not None and part.first == whole.last + 1:
            whole.last = part.last
            whole.rows.add(part.rows)
            whole.blocks = BlockColumns.joined([whole.blocks, part.blocks])
            whole.requests += part.requests
            whole.bytes += part.bytes
            continue
        if whole is not None:
            yield whole
        whole = part
    if whole is not None:
        yield whole


def silent_parts(ranges: RangeSet) -> Iterator[Prepared]:
    """Ranges in which nothing can have been said (by a factory without children): no node need be asked."""
    for first, last in ranges:
        yield Prepared(first, last, Rows(), BlockColumns.of({}), 0, 0)
