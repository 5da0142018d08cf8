"""Every fault by itself: one wrong answer, one moment of bad luck, and what must come of it."""

from __future__ import annotations

import itertools
import json

import psycopg
import pytest
import sqlalchemy as sa

from indexer.errors import GaplessError
from indexer.store.head import state as head_state
from indexer.sync.head import follower as follow
from indexer.sync.head.follower import ChainHaltedError, Tick
from tests.chaos import manifests
from tests.chaos.chain import COINS, PEOPLE, TRANSFER, Block, Chain, Saying, Transaction, topic
from tests.chaos.node import Node, RpcError
from tests.chaos.stage import COIN, FACTORIES, contract, stage
from tests.posts import HttpAnswer

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"stage/{next(_numbers)}") as one:
        yield one


@pytest.fixture
def following(scene):
    """A follower that has come to the head, and history that is whole."""
    scene.apply(COIN, FACTORIES)
    follower = scene.follower()
    scene.settle(follower)
    yield follower
    follower.close()


def transfer():
    """A transaction with one transfer of the first coin."""
    return Transaction(
        bytes(32), (Saying(COINS[0], (TRANSFER, topic(PEOPLE[0]), topic(PEOPLE[1])), bytes(31) + b"\5", (
            bytes.fromhex(PEOPLE[0][2:]), bytes.fromhex(PEOPLE[1][2:]), 5)),)
    )  # fmt: skip


def mine_until_a_kid_is_born(chain):
    before = len(chain.head.children["kids"])
    for _ in range(200):
        chain.mine(1)
        if len(chain.head.children["kids"]) > before:
            return
    raise AssertionError("no kid in 200 blocks")


def reorgs(scene):
    return [depth for (depth,) in scene.query("SELECT depth FROM gapless.reorgs ORDER BY id")]


# -- answers


@pytest.mark.promise("H-04")
def test_logs_that_the_bloom_betrays_are_asked_for_again(scene, following):
    scene.chain.mine(20)
    scene.twist.lie = lambda node, call, result: (
        [] if call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0] else result
    )
    assert scene.tick(following) is Tick.EXTENDED
    assert scene.look().tip == 60


@pytest.mark.promise("H-04")
def test_a_block_that_lost_some_of_its_logs_is_asked_for_again(scene, following):
    """Others of its logs came: what no log shows and the bloom holds is asked for by the block's hash."""
    scene.chain.mine(20)
    lost = []

    def lie(node, call, result):
        if call["method"] != "eth_getLogs" or "fromBlock" not in call["params"][0]:
            return result
        places = {(log["blockNumber"], log["address"], *log["topics"][:1]) for log in result}
        for number in {place[0] for place in places}:
            here = sorted(place for place in places if place[0] == number)
            lost.extend(here[1:])
        return [log for log in result if (log["blockNumber"], log["address"], *log["topics"][:1]) not in lost]

    scene.twist.lie = lie
    assert scene.tick(following) is Tick.EXTENDED
    assert lost
    assert scene.look().tip == 60  # where the judge finds every row


def test_a_chain_without_blooms_whose_logs_another_machine_answers(scene, following):
    """Behind one URL: the headers from one machine, the logs by number from one that has not come as far."""
    following.close()
    follower = scene.follower()

    def lie(node, call, result):
        if call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0]:
            return [log for log in result if int(log["blockNumber"], 16) <= 40]
        return {**result, "logsBloom": "0x0"} if call["method"] == "eth_getBlockByNumber" and result else result

    scene.twist.lie = lie
    scene.chain.mine(20)
    scene.tick(follower)
    assert scene.look().tip == 60
    follower.close()


@pytest.mark.promise("H-01")
def test_logs_of_another_branch_are_not_believed(scene, following):
    scene.chain.append(transfer())
    stale = scene.chain.head
    scene.chain.reorganise(1, 3)
    scene.chain.append(transfer())

    def lie(node, call, result):
        asked = call["params"][0]
        if call["method"] != "eth_getLogs" or COINS[0] not in json.dumps(asked) or "fromBlock" not in asked:
            return result
        return stale.logs_json

    scene.twist.lie = lie
    assert scene.tick(following) is Tick.MOVED
    assert scene.look().tip == 40
    scene.twist.lie = None
    assert scene.tick(following) is Tick.EXTENDED


