"""The fixtures of the manifest's tests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from manifest_desk import ODD_ABI, REPOSITORY, Desk

from indexer.problems import Problem


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    shutil.copytree(REPOSITORY / "abis", tmp_path / "abis")
    (tmp_path / "abis" / "odd.json").write_text(json.dumps(ODD_ABI))
    return Desk(tmp_path)


@pytest.fixture
def problem(desk: Desk) -> Callable[[str], Problem]:
    """Reads a manifest that has one problem."""

    def read(text: str) -> Problem:
        (only,) = desk.problems(text)
        return only

    return read
