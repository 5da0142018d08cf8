from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena, arena


@pytest.fixture(scope="session")
def chaos(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Databases and simulated nodes for seeds."""
    folder: Path = tmp_path_factory.mktemp("chaos")
    with arena(postgres_url, folder) as here:
        yield here
