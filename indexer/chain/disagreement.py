"""Endpoints of one chain that contradict each other about blocks that can no longer change."""

from collections.abc import Mapping

from indexer.chain.reads import questions
from indexer.chain.records.errors import ProviderError
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester


def ban_contradicting(client: Requester, known: Mapping[int, bytes]) -> bool:
    """Asks every endpoint for some blocks, and stops using those that serve others while some serve these.

    One endpoint's word neither deletes what is final nor stops a chain that others still serve.

    Args:
        client: the chain.
        known: block -> the hash that it must have.

    Returns:
        Whether some endpoint serves all of these blocks.
    """
    known = dict(known)
    agrees, strangers = False, []
    for endpoint in client.pool.endpoints:
        if endpoint.health.is_out:
            continue
        served = _served(client, endpoint, known)
        wrong = next((number for number, block_hash in served.items() if block_hash != known[number]), None)
        if wrong is not None:
            strangers.append((endpoint, wrong, served[wrong]))
        agrees = agrees or served == known
    if agrees:
        for endpoint, number, block_hash in strangers:
            reason = (
                f"block {number:,} is 0x{block_hash.hex()} there, 0x{known[number].hex()} at another endpoint and here"
            )
            client.pool.ban(endpoint, reason, lambda one: _served(client, one, known) == known)
    return agrees


def serve_again(client: Requester, known: Mapping[int, bytes]) -> bool:
    """Whether some endpoint serves some blocks, those included that are not used because they did not.

    Args:
        client: the chain.
        known: block -> the hash that it must have.
    """
    client.pool.reconsider(at_once=True)
    return ban_contradicting(client, known)


def _served(client: Requester, endpoint: Endpoint, known: Mapping[int, bytes]) -> dict[int, bytes]:
    try:
        found = client.run(
            lambda e: questions.headers(e, sorted(known), RequestContext()),
            "eth_getBlockByNumber",
            only=endpoint,
            attempts=1,
        )
    except ProviderError:
        return {}
    return {number: header.hash for number, header in found.items()}
