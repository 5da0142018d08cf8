"""``python -m indexer.store.embedded stop DATA_DIR``: stop the servers of a data directory, even while in use."""

import argparse
from pathlib import Path

from indexer.store.embedded.shared import SharedServer


def main() -> None:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m indexer.store.embedded", description=__doc__)
    parser.add_argument("action", choices=["stop"])
    parser.add_argument("data_dir", type=Path)
    data_dir: Path = parser.parse_args().data_dir
    for name in ("Postgres", "Redis"):
        directory = data_dir / name.lower()
        stopped = directory.is_dir() and SharedServer(name, directory).stop(patience=60.0)
        print(f"{name}: {'stopped' if stopped else 'was not running'}")  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main()
