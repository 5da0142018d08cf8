"""The client against a real node: anvil with the demo's contracts and their history."""

from pathlib import Path

import pytest
from web3 import Web3

from indexer.chain.client import ChainClient
from indexer.chain.logs import sampling
from indexer.chain.logs.block_logs import logs_by_hash
from indexer.chain.records.completeness import BloomTrust, unaccounted
from indexer.chain.records.errors import (
    BranchMovedError,
    CallReverted,
    ChainMismatchError,
    NoEndpointError,
    TransientError,
)
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.demo import anvil as anvil_program
from tests.world import History, make_history


def client_of(url: str, chain_id: int = 31337, **settings: object) -> ChainClient:
    return ChainClient("demo", chain_id, [EndpointConfig(url)], settings=ClientSettings(**settings))


@pytest.fixture(scope="module")
def w3(shared_history: History) -> Web3:
    return shared_history.world.w3


@pytest.fixture(scope="module")
def client(w3: Web3) -> ChainClient:
    return client_of(w3.provider.endpoint_uri, start_blocks=7, target_logs=100)


def test_check_accepts_the_right_chain_and_names_a_wrong_one(w3: Web3) -> None:
    client_of(w3.provider.endpoint_uri).check()
    with pytest.raises(ChainMismatchError, match="serves chain id 31337, the manifest says 1"):
        client_of(w3.provider.endpoint_uri, chain_id=1).check()
    with pytest.raises(NoEndpointError, match="Connection refused") as caught:
        client_of("http://127.0.0.1:9/key-of-mine", first_backoff=0.001).check()
    assert "key-of-mine" not in f"{caught.value}{caught.value.hint}"


