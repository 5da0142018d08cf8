"""One chain of the manifest with its nodes: connected, and compared with what the manifest says.

Nothing that :func:`inspect` finds (``gapless check --online``) is an error: a contract may be deployed tomorrow. Each
finding is a sentence for the operator.
"""

import itertools
from collections.abc import Iterator, Sequence

from sqlalchemy.engine import Engine

from indexer.abi.model import Event
from indexer.chain.client import ChainClient
from indexer.chain.history.reader import SourcedHistory
from indexer.chain.logs.address_slices import samples
from indexer.chain.portal.portal import Portal
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.credit_prices import price_list
from indexer.manifest.model import Chain, Contract, Deployment, Manifest, RpcEndpoint
from indexer.redact import redact_url
from indexer.settings import Settings
from indexer.store.call_permits import PostgresPermits
from indexer.store.credits.accounts import EndpointCredits
from indexer.store.credits.days import AccountKey, days_of

SAMPLES = 6
SAMPLE_BLOCKS = 500
MOST_ADDRESSES = 200
_COMPARED_BLOCKS = 10_000


def connect(chain: Chain, settings: Settings, engine: Engine | None = None) -> ChainClient:
    """A client for a chain's nodes; asks nothing yet.

    Args:
        chain: which one.
        settings: of the indexer.
        engine: the database by which all processes keep the endpoints' ceilings together; None: this process keeps
            them by itself.
    """
    return ChainClient(
        chain.name,
        chain.chain_id,
        endpoint_configs(chain, most_at_once=settings.backfill_in_flight, engine=engine),
        settings=ClientSettings(
            read_timeout=settings.rpc_timeout_seconds,
            log_index_per_transaction=chain.log_index == "per_transaction",
            null_blocks=chain.null_blocks,
            check_history=chain.check_history,
            # Chunks that are compared block by block stay short.
            max_blocks=_COMPARED_BLOCKS if chain.check_history == "bloom" else ClientSettings().max_blocks,
        ),
    )


def history(
    chain: Chain, settings: Settings, client: ChainClient, engine: Engine | None = None
) -> SourcedHistory | None:
    """What a chain's finalized history is read from, where that is not its nodes alone; asks nothing yet."""
    ceilings = [(one.url.reveal(), one.requests_per_second) for one in chain.history]
    permits = _permits(f"{chain.name} history", engine, ceilings)
    reader: SourcedHistory | None = None
    for one, permit in reversed(list(zip(chain.history, permits, strict=True))):
        portal = Portal(
            one.url.reveal(),
            headers={name: value.reveal() for name, value in one.headers},
            requests_per_second=one.requests_per_second,
            permits=permit,
            settings=ClientSettings(read_timeout=settings.rpc_timeout_seconds),
        )
        reader = SourcedHistory(client, portal, one.verify, rest=reader)
    return reader


def endpoint_configs(
    chain: Chain,
    *,
    pushing: bool = False,
    most_at_once: int = EndpointConfig.max_concurrency,
    engine: Engine | None = None,
) -> Sequence[EndpointConfig]:
    """The manifest's endpoints as the client wants them: those that are asked, or those that push new heads."""
    endpoints = [endpoint for endpoint in chain.endpoints if endpoint.pushes == pushing]
    permits = _permits(chain.name, engine, [(one.url.reveal(), one.requests_per_second) for one in endpoints])
    accounts = _accounts(chain, engine, [] if pushing else endpoints)
    return [
        EndpointConfig(
            url=endpoint.url.reveal(),
            priority=endpoint.priority,
            requests_per_second=endpoint.requests_per_second,
            max_concurrency=most_at_once,
            archive=endpoint.archive,
            headers={name: value.reveal() for name, value in endpoint.headers},
            permits=permit,
            prices=price_list(endpoint.url.reveal(), endpoint.credits),
            credits=account,
        )
        for endpoint, permit, account in itertools.zip_longest(endpoints, permits, accounts)
    ]


