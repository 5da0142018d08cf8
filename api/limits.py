"""Limits: a token bucket for every key and every client address, and how many requests of each are under way.

The buckets are in Redis, so that all processes share them; while Redis is away each process keeps its own, which lets
through at most as many times more as there are processes.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from math import ceil
from time import monotonic
from typing import Final

from api.bounded_cache import BoundedCache
from api.errors import ApiError
from indexer.store.cache import Cache

#: Bytes of the buckets that one process keeps by itself; beyond that it forgets the oldest, which forgives.
_LOCAL_BYTES: Final = 8 * 2**20
#: Characters of an address with its port; what is longer is none.
_MOST_ADDRESS: Final = 100

_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]+|\[([0-9a-fA-F:.]+)\](?::[0-9]+)?")

# KEYS[1] the bucket, ARGV[1] what it is proven with, ARGV[2] requests a minute. What is not proven is a full bucket.
# Redis' own clock: those of the API's machines may differ.
_TAKE: Final = """
local function tag(text) return redis.sha1hex(ARGV[1] .. redis.sha1hex(ARGV[1] .. text)) end
local rate = tonumber(ARGV[2])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local tokens, at = rate, now
local kept = redis.pcall('GET', KEYS[1])
if type(kept) == 'string' and #kept < 200 then
  local proof, text = string.match(kept, '^(%x+) (.*)$')
  if proof and proof == tag(text) then
    local left, since = string.match(text, '^(%S+) (%d+)$')
    tokens, at = tonumber(left) or rate, tonumber(since) or now
  end
end
tokens = math.min(rate, tokens + math.max(0, now - at) * rate / 60000)
local taken = 0
if tokens >= 1 then tokens = tokens - 1; taken = 1 end
local text = string.format('%.17g %.0f', tokens, now)
redis.call('SET', KEYS[1], tag(text) .. ' ' .. text, 'PX', 60000)
return {taken, math.floor(tokens * 1000)}
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking a bucket.

    Attributes:
        allowed: whether there was a token.
        rate: tokens that a full bucket has; so many come back in a minute.
        tokens: left.
    """

    allowed: bool
    rate: int
    tokens: float

    @property
    def retry_after(self) -> int:
        """Seconds until there is a token."""
        return max(1, ceil((1 - self.tokens) * 60 / self.rate))

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-10)."""
        full_in = ceil((self.rate - self.tokens) * 60 / self.rate)
        return {
            "RateLimit-Policy": f'"default";q={self.rate};w=60',
            "RateLimit": f'"default";r={int(self.tokens)};t={full_in}',
        }


class RateLimits:
    """The buckets.

    Args:
        cache: Redis, or nothing.
        clock: seconds, for the buckets of this process alone.
    """

    def __init__(self, cache: Cache, clock: Callable[[], float] = monotonic) -> None:
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._local: BoundedCache[str, tuple[float, float]] = BoundedCache(_LOCAL_BYTES)

    def take(self, bucket: str, rate: int) -> Taken:
        """Take a token.

        Args:
            bucket: whose.
            rate: requests a minute.
        """
        # A bucket of another size is another bucket: a rate that is changed holds at once.
        name = f"{bucket}:{rate}"
        match self._cache.count(_TAKE, f"limit:{name}", rate):
            case [(0 | 1) as taken, left] if 0 <= left <= rate * 1000:
                return Taken(taken == 1, rate, left / 1000)
        now = self._clock()
        with self._lock:
            tokens, at = self._local.get(name) or (float(rate), now)
            tokens = min(float(rate), tokens + (now - at) * rate / 60)
            allowed = tokens >= 1
            tokens -= allowed
            self._local.put(name, (tokens, now))
        return Taken(allowed, rate, tokens)


class Concurrency:
    """How many requests of one client a process works on at once.

    Args:
        most: so many; 0: any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._under_way: dict[str, int] = {}

    def enter(self, client: str) -> None:
        """Count a request that begins.

        Raises:
            ApiError: OVERLOADED: it must not; it is not counted.
        """
        if not self._most:
            return
        with self._lock:
            if self._under_way.get(client, 0) >= self._most:
                raise ApiError(
                    "OVERLOADED",
                    f"more than {self._most} requests of one client at once: send them one after the other",
                    retry_after=1,
                )
            self._under_way[client] = self._under_way.get(client, 0) + 1

    def leave(self, client: str) -> None:
        """Count a request that has ended."""
        if not self._most:
            return
        with self._lock:
            left = self._under_way.pop(client) - 1
            if left:
                self._under_way[client] = left


class ClientAddress:
    """Whose request it is, behind proxies too.

    Args:
        proxies: addresses and networks of proxies whose ``X-Forwarded-For`` is believed.
    """

    def __init__(self, proxies: tuple[str, ...]) -> None:
        self._networks = [ip_network(proxy) for proxy in proxies]

    def of(self, peer: str, forwarded: str | None) -> str:
        """The bucket of a client: its IPv4 address, or the /64 network of its IPv6 address.

        Args:
            peer: as of :meth:`named`.
            forwarded: likewise.
        """
        return self._written(peer, forwarded)[0]

    def named(self, peer: str, forwarded: str | None) -> str:
        """The address of a client.

        Args:
            peer: who is connected.
            forwarded: the header ``X-Forwarded-For``: each proxy adds its client's address at the end. What
                stands before the last address that is no trusted proxy may be forged.
        """
        return self._written(peer, forwarded)[1]

    def is_proxy(self, peer: str) -> bool:
        """Whether who is connected is a proxy that is believed."""
        found = _address(peer) if self._networks else None
        return found is not None and any(found in network for network in self._networks)

    def _written(self, peer: str, forwarded: str | None) -> tuple[str, str]:
        """Both names of a client. That of a peer that is no proxy, or names no client, is written once."""
        if forwarded is None or not self._networks:
            return _of_peer(peer)
        return _names(self._found(peer, forwarded))

    def _found(self, peer: str, forwarded: str) -> IPv4Address | IPv6Address | None:
        found = _address(peer)
        for hop in reversed(forwarded.split(",")):
            if found is None or not any(found in network for network in self._networks):
                break
            given = _address(hop.strip())
            if given is None:
                break
            found = given
        return found


@lru_cache(maxsize=4096)
def _of_peer(peer: str) -> tuple[str, str]:
    return _names(_address(peer))


def _names(found: IPv4Address | IPv6Address | None) -> tuple[str, str]:
    """The bucket of a client, and its address."""
    if found is None:
        return "unknown", "unknown"
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, 64), strict=False)), str(found)
    return str(found), str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    return _read_address(text) if len(text) <= _MOST_ADDRESS else None


@lru_cache(maxsize=4096)
def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    if with_port := _WITH_PORT.fullmatch(text):  # as some proxies write it
        text = with_port[1] or with_port[2]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
