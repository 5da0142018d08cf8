"""``credits_per_day``: what all processes together spend at an endpoint in a day, counted at an imitated node."""

from __future__ import annotations

import contextlib
import logging
import random
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
from prometheus_client import generate_latest

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import CreditsError, NoEndpointError, ProviderError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.errors import GaplessError
from indexer.service import jobs, metrics
from indexer.service.chain_at_work import Network
from indexer.settings import Settings
from indexer.store import status
from indexer.store.credits.accounts import ASK_AGAIN_AFTER, EndpointCredits
from indexer.store.credits.days import KEPT_DAYS, AccountKey, CreditDays
from indexer.store.database import create_engine
from indexer.sync.setup import network
from tests.integration.test_call_permits import manifest
from tests.providers.history import make_history
from tests.providers.node import CHAIN_ID, Fragments, Node, serving
from tests.ready import ReadyProcess

MORNING = datetime(2031, 3, 5, 6, tzinfo=UTC).timestamp()
NODE = "http://node/*** 1"
CHAIN = "INSERT INTO gapless.chains (chain_id, name, state, active) VALUES (%s, 'sim', 'following', true)"

ASKING = """
import sys
from indexer.chain.client import ChainClient
from indexer.chain.records.errors import ProviderError
from indexer.chain.rpc.config import EndpointConfig
from indexer.store.credits.accounts import EndpointCredits
from indexer.store.credits.days import AccountKey, CreditDays
from indexer.store.database import create_engine

url, database, budget, now = sys.argv[1:]
engine = create_engine(database)
days = CreditDays(engine, clock=lambda: float(now))
account = EndpointCredits(days, AccountKey(424242, "http://node/*** 1", 0, int(budget)))
client = ChainClient("sim", 424242, [EndpointConfig(url, credits=account)])
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        client.headers([1])
except ProviderError as error:
    print(error, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def engine(migrated_url):
    engine = create_engine(migrated_url)
    yield engine
    engine.dispose()


class Clock:
    """A clock that each sleep moves on; real time moves it, too."""

    def __init__(self, now=MORNING):
        self.now = now
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            return self.now

    def sleep(self, seconds):
        with self.lock:
            self.now += seconds


def rows(url, what="day, head, history, pace"):
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT {what} FROM gapless.credit_days ORDER BY day, endpoint").fetchall()


@pytest.mark.promise("N-12")
def test_a_backfill_stays_inside_its_budget_day_by_day_and_the_head_goes_on(engine, migrated_url, caplog):
    budget, clock = 30, Clock()
    account = EndpointCredits(CreditDays(engine, clock), AccountKey(CHAIN_ID, NODE, 0, budget))
    caplog.set_level(logging.INFO, logger="indexer.store.credits")
    node = Node(Fragments(make_history(400, 100)))
    with serving(node):
        client = ChainClient(
            "sim",
            CHAIN_ID,
            [EndpointConfig(node.url, credits=account)],
            settings=ClientSettings(max_blocks=10, start_blocks=10),
            sleep=lambda seconds: clock.sleep(6000 * seconds),
            random=random.Random(1),
            spawn=lambda job: job(),
        )
        covered, looks = 0, 0
        for chunk in client.scan([(0, 399)], LogFilter(), in_flight=2):
            assert chunk.first == covered
            covered = chunk.last + 1
            if looks < 2 + (clock() - MORNING) // 43_200:
                client.head()
                looks += 1
        client.close()
        asked = sum(node.counts.values())
    assert covered == 400, "it went on, day after day"
    days = rows(migrated_url)
    assert sum(head + history for _, head, history, _ in days) == asked, "what the node saw was paid, and no more"
    assert all(head + history <= budget for _, head, history, _ in days)
    assert len(days) >= asked / budget
    assert sum(head for _, head, *_ in days) >= looks
    told = [one.message for one in caplog.records]
    slowed = [one for one in told if "goes on more slowly" in one]
    assert 1 <= len(slowed) <= len(days), "once a day, not each call"


@pytest.mark.promise("N-12")
def test_two_processes_together_stay_inside_and_one_that_is_killed_loses_little(engine, migrated_url):
    budget = 100
    node = Node(Fragments(make_history(20, 1)))
    with serving(node):
        command = [sys.executable, "-c", ASKING, node.url, migrated_url, str(budget), str(MORNING)]
        with ReadyProcess(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "ready\n"
            account = EndpointCredits(CreditDays(engine, Clock()), AccountKey(CHAIN_ID, NODE, 0, budget))
            client = ChainClient("sim", CHAIN_ID, [EndpointConfig(node.url, credits=account)])
            other.stdin.write("go\n")
            other.stdin.flush()
            mine = 0
            with pytest.raises(ProviderError, match="credits_per_day are spent"):  # noqa: PT012 - as often as it may
                while True:
                    client.headers([1])
                    mine += 1
            assert "credits_per_day are spent" in other.stdout.readline()
            other.kill()
            other.wait(60)
        client.close()
        asked = sum(node.counts.values())
    ((_, head, history, pace),) = rows(migrated_url)
    assert asked <= head + history <= budget
    assert asked >= 0.98 * budget, "nearly all of it was to be had"
    assert 0 < mine < asked, "both of them asked"
    assert pace == "spent"


@pytest.mark.promise("N-12")
def test_what_another_process_took_meanwhile_is_not_given_twice(engine, migrated_url):
    day, mine, others = datetime.fromtimestamp(MORNING, UTC).date(), [], []
    key = AccountKey(1, NODE, 0, 100)
    other = CreditDays(engine, Clock())
    other.take(key, day, 40, 1, 0, history=False)

    def clock():
        if mine and not others:  # between the look at the row and its change
            others.append(other.take(key, day, 40, 1, 0, history=False).credits)
        return MORNING

    days = CreditDays(engine, clock)
    mine.append(days)
    assert days.take(key, day, 40, 1, 0, history=False).credits == 0
    assert others == [40]
    assert rows(migrated_url, "head, pace") == [(80, "spent")]
    for one in (days, other):
        one.close()


@pytest.mark.promise("N-12")
def test_without_postgres_history_waits_and_the_head_is_counted_later(engine, migrated_url, caplog):
    clock = Clock()
    account = EndpointCredits(CreditDays(engine, clock), AccountKey(1, NODE, 0, 1000))
    assert account.take(5, history=False) == account.take(7, history=True) == 0
    account.close()
    assert rows(migrated_url, "head, history") == [(5, 7)]
    server, _, name = migrated_url.rpartition("/")

    def let(admit):
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {admit}')
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    caplog.set_level(logging.INFO)
    let("false")
    try:
        assert account.take(9, history=True) == ASK_AGAIN_AFTER
        assert [account.take(20, history=False) for _ in range(3)] == [0, 0, 0]
    finally:
        let("true")
    (told,) = [one.message for one in caplog.records if "Postgres does not tell" in one.message]
    assert NODE in told
    clock.sleep(ASK_AGAIN_AFTER + 1)
    assert account.take(1, history=False) == 0
    account.close()
    assert rows(migrated_url, "head, history") == [(66, 7)]


def test_what_is_unbounded_is_counted_too_in_one_statement_and_survives(engine, migrated_url):
    clock = Clock()
    days = CreditDays(engine, clock)
    accounts = [EndpointCredits(days, AccountKey(1, f"http://node/*** {place}", place)) for place in range(300)]
    for account in accounts:
        account.take(20, history=False)
        account.take(60, history=True)
    assert rows(migrated_url) == [], "a few seconds are gathered"
    clock.sleep(6)
    accounts[0].take(60, history=True)
    found = rows(migrated_url, "head, history")
    assert (len(found), sum(head for head, _ in found), sum(history for _, history in found)) == (300, 6000, 18060)
    accounts[0].take(1, history=False)
    accounts[0].close()
    again = EndpointCredits(CreditDays(engine, clock), AccountKey(1, "http://node/*** 0", 0))
    again.take(3, history=False)
    again.close()
    assert rows(migrated_url, "head, history")[0] == (24, 120)


def test_days_are_kept_for_a_bounded_time(engine, migrated_url):
    clock = Clock()
    for _ in range(2):
        account = EndpointCredits(CreditDays(engine, clock), AccountKey(1, NODE, 0, 100))
        account.take(5, history=False)
        account.close()
        clock.sleep((KEPT_DAYS + 1) * 86_400)
    assert rows(migrated_url, "day") == [(date(2031, 3, 5) + timedelta(days=KEPT_DAYS + 1),)]


def test_a_day_that_is_over_gets_back_what_was_not_spent(engine, migrated_url):
    clock = Clock()
    account = EndpointCredits(CreditDays(engine, clock), AccountKey(1, NODE, 0, 10_000))
    for _ in range(20):
        account.take(1, history=True)
    assert rows(migrated_url, "history")[0][0] > 20, "some more are taken than are spent"
    clock.sleep(86_400)
    account.take(1, history=True)
    account.close()
    assert rows(migrated_url, "history") == [(20,), (1,)]


def test_a_database_that_was_not_migrated_counts_nothing(database_url):
    engine = create_engine(database_url)
    account = EndpointCredits(CreditDays(engine, Clock()), AccountKey(1, NODE, 0, 10))
    assert [account.take(8, history=kind) for kind in (False, True, False)] == [0, 0, 0]
    account.close()
    engine.dispose()


def test_a_chain_whose_head_has_no_credits_says_so(engine, migrated_url, tmp_path):
    node = Node(Fragments(make_history(400, 100)))
    with serving(node):
        _, chain = manifest(tmp_path, ceiling=", credits_per_day = 2", url=node.url)
        with psycopg.connect(migrated_url) as connection:
            connection.execute(CHAIN, (CHAIN_ID,))
        one = Network.connect(engine, chain, Settings())
        for _ in range(4):
            with contextlib.suppress(GaplessError):
                jobs.follow(SimpleNamespace(engine=engine), one)
        asked = sum(node.counts.values())
        one.close(1.0)
    assert asked == 2
    with engine.begin() as connection:
        (shown,) = status.load_overview(connection).chains
    assert shown.state == "waiting"
    assert "its credits_per_day are spent; it is asked again after 00:00 UTC" in shown.reason


def test_status_and_metrics_show_the_day(engine, migrated_url, tmp_path):
    with psycopg.connect(migrated_url) as connection:
        connection.execute(CHAIN, (CHAIN_ID,))
    more = ', credits_per_day = 10, credits = { default = 4 }, price_per_million_credits = "500000 EUR"'
    _, chain = manifest(tmp_path, ceiling=more)
    client = network.connect(chain, Settings(), engine)
    endpoint = client.pool.endpoints[0]
    for _ in range(2):
        with pytest.raises(ProviderError, match="no connection"):
            endpoint.ask_one(Call("eth_chainId", ()), RequestContext())
    client.close()
    with engine.begin() as connection:
        (shown,) = status.load_overview(connection).credits
    assert (shown["used"], shown["head"], shown["budget"], shown["money"]) == (8, 8, 10, "4.00 EUR")
    for error in (CreditsError, NoEndpointError):
        with pytest.raises(error, match="credits_per_day are spent"):
            client.head()
    with engine.begin() as connection:
        (shown,) = status.load_overview(connection).credits
    assert "asked nothing until 00:00 UTC" in shown["remark"]
    text = generate_latest(metrics.registry(engine, dict)).decode()
    labels = 'chain="sim",endpoint="0",for="head",host="http://node.invalid/***"'
    assert f"gapless_endpoint_credits_today{{{labels}}} 8.0" in text
    assert 'pace="spent"} 1.0' in text
    assert "a-key" not in text + str(shown)
    client.close()
