"""Webhooks from outside: subscriptions through the API, messages at a receiver that checks each of them."""

import http.client
import json
import logging
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from api.app import create_app
from api.context import create_context
from api.database import Database
from api.resources import webhooks as resources
from api.settings import ApiSettings
from api.webhooks import worker
from api.webhooks.store import Store
from indexer.store import database
from indexer.store.access import keys
from tests.integration.api import world
from tests.integration.api.conftest import Client
from tests.integration.api.hooks import Receiver, parsed, receiving, until
from tests.integration.api.seed import Seed
from tests.integration.api.test_api_fuzz import CHECKS
from tests.integration.api.test_api_server import running

SETTINGS: dict[str, Any] = {
    "webhooks_secret_key": "0123456789abcdef" * 2,
    "webhooks_allow_http": True,
    "webhooks_allow_private": "127.0.0.0/8",
    "webhooks_retry_delays": "0.05,0.1,0.1,0.2,0.2,0.2,0.2,0.2,0.2",
    "webhooks_poll": 0.05,
    "webhooks_timeout": 2.0,
    "webhooks_per_key": 3,
}

FUZZ = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


class Desk:
    """Subscribes, as one key."""

    def __init__(self, client: Client, key: str, receiver: Receiver) -> None:
        self.client = client
        self.headers = {"authorization": f"Bearer {key}"}
        self.receiver = receiver

    def ask(self, method: str, path: str = "", body: Any = None, status: int = 200) -> Any:
        """The member ``data`` of an answer that must have this status, or the error's code."""
        named = dict(self.headers)
        if body is not None:
            result = self.client.http.simulate_request(method, f"/v1/webhooks{path}", json=body, headers=named)
        else:
            result = self.client.http.simulate_request(method, f"/v1/webhooks{path}", headers=named)
        assert result.status_code == status, result.text
        assert result.headers.get("cache-control", "no-store") == "no-store"
        if not result.text:
            return None
        return result.json["data"] if status < 400 else result.json["code"]

    def subscribe(self, **body: Any) -> str:
        """The id of a new subscription of the receiver, which knows its secret."""
        made = self.ask("POST", body={"url": self.receiver.url, "chain": "ethereum", **body}, status=201)
        self.receiver.secret = made["secret"]
        return str(made["id"])

    def one(self, webhook: str) -> Any:
        return self.ask("GET", f"/{webhook}")

    def attempts(self, webhook: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"/{webhook}/deliveries?limit=1000")
        return found[::-1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def still_url(copy_world: Callable[[], str]) -> str:
    """A copy of the world that these tests share."""
    return copy_world()


@pytest.fixture
def url(request: pytest.FixtureRequest, still_url: str) -> Iterator[str]:
    """The database of a test: the shared one, unless the test changes the world."""
    if "seed" in request.fixturenames:
        yield request.getfixturevalue("world_url")
        return
    yield still_url
    with psycopg.connect(still_url, autocommit=True) as connection:
        connection.execute("DELETE FROM gapless.webhooks")


@pytest.fixture
def make_key(url: str) -> Iterator[Callable[..., tuple[int, str]]]:
    engine = database.create_engine(url)

    def make(*scopes: str, **options: Any) -> tuple[int, str]:
        with engine.begin() as connection:
            return keys.create(connection, "someone", scopes=scopes or ("webhooks",), **options)

    yield make
    engine.dispose()


@pytest.fixture
def make_desk(url: str, receiver: Receiver, make_key: Callable[..., tuple[int, str]]) -> Iterator[Callable[..., Desk]]:
    """An API and, unless told otherwise, the threads that deliver for it."""
    with ExitStack() as stack:

        def make(key: str | None = None, *, deliver: bool = True, **settings: Any) -> Desk:
            context = create_context(ApiSettings(**{**SETTINGS, **settings}), url, None)
            stack.callback(context.close)
            if deliver:
                delivering = worker.start(context, url)
                assert delivering is not None
                stack.callback(delivering.stop)
            return Desk(Client(create_app(context)), key or make_key()[1], receiver)

        yield make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()


def transfers(first: int, last: int) -> list[tuple[int, int]]:
    """Where the world's usdc.Transfer rows are."""
    return [(row["block"], row["log"]) for row in world.transfers() if first <= row["block"] <= last]


def transfer(block: int, log: int = 3, branch: int = 0, value: int = 1) -> dict[str, Any]:
    return {
        "block": block,
        "log": log,
        "branch": branch,
        "address": world.USDC,
        "from": world.ALICE,
        "to": world.BOB,
        "value": value,
    }


def grow(seed: Seed, tip: int, *rows: dict[str, Any], finalized: int = world.FINALIZED, branch: int = 0) -> None:
    """More of the chain; rows of usdc.Transfer."""
    seed.rows("usdc", "Transfer", rows)
    seed.block(tip, branch=branch)
    for contract in ("coins", "factory", "pair", "zoo", "gold_alone", "bridge"):
        seed.cover(contract, (world.START, tip))
    seed.cover("usdc", (world.START, world.GAP[0] - 1), (world.GAP[1] + 1, tip))
    seed.head(tip, finalized=finalized, safe=max(finalized, world.SAFE), branch=branch)


@pytest.mark.promise("L-04")
def test_rows_come_in_order_and_once_with_the_json_of_a_page(desk: Desk, receiver: Receiver) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", finality="latest", from_block=1200, batch=7)
    until(lambda: len(receiver.places()) == 200)
    assert receiver.places() == transfers(1200, world.TIP)
    page = desk.client.get(
        "/v1/contracts/usdc/events/Transfer?from_block=1200&limit=200&order=asc"
        "&fields=id,block_number,block_time,tx_hash,log_index,address,finality,args"
    )["data"]
    told = [
        {name: value for name, value in row.items() if name not in ("contract", "event", "contracts")}
        for row in receiver.told().values()
    ]
    assert told == page
    assert {(key[0], key[1]) for key in receiver.told()} == {("usdc", "Transfer")}
    assert all(len(m["data"]["rows"]) <= 7 for m in receiver.messages())
    assert len(receiver.attempts) == len(receiver.messages()), "each was sent once"
    until(lambda: desk.one(webhook)["pending"] is None)
    assert desk.one(webhook)["state"] == "active"
    assert desk.one(webhook)["sequence"] == len(receiver.messages())


def test_from_now_on_with_filters(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    to_alice = {"arg.to": "0x" + world.ALICE.hex(), "arg.value.gte": "5"}
    desk.subscribe(contract="usdc", event="Transfer", finality="latest", filters=to_alice)
    more = [{**transfer(1300, log), "to": to, "value": value} for log, (to, value) in enumerate(
        [(world.ALICE, 5), (world.BOB, 5), (world.ALICE, 4), (world.ALICE, 6)]
    )]  # fmt: skip
    grow(seed, 1300, *more)
    until(receiver.places)
    assert receiver.places() == [(1300, 0), (1300, 3)]


def test_all_events_of_a_chain(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    seed.cover("usdc", (world.START, world.TIP))
    desk.subscribe(finality="latest", from_block=1000)
    until(lambda: receiver.places()[-1:] == [(world.TIP, 7)])
    expected = desk.client.http.simulate_get("/v1/events?chain=ethereum&order=asc&format=ndjson").text.split("\n")
    assert list(receiver.told().values()) == [json.loads(line) for line in expected if line]


def test_only_what_is_final_enough_is_told(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1190)
    until(lambda: len(receiver.places()) == 22)
    assert receiver.places()[-1] == (world.FINALIZED, 7)
    assert desk.one(webhook)["finality"] == "finalized"
    grow(seed, 1300, finalized=1203)
    until(lambda: len(receiver.places()) == 28)
    assert receiver.places() == transfers(1190, 1203)


@pytest.mark.promise("L-02")
def test_a_gap_holds_up_what_is_behind_it(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1030)
    until(lambda: (desk.one(webhook)["reason"] or "").startswith(f"block {world.GAP[0]} is not indexed yet"))
    assert receiver.places() == transfers(1030, world.GAP[0] - 1)
    seed.rows("usdc", "Transfer", [transfer(world.GAP[0] + 2)])
    seed.cover("usdc", (world.START, world.TIP))
    until(lambda: receiver.places()[-1:] == [(world.FINALIZED, 7)])
    assert receiver.places() == [*transfers(1030, 1039), (world.GAP[0] + 2, 3), *transfers(1050, world.FINALIZED)]
    until(lambda: desk.one(webhook)["reason"] is None)


def test_a_reorganisation_is_told_and_then_what_holds(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    desk.subscribe(contract="usdc", event="Transfer", finality="latest", from_block=1290)
    until(lambda: len(receiver.places()) == 20)
    with seed.connection.transaction():
        seed.reorg(1294, world.TIP, branch=1)
        grow(seed, 1301, transfer(1296, branch=1, value=9), transfer(1301, branch=1), branch=1)
    until(lambda: receiver.places()[-1:] == [(1301, 3)])
    assert receiver.places() == [*transfers(1290, 1294), (1296, 3), (1301, 3)]
    (gone,) = (message["data"] for message in receiver.messages() if message["type"] == "event.reverted")
    assert (gone["common_block"], gone["reason"], gone["chain_id"]) == (1294, "reorg", 1)
    # And again, while the same row comes a second time: other messages, other ids.
    with seed.connection.transaction():
        seed.reorg(1295, 1301, branch=2, old_branch=1)
        grow(seed, 1302, transfer(1296, branch=2, value=9), branch=2)
    until(lambda: receiver.kinds().count("event.reverted") == 2)
    until(lambda: receiver.places()[-1:] == [(1296, 3)])
    ids = [attempt.message_id for attempt in receiver.attempts]
    assert len(set(ids)) == len(ids)


def test_nobody_is_told_of_what_they_were_never_told(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    webhook = desk.subscribe(contract="coins", event="Transfer", finality="latest", from_block=1195)
    until(lambda: len(receiver.places()) == 5)
    until(lambda: desk.one(webhook)["cursor"].startswith(f"{world.TIP}-"))
    seed.reorg(1290, world.TIP, branch=1)
    until(lambda: desk.one(webhook)["cursor"].startswith(f"{world.TIP}-") and not desk.one(webhook)["pending"])
    grow(seed, 1300, branch=1)
    until(lambda: desk.one(webhook)["cursor"].startswith("1300-"))
    assert receiver.kinds() == ["event.rows"]


@pytest.mark.promise("L-04")
@pytest.mark.parametrize("chance", [1, 2, 3])
def test_a_receiver_that_fails_is_told_everything_in_order(
    make_desk: Callable[..., Desk], receiver: Receiver, seed: Seed, chance: int
) -> None:
    """Random errors, answers that come too late, cut connections, and a reorganisation in the middle."""
    draw = random.Random(chance)

    def answer(_: dict[str, Any]) -> int | None:
        what = draw.choice([204, 204, 204, 500, 301, 404, None, "late"])
        if what == "late":
            time.sleep(0.4)
            return 200  # nobody is there to hear it
        return what  # type: ignore[return-value]

    receiver.answer = answer
    delays = ",".join(["0.02"] * 200)
    desk = make_desk(webhooks_timeout=0.2, webhooks_retry_delays=delays)
    desk.subscribe(contract="usdc", event="Transfer", finality="latest", from_block=1280, batch=6)
    until(lambda: len(receiver.attempts) > 3)
    with seed.connection.transaction():
        seed.reorg(1295, world.TIP, branch=1)
        grow(seed, 1301, *(transfer(block, branch=1) for block in range(1296, 1302)), branch=1)
    expected = [*transfers(1280, 1295), *((block, 3) for block in range(1296, 1302))]

    def told() -> bool:
        # What was answered too late counts for the receiver, and is sent again: both is allowed.
        return receiver.places() == expected

    until(told, seconds=60)
    assert len(receiver.attempts) > len(receiver.messages())


def test_a_database_that_cuts_its_connections_loses_nothing(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    receiver.answer = lambda _: time.sleep(0.02) or 200
    desk.subscribe(contract="usdc", event="Transfer", from_block=1150, batch=3)
    for _ in range(12):
        time.sleep(0.05)
        seed.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'gapless webhooks'"
        )
    until(lambda: receiver.places() == transfers(1150, world.FINALIZED), seconds=60)


def test_410_is_the_end_until_its_owner_says_otherwise(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = lambda _: 410
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1199)
    until(lambda: desk.one(webhook)["state"] == "disabled")
    found = desk.one(webhook)
    assert "410" in found["reason"]
    assert found["pending"]["next_attempt_at"] is None
    time.sleep(0.3)
    assert len(receiver.attempts) == 1
    receiver.answer = lambda _: 200
    desk.ask("PATCH", f"/{webhook}", {"state": "active"})
    until(lambda: len(receiver.places()) == 4)
    assert [m["data"]["sequence"] for m in receiver.messages()] == [1]


def test_after_days_it_is_disabled_and_nothing_is_lost(make_desk: Callable[..., Desk], receiver: Receiver) -> None:
    receiver.answer = lambda _: 500
    desk = make_desk(webhooks_retry_delays="0.02,0.02,0.02")
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1190, batch=5)
    until(lambda: desk.one(webhook)["state"] == "disabled")
    assert desk.one(webhook)["reason"].endswith("not acknowledged at 4 attempts, at last: the receiver answered 500")
    assert [(a["attempt"], a["status"]) for a in desk.attempts(webhook)] == [(n, 500) for n in (1, 2, 3, 4)]
    receiver.answer = lambda _: 200
    desk.ask("PATCH", f"/{webhook}", {"state": "active"})
    until(lambda: receiver.places() == transfers(1190, world.FINALIZED))


def test_failing_is_a_state_and_retry_after_is_heeded(make_desk: Callable[..., Desk], receiver: Receiver) -> None:
    receiver.answer = lambda _: 500
    desk = make_desk(webhooks_retry_delays="60")
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1190)
    until(lambda: desk.one(webhook)["state"] == "failing")
    found = desk.one(webhook)
    assert found["pending"]["failures"] == 1
    assert found["pending"]["next_attempt_at"] > found["created_at"]
    assert found["reason"] == "the receiver answered 500"


def test_attempts_can_be_looked_at(desk: Desk, receiver: Receiver) -> None:
    answers = iter([500, None])
    receiver.answer = lambda _: next(answers, 202)
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1200)
    until(lambda: len(desk.attempts(webhook)) == 3)
    first, second, third = desk.attempts(webhook)
    assert (first["attempt"], first["status"], first["answer"], first["error"]) == (1, 500, "said", None)
    assert (second["attempt"], second["status"]) == (2, None)
    assert "connection failed" in second["error"]
    assert (third["attempt"], third["status"]) == (3, 202)
    assert {a["message_id"] for a in (first, second, third)} == {f"msg_{webhook[3:]}_1"}
    assert all(a["type"] == "event.rows" and a["bytes"] > 100 and a["milliseconds"] >= 0 for a in (first, second))
    headers = desk.headers
    page = desk.client.get(f"/v1/webhooks/{webhook}/deliveries?limit=2", **headers)
    assert [a["id"] for a in page["data"]] == [third["id"], second["id"]]
    rest = desk.client.get(f"/v1/webhooks/{webhook}/deliveries?before={page['page']['next']}", **headers)
    assert (rest["data"], rest["page"]["next"]) == ([first], None)


def test_replay_tells_again_from_a_block_on(desk: Desk, receiver: Receiver) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1198)
    until(lambda: len(receiver.places()) == 6)
    until(lambda: desk.one(webhook)["pending"] is None)
    desk.ask("POST", f"/{webhook}/replay", {"from_block": 1195})
    until(lambda: len(receiver.told()) == 12)
    ids = [attempt.message_id for attempt in receiver.attempts]
    assert len(set(ids)) == len(ids), "a message that is told again is another one"
    assert "event.reverted" not in receiver.kinds(), "what is final is not reverted"
    again = [row for message in receiver.messages()[1:] for row in message["data"]["rows"]]
    assert [(row["block_number"], row["log_index"]) for row in again] == transfers(1195, world.FINALIZED)
    assert desk.ask("POST", f"/{webhook}/replay", {"from_block": 5000}, status=409) == "BLOCK_NOT_INDEXED"


def test_replay_of_what_can_still_change_reverts_it_first(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    """Else a reorganisation while old rows are told again would leave the receiver with rows of both branches."""
    webhook = desk.subscribe(contract="usdc", event="Transfer", finality="latest", from_block=1290)
    until(lambda: len(receiver.places()) == 20)
    until(lambda: desk.one(webhook)["pending"] is None)
    receiver.answer = lambda _: 500
    desk.ask("POST", f"/{webhook}/replay", {"from_block": 1296})
    seed.reorg(1298, world.TIP, branch=1)
    receiver.answer = lambda _: 200
    until(lambda: receiver.places() == transfers(1290, 1298))
    reverted = [m["data"] for m in receiver.messages() if m["type"] == "event.reverted"]
    assert (reverted[0]["reason"], reverted[0]["common_block"]) == ("replay", 1295)


def test_replay_passes_by_a_message_that_is_never_acknowledged(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = lambda message: 400 if message["data"]["rows"][0]["block_number"] == 1190 else 200
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1190, batch=2)
    until(lambda: receiver.attempts)
    desk.ask("POST", f"/{webhook}/replay", {"from_block": 1191})
    until(lambda: receiver.places() == transfers(1191, world.FINALIZED))


def test_secrets_are_replaced_while_both_sign(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1200)
    until(receiver.places)
    old = receiver.secret
    new = desk.ask("POST", f"/{webhook}/rotate")["secret"]
    assert new != old
    assert desk.one(webhook)["old_secret_until"] is not None
    grow(seed, 1300, finalized=1201)
    until(lambda: len(receiver.places()) == 4)  # whoever has the old one only
    receiver.secret = new
    grow(seed, 1300, finalized=1202)
    until(lambda: len(receiver.places()) == 6)
    desk.ask("POST", f"/{webhook}/rotate", {"overlap_hours": 0})
    grow(seed, 1300, finalized=1203)
    until(lambda: receiver.problems)
    assert "No matching signature" in receiver.problems[0]


def test_a_test_message_can_be_sent_at_any_time(desk: Desk, receiver: Receiver) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer")
    desk.ask("PATCH", f"/{webhook}", {"state": "paused"})
    receiver.answer = lambda _: 500
    message_id = desk.ask("POST", f"/{webhook}/test", status=202)["message_id"]
    until(lambda: desk.attempts(webhook))
    (attempt,) = desk.attempts(webhook)
    assert (attempt["message_id"], attempt["type"], attempt["status"]) == (message_id, "webhook.test", 500)
    assert receiver.attempts[0].body["data"] == {"webhook": webhook}
    time.sleep(0.3)
    assert len(receiver.attempts) == 1, "it is sent once"
    assert desk.one(webhook)["state"] == "paused"


def test_what_is_paused_is_told_later(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer")
    assert desk.ask("PATCH", f"/{webhook}", {"state": "paused", "description": "later"})["description"] == "later"
    grow(seed, 1300, finalized=1210)
    time.sleep(0.3)
    assert receiver.attempts == []
    desk.ask("PATCH", f"/{webhook}", {"state": "active"})
    until(lambda: receiver.places() == transfers(1201, 1210))


def test_what_is_deleted_is_gone(desk: Desk, receiver: Receiver, seed: Seed) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1200)
    until(receiver.places)
    desk.ask("DELETE", f"/{webhook}", status=204)
    assert desk.ask("GET") == []
    assert desk.ask("GET", f"/{webhook}", status=404) == "NOT_FOUND"
    assert seed.execute("SELECT count(*) FROM gapless.webhook_deliveries").fetchone() == (0,)


def test_each_key_sees_its_own_and_an_administrator_all(
    make_desk: Callable[..., Desk], make_key: Callable[..., tuple[int, str]], desk: Desk
) -> None:
    webhook = desk.subscribe(contract="usdc")
    other = make_desk(deliver=False)
    assert other.ask("GET") == []
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"state": "paused"}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/replay", {"from_block": 1}),
        ("POST", "/rotate", {}),
        ("POST", "/test", None),
    ):
        assert other.ask(method, f"/{webhook}{path}", body, status=404) == "NOT_FOUND"
    administrator = make_desk(make_key("webhooks", "admin")[1], deliver=False)
    assert [found["id"] for found in administrator.ask("GET")] == [webhook]
    reader = make_desk(make_key("read")[1], deliver=False)
    assert reader.ask("GET", status=403) == "INSUFFICIENT_SCOPE"
    reader.headers = {}
    assert reader.ask("GET", status=401) == "AUTHENTICATION_REQUIRED"


