"""Whether the nodes still serve the chain that was indexed: what is final must be there, unchanged.

A development chain that was restarted, another network behind the same URL, a node on a fork: none of these is a
reorganisation. Where other endpoints still serve what was indexed, the one that does not is not used until it does;
else the chain is halted, nothing is deleted, and it is looked at again with growing pauses.
"""

import logging
from collections.abc import Mapping

from indexer.chain.client import ChainClient
from indexer.chain.disagreement import ban_contradicting
from indexer.chain.records.errors import ProviderError
from indexer.chain.records.messages import Header
from indexer.errors import GaplessError
from indexer.store.head.state import HeadState

log = logging.getLogger(__name__)


class ChainHaltedError(GaplessError):
    """What the node says contradicts what was finalized: nothing is written until the nodes serve that again.

    Attributes:
        known: block -> the hash that the nodes must serve.
    """

    def __init__(self, message: str, *, known: Mapping[int, bytes], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.known = known


def first_blocks(client: ChainClient, name: str, finalized: Header | None) -> tuple[Header | None, Header]:
    """Block 0 and the block with which following begins, each asked for more than once.

    They are compared with every later answer: a wrong one would halt the chain with an empty database.

    Args:
        client: the chain's nodes.
        name: the chain's name, for messages.
        finalized: the newest final block, or None where none is final yet.

    Returns:
        Block 0, None where no endpoint serves it; and the finalized block, or block 0.

    Raises:
        GaplessError: two answers differ, or neither block is known.
        ProviderError: no endpoint answers.
    """
    try:
        genesis = client.header(0)
        differs = None if _hash(genesis) == _hash(client.header(0)) else 0
    except ProviderError:
        if finalized is None:
            raise
        genesis = differs = None  # if the nodes answer otherwise, which the next question shows
    if finalized is not None and _hash(client.header(finalized.number)) != finalized.hash:
        differs = finalized.number
    if differs is not None:
        raise GaplessError(
            f"{name}: two answers differ about block {differs}, with which following begins",
            hint="nothing was begun; this is asked again at the next look",
        )
    start = finalized or genesis
    if start is None:
        raise GaplessError(
            f"{name}: the node does not know block 0",
            hint="it may still be syncing; this is asked again at the next look",
        )
    if genesis is None:
        log.warning("%s: no endpoint serves block 0: which chain it is is known by block %d alone", name, start.number)
    return genesis, start


def _hash(header: Header | None) -> bytes | None:
    return None if header is None else header.hash


def check(client: ChainClient, name: str, state: HeadState) -> bool:
    """Compares block 0 and the finalized block with what was stored of them.

    Args:
        client: the chain's nodes.
        name: the chain's name, for the message.
        state: what is known of the chain; of one that no follower has looked at yet everything is right.

    Returns:
        False if the nodes have not come as far as the finalized block.

    Raises:
        ChainHaltedError: one of them is another block now, wherever it was asked for.
        ProviderError: no endpoint answers.
    """
    if state.finalized is None:
        return True
    known = {state.finalized: state.finalized_hash or b""}
    if state.genesis_hash is not None:  # of a chain whose nodes serve no block 0 it is not known
        known[0] = state.genesis_hash
    found = client.headers(known)
    if _stranger(known, found) is not None and ban_contradicting(client, known):
        found = client.headers(known)  # of those that are left
    stranger = _stranger(known, found)
    if stranger is not None:
        what = "block 0" if stranger.number == 0 else "the finalized block"
        raise ChainHaltedError(
            f"{name}: {what} ({stranger.number}) is 0x{stranger.hash.hex()} at the node, but "
            f"0x{known[stranger.number].hex()} was indexed",
            known=known,
            hint="nothing was deleted, and nothing is written until this is resolved: is this the right node? A "
            f"development chain that was restarted is another chain: stop the indexer and run gapless reset {name}, or "
            "say dev = true in the manifest. Otherwise compare with a second provider: gapless audit --against URL",
        )
    return state.finalized in found


def shortened(name: str, state: HeadState, newest: Header) -> ChainHaltedError:
    """The error of a development chain that ends below a block that was final.

    Args:
        name: the chain's name, for the message.
        state: what is known of the chain.
        newest: its head.
    """
    return ChainHaltedError(
        f"{name}: the node's head is block {newest.number}, below the finalized block {state.finalized}, and stays so",
        known={state.finalized or 0: state.finalized_hash or b""},
    )


def _stranger(known: Mapping[int, bytes], found: Mapping[int, Header]) -> Header | None:
    """The first block that is another one than was indexed."""
    return next((header for number, header in sorted(found.items()) if header.hash != known[number]), None)
