"""``gapless migrate``, ``apply``, ``drop``, ``prune``, ``reset``: the database as the manifest wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.manifest.model import Manifest
    from indexer.store.apply.drop import Droppable


_MOST_NAMED = 10


def migrate() -> None:
    """Bring the database to the current schema, and make the tables that the manifest asks for."""
    from indexer.cli.context import begin, database, prepare, servers
    from indexer.store.catalog.declaration import summary

    settings, manifest = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless migrate") as engine:
        changes = prepare(engine, manifest, settings)
    for line in summary(changes):
        typer.echo(line)
    typer.echo("The database is up to date." if changes else "The database was up to date.")


def apply(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
) -> None:
    """Show what the manifest would change in the database, ask, and do it.

    A running indexer takes a changed manifest over by itself; what is new is then backfilled, and nothing else pauses.
    What is no longer in the manifest stops, and keeps its data until `gapless drop`.

    Exits with status 3 where a dry run found differences, with 1 where the answer was no.
    """
    from indexer.cli.context import begin, confirm, database, difference, prepare, servers
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
        confirm("Do it?", yes=yes)
        done = prepare(engine, manifest, settings)
        if done != changes:
            typer.echo("Another process had done it, or part of it, already." if not done else "What was done:")
            for line in summary(done):
                typer.echo(line)
    typer.echo("Done.")


def drop(
    name: Annotated[
        str,
        typer.Argument(
            help="A contract, a snapshot, a derived table, a program, a chain, or one event: usdc.Transfer."
        ),
    ],
    kind: Annotated[
        Literal["contract", "event", "snapshot", "chain", "derived", "program"] | None,
        typer.Option(help="Which, if several have the name."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Delete the tables and the coverage of something that is no longer in the manifest. There is no way back."""
    from indexer.cli.context import begin, confirm, database, servers
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
        confirm("Delete it for good?", yes=yes)
        drop_it(engine, chosen)
    typer.echo("Dropped.")


def _choose(found: Sequence[Droppable], name: str, kind: str | None) -> Droppable:
    found = [one for one in found if kind in (None, one.kind)]
    if not found:
        raise GaplessError(
            f"the database has no {kind or 'contract, event, snapshot, derived table, program or chain'} {name}",
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
        "derived": set(manifest.derived),
        "program": set(manifest.programs),
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


def prune(
    name: Annotated[str, typer.Argument(help="A contract, or one event: usdc.Transfer.")],
    *,
    before: Annotated[int, typer.Option(min=0, help="The first block that stays.")],
    chain: Annotated[str | None, typer.Option(help="Its chain; left out: the only one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete the rows of events below a block, from which on the manifest wants them (start_block).

    Coverage goes with the rows, some 50,000 at a time; stopped in between, it is finished by running it again.

    Refused are blocks that the manifest wants, blocks that are not final, and events from whose rows children of a
    factory, balances, derived tables or programs follow.
    """
    from indexer.cli.context import begin, confirm, database, servers
    from indexer.store.apply import migrate
    from indexer.store.apply import prune as pruning

    settings, _ = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless prune") as engine:
        migrate.require_current(engine)
        with engine.connect() as connection:
            found = pruning.find(connection, name, chain, before)
        for one in found:
            typer.echo(f"{one.event.label}: about {one.rows:,} rows below block {before:,}")
        if dry_run:
            return
        confirm("Delete them for good?", yes=yes)
        deleted = sum(pruning.prune(engine, one) for one in found)
    typer.echo(f"Deleted {deleted:,} rows.")


def reset(
    chain: Annotated[str, typer.Argument(help="A chain of the manifest.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Delete all rows of a chain and begin it anew: for a development chain that was restarted.

    There is no way back. Other chains are not touched; tables and views stay.
    """
    from indexer.cli.context import begin, confirm, database, prepare, servers
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
        confirm("Delete it for good and begin anew?", yes=yes)
        reset_it(engine, one.chain_id, chain)
        prepare(engine, manifest, settings)
    typer.echo("Reset. gapless run begins it anew.")
