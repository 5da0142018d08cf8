"""What ``include`` will take: the blocks, transactions and receipts of events that are to be fetched, by samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from indexer.addresses import Children
from indexer.chain.client import ChainClient
from indexer.chain.logs import sampling
from indexer.intervals import intersect, subtract
from indexer.store.catalog.catalog import Source
from indexer.store.rows.transactions import Including
from indexer.sync.history.transactions import MOST_BLOCKS
from indexer.sync.rows.log_filters import log_filters


@dataclass(frozen=True, slots=True)
class IncludeForecast:
    """What one contract's ``include`` will take, as if no other contract brought any of it.

    Attributes:
        contract: its name.
        include: what it names.
        blocks: the blocks to fetch, where they are named.
        transactions: likewise.
        receipts: likewise.
        questions: JSON-RPC questions.
        requests: HTTP requests in which these travel.
        waits: nothing can be said before the history of its factory is there.
    """

    contract: str
    include: tuple[str, ...]
    blocks: int = 0
    transactions: int = 0
    receipts: int = 0
    questions: int = 0
    requests: int = 0
    waits: bool = False


def forecast(
    client: ChainClient, including: Sequence[Including], sources: Sequence[Source], children: Children, finalized: int
) -> Iterator[IncludeForecast]:
    """Samples the blocks whose events lack what ``include`` names.

    Args:
        client: the chain's nodes.
        including: the deployments that include anything.
        sources: all active ones of the chain.
        children: known so far.
        finalized: history ends here.

    Yields:
        A forecast for each deployment that lacks anything.

    Raises:
        ProviderError: a sample could not be read.
    """
    for one in including:
        own = [source for source in sources if source.event.contract_id == one.contract_id]
        wanted = own[0].wanted(finalized) if own else ()
        for source in own[1:]:
            wanted = intersect(wanted, source.wanted(finalized))
        if not (lacking := subtract(wanted, one.included)):
            continue
        if not (filters := log_filters(own, children)):
            yield IncludeForecast(one.contract, one.include, waits=True)
            continue
        found = sampling.estimate_details(client, lacking, filters, one.include)
        if not found.questions:
            continue
        # As many questions travel together as a batch takes, and as belong to the blocks of one go.
        goes = -(-max(found.blocks, found.transactions, found.receipts) // MOST_BLOCKS)
        requests = max(goes, -(-found.questions // client.settings.batch_size))
        yield IncludeForecast(
            contract=one.contract,
            include=one.include,
            blocks=found.blocks,
            transactions=found.transactions,
            receipts=found.receipts,
            questions=found.questions,
            requests=requests,
        )
