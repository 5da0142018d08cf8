"""The right to follow a chain: who has lost it does not keep it from others, whatever became of its process."""

from __future__ import annotations

import threading

import psycopg
import pytest
import sqlalchemy as sa

from indexer.store import leases
from indexer.store.database import create_engine
from indexer.store.head import state
from indexer.store.leases import Renewer
from indexer.sync.head.leadership import Leadership
from tests.chaos.chain import CHAIN_ID
from tests.chaos.stage import COIN, stage
from tests.chaos.test_faults import EXPIRE


@pytest.fixture
def scene(chaos):
    with stage(chaos, "leading") as one:
        one.apply(COIN)
        yield one


def test_who_let_it_go_can_take_it_again(scene):
    first, second = Leadership(scene.engine, CHAIN_ID), Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    epoch = first.epoch
    first.release()
    assert second.take()
    assert second.epoch == epoch + 1
    assert not first.take()
    second.release()
    assert first.take()
    assert first.epoch == epoch + 2
    first.release()


def test_no_connection_is_kept_for_it(scene):
    first = Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    assert scene.engine.pool.checkedout() == 0
    assert first.is_held()
    first.release()


def test_one_that_is_not_renewed_goes_to_another_and_its_former_holder_hears_of_it(scene, monkeypatch):
    first, second = Leadership(scene.engine, CHAIN_ID), Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    scene.query(EXPIRE)
    assert second.take()
    leases.renew(scene.engine, [first.lease, second.lease])
    assert not first.is_held()
    assert second.is_held()
    first.release()  # no longer its own to give back
    assert not first.take()
    second.release()


def test_one_that_expired_and_that_nobody_took_goes_on(scene):
    first = Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    scene.query(EXPIRE)
    leases.renew(scene.engine, [first.lease])
    assert first.is_held()
    assert not Leadership(scene.engine, CHAIN_ID).take()
    first.release()


def test_trust_ends_by_the_holders_own_clock_where_postgres_cannot_be_asked(scene):
    now = 0.0
    lease = leases.Lease(scene.engine, "a right", lambda: now)
    assert lease.take()
    now = leases.LASTS - 0.1
    assert lease.is_trusted()
    now = leases.LASTS
    assert not lease.is_trusted()
    lease.release()


def test_an_expired_holder_that_hangs_in_a_transaction_does_not_keep_its_successor_waiting(scene):
    """As a process that is frozen in the middle of a COPY, and one whose machine is gone between two statements."""
    gone = create_engine(scene.database_url, application_name="gapless run that is gone")
    first, second = Leadership(gone, CHAIN_ID), Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    frozen, between = gone.connect(), gone.connect()
    between.execute(sa.text("SELECT FROM gapless.chains FOR SHARE"))
    frozen.execute(sa.text("SELECT FROM gapless.chains FOR SHARE"))
    driver = frozen.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)

    def be_frozen():
        with driver.cursor() as cursor, cursor.copy("COPY gapless.blocks FROM STDIN") as copy:
            scene.query(EXPIRE)
            assert second.take()
            copy.write(b"\n")

    with pytest.raises(psycopg.errors.AdminShutdown):
        be_frozen()
    with pytest.raises(sa.exc.DBAPIError):
        between.execute(sa.text("SELECT 1"))
    second.release()
    for connection in (frozen, between):
        connection.invalidate()
        connection.close()
    gone.dispose()


def test_sessions_of_a_holder_that_is_alive_are_left_alone(scene):
    other = create_engine(scene.database_url, application_name="gapless run elsewhere")
    first, second = Leadership(other, CHAIN_ID), Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    with other.begin() as connection:
        connection.execute(sa.text("SELECT FROM gapless.chains FOR SHARE"))
        assert not second.take()
        connection.execute(sa.text("SELECT 1"))
    first.release()
    other.dispose()


@pytest.mark.promise("H-05")
def test_a_commit_after_another_took_over_is_refused(scene):
    first, second = Leadership(scene.engine, CHAIN_ID), Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    scene.query(EXPIRE)
    assert second.take()
    with pytest.raises(state.FollowerLostError), scene.engine.begin() as connection:
        state.fenced(connection, CHAIN_ID, first.epoch, "state = 'following'", {})
    second.release()


def test_it_is_renewed_though_every_other_connection_is_in_use(scene, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_EVERY", 0.01)
    jobs = create_engine(scene.database_url, pool_size=1)
    own = create_engine(scene.database_url, pool_size=1)
    first = Leadership(jobs, CHAIN_ID)
    assert first.take()
    used = [jobs.connect(), jobs.connect()]
    before = scene.query("SELECT expires_at FROM gapless.leases")
    with Renewer(own, lambda: [first.lease]):
        for _ in range(10_000):
            if scene.query("SELECT expires_at FROM gapless.leases") > before:
                break
        else:
            raise AssertionError("never renewed")
    for connection in used:
        connection.close()
    first.release()
    jobs.dispose()
    own.dispose()


def test_a_chain_that_is_followed_is_not_dropped(scene):
    first = Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    with scene.engine.begin() as connection:
        assert not state.keep_away(connection, CHAIN_ID)
    first.release()
    with scene.engine.begin() as connection:
        assert state.keep_away(connection, CHAIN_ID)
        with pytest.raises(sa.exc.OperationalError):  # it waits for the transaction's end, and not for long
            first.take()
    assert first.take()
    first.release()


def test_leases_are_taken_renewed_and_given_back_by_many_threads(scene):
    """One object is used by the job that leads, by the thread that renews, and by all who ask whether it leads."""
    first = Leadership(scene.engine, CHAIN_ID)
    end = threading.Event()
    failures: list[Exception] = []

    def again_and_again(work):
        def run():
            try:
                while not end.is_set():
                    work()
            except Exception as error:  # noqa: BLE001 - the test tells
                failures.append(error)

        return threading.Thread(target=run)

    others = [
        again_and_again(lambda: leases.renew(scene.engine, [first.lease])),
        again_and_again(first.lease.is_trusted),
    ]
    for thread in others:
        thread.start()
    for _ in range(10):
        assert first.take()
        assert first.is_held()
        first.release()
        assert not first.lease.is_trusted()
    end.set()
    for thread in others:
        thread.join()
    assert not failures
