"""The demo's contracts, its world and its traffic, against a real anvil and read back with web3 alone."""

import hashlib
import json
from collections import Counter, defaultdict
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
from eth_abi.abi import decode, encode
from eth_utils.abi import abi_to_signature, event_abi_to_log_topic, function_signature_to_4byte_selector
from web3.exceptions import ContractCustomError, ContractLogicError, ContractPanicError

from indexer.demo import world as worlds
from indexer.demo.contracts import ARTIFACTS, artifact
from indexer.demo.contracts.compile import sources_digest
from indexer.demo.traffic import burst, step
from indexer.demo.world import FUNGIBLE, MULTICALL3, build, manifest_text, request
from indexer.errors import GaplessError
from indexer.manifest import load_manifest
from tests.world import named_abi

ROOT = Path(__file__).parents[2]
ZERO = "0x" + "00" * 20

STANDARDS = {
    "erc20": "DemoToken",
    "erc721": "DemoNft",
    "erc1155": "DemoItems",
    "uniswap_v2_factory": "Factory",
    "uniswap_v2_pair": "Pair",
}


def events_of(abi):
    return [item for item in abi if item["type"] == "event"]


def shape(event):
    """What decides how a log looks and what its columns are called."""
    return event["name"], event["anonymous"], [(i["name"], i["type"], i["indexed"]) for i in event["inputs"]]


def logs_of(world, first, last, **where):
    return world.w3.eth.get_logs({"fromBlock": first, "toBlock": last, **where})


# Sources and artifacts ------------------------------------------------------------------------------------------------


def test_artifacts_are_of_these_sources():
    digests = {json.loads(path.read_text("utf-8"))["sourcesDigest"] for path in ARTIFACTS.glob("*.json")}
    assert digests == {sources_digest()}, "run python -m indexer.demo.contracts.compile"


@pytest.mark.parametrize(("standard", "name"), STANDARDS.items())
def test_contracts_emit_the_events_of_their_standard(standard, name):
    expected = events_of(json.loads((ROOT / "abis" / f"{standard}.json").read_text("utf-8")))
    assert sorted(map(shape, events_of(artifact(name).abi))) == sorted(map(shape, expected))


def test_zoo_can_emit_every_event_it_has():
    abi = artifact("Zoo").abi
    emitters = [item for item in abi if item["type"] == "function" and item["name"].startswith("emit")]
    assert len(emitters) == len(events_of(abi))


# The world ------------------------------------------------------------------------------------------------------------


def test_world_is_built_in_one_block_and_found_again(world):
    assert world.w3.eth.block_number == 1
    assert build(world.w3.provider.endpoint_uri) == world
    assert world.w3.eth.block_number == 1
    assert len(world.pairs()) == 3
    assert world.deployer not in world.accounts


def test_a_start_that_was_cut_short_is_continued(anvil, make_anvil, monkeypatch):
    whole = build(make_anvil().url)
    plan = worlds._plan
    # 20: after the contracts, in the middle of what brings them to life.
    for length in (5, 20):
        monkeypatch.setattr(worlds, "_plan", lambda world, length=length: islice(plan(world), length))
        monkeypatch.setattr(worlds, "_verify", lambda world, names: None)
        build(anvil.url)
    monkeypatch.undo()
    continued = build(anvil.url)
    assert continued == whole
    assert continued.pairs() == whole.pairs()
    assert continued.w3.eth.get_transaction_count(continued.deployer) == len(list(plan(continued)))


def test_a_chain_that_holds_something_else_is_refused(anvil):
    deployer = anvil.w3.eth.accounts[-1]
    anvil.w3.eth.send_transaction({"from": deployer, "to": deployer})
    with pytest.raises(GaplessError, match="nothing where gold") as caught:
        build(anvil.url)
    assert "delete its data directory" in caught.value.hint


def test_no_node_is_said_so():
    with pytest.raises(GaplessError, match="No node answers"):
        build("http://127.0.0.1:9")


def test_odd_tokens_answer_oddly(world):
    assert "\0" in world.contract("odd").functions.symbol().call()
    assert world.contract("maker").functions.symbol().call().rstrip(b"\0") == b"OLD"
    silent = world.contract("silent").functions
    with pytest.raises(ContractLogicError, match="no name"):
        silent.name().call()
    with pytest.raises(ContractPanicError):
        silent.symbol().call()
    with pytest.raises(ContractCustomError):
        silent.decimals().call()


