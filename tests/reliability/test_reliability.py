"""Some scenarios in every test run, with short troubles; ``make reliability`` runs all, at the suite's own times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.further import further
from tests.reliability.__main__ import run


@pytest.mark.parametrize(
    "name",
    ["reorg-removes", "awkward-values", "undecodable-log"]
    + [further(name) for name in ("graceful-shutdown", "reorg-shorter", "large-log-indexes")],
)
def test_scenario(name: str, data_dir: Path) -> None:
    report = run(name, data_dir / f"reliability-{name}", seconds=0.5, scale=0.2, patience=60.0)
    assert report.passed
    assert not {check: said for check, (passed, said) in report.passed.items() if not passed}
