"""Tokens and counts from Redis: read there first, believed only where they are ours, and never another answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from indexer.store.cache import TokenCache
from tests.integration.api.world import GOLD, SILVER, USDC

SECRET = "s" * 40
USDC_PATH = f"/v1/tokens/0x{USDC.hex()}?chain=ethereum"
PATHS = (
    USDC_PATH,
    f"/v1/tokens/0x{GOLD.hex()}?chain=ethereum",
    f"/v1/tokens/0x{SILVER.hex()}?chain=ethereum",
    "/v1/contracts/coins/events/Transfer?chain=ethereum&include=token&limit=5",
    "/v1/contracts/coins/snapshots/supply?include=token&limit=4",
    "/v1/events?chain=ethereum&contract=coins&include=token&limit=5",
    f"/v1/tokens/0x{GOLD.hex()}/transfers?chain=ethereum&include=token&limit=5",
)
DAILY = "/v1/contracts/usdc/events/Transfer/daily?chain=ethereum&sum=value"


@pytest.fixture
def known(seed):
    """A world whose chain is known by its first block."""
    seed.execute("UPDATE gapless.chains SET genesis_hash = %s WHERE chain_id = 1", (b"\x11" * 32,))
    return seed


@pytest.fixture
def store(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def answers(client: Any) -> dict[str, tuple[Any, str | None]]:
    found = {}
    for path in PATHS:
        result = client.ask(path)
        assert result.status_code == 200, (path, result.text)
        # "meta" says how old the newest block is.
        body = {name: value for name, value in result.json.items() if name != "meta"}
        found[path] = (body, result.headers.get("etag"))
    return found


def days(client: Any) -> Any:
    return {name: value for name, value in client.get(DAILY).items() if name != "meta"}


def names(store: Any) -> list[bytes]:
    return sorted(store.keys("gapless:token:1:*"))


def test_redis_is_read_first_and_postgres_where_it_has_nothing(known, make_client, redis_url, store):
    expected = answers(make_client())
    client = make_client(redis_url=redis_url)
    assert answers(client) == expected
    assert len(names(store)) >= 2
    assert all(b":" + (b"\x11" * 32).hex().encode() + b":0x" in name for name in names(store))
    known.execute("UPDATE gapless.tokens SET symbol = 'OTHER'")
    assert answers(client) == expected, "from Redis"
    assert answers(make_client(redis_url=redis_url)) == expected, "for another process too"
    store.flushall()
    assert client.get(USDC_PATH)["data"]["symbol"] == "OTHER"


@pytest.mark.promise("S-11")
@pytest.mark.parametrize("forged", ["garbage", "plain", "altered", "swapped", "of another type"])
def test_what_is_not_ours_is_as_good_as_none(known, make_client, redis_url, store, forged):
    expected = answers(make_client())
    assert answers(make_client(redis_url=redis_url)) == expected
    values = {name: store.get(name) for name in names(store)}
    for name, other in zip(values, list(values)[1:] + list(values)[:1], strict=True):
        match forged:
            case "garbage":
                store.set(name, b"\xff\xfe{")
            case "plain":
                store.set(name, json.dumps({"kind": "erc20", "symbol": "FAKE", "name": "Fake", "decimals": 1}))
            case "altered":
                store.set(name, values[name].replace(b"USD", b"USB").replace(b"GLD", b"GLB"))
            case "swapped":
                store.set(name, values[other])
            case "of another type":
                store.delete(name)
                store.rpush(name, "x")
    client = make_client(redis_url=redis_url)
    assert answers(client) == expected
    assert client.get("/ready")["redis"] == "ok"


def test_redis_that_is_away_changes_no_answer(known, make_client):
    assert answers(make_client(redis_url="redis://127.0.0.1:1/0")) == answers(make_client())


def test_deployments_with_one_secret_share_what_they_know(known, make_client, copy_world, redis_url, store):
    first = make_client(redis_url=redis_url, redis_secret=SECRET)
    expected = answers(first)
    known.execute("UPDATE gapless.tokens SET symbol = 'OTHER'")
    assert answers(make_client(redis_url=redis_url, redis_secret=SECRET)) == expected
    other = make_client(redis_url=redis_url, redis_secret="t" * 40)
    assert other.get(USDC_PATH)["data"]["symbol"] == "OTHER"


def test_a_chain_that_began_anew_has_other_tokens(known, make_client, redis_url):
    assert make_client(redis_url=redis_url).get(USDC_PATH)["data"]["symbol"] == "USDC"
    known.execute("UPDATE gapless.tokens SET symbol = 'OTHER'")
    known.execute("UPDATE gapless.chains SET genesis_hash = %s WHERE chain_id = 1", (b"\x22" * 32,))
    assert make_client(redis_url=redis_url).get(USDC_PATH)["data"]["symbol"] == "OTHER"


def test_what_has_lain_in_redis_for_long_is_looked_up_again(known, make_client, redis_url, monkeypatch):
    client = make_client(redis_url=redis_url)
    assert client.get(USDC_PATH)["data"]["symbol"] == "USDC"
    known.execute("UPDATE gapless.tokens SET symbol = 'OTHER'")
    recall = TokenCache.recall

    def aged(self: TokenCache, addresses: list[bytes]) -> Any:
        import msgspec

        found = recall(self, addresses)
        return {who: msgspec.structs.replace(kept, kept_at=kept.kept_at - 3601) for who, kept in found.items()}

    with monkeypatch.context() as patched:
        patched.setattr(TokenCache, "recall", aged)
        assert client.get(USDC_PATH)["data"]["symbol"] == "OTHER"
    assert client.get(USDC_PATH)["data"]["symbol"] == "OTHER"


def test_a_token_whose_calls_no_node_would_run_is_shown_and_not_kept(known, make_client, redis_url, store):
    known.execute("UPDATE gapless.tokens SET asked_again_at = now() + interval '1 hour', decimals = NULL")
    assert make_client(redis_url=redis_url).get(USDC_PATH)["data"]["decimals"] is None
    assert names(store) == []


@pytest.mark.promise("S-11")
@pytest.mark.parametrize("forged", [b"\xff\xfe", b'{"data":[],"page":{"next":null}', b"", None])
def test_a_forged_count_of_days_is_counted_anew(known, make_client, redis_url, store, forged):
    expected = days(make_client())
    assert days(make_client(redis_url=redis_url)) == expected
    kept = store.keys("gapless:api:days:*")
    assert kept
    for name in kept:
        store.delete(name)
        if forged is None:
            store.rpush(name, "x")
        else:
            store.set(name, forged)
    client = make_client(redis_url=redis_url)
    assert days(client) == expected
    assert days(client) == expected
