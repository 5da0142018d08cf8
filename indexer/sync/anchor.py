"""Whether the nodes still serve the chain that was indexed: what is final must be there, unchanged.

A development chain that was restarted, another network behind the same URL, a node on a fork: none of these is a
reorganisation. The chain is halted, nothing is deleted, and a person decides.
"""

from indexer.chain.client import ChainClient
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
        ChainHaltedError: one of them is another block now.
        ProviderError: nobody answers.
    """
    if state.finalized is None:
        return True
    found = client.headers([0, state.finalized])
    for what, number, stored in (
        ("block 0", 0, state.genesis_hash),
        ("the finalized block", state.finalized, state.finalized_hash),
    ):
        if number in found and found[number].hash != stored:
            raise ChainHaltedError(
                f"{name}: {what} ({number}) is 0x{found[number].hash.hex()} at the node, but 0x{(stored or b'').hex()} "
                "was indexed. Nothing was deleted, and nothing is written until this is resolved",
                hint="is this the right node? A development chain that was restarted is another chain: give it a "
                "database of its own. Otherwise compare with a second provider: gapless audit --against URL",
            )
    return state.finalized in found
