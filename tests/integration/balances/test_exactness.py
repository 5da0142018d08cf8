"""Balances of tokens that give in other ways than by a Transfer of the standard: counted, or said not to be exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from eth_utils.crypto import keccak

from indexer.abi import token_standards
from indexer.store.catalog.transfer_standards import MOST_CONSECUTIVE
from indexer.sync.tokens import balances
from tests.integration.sync.rig import rig

NOBODY, ANN, BEN = (bytes([n]) * 20 if n else bytes(20) for n in (0, 0xA1, 0xB2))
NFT, CARDS = "0x" + "71" * 20, "0x" + "72" * 20


def argument(name: str, kind: str, *, indexed: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "indexed": indexed}


def event(name: str, *inputs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "event", "name": name, "inputs": list(inputs), "anonymous": False}


def transfer(indexed: int) -> dict[str, Any]:
    kinds = (("from", "address"), ("to", "address"), ("id", "uint256"))
    return event("Transfer", *(argument(*one, indexed=n < indexed) for n, one in enumerate(kinds)))


CONSECUTIVE = event(
    "ConsecutiveTransfer",
    argument("fromTokenId", "uint256", indexed=True),
    argument("toTokenId", "uint256", indexed=False),
    argument("fromAddress", "address", indexed=True),
    argument("toAddress", "address", indexed=True),
)
OWNER_OF = {
    "type": "function",
    "name": "ownerOf",
    "inputs": [{"name": "id", "type": "uint256"}],
    "outputs": [{"name": "", "type": "address"}],
    "stateMutability": "view",
}


def emitter(topics: int) -> str:
    """Code that logs what it is called with: so many topics, the rest is data."""
    words = "".join(f"60{32 * n:02x}35" for n in reversed(range(topics)))
    start = f"60{32 * topics:02x}"
    return f"0x{words}{start}3603{'80'}{start}600037" + f"6000a{topics}00"


def log(world: Any, to: str, topics: list[bytes], data: bytes = b"") -> None:
    """Has a contract emit a log, in a block of its own."""
    w3 = world.w3
    w3.provider.make_request("anvil_setCode", [to, emitter(len(topics))])
    words = b"".join(topic.rjust(32, b"\0") for topic in topics) + data
    sent = w3.eth.send_transaction(
        {"from": world.accounts[0], "to": w3.to_checksum_address(to), "data": "0x" + words.hex(), "gas": 500_000}
    )
    w3.provider.make_request("evm_mine", [])
    assert w3.eth.wait_for_transaction_receipt(sent)["status"] == 1


def word(number: int) -> bytes:
    return number.to_bytes(32)


def consecutive(first: int, last: int, giver: bytes, receiver: bytes) -> tuple[list[bytes], bytes]:
    signature = keccak(token_standards.CONSECUTIVE_TRANSFER.encode())
    return [signature, word(first), giver, receiver], word(last)


def moved(giver: bytes, receiver: bytes, number: int) -> list[bytes]:
    return [keccak(token_standards.TRANSFER.encode()), giver, receiver, word(number)]


@pytest.fixture
def world(make_world: Callable[..., Any]) -> Any:
    return make_world(transactions=2, blocks=2).world


def manifest(tmp_path: Any, world: Any, address: str, abi: list[dict[str, Any]], events: str) -> str:
    (tmp_path / "token.json").write_text(json.dumps(abi))
    return f"""
[chains.local]
id = {world.chain_id}
rpc = ["${{RPC_URL}}"]
finality = 2
[contracts.token]
chain = "local"
abi = "{(tmp_path / "token.json").as_posix()}"
address = "{address}"
start_block = 0
events = [{events}]
[balances]
contracts = ["token"]
"""


def held(text: str, world: Any, tmp_path: Any, database: str) -> tuple[dict[tuple[int, bytes], int], set[str | None]]:
    """What everybody has, and what is said about it."""
    with rig(text, tmp_path, world.w3.provider.endpoint_uri, database) as one:
        follower = one.follower()
        one.catch_up(follower)
        balances.catch_up(one.engine, one.chain.chain_id)
        follower.close()
        rows = one.query("SELECT token_id, holder, amount, problem FROM gapless.balances WHERE contract = 'token'")
        listed = one.query("SELECT count(*) FROM gapless.transfers WHERE to_address = %s", ANN)
        assert listed[0][0] >= sum(holder == ANN for _, holder, _, _ in rows)
    return {(int(number), bytes(holder)): int(amount) for number, holder, amount, _ in rows}, {row[3] for row in rows}


@pytest.mark.promise("B-06")
def test_tokens_that_are_minted_by_ranges_are_counted(world, migrated_url, tmp_path):
    log(world, NFT, *consecutive(5, 9, NOBODY, ANN))
    log(world, NFT, *consecutive(2**256 - 3, 2**256 - 1, NOBODY, BEN))
    log(world, NFT, moved(ANN, BEN, 7))
    log(world, NFT, *consecutive(9, 8, NOBODY, BEN))  # none
    log(world, NFT, moved(BEN, NOBODY, 2**256 - 1))
    text = manifest(tmp_path, world, NFT, [transfer(3), CONSECUTIVE], '"Transfer", "ConsecutiveTransfer"')
    found, said = held(text, world, tmp_path, migrated_url)
    expected = {(n, ANN): 1 for n in (5, 6, 8, 9)}
    expected |= {(n, BEN): 1 for n in (7, 2**256 - 3, 2**256 - 2)}
    assert found == expected
    assert said == {None}


@pytest.mark.promise("B-06")
def test_a_range_that_is_too_long_is_counted_in_part_and_said_so(world, migrated_url, tmp_path):
    log(world, NFT, *consecutive(0, 2**64 - 1, NOBODY, ANN))
    text = manifest(tmp_path, world, NFT, [transfer(3), CONSECUTIVE], '"Transfer", "ConsecutiveTransfer"')
    found, said = held(text, world, tmp_path, migrated_url)
    assert found == {(n, ANN): 1 for n in range(MOST_CONSECUTIVE)}
    assert said == {f"one ConsecutiveTransfer moves {2**64} tokens, more than are counted"}


def test_ranges_that_are_not_indexed_are_said_to_be_missing(world, migrated_url, tmp_path):
    log(world, NFT, *consecutive(5, 9, NOBODY, ANN))
    log(world, NFT, moved(NOBODY, BEN, 1))
    text = manifest(tmp_path, world, NFT, [transfer(3), CONSECUTIVE], '"Transfer"')
    found, (said,) = held(text, world, tmp_path, migrated_url)
    assert found == {(1, BEN): 1}
    assert said is not None
    assert "ConsecutiveTransfer" in said


@pytest.mark.parametrize(
    ("more", "kind", "exact"),
    [([], "erc20", False), ([OWNER_OF], "erc721", True), ([event("Birth")], "erc20", False)],
)
def test_a_transfer_without_indexed_arguments_is_believed_where_the_abi_tells_what_it_is(
    world, migrated_url, tmp_path, more, kind, exact
):
    topic, *words = moved(NOBODY, ANN, 17)
    log(world, CARDS, [topic], b"".join(one.rjust(32, b"\0") for one in words))
    text = manifest(tmp_path, world, CARDS, [transfer(0), *more], '"Transfer"')
    found, (said,) = held(text, world, tmp_path, migrated_url)
    assert found == ({(17, ANN): 1} if kind == "erc721" else {(0, ANN): 17})
    assert (said is None) == exact
    assert exact or "whether it is ERC-20 or ERC-721" in str(said)