def test_headers_of_two_branches_are_not_joined(scene, following):
    """Blocks that say nothing: no log betrays that one of them is of another branch."""
    for _ in range(6):
        scene.chain.append()
    old = list(scene.chain.canonical)
    scene.chain.canonical = scene.chain.canonical[:44]
    for _ in range(3):
        scene.chain.append()

    def lie(node, call, result):
        return old[45].header_json if call["params"][:1] == [hex(45)] else result

    scene.twist.lie = lie
    assert scene.tick(following) is Tick.MOVED
    assert scene.look().tip == 40


@pytest.mark.promise("H-03")
def test_a_node_that_has_lost_our_tip_is_behind_and_no_reorganisation(scene, following):
    scene.chain.mine(3)
    scene.twist.lie = lambda node, call, result: (
        None if call["method"] == "eth_getBlockByNumber" and call["params"][0] in (hex(40), hex(41)) else result
    )
    with pytest.raises(GaplessError, match=r"block 4[01]"):
        scene.tick(following)
    assert (scene.look().tip, reorgs(scene)) == (40, [])


def test_a_head_that_goes_backwards_changes_nothing(scene, following):
    before = scene.look()
    scene.node.lag = 6
    assert scene.tick(following) is Tick.LAGGING
    scene.node.lag = 35  # below finalized
    assert scene.tick(following) is Tick.LAGGING
    assert scene.look() == before
    assert reorgs(scene) == []


def test_a_head_that_went_backwards_and_stays_is_a_chain_that_became_shorter(scene, following):
    """Its newest blocks are gone and no others have come: known from a replica that lags by its standing still."""
    scene.chain.canonical = scene.chain.canonical[:-4]
    outcomes = [scene.tick(following) for _ in range(8)]
    assert outcomes[:2] == [Tick.LAGGING] * 2
    assert Tick.REORGANISED in outcomes
    assert outcomes[-1] is Tick.NOTHING_NEW
    assert (scene.look().tip, reorgs(scene)) == (36, [4])
    scene.chain.mine(2)
    scene.settle(following)
    assert reorgs(scene) == [4]


@pytest.mark.promise("H-03")
def test_a_replica_that_catches_up_slowly_is_no_shorter_chain(scene, following):
    for lag in (9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4):
        scene.node.lag = lag
        assert scene.tick(following) is Tick.LAGGING
    assert (scene.look().tip, reorgs(scene)) == (40, [])


def test_a_chain_is_not_shorter_while_one_endpoint_knows_more(scene, chaos, following):
    following.close()
    other = Node(scene.chain)
    follower = scene.follower(more=[chaos.server.add("stage/other", other)])
    scene.tick(follower)
    scene.node.lag = other.lag = 3
    outcomes = [scene.tick(follower) for _ in range(3)]
    other.lag = 2
    outcomes += [scene.tick(follower) for _ in range(8)]
    assert Tick.REORGANISED not in outcomes
    assert (scene.look().tip, reorgs(scene)) == (40, [])
    other.lag = 3
    outcomes = [scene.tick(follower) for _ in range(8)]
    assert Tick.REORGANISED in outcomes
    assert scene.look().tip == 37
    follower.close()


@pytest.mark.promise("H-02")
def test_below_finalized_a_chain_never_becomes_shorter(scene, following):
    scene.chain.canonical = scene.chain.canonical[:25]
    outcomes = {scene.tick(following) for _ in range(10)}
    assert outcomes == {Tick.LAGGING}
    assert (scene.look().tip, reorgs(scene)) == (40, [])


@pytest.mark.promise("H-09")
def test_a_finality_tag_that_goes_backwards_is_not_followed(scene, following):
    scene.node.finalized = 12
    scene.chain.mine(2)
    assert scene.tick(following) is Tick.EXTENDED
    assert scene.look().finalized == 30


