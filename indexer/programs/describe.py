"""What a program's file declares, as JSON, found out in a process of its own (``python -m indexer.programs.describe``).

Who reads a manifest must not run code that may hang, end the process or leave something behind.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from indexer.errors import GaplessError
from indexer.programs.module import LoadedProgram, load


def described(loaded: LoadedProgram) -> dict[str, Any]:
    """The description of a program."""
    return {
        "code_hash": loaded.code_hash,
        "files": [str(file) for file in loaded.files],
        "events": sorted(loaded.program.handlers),
        "tables": [
            {
                "name": table.table_name,
                "comment": (table.__doc__ or "").strip().partition("\n")[0],
                "columns": [
                    {
                        "name": column.name,
                        "pg_type": column.kind.pg_type,
                        "key": column.key,
                        "nullable": column.nullable,
                        "comment": column.kind.name,
                    }
                    for column in table.columns
                ],
            }
            for table in loaded.program.tables
        ],
    }


def main(path: str) -> None:
    """Print the description, or ``{"problem": ...}``."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what the code prints is none of ours
            found = described(load(Path(path)))
    except GaplessError as error:
        found = {"problem": str(error)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
