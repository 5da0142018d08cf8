"""Tokens in Redis: what was read once is not read again by another deployment, or for a database that was rebuilt.

Light to import: the API uses it too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from indexer.store.cache import Cache

KEPT_SECONDS = 30 * 24 * 3600
NEGATIVE_KEPT_SECONDS = 3600
"""For how long it is believed that an address is no token: it may become one."""


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
