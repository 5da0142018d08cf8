"""Two workers fill two sources that displace the same retired one, over the same blocks, at the same time."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from indexer.block_records import BlockColumns
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import load_version
from indexer.store.rows import writer
from indexer.store.rows.writer import Rows, WriteOutcome
from tests.chaos.chain import COINS
from tests.chaos.stage import contract, stage
from tests.chaos.test_blocks_at_once import until_somebody_waits

BLOCKS = (1, 25)


@pytest.fixture
def scene(chaos):
    with stage(chaos, "displacing") as one:
        follower = one.follower()
        one.apply(coins('"any"'))
        one.settle(follower)
        follower.close()
        # In two pieces: what deletes them does so in two statements, and the second sees what was committed meanwhile.
        one.query("""
            DELETE FROM coins.transfer WHERE block_number = 10;
            DELETE FROM gapless.undecoded_logs WHERE block_number = 10;
            UPDATE gapless.sources SET coverage = coverage - '{[10,11)}';
            SELECT 1
        """)
        # One after the other, so that each is a source of its own.
        one.apply(coins(json.dumps(COINS[:1])))
        one.apply(coins(json.dumps(COINS[:2])))
        yield one


def coins(where: str) -> str:
    return contract("coins", "coin", f"address = {where}", start_block="0", events='["Transfer"]')


@pytest.mark.promise("R-13")
def test_neither_deletes_what_the_other_has_written(scene):
    with scene.engine.connect() as connection:
        version, sources = load_version(connection), catalog.load_sources(connection)
    one, other = sources
    parts = [rows(scene, source) for source in sources]
    assert all(part.count for part in parts)
    outcomes = []

    def write(connection, source: Source, part: Rows) -> None:
        outcomes.append(
            writer.write_history(
                connection, source.chain_id, BLOCKS, [source], rows=part, blocks=NOTHING, catalog_version=version
            )
        )

    def beside() -> None:
        with scene.engine.begin() as connection:
            write(connection, other, parts[1])

    with scene.engine.begin() as first:
        write(first, one, parts[0])
        thread = threading.Thread(target=beside)
        thread.start()
        until_somebody_waits(scene)
    thread.join()
    assert outcomes == [WriteOutcome.WRITTEN] * 2
    picture = scene.look()
    assert {s.active: s.coverage for s in picture.sources}[True] == (BLOCKS,)
    assert [rows(scene, source).count for source in sources] == [part.count for part in parts]


NOTHING = BlockColumns(np.zeros(0, dtype=np.int64), np.zeros((0, 32), dtype=np.uint8), np.zeros(0, dtype=np.int64))


def rows(scene, source: Source) -> Rows:
    """What the table holds of a source's blocks."""
    table = source.event.table
    columns = ", ".join(f'"{name}"' for name in table.column_names)
    address = source.place.addresses[0][2:]
    found = scene.query(
        f"SELECT {columns} FROM coins.transfer WHERE contract_address = '\\x{address}' "
        f"AND block_number BETWEEN {BLOCKS[0]} AND {BLOCKS[1]}"
    )
    return Rows(by_table={source.event.event_id: (table, found)})
