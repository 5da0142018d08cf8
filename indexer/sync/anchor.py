"""Whether the nodes still serve the chain that was indexed: what is final must be there, unchanged.

A development chain that was restarted, another network behind the same URL, a node on a fork: none of these is a
reorganisation. Where other endpoints still serve what was indexed, the one that does not is not used any more; else the
chain is halted, nothing is deleted, and a person decides.
"""

from collections.abc import Mapping

from indexer.chain.client import ChainClient
from indexer.chain.dissent import outvote
from indexer.chain.wire import Header
from indexer.errors import GaplessError
from indexer.store.head import HeadState


class ChainHaltedError(GaplessError):
    """What the node says contradicts what was finalized: nothing is written until a person has looked."""


def check(client: ChainClient, name: str, state: HeadState) -> bool:
    """Compares block 0 and the finalized block with what was stored of them.

    Args:
        client: the chain's nodes.
        name: the chain's name, for the message.
        state: what is known of the chain; of one that nobody has looked at yet everything is right.

    Returns:
        False if the nodes have not come as far as the finalized block.

    Raises:
        ChainHaltedError: one of them is another block now, wherever it was asked for.
        ProviderError: nobody answers.
    """
    if state.finalized is None:
        return True
    known = {0: state.genesis_hash or b"", state.finalized: state.finalized_hash or b""}
    found = client.headers(known)
    if _stranger(known, found) is not None and outvote(client, known):
        found = client.headers(known)  # of those that are left
    stranger = _stranger(known, found)
    if stranger is not None:
        what = "block 0" if stranger.number == 0 else "the finalized block"
        raise ChainHaltedError(
            f"{name}: {what} ({stranger.number}) is 0x{stranger.hash.hex()} at the node, but "
            f"0x{known[stranger.number].hex()} was indexed. Nothing was deleted, and nothing is written until this is "
            "resolved",
            hint="is this the right node? A development chain that was restarted is another chain: give it a "
            "database of its own. Otherwise compare with a second provider: gapless audit --against URL",
        )
    return state.finalized in found


def _stranger(known: Mapping[int, bytes], found: Mapping[int, Header]) -> Header | None:
    """The first block that is another one than was indexed."""
    return next((header for number, header in sorted(found.items()) if header.hash != known[number]), None)
