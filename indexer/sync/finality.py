"""Which block of a chain can no longer be reorganised: by the node's tag, by a depth, or by a time."""

from indexer.chain.client import ChainClient
from indexer.chain.wire import Header
from indexer.errors import GaplessError
from indexer.manifest.model import Finality


def newest_final(client: ChainClient, name: str, finality: Finality, newest: Header, floor: int) -> Header | None:
    """The newest block that is final, as the chain's nodes say now.

    Args:
        client: the chain's nodes.
        name: the chain's name in the manifest, for the message.
        finality: what makes a block final.
        newest: the head.
        floor: a block that is known to be final, where the search by time begins.

    Returns:
        None where no block is final yet, or the nodes do not say.

    Raises:
        GaplessError: the nodes do not know the tag.
        ProviderError: nobody answers.
    """
    match finality.kind:
        case "tag":
            tagged = client.tagged("finalized")
            if tagged is None:
                raise GaplessError(
                    f"{name}: the node does not know the block tag finalized",
                    hint=f"say in the manifest when blocks are final: chains.{name}.finality = 64 (blocks), "
                    "or {seconds = 900}",
                )
            return tagged
        case "blocks":
            return client.header(max(0, newest.number - finality.amount))
        case "seconds":
            return _older_than(client, newest, finality.amount, floor)


def ancestor(client: ChainClient, number: int, final: Header) -> Header | None:
    """The block of a height at or below a final one, by one answer that knows both; None where none does."""
    if number == final.number:
        return final
    found = client.headers([number, final.number])
    same = final.number in found and found[final.number].hash == final.hash
    return found.get(number) if same else None


def _older_than(client: ChainClient, newest: Header, seconds: int, floor: int) -> Header | None:
    """The newest block that is so much older than the head, by bisection."""
    low, high = floor, newest.number
    found: Header | None = None
    while low <= high:
        middle = (low + high) // 2
        header = client.header(middle)
        if header is None:
            return found
        if header.time <= newest.time - seconds:
            found, low = header, middle + 1
        else:
            high = middle - 1
    return found