def _accounts(chain: Chain, engine: Engine | None, endpoints: Sequence[RpcEndpoint]) -> Sequence[EndpointCredits]:
    """What counts the credits of the endpoints that are asked, with other processes."""
    if engine is None:
        return []
    days = days_of(engine)
    hosts = [redact_url(one.url.reveal()) for one in endpoints]
    return [
        EndpointCredits(
            days,
            AccountKey(
                chain_id=chain.chain_id,
                endpoint=f"{host} {hosts[:place].count(host) + 1}",
                position=place,
                budget=one.credits_per_day,
                price=None if one.price is None else one.price.amount,
                currency=None if one.price is None else one.price.currency,
            ),
        )
        for place, (host, one) in enumerate(zip(hosts, endpoints, strict=True))
    ]


def _permits(
    of: str, engine: Engine | None, endpoints: Sequence[tuple[str, float | None]]
) -> Sequence[PostgresPermits | None]:
    """What keeps the endpoints' ceilings with other processes. URLs with their keys are told apart by their order."""
    hosts = [redact_url(url) for url, _ in endpoints]
    names = [f"{of} {host} {hosts[:place].count(host) + 1}" for place, host in enumerate(hosts)]
    return [
        None if engine is None or ceiling is None else PostgresPermits(engine, name, ceiling)
        for name, (_, ceiling) in zip(names, endpoints, strict=True)
    ]


def inspect(client: ChainClient, chain: Chain, manifest: Manifest) -> Iterator[str]:
    """Warns of addresses without code, and of contracts none of whose events were seen in samples of their blocks.

    Args:
        client: the chain's nodes.
        chain: which one.
        manifest: checked.

    Raises:
        ProviderError: no endpoint answers.
    """
    head = client.head().number
    for contract in manifest.contracts_on(chain.name):
        deployment = contract.deployment(chain.name)
        assert deployment is not None
        named = f"{contract.name} on {chain.name}"
        addresses = deployment.addresses[:MOST_ADDRESSES]
        empty = [address for address in addresses if not client.code(address)]
        for address in empty:
            yield f"{named}: there is no code at 0x{address.hex()}: is it the right address, and the right chain?"
        start = deployment.start_block if deployment.start_block != "auto" else 0
        if start > head:
            yield f"{named}: start_block {start:,} is beyond the head, {head:,}"
        elif deployment.kind == "addresses" and len(empty) < len(addresses):
            yield from _silent(client, named, contract, deployment, start, head)


def _silent(
    client: ChainClient, named: str, contract: Contract, deployment: Deployment, start: int, head: int
) -> Iterator[str]:
    """Compares the topics that its addresses really emit with those of the ABI, in samples of its blocks."""
    events = [event for event in contract.events if not event.anonymous]
    if not events or len(events) < len(contract.events):
        return
    known = {"0x" + event.topic0.hex() for event in events}
    emitted: set[str] = set()
    last = head if deployment.end_block is None else min(head, deployment.end_block)
    everything = LogFilter(tuple("0x" + address.hex() for address in deployment.addresses[:MOST_ADDRESSES]))
    for block_range in _spread(start, last):
        for chunk in client.scan([block_range], everything, in_flight=1):
            emitted |= {log.topics[0] for log in chunk.logs if log.topics}
        if emitted & known:
            return
    asked = f"in samples of blocks {start:,} to {last:,}"
    if emitted:
        yield (
            f"{named}: none of its events was seen {asked}, but {len(emitted)} others were: is "
            f"{contract.abi_path.name} the ABI of this contract? A proxy needs its implementation's: gapless abi "
            f"fetch 0x{deployment.addresses[0].hex()}"
        )
    else:
        yield f"{named}: none of its events ({_listed(events)}) was seen {asked}"


def _spread(first: int, last: int) -> Sequence[tuple[int, int]]:
    """Samples of a range, and always its newest blocks."""
    newest = (max(first, last - SAMPLE_BLOCKS + 1), last)
    return [newest, *samples([(first, last)], SAMPLES, SAMPLE_BLOCKS)] if first <= last else []


def _listed(events: Sequence[Event]) -> str:
    names = [event.name for event in events]
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
