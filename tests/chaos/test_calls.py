"""Contract reads from nodes that lie: snapshots and tokens that are right, get on, and cost little."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from eth_abi import encode

from indexer.manifest import load_manifest
from indexer.store.cache import Cache
from indexer.store.tokens.metadata import StoredCacheSecret
from indexer.sync.snapshots.series import Snapshots, TooOldError
from indexer.sync.tokens import metadata_job
from tests.chaos.chain import CHAIN_ID, COINS, Block
from tests.chaos.node import Node, RpcError
from tests.chaos.stage import Stage, contract, stage

_numbers = itertools.count()
SUPPLY = """
[snapshots.supply]
contract = "coins"
calls = ["totalSupply()"]
every = "5 blocks"
start_block = 0
"""
TWO = contract("coins", "coin", f'address = ["{COINS[0]}", "{COINS[1]}"]', start_block="0")
GAVE_UP = RpcError(-32000, "execution aborted (timeout = 5s)")
Said = Callable[[Block, str, bytes], bytes | None]


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"calls/{next(_numbers)}") as one:
        yield one


@pytest.fixture
def following(scene):
    scene.apply(TWO, SUPPLY)
    follower = scene.follower()
    scene.settle(follower)
    yield follower
    follower.close()


def taker(scene: Stage, *more: str) -> Snapshots:
    manifest = load_manifest(scene.folder / "indexer.toml", {"NODE": scene.url})
    client = scene.client(more)
    client.head()
    return Snapshots(scene.engine, client, CHAIN_ID, manifest.snapshots["supply"])


def take_all(one: Snapshots) -> None:
    while one.take_due():
        pass


def points(scene: Stage) -> dict[tuple[int, str], int | None]:
    rows = scene.query("SELECT block_number, contract_address, total_supply FROM coins.supply")
    return {(n, "0x" + bytes(who).hex()): None if value is None else int(value) for n, who, value in rows}


def truth(scene: Stage, first: int = 0) -> dict[tuple[int, str], int]:
    blocks = [block for block in scene.chain.canonical if block.number % 5 == 0 and block.number >= first]
    return {(block.number, coin): block.supply(coin) for block in blocks for coin in COINS[:2]}


def ignores_the_block(node: Node, call: dict[str, Any], result: Any) -> Any:
    return node._call(call["params"][0], "latest") if call["method"] == "eth_call" else result


# -- snapshots


@pytest.mark.promise("R-15")
@pytest.mark.parametrize("has_multicall3", [True, False])
def test_a_node_that_ignores_the_block_gives_no_point_a_wrong_value(scene, following, has_multicall3):
    scene.node.has_multicall3 = has_multicall3
    scene.twist.lie = ignores_the_block
    with pytest.raises(TooOldError, match=r"was run in block 40"):
        take_all(taker(scene))
    found = points(scene)
    assert found.items() <= truth(scene).items()
    assert {number for number, _ in found} <= {40}, "of its newest block it tells the truth"
    scene.twist.lie = None
    take_all(taker(scene))
    assert points(scene).items() <= truth(scene).items()
    # A point that was due and passed over is one of the past once it is final.
    scene.chain.mine(20)
    scene.chain.finalize(40)
    scene.settle(following)
    take_all(taker(scene))
    assert points(scene) == truth(scene)


def test_another_node_tells_what_one_that_ignores_the_block_does_not(scene, following, chaos):
    scene.twist.lie = ignores_the_block
    other = chaos.server.add(f"other/{next(_numbers)}", Node(scene.chain))
    take_all(taker(scene, other))
    assert points(scene) == truth(scene)


@pytest.mark.promise("N-07")
def test_one_call_that_no_node_runs_holds_up_nothing_and_is_asked_again(scene, following):
    bad = bytes.fromhex(COINS[1][2:])
    said = scene.node._said

    def refusing(block: Block, to: str, data: bytes) -> bytes | None:
        if to == COINS[1]:
            raise GAVE_UP
        return said(block, to, data)

    scene.node._said = refusing
    one = taker(scene)
    take_all(one)
    expected = truth(scene)
    assert points(scene) == {key: None if key[1] == COINS[1] else value for key, value in expected.items()}
    words = scene.query("SELECT DISTINCT failures->>'totalSupply()' FROM coins.supply WHERE failures IS NOT NULL")
    ((reason,),) = words
    assert reason.startswith("not answered: http://127.0.0.1:")
    assert "execution aborted (timeout = 5s)" in reason
    assert bad.hex() not in reason
    scene.node._said = said
    assert one.take_unanswered() == 0, "not at once"
    scene.query("UPDATE gapless.series_points SET asked_again_at = now() WHERE asked_again_at IS NOT NULL RETURNING 1")
    while one.take_unanswered():
        pass
    assert points(scene) == expected
    assert scene.query("SELECT count(*) FROM coins.supply WHERE failures IS NOT NULL") == [(0,)]
    assert scene.query("SELECT count(*) FROM gapless.series_points WHERE asked_again_at IS NOT NULL") == [(0,)]


def test_what_stays_unanswered_is_asked_later_and_later(scene, following):
    def refusing(block: Block, to: str, data: bytes) -> bytes | None:
        raise GAVE_UP

    said, scene.node._said = scene.node._said, refusing
    one = taker(scene)
    one.take_due()
    pauses = []
    for _ in range(12):
        query = "UPDATE gapless.series_points SET asked_again_at = now() WHERE block_number = 5 RETURNING 1"
        scene.query(query)
        one.take_unanswered()
        ((pause,),) = scene.query(
            "SELECT extract(epoch FROM asked_again_at - now())::int FROM gapless.series_points WHERE block_number = 5"
        )
        pauses.append(round(pause / 60))
    assert pauses[:3] == [4, 16, 64]
    assert pauses[-1] == 7 * 24 * 60
    scene.node._said = said


# -- tokens


def address(number: int) -> str:
    return f"0x{number:040x}"


@pytest.fixture
def many(scene) -> Iterator[tuple[Stage, list[str]]]:
    """500 tokens, none of them read."""
    coins = [address(0x70000 + number) for number in range(500)]

    def said(block: Block, to: str, data: bytes) -> bytes | None:
        if to not in coins:
            return None
        match data[:4].hex():
            case "06fdde03" | "95d89b41":
                return encode(["string"], [f"T{to[-4:]}"])
            case "313ce567":
                return (6).to_bytes(32)
        return None

    scene.node._said = said
    listed = ", ".join(f'"{coin}"' for coin in coins)
    scene.apply(contract("coins", "coin", f"address = [{listed}]", start_block="0"))
    follower = scene.follower()
    scene.tick(follower)
    yield scene, coins
    follower.close()


def refresh(scene: Stage, cache: Cache | None = None) -> int:
    client = scene.client()
    total = 0
    while done := metadata_job.refresh(scene.engine, client, CHAIN_ID, frozenset({"coins"}), cache or Cache(None)):
        total += done
    return total


def symbols(scene: Stage) -> dict[str, str | None]:
    return {
        "0x" + bytes(who).hex(): symbol for who, symbol in scene.query("SELECT address, symbol FROM gapless.tokens")
    }


@pytest.mark.promise("B-05")
@pytest.mark.parametrize(("has_multicall3", "most"), [(True, 12), (False, 2_700)])
def test_five_hundred_tokens_from_a_node_that_fails_one_call_in_a_hundred(many, has_multicall3, most):
    scene, coins = many
    scene.node.has_multicall3 = has_multicall3
    asked = itertools.count(1)

    def lie(node: Node, call: dict[str, Any], result: Any) -> Any:
        if call["method"] == "eth_call" and next(asked) % 100 == 0:
            raise RpcError(-32000, "header not found")
        return result

    scene.twist.lie = lie
    before = scene.node.counts["eth_call"]
    assert refresh(scene) == 500
    assert symbols(scene) == {coin: f"T{coin[-4:]}" for coin in coins}
    assert scene.node.counts["eth_call"] - before <= most


@pytest.mark.parametrize("has_multicall3", [True, False])
@pytest.mark.parametrize("refusal", [GAVE_UP, RpcError(-32603, "internal error"), RpcError(-32000, "header not found")])
def test_one_token_that_no_node_reads_among_five_hundred(many, has_multicall3, refusal):
    scene, coins = many
    scene.node.has_multicall3 = has_multicall3
    said: Said = scene.node._said

    def refusing(block: Block, to: str, data: bytes) -> bytes | None:
        if to == coins[250] and data[:4].hex() == "313ce567":
            raise refusal
        return said(block, to, data)

    scene.node._said = refusing
    assert refresh(scene) == 500
    good = {coin: f"T{coin[-4:]}" for coin in coins}
    assert symbols(scene) == good, "its other answers are kept"
    ((decimals, problem, pause),) = scene.query(
        "SELECT decimals, problems->>'decimals', extract(epoch FROM asked_again_at - now())::int FROM gapless.tokens "
        "WHERE problems IS NOT NULL"
    )
    assert decimals is None
    assert problem.startswith("not answered: http://127.0.0.1:")
    assert refusal.message in problem
    assert 3_500 < pause <= 3_600
    scene.node._said = said
    scene.query("UPDATE gapless.tokens SET asked_again_at = now() WHERE asked_again_at IS NOT NULL RETURNING 1")
    assert refresh(scene) == 1
    assert scene.query("SELECT count(*) FROM gapless.tokens WHERE decimals = 6 AND asked_again_at IS NULL") == [(500,)]


def test_an_address_that_is_no_token_is_asked_for_weeks_later(many):
    scene, coins = many
    scene.node._said = lambda block, to, data: None
    assert refresh(scene) == 500
    pauses = []
    for _ in range(14):
        asked = scene.node.counts["eth_call"]
        assert refresh(scene) == 0
        assert scene.node.counts["eth_call"] == asked
        ((pause,),) = scene.query(
            f"SELECT round(extract(epoch FROM asked_again_at - now()) / 3600)::int FROM gapless.tokens "
            f"WHERE address = '\\x{coins[0][2:]}'"
        )
        pauses.append(pause)
        scene.query(f"UPDATE gapless.tokens SET asked_again_at = now() WHERE address = '\\x{coins[0][2:]}' RETURNING 1")
        assert refresh(scene) == 1
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == 28 * 24


# -- Redis


@pytest.fixture
def shared(redis_url):
    """Caches on one Redis: of deployments with one secret, unless they say otherwise."""
    made = []

    def make(secret: bytes | None = b"s" * 32, url: str = redis_url) -> Cache:
        made.append(Cache(url, secret=lambda: secret))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def forget(scene: Stage) -> None:
    scene.query("DELETE FROM gapless.tokens RETURNING 1")


def test_a_second_deployment_reads_no_token(many, shared):
    scene, _ = many
    assert refresh(scene, shared()) == 500
    found = scene.query("SELECT address, kind, name, symbol, decimals, problems FROM gapless.tokens ORDER BY 1")
    forget(scene)
    asked, cache = scene.node.counts["eth_call"], shared()
    assert refresh(scene, cache) == 500
    assert scene.node.counts["eth_call"] == asked
    assert cache.counts["hit"] == 500
    assert scene.query("SELECT address, kind, name, symbol, decimals, problems FROM gapless.tokens ORDER BY 1") == found


def test_what_is_none_is_known_with_its_age(many, shared):
    scene, _ = many
    scene.node._said = lambda block, to, data: None
    assert refresh(scene, shared()) == 500
    forget(scene)
    asked = scene.node.counts["eth_call"]
    assert refresh(scene, shared()) == 500
    assert scene.node.counts["eth_call"] == asked
    assert scene.query("SELECT count(*) FROM gapless.tokens WHERE asked_again_at <= now() + interval '1 hour'") == [
        (500,)
    ]


def test_a_database_has_a_secret_of_its_own(many, redis_url):
    scene, _ = many
    cache = Cache(redis_url, secret=StoredCacheSecret(scene.engine))
    assert refresh(scene, cache) == 500
    forget(scene)
    asked = scene.node.counts["eth_call"]
    assert refresh(scene, cache) == 500
    assert scene.node.counts["eth_call"] == asked
    cache.close()


def forge(kind: str, client: Any, names: list[bytes]) -> None:
    values = {name: client.get(name) for name in names}
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        match kind:
            case "garbage":
                client.set(name, b"\xff\x00garbage")
            case "empty":
                client.set(name, b"")
            case "of another type":
                client.delete(name)
                client.rpush(name, "a", "b")
            case "plain JSON":
                client.set(name, b'{"kind":"erc20","name":"Fake","symbol":"FAKE","decimals":18}')
            case "altered":
                client.set(name, values[name].replace(b'"T', b'"F'))
            case "of another token":
                client.set(name, values[other])
            case "gone":
                client.delete(name)


@pytest.mark.promise("S-11")
@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "of another type", "plain JSON", "altered", "of another token", "gone"]
)
def test_what_is_forged_or_garbage_is_as_good_as_none(many, shared, redis_url, kind):
    scene, coins = many
    assert refresh(scene, shared()) == 500
    with redis.Redis.from_url(redis_url) as client:
        names = sorted(client.keys("gapless:token:*"))
        assert len(names) == 500
        forge(kind, client, names)
    forget(scene)
    cache = shared()
    assert refresh(scene, cache) == 500
    assert symbols(scene) == {coin: f"T{coin[-4:]}" for coin in coins}
    assert cache.counts["hit"] == 0
    assert cache.counts["miss"] + cache.counts["refused"] == 500


@pytest.mark.parametrize("secret", [b"another" * 5, None], ids=["another", "none"])
def test_another_secret_believes_nothing(many, shared, secret):
    scene, coins = many
    assert refresh(scene, shared()) == 500
    forget(scene)
    assert refresh(scene, shared(secret)) == 500
    assert symbols(scene) == {coin: f"T{coin[-4:]}" for coin in coins}


def test_redis_that_is_away_changes_nothing(many, shared):
    scene, coins = many
    assert refresh(scene, shared(url="redis://127.0.0.1:1/0")) == 500
    assert symbols(scene) == {coin: f"T{coin[-4:]}" for coin in coins}
