"""Whoever waits for an endpoint's pace is served in the order of arrival."""

from __future__ import annotations

import threading

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
    endpoint.rate.concurrency = 16.0

    def ask(name):
        endpoint.admission.wait(1, RequestContext())
        order.append(name)

    ask("first")
    ask("waiting")
    later.join(10)
    assert order == ["first", "waiting", "later"]
