"""What is dropped goes in bounded steps; a drop that was killed leaves nothing wrong, and the next one finishes it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from indexer.store.apply import drop, drop_chain
from tests.integration.sync.test_changes import apply_again, chain_text, coins, indexed

MANY = '"Transfer", "Approval"'


class KilledError(Exception):
    """In place of a kill between two steps."""


def found(one, name: str) -> drop.Droppable:
    with one.engine.connect() as connection:
        (one_found,) = drop.find(connection, name)
    return one_found


def killed_at(monkeypatch, module, name: str, step: int) -> None:
    """Has a function fail when it is called for the so-manieth time."""
    real, calls = getattr(module, name), iter(range(1, 1000))

    def failing(*arguments):
        if next(calls) == step:
            raise KilledError
        return real(*arguments)

    monkeypatch.setattr(module, name, failing)


def test_a_contract_goes_some_tables_at_a_time(shared_history, migrated_url, tmp_path, monkeypatch):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    other = coins(shared_history, "silver", events=MANY).replace("contracts.coins", "contracts.other")
    monkeypatch.setattr(drop, "STEP", 1)
    with indexed(text + other, shared_history, migrated_url, tmp_path) as (one, _):
        kept = one.rows()["coins.Transfer"]
        apply_again(one, shared_history, tmp_path, text)
        with monkeypatch.context() as patched:
            killed_at(patched, drop, "_drop_tables", 2)
            with pytest.raises(KilledError):
                drop.drop(one.engine, found(one, "other"))
        # The tables that are left are what the catalog says; the view is of those that are there.
        left = one.rows()
        assert set(left) == {"coins.Transfer", "other.Approval"}
        assert left["coins.Transfer"] == kept
        assert one.query("SELECT count(*) FROM gapless.transfers") == [(len(kept),)]
        drop.drop(one.engine, found(one, "other"))
        assert set(one.rows()) == {"coins.Transfer"}
        assert one.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'other'") == [(0,)]
        assert one.query("SELECT name FROM gapless.contracts") == [("coins",)]


@pytest.fixture
def left(shared_history, migrated_url, tmp_path):
    """A chain that is not in the manifest any more, beside one that is; nobody follows it."""
    text = chain_text(shared_history) + coins(shared_history, "gold", events=MANY)
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, follower):
        one.text, one.before = text, one.rows()
        elsewhere = text.replace("chains.demo", "chains.other").replace(
            f"id = {shared_history.world.chain_id}", "id = 5"
        )
        apply_again(one, shared_history, tmp_path, elsewhere)
        follower.close()
        yield one


def test_a_chain_goes_some_rows_at_a_time(left, monkeypatch):
    monkeypatch.setattr(drop_chain, "ROWS", 100)
    most = []
    real = drop_chain._delete_some

    def counted(connection, chain_id, names):
        done = real(connection, chain_id, names)
        before = sum(map(len, left.rows().values()))  # of a session that sees what is committed
        most.append(
            before
            - sum(
                connection.execute(sa.text(f"SELECT count(*) FROM coins.{name}")).scalar_one()
                for name in ("transfer", "approval")
            )
        )
        return done

    monkeypatch.setattr(drop_chain, "_delete_some", counted)
    drop.drop(left.engine, found(left, "demo"))
    assert max(most) == 100
    assert not any(left.rows().values())
    assert left.query("SELECT name FROM gapless.chains") == [("other",)]


@pytest.mark.parametrize("again", ["dropped", "wanted"])
def test_a_chain_whose_drop_was_killed(left, shared_history, tmp_path, monkeypatch, again):
    with monkeypatch.context() as patched:
        patched.setattr(drop_chain, "ROWS", 50)
        killed_at(patched, drop_chain, "_delete_some", 3)
        with pytest.raises(KilledError):
            drop.drop(left.engine, found(left, "demo"))
    assert sum(map(len, left.rows().values())) == sum(map(len, left.before.values())) - 100
    if again == "dropped":
        drop.drop(left.engine, found(left, "demo"))
        assert not any(left.rows().values())
        assert left.query("SELECT name FROM gapless.chains") == [("other",)]
    else:
        apply_again(left, shared_history, tmp_path, left.text)
        follower = left.follower()
        left.catch_up(follower)
        follower.close()
        assert left.rows() == left.before
