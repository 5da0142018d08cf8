"""The right to follow a chain: who has lost it does not keep it from others."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from indexer.sync.leading import Leadership
from tests.chaos.chain import CHAIN_ID
from tests.chaos.stage import COIN, stage


@pytest.fixture
def scene(chaos):
    with stage(chaos, "leading") as one:
        one.apply(COIN)
        yield one


def test_a_session_that_answers_with_an_error_but_lives_gives_the_right_back(scene, monkeypatch):
    first, second = Leadership(scene.engine, CHAIN_ID), Leadership(scene.engine, CHAIN_ID)
    assert first.take()
    assert not second.take()

    def fail(_connection, _text, *_):
        raise sa.exc.OperationalError("SELECT 1", None, Exception("canceling statement due to statement timeout"))

    with monkeypatch.context() as patch:
        patch.setattr(sa.engine.Connection, "exec_driver_sql", fail)
        assert not first.is_held()
    # Postgres notices a moment later that the session has ended.
    end = time.monotonic() + 60
    while not (is_taken := second.take()) and time.monotonic() < end:
        time.sleep(0.01)
    assert is_taken
    second.release()


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
