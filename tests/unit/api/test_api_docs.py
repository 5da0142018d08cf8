"""docs/api.md says what there is."""

import re
from pathlib import Path

import pytest

from api.app import ROUTES
from api.errors import CODES
from api.resources import collection
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
        "API_EXPORT_SLOTS",
    }


def test_every_parameter_is_described():
    described = set(re.findall(r"`([a-z_]+)`", TEXT))
    params = [*Feed.params.all, *Tokens.params.all, *BlockByTime.params.all, collection.TX_HASH, collection.FORMAT]
    assert {param.name for param in params} <= described


def test_every_path_is_listed():
    listed = TEXT.replace("{c}", "{contract}").replace("{e}", "{event}")
    for path, _ in ROUTES:
        tail = path.rpartition("/")[2]
        assert path in listed or f"`…/{tail}`" in listed, path
