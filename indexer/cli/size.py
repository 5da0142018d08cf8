"""``gapless db``: the database itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer

db_app = typer.Typer(name="db", help="The database itself.", no_args_is_help=True)

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_MOST_OF_OWN: Final = 5


@db_app.callback()
def _root() -> None:
    """With one command, typer would leave its name out."""


@db_app.command(name="size")
def size(
    contract: Annotated[str | None, typer.Argument(help="Only the tables of this contract; left out: all.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every table of Gapless' own.")] = False,
) -> None:
    """Show how large each event's table is: rows (estimated), table, indexes, and its share of the database."""
    from indexer.cli.context import require_contract, short_transaction
    from indexer.store.catalog import table_sizes

    with short_transaction("db") as connection:
        require_contract(connection, contract)
        found = table_sizes.load(connection, contract)
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "bytes": one.bytes} for one in found], indent=2))
        return
    own = [one for one in found if one.kind == "own"]
    rest = own[_MOST_OF_OWN:]
    rows = [
        (
            f"{one.contract}.{one.name}" if one.kind in ("event", "snapshot") else one.table,
            "" if one.active else "not in the manifest",
            f"{one.rows:,}",
            _shown(one.table_bytes),
            _shown(one.index_bytes),
            f"{one.share:.1%}",
        )
        for one in found
        if one not in rest
    ]
    if rest:
        table, indexes = sum(one.table_bytes for one in rest), sum(one.index_bytes for one in rest)
        share = f"{sum(one.share for one in rest):.1%}"
        rows.append((f"{len(rest)} more tables of gapless", "", "", _shown(table), _shown(indexes), share))
    lines = [("table", "", "rows", "table", "indexes", "share"), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    for line in lines:
        cells = [
            cell.ljust(w) if column < 2 else cell.rjust(w)
            for column, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())


def _shown(count: int) -> str:
    """Bytes for people, by thousands."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"
