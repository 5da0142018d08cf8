"""Balances are what the tokens themselves answer, for every holder, whatever happened."""

from __future__ import annotations

from random import Random

import pytest

from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.store.apply import drop
from indexer.store.tokens.balances import advance
from indexer.sync import audit as auditing
from indexer.sync.audit.repair import Repair
from indexer.sync.head.follower import Tick
from indexer.sync.tokens import balances
from tests.integration.balances import oracle
from tests.integration.balances.conftest import text_of
from tests.integration.sync.rig import Rig, rig


def _url(history) -> str:
    return str(history.world.w3.provider.endpoint_uri)


def _reorganise(history, depth: int) -> None:
    account = history.world.accounts[0]
    payment = {"from": account, "to": account, "value": "0x1"}
    rpc(_url(history), "anvil_reorg", depth, [[payment, 0]])


def _ledgers(one: Rig, contract: str) -> list[tuple[bool, bool, int]]:
    return one.query(
        "SELECT live, served, through_block FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = contract_id "
        "WHERE c.name = %s ORDER BY l.id",
        contract,
    )


def _execute(one: Rig, statement: str, *parameters: object) -> None:
    with one.engine.begin() as connection:
        connection.exec_driver_sql(statement, parameters)


# What happens on the chain ----------------------------------------------------------------------------------------


@pytest.mark.promise("B-01")
def test_every_holder_of_every_token(indexed, history):
    expected = oracle.on_chain(history.world)
    assert oracle.kept(indexed) == expected
    assert len(expected) > 100
    assert set(oracle.through(indexed).values()) == {history.last}


@pytest.mark.promise("B-01")
def test_at_the_head_they_are_kept_with_the_rows(indexed, history):
    for seed in range(5):
        _, last = burst(history.world, Random(seed), 40, 6)
        assert indexed.following.tick() is Tick.EXTENDED
        assert set(oracle.through(indexed).values()) == {last}
    assert oracle.kept(indexed) == oracle.on_chain(history.world)


@pytest.mark.promise("B-01")
def test_reorganisations(indexed, history):
    for seed, depth in enumerate((1, 7, 30, 2)):
        _reorganise(history, depth)
        burst(history.world, Random(seed), 20, 5)
        assert indexed.following.tick() is Tick.REORGANISED
        assert set(oracle.through(indexed).values()) == {history.world.w3.eth.block_number}
        assert oracle.kept(indexed) == oracle.on_chain(history.world)


