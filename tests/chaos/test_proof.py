"""A deep audit of the made-up chain: every block is proven, also where logs are numbered within their transaction."""

from __future__ import annotations

import dataclasses
import itertools
from random import Random

import pytest

from indexer.sync.audit.repair import Repair
from indexer.sync.audit.run import Request, audit
from tests.chaos.chain import CHAIN_ID
from tests.chaos.stage import COIN, FACTORIES, stage

_numbers = itertools.count()


@pytest.fixture(params=[False, True])
def scene(chaos, request):
    with stage(chaos, f"proof/{next(_numbers)}", per_transaction=request.param) as one:
        one.settings = dataclasses.replace(one.settings, log_index_per_transaction=request.param)
        one.apply(COIN, FACTORIES)
        follower = one.follower()
        one.settle(follower)
        follower.close()
        yield one


def proven(scene):
    """A deep audit that asks every block anew."""
    request = Request(deep=True, again=True, random=Random(1))
    return audit(scene.engine, CHAIN_ID, "sim", request, client=scene.client())


def test_every_block_is_proven_and_no_row_is_found_wrong(scene):
    report = proven(scene)
    assert report.findings == []
    assert (report.deep.proven, report.deep.links, dict(report.deep.unproven)) == (31, 30, {})
    assert report.deep.logs == sum(len(block.logs) for block in scene.chain.canonical[:31])
    # What is proven is noted, and not asked for again.
    assert scene.query("SELECT bool_and(verified @> int8range(1, 31)) FROM gapless.sources") == [(True,)]


def test_what_is_wrong_is_found_by_its_place_and_repaired(scene):
    (gone,), (changed,) = scene.query(
        "SELECT block_number FROM coins.transfer WHERE block_number <= 30 ORDER BY block_number LIMIT 2"
    )
    # The second log of a transaction: its number is what chains with numbers of their own are special in.
    second = scene.query(
        "SELECT max(block_number) FROM kids.said k WHERE block_number <= 30 AND EXISTS "
        "(SELECT FROM kids.said o WHERE o.tx_hash = k.tx_hash AND o.log_index < k.log_index)"
    )
    scene.query(f"DELETE FROM coins.transfer WHERE block_number = {gone} RETURNING 1")
    scene.query(f"UPDATE coins.transfer SET value = 12345 WHERE block_number = {changed} RETURNING 1")
    wrong = {gone, changed}
    if second[0][0] is not None:
        scene.query(
            f"UPDATE kids.said SET log_index = log_index + 1000 WHERE block_number = {second[0][0]} RETURNING 1"
        )
        wrong.add(second[0][0])
    assert {one.first for one in proven(scene).findings if one.kind == "proof"} >= wrong
    outcome = Repair(scene.engine, scene.client(), CHAIN_ID, "sim").findings()
    assert outcome.repaired
    scene.judge.check_complete(scene.look())
    assert proven(scene).findings == []
