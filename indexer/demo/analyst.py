"""A login for analysts in the demo's database, and the command line that asks a question with it."""

import secrets
import shlex
import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg

from indexer.store import embedded
from indexer.store.access import grants

_PREFIX = "gapless"
_HEX_DIGITS = 48
_QUERY = (
    "select block_number, block_time, symbol, to_address, value_units "
    "from coins.transfer_v order by block_number desc, log_index desc limit 5"
)


def make_login(database: str, directory: Path) -> str:
    """Make the login, or give it its grants again; its password is the one that is kept beside the data.

    Args:
        database: the URL of the demo's database, as its superuser.
        directory: the demo's data.

    Returns:
        The URL of the database as the analyst, without the password.
    """
    name = f"{_PREFIX}_analyst"
    file = password_file(directory)
    kept = file.read_text("utf-8").strip().rpartition(":")[2] if file.exists() else ""
    if len(kept) != _HEX_DIGITS:
        kept = secrets.token_hex(_HEX_DIGITS // 2)
        file.touch(0o600)
        file.write_text(f"127.0.0.1:*:*:{name}:{kept}\n", "utf-8")
    with psycopg.connect(database) as connection:
        grants.apply(connection, _PREFIX, {"analyst": kept}, "analyst")
    parts = urlsplit(database)
    return f"postgresql://{name}@{parts.hostname}:{parts.port}{parts.path}"


def password_file(directory: Path) -> Path:
    """Where the password is kept, in the form that psql and all that uses libpq reads.

    Args:
        directory: the demo's data.
    """
    return directory / "analyst.pgpass"


def psql(database: str, passwords: Path) -> str:
    """A command line that asks the database; with the machine's psql, or else the one that came with the server.

    Args:
        database: its URL; a password in it is not shown.
        passwords: the file that has it.
    """
    program = "psql" if shutil.which("psql") else str(embedded.binaries() / "psql")
    parts = urlsplit(database)
    where = f"{parts.username}@{parts.hostname}:{parts.port}{parts.path}"
    return shlex.join([program, f"postgresql://{where}?passfile={quote(str(passwords))}", "-c", _QUERY])
