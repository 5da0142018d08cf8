"""Redis as a cache: answers that are costly to count, kept under the versions they were made from, and tokens.

It is only ever a cache (:mod:`indexer.store.cache`). When Redis is away every read finds nothing and every write does
nothing, quickly; what somebody else wrote there is as good as nothing.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import redis

from indexer.store import cache
from indexer.store.cache import Lookups


class Cache(cache.Cache):
    """Small values by key, each for a time; keys of the API's own begin with a prefix.

    Args:
        url: ``redis://...``, or None for a cache that keeps nothing.
        prefix: what the API's own keys begin with.
        secret: tells what values are signed with; None: nothing is kept but what :meth:`evaluate` counts.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        url: str | None,
        *,
        prefix: str = "gapless:api:",
        secret: Callable[[], bytes | None] | None = None,
        clock: Callable[[], float] = monotonic,
        lookups: Lookups | None = None,
    ) -> None:
        super().__init__(url, secret=secret, clock=clock, lookups=lookups)
        self._prefix = prefix

    def get(self, key: str) -> bytes | None:
        """The value, or None if there is none that can be believed, or Redis is away."""
        name = self._prefix + key
        return self.get_many([name]).get(name)

    def put(self, key: str, value: bytes, seconds: int) -> None:
        """Keep a value for so long, if Redis is there."""
        self.set_many({self._prefix + key: value}, seconds)

    def evaluate(self, script: str, key: str, *arguments: int) -> list[int] | None:
        """Run a script on a key, at once for all who share it; None if Redis is away or has garbage there."""
        if self._client is None or self.is_away:
            return None
        try:
            answer: Any = self._client.eval(script, 1, self._prefix + key, *arguments)
            return [int(part) for part in answer]
        except redis.ResponseError:
            return None  # another kind of value stands there
        except (redis.RedisError, OSError) as error:
            self._failed(error)
            return None
        except (TypeError, ValueError):
            return None

    def ping(self) -> bool | None:
        """Whether Redis answers; None if there is none."""
        if self._client is None:
            return None
        try:
            return bool(self._client.ping())
        except (redis.RedisError, OSError):
            return False
