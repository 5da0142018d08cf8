"""A manifest without ``start_block = "auto"``: found numbers in its place, and without what cannot be found out yet."""

from collections.abc import Mapping
from dataclasses import replace

from indexer.manifest.model import Contract, Deployment, Manifest


def settled(manifest: Manifest, start_blocks: Mapping[tuple[str, str], int]) -> Manifest:
    """The manifest with numbers for ``"auto"``; a deployment whose number is missing is left out, with what needs it.

    Args:
        manifest: checked.
        start_blocks: by (contract, chain).
    """
    out = {
        (contract.name, one.chain)
        for contract in manifest.contracts.values()
        for one in contract.deployments
        if one.start_block == "auto" and (contract.name, one.chain) not in start_blocks
    }
    while more := _children_of(manifest, out):
        out |= more

    def placed(contract: Contract, one: Deployment) -> Deployment:
        return replace(one, start_block=start_blocks[contract.name, one.chain]) if one.start_block == "auto" else one

    contracts = {
        name: replace(contract, deployments=kept)
        for name, contract in manifest.contracts.items()
        if (kept := tuple(placed(contract, one) for one in contract.deployments if (name, one.chain) not in out))
        or not contract.deployments
    }
    snapshots = {
        name: replace(snapshot, chains=chains)
        for name, snapshot in manifest.snapshots.items()
        if (chains := tuple(chain for chain in snapshot.chains if (snapshot.contract, chain) not in out))
    }
    return replace(
        manifest,
        contracts=contracts,
        snapshots=snapshots,
        tokens=manifest.tokens - out,
        balances=manifest.balances - out,
    )


def _children_of(manifest: Manifest, out: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Contracts whose factories are out, and that are not out themselves."""
    return {
        (contract.name, one.chain)
        for contract in manifest.contracts.values()
        for one in contract.deployments
        if any((factory.contract, one.chain) in out for factory in one.factories)
    } - out
