"""Balances of tokens some of whose transfers may not be counted: each is said not to be exact, and why."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from eth_utils.crypto import keccak

from indexer.abi import token_standards
from indexer.chain.logs.earliest_log import EarliestLog
from indexer.chain.records.errors import FatalError, NoEndpointError
from indexer.sync.audit import holdings
from indexer.sync.tokens import balances
from tests.integration.balances.conftest import text_of
from tests.integration.balances.test_balances import _make_rich
from tests.integration.balances.test_exactness import ANN, BEN, NOBODY, argument, event, log, manifest, transfer, word
from tests.integration.sync.rig import rig

COIN, OTHER, REGISTRY = "0x" + "81" * 20, "0x" + "82" * 20, "0x" + "83" * 20
HEAD = [keccak(token_standards.TRANSFER.encode()), NOBODY, ANN]
LISTED = event("Listed", argument("token", "address", indexed=True))
BATCH = (
    event(
        "TransferSingle",
        *(argument(name, "address", indexed=True) for name in ("operator", "from", "to")),
        *(argument(name, "uint256", indexed=False) for name in ("id", "value")),
    ),
    event(
        "TransferBatch",
        *(argument(name, "address", indexed=True) for name in ("operator", "from", "to")),
        *(argument(name, "uint256[]", indexed=False) for name in ("ids", "values")),
    ),
)


@pytest.fixture
def world(make_world):
    return make_world(transactions=2, blocks=2).world


@contextmanager
def counted(text: str, world: Any, tmp_path: Any, database: str) -> Any:
    """A database whose ledgers have come to the tip."""
    with rig(text, tmp_path, world.w3.provider.endpoint_uri, database) as one:
        one.following = one.follower()
        one.catch_up(one.following)
        balances.catch_up(one.engine, one.chain.chain_id)
        try:
            yield one
        finally:
            one.following.close()


def said(one: Any) -> dict[str, str | None]:
    """By token: the problem that every one of its holders is shown."""
    return {bytes(token).hex(): problem for token, problem in one.query("SELECT token, problem FROM gapless.balances")}


def coin_text(tmp_path: Any, world: Any, *, start: int = 0) -> str:
    text = manifest(tmp_path, world, COIN, [transfer(2)], '"Transfer"')
    return text.replace("start_block = 0", f"start_block = {start}")


def mint(world: Any, token: str = COIN, amount: int = 5) -> int:
    """Ann is given some; returns the block."""
    log(world, token, HEAD, word(amount))
    return int(world.w3.eth.block_number) - 1


@pytest.mark.promise("B-02")
@pytest.mark.parametrize(
    ("topics", "data"),
    [([*HEAD, word(7)], b""), (HEAD, b"\1" * 31), (HEAD[:1], NOBODY.rjust(32, b"\0") + ANN.rjust(32, b"\0"))],
)
def test_a_transfer_that_cannot_be_decoded_is_not_counted_and_said_so(world, migrated_url, tmp_path, topics, data):
    mint(world)
    log(world, COIN, topics, data)
    mint(world, OTHER)
    text = coin_text(tmp_path, world).replace(f'address = "{COIN}"', f'address = ["{COIN}", "{OTHER}"]')
    with counted(text, world, tmp_path, migrated_url) as one:
        found = said(one)
        assert re.match("(a log|logs) of Transfer in block", str(found[COIN[2:]]))
        assert found[OTHER[2:]] is None


def test_a_token_that_gave_before_its_start_block_is_not_exact(world, migrated_url, tmp_path):
    early = mint(world)
    start = mint(world)
    with counted(coin_text(tmp_path, world, start=start), world, tmp_path, migrated_url) as one:
        assert f"not known whether it gave before block {start}" in str(said(one)[COIN[2:]])
        assert balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id) == 1
        assert said(one)[COIN[2:]] == f"it gave in block {early}, and is counted from block {start}"
        assert balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id) == 0
        # Counted from an earlier block, it is another ledger.
        one.apply(coin_text(tmp_path, world, start=early), tmp_path, world.w3.provider.endpoint_uri)
        one.catch_up(one.following)
        balances.catch_up(one.engine, one.chain.chain_id)
        balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id)
        assert said(one)[COIN[2:]] is None
        assert one.query("SELECT amount FROM gapless.balances") == [(10,)]


def test_a_token_whose_first_transfer_is_counted_is_exact(world, migrated_url, tmp_path):
    log(world, COIN, [keccak(b"Born()")])  # what is no transfer takes nothing from anybody
    start = mint(world)
    with counted(coin_text(tmp_path, world, start=start), world, tmp_path, migrated_url) as one:
        version = one.query("SELECT version FROM gapless.ledgers")
        balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id)
        assert said(one)[COIN[2:]] is None
        assert one.query("SELECT version FROM gapless.ledgers") > version, "answers that are cached are asked again"


@dataclass
class Short:
    """A node that tells of the last so many blocks' logs only, and of the code since a block."""

    node: Any
    width: int
    code_from: int | None = None
    questions: int = 0

    def earliest_log(self, address: bytes, last: int, topics: Any = ()) -> EarliestLog:
        self.questions += 1
        found = self.node.earliest_log(address, last, topics)
        since = max(0, last + 1 - self.width)
        return found if found.block is not None and found.block >= since else EarliestLog(None, since)

    def code(self, _address: bytes, block: int | str = "latest") -> bytes:
        assert isinstance(block, int)
        if self.code_from is None:
            raise NoEndpointError("no archive")
        return b"\x60" if block >= self.code_from else b""


