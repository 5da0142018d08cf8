"""Snapshots on a real chain: arguments, names, queries, reasons, the past, reorganisations, no Multicall3."""

from __future__ import annotations

import json
import random

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import FatalError
from indexer.chain.rpc.config import EndpointConfig
from indexer.demo.world import MULTICALL3
from indexer.store.database import DatabaseError
from indexer.sync.head.follower import Tick
from indexer.sync.snapshots.points import past_times
from indexer.sync.snapshots.series import Snapshots, TooOldError
from tests.integration.sync.rig import QUICK, normal, rig
from tests.integration.sync.test_changes import apply_again, chain_text, coins, indexed, url_of


def take(one, name: str) -> int:
    taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots[name])
    total = 0
    while done := taker.take_due():
        total += done
    return total


def rows(one, statement: str):
    return [tuple(normal(value) for value in row) for row in one.query(statement)]


def snapshot(name: str, calls: str, every: str = "50 blocks", more: str = "") -> str:
    return f'\n[snapshots.{name}]\ncontract = "coins"\ncalls = [{calls}]\nevery = "{every}"\n{more}\n'


def test_named_calls_with_arguments_and_the_past(shared_history, migrated_url, tmp_path):
    world = shared_history.world
    holder, other = world.accounts[0], world.accounts[1]
    calls = (
        f'"totalSupply()", {{ call = "balanceOf(address)", args = ["{holder}"], name = "first" }}, '
        f'{{ call = "balanceOf(address)", args = ["{other}"], name = "second" }}'
    )
    text = chain_text(shared_history) + coins(shared_history, "gold", "silver")
    text += snapshot("supply", calls, more="start_block = 20")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        take(one, "supply")
        found = rows(
            one,
            "SELECT block_number, contract_address, total_supply, first, second, failures "
            "FROM coins.supply ORDER BY 1, 2",
        )
        expected = []
        for number in range(50, shared_history.last + 1, 50):
            for name in ("gold", "silver"):
                functions = world.contract(name).functions
                at = {"block_identifier": number}
                expected.append(
                    (
                        number,
                        bytes.fromhex(world.addresses[name][2:]),
                        functions.totalSupply().call(**at),
                        functions.balanceOf(holder).call(**at),
                        functions.balanceOf(other).call(**at),
                        None,
                    )
                )
        assert found == sorted(expected)
        assert take(one, "supply") == 0
        # Other arguments under the same name would not mean the same.
        with pytest.raises(DatabaseError, match="its calls, their arguments"):
            apply_again(one, shared_history, tmp_path, text.replace(other, world.accounts[2]))


def test_the_arguments_of_a_query_and_reasons_of_failures(shared_history, migrated_url, tmp_path):
    from indexer.demo.contracts import ARTIFACTS

    world = shared_history.world
    text = chain_text(shared_history) + coins(shared_history, "gold")
    text += snapshot(
        "holdings",
        '{ call = "balanceOf(address)", args = ["$who"] }',
        more='for_each = "SELECT DISTINCT to_address AS who FROM coins.transfer ORDER BY 1 LIMIT 5"',
    )
    text += f"""
[contracts.nft]
abi = "{ARTIFACTS.as_posix()}/DemoNft.json"
address = "{world.addresses["nft"]}"
events = ["Transfer"]
[snapshots.owners]
contract = "nft"
calls = [
  {{ call = "ownerOf(uint256)", args = [1], name = "one" }},
  {{ call = "ownerOf(uint256)", args = ["999999"], name = "none" }},
]
every = "50 blocks"
"""
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        take(one, "holdings")
        take(one, "owners")
        holders = [row[0] for row in rows(one, "SELECT DISTINCT to_address FROM coins.transfer ORDER BY 1 LIMIT 5")]
        found = rows(one, "SELECT block_number, item, arguments->>'who', balance_of FROM coins.holdings ORDER BY 2")
        number = found[0][0]
        assert [row[1:] for row in found] == [
            (item, who, _balance(world, who, number)) for item, who in enumerate(holders)
        ]
        ((one_owner, none_owner, failures),) = rows(one, "SELECT one, none, failures FROM nft.owners")
        assert len(one_owner) == 20
        assert none_owner is None
        assert list(failures) == ["none"]
        assert failures["none"].startswith("reverted: "), failures


