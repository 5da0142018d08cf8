"""What ``make test`` leaves to ``make test-long``: further variants of a scene, and further examples.

A test with the mark ``long`` runs only there. Something that is promised has always a test that runs with every change.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

VARIABLE = "GAPLESS_TEST_LONG"
ALL = bool(os.environ.get(VARIABLE))
"""Whether nothing is left out."""


def further(*values: Any) -> Any:
    """Parameters of a test's variant that is left out."""
    return pytest.param(*values, marks=pytest.mark.long)


def examples(count: int) -> int:
    """How many made-up examples of so many are tried."""
    return count if ALL else max(1, count // 4)
