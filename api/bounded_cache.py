"""A cache with a bound in bytes, for all that is kept under what clients write.

What was not used for the longest time goes first, one entry after the other: a client that asks in many shapes costs
the others an entry now and then, and never all of them.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Bytes that an entry costs beside its key and its value.
_ENTRY: Final = 200


class BoundedCache(Generic[K, V]):
    """Values by key, as many as have room. Thread-safe.

    Args:
        most_bytes: keys and values together, as :func:`weight` finds.
        evicted: told of each entry that is taken out to make room; called with the lock held.
    """

    def __init__(self, most_bytes: int, evicted: Callable[[K, V], None] | None = None) -> None:
        self.most_bytes = most_bytes
        self._evicted = evicted
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._used = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def used_bytes(self) -> int:
        """How much is kept."""
        return self._used

    def get(self, key: K) -> V | None:
        """The value, which counts as used; None where there is none."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V) -> bool:
        """Keep a value, in the place of one that is there; says whether it is kept: not what has no room alone."""
        cost = weight(key) + weight(value) + _ENTRY
        with self._lock:
            before = self._kept.pop(key, None)
            self._used -= before[1] if before is not None else 0
            if cost > self.most_bytes:
                return False
            self._kept[key] = (value, cost)
            self._used += cost
            while self._used > self.most_bytes:
                oldest, (gone, freed) = self._kept.popitem(last=False)
                self._used -= freed
                if self._evicted is not None:
                    self._evicted(oldest, gone)
        return True

    def drop(self, key: K) -> None:
        """Take an entry out, if it is there."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._used -= before[1] if before is not None else 0

    def once(self, key: K, make: Callable[[], V]) -> V:
        """The value; made and kept where there is none. Two threads may both make it: equal keys mean equal values."""
        found = self.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found


def weight(value: object) -> int:
    """Bytes that a value holds: itself, and what is in its collections and dataclasses."""
    size = sys.getsizeof(value)
    if isinstance(value, str | bytes | int | float | None):
        return size
    if isinstance(value, Mapping):
        return size + sum(weight(key) + weight(item) for key, item in value.items())
    if isinstance(value, tuple | list | set | frozenset):
        return size + sum(map(weight, value))
    if is_dataclass(value):
        return size + sum(weight(_member(value, one.name)) for one in fields(value))
    return size


def _member(value: object, name: str) -> Any:
    return getattr(value, name, None)
