"""``gapless migrate``: the database as this version and the manifest want it."""

import typer


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
