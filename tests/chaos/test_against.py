"""A second endpoint is asked for every block once, however many of them differ; the findings name exactly those."""

from __future__ import annotations

from random import Random

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import EndpointConfig
from indexer.sync.audit.run import Request, audit
from tests.chaos.chain import CHAIN_ID
from tests.chaos.node import Node
from tests.chaos.stage import COIN, FACTORIES, QUICK, stage


@pytest.fixture
def scene(chaos):
    with stage(chaos, "against") as one:
        one.apply(COIN, FACTORIES)
        follower = one.follower()
        one.settle(follower)
        follower.close()
        yield one


def compare(scene, chaos):
    """Audits against an endpoint of its own: the ranges and how often it was asked, and the blocks that were found."""
    other = Node(scene.chain)
    endpoint = EndpointConfig(chaos.server.add("against/other", other))
    client = ChainClient("sim", CHAIN_ID, [endpoint], settings=QUICK, random=Random(1))
    report = audit(scene.engine, CHAIN_ID, "sim", Request(), other=client)
    found = {(one.first, one.last) for one in report.findings if one.kind == "against"}
    return other.ranges, found


def test_the_exact_blocks_and_no_more_questions(scene, chaos):
    ranges, found = compare(scene, chaos)
    assert found == set()
    assert sum(last - first + 1 for first, last in set(ranges)) == 31
    numbers = scene.query("SELECT DISTINCT block_number FROM coins.transfer WHERE block_number <= 30 ORDER BY 1")
    (changed,), (gone,) = numbers[0], numbers[-1]
    assert changed < gone
    scene.query(f"UPDATE coins.transfer SET value = 12345 WHERE block_number = {changed} RETURNING 1")
    scene.query(f"DELETE FROM coins.transfer WHERE block_number = {gone} RETURNING 1")
    again, found = compare(scene, chaos)
    assert found == {(changed, changed), (gone, gone)}
    assert again == ranges
