"""What every endpoint of a chain says its newest block is: for a question that one endpoint cannot settle."""

from indexer.chain.records.errors import LaggingError, ProviderError
from indexer.chain.records.messages import Call, Header, parse_header
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester

_GET_BLOCK = "eth_getBlockByNumber"


def every_head(client: Requester) -> list[Header] | None:
    """The newest block of each endpoint, those left out that refuse everything or serve another chain.

    Each is asked once: callers ask again later anyway.

    Returns:
        At least one header; None where an endpoint that might know better does not answer.
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
            return None
    return heads or None
