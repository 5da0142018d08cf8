"""Reorganisations on a real node. What the tables hold afterwards is what a fresh database gets from the same node."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import EndpointConfig
from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.demo.world import manifest_text
from indexer.store.cache import Cache
from indexer.sync.head.follower import ChainHaltedError, Follower, Tick
from indexer.sync.history.backfill import Backfill
from indexer.sync.tokens import metadata_job
from tests.further import further
from tests.integration.sync.rig import QUICK, Rig, rig
from tests.world import History


def _url(history: History) -> str:
    return str(history.world.w3.provider.endpoint_uri)  # type: ignore[attr-defined]


@pytest.fixture
def indexed(history, database_url, tmp_path):
    """A chain with 120 busy blocks, and everything of it in a database."""
    with rig(manifest_text(history.world), tmp_path, _url(history), database_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        one.following = follower
        yield one
        one.following.close()


@pytest.fixture
def assert_right(history, make_database, tmp_path):
    """A function that compares a database with one that is filled from nothing."""

    def check(one: Rig) -> None:
        one.catch_up(one.following)
        folder = tmp_path / "fresh"
        folder.mkdir(exist_ok=True)
        with make_database() as url, rig(manifest_text(history.world), folder, _url(history), url) as fresh:
            follower = fresh.follower()
            fresh.catch_up(follower)
            follower.close()
            expected = fresh.rows()
            children = fresh.query(CHILDREN)
            undecoded = fresh.query(UNDECODED)
        assert one.rows() == expected
        assert one.query(CHILDREN) == children
        assert one.query(UNDECODED) == undecoded

    return check


CHILDREN = "SELECT contract_id, address, block_number, log_index FROM gapless.children ORDER BY 1, 2"
UNDECODED = "SELECT event_id, block_number, log_index, reason FROM gapless.undecoded_logs ORDER BY 1, 2, 3"


def _reorganise(history: History, depth: int) -> None:
    """Replaces blocks by others, into which one new transaction moves."""
    account = history.world.accounts[0]
    payment = {"from": account, "to": account, "value": "0x1"}
    rpc(_url(history), "anvil_reorg", depth, [[payment, 0]])


def _reorgs(one: Rig) -> list[int]:
    return [depth for (depth,) in one.query("SELECT depth FROM gapless.reorgs ORDER BY id")]


@pytest.mark.promise("H-01")
def test_a_reorganisation_while_it_follows(indexed, history, assert_right):
    before = sum(map(len, indexed.rows().values()))
    _reorganise(history, 5)
    assert indexed.following.tick() is Tick.REORGANISED
    assert sum(map(len, indexed.rows().values())) < before
    assert _reorgs(indexed) == [5]
    burst(history.world, Random(5), 30, 10)
    assert_right(indexed)


def test_several_in_a_row(indexed, history, assert_right):
    for depth in (1, 12, 3):
        _reorganise(history, depth)
        burst(history.world, Random(depth), 10, 4)
        assert indexed.following.tick() is Tick.REORGANISED
    assert len(_reorgs(indexed)) == 3
    assert_right(indexed)


def test_tokens_that_were_read_on_a_branch_that_is_gone_are_read_again(indexed, history, monkeypatch):
    def refresh() -> int:
        return metadata_job.refresh(
            indexed.engine, indexed.client, indexed.chain.chain_id, frozenset({"coins"}), Cache(None)
        )

    def read(*arguments: Any) -> Any:
        found = real(*arguments)
        _reorganise(history, 5)
        assert indexed.following.tick() is Tick.REORGANISED
        return found

    real = metadata_job.read
    with monkeypatch.context() as patched:
        patched.setattr(metadata_job, "read", read)
        assert refresh() == 0
    assert indexed.query("SELECT count(*) FROM gapless.tokens") == [(0,)]
    assert refresh() > 0


def test_tokens_that_pairs_trade_are_read(indexed, history):
    arguments = indexed.manifest.token_arguments_on(indexed.chain.name)
    assert {argument for _, _, argument in arguments} == {"token0", "token1"}
    ((contract, _, _), *_) = arguments
    traded = f"(SELECT token0 FROM {contract}.pair_created UNION SELECT token1 FROM {contract}.pair_created)"
    seen = metadata_job.UnreadTokens()

    def refresh() -> int:
        chain_id = indexed.chain.chain_id
        return metadata_job.refresh(
            indexed.engine, indexed.client, chain_id, frozenset(), Cache(None), seen, arguments=arguments
        )

    assert refresh() > 0
    while refresh():
        pass
    assert indexed.query(f"{traded} EXCEPT SELECT address FROM gapless.tokens") == []
    ((named,),) = indexed.query(
        f"SELECT count(*) FROM {traded} t JOIN gapless.tokens k ON k.address = t.token0 WHERE k.symbol <> ''"
    )
    assert named > 1
    # A pair that is announced later has its tokens read, too.
    before = indexed.query("SELECT count(*) FROM gapless.tokens")
    burst(history.world, Random(1), 150, 10)
    indexed.catch_up(indexed.following)
    while refresh():
        pass
    assert indexed.query("SELECT count(*) FROM gapless.tokens") > before
    assert indexed.query(f"{traded} EXCEPT SELECT address FROM gapless.tokens") == []


@pytest.mark.long
def test_a_snapshot_reverted_and_written_on_differently(indexed, history, assert_right):
    saved = rpc(_url(history), "evm_snapshot")
    burst(history.world, Random(1), 40, 10)
    indexed.catch_up(indexed.following)
    tip = indexed.query("SELECT tip_number FROM gapless.chains")
    assert rpc(_url(history), "evm_revert", saved)
    # A chain that only became shorter looks like a node that is behind: nothing is lost for that.
    assert indexed.following.tick() is Tick.LAGGING
    assert indexed.query("SELECT tip_number FROM gapless.chains") == tip
    burst(history.world, Random(2), 40, 7)
    assert indexed.following.tick() is Tick.REORGANISED
    assert_right(indexed)


def test_a_reorganisation_while_it_was_down(indexed, history, assert_right):
    indexed.following.close()
    _reorganise(history, 9)
    burst(history.world, Random(3), 20, 6)
    indexed.following = indexed.follower()
    assert indexed.following.tick() is Tick.REORGANISED
    assert _reorgs(indexed) == [9]
    assert_right(indexed)


def test_a_reorganisation_during_the_backfill(history, database_url, tmp_path, assert_right):
    with rig(manifest_text(history.world), tmp_path, _url(history), database_url) as one:
        one.following = one.follower()
        one.following.tick()
        reorganised: list[int] = []

        def progress(_: Any) -> None:
            if not reorganised:
                reorganised.append(1)
                _reorganise(history, 20)
                one.following.tick()

        Backfill(one.engine, one.client, one.chain.chain_id, on_progress=progress).run()
        assert reorganised
        assert _reorgs(one) == [20]
        assert_right(one)
        one.following.close()


@pytest.mark.promise("H-02")
def test_a_branch_from_below_finalized_halts_the_chain(indexed, history):
    before, chains = indexed.rows(), indexed.query("SELECT tip_hash, finalized_hash FROM gapless.chains")
    _reorganise(history, 100)
    with pytest.raises(ChainHaltedError, match="was indexed") as halted:
        indexed.following.tick()
    assert "gapless audit" in (halted.value.hint or "")
    with pytest.raises(ChainHaltedError):
        indexed.following.prepare()
    assert indexed.rows() == before
    assert indexed.query("SELECT tip_hash, finalized_hash FROM gapless.chains") == chains
    assert _reorgs(indexed) == []


@pytest.mark.parametrize("blocks", [3, further(300)])
def test_a_chain_that_began_anew_is_another_chain(indexed, make_anvil, blocks, caplog):
    before = indexed.rows()
    anew = make_anvil(arguments=("--timestamp", "1600000000"))
    anew.mine(blocks)
    with _followingof(indexed, anew.url) as follower:
        with caplog.at_level(logging.CRITICAL), pytest.raises(ChainHaltedError, match="block 0"):
            follower.tick()
        with pytest.raises(ChainHaltedError, match="block 0"):
            follower.prepare()
    assert indexed.rows() == before


@contextmanager
def _followingof(one: Rig, url: str) -> Any:
    one.following.close()
    client = ChainClient(one.chain.name, one.chain.chain_id, [EndpointConfig(url)], settings=QUICK)
    follower = Follower(
        one.engine, client, one.chain.chain_id, name=one.chain.name, finality=one.chain.finality, clock=lambda: 0.0
    )
    try:
        yield follower
    finally:
        follower.close()
        client.close()