def test_on_their_way_through_history_they_are_true_where_they_say(history, migrated_url, tmp_path):
    coins = ("gold", "silver", "copper", "odd")
    with rig(text_of(history), tmp_path, _url(history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        follower.close()
        reached: list[int] = []
        while not reached or reached[-1] < history.last:
            with one.engine.connect() as connection:
                assert advance(connection, one.chain.chain_id, 1, rows=7) is not None
                connection.rollback()  # killed at the last moment
            with one.engine.begin() as connection:
                step = advance(connection, one.chain.chain_id, 1, rows=7)
            assert step is not None
            reached.append(step.through)
            if len(reached) % 3 == 1:
                assert oracle.kept(one, "coins") == oracle.on_chain(history.world, step.through, coins)
        assert len(reached) > 5


# Other manifests --------------------------------------------------------------------------------------------------


def test_with_another_address_the_old_answer_stays_until_the_new_one_is_there(indexed, history, tmp_path):
    world = history.world
    without_gold = text_of(history).replace(f'"{world.addresses["gold"]}", ', "")
    indexed.apply(without_gold, tmp_path, _url(history))
    assert _ledgers(indexed, "coins") == [(False, True, history.last), (True, False, 0)]
    assert oracle.kept(indexed) == oracle.on_chain(world)  # with gold still: stale, and marked so
    assert indexed.query("SELECT DISTINCT contract FROM gapless.balances WHERE stale") == [("coins",)]
    indexed.catch_up(indexed.following)
    balances.catch_up(indexed.engine, indexed.chain.chain_id)
    assert _ledgers(indexed, "coins") == [(True, True, history.last)]
    rest = tuple(name for name in oracle.KEPT if name != "gold")
    assert oracle.kept(indexed) == oracle.on_chain(world, names=rest)
    assert indexed.query("SELECT count(DISTINCT ledger_id) FROM gapless.holdings") == [(4,)]

    indexed.apply(text_of(history), tmp_path, _url(history))
    indexed.catch_up(indexed.following)
    balances.catch_up(indexed.engine, indexed.chain.chain_id)
    assert oracle.kept(indexed) == oracle.on_chain(world)


def test_no_longer_wanted_they_stay_as_they_were_and_can_be_dropped(indexed, history, tmp_path):
    before = oracle.kept(indexed, "portraits")
    text = text_of(history)
    without = text.replace('"portraits", ', "")
    indexed.apply(without, tmp_path, _url(history))
    burst(history.world, Random(9), 20, 3)
    indexed.catch_up(indexed.following)
    balances.catch_up(indexed.engine, indexed.chain.chain_id)
    assert _ledgers(indexed, "portraits") == [(False, True, history.last)]
    assert oracle.kept(indexed, "portraits") == before

    indexed.apply(without.replace("[contracts.portraits]", "[contracts.other]"), tmp_path, _url(history))
    with indexed.engine.connect() as connection:
        (contract,) = drop.find(connection, "portraits")
    drop.drop(indexed.engine, contract)
    balances.catch_up(indexed.engine, indexed.chain.chain_id)
    assert indexed.query("SELECT count(DISTINCT ledger_id) FROM gapless.holdings") == [(3,)]
    assert {kind for (kind,) in indexed.query("SELECT DISTINCT kind FROM gapless.transfers")} == {"erc20", "erc1155"}


# Audits -----------------------------------------------------------------------------------------------------------


def _audit(one: Rig, **arguments: object) -> auditing.Report:
    request = auditing.Request(**arguments)  # type: ignore[arg-type]
    return auditing.audit(one.engine, one.chain.chain_id, one.chain.name, request, client=one.client)


def test_an_audit_finds_a_holding_that_does_not_follow_and_a_repair_counts_anew(indexed, history):
    assert [finding for finding in _audit(indexed).findings if finding.kind == "balance"] == []
    _execute(
        indexed,
        "UPDATE gapless.holdings SET amount = amount + 1 WHERE ctid = (SELECT min(ctid) FROM gapless.holdings "
        "WHERE ledger_id = 1)",
    )
    (finding,) = [finding for finding in _audit(indexed).findings if finding.kind == "balance"]
    assert finding.count == 1
    assert finding.label == "coins.Transfer"
    outcome = Repair(indexed.engine, indexed.client, indexed.chain.chain_id, indexed.chain.name).findings()
    assert [one.kind for one in outcome.repaired] == ["balance"]
    assert _ledgers(indexed, "coins") == [(False, True, history.last), (True, False, 0)]
    balances.catch_up(indexed.engine, indexed.chain.chain_id)
    assert _ledgers(indexed, "coins") == [(True, True, history.last)]
    assert oracle.kept(indexed) == oracle.on_chain(history.world)
    assert [finding for finding in _audit(indexed).findings if finding.kind == "balance"] == []
    _execute(
        indexed,
        "UPDATE gapless.holdings_daily SET amount = amount + 1 WHERE ctid = (SELECT min(ctid) "
        "FROM gapless.holdings_daily WHERE ledger_id = (SELECT max(id) FROM gapless.ledgers))",
    )
    (finding,) = [finding for finding in _audit(indexed).findings if finding.kind == "balance"]
    assert finding.count == 1
    assert " at the end of 20" in finding.detail


def test_a_repair_of_rows_repairs_balances_with_them(indexed, history):
    assert _audit(indexed).findings == []
    _execute(indexed, "DELETE FROM coins.transfer WHERE block_number = 1")
    _execute(indexed, "UPDATE gapless.ledgers SET through_block = 0")
    _execute(indexed, "TRUNCATE gapless.holdings")
    balances.catch_up(indexed.engine, indexed.chain.chain_id)
    assert oracle.kept(indexed) != oracle.on_chain(history.world)
    Repair(indexed.engine, indexed.client, indexed.chain.chain_id, indexed.chain.name).range("coins", 0, 5)
    assert oracle.kept(indexed) == oracle.on_chain(history.world)


@pytest.mark.promise("B-02")
def test_a_token_that_changes_balances_without_telling_is_marked(indexed, history):
    world = history.world
    report = _audit(indexed, deep=True)
    assert report.holders is not None
    assert report.holders.marked == []
    assert report.holders.compared == len(oracle.kept(indexed))
    assert report.holders.unasked == {}
    holder = world.accounts[3]
    _make_rich(world, "copper", holder)
    indexed.catch_up(indexed.following)
    report = _audit(indexed, deep=True)
    assert report.holders is not None
    (mark,) = report.holders.marked
    assert (mark.contract, mark.token.hex()) == ("coins", world.addresses["copper"][2:].lower())
    assert holder.lower() in mark.detail
    assert report.findings == []
    marked = indexed.query("SELECT DISTINCT token FROM gapless.balances WHERE problem IS NOT NULL")
    assert [bytes(token) for (token,) in marked] == [mark.token]


@pytest.mark.promise("B-02")
def test_a_holder_with_less_than_nothing_marks_the_token(indexed, history):
    world = history.world
    giver = world.accounts[2]
    _make_rich(world, "silver", giver)
    data = world.artifacts["silver"].encode("transfer", world.accounts[1], 10**30)
    fields = {"from": giver, "to": world.addresses["silver"], "data": "0x" + data.hex()}
    rpc(_url(history), "eth_sendTransaction", fields)
    indexed.following.tick()
    problems = indexed.query("SELECT DISTINCT token, problem FROM gapless.balances WHERE problem IS NOT NULL")
    assert [bytes(token).hex() for token, _ in problems] == [world.addresses["silver"][2:].lower()]
    assert "less than nothing" in problems[0][1]


def _make_rich(world, name: str, holder: str) -> None:
    """Writes into the token's storage, as a rebase does, wherever the holder's balance is kept."""
    from eth_utils.crypto import keccak

    url, token = str(world.w3.provider.endpoint_uri), world.addresses[name]
    call = {"to": token, "data": "0x" + world.artifacts[name].encode("balanceOf", holder).hex()}
    before = rpc(url, "eth_call", call, "latest")
    for slot in range(20):
        for key in (
            keccak(bytes.fromhex(holder[2:]).rjust(32, b"\0") + slot.to_bytes(32, "big")),
            keccak(slot.to_bytes(32, "big") + bytes.fromhex(holder[2:]).rjust(32, b"\0")),
        ):
            saved = rpc(url, "eth_getStorageAt", token, "0x" + key.hex(), "latest")
            rpc(url, "anvil_setStorageAt", token, "0x" + key.hex(), "0x" + (10**40).to_bytes(32, "big").hex())
            if rpc(url, "eth_call", call, "latest") != before:
                rpc(url, "evm_mine")
                return
            rpc(url, "anvil_setStorageAt", token, "0x" + key.hex(), saved)
    raise AssertionError("where does it keep balances?")
