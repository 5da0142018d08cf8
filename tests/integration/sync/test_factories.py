"""Factories: fields of tuples, several of them, factories of factories, children that speak at once, and very many."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from indexer.cli.context import prepare
from indexer.sync.audit.redecode import redecode
from indexer.sync.audit.repair import Repair
from tests.integration.sync.rig import Rig, rig, write_manifest

# A contract that says what it is told: topic0 is the first word of the call, the data is the rest.
# calldatacopy(0, 32, calldatasize - 32); log1(0, calldatasize - 32, calldataload(0))
SPEAKER = "0x602036038060206000376000359060" + "00a100"


def argument(name: str, kind: str, components: Any = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "indexed": False} | ({"components": components} if components else {})


def event(name: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "event", "name": name, "anonymous": False, "inputs": list(arguments)}


ABIS = {
    "hub": [event("Made", argument("key", "tuple", [argument("pool", "address"), argument("fee", "uint24")]))],
    "mill": [event("Built", argument("pool", "address"))],
    "pool": [event("Born", argument("child", "address"))],
    "child": [event("Spoke", argument("number", "uint256"))],
}
MADE, BUILT = "Made((address,uint24))", "Built(address)"
BORN, SPOKE = "Born(address)", "Spoke(uint256)"
HUB, MILL = (bytes([number]) * 20 for number in (0xA1, 0xA2))
POOLS = tuple(bytes([0xB0 + number]) * 20 for number in range(3))
CHILDREN = tuple(bytes([0xC0 + number]) * 20 for number in range(3))

BEGINNING = """
[chains.local]
id = {chain_id}
rpc = ["${{RPC_URL}}"]

[contracts.hub]
abi = "hub.json"
address = "0x{hub}"

