"""Redis as what it is here: a cache. Gone, slow, flushed or full of garbage, everything still works, only slower.

What is kept is signed (HMAC-SHA-256) together with its key and the time at which it ends, so a value that another
program put there, that stands under another key, or that is too old, is as good as none. Counters, which scripts change
in Redis itself, are proven there with a key of their own each.

The indexer keeps tokens there (:class:`TokenCache`): what was read once is not read again by another deployment, or
for a database that was rebuilt. Light to import: the API uses it too.
"""

import hashlib
import hmac
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis

log = logging.getLogger(__name__)

Lookups = Callable[[str, int], None]
"""Is told how many lookups had an outcome: ``hit``, ``miss`` or ``refused``."""

_TIMEOUT_SECONDS = 0.25
_PAUSE_SECONDS = 5.0
_TAG = hashlib.sha256().digest_size
_UNTIL = 8

KEPT_SECONDS = 30 * 24 * 3600
NEGATIVE_KEPT_SECONDS = 3600
"""For how long it is believed that an address is no token: it may become one."""


def signing_key(secret: bytes) -> bytes:
    """The key that values are signed with; the same for all that share a secret."""
    return hmac.digest(secret, b"gapless: values in Redis", "sha256")


def seal(key: bytes, name: str, value: bytes, until: float) -> bytes:
    """A value as it is kept.

    Args:
        key: :func:`signing_key`.
        name: its key in Redis.
        value: any bytes.
        until: Unix time at which it ends.
    """
    ends = int(until).to_bytes(_UNTIL)
    return _tag(key, name, ends + value) + ends + value


def unseal(key: bytes, name: str, kept: bytes, now: float) -> bytes | None:
    """The value that was kept; None where it is not ours, or has ended.

    Args:
        key: :func:`signing_key`.
        name: its key in Redis.
        kept: what stands there.
        now: Unix time.
    """
    tag, rest = kept[:_TAG], kept[_TAG:]
    if len(rest) < _UNTIL or not hmac.compare_digest(tag, _tag(key, name, rest)):
        return None
    return rest[_UNTIL:] if int.from_bytes(rest[:_UNTIL]) > now else None


def _tag(key: bytes, name: str, rest: bytes) -> bytes:
    named = name.encode()
    return hmac.digest(key, len(named).to_bytes(4) + named + rest, "sha256")


def counter_of(key: bytes, name: str) -> tuple[str, str]:
    """Where a counter stands in Redis, and what its scripts prove it with.

    Args:
        key: :func:`signing_key`.
        name: of the counter.

    Returns:
        A key in Redis, which tells nothing of the name and is another one for another secret, and hex digits that only
        this counter is proven with: a reader of Redis can forge no other counter with them, and no value.
    """
    stands = hmac.digest(key, b"stands" + name.encode(), "sha256")
    proof = hmac.digest(key, b"proves" + name.encode(), "sha256")
    return f"gapless:counter:{stands[:16].hex()}", proof.hex()


