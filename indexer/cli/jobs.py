"""``gapless jobs``: work that was asked for through the API."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(name="jobs", help="Work that was asked for through the API.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Keep ``list`` a word of its own; a lone command would take its place."""


@app.command(name="list")
def list_(limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20) -> None:
    """Show the newest jobs: what was asked for, how far they are, why they failed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from indexer.cli.context import short_transaction
    from indexer.store.access import jobs

    with short_transaction("jobs") as connection:
        found = jobs.load(connection, limit)
    table = Table("id", "kind", "asked", "by", "state", "since", "progress", header_style="bold", pad_edge=False)
    for job in found:
        since = job["ended_at"] or job["started_at"] or job["created_at"]
        told = job["error"] or (json.dumps(job["progress"]) if job["state"] == "running" and job["progress"] else "")
        asked = " ".join(f"{name}={value}" for name, value in job["parameters"].items())
        table.add_row(
            str(job["id"]), job["kind"], escape(asked), escape(job["created_by"]), job["state"],
            f"{since:%Y-%m-%d %H:%M:%S}", escape(told),
        )  # fmt: skip
    Console().print(table)
