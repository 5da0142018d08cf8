"""History from a portal beside history from a node: the *dense* chain from both, in one run.

Run: ``python -m benchmarks.portal``. The portal's lines lie in a file as the node's logs do; what comes from it is
compared with the node (``verify = "sample"`` by default). Every table is checked before a line is printed. ``of the
limit`` is the time of COPY alone, as in ``make bench``, divided by the seconds without the indexes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from benchmarks import measure, portal_node, workloads
from benchmarks.workloads import Workload
from indexer.store import embedded


def main() -> None:
    """Read the command line, run both, print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portal", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of 1,000,000 events (default 1.0)")
    parser.add_argument("--latency", type=int, default=0, help="milliseconds to node and portal")
    parser.add_argument("--verify", choices=["all", "sample", "none"], default="sample")
    parser.add_argument("--runs", type=int, default=1, help="the best of so many is printed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gapless-portal-") as home, embedded.postgres(Path(home) / "pg") as url:
        folder = Path(home) / "dense"
        workload = workloads.make("dense", folder, scale=arguments.scale)
        portal_node.write_lines(folder)
        print("history from  events/s  COPY s  of the limit  seconds  CPU s  peak MB  requests     MB")
        for verify in (None, arguments.verify):
            best = max(
                (run(folder, workload, url, arguments.latency / 1000, verify) for _ in range(arguments.runs)),
                key=lambda said: said["of the limit"],
            )
            print(
                f"{'node' if verify is None else 'portal':<12}  {workload.events / best['seconds']:>8,.0f}  "
                f"{best['copy']:>6.2f}  {best['of the limit']:>12.2f}  {best['seconds']:>7.2f}  {best['cpu']:>5.1f}  "
                f"{best['peak_bytes'] / 1e6:>7,.0f}  {best['requests']:>8,.0f}  {best['bytes'] / 1e6:>5,.0f}",
                flush=True,
            )


def run(folder: Path, workload: Workload, server_url: str, latency: float, verify: str | None) -> dict[str, float]:
    """Index once.

    Args:
        folder: of the workload, with the portal's lines.
        workload: what is indexed.
        server_url: a Postgres where databases may be made.
        latency: seconds to the node and to the portal.
        verify: as in the manifest; None: from the node alone.

    Raises:
        WrongRowsError: a table is wrong.
    """
    manifest = measure.write_manifest(folder, workload, verify=verify)
    with (
        measure.node(folder, latency) as (node_url, _),
        measure.node(folder, latency, module="benchmarks.portal_node") as (portal_url, _),
        measure.database(server_url) as url,
    ):
        command = [sys.executable, "-m", "benchmarks.indexing", url, manifest, node_url, "--portal", portal_url]
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        said: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
        with psycopg.connect(url, autocommit=True) as connection:
            measure.check(connection, workload)
            copy = measure.copy_seconds(connection, folder, workload)
    seconds = said["seconds"] - said["indexing"]
    return {**said, "seconds": seconds, "copy": copy, "of the limit": copy / seconds}


if __name__ == "__main__":
    main()
