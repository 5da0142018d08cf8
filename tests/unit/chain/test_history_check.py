"""What blooms say of history: many addresses at once, what came of a block, and how much is asked."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from indexer.addresses import Addresses
from indexer.chain.logs import history_check
from indexer.chain.records.completeness import lacking_kinds
from indexer.chain.records.log_filter import LogFilter, in_bloom, those_in_bloom
from indexer.chain.rpc.config import ClientSettings

ADDRESSES = tuple(sorted("0x" + Random(seed).randbytes(20).hex() for seed in range(300)))
TOPIC, OTHER = "0x" + "11" * 32, "0x" + "22" * 32


@pytest.mark.parametrize(
    "addresses", [ADDRESSES, Addresses(np.array([bytes.fromhex(a[2:]) for a in ADDRESSES], "S20"))]
)
@pytest.mark.parametrize("filled", [0, 200, 1000, 2048])
def test_many_addresses_are_looked_up_as_each_alone_is(addresses, filled):
    bits = sum(1 << bit for bit in Random(filled).sample(range(2048), filled))
    alone = [address for address in ADDRESSES if in_bloom(bits, address)]
    assert those_in_bloom(bits.to_bytes(256), addresses, most=1_000) == alone
    assert those_in_bloom(bits.to_bytes(256), addresses, most=5) == alone[:5]
    assert (len(alone) == len(ADDRESSES)) == (filled == 2048)


FULL = 2**2048 - 1
BOTH = (TOPIC, OTHER)


@pytest.mark.parametrize(
    ("asked", "kinds", "lacking"),
    [
        (LogFilter(ADDRESSES[:2], (BOTH,)), {(ADDRESSES[0], TOPIC)}, LogFilter(ADDRESSES[:2], (BOTH,))),
        (LogFilter(ADDRESSES[:1], (BOTH,)), {(ADDRESSES[0], TOPIC)}, LogFilter(ADDRESSES[:1], ((OTHER,),))),
        (LogFilter(ADDRESSES[:1], ((TOPIC,),)), {(ADDRESSES[0], TOPIC)}, None),
        (LogFilter(None, ((TOPIC,),)), {(ADDRESSES[0], TOPIC)}, None),
        (LogFilter(None, ((TOPIC,),)), {(ADDRESSES[0], None)}, LogFilter(None, ((TOPIC,),))),
        (LogFilter(ADDRESSES[:2]), {(ADDRESSES[0], TOPIC)}, LogFilter(ADDRESSES[1:2])),
    ],
)  # fmt: skip
def test_what_a_full_bloom_may_hold_besides_what_came(asked, kinds, lacking):
    assert lacking_kinds(asked, FULL, kinds, lambda addresses: addresses) == lacking
    assert lacking_kinds(asked, 0, kinds, lambda addresses: addresses) is None


@pytest.mark.parametrize(
    ("how", "chunks", "blocks", "requests"),
    [("none", 10, 100_000, 0), ("sample", 10, 100_000, 2), ("bloom", 10, 100_001, 1_001), ("bloom", 10, 5, 10)],
)
def test_what_comparing_will_take(how, chunks, blocks, requests):
    assert history_check.requests(ClientSettings(check_history=how, batch_size=100), chunks, blocks) == requests
