"""The API's seeded world, whose rows are exported."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from indexer.store.catalog.catalog import load_events
from indexer.store.database import create_engine
from indexer.store.export.folder import Folder
from indexer.store.export.run import ExportReport, ExportRequest, export
from tests.integration.api.conftest import copy_world, seed, world_template, world_url  # noqa: F401 - fixtures


@dataclass
class Exporter:
    """Exports one event of the world, and looks into its folder."""

    engine: Any
    out: Path
    label: str = "usdc.Transfer"

    def folder(self) -> Folder:
        return Folder.at(str(self.out))

    def run(self, stop: threading.Event | None = None, **request: Any) -> ExportReport:
        with self.engine.connect() as connection:
            (event,) = [one for one in load_events(connection).values() if one.label == self.label]
        asked = ExportRequest(**{"blocks_per_file": 100, **request})
        return export(self.engine, event, self.folder(), asked, stop or threading.Event())

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.out / "_manifest.json").read_text())

    def files(self) -> list[str]:
        return [one["path"] for one in self.manifest()["files"] if one["path"]]

    def on_disk(self) -> list[str]:
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_file())

    def rows(self) -> list[dict[str, Any]]:
        """All rows as a reader of folders finds them."""
        table = ds.dataset(self.out, format="parquet", partitioning="hive").to_table()
        order = [(name, "ascending") for name in ("chain_id", "block_number", "log_index")]
        return table.sort_by(order).to_pylist()

    def blocks(self) -> list[tuple[int, int]]:
        return [(one["first_block"], one["last_block"]) for one in self.manifest()["files"]]

    def schema(self) -> Any:
        return pq.read_schema(self.out / self.files()[0])


@pytest.fixture
def exporter(world_url, tmp_path) -> Any:  # noqa: F811
    engine = create_engine(world_url)
    yield Exporter(engine, tmp_path / "out")
    engine.dispose()
