"""docs/api.md says what there is."""

import re
from pathlib import Path

import pytest

from api.app import ROUTES
from api.errors import CODES
from api.resources.blocks import BlockByTime
from api.resources.feed import Feed
from api.resources.tokens import Tokens

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_named_beside_its_status(code):
    row = next((line for line in TEXT.splitlines() if line.startswith("| ") and f"`{code}`" in line), "")
    assert str(CODES[code][0]) in row.split("|")[1]


def test_no_code_is_named_that_there_is_not():
    assert set(re.findall(r"`(?:\d{3} )?([A-Z]+(?:_[A-Z]+)+)`", TEXT)) - CODES.keys() == {
        "API_UNINDEXED_WINDOW",
        "API_PROCESSES",
        "API_THREADS",
        "API_QUICK",
        "API_EXPORT_SLOTS",
        "API_EXPORT_TIMEOUT",
        "API_LEAST_PACE",
    }


def test_every_parameter_is_described():
    described = set(re.findall(r"`([a-z_]+)`", TEXT))
    models = (Feed.params, Tokens.params, BlockByTime.params)
    assert {name for model in models for name in model.names()} <= described


def test_every_path_is_listed():
    listed = TEXT.replace("{c}", "{contract}").replace("{e}", "{event}")
    for path, _ in ROUTES:
        tail = path.rpartition("/")[2]
        assert path in listed or f"`…/{tail}`" in listed, path


def test_the_collection_that_is_shown_is_the_one_that_is_tested():
    root = Path(__file__).resolve().parents[3]
    (shown,) = re.findall(r"```python\n(\"\"\".*?)```", (root / "docs" / "collections.md").read_text(), re.DOTALL)
    assert shown == (root / "tests" / "integration" / "api" / "reserves.py").read_text()
