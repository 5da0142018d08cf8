"""``gapless keys``, ``jobs`` and ``grants``: who may read the API, what was asked for through it, roles in Postgres."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from indexer.errors import GaplessError
from indexer.store.access import key_format

keys_app = typer.Typer(name="keys", help="Keys of the read API.", no_args_is_help=True)
jobs_app = typer.Typer(name="jobs", help="Work that was asked for through the API.", no_args_is_help=True)


@keys_app.command(name="create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    scope: Annotated[list[str] | None, typer.Option(help="What it may do: read, webhooks, admin. Repeatable.")] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A web origin that may use it, such as https://app.example. Repeatable."),
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Requests a minute; left out: RATE_LIMIT_KEY.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=key_format.MOST_DAYS, help="Days until it expires; left out: never.")
    ] = None,
) -> None:
    """Make a key and print it: this once, it is kept as a hash only."""
    from indexer.cli.context import short_transaction
    from indexer.store.access import keys

    scopes = tuple(dict.fromkeys(scope or ["read"]))
    if unknown := [one for one in scopes if one not in key_format.SCOPES]:
        raise GaplessError(f"there is no scope {unknown[0]!r}", hint=f"there are {', '.join(key_format.SCOPES)}")
    origins = tuple(_origin(one) for one in origin or ())
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with short_transaction("keys") as connection:
        key_id, key = keys.create(connection, name, scopes=scopes, origins=origins, rate=rate, expires_at=expires_at)
    typer.echo(f"Key {key_id} for {name}. It is shown this once:", err=True)
    typer.echo(key)


def _origin(text: str) -> str:
    if not key_format.is_origin(text):
        raise GaplessError(
            f"{text!r} is no web origin", hint="an origin is scheme, host and port alone: https://app.example"
        )
    return text


@keys_app.command(name="list")
def list_keys() -> None:
    """Show all keys; the keys themselves cannot be shown."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from indexer.cli.context import short_transaction
    from indexer.store.access import keys

    with short_transaction("keys") as connection:
        found = keys.load(connection)
    table = Table("id", "name", "begins", "scopes", "origins", "rate", "state", header_style="bold", pad_edge=False)
    for key in found:
        table.add_row(
            str(key["id"]),
            escape(key["name"]),
            f"{key['prefix']}…",
            ", ".join(key["scopes"]),
            ", ".join(key["origins"]) or "any",
            "" if key["rate"] is None else f"{key['rate']} / min",
            _state(key["revoked_at"], key["expires_at"], datetime.now(UTC)),
        )
    Console().print(table)


def _state(revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> str:
    if revoked_at is not None:
        return f"revoked {revoked_at:%Y-%m-%d}"
    if expires_at is None:
        return "valid"
    return f"{'valid until' if expires_at > now else 'expired'} {expires_at:%Y-%m-%d}"


@keys_app.command(name="revoke")
def revoke_key(
    key_id: Annotated[int, typer.Argument(help="Its id, as `gapless keys list` shows it.", min=1, max=2**31 - 1)],
) -> None:
    """Make a key worthless, for good; servers notice within five seconds."""
    from indexer.cli.context import short_transaction
    from indexer.store.access import keys

    with short_transaction("keys") as connection:
        if not keys.revoke(connection, key_id):
            raise GaplessError(f"there is no valid key {key_id}", hint="gapless keys list shows what there is")
    typer.echo(f"Key {key_id} is revoked.")


@jobs_app.callback()
def _root() -> None:
    """Keep ``list`` a word of its own; a lone command would take its place."""


@jobs_app.command(name="list")
def list_jobs(limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20) -> None:
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


def grants(
    apply: Annotated[bool, typer.Option("--apply", help="Do it, as the superuser of DATABASE_URL.")] = False,
    prefix: Annotated[str, typer.Option(help="What the names of the roles begin with.")] = "gapless",
    role: Annotated[str | None, typer.Option(help="Only this role: analyst.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="With --role: the role's password is the first line of this file.")
    ] = None,
) -> None:
    """Show the SQL that makes roles in Postgres with the least they need: indexer, migrator, api and analyst.

    With --apply it is done; roles for which the environment has a password (INDEXER_PASSWORD, MIGRATOR_PASSWORD,
    API_PASSWORD, ANALYST_PASSWORD) get that. May be done again at any time. --role analyst makes a login for analysts
    in a database of any owner, and changes nothing else.
    """
    from indexer.cli.context import database, servers
    from indexer.log import configure
    from indexer.settings import load_settings
    from indexer.store.access import grants as roles
    from indexer.store.database import psycopg_connection

    settings = load_settings()
    configure("WARNING", settings.log_format)
    with (
        servers(settings, with_redis=False) as given,
        database(given, application_name="gapless grants") as engine,
        engine.connect() as connection,
    ):
        driver = psycopg_connection(connection)
        if not apply:
            typer.echo(roles.statements(prefix, driver.info.dbname, role), nl=False)
            return
        given_passwords = {role: os.environ.get(f"{role.upper()}_PASSWORD") for role in roles.ROLES}
        passwords = {name: word for name, word in given_passwords.items() if word and role in (None, name)}
        if role and password_file:
            passwords[role] = _first_line(password_file)
        roles.apply(driver, prefix, passwords, role)
    made = [role] if role else roles.ROLES
    typer.echo(f"The roles are {', '.join(f'{prefix}_{name}' for name in made)}.")


def _first_line(path: Path) -> str:
    try:
        password = path.read_text().partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise GaplessError(f"--password-file {path} cannot be read: {error}") from error
    if not password:
        raise GaplessError(f"--password-file {path}: its first line is empty", hint="write the password there")
    return password