def test_a_revoked_key_ends_its_webhooks(
    make_desk: Callable[..., Desk], make_key: Callable[..., tuple[int, str]], receiver: Receiver, seed: Seed
) -> None:
    key_id, key = make_key()
    desk = make_desk(key)
    desk.subscribe(contract="usdc", event="Transfer", finality="latest", from_block=world.TIP)
    until(receiver.places)
    seed.execute("UPDATE gapless.api_keys SET revoked_at = now() WHERE id = %s", (key_id,))
    grow(seed, 1300, transfer(1300))
    time.sleep(0.3)
    assert len(receiver.attempts) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "https://10.0.0.1/"}, 400, "INVALID_PARAMETER"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, 400, "INVALID_PARAMETER"),
        ({"url": "https://user:pw@example.org/"}, 400, "INVALID_PARAMETER"),
        ({"url": "ftp://127.0.0.1/"}, 400, "INVALID_PARAMETER"),
        ({"url": "https://127.0.0.1/" + "a" * 2000}, 400, "INVALID_PARAMETER"),
        ({"secret": "whsec_x"}, 400, "UNKNOWN_PARAMETER"),
        ({"contract": "usdd"}, 404, "CONTRACT_NOT_FOUND"),
        ({"contract": "usdc", "event": "Transfers"}, 404, "EVENT_NOT_FOUND"),
        ({"contract": "zoo", "event": "Odd"}, 409, "AMBIGUOUS_EVENT"),
        ({"event": "Transfer"}, 400, "INVALID_PARAMETER"),
        ({"chain": None}, 400, "CHAIN_REQUIRED"),
        ({"chain": "mars"}, 404, "CHAIN_NOT_FOUND"),
        ({"filters": {"arg.to": "0x00"}}, 400, "UNKNOWN_PARAMETER"),
        ({"contract": "usdc", "event": "Transfer", "filters": {"arg.to": "0x00"}}, 400, "INVALID_ADDRESS"),
        ({"contract": "usdc", "event": "Transfer", "filters": {"arg.two": "0x00"}}, 400, "UNKNOWN_PARAMETER"),
        ({"filters": {"limit": "1"}}, 400, "UNKNOWN_PARAMETER"),
        ({"finality": "soon"}, 400, "INVALID_PARAMETER"),
        ({"from_block": -1}, 400, "INVALID_PARAMETER"),
        ({"from_block": 2**63}, 400, "INVALID_PARAMETER"),
        ({"from_block": 5000}, 409, "BLOCK_NOT_INDEXED"),
        ({"batch": 0}, 400, "INVALID_PARAMETER"),
    ],
)
def test_what_cannot_be_subscribed_to(
    make_desk: Callable[..., Desk], body: dict[str, Any], status: int, code: str
) -> None:
    desk = make_desk(deliver=False)
    whole = {"url": "https://127.0.0.1/", "chain": "ethereum", **body}
    assert desk.ask("POST", body={k: v for k, v in whole.items() if v is not None}, status=status) == code