def test_manifest_of_the_demo_is_valid_and_names_every_contract(world, tmp_path):
    path = tmp_path / "indexer.toml"
    path.write_text(manifest_text(world), "utf-8")
    manifest = load_manifest(path, {"RPC_URL": world.w3.provider.endpoint_uri})
    assert [chain.chain_id for chain in manifest.chains.values()] == [world.chain_id]
    named = {
        address
        for contract in manifest.contracts.values()
        for deployment in contract.deployments
        for address in deployment.addresses
    }
    wanted = {bytes.fromhex(address[2:]) for name, address in world.addresses.items() if name != "trader"}
    assert named == wanted
    assert manifest.snapshots["supply"].every.text == "10 blocks"


# The traffic ----------------------------------------------------------------------------------------------------------


def test_step_sends_one_transaction(world):
    sent = step(world, Random(1))
    assert world.w3.eth.wait_for_transaction_receipt(sent, timeout=10)["blockNumber"] == 2
    assert world.w3.eth.get_block(2)["transactions"][0].to_0x_hex() == sent


def test_burst_makes_exactly_the_blocks_and_transactions_asked_for(history):
    w3 = history.world.w3
    assert (history.first, history.last) == (2, 121)
    assert w3.eth.block_number == history.last
    assert request(w3, "txpool_status") == {"pending": "0x0", "queued": "0x0"}
    blocks = [w3.eth.get_block(number) for number in range(history.first, history.last + 1)]
    sizes = Counter(len(block["transactions"]) for block in blocks)
    assert sum(size * count for size, count in sizes.items()) == history.transactions
    assert sizes[0] > 20, "some blocks are empty"
    assert max(sizes) > 8, "some are dense"
    times = [block["timestamp"] for block in blocks]
    assert all(earlier < later for earlier, later in pairwise(times))


@pytest.mark.parametrize("interval", [None, 3600])
def test_burst_leaves_the_way_of_mining_as_it_was(world, interval):
    if interval:
        request(world.w3, "evm_setIntervalMining", interval)
    before = world.w3.eth.get_block("latest")["gasLimit"]
    burst(world, Random(1), 5, 2)
    assert request(world.w3, "anvil_getIntervalMining") == interval
    assert request(world.w3, "anvil_getAutomine") is (interval is None)
    request(world.w3, "evm_mine")
    assert world.w3.eth.get_block("latest")["gasLimit"] == before


def test_a_seed_gives_the_same_history_again(make_world):
    def digest(history):
        said = hashlib.sha256()
        for log in logs_of(history.world, 0, history.last):
            said.update(
                repr((log["blockNumber"], log["logIndex"], log["address"], log["topics"], log["data"])).encode()
            )
        return said.hexdigest()

    one, same, other = (make_world(seed=seed, transactions=100, blocks=30) for seed in (1, 1, 2))
    assert digest(one) == digest(same)
    assert digest(one) != digest(other)


def test_traffic_emits_every_event_of_every_contract(shared_history):
    world = shared_history.world
    pairs = set(world.pairs())
    emitted = defaultdict(set)
    for log in logs_of(world, 0, shared_history.last):
        emitted["pair" if log["address"] in pairs else log["address"]].add(log["topics"][0] if log["topics"] else None)
    assert len(pairs) > 5
    for name in ("gold", "silver", "copper", "maker", "silent", "nft", "items", "factory", "zoo"):
        topics = emitted[world.addresses[name]]
        for event in events_of(world.artifacts[name].abi):
            assert event["anonymous"] or event_abi_to_log_topic(event) in topics, f"{name}: {abi_to_signature(event)}"
    for event in events_of(artifact("Pair").abi):
        assert event_abi_to_log_topic(event) in emitted["pair"], abi_to_signature(event)


def test_web3_decodes_every_event_of_ordinary_traffic(history):
    """What web3 cannot read would be no fair question to the indexer."""
    world = history.world
    abis = {address: world.artifacts[name].abi for name, address in world.addresses.items()}
    abis |= dict.fromkeys(world.pairs(), artifact("Pair").abi)
    contracts = {address: world.w3.eth.contract(address, abi=named_abi(abi)) for address, abi in abis.items()}
    decoded = Counter()
    for log in logs_of(world, 0, history.last):
        if (contract := contracts.get(log["address"])) is None:
            continue  # a token that was launched by the traffic
        candidates = {
            abi_to_signature(event): event
            for event in events_of(contract.abi)
            if event["anonymous"] or (log["topics"] and event_abi_to_log_topic(event) == log["topics"][0])
        }
        named = [signature for signature, event in candidates.items() if not event["anonymous"]]
        [signature] = named or list(candidates)
        contract.events[signature]().process_log(log)
        decoded[signature] += 1
    assert decoded["Ghost(address,uint256)"] > 0
    assert decoded["Swap(address,uint256,uint256,uint256,uint256,address)"] > 10


