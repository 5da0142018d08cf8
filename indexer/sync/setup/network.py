"""One chain of the manifest, ready to work: its nodes, its follower, its backfill."""

from collections.abc import Sequence

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.manifest.model import Chain
from indexer.settings import Settings


def connect(chain: Chain, settings: Settings) -> ChainClient:
    """A client for a chain's nodes; asks nothing yet."""
    return ChainClient(
        chain.name,
        chain.chain_id,
        endpoint_configs(chain),
        settings=ClientSettings(
            read_timeout=settings.rpc_timeout_seconds,
            log_index_per_transaction=chain.log_index == "per_transaction",
            null_blocks=chain.null_blocks,
        ),
    )


def endpoint_configs(chain: Chain) -> Sequence[EndpointConfig]:
    """The manifest's endpoints as the client wants them."""
    return [
        EndpointConfig(
            url=endpoint.url.reveal(),
            priority=endpoint.priority,
            requests_per_second=endpoint.requests_per_second,
            archive=endpoint.archive,
            headers={name: value.reveal() for name, value in endpoint.headers},
        )
        for endpoint in chain.endpoints
    ]
