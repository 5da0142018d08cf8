"""``gapless abi``: ABIs of contracts that others have verified."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from indexer.errors import GaplessError

app = typer.Typer(name="abi", help="ABIs of verified contracts.", no_args_is_help=True)


@app.callback()
def _abi() -> None:
    """ABIs of verified contracts."""


@app.command()
def fetch(
    address: Annotated[str, typer.Argument(help="The contract's address.")],
    chain: Annotated[str | None, typer.Option(help="Its chain in the manifest; left out: the only one.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; left out: print.")] = None,
    proxy: Annotated[bool, typer.Option(help="Follow proxies to the implementation.")] = True,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask anew what is in the cache already.")] = False,
) -> None:
    """Get a verified ABI from Sourcify or, with ETHERSCAN_API_KEY, from Etherscan.

    A proxy is followed to its implementation: the ABI is that of the implementation, with the proxy's own events.
    What was found is said on standard error.
    """
    from indexer.manifest.load import load_chains
    from indexer.manifest.values import parse_address
    from indexer.settings import environment, load_settings
    from indexer.sync import network
    from indexer.sync.verified import NotVerifiedError, VerifiedAbis, proxies, with_events_of

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
    steps = []
    if proxy:
        with closing(network.connect(chains[name], settings)) as node:
            steps = proxies(node, wanted)
    for step in steps:
        typer.echo(str(step), err=True)
    found = source.fetch(chain_id, steps[-1].target if steps else wanted, refresh=refresh)
    typer.echo(f"Found {found}", err=True)
    abi = found.abi
    if steps:
        try:
            own = source.fetch(chain_id, wanted, refresh=refresh)
        except NotVerifiedError:
            typer.echo("The proxy itself is not verified: its own events are missing.", err=True)
        else:
            abi = with_events_of(abi, own.abi)
    text = json.dumps(abi, indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")
        typer.echo(f"Wrote {output}", err=True)
