"""``make chaos SEEDS=1-300``: runs seeds one after the other, and says which failed and how to run them again."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from indexer.store import embedded
from tests import databases
from tests.chaos.arena import Arena, arena
from tests.chaos.kills import KillingSpree
from tests.chaos.simulation import Simulation, Tale
from tests.chaos.truth import WrongError
from tests.conftest import FAST

TOO_LONG = 300.0
"""Seconds."""


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    arguments.add_argument("--seeds", default="20", help="a number (that many from 1 on), or a range such as 40-60")
    arguments.add_argument("--kills", action="store_true", help="with real processes that are killed")
    arguments.add_argument(
        "--null-rounds", action="store_true", help="the chain leaves block numbers out, in all seeds"
    )
    given = arguments.parse_args()
    first, _, last = given.seeds.rpartition("-")
    seeds = range(int(first or 1), int(last) + 1)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # of connections that were cut
    failed: list[int] = []
    told: Counter[str] = Counter()
    # What was committed must outlive a crash of Postgres; one of the machine is not played.
    settings = {**FAST, "synchronous_commit": "on"}
    with (
        databases.servers_directory() as folder,
        embedded.postgres(folder, settings=settings) as url,
        embedded.redis(folder) as redis_url,
        arena(url, folder) as here,
    ):
        for seed in seeds:
            started = time.monotonic()
            # A seed that does not end says where it stands.
            faulthandler.dump_traceback_later(TOO_LONG, repeat=True)
            with here.database() as (database_url, own):
                try:
                    tale = _run(given, seed, here, database_url, own, redis_url)
                except Exception as error:  # noqa: BLE001 - any failure of a seed is what is looked for
                    failed.append(seed)
                    print(f"seed {seed} FAILED: {type(error).__name__}: {error}", flush=True)
                    if not isinstance(error, WrongError):
                        traceback.print_exc()
                    continue
            told += tale.told
            print(f"{tale} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{len(seeds) - len(failed)} of {len(seeds)} seeds passed; lies told: {dict(sorted(told.items()))}")
    for seed in failed:
        options = (" --kills" if given.kills else "") + (" --null-rounds" if given.null_rounds else "")
        print(f"again: python -m tests.chaos --seeds {seed}-{seed}{options}")
    return bool(failed)


def _run(given: argparse.Namespace, seed: int, here: Arena, database_url: str, folder: Path, redis_url: str) -> Tale:
    if given.kills:
        return KillingSpree(seed, here.server, database_url, folder, crashes=True).run()
    nulls = True if given.null_rounds else None
    return Simulation(
        seed, here.server, database_url, folder, redis_url=redis_url, crashes=True, null_rounds=nulls
    ).run()


if __name__ == "__main__":
    sys.exit(main())
