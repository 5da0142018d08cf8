"""The manifest as the store wants it: every event with its table, every deployment with its place."""

from collections.abc import Collection, Mapping, Sequence

from indexer.abi.columns import Column, event_columns, output_columns
from indexer.abi.model import Event
from indexer.abi.names import table_name
from indexer.manifest.model import Chain, Contract, Deployment, Manifest, Snapshot, SnapshotCall, TopicFilter
from indexer.store.catalog.declaration import (
    ChainDeclaration,
    ContractDeclaration,
    Declaration,
    DeclaredDeployment,
    DerivedDeclaration,
    EventDeclaration,
    FactoryRule,
    Place,
    SeriesDeclaration,
)


def declaration(manifest: Manifest, start_blocks: Mapping[tuple[str, str], int] | None = None) -> Declaration:
    """Describes to the store what a manifest asks for.

    Args:
        manifest: checked and complete.
        start_blocks: by (contract, chain): what ``start_block = "auto"`` turned out to be.
    """
    found = start_blocks or {}
    return Declaration(
        chains=tuple(_chain(chain) for chain in manifest.chains.values()),
        contracts=tuple(_contract(contract, found) for contract in manifest.contracts.values()),
        series=tuple(_series(snapshot) for snapshot in manifest.snapshots.values()),
        derived=tuple(
            DerivedDeclaration(one.name, one.kind, one.definition, one.comment, one.comments)
            for one in manifest.derived.values()
        ),
        programs=tuple((one.name, tuple(one.tables)) for one in manifest.programs.values()),
        balances=_numbered(manifest, manifest.balances),
        daily_balances=_numbered(manifest, manifest.daily_balances),
    )


def _numbered(manifest: Manifest, pairs: frozenset[tuple[str, str]]) -> frozenset[tuple[str, int]]:
    return frozenset((contract, manifest.chains[chain].chain_id) for contract, chain in pairs)


def _chain(chain: Chain) -> ChainDeclaration:
    return ChainDeclaration(chain.chain_id, chain.name, chain.bloom_checks, chain.dev)


def _contract(contract: Contract, found: Mapping[tuple[str, str], int]) -> ContractDeclaration:
    return ContractDeclaration(
        name=contract.name,
        schema_name=contract.schema_name,
        abi=list(contract.abi.document),
        events=_events(contract),
        deployments=tuple(_deployment(contract, deployment, found) for deployment in contract.deployments),
        include=tuple(sorted(contract.include)),
    )


def _events(contract: Contract) -> tuple[EventDeclaration, ...]:
    declared: list[EventDeclaration] = []
    taken: set[str] = set()
    for event in contract.events:
        api_name = contract.abi.api_name(event)
        name = table_name(event.name, event.selector, overloaded=api_name != event.name, taken=taken)
        taken.add(name)
        declared.append(
            EventDeclaration(
                name=event.name,
                api_name=api_name,
                signature=event.signature,
                topic0=event.topic0,
                anonymous=event.anonymous,
                item=event.item,
                table_name=name,
                columns=event_columns(event),
                indexes=(*contract.indexes.get(api_name, ()), *contract.token_arguments.get(api_name, ())),
                tx_hash_index=contract.tx_hash_index,
            )
        )
    return tuple(declared)


def _deployment(contract: Contract, deployment: Deployment, found: Mapping[tuple[str, str], int]) -> DeclaredDeployment:
    start_block = deployment.start_block
    if start_block == "auto":
        start_block = found[contract.name, deployment.chain]
    place = Place(
        kind=deployment.kind,
        addresses=tuple(sorted("0x" + address.hex() for address in deployment.addresses)),
        factories=tuple(FactoryRule(f.contract, f.event.signature, f.argument) for f in deployment.factories),
    )
    filters = {
        event.topic0: tuple(_topics(event, one) for one in deployment.filters[contract.abi.api_name(event)])
        for event in contract.events
        if contract.abi.api_name(event) in deployment.filters
    }
    return DeclaredDeployment(deployment.chain_id, place, start_block, deployment.end_block, filters, deployment.chain)


def _topics(event: Event, alternative: TopicFilter) -> Mapping[int, tuple[str, ...]]:
    """By position among the log's topics; an anonymous event's arguments begin at 0."""
    offset = 0 if event.anonymous else 1
    return {
        position + offset: tuple("0x" + topic.hex() for topic in topics)
        for position, topics in enumerate(alternative.topics)
        if topics is not None
    }


def _series(snapshot: Snapshot) -> SeriesDeclaration:
    return SeriesDeclaration(
        name=snapshot.name,
        contract=snapshot.contract,
        calls=tuple(call.function.signature for call in snapshot.calls),
        every=snapshot.every.text,
        table_name=snapshot.name,
        columns=tuple(column for columns in series_columns(snapshot.calls) for column in columns),
        definition={
            "calls": [
                {"call": call.function.signature, "args": _plain(call.args), "name": call.name}
                for call in snapshot.calls
            ],
            "for_each": snapshot.for_each,
        },
    )


def _plain(value: object) -> object:
    """An argument as JSON keeps it: bytes as hex, integers as decimal digits."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def series_columns(calls: Sequence[SnapshotCall]) -> list[tuple[Column, ...]]:
    """The columns of a series' table, for each call in turn."""
    columns: list[tuple[Column, ...]] = []
    taken: Collection[str] = ()
    for call in calls:
        own = output_columns(call.function, taken=taken, called=call.name)
        columns.append(own)
        taken = [*taken, *(column.name for column in own)]
    return columns
