"""Logs that have other arguments indexed than their event: counted exactly, whatever happens to the blocks and rows."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import EndpointConfig
from indexer.manifest.model import Finality
from indexer.store.apply import drop
from indexer.store.database import DatabaseError
from indexer.store.rows import undecoded_logs
from indexer.sync.audit import redecode as redecoding
from indexer.sync.audit import table_checks
from indexer.sync.audit.redecode import redecode
from indexer.sync.audit.repair import Repair
from indexer.sync.audit.run import Request, audit
from indexer.sync.rows import router
from tests.chaos.chain import CHAIN_ID, COINS
from tests.chaos.manifests import ABIS
from tests.chaos.node import Node
from tests.chaos.stage import FACTORIES, QUICK, contract, stage
from tests.further import further

_numbers = itertools.count()
TWO = contract("coins", "coin", f'address = ["{COINS[0]}", "{COINS[1]}"]', start_block="0")
ANY = contract("anything", "coin", 'address = "any"', start_block="0", events='["Transfer", "Approval"]')


@pytest.fixture
def scene(chaos, request):
    number = next(_numbers)
    with stage(chaos, f"foreign/{number}", seed=getattr(request, "param", 1), hostile=0.7) as one:
        one.finality = Finality(at_least=0)
        one.other = ChainClient(
            "sim", CHAIN_ID, [EndpointConfig(chaos.server.add(f"foreign/{number}/other", Node(one.chain)))],
            settings=QUICK, random=Random(1),
        )  # fmt: skip
        yield one


def counted(scene) -> int:
    return int(scene.query("SELECT coalesce(sum(logs), 0) FROM gapless.foreign_shapes")[0][0])


def findings(scene, *kinds: str):
    report = audit(scene.engine, CHAIN_ID, "sim", Request(), other=scene.other)
    return [one for one in report.findings if one.kind in (kinds or (one.kind,))]


def settled(scene):
    follower = scene.follower()
    scene.settle(follower)
    follower.close()
    table_checks.take_digests(scene.engine, CHAIN_ID)


@pytest.mark.promise("R-04")
@pytest.mark.parametrize("scene", [1, further(2), further(3)], indirect=True)
def test_any_mix_of_shapes_is_counted_through_reorganisations_tampering_and_repair(scene):
    scene.apply(TWO, ANY, FACTORIES)
    scene.chain.mine(60)
    chain, random = scene.chain, scene.chain.random
    follower = scene.follower()
    for _ in range(12):
        match random.randrange(4):
            case 0:
                chain.reorganise(random.randint(1, 6))
            case 1:
                chain.finalize(chain.head.number - random.randint(3, 12))
            case _:
                chain.mine(random.randint(1, 5))
        scene.tick(follower)
        if random.random() < 0.4:
            scene.backfill().run()
            scene.look()
    follower.close()
    settled(scene)
    assert counted(scene)
    assert findings(scene) == []

    finalized = scene.query("SELECT finalized_number FROM gapless.chains")[0][0]
    places = scene.query(f"""
        SELECT ctid::text, event_id, block_number FROM gapless.foreign_shapes WHERE block_number <= {finalized}
        ORDER BY event_id, block_number
    """)
    gone, changed, doubled = random.sample(places, 3)
    first, second = (f"decode('{coin[2:]}', 'hex')" for coin in COINS[:2])
    scene.query(f"""
        DELETE FROM gapless.foreign_shapes WHERE ctid = '{gone[0]}';
        UPDATE gapless.foreign_shapes SET addresses = array_append(addresses, {first})
        WHERE ctid = '{doubled[0]}';
        UPDATE gapless.foreign_shapes
        SET addresses[1] = CASE addresses[1] WHEN {first} THEN {second} ELSE {first} END
        WHERE ctid = '{changed[0]}' RETURNING 1
    """)
    found = findings(scene)
    assert {"digest", "against"} <= {one.kind for one in found}
    assert {one.first for one in found if one.kind == "against"} == {place[2] for place in (gone, changed, doubled)}
    done = Repair(scene.engine, scene.client(), CHAIN_ID, "sim", scene.other).findings()
    assert done.left == []
    scene.judge.check_complete(scene.look())
    assert findings(scene) == []


def test_what_an_earlier_version_kept_raw_is_no_finding_and_is_counted_by_redecode(scene, monkeypatch):
    scene.apply(TWO, ANY)
    scene.chain.mine(100)
    scene.chain.finalize(110)
    monkeypatch.setattr(router, "shapes_of", lambda decoder: None)
    follower = scene.follower()
    for _ in range(5):
        scene.clock.sleep(60.0)
        follower.tick()
        scene.backfill().run()
    table_checks.take_digests(scene.engine, CHAIN_ID)
    assert not counted(scene)

    monkeypatch.undo()
    assert redecoding.shapes_of is router.shapes_of
    assert findings(scene) == []
    done = redecode(scene.engine)
    assert done.waiting
    assert done.counted.total() == counted(scene) > 5
    assert not done.rows
    assert findings(scene) == []
    # The rest was not final yet.
    scene.chain.mine(12)
    scene.chain.finalize(scene.chain.head.number)
    scene.clock.sleep(60.0)
    follower.tick()
    follower.close()
    assert redecode(scene.engine).counted
    scene.look()
    assert findings(scene) == []
    with scene.engine.connect() as connection:
        reasons = undecoded_logs.reasons(connection, "coins")
    assert {one.counted for one in reasons if "other arguments are indexed" in one.reason} == {True}
    assert {one.counted for one in reasons if "other arguments are indexed" not in one.reason} == {False}


def test_an_address_that_is_taken_out_and_back_is_counted_once(scene):
    scene.apply(TWO)
    settled(scene)
    before = counted(scene)
    assert before
    scene.apply(contract("coins", "coin", f'address = ["{COINS[0]}"]', start_block="0"))
    settled(scene)
    scene.apply(TWO)
    settled(scene)
    assert counted(scene) == before
    # Another filter displaces what was there, address by address.
    scene.apply(TWO, contract("others", "coin", f'address = "{COINS[2]}"', start_block="0"))
    one = "0x" + "00" * 31 + "01"
    scene.apply(
        contract(
            "coins", "coin", f'address = ["{COINS[0]}", "{COINS[1]}"]', start_block="0",
            filters=f'{{ Transfer = {{ from = ["{one[:2] + one[-40:]}"] }} }}',
        ),
        contract("others", "coin", f'address = "{COINS[2]}"', start_block="0"),
    )  # fmt: skip
    settled(scene)
    assert findings(scene) == []


def test_with_the_right_arguments_indexed_the_logs_come_back(scene):
    """Nothing else is known of them: the table of the wrong ABI goes, and history is fetched anew."""
    scene.apply(TWO)
    settled(scene)
    topics = "SELECT topics, sum(logs) FROM gapless.foreign_shapes f JOIN gapless.events e ON e.id = f.event_id "
    topics += "WHERE e.name = 'Transfer' GROUP BY 1"
    pieces = dict(scene.query(topics))[4]
    raw = "SELECT count(*) FROM gapless.undecoded_logs u JOIN gapless.events e ON e.id = u.event_id "
    raw += "WHERE e.name = 'Transfer' AND cardinality(topics) = 4"
    odd = scene.query(raw)[0][0]
    coins = scene.query("SELECT count(*) FROM coins.transfer")[0][0]

    abi = json.loads(json.dumps(ABIS["coin"]))
    abi[0]["inputs"][2]["indexed"] = True
    (scene.folder / "piece.json").write_text(json.dumps(abi))
    piece = TWO.replace("coin.json", "piece.json")
    with pytest.raises(DatabaseError, match="other indexed arguments"):
        scene.apply(piece)
    scene.apply(TWO.replace("coin.json", "piece.json") + '\nevents = ["Approval", "Note"]')
    with scene.engine.connect() as connection:
        (event,) = drop.find(connection, "coins.Transfer")
    drop.drop(scene.engine, event)
    scene.apply(piece)
    scene.chain.finalize(scene.chain.head.number)
    follower = scene.follower()
    for _ in range(4):
        scene.clock.sleep(60.0)
        follower.tick()
        scene.backfill().run()
    follower.close()
    # With more data than they need they are rows now, too.
    now = scene.query("SELECT count(*) FROM coins.transfer")[0][0]
    assert now + scene.query(raw)[0][0] == pieces + odd
    assert now >= pieces > 0
    assert dict(scene.query(topics))[3] == coins