@pytest.mark.parametrize(("code", "reason"), [(None, "none has the state"), (-1, "code since before"), (0, None),
                                              (1, "no code in block")])  # fmt: skip
def test_where_logs_are_not_told_the_deployment_is(world, migrated_url, tmp_path, code, reason):
    start = mint(world)
    with counted(coin_text(tmp_path, world, start=start), world, tmp_path, migrated_url) as one:
        node = Short(one.client, 2, None if code is None else start + code)
        balances.ask_for_earlier(one.engine, node, one.chain.chain_id)
        found = said(one)[COIN[2:]]
        assert found is None if reason is None else reason in str(found)
        before = node.questions
        balances.ask_for_earlier(one.engine, node, one.chain.chain_id)
        assert node.questions == before, "what nobody tells is not asked at every beat"


def test_old_logs_are_looked_through_piece_by_piece(world, migrated_url, tmp_path, monkeypatch):
    start = mint(world)
    monkeypatch.setattr(balances, "NARROW", 2)
    with counted(coin_text(tmp_path, world, start=start), world, tmp_path, migrated_url) as one:
        node = Short(one.client, 2)
        while balances.ask_for_earlier(one.engine, node, one.chain.chain_id):
            pass
        assert said(one)[COIN[2:]] is None
        assert node.questions == -(-start // 2)


def test_a_start_that_code_alone_tells_is_not_exact_by_code(world, migrated_url, tmp_path):
    """What ``start_block = "auto"`` found where nodes begin to know states may be that, and no deployment."""
    start = mint(world)
    with counted(coin_text(tmp_path, world, start=start), world, tmp_path, migrated_url) as one:
        columns = "chain_id, address, block_number, checked_from"
        keep = f"INSERT INTO gapless.deployment_blocks ({columns}) VALUES (:c, :a, :b, :f)"
        values = {"c": one.chain.chain_id, "a": bytes.fromhex(COIN[2:]), "b": start}
        with one.engine.begin() as connection:
            connection.execute(sa.text(keep), {**values, "f": start - 1})
        balances.ask_for_earlier(one.engine, Short(one.client, 2, start), one.chain.chain_id)
        assert "not known" in str(said(one)[COIN[2:]])
        with one.engine.begin() as connection:
            connection.execute(sa.text("UPDATE gapless.deployment_blocks SET checked_from = 0"))
            connection.execute(sa.text("UPDATE gapless.earlier_transfers SET asked_again_at = now()"))
        node = Short(one.client, 2)
        balances.ask_for_earlier(one.engine, node, one.chain.chain_id)
        assert (said(one)[COIN[2:]], node.questions) == (None, 0)


def registry(tmp_path: Any, world: Any) -> str:
    """Tokens that a contract lists, as a factory would announce them."""
    (tmp_path / "registry.json").write_text(json.dumps([LISTED]))
    text = manifest(tmp_path, world, COIN, [transfer(2)], '"Transfer"').replace(
        f'address = "{COIN}"\nstart_block = 0',
        'factory = { contract = "registry", event = "Listed", argument = "token" }',
    )
    more = f"""
[contracts.registry]
chain = "local"
abi = "{(tmp_path / "registry.json").as_posix()}"
address = "{REGISTRY}"
start_block = 0
"""
    return text.replace("[balances]", more + "[balances]")


def announce(world: Any, token: str) -> int:
    log(world, REGISTRY, [keccak(b"Listed(address)"), bytes.fromhex(token[2:])])
    return int(world.w3.eth.block_number) - 1


def test_tokens_that_are_announced_when_they_are_old_are_not_exact(world, migrated_url, tmp_path):
    early = mint(world)
    listed = announce(world, COIN)
    mint(world)
    announce(world, OTHER)
    mint(world, OTHER)
    with counted(registry(tmp_path, world), world, tmp_path, migrated_url) as one:
        balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id)
        found = said(one)
        assert found[COIN[2:]] == f"it gave in block {early}, and is counted from block {listed}"
        assert found[OTHER[2:]] is None
        # A child that was not looked at is doubted for the other's sake.
        with one.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM gapless.earlier_transfers WHERE silent"))
        assert "announces tokens that gave before that" in str(said(one)[OTHER[2:]])