def test_children_speak_in_the_transaction_that_announces_them(shared_history):
    world = shared_history.world
    created = logs_of(world, 0, shared_history.last, address=world.addresses["factory"])
    at_once = 0
    for log in created:
        [pair] = decode(["address"], log["data"][:32])
        spoke = logs_of(world, log["blockNumber"], log["blockNumber"], address=world.w3.to_checksum_address(pair))
        at_once += any(own["transactionHash"] == log["transactionHash"] for own in spoke)
    assert at_once >= 3


def test_some_transactions_fail_and_leave_no_log(shared_history):
    world = shared_history.world
    failed = 0
    for number in range(shared_history.first, shared_history.last + 1):
        for receipt in world.w3.eth.get_block_receipts(number):
            if receipt["status"] == 0:
                failed += 1
                assert receipt["logs"] == []
    assert 10 < failed < shared_history.transactions / 4


def test_hostile_traffic_has_logs_that_no_abi_fits(shared_history):
    zoo = shared_history.world.contract("zoo")
    plain = artifact("Zoo").abi
    topics = {event_abi_to_log_topic(event): abi_to_signature(event) for event in events_of(plain)}
    undecodable = nul = 0
    for log in logs_of(shared_history.world, 0, shared_history.last, address=zoo.address):
        if log["topics"] and (signature := topics.get(log["topics"][0])):
            try:
                arguments = zoo.events[signature]().process_log(log)["args"]
            except Exception:  # noqa: BLE001 - web3 raises many kinds here
                undecodable += 1
            else:
                nul += "\0" in str(arguments.get("text", ""))
    assert undecodable > 5
    assert nul > 5


# Transfers explain balances: what the indexer will be asked to prove must be true of the contracts --------------------


def multicall(world, calls):
    selector = function_signature_to_4byte_selector("aggregate3((address,bool,bytes)[])")
    data = selector + encode(["(address,bool,bytes)[]"], [[(to, False, call) for to, call in calls]])
    answer = world.w3.eth.call({"to": MULTICALL3, "data": "0x" + data.hex(), "gas": 10**9})
    [results] = decode(["(bool,bytes)[]"], answer)
    return [int.from_bytes(result, "big") for _, result in results]


@pytest.mark.parametrize("name", FUNGIBLE)
def test_transfers_of_fungible_tokens_add_up(shared_history, name):
    world = shared_history.world
    contract = world.contract(name)
    balances = Counter()
    for log in logs_of(world, 0, shared_history.last, address=contract.address):
        if log["topics"][0] == event_abi_to_log_topic(contract.events.Transfer.abi):
            moved = contract.events.Transfer().process_log(log)["args"]
            balances[moved["from"]] -= moved["value"]
            balances[moved["to"]] += moved["value"]
    minted = -balances.pop(ZERO)
    assert minted == contract.functions.totalSupply().call()
    calls = [(contract.address, world.artifacts[name].encode("balanceOf", holder)) for holder in balances]
    assert multicall(world, calls) == list(balances.values())
    assert len(balances) > len(world.accounts)


def test_transfers_of_portraits_give_their_owners(shared_history):
    world = shared_history.world
    nft = world.contract("nft")
    owners = {}
    for log in logs_of(world, 0, shared_history.last, address=nft.address):
        if log["topics"][0] == event_abi_to_log_topic(nft.events.Transfer.abi):
            moved = nft.events.Transfer().process_log(log)["args"]
            owners[moved["tokenId"]] = moved["to"]
    alive = {token: owner for token, owner in owners.items() if owner != ZERO}
    assert len(alive) < len(owners) == nft.functions.minted().call()
    calls = [(nft.address, artifact("DemoNft").encode("ownerOf", token)) for token in alive]
    assert multicall(world, calls) == [int(owner, 16) for owner in alive.values()]


def test_transfers_of_items_give_the_holdings(shared_history):
    world = shared_history.world
    items = world.contract("items")
    single, batch = (event_abi_to_log_topic(items.events[n].abi) for n in ("TransferSingle", "TransferBatch"))
    held = Counter()
    for log in logs_of(world, 0, shared_history.last, address=items.address):
        if log["topics"][0] == single:
            moved = items.events.TransferSingle().process_log(log)["args"]
            parts = [(moved["id"], moved["value"])]
        elif log["topics"][0] == batch:
            moved = items.events.TransferBatch().process_log(log)["args"]
            parts = list(zip(moved["ids"], moved["values"], strict=True))
        else:
            continue
        for kind, amount in parts:
            held[moved["from"], kind] -= amount
            held[moved["to"], kind] += amount
    expected = {key: amount for key, amount in held.items() if key[0] != ZERO}
    calls = [(items.address, artifact("DemoItems").encode("balanceOf", owner, kind)) for owner, kind in expected]
    assert multicall(world, calls) == list(expected.values())
    assert max(expected.values()) > 2**200
