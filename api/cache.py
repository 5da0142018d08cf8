"""Redis as a cache: answers that are costly to count, kept under the versions they were made from.

It is only ever a cache. When Redis is away every read finds nothing and every write does nothing, quickly: after a
failure it is left alone for some seconds, so that a dead Redis costs one short time-out, not one a request.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import redis

log = logging.getLogger(__name__)

TIMEOUT: Final = 0.2
PAUSE: Final = 5.0


class Cache:
    """Small values by key, each for a time.

    Args:
        url: ``redis://...``, or None for a cache that keeps nothing.
    """

    def __init__(
        self, url: str | None, *, prefix: str = "gapless:api:", clock: Callable[[], float] = monotonic
    ) -> None:
        self._prefix = prefix
        self._clock = clock
        self._away_until = float("-inf")
        self._redis = (
            redis.Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None, health_check_interval=30
            )
            if url
            else None
        )

    def get(self, key: str) -> bytes | None:
        """The value, or None if there is none or Redis is away."""
        if self._redis is None or self._clock() < self._away_until:
            return None
        try:
            value = self._redis.get(self._prefix + key)
        except (redis.RedisError, OSError) as error:
            self._failed(error)
            return None
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes, seconds: int) -> None:
        """Keep a value for so long, if Redis is there."""
        if self._redis is None or self._clock() < self._away_until:
            return
        try:
            self._redis.set(self._prefix + key, value, ex=seconds)
        except (redis.RedisError, OSError) as error:
            self._failed(error)

    def evaluate(self, script: str, key: str, *arguments: int) -> list[int] | None:
        """Run a script on a key, at once for all who share it; None if Redis is away or there is none."""
        if self._redis is None or self._clock() < self._away_until:
            return None
        try:
            answer: Any = self._redis.eval(script, 1, self._prefix + key, *arguments)
        except (redis.RedisError, OSError) as error:
            self._failed(error)
            return None
        return [int(part) for part in answer]

    def ping(self) -> bool | None:
        """Whether Redis answers; None if there is none."""
        if self._redis is None:
            return None
        try:
            return bool(self._redis.ping())
        except (redis.RedisError, OSError):
            return False

    def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            self._redis.close()

    def _failed(self, error: Exception) -> None:
        if self._clock() >= self._away_until:
            log.warning("Redis does not answer, going on without it for %d s: %s", PAUSE, type(error).__name__)
        self._away_until = self._clock() + PAUSE
