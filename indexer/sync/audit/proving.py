"""Reading proven blocks from a node."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from indexer.chain.client import ChainClient
from indexer.chain.proof import NotProvableError, ProvenBlock, check_header, octets, prove, quantity
from indexer.chain.records.errors import FatalError, LaggingError, NoEndpointError, ProviderError, is_too_old

IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Unproven:
    """A block that cannot be proven here, which says nothing against it."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class NoBlock:
    """A number that has no block, proven by the link over it."""

    number: int


class Prover:
    """Asks for headers and receipts, and proves them."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client
        self._block_receipts = True
        self._per_transaction = client.settings.log_index_per_transaction

    def read(self, numbers: Iterable[int]) -> Iterator[ProvenBlock | NoBlock | Unproven]:
        """Reads and proves blocks, a few at a time, in the given order.

        Raises:
            ProviderError: no node answers.
        """
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="prove") as pool:
            yield from pool.map(self.read_one, numbers)

    def read_one(self, number: int) -> ProvenBlock | NoBlock | Unproven:
        """Reads and proves a block, or that there is none of its number. Raises ProviderError."""
        try:
            block = self._block(number)
            if block is None:
                return self._absent(number)
            proven = prove(block, self._receipts(number, block), per_transaction=self._per_transaction)
        except NotProvableError as error:
            return Unproven(number, str(error))
        except LaggingError:
            return Unproven(number, "the node does not have the block's receipts")
        except ProviderError as error:
            if not is_too_old(error):
                raise
            return Unproven(number, "no endpoint keeps the block and its receipts any more")
        return proven if proven.number == number else Unproven(number, "the node answered with another block")

    def _block(self, number: int) -> dict[str, Any] | None:
        try:
            return self._client.block(number)
        except ProviderError as error:
            # Some nodes answer an error for a number that has no block.
            if is_too_old(error) or self._client.null_run(number) is None:
                raise
            return None

    def _absent(self, number: int) -> NoBlock | Unproven:
        """Proves by two blocks' own hashes that one is the child of the other, and that the number lies between."""
        run = self._client.null_run(number)
        if run is None:
            return Unproven(number, "the node does not have the block")
        below, above = (self._client.block(header.hash) for header in (run.below, run.above))
        if below is None or above is None:
            return Unproven(number, "the node does not have the blocks around a number without one")
        is_linked = check_header(below) == run.below.hash == octets(above, "parentHash", 32)
        if not is_linked or check_header(above) != run.above.hash:
            return Unproven(number, "the blocks around a number without one are not parent and child")
        between = quantity(below, "number") < number < quantity(above, "number")
        return NoBlock(number) if between else Unproven(number, "the node answered with another block")

    def _receipts(self, number: int, block: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self._block_receipts:
            try:
                return self._client.receipts(number)
            except (NoEndpointError, FatalError) as error:
                if is_too_old(error):
                    raise
                self._block_receipts = False  # no endpoint has the method
        hashes = [one if isinstance(one, str) else one.get("hash") for one in block.get("transactions", ())]
        found = [self._client.raw("eth_getTransactionReceipt", [one], block=number) for one in hashes]
        if not all(isinstance(one, dict) for one in found):
            raise NotProvableError("the node does not have all receipts of the block")
        return found
