"""``python -m benchmarks.scale``: every row of this package as one table; status 1 where a bar is not held."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import scale
from indexer.store import embedded

_WIDTHS = (60, 12, 12, 12)


def main() -> int:
    """Measure what the command line names; all of it by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=scale.names(), help="only this row; may be repeated"
    )
    parser.add_argument("--small", action="store_true", help="sizes that take a moment; no bar is judged")
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="gapless-scale-") as folder, embedded.postgres(Path(folder)) as url:
        print(_line("", "measured", "bar", "unit"))
        for name in arguments.only or scale.names():
            row = scale.measure(name, url, small=arguments.small)
            missed = not (row.holds or arguments.small)
            bound = f"{'>=' if row.at_least else '<='} {row.bar:,g}"
            print(_line(row.name, f"{row.measured:,.4g}", bound, row.unit) + ("  MISSED" if missed else ""), flush=True)
            failed += missed
    return 1 if failed else 0


def _line(*cells: str) -> str:
    first, *others = zip(cells, _WIDTHS, strict=True)
    return " ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


if __name__ == "__main__":
    sys.exit(main())
