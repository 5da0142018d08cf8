"""``gapless check``: is the manifest right?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from indexer.manifest.model import Manifest
    from indexer.settings import Settings


def check(
    path: Annotated[
        Path | None, typer.Argument(help="The manifest; left out: GAPLESS_MANIFEST or indexer.toml.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the nodes too: is there code, are these the events it emits?")
    ] = False,
) -> None:
    """Check the manifest, and its ABI files, without touching node or database.

    Prints every problem at once and exits with status 2, or prints a summary and exits with 0. What the nodes say
    (--online) are warnings: they are printed, and the status stays 0.
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
    if online:
        _ask_nodes(manifest, settings)


def _ask_nodes(manifest: Manifest, settings: Settings) -> None:
    from indexer.sync.setup import network
    from indexer.sync.setup.online_check import inspect

    warned = False
    for chain in manifest.chains.values():
        with closing(network.connect(chain, settings)) as client:
            try:
                client.check()
                for warning in inspect(client, chain, manifest):
                    typer.echo(f"Warning: {warning}")
                    warned = True
            except GaplessError as error:
                typer.echo(f"Warning: {chain.name}: {error}")
                warned = True
    if not warned:
        typer.echo("The nodes know nothing against it.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
