"""The operator's commands: the console script ``gapless``.

Each command is a function in a module of its own. Such a module is imported for ``--help`` too, so it imports what is
heavy (web3 costs 1.3 s) inside its function.

* ``context``: what most commands begin with.
* ``manifest``, ``plan``, ``database``: the manifest, what it lacks, and the database after it.
* ``run``, ``backfill``, ``programs``, ``status``: working, and how it stands.
* ``audit``: whether the rows are true, and the mends.
* ``export``: rows as files. ``size``: how large the tables are.
* ``access``: who may ask the API, and work that was asked for.
"""

import sys
import traceback
from typing import Annotated

import typer

from indexer import __version__, signals
from indexer.cli.access import grants, jobs_app, keys_app
from indexer.cli.audit import audit, redecode, repair, undecoded
from indexer.cli.backfill import backfill
from indexer.cli.database import apply, drop, migrate, prune, reset
from indexer.cli.export import export
from indexer.cli.manifest import abi_app, check
from indexer.cli.plan import plan
from indexer.cli.programs import programs
from indexer.cli.run import demo, run, serve
from indexer.cli.size import db_app
from indexer.cli.status import status
from indexer.errors import GaplessError
from indexer.redact import redact

app = typer.Typer(
    name="gapless",
    help="An EVM indexer with a read API that can prove its history is complete.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables, and with them URLs
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gapless {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _command in (
    check,
    plan,
    migrate,
    apply,
    drop,
    prune,
    reset,
    run,
    backfill,
    programs,
    status,
    audit,
    repair,
    undecoded,
    redecode,
    export,
    serve,
    grants,
    demo,
):
    app.command()(_command)


app.add_typer(abi_app)
app.add_typer(keys_app)
app.add_typer(jobs_app)
app.add_typer(db_app)


def main() -> None:
    """Run the command line.

    A foreseen error (:class:`GaplessError`) is printed without a traceback, and its ``exit_status`` is the process's.
    Any other exception is a defect: its traceback is printed, redacted, and the status is 70 (EX_SOFTWARE of
    sysexits.h).
    """
    status = 1
    try:
        _run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        signals.end_soon(status)


def _run() -> None:
    try:
        app()
    except GaplessError as error:
        print_error(error)
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - the last place to keep a URL from the terminal
        if (described := _described(error)) is not None:
            print_error(described)
            sys.exit(described.exit_status)
        typer.echo(redact(traceback.format_exc()), err=True)
        typer.echo("This is a defect of gapless; please report it with the text above.", err=True)
        sys.exit(70)


def _described(error: Exception) -> GaplessError | None:
    """A failure of Postgres as something to act upon; None for everything else."""
    if "psycopg" not in sys.modules:  # it cannot be one, and need not be loaded to find that out
        return None
    from indexer.store.database import describe_error

    return describe_error(error)


def print_error(error: GaplessError) -> None:
    """Print an error and its hint to standard error, redacted."""
    typer.echo(redact(f"Error: {error}"), err=True)
    if error.hint:
        typer.echo(redact(error.hint), err=True)
