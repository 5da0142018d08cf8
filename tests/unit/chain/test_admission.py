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
