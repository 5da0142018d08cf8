"""Headers and receipts by the rules of the protocol, against blocks that everybody knows."""

from __future__ import annotations

import copy

import pytest
import rlp
from eth_hash.auto import keccak
from trie import HexaryTrie

from indexer.chain.proof import prove, receipts_root
from indexer.chain.records.header_hash import NotProvableError, header_hash

EMPTY_ROOT = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
NO_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
NO_BLOOM = "0x" + "00" * 256

# Ethereum mainnet, blocks 0 and 1.
GENESIS = {
    "number": "0x0",
    "hash": "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
    "parentHash": "0x" + "00" * 32,
    "sha3Uncles": NO_UNCLES,
    "miner": "0x" + "00" * 20,
    "stateRoot": "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
    "transactionsRoot": EMPTY_ROOT,
    "receiptsRoot": EMPTY_ROOT,
    "logsBloom": NO_BLOOM,
    "difficulty": "0x400000000",
    "gasLimit": "0x1388",
    "gasUsed": "0x0",
    "timestamp": "0x0",
    "extraData": "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
    "mixHash": "0x" + "00" * 32,
    "nonce": "0x0000000000000042",
    "transactions": [],
}
FIRST = GENESIS | {
    "number": "0x1",
    "hash": "0x88e96d4537bea4d9c05d12549907b32561d3bf31f45aae734cdc119f13406cb6",
    "parentHash": GENESIS["hash"],
    "miner": "0x05a56e2d52c817161883f50c441c3228cfe54d9f",
    "stateRoot": "0xd67e4d450343046425ae4271474353857ab860dbc0a1dde64b41b5cd3a532bf3",
    "difficulty": "0x3ff800000",
    "timestamp": "0x55ba4224",
    "extraData": "0x476574682f76312e302e302f6c696e75782f676f312e342e32",
    "mixHash": "0x969b900de27b6ac6a67742365dd65f55a0526c41fd18e1b16f1a1215c2e66f59",
    "nonce": "0x539bd4979fef1ec4",
}


@pytest.mark.promise("P-04")
@pytest.mark.parametrize("block", [GENESIS, FIRST], ids=["genesis", "block 1"])
def test_mainnet_headers_hash_to_their_hashes(block):
    assert "0x" + header_hash(block).hex() == block["hash"]
    proven = prove(block, [])
    assert (proven.number, proven.logs) == (int(block["number"], 16), ())


@pytest.mark.promise("P-04")
@pytest.mark.parametrize("name", sorted(set(FIRST) - {"hash", "transactions"}))
def test_no_field_of_a_header_can_be_altered(name):
    text = FIRST[name]
    altered = FIRST | {name: text[:-1] + ("0" if text[-1] != "0" else "1")}
    with pytest.raises(NotProvableError):
        prove(altered, [])


def test_a_header_that_lacks_a_field_is_not_provable():
    with pytest.raises(NotProvableError, match="no field mixHash"):
        prove({k: v for k, v in FIRST.items() if k != "mixHash"}, [])


LATER = {
    "baseFeePerGas": "0x7",
    "withdrawalsRoot": EMPTY_ROOT,
    "blobGasUsed": "0x0",
    "excessBlobGas": "0x20000",
    "parentBeaconBlockRoot": "0x" + "ab" * 32,
    "requestsHash": "0x" + "cd" * 32,
}


@pytest.mark.parametrize("count", range(1, 7))
def test_fields_of_later_forks_are_part_of_the_hash(count):
    """By hand: RLP of the fields in the order in which the forks appended them."""
    names = list(LATER)[:count]
    block = FIRST | {name: LATER[name] for name in names}
    assert header_hash(block) == keccak(rlp.encode(_fields(FIRST) + [_word(name) for name in names]))


def test_fields_that_a_node_shows_before_their_fork_are_not_part_of_it():
    assert prove(FIRST | LATER, []).hash.hex() == FIRST["hash"][2:]


def _word(name):
    value = LATER[name]
    if len(value) == 66:
        return bytes.fromhex(value[2:])
    number = int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _fields(block):
    """All fifteen fields of a header before London, read another way than the code under test does."""
    order = "parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit "
    order += "gasUsed timestamp extraData mixHash nonce"
    numbers = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp"}
    return [
        rlp.sedes.big_endian_int.serialize(int(block[name], 16)) if name in numbers else bytes.fromhex(block[name][2:])
        for name in order.split()
    ]


