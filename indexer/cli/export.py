"""``gapless export``: the rows of events as files."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from indexer.store.catalog.catalog import CatalogEvent
    from indexer.store.export.run import ExportReport


def export(
    name: Annotated[str, typer.Argument(metavar="CONTRACT[.EVENT]", help="A contract, or one event: usdc.Transfer.")],
    file_format: Annotated[
        Literal["parquet", "csv", "ndjson"], typer.Option("--format", help="Of the files.")
    ] = "parquet",
    first: Annotated[int, typer.Option("--from", min=0, help="First block.")] = 0,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last block; left out: all that is final.")] = None,
    out: Annotated[
        str, typer.Option(metavar="DIR|URI", help="A directory, or s3://bucket/path (credentials as for AWS' tools).")
    ] = "export",
    chain: Annotated[str | None, typer.Option(help="Only this chain; left out: all.")] = None,
    blocks_per_file: Annotated[int, typer.Option(min=1, help="Width of the grid of files.")] = 100_000,
    *,
    proven: Annotated[bool, typer.Option("--proven", help="Only blocks proven against receipts roots.")] = False,
    unfinalized: Annotated[
        bool, typer.Option("--unfinalized", help="Also blocks that can still be reorganised; written anew each time.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare all files with the tables, also where nothing is said to differ.")
    ] = False,
) -> None:
    """Write the rows of covered, final blocks to files, and keep them so: what is there already is not written again.

    The files of an event are in OUT/schema/table, each of a range of blocks; _manifest.json there names them.
    """
    from indexer.cli.context import begin, database, servers, until_signal
    from indexer.intervals import ALWAYS
    from indexer.store.apply import migrate

    if importlib.util.find_spec("pyarrow") is None:
        raise GaplessError("gapless export needs pyarrow", hint="pip install 'gapless[files]'")
    if last is not None and first > last:
        raise GaplessError(f"--from {first} lies after --to {last}")
    from indexer.store.export.folder import Folder
    from indexer.store.export.run import ExportRequest
    from indexer.store.export.run import export as export_event

    settings, _ = begin()
    root = Folder.at(out)
    with (
        until_signal() as stop,
        servers(settings, with_redis=False) as given,
        database(given, application_name="gapless export") as engine,
    ):
        migrate.require_current(engine)
        with engine.connect() as connection:
            events = _chosen(connection, name)
            request = ExportRequest(
                file_format=file_format,
                blocks_per_file=blocks_per_file,
                blocks=(first, ALWAYS if last is None else last),
                chain_id=_chain_id(connection, chain),
                proven=proven,
                unfinalized=unfinalized,
                compare=compare,
            )
        for event in events:
            folder = root.below(event.table.schema_name, event.table.table_name)
            _print(event.label, folder.shown, export_event(engine, event, folder, request, stop))


def _chosen(connection: Connection, name: str) -> list[CatalogEvent]:
    """The events of a contract, or the one that is named.

    Raises:
        GaplessError: the database has none of that name.
    """
    from indexer.cli.context import require_contract
    from indexer.store.catalog.catalog import load_events

    contract, dot, event = name.partition(".")
    require_contract(connection, contract)
    known = list(load_events(connection, contracts=[contract]).values())
    found = [one for one in known if not dot or one.api_name == event]
    if not found:
        names = ", ".join(sorted(one.api_name for one in known)) or "none"
        raise GaplessError(f"the contract {contract} has no event {event}", hint=f"it has: {names}")
    return found


def _chain_id(connection: Connection, name: str | None) -> int | None:
    import sqlalchemy as sa

    if name is None:
        return None
    known = {row.name: int(row.chain_id) for row in connection.execute(sa.text("SELECT * FROM gapless.chains"))}
    if name not in known:
        raise GaplessError(f"the database has no chain {name}", hint=f"it has: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def _print(label: str, where: str, report: ExportReport) -> None:
    from indexer.intervals import format_ranges

    new = report.written - report.rewritten
    typer.echo(
        f"{label}: {new:,} files added and {report.rewritten:,} written anew with {report.rows:,} rows, "
        f"{report.kept:,} kept, in {where}"
    )
    for chain, blocks in report.covered.items():
        typer.echo(f"  {chain}: blocks {format_ranges(blocks)}")
    for chain, blocks in report.set_apart.items():
        typer.echo(
            f"  {chain}: blocks {format_ranges(blocks)} are not all covered any more; their files stay as they were"
        )
    if report.skipped:
        typer.echo(f"  {report.skipped:,} blocks lost their coverage meanwhile; run it again once they are covered")