def test_a_finalized_block_of_another_branch_is_not_ours(scene, following):
    scene.chain.mine(10)
    scene.tick(following)
    scene.chain.reorganise(12, 20)
    scene.chain.finalize(45)
    stale = scene.look().tip
    # The head is still told from the old branch: finality must wait until the new one is here.
    assert stale == 50
    old = scene.chain.by_hash[scene.look().tip_hash]
    scene.twist.lie = lambda node, call, result: old.header_json if call["params"][:1] == ["latest"] else result
    assert scene.tick(following) is Tick.NOTHING_NEW
    assert scene.look().finalized == 30
    scene.twist.lie = None
    scene.settle(following)


# -- branches


def test_a_branch_that_is_shorter(scene, following):
    scene.chain.reorganise(8, 3)
    assert scene.tick(following) is Tick.REORGANISED
    assert scene.look().tip == 35
    assert reorgs(scene) == [8]


def test_a_node_that_flips_between_two_branches(scene, following):
    scene.chain.reorganise(4, 5)
    outcomes = []
    for _ in range(4):
        outcomes.append(scene.tick(following))
        assert scene.chain.flip()
    assert set(outcomes) == {Tick.REORGANISED}
    assert reorgs(scene) == [4, 5, 4, 5]
    scene.settle(following)


def test_a_deep_branch_is_read_in_pieces_where_no_table_knows_the_limit(scene, following):
    """The old tip is deeper than what a node takes at once, and nothing in its words says so."""
    scene.chain.mine(20)
    scene.tick(following)
    scene.chain.reorganise(25, 27)
    widest = []

    def lie(node, call, result):
        if call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0]:
            first, last = (int(call["params"][0][key], 16) for key in ("fromBlock", "toBlock"))
            widest.append(last - first + 1)
            if last - first > 2:
                raise HttpAnswer(500, b"")
        return result

    scene.twist.lie = lie
    for _ in range(30):
        try:
            scene.tick(following)
        except GaplessError:
            continue
    assert (scene.look().tip, reorgs(scene)) == (62, [25])
    assert max(widest) > 20


def test_a_log_that_moves_to_another_block_and_one_that_is_dropped(scene, following):
    moved, dropped = scene.chain.author.transaction(scene.chain.head), scene.chain.author.transaction(scene.chain.head)
    scene.chain.append(moved, dropped)
    scene.tick(following)
    scene.chain.canonical = scene.chain.canonical[:-1]
    scene.chain.mine(1)
    scene.chain.append(moved)
    assert scene.tick(following) is Tick.REORGANISED
    scene.settle(following)


@pytest.mark.promise("H-10")
def test_children_born_in_a_branch_that_is_gone_are_forgotten(scene, following):
    at = scene.chain.head
    mine_until_a_kid_is_born(scene.chain)
    scene.tick(following)
    born = set(scene.look().children["kids"])
    left_at = scene.chain.head.number
    scene.chain.canonical = scene.chain.canonical[: at.number + 1]
    for _ in range(left_at - at.number + 1):
        scene.chain.append()
    assert scene.tick(following) is Tick.REORGANISED
    assert set(scene.settle(following).children["kids"]) < born


def test_the_branch_moves_between_the_first_question_and_that_for_the_newborn(scene, following):
    """The children of the first answer are of a branch that is gone when their own logs are asked for."""
    base = scene.chain.head
    mine_until_a_kid_is_born(scene.chain)
    length = scene.chain.head.number - base.number
    first_read = _questions_of_a_read(scene)
    asked = 0

    def count(node, call, result):
        nonlocal asked
        asked += call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0]
        return result

    def move():
        # As soon as the first read is answered whole, all of it is replaced by blocks that say nothing.
        if asked == first_read and scene.chain.canonical[base.number + 1 :] and not moved:
            moved.append(1)
            scene.chain.canonical = scene.chain.canonical[: base.number + 1]
            for _ in range(length):
                scene.chain.append()

    moved: list[int] = []
    scene.twist.lie, scene.node.before = count, move
    scene.tick(following)
    scene.node.before = lambda: None
    assert moved
    assert set(scene.look().children["kids"]) == set(base.children["kids"])
    scene.settle(following)