@pytest.mark.promise("S-03")
def test_names_of_private_addresses_are_refused_when_made_and_when_sent(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is subscribed and private afterwards."""
    monkeypatch.setattr(resources.Webhooks, "resolve", lambda *_: ["1.1.1.1", "10.0.0.1"])
    body = {"url": "https://rebind.example/", "chain": "ethereum"}
    assert desk.ask("POST", body=body, status=400) == "INVALID_PARAMETER"
    monkeypatch.setattr(resources.Webhooks, "resolve", lambda *_: ["1.1.1.1"])
    url = f"http://[::ffff:10.0.0.1]:{receiver.port}/"
    made = desk.ask("POST", body={**body, "url": url, "contract": "usdc", "from_block": 1200}, status=201)
    until(lambda: desk.attempts(made["id"]))
    assert desk.attempts(made["id"])[0]["error"].startswith("not sent: its host is not on the public internet")


def test_a_key_has_no_more_than_it_may(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(deliver=False)
    for _ in range(SETTINGS["webhooks_per_key"]):
        desk.subscribe(contract="usdc")
    body = {"url": "https://127.0.0.1/", "chain": "ethereum"}
    assert desk.ask("POST", body=body, status=409) == "LIMIT_REACHED"


def test_without_a_key_for_secrets_there_are_no_webhooks(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(deliver=False, webhooks_secret_key=None)
    webhook = "wh_" + "0" * 20
    assert desk.ask("GET", status=501) == "NOT_CONFIGURED"
    assert desk.ask("POST", body={"url": "https://127.0.0.1/"}, status=501) == "NOT_CONFIGURED"
    assert desk.ask("POST", f"/{webhook}/test", status=501) == "NOT_CONFIGURED"


@pytest.mark.promise("S-04")
def test_nothing_that_is_secret_is_kept_in_the_clear_or_logged(
    desk: Desk, receiver: Receiver, seed: Seed, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        receiver.answer = lambda _: 410
        webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1200)
        until(lambda: desk.one(webhook)["state"] == "disabled")
    assert desk.one(webhook)["url"] == f"http://127.0.0.1:{receiver.port}/hook?…"
    assert "secret" not in desk.one(webhook)
    row = seed.execute("SELECT w::text FROM gapless.webhooks w").fetchone()
    assert row is not None
    for text in (
        row[0],
        bytes.fromhex("".join(c for c in row[0] if c in "0123456789abcdef")[:0]).decode(),
        caplog.text,
    ):
        assert "query-secret" not in text
        assert (receiver.secret or "")[6:] not in text
    sealed = seed.execute("SELECT url, secret FROM gapless.webhooks").fetchone()
    assert sealed is not None
    assert b"query-secret" not in bytes(sealed[0])


def test_another_key_for_secrets_is_said_and_not_guessed(make_desk: Callable[..., Desk], receiver: Receiver) -> None:
    first = make_desk(deliver=False)
    webhook = first.subscribe(contract="usdc", event="Transfer", from_block=1200)
    second = make_desk(webhooks_secret_key="f" * 32)
    until(lambda: "WEBHOOKS_SECRET_KEY" in (first.one(webhook)["reason"] or ""))
    assert receiver.attempts == []
    del second


def test_the_document_is_kept_by_whoever_has_a_key(make_desk: Callable[..., Desk], subtests: Any) -> None:
    """schemathesis, as for all paths, but let in."""
    desk = make_desk(deliver=False, webhooks_per_key=1000)
    webhook = desk.subscribe(contract="usdc")
    document = schemathesis.openapi.from_wsgi("/openapi.json", desk.client.http.app)
    for operation in (found.ok() for found in document.include(path_regex="^/v1/webhooks").get_all_operations()):
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @FUZZ
            def ask(case: Any) -> None:
                if case.path_parameters and case.method.lower() != "delete":
                    case.path_parameters["webhook"] = webhook
                case.call_and_validate(checks=CHECKS, headers={"Accept-Encoding": "identity", **desk.headers})

            with subtests.test(operation=operation.label, mode=mode.name), suppress(Unsatisfiable):
                ask()


def test_old_attempts_are_forgotten(desk: Desk, receiver: Receiver, seed: Seed, world_url: str) -> None:
    webhook = desk.subscribe(contract="usdc", event="Transfer", from_block=1200, batch=1)
    until(lambda: len(desk.attempts(webhook)) == 2)
    seed.execute("UPDATE gapless.webhook_deliveries SET at = now() - interval '8 days' WHERE message_id LIKE '%_1'")
    pool = Database(world_url, size=1, statement_timeout=5, read_only=False)
    pool.open()
    store = Store(pool, "anybody")
    assert (store.prune(7), store.prune(7)) == (1, 0)
    pool.close()
    assert [attempt["message_id"] for attempt in desk.attempts(webhook)] == [f"msg_{webhook[3:]}_2"]


@pytest.mark.promise("S-15")
def test_an_owner_has_half_of_the_deliveries(seed: Seed, world_url: str) -> None:
    for owner, count in (("key 1", 6), ("key 2", 2)):
        for number in range(count):
            seed.execute(
                "INSERT INTO gapless.webhooks (id, owner, url, host, secret, chain_id, filters, finality, batch, "
                "position, due_at) VALUES (%s, %s, 'x', 'x', 'x', 1, '{}', 'latest', 1, '0-0', "
                "now() - %s * interval '1 second')",
                (f"wh_{owner[4:]}{number}", owner, 100 - number if owner == "key 1" else 1),
            )
    pool = Database(world_url, size=1, statement_timeout=5, read_only=False)
    pool.open()
    one, other = Store(pool, "one"), Store(pool, "other")
    assert sorted(claim.webhook for claim in one.claim(4, 60, share=2)) == ["wh_10", "wh_11", "wh_20", "wh_21"]
    assert one.claim(4, 60, share=2) == []
    one.let_go(["wh_10"])
    assert [claim.webhook for claim in one.claim(4, 60, share=2)] == ["wh_10"]
    assert len(other.claim(4, 60, share=2)) == 2  # each process has threads of its own
    pool.close()


def test_where_it_goes_can_change_and_is_judged(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(deliver=False)
    webhook = desk.subscribe(contract="usdc")
    assert desk.ask("PATCH", f"/{webhook}", {"url": "https://10.0.0.1/"}, status=400) == "INVALID_PARAMETER"
    assert desk.ask("PATCH", f"/{webhook}", {"url": "https://127.0.0.2/?a=b"})["url"] == "https://127.0.0.2/?…"


ENVIRONMENT = {
    name.upper(): str(value) for name, value in {**SETTINGS, "webhooks_retry_delays": ",".join(["0.1"] * 100)}.items()
}


def post(port: int, key: str, path: str, body: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    answer = parsed(response.read())
    connection.close()
    assert response.status == 201, answer
    return answer["data"]


@pytest.mark.promise("L-04")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_in_the_middle_loses_nothing(
    url: str, make_key: Callable[..., tuple[int, str]], receiver: Receiver, how: signal.Signals
) -> None:
    key = make_key()[1]
    body = {"url": receiver.url, "chain": "ethereum", "contract": "usdc", "event": "Transfer", "batch": 4}
    receiver.answer = lambda _: time.sleep(0.05) or 200
    with running(url, **ENVIRONMENT) as server:
        made = post(server.port, key, "/v1/webhooks", {**body, "from_block": 1150})
        receiver.secret = made["secret"]
        until(lambda: len(receiver.attempts) > 5)
        server.process.send_signal(how)
        server.process.wait(20)
    assert len(receiver.places()) < len(transfers(1150, world.FINALIZED))
    with running(url, **ENVIRONMENT):
        until(lambda: receiver.places() == transfers(1150, world.FINALIZED), seconds=60)


@pytest.mark.promise("L-05")
def test_two_processes_deliver_once(url: str, make_key: Callable[..., tuple[int, str]], receiver: Receiver) -> None:
    key = make_key()[1]
    with running(url, **ENVIRONMENT) as first, running(url, **ENVIRONMENT):
        body = {"url": receiver.url, "chain": "ethereum", "contract": "usdc", "event": "Transfer", "batch": 2}
        receiver.secret = post(first.port, key, "/v1/webhooks", {**body, "from_block": 1150})["secret"]
        until(lambda: receiver.places() == transfers(1150, world.FINALIZED), seconds=60)
        time.sleep(0.5)
    assert len(receiver.attempts) == len(receiver.messages())
