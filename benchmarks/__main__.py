"""``make bench``: the workloads, checked row by row, as one table."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import measure, workloads
from benchmarks.measure import Result, WrongRowsError
from indexer.store import embedded

_HEADINGS = (
    ("workload", 9), ("events", 10), ("seconds", 8), ("events/s", 9), ("download s", 11), ("COPY s", 7),
    ("of the limit", 13), ("indexes s", 10), ("peak MB", 8), ("CPU s", 6), ("node CPU", 9), ("Postgres CPU", 13),
    ("requests", 9), ("MB", 6),
)  # fmt: skip


def main() -> int:
    """Run what the command line names; all of it by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workload", nargs="*", choices=[*workloads.WORKLOADS, []], help="which; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the full size (default 1.0)")
    parser.add_argument("--folder", type=Path, help="keep the workloads here and use them again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as temporary:
        home = arguments.folder or Path(temporary)
        with embedded.postgres(Path(temporary) / "servers") as url:
            print(_row([heading for heading, _ in _HEADINGS]))
            for name in arguments.workload or workloads.WORKLOADS:
                folder = home / f"{name}-{arguments.scale:g}"
                if not (folder / "workload.json").exists():
                    workloads.make(name, folder, scale=arguments.scale)
                try:
                    print(_row(_cells(measure.run(folder, url))), flush=True)
                except WrongRowsError as error:
                    print(f"{name}: wrong rows: {error}", file=sys.stderr)
                    return 1
    return 0


def _cells(result: Result) -> list[str]:
    return [
        result.workload.name,
        f"{result.workload.events:,}",
        f"{result.seconds:.2f}",
        f"{result.workload.events / (result.seconds - result.indexing):,.0f}",
        f"{result.download:.2f}",
        f"{result.copy:.2f}",
        f"{result.of_the_limit:.2f}",
        f"{result.indexing:.2f}",
        f"{result.peak / 1e6:,.0f}",
        f"{result.cpu:.1f}",
        f"{result.node_cpu:.1f}",
        f"{result.postgres_cpu:.1f}",
        f"{result.requests:,}",
        f"{result.bytes / 1e6:,.0f}",
    ]


def _row(cells: list[str]) -> str:
    return " ".join(cell.rjust(width) for cell, (_, width) in zip(cells, _HEADINGS, strict=True))


if __name__ == "__main__":
    sys.exit(main())
