"""Freshness never lies: a head that stands still is told everywhere, by one definition."""

from __future__ import annotations

import psycopg
import pytest

from indexer.store import status
from indexer.store.database import create_engine


@pytest.fixture
def chain(migrated_url):
    """A chain with a block every so many seconds, whose tip moved a while ago: makes it so."""
    engine = create_engine(migrated_url)

    def make(*, every: float, moved_ago: float | None, state: str = "following") -> dict[str, object]:
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            connection.execute("TRUNCATE gapless.chains, gapless.blocks CASCADE")
            connection.execute(
                "INSERT INTO gapless.chains (chain_id, name, state, tip_number, tip_hash, tip_time, moved_at) "
                "VALUES (1, 'demo', %s, 60, '', now(), now() - make_interval(secs => %s))",
                (state, moved_ago),
            )
            connection.execute(
                "INSERT INTO gapless.blocks (chain_id, number, hash, time) "
                "SELECT 1, number, '', now() - make_interval(secs => %s * (60 - number)) "
                "FROM generate_series(1, 60) number",
                (every,),
            )
        with engine.connect() as connection:
            seen = status.load_overview(connection)
        with engine.connect() as connection:
            (found,) = status.load_gauges(connection).chains
        with engine.connect() as connection:
            stalled = status.load_stalled(connection)
        assert found["stalled"] == ("demo" in stalled)
        assert found["state"] == ("stalled" if found["stalled"] and state != "halted" else state)
        assert seen.chains[0].state == found["state"]
        return {**found, "reason": seen.chains[0].reason}

    yield make
    engine.dispose()


@pytest.mark.parametrize(
    ("every", "moved_ago", "is_stalled"),
    [
        (1, 29, False),
        (1, 32, True),
        (0.25, 29, False),
        (12, 118, False),
        (12, 125, True),
        (600, 5900, False),
        (600, 6100, True),
        (1, None, False),  # nobody has ever followed it
    ],
)
def test_a_head_is_stalled_when_it_stands_still_for_longer_than_its_pace_allows(chain, every, moved_ago, is_stalled):
    found = chain(every=every, moved_ago=moved_ago)
    assert found["stalled"] is is_stalled
    assert ("no new block is indexed since" in str(found["reason"])) is is_stalled


def test_a_pause_long_ago_says_nothing_of_the_pace(chain, migrated_url):
    chain(every=1, moved_ago=1)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("UPDATE gapless.blocks SET time = time - interval '1 day' WHERE number < 58")
        connection.execute("UPDATE gapless.chains SET moved_at = now() - interval '35 s'")
        assert connection.execute("SELECT count(*) FROM gapless.blocks").fetchone() == (60,)
    engine = create_engine(migrated_url)
    with engine.connect() as connection:
        assert status.load_stalled(connection).keys() == {"demo"}
    engine.dispose()


def test_a_halted_chain_stays_halted(chain):
    found = chain(every=1, moved_ago=1000, state="halted")
    assert found["state"] == "halted"


@pytest.mark.parametrize(
    ("behind", "heard_ago", "dev", "is_stalled"),
    [
        (0, 5, True, False),  # nobody sends transactions
        (0, 5, False, True),
        (1, 5, True, True),  # there is a block, and it is not indexed
        (0, 60, True, True),  # its nodes, or the indexer, say nothing
    ],
)
def test_a_chain_for_development_may_stand_still(chain, migrated_url, behind, heard_ago, dev, is_stalled):
    chain(every=1, moved_ago=3600)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE gapless.chains SET dev = %s, head_number = tip_number + %s, "
            "head_seen_at = now() - make_interval(secs => %s)",
            (dev, behind, heard_ago),
        )
    engine = create_engine(migrated_url)
    with engine.connect() as connection:
        assert (status.load_stalled(connection).keys() == {"demo"}) is is_stalled
    with engine.connect() as connection:
        assert status.load_overview(connection).chains[0].state == ("stalled" if is_stalled else "following")
    engine.dispose()
