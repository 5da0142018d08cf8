"""What filling history costs at each endpoint."""

from __future__ import annotations

from decimal import Decimal

from indexer.manifest.model import Chain, CreditPrice, RpcEndpoint
from indexer.redact import SecretUrl
from indexer.sync.history.estimate_credits import cost

CALLS = {"eth_getLogs": 1_000, "eth_getBlockByNumber": 2_000}


def test_each_endpoint_has_its_own_prices_money_and_days() -> None:
    alchemy = "https://eth-mainnet.g.alchemy.com/v2/SECRETKEY"
    endpoints = (
        RpcEndpoint(SecretUrl("http://127.0.0.1:8545"), priority=1),
        RpcEndpoint(SecretUrl(alchemy), credits_per_day=20_000, price=CreditPrice(Decimal("0.40"), "USD")),
        RpcEndpoint(SecretUrl("http://other.example/SECRETKEY"), priority=2, credits=(("default", 7),)),
        RpcEndpoint(SecretUrl("ws://127.0.0.1:8546")),
    )
    first, second, third = cost(Chain("ethereum", 1, endpoints), CALLS)
    assert (first.host, first.provider) == ("https://eth-mainnet.g.alchemy.com/***", "Alchemy")
    assert (first.credits, first.money, first.per_day, first.days) == (100_000, "0.04 USD", 20_000, 6)
    assert (second.credits, second.money, second.days) == (3_000, "", None)
    assert third.credits == 21_000
    assert "SECRETKEY" not in str((first, second, third))
