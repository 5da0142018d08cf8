"""``make reliability``: every scenario, as often as asked, and a table of the checks."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.node import serving
from tests.reliability import candidates  # noqa: F401 - adds its scenarios
from tests.reliability.rig import Rig
from tests.reliability.scenarios import SCENARIOS, Report


def run(name: str, folder: Path, *, seconds: float, scale: float, patience: float) -> Report:
    """Runs one scenario in a folder of its own.

    Args:
        name: of the scenario.
        folder: where its files go; must not exist.
        seconds: a block's time at the head.
        scale: how long troubles last, as a part of what the suite says.
        patience: seconds in which everything must be indexed once nothing is wrong.
    """
    folder.mkdir()
    report = Report()
    with serving() as server, contextlib.ExitStack() as stack:
        rig = Rig(folder, server, seconds, patience, scale, stack)
        try:
            SCENARIOS[name][1](rig, report)
        except Exception as error:  # noqa: BLE001 - whatever ends a scenario is a failure of it
            report.passed[f"{name} as a whole"] = (False, f"{type(error).__name__}: {error}")
    return report


def main() -> int:
    """Runs what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--only", default="", help="names of scenarios, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="how often each; all must pass")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how long troubles last, as a part of the suite's times"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="a block's time at the head")
    given = parser.parse_args()
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    names = [name for name in SCENARIOS if not given.only or name in given.only.split(",")]
    results: dict[tuple[str, str, str], list[tuple[bool, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="gapless-reliability-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        for turn in range(given.rounds):
            for name in names:
                began = time.monotonic()
                report = run(
                    name, Path(folder) / f"{name}-{turn}", seconds=given.seconds, scale=given.scale, patience=90.0
                )
                for check, outcome in report.passed.items():
                    results.setdefault((SCENARIOS[name][0], name, check), []).append(outcome)
                failed = [f"{check}: {said}" for check, (passed, said) in report.passed.items() if not passed]
                print(f"{name}: {'ok' if not failed else 'FAILED'} ({time.monotonic() - began:.0f} s)", flush=True)
                for line in failed:
                    print(f"    {line}", flush=True)
    print("\n| group | scenario | check | passed | measured |\n| --- | --- | --- | --- | --- |")
    for (group, name, check), outcomes in results.items():
        passed = sum(passed for passed, _ in outcomes)
        measured = "; ".join(dict.fromkeys(said for passed, said in outcomes if passed and said))
        print(f"| {group} | {name} | {check} | {passed} of {len(outcomes)} | {measured} |")
    good = sum(all(passed for passed, _ in outcomes) for outcomes in results.values())
    print(f"\n{good} of {len(results)} checks hold")
    return good < len(results)


if __name__ == "__main__":
    sys.exit(main())
