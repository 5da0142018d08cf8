"""What a new block and a reorganisation write, however many sources and events there are and whatever is covered."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa

from indexer.sync.head.follower import Tick
from indexer.sync.rows import router
from tests.chaos.chain import COINS
from tests.chaos.stage import COIN, FACTORIES, contract, stage
from tests.chaos.test_faults import transfer
from tests.further import further

EVENTS = 60
WIDE = contract("wide", "wide", f'address = "{COINS[1]}"', start_block="0")

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"costs/{next(_numbers)}") as one:
        event = {"type": "event", "anonymous": False, "inputs": [{"name": "value", "type": "uint8", "indexed": False}]}
        abi = [event | {"name": f"Silent{number}"} for number in range(EVENTS)]
        (one.folder / "wide.json").write_text(json.dumps(abi))
        yield one


@pytest.fixture
def following(scene):
    scene.apply(COIN, FACTORIES, WIDE)
    follower = scene.follower()
    scene.settle(follower)
    yield follower
    follower.close()


def row_versions(scene):
    """Which transaction wrote each row of the catalog last."""
    return dict(
        scene.query("""
            SELECT 'source ' || id, xmin::text FROM gapless.sources
            UNION ALL SELECT 'event ' || id, xmin::text FROM gapless.events
        """)
    )


@contextmanager
def exclusively_locked(scene, table):
    """An open transaction that has a table for itself; who waits for it gives up after a second."""

    def hasty(connection):
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")

    sa.event.listen(scene.engine, "begin", hasty)
    with psycopg.connect(scene.database_url) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()
    sa.event.remove(scene.engine, "begin", hasty)


@pytest.mark.promise("H-07")
def test_an_empty_block_writes_no_source_and_no_event(scene, following):
    before = row_versions(scene)
    assert len(before) > 2 * EVENTS
    scene.chain.append()
    assert scene.tick(following) is Tick.EXTENDED
    assert scene.look().tip == 41
    assert row_versions(scene) == before
    scene.judge.check_complete(scene.look())


def count_updates_of_the_chain(scene):
    """Counts from now on how often the chain's row is written; what was counted is in ``public.counted``."""
    scene.query("""
        CREATE TABLE IF NOT EXISTS public.counted (state text);
        TRUNCATE public.counted;
        CREATE OR REPLACE FUNCTION public.counts() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.counted VALUES (NEW.state); RETURN NEW; END';
        CREATE OR REPLACE TRIGGER counts AFTER UPDATE ON gapless.chains FOR EACH ROW EXECUTE FUNCTION public.counts();
        SELECT 1
    """)


@pytest.mark.parametrize("silent", [True, False])
def test_a_block_changes_the_chains_row_once(scene, following, silent):
    count_updates_of_the_chain(scene)
    for _ in range(5):
        scene.chain.append(*([] if silent else [transfer()]))
        assert following.tick() is Tick.EXTENDED
        assert following.tick() is Tick.NOTHING_NEW
    assert scene.query("SELECT count(*) FROM public.counted") == [(5,)]
    assert scene.query("SELECT head_number - tip_number, state FROM gapless.chains") == [(0, "following")]


def test_only_what_says_something_is_decoded_and_its_decoder_is_made_once(scene, following, monkeypatch):
    made = []
    compile_decoder = router.compile_decoder
    monkeypatch.setattr(router, "compile_decoder", lambda event: made.append(event.name) or compile_decoder(event))
    for transaction, events in ((None, set()), (transfer(), {"Transfer"}), (None, set()), (transfer(), set())):
        made.clear()
        scene.chain.append(*([transaction] if transaction else []))
        assert scene.tick(following) is Tick.EXTENDED
        assert set(made) == events
        assert len(made) == len(events)
    scene.settle(following)


@pytest.mark.promise("H-07")
def test_a_block_writes_its_rows_and_no_source_whatever_is_covered(scene, following):
    scene.query("""
        UPDATE gapless.sources SET coverage = coverage + (
            SELECT range_agg(int8range(-4 * n, -4 * n + 2)) FROM generate_series(1, 20000) n)
        WHERE id = (SELECT min(id) FROM gapless.sources) RETURNING 1
    """)
    before = row_versions(scene)
    scene.chain.append(transfer())
    scene.clock.sleep(60.0)
    assert following.tick() is Tick.EXTENDED
    assert scene.query("SELECT count(*) FROM coins.transfer WHERE block_number = 41") == [(1,)]
    assert row_versions(scene) == before
    scene.chain.reorganise(2, 3)
    assert following.tick() is Tick.REORGANISED
    assert row_versions(scene) == before


def test_a_reorganisation_touches_the_tables_that_had_rows_in_it(scene, following):
    scene.chain.append(transfer())
    scene.tick(following)
    before = row_versions(scene)
    scene.chain.reorganise(3, 4)
    with exclusively_locked(scene, "wide.silent1"):
        assert following.tick() is Tick.REORGANISED
    assert scene.query("SELECT rows_removed > 0 FROM gapless.reorgs") == [(True,)]
    assert row_versions(scene) == before
    scene.judge.check_complete(scene.look())


