"""What is dropped goes in bounded steps; a drop that was killed leaves nothing wrong, and the next one finishes it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from indexer.store.apply import drop, drop_chain
from indexer.store.database import DatabaseError
from tests.integration.sync.test_changes import apply_again, chain_text, coins, indexed
from tests.integration.sync.test_snapshots import snapshot, take

MANY = '"Transfer", "Approval"'
SUPPLIES = """
    SELECT s.block_number, p.block_number, s.total_supply FROM coins.supply s
    FULL JOIN gapless.series_points p USING (chain_id, block_number) ORDER BY 1
"""


class KilledError(Exception):
    """In place of a kill between two steps."""


def found(one, name: str) -> drop.Droppable:
    with one.engine.connect() as connection:
        (one_found,) = drop.find(connection, name)
    return one_found


def killed_at(monkeypatch, module, name: str, step: int) -> None:
    """Has a function fail when it is called for the so-manieth time."""
    real, calls = getattr(module, name), iter(range(1, 1000))

    def failing(*arguments, **named):
        if next(calls) == step:
            raise KilledError
        return real(*arguments, **named)

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
    text += snapshot("supply", '"totalSupply()"', more="start_block = 20")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, follower):
        take(one, "supply")
        one.supplies = one.query(SUPPLIES)
        assert len(one.supplies) >= 5
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
        killed_at(patched, drop_chain, "_delete_some", 4)  # the first call is for points
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
        take(left, "supply")
        assert left.query(SUPPLIES) == left.supplies


def test_a_snapshot_goes_some_points_at_a_time(left, shared_history, tmp_path, monkeypatch):
    text = left.text[: left.text.index("[snapshots.supply]")]
    apply_again(left, shared_history, tmp_path, text)
    monkeypatch.setattr(drop_chain, "ROWS", 2)
    with left.engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW public.theirs AS SELECT * FROM coins.supply")
    with pytest.raises(DatabaseError, match="other objects depend on its tables"):
        drop.drop(left.engine, found(left, "supply"))
    assert left.query(SUPPLIES) == left.supplies
    with left.engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW public.theirs")
    with monkeypatch.context() as patched:
        killed_at(patched, drop, "_delete_beside", 3)
        with pytest.raises(KilledError):
            drop.drop(left.engine, found(left, "supply"))
    assert left.query("SELECT count(*) FROM gapless.series_points") == [(len(left.supplies) - 4,)]
    # Wanted again, what is missing is read again; without it, what is left goes as well.
    apply_again(left, shared_history, tmp_path, left.text)
    take(left, "supply")
    assert left.query(SUPPLIES) == left.supplies
    apply_again(left, shared_history, tmp_path, text)
    drop.drop(left.engine, found(left, "supply"))
    assert left.query("SELECT count(*) FROM gapless.series_points") == [(0,)]
    assert left.query("SELECT to_regclass('coins.supply')") == [(None,)]


_WATCH = """
CREATE TABLE public.gone (step xid8, rows bigint);
CREATE FUNCTION public.note_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.gone SELECT pg_current_xact_id(), count(*) FROM old_rows; RETURN NULL; END $$;
"""
_WATCHED = ("undecoded_logs", "foreign_shapes", "children")


@pytest.fixture
def beside(shared_history, migrated_url, tmp_path):
    """A contract that is not in the manifest any more, with very many rows in the tables that all contracts share."""
    other = chain_text(shared_history) + coins(shared_history, "silver").replace("contracts.coins", "contracts.other")
    text = other + coins(shared_history, "gold")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, follower):
        one.text, one.before = text, one.rows()
        apply_again(one, shared_history, tmp_path, other)
        with one.engine.begin() as connection:
            connection.exec_driver_sql(_WATCH)
            for table in _WATCHED:
                connection.exec_driver_sql(
                    f"CREATE TRIGGER gone AFTER DELETE ON gapless.{table} REFERENCING OLD TABLE AS old_rows "
                    "FOR EACH STATEMENT EXECUTE FUNCTION public.note_gone()"
                )
            chain = shared_history.world.chain_id
            event = "gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id AND c.name = 'coins'"
            for statement in (
                "INSERT INTO gapless.undecoded_logs (event_id, chain_id, block_number, log_index, block_time, tx_hash, "
                f"tx_index, contract_address, topics, data, reason, has_row) SELECT e.id, {chain}, 5, 1000 + n, now(), "
                f"'', 0, '', '{{}}', '', '', false FROM {event}, generate_series(1, 150) n",
                "INSERT INTO gapless.foreign_shapes (event_id, chain_id, block_number, topics, addresses) "
                f"SELECT e.id, {chain}, n, 4, '{{}}' FROM {event}, generate_series(1, 150) n",
                "INSERT INTO gapless.children (chain_id, contract_id, address, block_number, log_index, "
                "factory_address) "
                f"SELECT {chain}, e.contract_id, int4send(n), 1, n, '' FROM {event}, generate_series(1, 150) n",
            ):
                connection.exec_driver_sql(statement)
        one.follow = follower
        yield one


def test_what_a_contract_has_in_shared_tables_goes_some_rows_at_a_time(beside, monkeypatch):
    monkeypatch.setattr(drop_chain, "ROWS", 60)
    drop.drop(beside.engine, found(beside, "coins"))
    steps = [rows for (rows,) in beside.query("SELECT sum(rows)::int FROM public.gone GROUP BY step")]
    assert sum(steps) == 450
    assert max(steps) == 60
    assert beside.query("SELECT name FROM gapless.contracts") == [("other",)]


def test_a_contract_whose_drop_was_killed_may_be_wanted_again(beside, shared_history, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(drop_chain, "ROWS", 60)
        killed_at(patched, drop, "_delete_beside", 3)
        with pytest.raises(KilledError):
            drop.drop(beside.engine, found(beside, "coins"))
    assert beside.query("SELECT count(*) FROM gapless.undecoded_logs") == [(30,)]
    apply_again(beside, shared_history, tmp_path, beside.text)
    beside.catch_up(beside.follow)
    assert beside.rows() == beside.before
    assert beside.query("SELECT count(*) FROM gapless.undecoded_logs WHERE log_index > 1000") == [(0,)]


def test_a_drop_that_is_refused_has_deleted_nothing(beside, monkeypatch):
    monkeypatch.setattr(drop_chain, "ROWS", 60)
    with beside.engine.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW public.mine AS SELECT * FROM coins.transfer")
    with pytest.raises(drop.DatabaseError, match=r"view mine depends on table coins\.transfer"):
        drop.drop(beside.engine, found(beside, "coins"))
    assert beside.query("SELECT count(*) FROM public.gone") == [(0,)]