def _questions_of_a_read(scene):
    """How many ``eth_getLogs`` one read of the branch takes: one for each filter."""
    from indexer.store.catalog import catalog
    from indexer.sync.rows.gaps import log_filters

    with scene.engine.connect() as connection:
        sources = catalog.load_sources(connection)
        return len(log_filters(sources, catalog.load_children(connection, sources[0].chain_id)))


def test_a_reorganisation_right_after_a_start_leaves_no_gap(scene, following):
    following.close()
    covered = {source.source_id: source.coverage[0][0] for source in scene.look().sources}
    scene.chain.reorganise(3, 2)  # the head is not above our tip: nothing has joined yet
    follower = scene.follower()
    assert scene.tick(follower) is Tick.REORGANISED
    picture = scene.look()
    assert all(source.coverage == ((covered[source.source_id], 39),) for source in picture.sources)
    follower.close()


def test_a_source_that_joins_late_while_the_branch_changes(scene, following):
    scene.apply(COIN, FACTORIES, contract("everyone", "coin", 'address = "any"', events='["Transfer"]'))
    scene.chain.reorganise(5, 9)
    assert scene.tick(following) is Tick.REORGANISED
    scene.settle(following)
    assert reorgs(scene) == [5]


def test_another_manifest_and_a_shorter_branch_at_one_look(scene, following):
    """The reorganisation is done by the new manifest, all of it or none."""
    scene.apply(contract("coins", "coin", f'address = "{COINS[1]}"', start_block="0"), FACTORIES)
    scene.chain.reorganise(8, 6)
    scene.tick(following)
    scene.settle(following)
    assert reorgs(scene) == [8]


def test_another_filter_replaces_the_rows_of_the_old_one(scene, following):
    def inflow(people, place='address = "any"'):
        wanted = json.dumps(list(people))
        return contract("inflow", "coin", place, events='["Transfer"]', filters=f"{{ Transfer = {{ to = {wanted} }} }}")

    several = f"address = {json.dumps(list(COINS[1:4]))}"
    for place, people in ((None, PEOPLE[:6]), (None, PEOPLE[2:7]), (several, PEOPLE[:5]), (several, PEOPLE[1:])):
        scene.apply(COIN, FACTORIES, inflow(people, *([place] if place else [])))
        scene.chain.mine(3)
        scene.settle(following)
    one = f"address = {json.dumps(list(COINS[1:2]))}"
    scene.apply(COIN, FACTORIES, inflow(PEOPLE[:3], one))
    scene.settle(following)


def test_another_factory_rule_has_other_children(scene, following):
    """The old rule's children are no children by the new one, and what they said goes as the new one is filled."""
    old = set(scene.look().children["kids"])
    said = scene.query("SELECT count(*) FROM kids.said")[0][0]
    assert old
    assert said
    kids = 'factory = { contract = "hub", event = "Opened", argument = "branch" }'
    scene.apply(COIN, manifests.ALWAYS, contract("kids", "kid", kids, events='["Said", "Paid"]'))
    scene.settle(following)
    children = scene.query("""
        SELECT c.name, array_agg(h.address ORDER BY h.address) FROM gapless.children h
        JOIN gapless.contracts c ON c.id = h.contract_id GROUP BY 1 ORDER BY 1
    """)
    assert [name for name, _ in children] == ["branches", "kids"]
    assert children[0][1] == children[1][1]
    # No branch ever speaks as a kid.
    assert scene.query("SELECT count(*) FROM kids.said") == [(0,)]
    # And back again: everything is there as before.
    scene.apply(COIN, FACTORIES)
    assert set(scene.settle(following).children["kids"]) == old
    assert scene.query("SELECT count(*) FROM kids.said") == [(said,)]


def test_a_place_without_factories_is_null_in_sql_too(scene, following):
    assert scene.query("SELECT count(*) FROM gapless.deployments WHERE factories IS NULL") == [(2,)]


