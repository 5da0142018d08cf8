"""``gapless undecoded`` and ``gapless redecode``: the logs that do not have the shape their topic promises."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def undecoded(
    contract: Annotated[str | None, typer.Argument(help="Only this contract; left out: all.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the logs that could not be decoded, by reason.

    They are kept raw in gapless.undecoded_logs, but for those that another declaration's indexed arguments explain:
    these are counted in gapless.foreign_shapes.
    """
    from indexer.cli.context import begin, database, require_contract, servers
    from indexer.store.apply import migrate
    from indexer.store.rows.undecoded_logs import reasons

    settings, _ = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless undecoded") as engine:
        migrate.require_current(engine)
        with engine.connect() as connection:
            require_contract(connection, contract)
            found = reasons(connection, contract)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    for one in found:
        kept = " (the row is there, with a text altered)" if one.has_row else " (only counted)" if one.counted else ""
        typer.echo(
            f"{one.logs:>8,}  {one.chain} {one.contract}.{one.event}, blocks {one.first}-{one.last}: {one.reason}{kept}"
        )
    if not found:
        typer.echo("every log was decoded")


def redecode(
    contract: Annotated[str | None, typer.Argument(help="Only this contract; left out: all.")] = None,
) -> None:
    """Decode the undecoded logs again, and move those that succeed into their tables.

    After an ABI was mended, gapless migrate (or a start of gapless run) makes it known first.
    """
    from indexer.cli.context import begin, database, require_contract, servers
    from indexer.store.apply import migrate
    from indexer.sync.audit.redecode import redecode as retry

    settings, _ = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless redecode") as engine:
        migrate.require_current(engine)
        with engine.connect() as connection:
            require_contract(connection, contract)
        done = retry(engine, contract)
    for label in sorted(done.rows.keys() | done.still.keys() | done.counted.keys()):
        counted = f"{done.counted[label]:,} counted as foreign shapes, " if done.counted[label] else ""
        typer.echo(f"{label}: {done.rows[label]:,} rows now, {counted}{done.still[label]:,} still undecoded")
    if done.waiting:
        typer.echo(f"{done.waiting:,} logs are not finalized yet; try again later")
    for label in sorted(done.taken):
        typer.echo(f"{label}: its factory announces more now; its history is filled in anew by gapless run or backfill")
    if not (done.rows or done.still or done.counted or done.waiting):
        typer.echo("there is nothing to decode")
