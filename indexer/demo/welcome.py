"""What ``gapless demo`` prints when it runs: where to look, in lines that work as printed."""

import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from indexer.store import embedded

_QUERY = (
    "select block_number, block_time, contract_address, value "
    "from coins.transfer order by block_number desc, log_index desc limit 5"
)

_NO_CURL = """
  This machine has no curl: open these addresses in a browser.
"""


def welcome(api: str, database: str, node: str, directory: Path) -> str:
    """The text.

    Args:
        api: the API's URL.
        database: the URL of the embedded Postgres; its password is not printed.
        node: the URL of the demo's chain.
        directory: the demo's data.
    """
    coins = f"{api}/v1/contracts/coins"
    return f"""
Gapless is running at {api}/
{"" if shutil.which("curl") else _NO_CURL}
  The newest transfers of four ERC-20 coins, with their names and decimals:
    {_ask(f"{coins}/events/Transfer?limit=3&include=token")}

  How much there is of each, read every 10 blocks:
    {_ask(f"{coins}/snapshots/supply?limit=4")}

  Every transfer as it is indexed, until Ctrl-C:
    {_ask(f"{coins}/events/Transfer/stream", "-sLN")}

  All contracts, their events, and the blocks that are covered:
    {_ask(f"{api}/v1/contracts")}

  The same in SQL:
    {psql(database, directory)}

  How it stands, as its operator sees it (plan, audit and all other commands work likewise):
    {operator(node, directory)}

The logs are in {directory / "logs"}. Ctrl-C stops everything.
"""


def _ask(url: str, options: str = "-s") -> str:
    """A command line that gets something, or on a machine without curl what a browser opens."""
    return f"curl {options} {shlex.quote(url)}" if shutil.which("curl") else url


def operator(node: str, directory: Path) -> str:
    """A command line of an operator's command on the demo."""
    variables = {"GAPLESS_DATA_DIR": directory, "GAPLESS_MANIFEST": directory / "indexer.toml", "RPC_URL": node}
    given = [f"{name}={shlex.quote(str(value))}" for name, value in variables.items()]
    return " ".join([*given, shlex.quote(str(Path(sys.executable).with_name("gapless"))), "status"])


def psql(database: str, directory: Path) -> str:
    """A command line that asks the database; with the machine's psql, or else the one that came with the server."""
    program = "psql" if shutil.which("psql") else str(embedded.binaries() / "psql")
    parts = urlsplit(database)
    # The password stays in the file that the server made for this purpose.
    password_file = quote(str(directory / "postgres" / "pgpass"))
    connection = f"postgresql://{parts.username}@{parts.hostname}:{parts.port}{parts.path}?passfile={password_file}"
    return shlex.join([program, connection, "-c", _QUERY])