@pytest.mark.promise("M-06")
def test_a_manifest_that_is_applied_between_the_question_and_the_commit(scene, following):
    both = contract("coins", "coin", f"address = {json.dumps(list(COINS[:2]))}", start_block="0")
    scene.apply(both, FACTORIES)
    scene.settle(following)
    scene.chain.mine(12)
    asked = []

    def lie(node, call, result):
        if call["method"] == "eth_getLogs" and not asked:
            asked.append(1)
            scene.apply(COIN, FACTORIES)
        return result

    scene.twist.lie = lie
    assert scene.tick(following) is Tick.MOVED
    assert scene.look().tip == 40
    assert scene.tick(following) is Tick.EXTENDED
    scene.settle(following)


# -- processes


def test_one_follows_and_one_stands_by_and_takes_over(scene, following):
    second = scene.follower("second")
    assert scene.tick(second) is Tick.STANDING_BY
    following.close()
    scene.chain.mine(2)
    assert scene.tick(second) is Tick.EXTENDED
    assert scene.tick(following) is Tick.STANDING_BY
    second.close()


@pytest.mark.promise("H-05")
def test_a_follower_that_lost_its_lock_while_it_asked_writes_nothing(scene, following):
    second = scene.follower("second")
    scene.chain.mine(2)
    outcomes = []

    def lie(node, call, result):
        if call["method"] == "eth_getLogs" and not outcomes:
            outcomes.append(None)
            scene.query(EXPIRE)
            outcomes[0] = scene.tick(second)
            scene.chain.mine(2)
        return result

    scene.twist.lie = lie
    assert scene.tick(following) is Tick.STANDING_BY
    assert outcomes == [Tick.EXTENDED]
    assert scene.look().tip == 42
    assert scene.tick(second) is Tick.EXTENDED
    second.close()


def test_a_follower_that_lost_its_lock_and_finds_its_blocks_indexed_asks_for_none(scene, following):
    """Another follows, has indexed the head, and a manifest was applied: what was known is read anew on the way."""
    second = scene.follower("second")
    scene.chain.mine(2)
    outcomes = []

    def lie(node, call, result):
        if call["params"][:1] == ["latest"] and not outcomes:
            outcomes.append(None)
            scene.query(EXPIRE)
            outcomes[0] = second.tick()  # without time passing: the answer is waited for
            scene.apply(COIN)
        return result

    scene.twist.lie = lie
    assert scene.tick(following) is Tick.STANDING_BY
    assert outcomes == [Tick.EXTENDED]
    scene.settle(second)
    second.close()


EXPIRE = "UPDATE gapless.leases SET expires_at = '-infinity' RETURNING 1"
"""As if their holders had not been heard of for a while."""


def test_a_disk_that_is_full_in_the_middle_of_a_copy(scene, following):
    """As Postgres says it (53100), once the rows are on their way."""
    scene.chain.mine(20)
    scene.query("""
        CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON coins.transfer FOR EACH ROW EXECUTE FUNCTION public.full();
        SELECT 1
    """)
    before = scene.look()
    with pytest.raises(psycopg.errors.DiskFull):
        scene.tick(following)
    assert scene.look() == before
    scene.query("DROP TRIGGER full_disk ON coins.transfer; SELECT 1")
    assert scene.tick(following) is Tick.EXTENDED
    scene.settle(following)


@pytest.mark.promise("H-01")
def test_a_connection_that_is_cut_in_the_middle_of_a_swap(scene, following):
    scene.chain.reorganise(6, 8)
    before = scene.look()
    cut = []

    def cut_it(connection, cursor, text, *_):
        if "INSERT INTO gapless.reorgs" in text and not cut:
            cut.append(1)
            scene.query(
                f"SELECT pg_terminate_backend({connection.connection.driver_connection.info.backend_pid}, 2000)"
            )

    sa.event.listen(scene.engine, "after_cursor_execute", cut_it)
    with pytest.raises((sa.exc.OperationalError, psycopg.OperationalError)):
        scene.tick(following)
    sa.event.remove(scene.engine, "after_cursor_execute", cut_it)
    assert cut
    assert scene.look() == before
    assert scene.tick(following) is Tick.REORGANISED
    scene.settle(following)


