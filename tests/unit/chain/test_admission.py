"""Whoever waits for an endpoint's pace is served in the order of arrival."""

from __future__ import annotations

import threading
import time

from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.chain.rpc.endpoint import Endpoint


def test_who_comes_later_does_not_overtake_who_waits():
    now = [0.0]
    order = []
    later = threading.Thread(target=lambda: ask("later"), daemon=True)

    def sleep(seconds):
        now[0] += seconds
        if now[0] >= 1.0 and later.ident is None:
            # It comes at the very moment at which one more may be asked.
            later.start()
            later.join(0.3)

    config = EndpointConfig("http://node.invalid", requests_per_second=1.0)
    endpoint = Endpoint(config, ClientSettings(), clock=lambda: now[0], sleep=sleep)
    endpoint.rate.window.size = 16

    def ask(name):
        endpoint.admission.wait(1, RequestContext())
        order.append(name)

    ask("first")
    ask("waiting")
    later.join(10)
    assert order == ["first", "waiting", "later"]


def test_what_is_urgent_stands_in_front_of_history():
    endpoint = Endpoint(EndpointConfig("http://node.invalid", max_concurrency=1), ClientSettings())
    order = []

    def ask(name, urgent=False):
        endpoint.admission.wait(1, RequestContext(urgent=urgent))
        order.append(name)
        endpoint.admission.begin(endpoint).ended()

    endpoint.admission.wait(1, RequestContext())  # the one place
    under_way = endpoint.admission.begin(endpoint)
    threads = []
    for waiting, name in enumerate(["history", "more history", "head"], 1):
        threads.append(threading.Thread(target=ask, args=(name, name == "head"), daemon=True))
        threads[-1].start()
        deadline = time.monotonic() + 10
        while endpoint.admission.waiting < waiting and time.monotonic() < deadline:
            time.sleep(0.001)
    under_way.ended()
    for thread in threads:
        thread.join(10)
    assert order == ["head", "history", "more history"]


class Permits:
    """Other processes have reserved some time already."""

    def __init__(self, waits=()):
        self.taken = []
        self.waits = list(waits)

    def take(self, calls):
        self.taken.append(calls)
        return self.waits.pop(0) if self.waits else 0.0

    def close(self):
        pass


def shared(permits, ceiling=10.0):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    config = EndpointConfig("http://node.invalid", requests_per_second=ceiling, permits=permits)
    return now, Endpoint(config, ClientSettings(), clock=lambda: now[0], sleep=sleep)


def test_a_shared_ceiling_is_reserved_for_each_request_and_waited_for():
    permits = Permits([0.0, 2.5])
    now, endpoint = shared(permits)
    endpoint.admission.wait(1, RequestContext())
    assert now == [0.0]
    endpoint.admission.wait(5, RequestContext())
    assert 2.5 <= now[0] < 2.7
    assert permits.taken == [1, 5]


def test_calls_are_reserved_for_those_who_wait_too_and_for_a_moment_only():
    permits = Permits()
    now, endpoint = shared(permits, ceiling=64.0)
    rate = endpoint.rate
    assert [rate.to_reserve(calls, waiting) for calls, waiting in ((1, 1), (1, 3), (1, 9), (20, 9))] == [1, 3, 4, 20]
    rate.reserved(now[0], 3, 0.0)
    endpoint.admission.wait(1, RequestContext())
    endpoint.admission.wait(1, RequestContext())
    assert permits.taken == [], "they were reserved"
    now[0] += 1.0
    endpoint.admission.wait(1, RequestContext())
    assert permits.taken == [1], "what is late would come beside what others ask now"
