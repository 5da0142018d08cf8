"""Some scenarios in every test run, with short troubles; ``make reliability`` runs all, at the suite's own times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.__main__ import run


@pytest.mark.parametrize(
    "name",
    ["graceful-shutdown", "reorg-shorter", "reorg-removes", "awkward-values", "large-log-indexes", "undecodable-log"],
)
def test_scenario(name: str, data_dir: Path) -> None:
    report = run(name, data_dir / f"reliability-{name}", seconds=0.5, scale=0.2, patience=60.0)
    assert report.passed
    assert not {check: said for check, (passed, said) in report.passed.items() if not passed}