@pytest.mark.promise("R-02")
def test_a_commit_whose_answer_is_lost_is_not_done_twice(scene, following):
    scene.chain.mine(4)
    lost = []

    def lose(connection):
        if not lost and _in_extend(connection):
            lost.append(1)
            connection.connection.driver_connection.commit()
            raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection is lost"))

    sa.event.listen(scene.engine, "commit", lose)
    with pytest.raises(sa.exc.OperationalError):
        scene.tick(following)
    sa.event.remove(scene.engine, "commit", lose)
    assert scene.look().tip == 44
    scene.chain.mine(1)
    assert scene.tick(following) is Tick.EXTENDED


def _in_extend(connection):
    (tip,) = connection.exec_driver_sql("SELECT tip_number FROM gapless.chains").one()
    return tip == 44


def test_a_long_pause_leaves_what_became_final_to_backfill(scene, following, monkeypatch):
    monkeypatch.setattr(follow, "FURTHEST_BEHIND", 50)
    scene.chain.mine(80)
    scene.chain.finalize(110)
    assert scene.tick(following) is Tick.EXTENDED
    picture = scene.look()
    assert (picture.finalized, picture.tip) == (110, 120)
    assert any(len(source.coverage) == 2 for source in picture.sources)
    scene.settle(following)


def test_a_long_pause_on_a_branch_that_is_gone(scene, following, monkeypatch):
    monkeypatch.setattr(follow, "FURTHEST_BEHIND", 50)
    scene.chain.reorganise(6, 90)
    scene.chain.finalize(110)
    scene.tick(following)
    assert reorgs(scene) == [6]
    scene.settle(following)


# -- another chain


@pytest.mark.promise("H-02")
@pytest.mark.parametrize("what", ["another genesis", "another finalized block"])
def test_another_chain_halts_loudly_and_nothing_is_deleted(scene, following, what):
    before = scene.look()
    other = Chain(scene.chain.random)
    if what == "another genesis":
        other.genesis = Block(0, None, (), b"another")
        other.canonical = [other.genesis]
    other.by_hash[other.genesis.hash] = other.genesis
    other.mine(60)
    other.finalize(50)
    scene.node.chain = other
    with pytest.raises(ChainHaltedError, match="was indexed"):
        scene.tick(following)
    with pytest.raises(ChainHaltedError):
        following.prepare()
    assert scene.look() == before
    following.close()


def test_a_chain_that_another_endpoint_still_serves_goes_on_without_the_stranger(scene, chaos, following):
    following.close()
    honest = Node(scene.chain)
    follower = scene.follower(more=[chaos.server.add("stage/honest", honest)])
    scene.tick(follower)
    stranger = Chain(scene.chain.random)
    stranger.by_hash[stranger.genesis.hash] = stranger.genesis
    stranger.mine(60)
    stranger.finalize(50)
    scene.node.chain = stranger
    scene.chain.mine(3)
    outcomes = [scene.tick(follower) for _ in range(4)]
    assert Tick.EXTENDED in outcomes
    assert (scene.look().tip, reorgs(scene)) == (43, [])
    follower.close()


@pytest.mark.promise("N-08")
def test_words_that_nobody_knows_halt_nothing(scene, following):
    scene.chain.mine(8)

    def lie(node, call, result):
        if call["method"] == "eth_getLogs" and "fromBlock" in call["params"][0]:
            first, last = (int(call["params"][0][key], 16) for key in ("fromBlock", "toBlock"))
            if last - first > 2:
                raise RpcError(-31998, "zu viele Blöcke auf einmal")
        return result

    scene.twist.lie = lie
    for _ in range(30):
        try:
            scene.tick(following)
        except GaplessError:
            continue
    assert scene.look().tip == 48


def test_the_state_of_the_follower_is_read_anew_by_whoever_takes_over(scene, following):
    with scene.engine.connect() as connection:
        state = head_state.load_state(connection, scene.query("SELECT chain_id FROM gapless.chains")[0][0])
    assert state.tip is not None
    assert state.tip.hash == scene.chain.head.hash
