"""Secondary indexes during a large first backfill: away while it runs, back before it is called done."""

from __future__ import annotations

import threading

import pytest

from indexer.demo.world import manifest_text
from indexer.store.rows import indexes
from indexer.sync.history import backfill
from tests.integration.sync.rig import rig


@pytest.fixture
def one(shared_history, migrated_url, tmp_path, monkeypatch):
    monkeypatch.setattr(backfill, "_LARGE", 100)
    url = shared_history.world.w3.provider.endpoint_uri
    with rig(manifest_text(shared_history.world), tmp_path, url, migrated_url) as made:
        follower = made.follower()
        assert follower.prepare()
        yield made
        follower.close()


def states(one):
    with one.engine.connect() as connection:
        return {index.state for index in indexes.amiss(connection)}


def test_they_are_away_while_history_fills_and_there_when_it_is_filled(one):
    assert states(one) == set()
    stop = threading.Event()
    one.backfill(stop=stop, on_progress=lambda _: stop.set()).run()
    assert states(one) == {"put off"}
    # Nobody else builds them meanwhile.
    assert indexes.build(one.engine, threading.Event()) == 0
    progress = one.backfill().run()
    assert states(one) == set()
    assert progress.indexing > 0
    assert one.query("SELECT count(*) FROM gapless.events WHERE indexes_put_off") == [(0,)]


def test_they_stay_where_little_is_missing(one, monkeypatch):
    monkeypatch.setattr(backfill, "_LARGE", 10**9)
    stop = threading.Event()
    one.backfill(stop=stop, on_progress=lambda _: stop.set()).run()
    assert states(one) == set()
