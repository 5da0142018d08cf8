"""What tokens say of themselves: looked up in Redis, else in Postgres, which then is remembered in Redis."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from api.database import Database
from api.errors import ApiError
from indexer.store.cache import Cache, CachedToken, TokenCache

#: For so long a value in Redis stands for what Postgres says: tokens may be read again, while Redis is away, too.
BELIEVED_SECONDS: Final = 3600

#: Seconds after which the first block of a chain is looked up again: a development chain may begin anew.
GENESIS_SECONDS: Final = 10.0

#: Seconds between two looks for a secret that the database would not tell.
SECRET_SECONDS: Final = 30.0

_TOKENS: Final = """
SELECT encode(t.address, 'hex'), json_build_object(
    'kind', t.kind, 'name', t.name, 'symbol', t.symbol, 'decimals', t.decimals, 'problems', coalesce(t.problems, '{}'),
    'block_number', t.block_number, 'read_at', extract(epoch FROM t.read_at)::float8), t.asked_again_at IS NULL
FROM gapless.tokens t WHERE t.chain_id = $1::bigint AND t.address = ANY ($2::bytea[])
"""


class CacheSecret:
    """What values in Redis are signed with: what the environment says, else what the database keeps.

    Args:
        database: the database.
        given: of the environment, where it names one.
        clock: seconds that only grow.
    """

    def __init__(self, database: Database, given: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._secret = None if given is None else given.encode()
        self._clock = clock
        self._again = float("-inf")

    def __call__(self) -> bytes | None:
        """The secret; None while the database does not tell it."""
        if self._secret is None and self._clock() >= self._again:
            self._again = self._clock() + SECRET_SECONDS
            try:
                rows = self._database.query("SELECT encode(secret, 'hex') FROM gapless.cache_secret")
            except ApiError:
                return None
            if rows and rows[0][0]:
                self._secret = bytes.fromhex(rows[0][0].decode())
        return self._secret


class TokenLookup:
    """Looks tokens up.

    Args:
        database: what is asked where Redis has nothing.
        cache: Redis, or nothing.
        clock: seconds that only grow.
        wall: Unix time.
    """

    def __init__(
        self,
        database: Database,
        cache: Cache,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._wall = wall
        self._genesis: dict[int, tuple[bytes | None, float]] = {}

    def one(self, chain_id: int, address: bytes) -> dict[str, Any] | None:
        """A token as the API shows it, or None where it is not known."""
        found = self._find(chain_id, [address]).get(address)
        if found is None:
            return None
        return {
            "address": "0x" + address.hex(),
            "kind": found.kind,
            "name": found.name,
            "symbol": found.symbol,
            "decimals": found.decimals,
            "problems": dict(sorted(found.problems.items())) or None,
            "block_number": found.block_number,
        }

    def of_addresses(self, chain_id: int, addresses: bytes | None) -> bytes:
        """What goes with rows: those of their tokens that are known, a JSON object by address.

        Args:
            chain_id: the chain.
            addresses: a JSON list of addresses, or None for none.
        """
        wanted = [bytes.fromhex(address[2:]) for address in orjson.loads(addresses or b"[]")]
        found = self._find(chain_id, wanted)
        return orjson.dumps(
            {
                "0x" + address.hex(): {"symbol": one.symbol, "name": one.name, "decimals": one.decimals}
                for address, one in sorted(found.items())
            }
        )

    def _find(self, chain_id: int, addresses: Sequence[bytes]) -> dict[bytes, CachedToken]:
        if not addresses:
            return {}
        now = self._wall()
        kept = TokenCache(self._cache, chain_id, None if self._cache.is_away else self._genesis_of(chain_id))
        found = {
            address: one for address, one in kept.recall(addresses).items() if now - one.kept_at <= BELIEVED_SECONDS
        }
        missing = [address for address in addresses if address not in found]
        if not missing:
            return found
        told: dict[bytes, CachedToken] = {}
        for address, text, is_settled in self._database.query(_TOKENS, [str(chain_id), missing]):
            one = CachedToken(**orjson.loads(text or b"{}"), kept_at=now)
            found[bytes.fromhex((address or b"").decode())] = one
            if is_settled == b"t":
                told[bytes.fromhex((address or b"").decode())] = one
        if told:
            kept.remember(told)
        return found

    def _genesis_of(self, chain_id: int) -> bytes | None:
        known, until = self._genesis.get(chain_id, (None, float("-inf")))
        if self._clock() < until:
            return known
        rows = self._database.query(
            "SELECT encode(genesis_hash, 'hex') FROM gapless.chains WHERE chain_id = $1::bigint", [str(chain_id)]
        )
        text = rows[0][0] if rows else None
        found = None if text is None else bytes.fromhex(text.decode())
        self._genesis[chain_id] = (found, self._clock() + GENESIS_SECONDS)
        return found