class Cache:
    """Values by key, each with an age at which it ends. Thread-safe.

    After a failure Redis is left alone for a few seconds, so that an absent one costs a time-out now and then and not
    one at every look.

    Attributes:
        counts: how many values that were asked for were there (``hit``), were not (``miss``), and were not ours or
            too old (``refused``).
    """

    def __init__(
        self,
        url: str | None,
        *,
        secret: Callable[[], bytes | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        lookups: Lookups | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: ``redis://…``; None: a cache that holds nothing.
            secret: tells what values are signed with; while it tells None, nothing is kept and nothing believed.
            clock: seconds that only grow.
            wall: Unix time.
            lookups: told of each outcome, and how often.
        """
        self._lookups = lookups
        self._client = None if url is None else redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, retry=None
        )  # fmt: skip
        self._secret = secret or (lambda: None)
        self._clock = clock
        self._wall = wall
        self._away_until = float("-inf")
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    @property
    def is_away(self) -> bool:
        """Whether Redis is not asked at the moment."""
        return self._client is None or self._clock() < self._away_until

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those keys that are there, ours, and not too old."""
        if self._client is None or not keys:
            return {}
        key = None if self.is_away else self._key()
        kept: list[object] = [None] * len(keys)
        if key is not None:
            client = self._client
            answer = self._asked(lambda: client.mget(list(keys)))
            kept = list(answer) if isinstance(answer, list) and len(answer) == len(keys) else kept
        found: dict[str, bytes] = {}
        now = self._wall()
        refused = 0
        for name, value in zip(keys, kept, strict=True):
            if not isinstance(value, bytes) or key is None:
                continue
            opened = unseal(key, name, value, now)
            if opened is None:
                refused += 1
            else:
                found[name] = opened
        self._count(hit=len(found), refused=refused, miss=len(keys) - len(found) - refused)
        return found

    def set_many(self, values: Mapping[str, bytes], seconds: int) -> bool:
        """Keeps values for so many seconds; returns whether they are kept."""
        if self._client is None or self.is_away or not values or (key := self._key()) is None:
            return False
        until = self._wall() + seconds
        sealed = {name: seal(key, name, value, until) for name, value in values.items()}
        client = self._client

        def keep() -> bool:
            with client.pipeline(transaction=False) as pipeline:
                for name, value in sealed.items():
                    pipeline.set(name, value, ex=seconds)
                pipeline.execute()
            return True

        return self._asked(keep) is True

    def count(self, script: str, name: str, *arguments: int) -> list[int] | None:
        """Run a script on one counter, atomically for all clients that share it.

        Args:
            script: Lua. ``KEYS[1]`` is the counter, ``ARGV[1]`` what it is proven with; it must prove what it reads,
                and take for nothing what is not proven.
            name: of the counter.
            arguments: ``ARGV[2]`` and on.

        Returns:
            The script's list of integers, to be judged; None if Redis is away or the secret is not known.
        """
        if self._client is None or self.is_away or (key := self._key()) is None:
            return None
        stands, proof = counter_of(key, name)
        client = self._client

        def run() -> Any:
            try:
                return client.eval(script, 1, stands, proof, *arguments)
            except redis.ResponseError:  # no room, or no right to run scripts: all else may work
                return None

        answer = self._asked(run)
        return answer if isinstance(answer, list) and all(type(part) is int for part in answer) else None

    def ping(self) -> bool | None:
        """Whether Redis answers; None where no Redis is configured."""
        if self._client is None:
            return None
        try:
            return self._client.ping() is True
        except Exception:  # noqa: BLE001 - as in _asked
            return False

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """What Redis answers; None, and a pause, where it does not."""
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - whatever stands there instead of Redis can make the client raise
            self._failed(error)
            return None

    def _key(self) -> bytes | None:
        secret = self._secret()
        return None if secret is None else signing_key(secret)

    def _count(self, **counts: int) -> None:
        with self._lock:
            self.counts.update(counts)
        if self._lookups is not None:
            for outcome, count in counts.items():
                self._lookups(outcome, count)

    def _failed(self, error: Exception) -> None:
        self._away_until = self._clock() + _PAUSE_SECONDS
        log.warning("Redis does not answer (%s): going on without the cache", type(error).__name__)


class CachedToken(msgspec.Struct, frozen=True):
    """A token as it is kept.

    Attributes:
        kind: erc20, erc721, erc1155, or None: it is none.
        name: None: it has none.
        symbol: None: it has none.
        decimals: None: unknown.
        problems: by field, what was odd.
        block_number: read at this block.
        read_at: Unix time when it was read.
        kept_at: Unix time when it was put here.
    """

    kind: str | None
    name: str | None
    symbol: str | None
    decimals: int | None
    problems: dict[str, str]
    block_number: int
    read_at: float
    kept_at: float


_decoder = msgspec.json.Decoder(CachedToken)


@dataclass(frozen=True, slots=True)
class TokenCache:
    """Tokens of one chain, known by its id and the hash of its first block.

    Attributes:
        cache: Redis, or nothing.
        chain_id: the chain.
        genesis: hash of block 0; None: it is not known yet, and nothing is kept.
    """

    cache: Cache
    chain_id: int
    genesis: bytes | None
    _prefix: str = field(init=False, default="")

    def __post_init__(self) -> None:
        genesis = "" if self.genesis is None else self.genesis.hex()
        object.__setattr__(self, "_prefix", f"gapless:token:{self.chain_id}:{genesis}:0x")

    def recall(self, addresses: Sequence[bytes]) -> dict[bytes, CachedToken]:
        """The tokens among some addresses that are known; what cannot be believed is not there."""
        if self.genesis is None or not addresses:
            return {}
        names = {self._prefix + address.hex(): address for address in addresses}
        found = {}
        for name, value in self.cache.get_many(list(names)).items():
            try:
                found[names[name]] = _decoder.decode(value)
            except msgspec.MsgspecError:
                continue  # another version's
        return found

    def remember(self, tokens: Mapping[bytes, CachedToken]) -> bool:
        """Keeps tokens; one that is none for a shorter while. Returns whether they are kept."""
        if self.genesis is None:
            return False
        done = True
        for is_one, seconds in ((True, KEPT_SECONDS), (False, NEGATIVE_KEPT_SECONDS)):
            some = [address for address, kept in tokens.items() if (kept.kind is not None) is is_one]
            if some:
                done &= self.cache.set_many(self._values(some, tokens), seconds)
        return done

    def _values(self, addresses: Iterable[bytes], tokens: Mapping[bytes, CachedToken]) -> dict[str, bytes]:
        return {self._prefix + address.hex(): msgspec.json.encode(tokens[address]) for address in addresses}
