"""Token metadata: looked up in Redis, else read by multicall, kept in ``tokens`` and in Redis."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.engine import Connection, Engine

from indexer.abi.token_standards import BY_STANDARD
from indexer.chain.client import ChainClient
from indexer.store.cache import Cache, CachedToken, TokenCache
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.head import state as head_state
from indexer.store.rows.blocks import Block, hold_block
from indexer.store.tokens import metadata as tokens
from indexer.store.tokens.metadata import Token
from indexer.sync.tokens import metadata as token_metadata
from indexer.sync.tokens.metadata import TokenAnswer

log = logging.getLogger(__name__)

TOKENS_PER_RUN = 500
TOKENS_AT_ONCE = 90
"""Tokens that are read and stored together: their calls fit into one multicall."""
ALL_EVERY = 600.0
"""Seconds between two looks at all children, where nothing else asks for one; none is asked again within an hour."""
_CALLS_PER_TOKEN = 5
_TOKEN_EVENTS = frozenset().union(*BY_STANDARD)


@dataclass(slots=True)
class UnreadTokens:
    """What a look for unread tokens may pass over, since the look before has found that all of it is read.

    Attributes:
        mark: of history, at the last look at all children (:func:`indexer.store.tokens.metadata.history_mark`).
        through: the block up to which all were read then; -1: all are to be looked at.
        looked_at: when that was, in seconds that only grow.
    """

    mark: tuple[int, ...] = ()
    through: int = -1
    looked_at: float = 0.0

    def passes_over(self, mark: tuple[int, ...], now: float) -> int:
        """The block up to which children need not be looked at; -1: they must.

        After :data:`ALL_EVERY` seconds all are looked at again: those that said nothing are asked again.
        """
        return self.through if mark == self.mark and now < self.looked_at + ALL_EVERY else -1


def refresh(
    engine: Engine,
    client: ChainClient,
    chain_id: int,
    contracts: frozenset[str],
    cache: Cache,
    seen: UnreadTokens | None = None,
    arguments: Collection[tuple[str, str, str]] = (),
) -> int:
    """Reads the tokens that were seen and not read yet, some hundred at a time: from Redis, else from the nodes.

    Args:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.
        contracts: names of the contracts whose addresses are tokens.
        cache: asked first; receives what was read.
        seen: kept from call to call, so that all children of a large factory are not looked at again and again.
        arguments: those that name tokens, such as what a pair trades: contract, event's signature, argument.

    Returns:
        How many were read; 0 when there is nothing left to do, or when the block at which they were read is gone.

    Raises:
        ProviderError: the nodes could not be asked; what was read before is stored. A failed read is never stored as an
            answer: a token some of whose calls no node would run is marked so, and asked again.
    """
    with engine.connect() as connection:
        state = head_state.load_state(connection, chain_id)
        tip = state.tip
        if tip is None:
            return 0
        named = {(contract, signature) for contract in contracts for signature in _TOKEN_EVENTS}
        contract_ids = catalog.contract_ids(connection, contracts)
        seen, now = seen or UnreadTokens(), time.monotonic()
        # Before the children: what is discovered meanwhile gives another mark.
        naming = _naming(connection, chain_id, arguments)
        mark = tokens.history_mark(connection, chain_id, contract_ids, [event.event_id for event, _ in naming])
        above = seen.passes_over(mark, now)
        addresses = tokens.unread(connection, chain_id, contract_ids, TOKENS_PER_RUN, above=above)
        for event, argument in naming:
            if (left := TOKENS_PER_RUN - len(addresses)) > 0:
                addresses += tokens.unread_arguments(connection, chain_id, event, argument, left, above=above)
        if above == -1:
            # What can be reorganised is looked at each time: a child may be discovered there without another mark.
            seen.mark, seen.looked_at = mark, now
            seen.through = -1 if addresses or state.finalized is None else state.finalized
        anywhere = [s for s in catalog.load_sources(connection, chain_id, named=named) if s.place.kind == "any"]
        for source in anywhere:
            if len(addresses) < TOKENS_PER_RUN:
                left = TOKENS_PER_RUN - len(addresses)
                addresses += tokens.unread_emitters(connection, chain_id, source.event, left)
    wanted = sorted(set(addresses))
    kept = TokenCache(cache, chain_id, state.genesis_hash)
    recalled = kept.recall(wanted)
    _take_over(engine, chain_id, tip, recalled)
    done = len(recalled)
    wanted = [address for address in wanted if address not in recalled]
    for start in range(0, len(wanted), TOKENS_AT_ONCE):
        found = read(client, wanted[start : start + TOKENS_AT_ONCE], tip.number)
        if not _keep(engine, client, chain_id, kept, tip, found):
            break
        done += len(found)
    if done:
        log.info(
            "%d tokens of chain %d at block %d, %d of them known from Redis", done, chain_id, tip.number, len(recalled)
        )
    return done


def _naming(
    connection: Connection, chain_id: int, arguments: Collection[tuple[str, str, str]]
) -> list[tuple[CatalogEvent, str]]:
    """The events of a chain whose arguments name tokens, each with an argument."""
    if not arguments:
        return []
    named = {(contract, signature) for contract, signature, _ in arguments}
    events = {s.event.event_id: s.event for s in catalog.load_sources(connection, chain_id, named=named)}
    return [
        (event, argument)
        for event in events.values()
        for contract, signature, argument in sorted(arguments)
        if (contract, signature) == (event.contract, event.signature)
    ]


def _take_over(engine: Engine, chain_id: int, tip: Block, recalled: Mapping[bytes, CachedToken]) -> None:
    """Stores what Redis knows, with its age."""
    with engine.begin() as connection:
        for address, one in recalled.items():
            token = Token(address, one.kind, one.name, one.symbol, one.decimals, one.problems)
            read_at = datetime.fromtimestamp(one.read_at, UTC)
            tokens.store(connection, chain_id, min(one.block_number, tip.number), [token], read_at=read_at)


def reread(
    engine: Engine,
    client: ChainClient,
    chain_id: int,
    cache: Cache,
    addresses: Sequence[bytes] | None,
    *,
    stop: threading.Event,
    on_progress: Callable[[int, int], None],
) -> int:
    """Reads tokens again that were read before: what they say may have changed, as with a renamed one.

    Args:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.
        cache: receives what was read.
        addresses: which; None: all that are known.
        stop: ends early when set.
        on_progress: told how many are read, and of how many.

    Returns:
        How many were read: fewer than asked for if the chain was reorganised meanwhile.

    Raises:
        ProviderError: the nodes could not be asked; what was read before is stored.
    """
    with engine.connect() as connection:
        state = head_state.load_state(connection, chain_id)
        known = tokens.known(connection, chain_id)
    tip = state.tip
    if tip is None:
        return 0
    kept = TokenCache(cache, chain_id, state.genesis_hash)
    wanted = known if addresses is None else sorted(set(addresses))
    done = 0
    while done < len(wanted) and not stop.is_set():
        found = read(client, wanted[done : done + TOKENS_AT_ONCE], tip.number)
        if not _keep(engine, client, chain_id, kept, tip, found):
            break
        done += len(found)
        on_progress(done, len(wanted))
    return done


def _keep(
    engine: Engine, client: ChainClient, chain_id: int, kept: TokenCache, tip: Block, found: Sequence[Token]
) -> bool:
    """Keeps what was read at the tip; False if that is another block by now, at the node or here: nothing is kept."""
    header = client.header(tip.number)
    if header is None or header.hash != tip.hash:
        return False
    with engine.begin() as connection:
        if not hold_block(connection, chain_id, tip.number, tip.hash):
            return False
        tokens.store(connection, chain_id, tip.number, found)
    now = time.time()
    kept.remember(
        {
            one.address: CachedToken(
                one.kind, one.name, one.symbol, one.decimals, dict(one.problems), tip.number, read_at=now, kept_at=now
            )
            for one in found
            if one.is_whole
        }
    )
    return True


def read(client: ChainClient, addresses: Sequence[bytes], block: int) -> list[Token]:
    """Asks tokens what they are, at one block, with as few requests as may be.

    Raises:
        ProviderError: the nodes could not be asked.
    """
    questions = [call for address in addresses for call in token_metadata.calls(address)]
    results = client.multicall(questions, block, light=True)
    found = []
    for i, address in enumerate(addresses):
        answers = results[i * _CALLS_PER_TOKEN : (i + 1) * _CALLS_PER_TOKEN]
        said = token_metadata.interpret([TokenAnswer(one.success, one.data, one.refusal) for one in answers])
        found.append(Token(address, said.kind, said.name, said.symbol, said.decimals, said.problems, said.is_whole))
    return found
