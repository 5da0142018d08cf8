"""``make profile``: where the time of a dense backfill goes, thread by thread, in this process.

Every thread runs under cProfile, which makes Python code slower than native code: look at the order, not at the times.
"""

import argparse
import cProfile
import pstats
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks import measure, workloads
from benchmarks.indexing import index
from indexer.settings import Settings
from indexer.store import embedded

_LINES = 35


def main() -> None:
    """Print the functions that take the most time of their own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("workload", nargs="?", default="dense", choices=list(workloads.WORKLOADS))
    parser.add_argument("--scale", type=float, default=0.2, help="a part of the full size (default 0.2)")
    arguments = parser.parse_args()
    profiles: list[cProfile.Profile] = []
    plain = threading.Thread.run

    def profiled(thread: threading.Thread) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.runcall(plain, thread)

    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as temporary:
        folder = Path(temporary) / "workload"
        workload = workloads.make(arguments.workload, folder, scale=arguments.scale)
        with (
            embedded.postgres(Path(temporary) / "servers") as server_url,
            measure.node(folder) as (node_url, _),
            measure.database(server_url) as url,
        ):
            manifest = measure.write_manifest(folder, workload)
            threading.Thread.run = profiled  # type: ignore[method-assign]
            profiles.append(cProfile.Profile())
            said: dict[str, Any] = profiles[0].runcall(
                index, url, manifest, {"RPC_URL": node_url}, Settings().backfill_in_flight
            )
            threading.Thread.run = plain  # type: ignore[method-assign]
    stats = pstats.Stats(*profiles)
    print(f"{said['rows']:,} rows in {said['seconds']:.1f} s, under the profiler")
    stats.strip_dirs().sort_stats("tottime").print_stats(_LINES)


if __name__ == "__main__":
    main()