[contracts.mill]
abi = "mill.json"
address = "0x{mill}"
"""
POOL = """
[contracts.pool]
abi = "pool.json"
factory = [
  { contract = "hub", event = "Made", argument = "key.pool" },
  { contract = "mill", event = "Built", argument = "pool" },
]
"""
CHILD = """
[contracts.child]
abi = "child.json"
factory = { contract = "pool", event = "Born", argument = "child" }
"""


class Stage:
    """Speakers on an anvil."""

    def __init__(self, anvil) -> None:
        self.anvil = anvil
        self.account = anvil.w3.eth.accounts[0]
        for address in (HUB, MILL, *POOLS, *CHILDREN):
            anvil.rpc("anvil_setCode", "0x" + address.hex(), SPEAKER)

    def block(self, *sayings: tuple[bytes, str, Any]) -> int:
        """Mines one block in which contracts say something, in this order."""
        self.anvil.rpc("evm_setAutomine", False)
        for to, signature, value in sayings:
            types = signature[signature.index("(") + 1 : -1]
            # Several arguments without a tail are encoded as a tuple of them.
            types = f"({types})" if isinstance(value, tuple) and not types.startswith("(") else types
            data = keccak(signature.encode()) + encode([types], [value])
            transaction = {"from": self.account, "to": "0x" + to.hex(), "data": "0x" + data.hex(), "gas": hex(200_000)}
            self.anvil.rpc("eth_sendTransaction", transaction)
        return self.anvil.mine()


@pytest.fixture
def stage(anvil) -> Stage:
    return Stage(anvil)


def beginning(stage: Stage, tmp_path) -> str:
    for name, abi in ABIS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(abi))
    return BEGINNING.format(chain_id=stage.anvil.w3.eth.chain_id, hub=HUB.hex(), mill=MILL.hex())


def tell_the_story(stage: Stage) -> dict[str, list[tuple[int, bytes, Any]]]:
    """Returns what should be in the tables, by event: block, contract, value."""
    stage.anvil.mine(3)
    first = stage.block(
        (POOLS[1], BORN, CHILDREN[2]),  # a pool that nobody has announced, and never will
        (HUB, MADE, (POOLS[0], 500)),
        (POOLS[0], BORN, CHILDREN[0]),  # announced in this very block, and its child speaks in it, too
        (CHILDREN[0], SPOKE, 1),
        (CHILDREN[2], SPOKE, 99),
    )
    second = stage.block((CHILDREN[1], SPOKE, 98), (MILL, BUILT, POOLS[2]))  # it speaks before it is born
    third = stage.block((POOLS[2], BORN, CHILDREN[1]), (CHILDREN[1], SPOKE, 2))
    stage.anvil.mine(80)  # so far it is history
    fourth = stage.block((MILL, BUILT, POOLS[0]), (POOLS[0], BORN, CHILDREN[1]), (CHILDREN[0], SPOKE, 3))
    return {
        "pool.Born": [
            (first, POOLS[0], CHILDREN[0]),
            (third, POOLS[2], CHILDREN[1]),
            (fourth, POOLS[0], CHILDREN[1]),
        ],
        "child.Spoke": [(first, CHILDREN[0], 1), (third, CHILDREN[1], 2), (fourth, CHILDREN[0], 3)],
        "births": [
            ("child", CHILDREN[0], first),
            ("child", CHILDREN[1], third),
            ("pool", POOLS[0], first),
            ("pool", POOLS[2], second),
        ],
    }


def check(one: Rig, expected: dict[str, list[Any]]) -> None:
    rows = one.rows()
    for label in ("pool.Born", "child.Spoke"):
        found = [(row[1], row[6], int(row[7]) if label == "child.Spoke" else row[7]) for row in rows[label]]
        assert found == expected[label], label
    births = one.query(
        "SELECT c.name, address, block_number FROM gapless.children JOIN gapless.contracts c ON c.id = contract_id "
        "ORDER BY 1, 2"
    )
    assert births == expected["births"]


@pytest.mark.promise("R-11")
def test_factories_of_factories_by_history_and_at_the_head(stage, migrated_url, tmp_path):
    text = beginning(stage, tmp_path) + POOL + CHILD
    expected = tell_the_story(stage)
    with rig(text, tmp_path, stage.anvil.url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        check(one, expected)
        # At the head: a pool, its child and the child's word in one block.
        last = stage.block((HUB, MADE, (POOLS[1], 1)), (POOLS[1], BORN, CHILDREN[2]), (CHILDREN[2], SPOKE, 7))
        one.catch_up(follower)
        expected["pool.Born"].append((last, POOLS[1], CHILDREN[2]))
        expected["child.Spoke"].append((last, CHILDREN[2], 7))
        expected["births"] = sorted([*expected["births"], ("pool", POOLS[1], last), ("child", CHILDREN[2], last)])
        check(one, expected)
        follower.close()


@pytest.mark.promise("R-11")
def test_children_that_are_wanted_after_their_factory_was_indexed(stage, migrated_url, tmp_path):
    text = beginning(stage, tmp_path)
    expected = tell_the_story(stage)
    with rig(text, tmp_path, stage.anvil.url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        for more in (POOL, CHILD):
            text += more
            one.manifest = write_manifest(text, tmp_path, stage.anvil.url)
            prepare(one.engine, one.manifest)
            one.catch_up(follower)
        check(one, expected)
        follower.close()


@pytest.mark.parametrize("away", [False, True], ids=["all_along", "while_they_are_away"])
def test_a_factory_that_gets_another_address_has_more_children_in_blocks_that_are_covered(
    stage, migrated_url, tmp_path, away
):
    start = beginning(stage, tmp_path)
    one_mill, both = f'address = "0x{"ee" * 20}"', f'address = ["0x{"ee" * 20}", "0x{MILL.hex()}"]'
    before, after = (start.replace(f'address = "0x{MILL.hex()}"', mills) for mills in (one_mill, both))
    expected = tell_the_story(stage)
    with rig(before + POOL + CHILD, tmp_path, stage.anvil.url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        assert [row[6] for row in one.rows()["pool.Born"]] == [POOLS[0], POOLS[0]]
        for text in (after, after + POOL + CHILD) if away else (after + POOL + CHILD,):
            one.apply(text, tmp_path, stage.anvil.url)
            one.catch_up(follower)
        check(one, expected)
        # Applied once more, nothing is taken back: all is known.
        assert prepare(one.engine, one.manifest) == []
        follower.close()


def test_a_factory_whose_history_begins_earlier_has_more_children_in_blocks_that_are_covered(
    stage, migrated_url, tmp_path
):
    whole = beginning(stage, tmp_path) + POOL + CHILD
    expected = tell_the_story(stage)
    first, third = (number for number, *_ in expected["pool.Born"][:2])
    late = whole.replace("[contracts.mill]", f"[contracts.mill]\nstart_block = {third}")
    late = late.replace("[contracts.pool]", f"[contracts.pool]\nstart_block = {first}")
    whole = whole.replace("[contracts.pool]", f"[contracts.pool]\nstart_block = {first}")
    with rig(late, tmp_path, stage.anvil.url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        assert [row[6] for row in one.rows()["pool.Born"]] == [POOLS[0], POOLS[0]]
        one.apply(whole, tmp_path, stage.anvil.url)
        one.catch_up(follower)
        check(one, expected)
        follower.close()


def test_children_that_are_announced_by_a_log_that_can_be_decoded_at_last(stage, migrated_url, tmp_path):
    text = beginning(stage, tmp_path) + POOL + CHILD
    expected = tell_the_story(stage)
    with rig(text, tmp_path, stage.anvil.url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        (block,) = (number for _, address, number in expected["births"] if address == POOLS[2])
        with one.engine.begin() as connection:
            # As if the mill's first log could not be decoded: its pool and that one's child were never looked for.
            for statement, *values in (
                (
                    "INSERT INTO gapless.undecoded_logs (event_id, chain_id, block_number, log_index, block_time, "
                    "tx_hash, tx_index, contract_address, topics, data, reason, has_row) "
                    "SELECT e.id, chain_id, block_number, log_index, block_time, tx_hash, tx_index, contract_address, "
                    "ARRAY[e.topic0], decode(lpad(encode(pool, 'hex'), 64, '0'), 'hex'), 'so', false "
                    "FROM mill.built, gapless.events e WHERE block_number = %s AND e.name = 'Built'",
                    block,
                ),
                ("DELETE FROM mill.built WHERE block_number = %s", block),
                ("DELETE FROM pool.born WHERE contract_address = %s", POOLS[2]),
                ("DELETE FROM child.spoke WHERE contract_address = %s", CHILDREN[1]),
                ("DELETE FROM gapless.children WHERE address IN (%s, %s)", POOLS[2], CHILDREN[1]),
            ):
                connection.exec_driver_sql(statement, tuple(values))
        assert redecode(one.engine).taken == {"pool.Born", "child.Spoke"}
        assert one.query("SELECT count(*) FROM mill.built WHERE block_number = %s", block) == [(1,)]
        assert not one.is_complete(), "what the pool and its child said is a gap, and says so"
        one.catch_up(follower)
        check(one, expected)
        assert prepare(one.engine, one.manifest) == []
        follower.close()


def test_a_repair_that_finds_a_factorys_log_finds_its_children_too(stage, migrated_url, tmp_path):
    text = beginning(stage, tmp_path) + POOL + CHILD
    expected = tell_the_story(stage)
    with rig(text, tmp_path, stage.anvil.url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        with one.engine.begin() as connection:
            # As if a node had left out the mill's first log.
            for statement, *values in (
                ("DELETE FROM mill.built WHERE block_number < %s", 10),
                ("DELETE FROM pool.born WHERE contract_address = %s", POOLS[2]),
                ("DELETE FROM child.spoke WHERE contract_address = %s", CHILDREN[1]),
                ("DELETE FROM gapless.children WHERE address IN (%s, %s)", POOLS[2], CHILDREN[1]),
            ):
                connection.exec_driver_sql(statement, tuple(values))
        follower.close()
        follower = one.follower()  # one that has never heard of them
        one.catch_up(follower)
        Repair(one.engine, one.client, one.chain.chain_id, one.chain.name).range("mill", 0, 10)
        check(one, expected)
        # And the follower, which runs on, knows them.
        last = stage.block((POOLS[2], BORN, CHILDREN[2]))
        one.catch_up(follower)
        assert [(row[1], row[6]) for row in one.rows()["pool.Born"]][-1] == (last, POOLS[2])
        follower.close()


@pytest.mark.long
def test_three_hundred_thousand_children(stage, migrated_url, tmp_path):
    text = beginning(stage, tmp_path) + POOL + CHILD
    expected = tell_the_story(stage)
    with rig(text, tmp_path, stage.anvil.url, migrated_url) as one:
        with one.engine.begin() as connection:
            connection.exec_driver_sql("""
                INSERT INTO pool.born (chain_id, block_number, block_time, tx_hash, tx_index, log_index,
                                       contract_address, child)
                SELECT 31337, 1, now(), '\\x00', 0, n, '\\xa1', decode(lpad(to_hex(n), 40, '0'), 'hex')
                FROM generate_series(1, 300000) n
            """)
        follower = one.follower()
        before = _requests(one)
        one.catch_up(follower)
        assert one.query("SELECT count(*) FROM gapless.children") == [(300_004,)]
        rows = one.rows()
        assert [(row[1], row[6], int(row[7])) for row in rows["child.Spoke"]] == expected["child.Spoke"]
        # 300,000 addresses in slices would be hundreds of requests for each step.
        assert _requests(one) - before < 100
        before = _requests(one)
        last = stage.block((CHILDREN[0], SPOKE, 8))
        one.catch_up(follower)
        assert (one.rows()["child.Spoke"][-1][1], int(one.rows()["child.Spoke"][-1][7])) == (last, 8)
        assert _requests(one) - before < 40
        follower.close()


def _requests(one: Rig) -> int:
    return sum(status.http_requests for status in one.client.describe())