def test_what_can_be_reorganised_no_longer_is_no_longer_noted(scene, following):
    noted = "SELECT coalesce(min(block_number), 99) > finalized_number FROM gapless.chains "
    noted += "LEFT JOIN gapless.unfinalized_rows USING (chain_id) GROUP BY finalized_number"
    for _ in range(3):
        scene.chain.append(transfer())
        scene.chain.finalize(scene.chain.head.number - 3)
        scene.tick(following)
        assert scene.query(noted) == [(True,)]
    assert scene.query("SELECT count(*) > 0 FROM gapless.unfinalized_rows") == [(True,)]


@pytest.mark.parametrize("epochs", ["noted_epoch = NULL, noted_above = NULL", "noted_epoch = noted_epoch - 2"])
def test_rows_that_nobody_noted_go_too(scene, following, epochs):
    """Rows of a version of Gapless that noted nothing, which wrote before this one or in between."""
    for _ in range(3):
        scene.chain.append(transfer())
    scene.tick(following)
    scene.query(f"UPDATE gapless.chains SET {epochs} RETURNING 1")
    scene.query("DELETE FROM gapless.unfinalized_rows RETURNING 1")
    scene.chain.append(transfer())
    scene.tick(following)
    scene.chain.reorganise(3, 4)
    assert scene.tick(following) is Tick.REORGANISED
    # Once: then it is known again.
    scene.chain.append(transfer())
    scene.tick(following)
    scene.chain.reorganise(3, 4)
    with exclusively_locked(scene, "wide.silent1"):
        assert following.tick() is Tick.REORGANISED
    scene.judge.check_complete(scene.look())


def test_undecoded_logs_of_a_branch_go_with_it(scene, following):
    def undecoded():
        return scene.query("SELECT count(*) FROM gapless.undecoded_logs WHERE block_number > 40")[0][0]

    while not undecoded():
        scene.chain.mine(4)
        scene.tick(following)
    scene.chain.reorganise(scene.chain.head.number - 38, 50)
    scene.settle(following)


# -- who is followed ------------------------------------------------------------------------------------------------


def followed(scene):
    return scene.query("""
        SELECT c.name, count(*) FILTER (WHERE s.followed)::integer, count(*)::integer FROM gapless.sources s
        JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c ON c.id = e.contract_id
        WHERE s.active GROUP BY 1 ORDER BY 1
    """)


def test_a_source_that_is_no_longer_wanted_covers_what_was_read_and_no_more(scene, following):
    scene.apply(FACTORIES)
    assert "coins" not in {name for name, *_ in followed(scene)}
    assert scene.query("SELECT count(*) FROM gapless.sources WHERE followed AND NOT active") == [(0,)]
    for _ in range(3):
        scene.chain.append(transfer())
        scene.tick(following)
    scene.apply(COIN, FACTORIES)
    scene.look()
    scene.settle(following)


@pytest.mark.parametrize("ends", [further(("45", "60")), ("45", "42"), further(("41", None))])
def test_another_end_says_nothing_about_what_was_not_read(scene, following, ends):
    def coin(end):
        more = {"start_block": "0"} | ({"end_block": end} if end else {})
        return contract("coins", "coin", f'address = "{COINS[0]}"', **more)

    for end in ends:
        scene.apply(coin(end), FACTORIES)
        scene.look()
        for _ in range(4):
            scene.chain.append(transfer())
            scene.tick(following)
        scene.chain.reorganise(2, 3)
        scene.tick(following)
    scene.settle(following)


def test_more_addresses_say_nothing_about_what_was_not_read(scene, following):
    scene.apply(contract("coins", "coin", f'address = ["{COINS[0]}", "{COINS[2]}"]', start_block="0"), FACTORIES)
    scene.look()
    scene.chain.mine(3)
    scene.tick(following)
    scene.apply(contract("coins", "coin", f'address = "{COINS[2]}"', start_block="0"), FACTORIES)
    scene.look()
    scene.chain.mine(3)
    scene.settle(following)


def test_coverage_that_was_taken_away_is_filled_again(scene, following):
    """By a hand, behind the follower's back: no block may be taken for read, and none be written twice."""
    scene.query("""
        DELETE FROM coins.transfer WHERE block_number > 37;
        DELETE FROM gapless.undecoded_logs WHERE block_number > 37 AND event_id = 1;
        UPDATE gapless.sources SET coverage = '{[0,38)}' WHERE event_id = (SELECT e.id FROM gapless.events e
        JOIN gapless.contracts c ON c.id = e.contract_id WHERE c.name = 'coins' AND e.name = 'Transfer') RETURNING 1
    """)
    scene.chain.append(transfer())
    assert scene.tick(following) is Tick.MOVED
    scene.settle(following)


def test_another_follower_goes_on_where_the_first_ended(scene, following):
    scene.chain.append(transfer())
    scene.tick(following)
    before = row_versions(scene)
    following.close()
    other = scene.follower("other")
    scene.chain.append(transfer())
    assert scene.tick(other) is Tick.EXTENDED
    assert row_versions(scene) == before
    scene.chain.reorganise(2, 3)
    assert scene.tick(other) is Tick.REORGANISED
    scene.settle(other)
    other.close()
