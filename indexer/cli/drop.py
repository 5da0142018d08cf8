"""``gapless drop``: delete what is no longer in the manifest, with its data."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.manifest.model import Manifest
    from indexer.store.apply.drop import Droppable


_MOST_NAMED = 10


def drop(
    name: Annotated[str, typer.Argument(help="A contract, a snapshot, a chain, or one event: usdc.Transfer.")],
    kind: Annotated[
        Literal["contract", "event", "snapshot", "chain"] | None, typer.Option(help="Which, if several have the name.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Delete the tables and the coverage of something that is no longer in the manifest. There is no way back."""
    from indexer.cli.context import begin, database, servers
    from indexer.store.apply import migrate
    from indexer.store.apply.drop import drop as drop_it
    from indexer.store.apply.drop import find

    settings, manifest = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless drop") as engine:
        migrate.require_current(engine)
        with engine.connect() as connection:
            chosen = _choose(find(connection, name), name, kind)
        _refuse_declared(chosen, manifest)
        typer.echo(f"{chosen.kind} {chosen.name}: {_described(chosen)}")
        if not yes:
            if not sys.stdin.isatty():
                typer.echo("Nothing was done: there is no terminal to ask on. Run it with --yes.", err=True)
                raise typer.Exit(1)
            typer.confirm("Delete it for good?", abort=True)
        drop_it(engine, chosen)
    typer.echo("Dropped.")


def _choose(found: Sequence[Droppable], name: str, kind: str | None) -> Droppable:
    found = [one for one in found if kind in (None, one.kind)]
    if not found:
        raise GaplessError(
            f"the database has no {kind or 'contract, event, snapshot or chain'} {name}",
            hint="events are named like usdc.Transfer; gapless status lists what is there",
        )
    if len(found) > 1:
        kinds = " and a ".join(one.kind for one in found)
        raise GaplessError(f"{name} is a {kinds}", hint=f"say which: --kind {found[0].kind}")
    return found[0]


def _refuse_declared(chosen: Droppable, manifest: Manifest) -> None:
    declared: dict[str, set[str]] = {
        "contract": set(manifest.contracts),
        "snapshot": set(manifest.snapshots),
        "chain": set(manifest.chains),
        "event": {f"{c.name}.{c.abi.api_name(event)}" for c in manifest.contracts.values() for event in c.events},
    }
    if chosen.name in declared[chosen.kind]:
        raise GaplessError(
            f"{chosen.kind} {chosen.name} is in the manifest {manifest.path}",
            hint="take it out first, and run: gapless apply",
        )


def _described(chosen: Droppable) -> str:
    if chosen.kind == "chain":
        return "its rows in all tables, and everything that is known of its blocks"
    names = ", ".join(".".join(table) for table in chosen.tables[:_MOST_NAMED]) or "no tables"
    if len(chosen.tables) > _MOST_NAMED:
        names += f" and {len(chosen.tables) - _MOST_NAMED:,} more tables"
    return f"{names}, with about {chosen.rows:,} rows"
