"""What every endpoint of a chain says where one endpoint's word is not enough: its newest block, and final blocks."""

from collections.abc import Callable, Mapping

from indexer.chain.reads import questions
from indexer.chain.records.errors import LaggingError, ProviderError
from indexer.chain.records.messages import Call, Header, parse_header
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester

_GET_BLOCK = "eth_getBlockByNumber"


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


def is_true_of_every_head(client: Requester, says: Callable[[Header], bool]) -> bool:
    """Whether something is true of the newest block of each endpoint, but for those that refuse everything.

    Each is asked once: callers ask again later anyway. It is not true where an endpoint that might know better does
    not answer.
    """
    heads: list[Header] = []
    context = RequestContext()

    def question(endpoint: Endpoint) -> Header:
        header = parse_header(endpoint.ask_one(Call(_GET_BLOCK, ("latest", False)), context))
        if header is None:
            raise LaggingError("it has no newest block", host=endpoint.host)
        with endpoint.lock:
            endpoint.health.said_head(header.number)
        return header

    for endpoint in client.pool.endpoints:
        if endpoint.health.is_out:
            continue
        try:
            heads.append(client.run(question, _GET_BLOCK, context=context, only=endpoint, attempts=1))
        except ProviderError:
            return False
    return bool(heads) and all(map(says, heads))
