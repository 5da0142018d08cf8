"""History over a link: the *dense* chain from a node that is 0, 50, 100 and 300 ms away.

Run: ``python -m benchmarks.link``. A batch holds 100 calls and a range about 7,000 logs, as the indexer asks by itself.
With ``--headers`` the node's logs do not tell the times of their blocks, so that a header is asked for each block.
Every table is checked before a line is printed; ``ratio`` is to the first line.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path

import psycopg

from benchmarks import measure, workloads
from benchmarks.workloads import Workload
from indexer.store import embedded

_TIME = re.compile(rb',"blockTimestamp":"0x[0-9a-f]+"')


def main() -> None:
    """Read the command line, run each latency, print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.5, help="a part of 1,000,000 events (default 0.5)")
    parser.add_argument("--latency", type=int, nargs="*", default=[0, 50, 100, 300], help="milliseconds, several")
    parser.add_argument("--in-flight", type=int, help="BACKFILL_IN_FLIGHT; by default the setting's")
    parser.add_argument("--headers", action="store_true", help="logs do not tell the times of their blocks")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gapless-link-") as home, embedded.postgres(Path(home) / "servers") as url:
        folder = Path(home) / "dense"
        workload = workloads.make("dense", folder, scale=arguments.scale)
        if arguments.headers:
            _without_times(folder, workload)
        more = [] if arguments.in_flight is None else ["--in-flight", str(arguments.in_flight)]
        print("latency ms  events/s  ratio  seconds  CPU s  peak MB  requests")
        base = 0.0
        for latency in arguments.latency:
            said = _run(folder, workload, url, latency / 1000, more)
            seconds = said["seconds"] - said["indexing"]
            rate = workload.events / seconds
            base = base or rate
            print(
                f"{latency:>10}  {rate:>8,.0f}  {rate / base:>5.2f}  {seconds:>7.2f}  {said['cpu']:>5.1f}  "
                f"{said['peak_bytes'] / 1e6:>7,.0f}  {said['requests']:>8,.0f}",
                flush=True,
            )


def _run(folder: Path, workload: Workload, server_url: str, latency: float, more: list[str]) -> dict[str, float]:
    """Index once; ``latency`` in seconds.

    Raises:
        WrongRowsError: a table is wrong.
    """
    manifest = measure.write_manifest(folder, workload)
    with measure.node(folder, latency) as (node_url, _), measure.database(server_url) as url:
        command = [sys.executable, "-m", "benchmarks.indexing", url, manifest, node_url, *more]
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        with psycopg.connect(url, autocommit=True) as connection:
            measure.check(connection, workload)
    said: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return said


def _without_times(folder: Path, workload: Workload) -> None:
    """Take the blocks' times out of the logs that the node will answer with."""
    for stream in workload.streams:
        logs, places = (folder / stream.name).with_suffix(".logs"), (folder / stream.name).with_suffix(".offsets")
        whole = logs.read_bytes()
        offsets: array[int] = array("Q", places.read_bytes())
        blocks = [_TIME.sub(b"", whole[a:b]) for a, b in zip(offsets, [*offsets[1:], len(whole)], strict=True)]
        logs.write_bytes(b"".join(blocks))
        at = 0
        for place, block in enumerate(blocks):
            offsets[place], at = at, at + len(block)
        places.write_bytes(offsets.tobytes())


if __name__ == "__main__":
    main()
