"""What the rows that say where a contract lives must become; compared, nothing done.

Part of :mod:`indexer.store.apply.difference`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from indexer.store.apply.difference_sources import Write
from indexer.store.catalog.catalog_rows import Row
from indexer.store.catalog.changes import Change
from indexer.store.catalog.declaration import ContractDeclaration, Deployment, Factory, Renamed
from indexer.store.schema import tables


def deployments_of(
    contract_id: int,
    contract: ContractDeclaration,
    kept: Mapping[int, Row],
    looked_again: Collection[int],
    renamed: Renamed,
) -> tuple[list[Write], list[Change]]:
    """Compares where a contract lives with what is wanted.

    Args:
        contract_id: its id.
        contract: as it is wanted.
        kept: its deployments, by chain.
        looked_again: the chains where more events come in blocks that are included.
        renamed: arguments by which rules name children, and that have other names now.
    """
    include = list(contract.include)
    writes: list[Write] = []
    for deployment in contract.deployments:
        key = {"contract_id": contract_id, "chain_id": deployment.chain_id}
        row = kept.get(deployment.chain_id)
        values = _deployment(deployment, include)
        if row is None:
            writes.append(Write(tables.deployments, {**key, **values, "adopted": not deployment.place.factories}))
            continue
        rules = _rules(row.factories, renamed)
        # With something else to include, everything is looked at again; what is there already is not fetched twice.
        if list(row.include) != include or (deployment.chain_id in looked_again and row.include):
            values["included"] = []
        if rules != set(deployment.place.factories):
            # By other rules others are children: history looks for them before it fetches anything of them.
            values["adopted"] = False
        changed = {
            name: value for name, value in values.items() if name == "included" or _plain(getattr(row, name)) != value
        }
        if changed:
            writes.append(Write(tables.deployments, changed, key))
    chain_ids = {deployment.chain_id for deployment in contract.deployments}
    writes += [
        Write(tables.deployments, {"active": False}, {"contract_id": contract_id, "chain_id": chain_id})
        for chain_id, row in kept.items()
        if chain_id not in chain_ids and row.active
    ]
    # Those of chains that the contract has left stay as they were.
    if any(list(row.include) != include for chain_id, row in kept.items() if chain_id in chain_ids):
        detail = f"include: {', '.join(include) or 'only the logs'}"
        return writes, [Change("change", "contract", contract.name, detail)]
    return writes, []


def _plain(value: Any) -> Any:
    return (
        [bytes(item) if isinstance(item, memoryview) else item for item in value] if isinstance(value, list) else value
    )


def _deployment(deployment: Deployment, include: list[str]) -> dict[str, Any]:
    place = deployment.place
    return {
        "kind": place.kind,
        "addresses": [bytes.fromhex(address[2:]) for address in place.addresses],
        "factories": [factory.to_json() for factory in place.factories] or None,
        "start_block": deployment.start_block,
        "end_block": deployment.end_block,
        "active": True,
        "include": include,
    }


def _rules(stored: Sequence[Mapping[str, str]] | None, renamed: Renamed) -> set[Factory]:
    return {Factory(**rule).renamed(renamed) for rule in stored or ()}
