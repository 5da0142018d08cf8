"""Redis as what it is here: a cache. Gone, slow or flushed, everything still works, only slower."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import redis

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 0.25
_PAUSE_SECONDS = 5.0


class Cache:
    """Values by key, JSON inside, each with an age at which it ends.

    After a failure Redis is left alone for a few seconds, so that an absent one costs a time-out now and then and not
    one at every look.
    """

    def __init__(self, url: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Connects to nothing yet.

        Args:
            url: ``redis://…``; None: a cache that holds nothing.
            clock: seconds that only grow.
        """
        self._client = None if url is None else redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )  # fmt: skip
        self._clock = clock
        self._away_until = 0.0

    @property
    def is_away(self) -> bool:
        """Whether Redis is not asked at the moment."""
        return self._client is None or self._clock() < self._away_until

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values of those keys that are there."""
        if self._client is None or self.is_away or not keys:
            return {}
        try:
            values = self._client.mget(list(keys))
        except redis.RedisError as error:
            self._failed(error)
            return {}
        assert isinstance(values, list)
        return {key: msgspec.json.decode(value) for key, value in zip(keys, values, strict=True) if value is not None}

    def set_many(self, values: Mapping[str, Any], seconds: int) -> None:
        """Keeps values for so many seconds."""
        if self._client is None or self.is_away or not values:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(key, msgspec.json.encode(value), ex=seconds)
                pipeline.execute()
        except redis.RedisError as error:
            self._failed(error)

    def delete(self, keys: Sequence[str]) -> None:
        """Forgets keys."""
        if self._client is None or self.is_away or not keys:
            return
        try:
            self._client.delete(*keys)
        except redis.RedisError as error:
            self._failed(error)

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()

    def _failed(self, error: redis.RedisError) -> None:
        self._away_until = self._clock() + _PAUSE_SECONDS
        log.warning("Redis does not answer (%s): going on without the cache", type(error).__name__)
