"""Digests: additive, merged as they grow old, in step with changes that are meant, and blind to none that are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexer.store.catalog import catalog
from indexer.store.integrity import digests
from indexer.sync.audit import table_checks as digesting
from tests.integration.audit.conftest import execute, run


def source_of(connection, label: str):
    return next(s for s in catalog.load_sources(connection) if s.event.label == label)


@pytest.mark.promise("P-02")
def test_parts_add_up_to_the_whole_for_every_source(indexed):
    with indexed.engine.connect() as connection:
        for source in catalog.load_sources(connection):
            whole = digests.measure(connection, source, (0, 237))
            parts = [digests.measure(connection, source, part) for part in ((0, 50), (51, 51), (52, 237))]
            assert sum(parts, digests.Sum(0, 0)) == whole
            (stored,) = digests.load(connection, source.source_id)
            assert stored.sum == whole


def test_what_is_covered_later_is_digested_later_and_merged(indexed, monkeypatch):
    monkeypatch.setattr(digests, "MOST_PER_SOURCE", 4)
    execute(indexed, "DELETE FROM gapless.digests")
    with indexed.engine.connect() as connection:
        source = source_of(connection, "coins.Transfer")
    for last in range(20, 240, 20):
        with indexed.engine.begin() as connection:
            assert digests.take(connection, source, last) == (((max(0, last - 20) + 1, last)),)
            stored = digests.load(connection, source.source_id)
            assert len(stored) <= 4
            assert digests.digested(stored) == ((1, last),)
            for one in stored:
                assert one.sum == digests.measure(connection, source, (one.first, one.last))
    # The oldest are the longest.
    assert stored[0].last - stored[0].first > stored[-1].last - stored[-1].first


def test_nothing_above_finalized_or_outside_coverage_is_digested(indexed):
    assert digesting.take_digests(indexed.engine, indexed.chain.chain_id) == 0
    execute(indexed, "DELETE FROM gapless.digests")
    execute(indexed, "UPDATE gapless.sources SET coverage = coverage - '{[100,120)}'")
    assert digesting.take_digests(indexed.engine, indexed.chain.chain_id) > 0
    ranges = indexed.query("SELECT DISTINCT first_block, last_block FROM gapless.digests ORDER BY 1")
    assert ranges == [(1, 99), (120, 237)]


@pytest.mark.parametrize("matched", [True, False])
def test_a_change_that_is_meant_keeps_a_digest_that_held_in_step_and_no_other(indexed, matched):
    if not matched:
        execute(indexed, "UPDATE coins.transfer SET value = 7 WHERE block_number = 1")
    with indexed.engine.begin() as connection:
        source = source_of(connection, "coins.Transfer")
        (before,) = digests.load(connection, source.source_id)
        with digests.rewriting(connection, source, ((5, 230),)):
            connection.exec_driver_sql("DELETE FROM coins.transfer WHERE block_number BETWEEN 5 AND 230")
        (after,) = digests.load(connection, source.source_id)
        now = digests.measure(connection, source, (1, 237))
    assert (after.sum == now) == matched
    assert (after == before) != matched
    assert {f.kind for f in run(indexed, contract="coins").findings} == (set() if matched else {"digest"})


def test_a_digest_of_another_version_is_neither_right_nor_wrong(indexed):
    execute(indexed, "UPDATE gapless.digests SET method = 'postgres 12, layout 1', digest = 0")
    report = run(indexed)
    assert not report.findings
    assert report.digest.incomparable == len(indexed.query("SELECT FROM gapless.digests"))
    with indexed.engine.begin() as connection:
        source = source_of(connection, "coins.Transfer")
        (stored,) = digests.load(connection, source.source_id)
        digests.replace(connection, source, stored)
        (renewed,) = digests.load(connection, source.source_id)
        assert renewed == replace(
            renewed, sum=digests.measure(connection, source, (1, 237)), method=digests.method(connection)
        )
