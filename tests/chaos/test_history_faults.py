"""Faults of the answers from which history is filled: each alone, and the rows that there must be all the same."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools

import pytest

from indexer.errors import GaplessError
from indexer.sync.history.backfill import UnreadRangesError
from tests.chaos import lies
from tests.chaos.node import Honest, RpcError
from tests.chaos.stage import COIN, FACTORIES, stage
from tests.further import further

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"history/{next(_numbers)}") as one:
        yield one


@pytest.fixture
def following(scene):
    """A follower that has come to the head, while history is still empty."""
    scene.apply(COIN, FACTORIES)
    follower = scene.follower()
    scene.tick(follower)
    yield follower
    follower.close()


@pytest.mark.promise("R-08")
@pytest.mark.parametrize("first_log", [0xFFFFFFE2, 2**31 - 2, 2**53])
def test_logs_may_be_numbered_beyond_31_bits(chaos, first_log):
    with stage(chaos, f"history/{next(_numbers)}", first_log=first_log) as scene:
        scene.apply(COIN, FACTORIES)
        follower = scene.follower()
        scene.settle(follower)
        scene.chain.mine(10)
        scene.chain.reorganise(3)
        assert len(scene.settle(follower).rows) > 3
        assert scene.query("SELECT min(log_index) FROM gapless.children") >= [(first_log,)]
        follower.close()


@pytest.mark.promise("R-10")
@pytest.mark.parametrize("words", [("the index of logs is corrupt", -32000), further(("internal error", -32603))])
def test_one_range_that_cannot_be_read_stops_nothing_else(scene, following, words):
    """Blocks 0 to 9 are gone: all above is filled, the rest is named with its reason, and comes when it can."""

    def lie(node, call, result):
        if about_history(call) and int(call["params"][0]["fromBlock"], 16) < 10:
            raise RpcError(*reversed(words))
        return result

    scene.twist.lie = lie
    fill(scene, following)
    (covered,) = scene.query(
        "SELECT count(*) FILTER (WHERE coverage @> int8range(20, 31)), count(*) FROM gapless.sources"
    )
    assert covered[0] >= 3, "but for children of factories, all is there above"
    with pytest.raises(UnreadRangesError, match=f"cannot be read: .*{words[0]}"):
        scene.backfill().run()
    unread = scene.query("SELECT min(first_block), bool_and(reason LIKE '%127.0.0.1%') FROM gapless.failed_ranges")
    assert unread == [(0, True)]
    scene.twist.lie = None
    scene.settle(following)
    scene.backfill().run()
    assert scene.query("SELECT count(*) FROM gapless.failed_ranges") == [(0,)]


def below(number, words):
    """The node has no blocks below a number, and says so in the words of one that lags; without words with null."""

    def lie(node, call, result):
        asked = call["params"][0] if call["params"] else ""
        if call["method"] == "eth_getLogs":
            gone = int(asked.get("fromBlock", "0xffff"), 16) < number
        else:
            gone = call["method"] == "eth_getBlockByNumber" and asked[:2] == "0x" and int(asked, 16) < number
        if gone and (words is not None or call["method"] == "eth_getLogs"):
            raise RpcError(-32000, words or "unknown block")
        return None if gone else result

    return lie


@pytest.mark.parametrize("words", ["header not found", "block not found", "unknown block", None])
def test_pruning_in_the_words_of_a_lag_stops_nothing_that_is_kept(scene, following, words):
    scene.twist.lie = below(10, words)
    with pytest.raises(UnreadRangesError, match="it has no blocks up to 9, while it answers"):
        scene.backfill().run()
    scene.look()
    (covered,) = scene.query("SELECT count(*) FILTER (WHERE coverage @> int8range(10, 31)) FROM gapless.sources")
    assert covered[0] >= 3, "but for children of factories, all is there above"
    unread = scene.query("SELECT DISTINCT first_block, last_block FROM gapless.failed_ranges WHERE first_block = 0")
    assert unread == [(0, 9)]
    before = scene.node.counts.total()
    with pytest.raises(UnreadRangesError):
        scene.backfill().run()
    assert scene.node.counts.total() - before < 60, "what is gone is not looked for block by block"
    scene.twist.lie = None
    scene.settle(following)
    assert scene.query("SELECT count(*) FROM gapless.failed_ranges") == [(0,)]


def about_history(call):
    asked = call["params"][0]
    return call["method"] == "eth_getLogs" and "fromBlock" in asked and int(asked["toBlock"], 16) <= 30


def fill(scene, follower):
    """History is asked for until it is whole; an answer that is not believed is an error, and nothing worse."""
    for _ in range(20):
        try:
            scene.tick(follower)
            scene.backfill().run()
        except GaplessError:
            continue
        finally:
            scene.look()


@pytest.mark.promise("R-04")
@pytest.mark.parametrize("name", ["marked removed", "removed logs", "pending logs", "wrong times"])
def test_history_is_whole_and_true_whatever_logs_say(scene, following, name):
    """Said in the first ten answers; what is true must be there afterwards, and nothing else."""
    left = itertools.count(10, -1)

    def lie(node, call, result):
        if not about_history(call) or next(left) <= 0:
            return result
        return lies.LOGS[name](scene.chain.random, node, call, result)

    scene.twist.lie = lie
    fill(scene, following)
    scene.judge.check_complete(scene.look())


def test_logs_may_be_numbered_within_their_transaction(chaos):
    """As the chain declares it: each log has a place of its own, and the same one in every answer."""
    with stage(chaos, f"history/{next(_numbers)}", per_transaction=True) as scene:
        scene.apply(COIN, FACTORIES)
        scene.settings = dataclasses.replace(scene.settings, log_index_per_transaction=True)
        follower = scene.follower()
        scene.settle(follower)
        scene.chain.mine(10)
        scene.chain.reorganise(3)
        assert len(scene.settle(follower).rows) > 3
        places = [place for rows in scene.look().rows.values() for _, place in rows]
        assert max(places) >= 2**32 > min(places)
        follower.close()


def test_the_reason_says_what_to_declare_where_logs_share_a_number(chaos):
    """No row is lost without a word: two logs at one place are an error that names the host."""
    with stage(chaos, f"history/{next(_numbers)}", per_transaction=True) as scene:
        scene.apply(COIN, FACTORIES)
        follower = scene.follower()
        with contextlib.suppress(GaplessError):
            scene.clock.sleep(60.0)
            follower.tick()
        with pytest.raises(UnreadRangesError, match=r'(?s)127\.0\.0\.1.*log_index = "per_transaction"'):
            scene.backfill().run()
        follower.close()


def nulls_for_none(node, call, result):
    return None if result == [] else result


def without_places(node, call, result):
    return [{**log, "transactionIndex": None} for log in result] if call["method"] == "eth_getLogs" else result


def without_data(node, call, result):
    if call["method"] != "eth_getLogs":
        return result
    return [{name: value for name, value in log.items() if (name, value) != ("data", "0x")} for log in result]


@pytest.mark.parametrize("lie", [nulls_for_none, without_places, without_data])
def test_other_shapes_of_logs_are_read(scene, lie):
    scene.twist.lie = lie
    scene.apply(COIN, FACTORIES)
    follower = scene.follower()
    scene.settle(follower)
    scene.chain.mine(10)
    scene.chain.finalize(45)
    scene.settle(follower)
    follower.close()


def test_null_of_a_node_that_fails_is_not_no_logs(scene, following):
    """Said of every second question for logs that has an answer, and never where there are none."""
    turns = itertools.count()

    def lie(node, call, result):
        return None if call["method"] == "eth_getLogs" and result and next(turns) % 2 else result

    scene.twist.lie = lie
    fill(scene, following)
    scene.judge.check_complete(scene.look())


@pytest.mark.parametrize("name", ["absent answers", "twin id", "short batch", "wrong id", "no result"])
def test_batches_with_some_answers_are_as_good_as_whole_ones(scene, name):
    """Told of every batch: history and head go on at once, without a failure."""
    scene.apply(COIN, FACTORIES)

    class Mangling(Honest):
        told = 0

        def response(self, node, calls, answers):
            self.told += len(answers) > 1
            return lies.ANSWERS[name](scene.chain.random, answers) if len(answers) > 1 else answers

    liar = scene.node.liar = Mangling()
    follower = scene.follower()
    for _ in range(4):
        scene.tick(follower)
        scene.backfill().run()
        scene.chain.mine(5)
        scene.chain.finalize(scene.chain.head.number - 10)
    scene.settle(follower)
    assert liar.told > 5
    follower.close()
