"""The fixtures of the manifest's tests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from manifest_desk import ODD_ABI, PROGRAM, REPOSITORY, Desk

from indexer.errors import Problem


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    shutil.copytree(REPOSITORY / "abis", tmp_path / "abis")
    (tmp_path / "abis" / "odd.json").write_text(json.dumps(ODD_ABI))
    both = [
        *json.loads((REPOSITORY / "abis/erc20.json").read_text()),
        *json.loads((REPOSITORY / "abis/erc1155.json").read_text()),
    ]
    (tmp_path / "abis" / "two_standards.json").write_text(
        json.dumps([item for item in both if item["type"] == "event"])
    )
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "positions.py").write_text(PROGRAM)
    return Desk(tmp_path)


@pytest.fixture
def problem(desk: Desk) -> Callable[[str], Problem]:
    """Reads a manifest that has one problem."""

    def read(text: str) -> Problem:
        (only,) = desk.problems(text)
        return only

    return read
