"""``gapless reset``: begin a chain anew that is another one now."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from indexer.errors import GaplessError


def reset(
    chain: Annotated[str, typer.Argument(help="A chain of the manifest.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Delete all rows of a chain and begin it anew: for a development chain that was restarted.

    There is no way back. Other chains are not touched; tables and views stay.
    """
    from indexer.cli.context import begin, database, prepare, servers
    from indexer.store.apply import migrate
    from indexer.store.apply.drop import reset as reset_it

    settings, manifest = begin()
    if chain not in manifest.chains:
        known = ", ".join(manifest.chains)
        raise GaplessError(f"the manifest {manifest.path} has no chain {chain}", hint=f"it has: {known}")
    one = manifest.chains[chain]
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless reset") as engine:
        migrate.require_current(engine)
        typer.echo(f"chain {chain} (id {one.chain_id}): its rows in all tables, and all that is known of its blocks")
        if not yes:
            if not sys.stdin.isatty():
                typer.echo("Nothing was done: there is no terminal to ask on. Run it with --yes.", err=True)
                raise typer.Exit(1)
            typer.confirm("Delete it for good and begin anew?", abort=True)
        reset_it(engine, one.chain_id, chain)
        prepare(engine, manifest, settings)
    typer.echo("Reset. gapless run begins it anew.")
