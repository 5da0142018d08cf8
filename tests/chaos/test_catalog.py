"""The catalog is read in several statements; a manifest may be applied between any two."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from indexer.store.catalog import catalog
from tests.chaos.stage import COIN, FACTORIES, stage


@pytest.fixture
def scene(chaos):
    with stage(chaos, "catalog") as one:
        one.apply(COIN)
        yield one


@pytest.mark.parametrize("statement", ["FROM gapless.events", "FROM gapless.sources"])
@pytest.mark.parametrize("dropped", [False, True])
def test_sources_are_read_while_a_manifest_is_applied(scene, statement, dropped):
    if dropped:
        scene.apply(COIN, FACTORIES)
    done = []

    def change(connection, cursor, text, *_):
        if statement in text and not done and connection.info.get("reads"):
            done.append(1)
            if dropped:
                scene.query("DELETE FROM gapless.sources WHERE event_id > 3 RETURNING 1")
                scene.query("DELETE FROM gapless.events WHERE id > 3 RETURNING 1")
            else:
                scene.apply(COIN, FACTORIES)

    sa.event.listen(scene.engine, "after_cursor_execute", change)
    with scene.engine.connect() as connection:
        connection.info["reads"] = True
        sources = catalog.load_sources(connection)
        connection.info.clear()
    assert done
    assert "coins" in {source.event.contract for source in sources}
