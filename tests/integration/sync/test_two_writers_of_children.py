"""A factory's filter is changed, and two processes write its announcements at the same time, both by the same plan."""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, wait

import pytest
import sqlalchemy as sa

from indexer.settings import Settings
from indexer.sync.history import workers
from indexer.sync.history.backfill import Selection
from tests.further import further
from tests.integration.sync.rig import Rig
from tests.integration.sync.test_children import FIRST, MADE, ONE, TWO, Story, argument, child, event, tell

WITHIN = 120.0
"""Seconds in which two processes have started, fetched and come to their commits."""

RULES = ("child", "other", "pool")


@pytest.fixture
def story(anvil, tmp_path) -> Story:
    made = Story(anvil, tmp_path)
    indexed = [argument("child", "address") | {"indexed": True}, argument("other", "address")]
    (tmp_path / "first.json").write_text(json.dumps([event("Made", *indexed)]))
    # The first argument is a topic:
    # calldatacopy(0, 64, calldatasize - 64); log2(0, calldatasize - 64, calldataload(0), calldataload(32))
    code = "0x604036036040600037" + "602035600035" + "604036036000a200"
    anvil.rpc("anvil_setCode", "0x" + FIRST.hex(), code)
    tell(made)
    return made


@pytest.mark.parametrize(
    "parts", [((0, 6), (7, 10)), further(((0, 10), (0, 10)))], ids=["side_by_side", "the_same_blocks"]
)
@pytest.mark.parametrize("before", [further((TWO,)), (ONE,), None], ids=["other_values", "fewer_values", "all"])
def test_two_processes_write_what_a_changed_filter_announces(story, migrated_url, before, parts):
    told = list(story.said)
    wanted = (ONE, TWO) if before is not None else (TWO,)
    with story.rig("", migrated_url) as one:
        follower = one.follower()
        one.apply(filtered(story, before) + child(*RULES), story.tmp_path, story.url)
        one.catch_up(follower)
        story.said = announced(told, before)
        story.check(one, RULES)
        one.apply(filtered(story, wanted) + child(*RULES), story.tmp_path, story.url)
        fill_at_once(one, migrated_url, parts)
        one.catch_up(follower)
        story.said = announced(told, wanted)
        story.check(one, RULES)
        follower.close()


def filtered(story: Story, values: tuple[bytes, ...] | None) -> str:
    """The factories, where the first announces only some children; None: all."""
    if values is None:
        return story.start
    names = ", ".join(f'"0x{value.hex()}"' for value in values)
    return story.start.replace(
        "[contracts.second]", f"filters = {{ Made = {{ child = [{names}] }} }}\n\n[contracts.second]"
    )


def announced(said, values):
    return [one for one in said if values is None or one[2] != MADE or one[3][0] in values]


def fill_at_once(one: Rig, database_url: str, parts: tuple[tuple[int, int], ...]) -> None:
    """Each part in a process of its own; none commits before both have fetched, and wait for their commits."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(parts), mp_context=context) as executor:
        with one.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # processes start slowly
            connection.execute(sa.text("SELECT 1 FROM gapless.sources FOR UPDATE"))
            jobs = [
                executor.submit(
                    workers.fill, workers.WorkerJob(database_url, one.chain, Settings(), Selection("first", None, part))
                )
                for part in parts
            ]
            until = time.monotonic() + WITHIN
            while _waiting(one) < len(parts):
                assert time.monotonic() < until, "they never wait for their commits"
                wait(jobs, timeout=0.05)
                assert not [job.result() for job in jobs if job.done()]
        blocks = sum(job.result(WITHIN).blocks for job in jobs)
    assert blocks == len({number for first, last in parts for number in range(first, last + 1)})


def _waiting(one: Rig) -> int:
    return int(
        one.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'gapless worker%%' AND wait_event_type = 'Lock'"
        )[0][0]
    )
