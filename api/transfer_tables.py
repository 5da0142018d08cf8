"""Which events tell of a token's transfers, and what a client is told where none does."""

from collections.abc import Collection, Iterable, Sequence

from api.catalog import Catalog, Chain, Event
from api.database import Database
from api.errors import ApiError
from api.sql.transfers import TransferTable


def transfer_events(catalog: Catalog, chain: Chain) -> list[Event]:
    """The events of a chain that tell of transfers, in the order of their ids."""
    found = [
        event
        for contract in catalog.contracts.values()
        if chain.chain_id in contract.deployments
        for event in contract.events.values()
        if event.standard is not None
    ]
    return sorted(found, key=lambda event: event.event_id)


def tables_of(
    catalog: Catalog, chain: Chain, database: Database, tokens: Sequence[bytes] | None, *, kind: str | None = None
) -> tuple[TransferTable, ...]:
    """Where the transfers of tokens are.

    Args:
        catalog: what is indexed.
        chain: the chain.
        database: asked for the children of factories, where it matters.
        tokens: their addresses; None: all.
        kind: only of this standard.

    Raises:
        ApiError: NOT_FOUND if the transfers of one of them are not indexed: nobody shall take that for none.
    """
    events = transfer_events(catalog, chain)
    if not events:
        raise ApiError(
            "NOT_FOUND",
            f"no transfers are indexed on {chain.name}: the manifest has no contract there with a Transfer event",
        )
    if tokens is None:
        chosen: list[tuple[Event, bool]] = [(event, False) for event in events]
    else:
        born = _births(chain, database, events, tokens)
        told = {event.event_id: _told(catalog, chain, event, tokens, born) for event in events}
        if unknown := [token for token in tokens if all(token not in one for one in told.values())]:
            raise ApiError("NOT_FOUND", _untold(chain, unknown))
        chosen = [(event, not _holds_only(event, chain, tokens)) for event in events if told[event.event_id]]
    chosen = [(event, some) for event, some in chosen if kind in (None, event.standard)]
    if not chosen:
        raise ApiError("NOT_FOUND", f"no transfers of such tokens are indexed on {chain.name} as {kind}")
    narrowed = "one" if tokens is not None and len(tokens) == 1 else "some"
    return tuple(
        TransferTable(
            event,
            narrowed if some else "all",  # type: ignore[arg-type]
            tuple(other for other, _ in chosen[:position] if event.may_share_logs(other, chain.chain_id)),
        )
        for position, (event, some) in enumerate(chosen)
    )


def _untold(chain: Chain, tokens: Iterable[bytes]) -> str:
    names = ", ".join("0x" + token.hex() for token in tokens)
    return (
        f"transfers of {names} are not indexed on {chain.name}: add a contract to the manifest, such as "
        f'[contracts.name] with chain = "{chain.name}", abi and address, and Transfer among its events'
    )


def _births(
    chain: Chain, database: Database, events: Sequence[Event], tokens: Sequence[bytes]
) -> set[tuple[str, bytes]]:
    """Which tokens are children of factories, each with the contract's name."""
    if all(chain.chain_id in event.addresses for event in events):
        return set()
    found = database.query(
        "SELECT c.name, encode(b.address, 'hex') "
        "FROM gapless.children b JOIN gapless.contracts c ON c.id = b.contract_id "
        "WHERE b.chain_id = $1::bigint AND b.address = ANY ($2::bytea[])",
        [str(chain.chain_id), list(tokens)],
    )
    return {((name or b"").decode(), bytes.fromhex((address or b"").decode())) for name, address in found}


def _told(
    catalog: Catalog, chain: Chain, event: Event, tokens: Sequence[bytes], born: Collection[tuple[str, bytes]]
) -> set[bytes]:
    """The tokens of whose transfers an event tells."""
    listed = event.addresses.get(chain.chain_id)
    if listed is not None:
        return set(tokens) & listed
    deployment = catalog.contracts[event.contract].deployments[chain.chain_id]
    if deployment.kind == "any":
        return set(tokens)
    return {token for token in tokens if token in deployment.addresses or (event.contract, token) in born}


def _holds_only(event: Event, chain: Chain, tokens: Sequence[bytes]) -> bool:
    listed = event.addresses.get(chain.chain_id)
    return listed is not None and listed.issubset(tokens)
