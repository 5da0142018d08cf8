"""What filling history will cost, in credits and money of each endpoint that may be asked (``gapless plan``)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from indexer.chain.rpc.credit_prices import price_list
from indexer.manifest.model import Chain
from indexer.redact import redact_url
from indexer.store.credits.budget import LEAST_RESERVE
from indexer.store.credits.usage import money


@dataclass(frozen=True, slots=True)
class CreditCost:
    """What all of it costs at one endpoint, where that one is asked alone.

    Attributes:
        host: ``https://host/***``.
        provider: whose prices these are; empty where a call counts 1, or as the manifest says.
        credits: all of it.
        money: the same, for people; empty where no price is known.
        per_day: ``credits_per_day``, or None.
        days: how many days it takes under that; None: it is not bounded.
    """

    host: str
    provider: str
    credits: int
    money: str
    per_day: int | None
    days: int | None


def cost(chain: Chain, calls: Mapping[str, int]) -> Sequence[CreditCost]:
    """Prices calls at each endpoint of a chain.

    Args:
        chain: with its endpoints; those that are asked first come first.
        calls: how many, by method.
    """
    found = []
    for one in sorted((one for one in chain.endpoints if not one.pushes), key=lambda one: one.priority):
        prices = price_list(one.url.reveal(), one.credits)
        total = sum(count * prices.of([method]) for method, count in calls.items())
        amount, currency = (Decimal(0), "") if one.price is None else (one.price.amount, one.price.currency)
        days = None
        if one.credits_per_day is not None:
            # A part of each day is the head's.
            days = math.ceil(total / (one.credits_per_day * (1 - LEAST_RESERVE)))
        found.append(
            CreditCost(
                host=redact_url(one.url.reveal()),
                provider=prices.provider,
                credits=total,
                money="" if one.price is None else money(total, amount, currency),
                per_day=one.credits_per_day,
                days=days,
            )
        )
    return found
