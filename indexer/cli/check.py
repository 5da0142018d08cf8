"""``gapless check``: is the manifest right?"""

from pathlib import Path
from typing import Annotated

import typer


def check(
    path: Annotated[
        Path | None, typer.Argument(help="The manifest; left out: GAPLESS_MANIFEST or indexer.toml.")
    ] = None,
) -> None:
    """Check the manifest, and its ABI files, without touching node or database.

    Prints every problem at once and exits with status 2, or prints a summary and exits with 0.
    """
    from indexer.manifest import load_manifest
    from indexer.settings import environment, load_settings

    settings = load_settings()
    manifest = load_manifest(path or settings.manifest, environment())
    contracts = manifest.contracts.values()
    events = sum(len(contract.events) for contract in contracts)
    counts = (
        _count(len(manifest.chains), "chain"),
        _count(len(contracts), "contract"),
        _count(events, "event"),
        _count(len(manifest.snapshots), "snapshot"),
    )
    typer.echo(f"{manifest.path} is right: {', '.join(counts)}; {_count(events + len(manifest.snapshots), 'table')}.")
    for contract in contracts:
        names = ", ".join(contract.abi.api_name(event) for event in contract.events) or "no events"
        chains = ", ".join(deployment.chain for deployment in contract.deployments)
        typer.echo(f"  {contract.name} ({chains}): {names}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
