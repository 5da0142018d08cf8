"""A stream beside the real follower of a real chain: what the client holds is what the tables hold."""

import random
from contextlib import ExitStack
from typing import Any

import pytest

from api.context import create_context
from api.settings import ApiSettings
from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.demo.world import manifest_text
from indexer.sync.head.follower import Tick
from indexer.sync.history import derived_history
from tests.integration.api.listening import Listener, served
from tests.integration.api.seed import hex_of
from tests.integration.sync.rig import Rig, rig

FEED = "/v1/events/stream"
RULE = """
[derived.sent]
from = "coins.Transfer"
key = { sender = "from_address", token = "contract_address" }
count = "transfers"
sum = { amount = "value" }
max = { last_block = "block_number" }
"""


def in_the_tables(one: Rig) -> list[str]:
    """All rows as places in the feed."""
    ids = dict(
        one.query(
            "SELECT c.name || '.' || e.api_name, e.id FROM gapless.events e "
            "JOIN gapless.contracts c ON c.id = e.contract_id"
        )
    )
    # chain, block, time, transaction, its index, log
    found = [(row[1], row[5], ids[label]) for label, rows in one.rows().items() for row in rows]
    return [f"{block}-{log}-{event}" for block, log, event in sorted(found)]


def follow(one: Rig, follower: Any) -> None:
    while follower.tick() is not Tick.NOTHING_NEW:
        pass


def hear_of_derived_rows(one: Rig, listener: Listener, held: dict[tuple[str, str], Any]) -> int:
    """Listens until what is held is what the table has; returns how many rows that took."""
    table = one.query("SELECT sender, token, transfers, amount, last_block FROM derived.sent")
    truth = {(hex_of(sender), hex_of(token)): tuple(map(str, row)) for sender, token, *row in table}
    heard = 0
    while {key: (row["transfers"], row["amount"], row["last_block"]) for key, row in held.items()} != truth:
        told = listener.next(30)
        if told.name != "derived":
            continue
        if told.data["reset"]:
            held.clear()
        held.update({(row["sender"], row["token"]): row for row in told.data["data"]})
        for key in told.data["gone"]:
            del held[key["sender"], key["token"]]
        heard += len(told.data["data"]) + len(told.data["gone"])
    return heard


@pytest.mark.promise("L-07")
@pytest.mark.parametrize("number", [1])
def test_the_feed_of_a_followed_chain(history, database_url, tmp_path, number):
    chance = random.Random(number)
    world = history.world
    node = str(world.w3.provider.endpoint_uri)
    with rig(manifest_text(world) + RULE, tmp_path, node, database_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        context = create_context(ApiSettings(), database_url, None)
        stack = ExitStack()
        try:
            port = stack.enter_context(served(context, database_url))
            listener = Listener(port, FEED, last_id="0-0").connect()
            listener.until(in_the_tables(one)[-1], timeout=60)
            assert listener.rows == in_the_tables(one)
            held: dict[tuple[str, str], Any] = {}
            derived = Listener(port, "/v1/derived/sent/stream").connect()
            # History is counted while it listens.
            derived_history.catch_up(one.engine, one.chain.chain_id)
            assert hear_of_derived_rows(one, derived, held) > 5
            for _ in range(6):
                if chance.random() < 0.5:
                    listener.close()
                if chance.random() < 0.6:
                    payment = {"from": world.accounts[0], "to": world.accounts[0], "value": "0x1"}
                    rpc(node, "anvil_reorg", chance.randrange(1, 12), [[payment, 0]])
                    follow(one, follower)
                burst(world, chance, 12, 3)
                follow(one, follower)
                hear_of_derived_rows(one, derived, held)
                if chance.random() < 0.7:
                    listener.close()
                    listener = Listener(
                        listener.port, FEED, rows=listener.rows, last_id=listener.last_id, reverts=listener.reverts
                    ).connect()
            # A last block whose row no branch before can have had.
            burst(world, chance, 12, 20)
            follow(one, follower)
            listener.close()
            listener = Listener(
                listener.port, FEED, rows=listener.rows, last_id=listener.last_id, reverts=listener.reverts
            ).connect()
            truth = in_the_tables(one)
            listener.until(truth[-1], timeout=60)
            assert listener.rows == truth
            assert listener.reverts
            listener.close()
            hear_of_derived_rows(one, derived, held)
            assert [told.data["reset"] for told in derived.told if told.name == "derived"].count(True) == 1
            derived.close()
        finally:
            stack.close()
            context.close()
            follower.close()
