"""What ``gapless demo`` prints when it runs: where to look, in lines that work as printed."""

import shlex
import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

from indexer.store import embedded

_QUERY = (
    "select block_number, block_time, contract_address, value "
    "from coins.transfer order by block_number desc, log_index desc limit 5"
)


def welcome(api: str, database: str, directory: Path) -> str:
    """The text.

    Args:
        api: the API's URL.
        database: the URL of the embedded Postgres; its password is not printed.
        directory: the demo's data.
    """
    coins = f"{api}/v1/contracts/coins"
    return f"""
Gapless is running at {api}/

  The newest transfers of four ERC-20 coins, with their names and decimals:
    curl -s {shlex.quote(f"{coins}/events/Transfer?limit=3&include=token")}

  How much there is of each, read every 10 blocks:
    curl -s {shlex.quote(f"{coins}/snapshots/supply?limit=4")}

  Every transfer as it is indexed, until Ctrl-C:
    curl -sLN {shlex.quote(f"{coins}/events/Transfer/stream")}

  All contracts, their events, and the blocks that are covered:
    curl -s {shlex.quote(f"{api}/v1/contracts")}

  The same in SQL:
    {psql(database, directory)}

The logs are in {directory / "logs"}. Ctrl-C stops everything.
"""


def psql(database: str, directory: Path) -> str:
    """A command line that asks the database; with the machine's psql, or else the one that came with the server."""
    program = "psql" if shutil.which("psql") else str(embedded.binaries() / "psql")
    parts = urlsplit(database)
    # The password stays in the file that the server made for this purpose.
    password_file = quote(str(directory / "postgres" / "pgpass"))
    connection = f"postgresql://{parts.username}@{parts.hostname}:{parts.port}{parts.path}?passfile={password_file}"
    return shlex.join([program, connection, "-c", _QUERY])
