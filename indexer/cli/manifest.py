"""``gapless check`` and ``gapless abi``: is the manifest right, and ABIs for it that others have verified."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from indexer.manifest.model import Manifest
    from indexer.settings import Settings
    from indexer.sync.setup.abi_lookup import NotVerifiedError, VerifiedAbi, VerifiedAbis


abi_app = typer.Typer(name="abi", help="ABIs of verified contracts.", no_args_is_help=True)


def check(
    path: Annotated[
        Path | None, typer.Argument(help="The manifest; left out: GAPLESS_MANIFEST or indexer.toml.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the nodes too: is there code, are these the events it emits?")
    ] = False,
) -> None:
    """Check the manifest, and its ABI files, without touching a node or changing a database.

    Expressions of derived tables are tried by the Postgres of DATABASE_URL, where there is one; nothing is kept there.

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
    if manifest.derived:
        _ask_database(manifest, settings)
    if online:
        _ask_nodes(manifest, settings)


def _ask_database(manifest: Manifest, settings: Settings) -> None:
    """What Postgres says of the rules of derived tables, where one is given and answers.

    Raises:
        ProblemsError: what is wrong with them.
    """
    from indexer.cli.context import Servers, database
    from indexer.errors import ProblemsError
    from indexer.store.apply import derived_tables
    from indexer.sync.setup.declaration import declaration

    names = ", ".join(manifest.derived)
    if settings.database_url is None:
        typer.echo(f"  derived: {names} (expressions are checked by Postgres: set DATABASE_URL, or see gapless apply)")
        return
    starts = {(contract.name, one.chain): 0 for contract in manifest.contracts.values() for one in contract.deployments}
    given = Servers(settings.database_url.reveal(), None)
    try:
        with database(given, application_name="gapless check", pool_size=1) as engine:
            problems = derived_tables.check(engine, declaration(manifest, starts))
    except GaplessError as error:
        typer.echo(f"  derived: {names} (expressions are not checked: {error})")
        return
    if problems:
        raise ProblemsError(str(manifest.path), problems)
    typer.echo(f"  derived: {names}")


def _ask_nodes(manifest: Manifest, settings: Settings) -> None:
    from indexer.sync.setup import network
    from indexer.sync.setup.network import inspect

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


@abi_app.callback()
def _abi() -> None:
    """ABIs of verified contracts."""


@abi_app.command(name="fetch")
def fetch_abi(
    address: Annotated[str, typer.Argument(help="The contract's address.")],
    chain: Annotated[str | None, typer.Option(help="Its chain in the manifest; left out: the only one.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; left out: print.")] = None,
    proxy: Annotated[bool, typer.Option(help="Follow proxies to the implementation.")] = True,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask anew what is in the cache already.")] = False,
) -> None:
    """Get a verified ABI from Sourcify or, with ETHERSCAN_API_KEY, from Etherscan.

    A proxy is followed to its implementation: the ABI is that of the implementation, with the proxy's own events; of a
    diamond it is that of all facets. What was found is said on standard error.
    """
    from indexer.manifest.document import parse_address
    from indexer.manifest.load import load_chains
    from indexer.settings import environment, load_settings
    from indexer.sync.setup import network
    from indexer.sync.setup.abi_lookup import VerifiedAbis, unite
    from indexer.sync.setup.proxies import Trail, follow

    settings = load_settings()
    try:
        wanted = parse_address(address)
    except ValueError as error:
        raise GaplessError(f"{address}: {error}") from None
    chains = load_chains(settings.manifest, environment())
    name = chain or next(iter(chains))
    if name not in chains or (chain is None and len(chains) > 1):
        raise GaplessError(
            "the manifest has several chains" if chain is None else f"the manifest has no chain {chain}",
            hint=f"say which with --chain: {', '.join(chains)}",
        )
    chain_id = chains[name].chain_id
    key = settings.etherscan_api_key
    source = VerifiedAbis(
        settings.data_dir / "abis",
        etherscan_key=key.get_secret_value() if key else None,
        sourcify=settings.sourcify_url,
        etherscan=settings.etherscan_url,
    )
    trail = Trail(wanted)
    if proxy:
        with closing(network.connect(chains[name], settings)) as node:
            trail = follow(node, wanted)
    for step in trail.steps:
        typer.echo(str(step), err=True)
    if trail.doubt:
        typer.echo(f"Warning: {trail.doubt}.", err=True)
    whole, missing = _fetch_all(source, chain_id, trail.implementations, refresh=refresh)
    if not whole:
        raise missing[0]
    passed, silent = _fetch_all(source, chain_id, trail.passed, refresh=refresh)
    for found in (*whole, *passed):
        typer.echo(f"VerifiedAbi {found}", err=True)
    for one in missing:
        typer.echo(f"Warning: events and functions are missing: {one}", err=True)
    for one in silent:
        typer.echo(f"Warning: events that a proxy itself emits are missing: {one}", err=True)
    abi, conflicts = unite(whole, passed)
    for conflict in conflicts:
        typer.echo(f"Warning: {conflict}", err=True)
    text = json.dumps(abi, indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")
        typer.echo(f"Wrote {output}", err=True)


def _fetch_all(
    source: VerifiedAbis, chain_id: int, addresses: Sequence[bytes], *, refresh: bool
) -> tuple[list[VerifiedAbi], list[NotVerifiedError]]:
    """The verified ABIs of some contracts, and those that are not verified."""
    from indexer.sync.setup.abi_lookup import NotVerifiedError

    found: list[VerifiedAbi] = []
    missing: list[NotVerifiedError] = []
    for address in addresses:
        try:
            found.append(source.fetch(chain_id, address, refresh=refresh))
        except NotVerifiedError as error:
            missing.append(error)
    return found, missing