def test_a_socket_answers_as_http_does_and_again_after_a_restart(anvil_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "geth.ipc"
    client = client_of(f"ipc://{path}", first_backoff=0.001, attempts=2)
    everything = LogFilter()
    for _ in range(2):
        with anvil_program.anvil(anvil_home, arguments=["--ipc", str(path)]) as url:
            history = make_history(url, transactions=40, blocks=20)
            by_http = client_of(url)
            client.check()
            assert client.headers(range(history.last + 1)) == by_http.headers(range(history.last + 1))
            found = [log for chunk in client.scan([(0, history.last)], everything, in_flight=4) for log in chunk.logs]
            theirs = [log for chunk in by_http.scan([(0, history.last)], everything) for log in chunk.logs]
            assert found == theirs != []
            assert client.block(1, full=True) == by_http.block(1, full=True)
            assert client.describe()[0].host == "ipc://***/geth.ipc"
        with pytest.raises(TransientError, match="no connection"):
            client.head()
    client.close()


def test_blocks_are_as_web3_reads_them(client: ChainClient, w3: Web3) -> None:
    head = client.head()
    assert head.number == w3.eth.block_number
    found = client.headers([1, 2, head.number, head.number + 1000])
    assert sorted(found) == [1, 2, head.number]
    theirs = w3.eth.get_block(2)
    ours = found[2]
    assert (ours.hash, ours.parent_hash, ours.time) == (theirs.hash, theirs.parentHash, theirs.timestamp)
    assert ours.logs_bloom == theirs.logsBloom
    assert client.header(head.number + 1000) is None
    assert client.tagged("finalized") is not None
    assert client.tagged("nonsense") is None
    block = client.block(1, full=True)
    assert block is not None
    assert block == client.block(client.headers([1])[1].hash, full=True)
    assert block["transactions"][0]["hash"].startswith("0x")
    assert sum(len(receipt["logs"]) for receipt in client.receipts(1)) == len(w3.eth.get_logs(_between(1, 1))) > 0


def test_a_scan_brings_every_log_once_and_in_order(client: ChainClient, w3: Web3, shared_history: History) -> None:
    last = shared_history.last
    theirs = w3.eth.get_logs(_between(0, last))
    chunks = list(client.scan([(0, 40), (41, last)], LogFilter()))
    assert [log for chunk in chunks for log in chunk.logs]
    ours = [(log.block_number, log.log_index, log.tx_hash, log.data) for chunk in chunks for log in chunk.logs]
    assert ours == [
        (log["blockNumber"], log["logIndex"], log["transactionHash"].to_0x_hex(), log["data"].to_0x_hex())
        for log in theirs
    ]
    covered = [number for chunk in chunks for number in range(chunk.first, chunk.last + 1)]
    assert covered == list(range(last + 1))
    for chunk in chunks:
        assert set(chunk.blocks) == {log.block_number for log in chunk.logs} | {chunk.last}
        for number, (block_hash, time) in chunk.blocks.items():
            block = w3.eth.get_block(number)
            assert (block_hash, time) == (block.hash, block.timestamp)


def test_a_branch_is_complete_and_joined(client: ChainClient, w3: Web3, shared_history: History) -> None:
    last = shared_history.last
    first = last - 20
    parent = client.header(first - 1)
    assert parent is not None
    branch = client.branch(first, last, LogFilter(), parent_hash=parent.hash)
    assert [header.number for header in branch.headers] == list(range(first, last + 1))
    assert len(branch.logs) == len(w3.eth.get_logs(_between(first, last)))
    assert branch.requests == 1
    assert branch.found_again == 0
    with pytest.raises(BranchMovedError):
        client.branch(first, last, LogFilter(), parent_hash=b"\x01" * 32)
    question = [(branch.headers[-1].hash, LogFilter())]
    by_hash = client.run(lambda one: logs_by_hash(one, question, RequestContext()), "eth_getLogs")
    assert by_hash[0] == [log for log in branch.logs if log.block_number == last]


def test_blooms_hold_every_log_of_their_block_and_little_else(client: ChainClient, shared_history: History) -> None:
    first, last = shared_history.first, shared_history.last
    branch = client.branch(first, last, [LogFilter()])
    headers = {header.number: header for header in branch.headers}
    for log in branch.logs:
        topics = tuple((topic,) for topic in log.topics)
        wanted = LogFilter((log.address,), topics)
        assert unaccounted(wanted, headers[log.block_number], [], BloomTrust(kept=True)) == wanted
    stranger = LogFilter(("0x" + "12" * 20,), (("0x" + "34" * 32,),))
    maybe = [unaccounted(stranger, header, [], BloomTrust(kept=True)) for header in branch.headers]
    assert sum(one is not None for one in maybe) < len(branch.headers) / 20


def test_several_filters_travel_together(client: ChainClient, shared_history: History) -> None:
    every = [log for chunk in client.scan([(0, shared_history.last)], LogFilter()) for log in chunk.logs]
    addresses = sorted({log.address for log in every})
    overlapping = [LogFilter(tuple(addresses[:3])), LogFilter(tuple(addresses[2:]))]
    assert [log for chunk in client.scan([(0, shared_history.last)], overlapping) for log in chunk.logs] == every
    first = shared_history.last - 10
    branch = client.branch(first, shared_history.last, overlapping)
    assert branch.logs == [log for log in every if log.block_number >= first]
    assert client.branch(first, shared_history.last, []).logs == []


def test_an_estimate_is_of_the_right_size(client: ChainClient, shared_history: History) -> None:
    every = sum(len(chunk.logs) for chunk in client.scan([(0, shared_history.last)], LogFilter()))
    estimate = sampling.estimate(client, [(0, shared_history.last)], (LogFilter(),))
    assert estimate.blocks == shared_history.last + 1
    assert every / 2 < estimate.logs < every * 2
    assert estimate.requests >= 1
    assert estimate.bytes > 100 * every


def test_calls_one_by_one_and_together_say_the_same(client: ChainClient, shared_history: History) -> None:
    world = shared_history.world
    token = bytes.fromhex(world.addresses["gold"][2:])
    head = client.head().number
    total_supply, name, nonsense = (Web3.keccak(text=text)[:4] for text in ("totalSupply()", "name()", "nonsense()"))
    with pytest.raises(CallReverted):
        client.eth_call(token, bytes(nonsense), head)
    supply = client.eth_call(token, bytes(total_supply), head)
    assert len(supply) == 32
    assert client.code(token, head)
    assert client.code(b"\x01" * 20, head) == b""
    calls = [(token, bytes(selector)) for selector in (total_supply, nonsense, name, nonsense, total_supply)]
    for block in (head, 0):
        results = client.multicall(calls, block)
        assert [result.success for result in results] == ([True, False, True, False, True] if block else [True] * 5)
    assert client.multicall(calls, head)[0].data == supply
    many = client.multicall([(token, bytes(total_supply))] * 1001, head)
    assert [result.data for result in many] == [supply] * 1001


def _between(first: int, last: int) -> dict[str, int]:
    return {"fromBlock": first, "toBlock": last}