LOG = {"address": "0x" + "Aa" * 20, "topics": ["0x" + "01" * 32, "0x" + "02" * 32], "data": "0x0102"}


def receipt(position, kind="0x2", logs=(LOG,), **fields):
    return {
        "type": kind,
        "status": "0x1",
        "cumulativeGasUsed": hex(21_000 * (position + 1)),
        "logsBloom": NO_BLOOM,
        "logs": list(logs),
        "transactionIndex": hex(position),
        "transactionHash": "0x" + f"{position:064x}",
    } | fields


def test_no_receipts_are_the_empty_root():
    assert "0x" + receipts_root([]).hex() == EMPTY_ROOT


def test_receipts_by_hand():
    """A legacy one from before Byzantium, a failed one, and every typed one, encoded by hand."""
    root = "0x" + "ee" * 32
    receipts = [
        receipt(0, "0x0", root=root, status=None),
        receipt(1, None, status="0x0", logs=()),
        *(receipt(kind + 1, hex(kind)) for kind in (1, 2, 3, 4)),
    ]
    log = [b"\xaa" * 20, [b"\x01" * 32, b"\x02" * 32], b"\x01\x02"]
    values = [
        rlp.encode([b"\xee" * 32, (21_000).to_bytes(2, "big"), bytes(256), [log]]),
        rlp.encode([b"", (42_000).to_bytes(2, "big"), bytes(256), []]),
        *(
            bytes([kind])
            + rlp.encode([b"\x01", rlp.sedes.big_endian_int.serialize(21_000 * (kind + 2)), bytes(256), [log]])
            for kind in (1, 2, 3, 4)
        ),
    ]
    tree = HexaryTrie({})
    for position, value in enumerate(values):
        tree.set(rlp.encode(position, sedes=rlp.sedes.big_endian_int), value)
    assert receipts_root(receipts) == tree.root_hash


@pytest.mark.parametrize("kind", ["0x7e", "0x64", "0xff"])
def test_a_type_that_is_not_known_is_not_provable(kind):
    with pytest.raises(NotProvableError, match=f"type {int(kind, 16)}"):
        receipts_root([receipt(0, kind)])


def with_receipts(*receipts):
    """Block 1 with other receipts, and the hash that follows."""
    block = FIRST | {
        "receiptsRoot": "0x" + receipts_root(receipts).hex(),
        "transactions": [one["transactionHash"] for one in receipts],
    }
    return block | {"hash": "0x" + header_hash(block).hex()}


def test_proven_logs_count_through_the_block_whatever_the_node_says_of_their_places():
    receipts = [receipt(0, logs=[LOG, LOG]), receipt(1, "0x0", logs=[LOG | {"logIndex": "0x63"}])]
    proven = prove(with_receipts(*receipts), receipts[::-1])
    assert [(log.tx_index, log.log_index, log.address, log.tx_hash[-1]) for log in proven.logs] == [
        (0, 0, "0x" + "aa" * 20, "0"),
        (0, 1, "0x" + "aa" * 20, "0"),
        (1, 2, "0x" + "aa" * 20, "1"),
    ]


def _drop_log(receipts):
    del receipts[0]["logs"][0]


def _drop_receipt(receipts):
    del receipts[1]


def _alter_data(receipts):
    receipts[1]["logs"][0]["data"] = "0x0103"


def _swap_topics(receipts):
    receipts[0]["logs"][0]["topics"].reverse()


def _other_address(receipts):
    receipts[0]["logs"][0]["address"] = "0x" + "ab" * 20


def _other_transaction(receipts):
    receipts[0]["transactionHash"] = "0x" + "77" * 32


def _no_logs(receipts):
    receipts[0]["logs"] = None


def _short_topic(receipts):
    receipts[0]["logs"][0]["topics"][0] = "0x01"


@pytest.mark.promise("P-04")
@pytest.mark.parametrize(
    "spoil",
    [_drop_log, _drop_receipt, _alter_data, _swap_topics, _other_address, _other_transaction, _no_logs, _short_topic],
)
def test_receipts_that_were_tampered_with_prove_nothing(spoil):
    receipts = [receipt(0, logs=[LOG, LOG]), receipt(1)]
    block = with_receipts(*receipts)
    prove(block, receipts)
    tampered = copy.deepcopy(receipts)
    spoil(tampered)
    with pytest.raises(NotProvableError):
        prove(block, tampered)
