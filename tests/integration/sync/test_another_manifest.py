"""A running indexer notices that another process has applied another manifest, and says so once."""

from __future__ import annotations

import logging

import pytest

from indexer.cli.context import difference
from indexer.service.manifest_watcher import CatalogWatcher
from indexer.store.catalog.version import end_change, load_version
from tests.integration.sync.test_changes import chain_text, coins, indexed, url_of


@pytest.fixture
def one(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    with indexed(text, shared_history, migrated_url, tmp_path) as (rigged, _):
        rigged.text = text
        yield rigged


def test_another_manifest_is_told_once_and_the_way_back(one, shared_history, tmp_path, caplog):
    caplog.set_level(logging.INFO, "indexer.service.manifest_watcher")
    ours = one.manifest

    def version() -> int:
        with one.engine.connect() as connection:
            return load_version(connection)

    watch = CatalogWatcher(version, lambda manifest: difference(one.engine, manifest))

    def said() -> list[str]:
        watch.look(ours)
        lines = [record.getMessage() for record in caplog.records if record.name == "indexer.service.manifest_watcher"]
        caplog.clear()
        return lines

    assert said() == []
    other = tmp_path / "other"
    other.mkdir()
    one.apply(chain_text(shared_history) + coins(shared_history, "gold", "silver"), other, url_of(shared_history))
    (line,) = said()
    assert line.startswith(f"another process has applied another manifest than {ours.path}")
    assert "run gapless apply with it, or send SIGHUP; it would do: " in line
    assert watch.changes
    assert said() == [], "it is said once"
    with one.engine.begin() as connection:
        end_change(connection)
    assert said() == [], "and not again while it is the same difference"
    one.apply(one.text, tmp_path, url_of(shared_history))
    assert said() == [f"the catalog is that of {ours.path} again"]
    assert not watch.changes
    assert said() == []
