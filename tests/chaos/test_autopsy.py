"""A seed that does not settle says why: whoever reads it was not there."""

from __future__ import annotations

from unittest import mock

import pytest

from tests.chaos import autopsy, kills
from tests.chaos.kills import KillingSpree
from tests.chaos.truth import WrongError


def test_what_stands_still_tells_what_it_waits_for(chaos):
    with chaos.database() as (url, folder):
        spree = KillingSpree(1, chaos.server, url, folder)

        def never(_picture):
            if any("following sim from block" in log.read_text() for log in folder.glob("indexer-*.log")):
                kills.GOES_ON_WITHIN = 2.0
            raise WrongError("a gap stays")

        with (
            mock.patch.object(kills, "GOES_ON_WITHIN", 120.0),  # to start takes a busy machine long
            mock.patch.object(spree._judge, "check_complete", never),
            pytest.raises(WrongError) as raised,
        ):
            spree.run(steps=1)
    told = str(raised.value)
    assert told.startswith("it never settles: a gap stays\n")
    for title in ("chains:\n", "endpoints:\n  host http", "sources:\n  id ", "sessions:\n  pid ", "locks:\n"):
        assert f"\n{title}" in told
    assert "indexer/service/scheduler.py" in told.partition("\nthe threads of indexer ")[2]
    assert "following sim from block" in told.partition("\nthe last words of indexer ")[2]


def test_a_job_that_ended_as_nobody_foresaw_is_found(tmp_path):
    (tmp_path / "indexer-1.log").write_text("12:00 indexer.sync.head.follower following sim from block 3\n")
    assert autopsy.defects(tmp_path) == []
    (tmp_path / "indexer-2.log").write_text("12:00 indexer.service.scheduler job fill sim failed: 3\nKeyError: 3\n")
    assert autopsy.defects(tmp_path) == ["indexer.service.scheduler job fill sim failed: 3\nKeyError: 3\n"]
