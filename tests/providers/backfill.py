"""One backfill against one imitated provider, counted."""

import time
from dataclasses import dataclass

from indexer.chain.client import ChainClient
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from tests.providers.history import TOKEN, TRANSFER
from tests.providers.node import CHAIN_ID, Fragments, Node, serving
from tests.providers.profiles import Profile

FILTER = LogFilter((TOKEN,), ((TRANSFER,),))


@dataclass(frozen=True)
class Backfill:
    """What it took.

    Attributes:
        right: whether the rows are exactly the history's.
        requests: ``eth_getLogs`` asked.
        refused: how many of them the provider refused.
        least: the least possible number of them.
        allowed: how many are allowed.
        http_requests: HTTP requests of any kind.
        seconds: wall time.
    """

    right: bool
    requests: int
    refused: int
    least: int
    allowed: float
    http_requests: int
    seconds: float


def backfill(profile: Profile, fragments: Fragments, settings: ClientSettings, *, in_flight: int) -> Backfill:
    """Reads the whole history from a node that imitates a provider."""
    if profile.thin:
        fragments = fragments.thin
    history = fragments.history
    node = Node(fragments, limit=profile, question=profile.question, before=profile.before())
    with serving(node) as url:
        client = ChainClient(profile.name, CHAIN_ID, [EndpointConfig(url)], settings=settings)
        started = time.monotonic()
        chunks = list(client.scan([(0, history.blocks - 1)], profile.filters(), in_flight=in_flight))
        seconds = time.monotonic() - started
        client.close()
    rows = [(log.block_number, log.log_index, int(log.data, 16)) for chunk in chunks for log in chunk.logs]
    truth = [
        (block, index, 7 * position)
        for position, (block, index) in enumerate(zip(history.positions, history.indices, strict=True))
    ]
    return Backfill(
        right=rows == truth,
        requests=node.counts["eth_getLogs"],
        refused=node.counts["eth_getLogs"] - len(chunks),
        least=profile.fewest_requests(fragments),
        allowed=profile.allowed_requests(fragments),
        http_requests=node.http_requests,
        seconds=seconds,
    )
