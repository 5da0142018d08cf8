"""``gapless apply``: the difference between the manifest and the database, shown and made."""

import sys
from typing import Annotated

import typer


def apply(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
) -> None:
    """Show what the manifest would change in the database, ask, and do it.

    A running indexer takes a changed manifest over by itself; what is new is then backfilled, and nothing else pauses.
    What is no longer in the manifest stops, and keeps its data until `gapless drop`.

    Exits with status 3 where a dry run found differences, with 1 where the answer was no.
    """
    from indexer.cli.context import begin, database, difference, prepare, servers
    from indexer.store.catalog.declaration import summary

    settings, manifest = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless apply") as engine:
        changes = difference(engine, manifest, settings)
        for line in summary(changes):
            typer.echo(line)
        if not changes:
            typer.echo("Nothing to do: the database is as the manifest asks.")
            return
        if dry_run:
            raise typer.Exit(3)
        if not yes:
            if not sys.stdin.isatty():
                typer.echo("Nothing was done: there is no terminal to ask on. Run it with --yes.", err=True)
                raise typer.Exit(1)
            typer.confirm("Do it?", abort=True)
        done = prepare(engine, manifest, settings)
        if done != changes:
            typer.echo("Another process had done it, or part of it, already." if not done else "What was done:")
            for line in summary(done):
                typer.echo(line)
    typer.echo("Done.")