def test_tokens_of_a_factory_are_exact(world, migrated_url, tmp_path):
    announce(world, COIN)
    mint(world)
    with counted(registry(tmp_path, world), world, tmp_path, migrated_url) as one:
        assert said(one)[COIN[2:]] is None
        balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id)
        assert said(one)[COIN[2:]] is None


def test_a_batch_with_more_tokens_than_amounts_is_not_exact(world, migrated_url, tmp_path):
    topics = [keccak(token_standards.TRANSFER_BATCH.encode()), BEN, NOBODY, ANN]
    whole = b"".join(map(word, (64, 160, 2, 7, 8, 1, 3)))
    log(world, COIN, topics, whole)
    text = manifest(tmp_path, world, COIN, list(BATCH), '"TransferSingle", "TransferBatch"')
    with counted(text, world, tmp_path, migrated_url) as one:
        assert "more tokens than amounts" in str(said(one)[COIN[2:]])
        assert one.query("SELECT token_id, amount FROM gapless.balances") == [(7, 3)]


def test_what_an_audit_found_and_nobody_repaired_is_not_exact(world, migrated_url, tmp_path):
    block = mint(world)
    with counted(coin_text(tmp_path, world), world, tmp_path, migrated_url) as one:
        chain = {"c": one.chain.chain_id, "b": block}
        with one.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO gapless.findings (chain_id, event_id, kind, first_block, last_block, count, detail) "
                    "SELECT :c, id, 'proof', :b, :b, 1, 'one log is missing' FROM gapless.events"
                ),
                chain,
            )
        assert "one log is missing" in str(said(one)[COIN[2:]])
        with one.engine.begin() as connection:
            connection.execute(sa.text("UPDATE gapless.findings SET first_block = 10^6, last_block = 10^6"))
        assert said(one)[COIN[2:]] is None, "what is not counted yet is not wrong"
        with one.engine.begin() as connection:
            connection.execute(sa.text("UPDATE gapless.findings SET first_block = 0, repaired_at = now()"))
        assert said(one)[COIN[2:]] is None


def test_tokens_are_asked_unbidden_what_holders_have(make_world, migrated_url, tmp_path, monkeypatch):
    monkeypatch.setattr(holdings, "FEW", 1_000)
    history = make_world(transactions=60, blocks=20)
    world = history.world
    _make_rich(world, "copper", world.accounts[3])
    with counted(text_of(history), world, tmp_path, migrated_url) as one:
        done = holdings.ask_due(one.engine, one.client, one.chain.chain_id)
        copper = world.addresses["copper"][2:].lower()
        assert [mark.token.hex() for mark in done.marked] == [copper]
        balances.ask_for_earlier(one.engine, one.client, one.chain.chain_id)
        assert {token for token, problem in said(one).items() if problem is not None} == {copper}
        assert holdings.ask_due(one.engine, one.client, one.chain.chain_id).compared == 0, "once a day"


def test_nodes_that_know_no_old_states_mark_no_token(make_world, migrated_url, tmp_path, monkeypatch):
    history = make_world(transactions=20, blocks=10)
    with counted(text_of(history), history.world, tmp_path, migrated_url) as one:

        def pruned(*_: Any) -> Any:
            raise FatalError("missing trie node")

        monkeypatch.setattr(one.client, "multicall", pruned)
        done = holdings.ask_due(one.engine, one.client, one.chain.chain_id)
        assert (done.marked, done.compared, len(done.unasked)) == ([], 0, 4)


@pytest.mark.promise("B-02")
@pytest.mark.parametrize(
    "more",
    [
        [("event", "Deposit", ("address", "uint256")), ("event", "Withdrawal", ("address", "uint256"))],
        [("function", "getPooledEthByShares", ("uint256",))],
        [("function", "scaledBalanceOf", ("address",))],
    ],
)
def test_abis_of_tokens_that_give_silently_are_known(more):
    items = [{"type": kind, "name": name, "inputs": [{"type": t} for t in types]} for kind, name, types in more]
    assert "without Transfer events" in str(token_standards.doubt([], [transfer(2), *items]))
    assert token_standards.doubt([], [transfer(2), {"type": "event", "name": "Deposit", "inputs": []}]) is None
