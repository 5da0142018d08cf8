"""What is sent to an endpoint is paid for first; who waits for credits, and who goes elsewhere."""

from __future__ import annotations

import threading

import pytest

from indexer.chain.reads.transactions import DetailsRequest
from indexer.chain.records.errors import NoEndpointError, Stopped
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call
from indexer.chain.rpc.config import EndpointConfig, RequestContext
from indexer.chain.rpc.credit_prices import ONE_EACH, PriceList, price_list
from indexer.chain.rpc.credits import CreditGate
from tests.providers.history import block_hash


class Account:
    """So much for the head, and so much for history, which gets it anew after a time."""

    most_at_once = None

    def __init__(self, head=0, history=0, *, clock=lambda: 0.0, more_at=float("inf")):
        self.left = {False: head, True: history}
        self.taken = {False: 0, True: 0}
        self.clock = clock
        self.more_at = more_at
        self.lock = threading.Lock()

    def take(self, cost, *, history):
        with self.lock:
            if cost <= self.left[history] or (history and self.clock() >= self.more_at):
                self.left[history] -= cost
                self.taken[history] += cost
                return 0.0
        return 60.0

    def delay(self, *, history):
        return 0.0 if self.left[history] > 0 or (history and self.clock() >= self.more_at) else 60.0

    def close(self):
        pass


def calls_of(node):
    return sum(node.counts.values())


def test_each_call_of_a_batch_counts_whatever_becomes_of_it(serve, connect):
    node, account = serve(), Account(10**6, 10**6)
    client = connect(EndpointConfig(node.url, prices=PriceList(3, {"eth_getBlockByNumber": 7}), credits=account))
    client.headers(range(40))
    assert account.taken == {False: 40 * 7, True: 0}
    list(client.scan([(0, 1999)], LogFilter(), in_flight=2))
    assert account.taken[True] + account.taken[False] == 7 * node.counts["eth_getBlockByNumber"] + 3 * (
        calls_of(node) - node.counts["eth_getBlockByNumber"]
    )


def test_the_head_goes_elsewhere_when_the_budget_is_spent_and_says_so_where_it_cannot(serve, connect):
    node, other = serve(), serve()
    spent = EndpointConfig(node.url, credits=Account(2, 0))
    client = connect(spent, EndpointConfig(other.url, priority=1))
    for _ in range(5):
        assert client.head().number == 1999
    assert calls_of(node) == 2
    assert client.describe()[0].state == "healthy", "it has not failed"
    client = connect(EndpointConfig(node.url, credits=Account(0, 10**6)))
    with pytest.raises(NoEndpointError, match=r"credits_per_day are spent.*00:00 UTC"):
        client.head()
    assert calls_of(node) == 2, "nothing was sent"


def test_history_waits_for_credits_and_fails_nothing(serve, connect, clock):
    node = serve()
    account = Account(10**6, 3, clock=clock, more_at=clock() + 9 * 3600)
    client = connect(EndpointConfig(node.url, credits=account), max_blocks=100)
    asked_before = []
    node.before = lambda _, calls: asked_before.extend(calls if clock() < account.more_at else ())
    chunks = list(client.scan([(0, 1999)], LogFilter(), in_flight=4))
    assert (chunks[0].first, chunks[-1].last) == (0, 1999)
    assert len(asked_before) == 3
    assert clock() >= account.more_at


def test_history_that_waits_ends_when_it_is_stopped(clock):
    gate = CreditGate(EndpointConfig("http://node.invalid", credits=Account()), clock.sleep)
    stop_at = clock() + 100
    with pytest.raises(Stopped):
        gate.pay([Call("eth_getLogs", ())], RequestContext(history=True, stopped=lambda: clock() > stop_at))


def test_history_goes_where_there_are_credits(serve, connect, clock):
    node, other = serve(), serve()
    first, second = Account(10**6, 2, clock=clock), Account(10**6, 10**6)
    client = connect(
        EndpointConfig(node.url, credits=first), EndpointConfig(other.url, priority=1, credits=second), max_blocks=100
    )
    assert [chunk.last for chunk in client.scan([(0, 1999)], LogFilter(), in_flight=2)][-1] == 1999
    assert first.taken[True] == 2
    assert second.taken[True] > 0
    assert clock() < 1000 + 3600, "nothing waited for the next day"


def test_no_batch_is_dearer_than_what_is_given_at_once(serve, connect):
    node, account = serve(), Account(10**6, 10**6)
    account.most_at_once = 300
    sizes = []
    node.before = lambda _, calls: sizes.append(len(calls))
    connect(EndpointConfig(node.url, prices=PriceList(20), credits=account)).headers(range(100))
    assert max(sizes) == 15


@pytest.mark.parametrize(
    ("url", "method", "cost"),
    [
        ("https://eth-mainnet.g.alchemy.com/v2/key", "eth_getLogs", 60),
        ("https://eth-mainnet.g.alchemy.com/v2/key", "eth_chainId", 0),
        ("https://eth-mainnet.g.alchemy.com/v2/key", "eth_unheardOf", 60),
        ("https://MAINNET.infura.io./v3/key", "eth_getLogs", 255),
        ("https://mainnet.infura.io/v3/key", "eth_getBlockReceipts", 1000),
        ("https://a-b.quiknode.pro/key", "eth_call", 20),
        ("https://ethereum-mainnet.core.chainstack.com/key", "eth_getLogs", 2),
        ("https://rpc.ankr.com/eth/key", "eth_getBlockByNumber", 200),
        ("https://notalchemy.com/v2", "eth_getLogs", 1),
        ("https://alchemy.com.example/v2", "eth_getLogs", 1),
        ("http://127.0.0.1:8545", "eth_getLogs", 1),
        ("ipc:///var/geth.ipc", "eth_getLogs", 1),
    ],
)
def test_what_a_call_costs(url, method, cost):
    assert price_list(url).of([method]) == cost


def test_the_manifests_list_takes_the_place_of_the_providers():
    own = price_list("https://eth-mainnet.g.alchemy.com/v2/key", [("default", 5), ("eth_call", 9)])
    assert (own.of(["eth_getLogs", "eth_call"]), own.provider) == (14, "Alchemy")
    assert price_list("http://node.invalid") == ONE_EACH


def test_what_include_names_waits_too_and_is_not_missing(serve, connect, clock):
    node = serve()
    account = Account(10**6, 2, clock=clock, more_at=clock() + 3600)
    client = connect(EndpointConfig(node.url, credits=account), batch_size=1)
    wanted = [DetailsRequest(number, bytes.fromhex(block_hash(number)[2:]), block=True) for number in range(5)]
    found = client.transaction_details(wanted)
    assert len(found.blocks) == 5
    assert not found.missing
    assert account.taken == {False: 0, True: 5}
    assert clock() >= account.more_at