def _balance(world, who: bytes, number: int) -> int:
    from eth_utils.address import to_checksum_address

    return world.contract("gold").functions.balanceOf(to_checksum_address(who)).call(block_identifier=number)


def test_without_multicall3_it_is_call_by_call(make_world, migrated_url, tmp_path):
    history = make_world(transactions=40, blocks=20)
    history.world.w3.provider.make_request("anvil_setCode", [MULTICALL3, "0x"])
    text = chain_text(history) + coins(history, "gold", "silver") + snapshot("supply", '"totalSupply()"', "10 blocks")
    with indexed(text, history, migrated_url, tmp_path) as (one, _):
        assert take(one, "supply") == 1
        found = rows(one, "SELECT contract_address, total_supply, failures FROM coins.supply")
        ((number,),) = rows(one, "SELECT block_number FROM gapless.series_points")
        expected = [
            (
                bytes.fromhex(history.world.addresses[n][2:]),
                history.world.contract(n).functions.totalSupply().call(block_identifier=number),
                None,
            )
            for n in ("gold", "silver")
        ]
        assert sorted(found) == sorted(expected)


@pytest.mark.promise("R-15")
def test_a_reorganisation_takes_points_with_it_and_they_are_taken_again(make_world, migrated_url, tmp_path):
    from indexer.demo.traffic import burst

    history = make_world(transactions=40, blocks=20)
    w3 = history.world.w3
    text = chain_text(history) + coins(history, "gold") + snapshot("supply", '"totalSupply()"', "1 block")
    with rig(text, tmp_path, url_of(history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        take(one, "supply")
        kept = w3.provider.make_request("evm_snapshot", [])["result"]
        burst(history.world, random.Random(1), 40, 8)
        one.catch_up(follower)
        assert take(one, "supply") == 8
        w3.provider.make_request("evm_revert", [kept])
        burst(history.world, random.Random(2), 40, 10)
        one.catch_up(follower)
        take(one, "supply")
        hashes = dict(rows(one, "SELECT block_number, block_hash FROM gapless.series_points"))
        assert hashes == {number: bytes(w3.eth.get_block(number)["hash"]) for number in hashes}
        assert max(hashes) == w3.eth.block_number
        for number, supply in rows(one, "SELECT block_number, total_supply FROM coins.supply"):
            assert supply == history.world.contract("gold").functions.totalSupply().call(block_identifier=number)
        follower.close()


def test_the_past_of_a_series_by_the_clock(shared_history, migrated_url, tmp_path):
    w3 = shared_history.world.w3
    times = {n: w3.eth.get_block(n)["timestamp"] for n in range(2, shared_history.last - 63)}
    text = chain_text(shared_history) + coins(shared_history, "gold")
    text += snapshot("supply", '"totalSupply()"', "30 seconds", "start_block = 2")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        while taker.take_past():
            pass
        expected = set()
        for moment in range(-(-times[2] // 30) * 30, max(times.values()) + 1, 30):
            until = [n for n, time in times.items() if moment - 30 < time <= moment]
            expected |= set(until[-1:])
        assert {row[0] for row in rows(one, "SELECT block_number FROM gapless.series_points")} == expected
        again = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        assert again.take_past() == 0


def test_what_a_series_by_the_clock_loses_by_a_reorganisation_is_taken_on_the_new_branch(
    make_world, migrated_url, tmp_path
):
    from indexer.demo.traffic import burst

    history = make_world(transactions=40, blocks=20)
    w3 = history.world.w3
    text = chain_text(history) + coins(history, "gold") + snapshot("supply", '"totalSupply()"', "5 seconds")
    with rig(text, tmp_path, url_of(history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        assert taker.take_now() == 1
        common = w3.eth.block_number
        # Both branches keep the same time: were the new one denser on a chain that runs ahead of our clock, the last
        # times of the old one could be later than any that is known to be lost.
        w3.provider.make_request("anvil_setBlockTimestampInterval", [1])
        kept = w3.provider.make_request("evm_snapshot", [])["result"]
        burst(history.world, random.Random(1), 40, 12)
        one.catch_up(follower)
        assert taker.take_now() == 1
        lost = w3.eth.get_block("latest")
        w3.provider.make_request("evm_revert", [kept])
        burst(history.world, random.Random(2), 40, 3)
        one.catch_up(follower)
        assert rows(one, "SELECT block_number FROM coins.supply") == [(common,)]
        # A process that was started anew knows of the reorganisation, too; the branch has yet to come so far.
        again = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        again.take_missed()
        burst(history.world, random.Random(3), 40, 12)
        one.catch_up(follower)
        while again.take_missed():
            pass
        blocks = {n: w3.eth.get_block(n) for n in range(common + 1, w3.eth.block_number + 1)}
        assert blocks[lost["number"]]["timestamp"] == lost["timestamp"]
        moment = lost["timestamp"] // 5 * 5
        newest = max(n for n, block in blocks.items() if block["timestamp"] <= moment)
        found = dict(rows(one, "SELECT block_number, block_hash FROM gapless.series_points"))
        assert newest in found
        assert all(found[n] == bytes(block["hash"]) for n, block in blocks.items() if n in found)
        for number, supply in rows(one, "SELECT block_number, total_supply FROM coins.supply"):
            assert supply == history.world.contract("gold").functions.totalSupply().call(block_identifier=number)
        assert again.take_missed() == 0
        follower.close()


def test_a_time_at_which_there_was_nobody_to_ask_is_not_read_again_and_again(make_world, migrated_url, tmp_path):
    from indexer.demo.contracts import ARTIFACTS

    history = make_world(transactions=5, blocks=80)
    exchange = f'''
[contracts.exchange]
abi = "{ARTIFACTS.as_posix()}/Factory.json"
address = "{"0x" + "12" * 20}"
[contracts.pair]
abi = "{ARTIFACTS.as_posix()}/Pair.json"
factory = {{ contract = "exchange", event = "PairCreated", argument = "pair" }}
events = ["Swap"]
[snapshots.reserves]
contract = "pair"
calls = ["totalSupply()"]
every = "5 seconds"
start_block = 2
'''
    with indexed(chain_text(history) + exchange, history, migrated_url, tmp_path) as (one, _):
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["reserves"])
        assert taker.take_past() > 0
        for _ in range(20):
            if not taker.take_past():
                break
        again = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["reserves"])
        assert again.take_past() == 0


def test_a_past_that_no_node_knows_any_more_is_told_and_new_points_go_on(
    shared_history, migrated_url, tmp_path, monkeypatch
):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    text += snapshot("supply", '"totalSupply()"', more="start_block = 20")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        finalized = one.query("SELECT finalized_number FROM gapless.chains")[0][0]
        real = one.client.multicall

        def pruned(calls, block):
            if block <= finalized:
                raise FatalError("missing trie node 5b7c (path )", scope="history", host="https://full.example/***")
            return real(calls, block)

        monkeypatch.setattr(one.client, "multicall", pruned)
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        with pytest.raises(TooOldError) as old:
            taker.take_due()
        assert str(old.value).startswith("snapshot supply: no endpoint knows the state of block 50: https://full.")
        assert "archive node" in (old.value.hint or "")
        new = [number for number in range(50, shared_history.last + 1, 50) if number > finalized]
        assert [row[0] for row in rows(one, "SELECT block_number FROM gapless.series_points ORDER BY 1")] == new


@pytest.mark.parametrize("said_by", ["manifest", "node"])
def test_a_series_goes_on_behind_states_that_are_gone(make_world, migrated_url, tmp_path, said_by, caplog):
    """It was down for longer than a node that is no archive keeps its states: more points than one run takes."""
    history = make_world(transactions=40, blocks=20)
    text = chain_text(history) + coins(history, "gold") + snapshot("supply", '"totalSupply()"', "5 blocks")
    with rig(text, tmp_path, url_of(history), migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        assert take(one, "supply") == 1
        before = history.world.w3.eth.block_number
        history.world.w3.provider.make_request("anvil_mine", [hex(400)])
        one.catch_up(follower)
        follower.close()
        tip = history.world.w3.eth.block_number
        config = EndpointConfig(url_of(history), archive=False if said_by == "manifest" else None)
        client = ChainClient("demo", one.chain.chain_id, [config], settings=QUICK)
        if said_by == "node":
            # Which it does not tell beforehand.
            asked = []

            def pruned(real):
                def ask(what, block):
                    asked.append(block)
                    if block <= tip - 128:
                        client.run(gone, "eth_call", block=block)
                    return real(what, block)

                return ask

            def gone(endpoint):
                raise FatalError("missing trie node 5b7c (path )", scope="history", host=endpoint.host)

            client.multicall, client.code = pruned(client.multicall), pruned(client.code)
        client.head()
        taker = Snapshots(one.engine, client, one.chain.chain_id, one.manifest.snapshots["supply"])
        while taker.take_due():
            pass
        expected = [before // 5 * 5, *range((tip - 128) // 5 * 5 + 5, tip + 1, 5)]
        found = [row[0] for row in rows(one, "SELECT block_number FROM gapless.series_points ORDER BY 1")]
        assert found == expected
        if said_by == "node":
            assert len([block for block in asked if block <= tip - 128]) < 10, "it is searched for, not asked for each"
        # One line tells of all of them.
        lost = [record.getMessage() for record in caplog.records if "too old to be read" in record.getMessage()]
        assert len(lost) == 1
        assert f"snapshot supply: {len(range(before // 5 * 5 + 5, expected[1], 5))} points, blocks " in lost[0]
        client.close()


def test_an_endpoint_that_answers_nothing_at_all_costs_no_point(shared_history, migrated_url, tmp_path, monkeypatch):
    text = chain_text(shared_history) + coins(shared_history, "gold") + snapshot("supply", '"totalSupply()"')
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        real = one.client.multicall

        def refused(calls, block):
            raise FatalError("invalid api key")

        monkeypatch.setattr(one.client, "multicall", refused)
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        with pytest.raises(FatalError):
            taker.take_due()
        monkeypatch.setattr(one.client, "multicall", real)
        assert taker.take_due() == 1


def test_times_that_are_due():
    from indexer.manifest.document import parse_schedule

    assert list(past_times(parse_schedule("10 seconds"), 15, 41)) == [(10, 20), (20, 30), (30, 40)]
    hours = [moment for _, moment in past_times(parse_schedule("cron 0 * * * *"), 1, 3 * 3600)]
    assert hours == [3600, 7200, 10800]


def test_points_that_are_too_old_hold_no_newer_one_up(make_world, migrated_url, tmp_path):
    from indexer.chain.client import ChainClient
    from indexer.chain.rpc.config import EndpointConfig
    from indexer.demo.world import request
    from tests.integration.sync.rig import QUICK

    history = make_world(transactions=10, blocks=5)
    text = chain_text(history) + coins(history, "gold") + snapshot("supply", '"totalSupply()"', "2 blocks")
    with indexed(text, history, migrated_url, tmp_path) as (one, follower):
        take(one, "supply")
        before = rows(one, "SELECT count(*) FROM coins.supply")[0][0]
        one.client.close()
        # A full node, as the manifest says; and a long pause.
        full = EndpointConfig(url_of(history), archive=False)
        one.client = ChainClient(one.chain.name, one.chain.chain_id, [full], settings=QUICK)
        request(history.world.w3, "anvil_mine", hex(300))
        again = one.follower()
        follower.close()
        one.catch_up(again)
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["supply"])
        for _ in range(20):
            taker.take_due()
        last = history.world.w3.eth.block_number
        found = [row[0] for row in rows(one, "SELECT block_number FROM coins.supply ORDER BY 1")][before:]
        assert found == [number for number in range(last - 127, last + 1) if number % 2 == 0]
        assert taker.take_due() == 0
        again.close()


def pairs_text(history) -> str:
    from indexer.demo.contracts import ARTIFACTS

    return f"""{chain_text(history)}
[contracts.exchange]
abi = "{ARTIFACTS.as_posix()}/Factory.json"
address = "{history.world.addresses["factory"]}"
[contracts.pair]
abi = "{ARTIFACTS.as_posix()}/Pair.json"
factory = {{ contract = "exchange", event = "PairCreated", argument = "pair" }}
events = ["Swap"]
[snapshots.reserves]
contract = "pair"
calls = ["totalSupply()"]
every = "10 blocks"
start_block = 0
[snapshots.now_and_then]
contract = "pair"
calls = ["totalSupply()"]
every = "5 seconds"
"""


def test_children_are_asked_once_all_of_them_are_known(shared_history, migrated_url, tmp_path):
    with rig(pairs_text(shared_history), tmp_path, url_of(shared_history), migrated_url) as one:
        follower = one.follower()
        takers = [
            Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots[name])
            for name in ("reserves", "now_and_then")
        ]
        # Followed from the first minute, while history is still to be filled: most pairs were born there.
        while follower.tick() is not Tick.NOTHING_NEW:
            pass
        for taker in takers:
            taker.take_due()
            taker.take_now()
        one.catch_up(follower)
        assert takers[1].take_now() == 1
        while takers[0].take_due():
            pass
        for table in ("reserves", "now_and_then"):
            asked = f"SELECT block_number, count(*) FROM pair.{table} GROUP BY 1 ORDER BY 1"
            born = "SELECT count(*) FROM gapless.children WHERE block_number <= %s"
            found = rows(one, asked)
            assert found
            assert [count for _, count in found] == [one.query(born, number)[0][0] for number, _ in found]
        follower.close()


def test_children_of_a_branch_that_is_gone_are_not_asked_on_the_new_one(
    make_world, migrated_url, tmp_path, monkeypatch
):
    from indexer.demo import actions
    from indexer.demo.world import request

    history = make_world(transactions=20, blocks=10)
    w3 = history.world.w3
    with indexed(pairs_text(history), history, migrated_url, tmp_path) as (one, follower):
        kept = request(w3, "evm_snapshot")
        call = actions.launch(history.world, random.Random(1))
        w3.eth.send_transaction({"from": call.sender, "to": call.to, "data": call.data, "gas": call.gas})
        request(w3, "anvil_mine", "0x2")
        one.catch_up(follower)
        children = rows(one, "SELECT address FROM gapless.children")
        request(w3, "evm_revert", kept)
        request(w3, "anvil_mine", "0x5")
        real = one.client.multicall

        def late(calls, block):
            one.catch_up(follower)
            return real(calls, block)

        monkeypatch.setattr(one.client, "multicall", late)
        taker = Snapshots(one.engine, one.client, one.chain.chain_id, one.manifest.snapshots["now_and_then"])
        taker.take_now()
        one.catch_up(follower)
        taker.take_now()
        assert len(rows(one, "SELECT address FROM gapless.children")) == len(children) - 1
        found = {row[0] for row in rows(one, "SELECT contract_address FROM pair.now_and_then")}
        assert found == {row[0] for row in rows(one, "SELECT address FROM gapless.children")}


def test_an_abi_whose_fields_are_odd_is_run_as_it_was_checked(shared_history, migrated_url, tmp_path):
    """What ``check`` takes for right is read again from the catalog by all that runs."""
    from indexer.demo.contracts import ARTIFACTS

    def odd(item: dict) -> dict:
        inputs = [
            {**one, "indexed": str(one["indexed"]).lower()} if "indexed" in one else one for one in item["inputs"]
        ]
        found = {**item, "inputs": inputs or None, "type": item["type"].title()}
        if item["type"] == "event":
            found["anonymous"] = "false"
        else:
            found |= {
                "stateMutability": None,
                "constant": "true",
                "payable": None,
                "outputs": item.get("outputs") or None,
            }
        return found

    abi = json.loads((ARTIFACTS / "DemoToken.json").read_text())["abi"]
    named = [one for one in abi if one["type"] in ("event", "function")]
    untyped = {"name": "totalSupply", "inputs": None, "outputs": [{"type": "uint256"}], "stateMutability": "View"}
    kept = [odd(one) for one in named if one["name"] != "totalSupply"]
    (tmp_path / "odd.json").write_text(json.dumps({"result": json.dumps([untyped, *kept]), "status": "1"}))
    text = chain_text(shared_history) + coins(shared_history, "gold") + snapshot("supply", '"totalSupply()"')
    text = text.replace((ARTIFACTS / "DemoToken.json").as_posix(), "odd.json")
    assert "odd.json" in text
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        assert take(one, "supply") == 1
        ((number, supply),) = rows(one, "SELECT block_number, total_supply FROM coins.supply")
        gold = shared_history.world.contract("gold")
        assert supply == gold.functions.totalSupply().call(block_identifier=number)
        assert rows(one, "SELECT count(*) > 0 FROM coins.transfer") == [(True,)]
