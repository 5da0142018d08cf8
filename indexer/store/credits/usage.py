"""What endpoints have cost today (UTC), for status and monitoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.credits.budget import Pace

_MILLION: Final = 1_000_000

_TODAY: Final = sa.text("""
SELECT n.name AS chain, regexp_replace(d.endpoint, ' [0-9]+$', '') AS host, d.position, d.head, d.history, d.budget,
       d.pace, d.price, d.currency
FROM gapless.credit_days d JOIN gapless.chains n ON n.chain_id = d.chain_id
WHERE n.active AND d.day = (now() AT TIME ZONE 'UTC')::date
ORDER BY d.chain_id, d.position, d.endpoint
""")


@dataclass(frozen=True, slots=True)
class CreditUse:
    """One endpoint's day.

    Attributes:
        chain: its chain's name.
        host: ``https://host/***``.
        position: its place among the chain's endpoints that are asked.
        head: credits for all but history.
        history: credits for history.
        budget: ``credits_per_day``, or None.
        pace: how history gets on.
        price: of a million credits, or None; in ``currency``.
    """

    chain: str
    host: str
    position: int
    head: int
    history: int
    budget: int | None
    pace: Pace
    price: Decimal | None
    currency: str | None

    @property
    def used(self) -> int:
        """All credits."""
        return self.head + self.history

    @property
    def money(self) -> str:
        """What they cost, for people; empty where no price is known."""
        return money(self.used, self.price, self.currency)

    @property
    def remark(self) -> str:
        """What is kept back, for people."""
        if self.budget is None:
            return ""
        return {
            "full": "",
            "slowed": "history is slowed by credits_per_day",
            "stopped": "history waits: the rest of credits_per_day is kept for the head",
            "spent": "credits_per_day are spent: it is asked nothing until 00:00 UTC",
        }[self.pace]


def money(amount: int, price: Decimal | None, currency: str | None) -> str:
    """What so many credits cost, for people; empty where no price is known."""
    return "" if price is None else f"{amount * price / _MILLION:,.2f} {currency}"


def today(connection: Connection) -> Sequence[CreditUse]:
    """What was spent today at the endpoints of active chains."""
    return [CreditUse(**row._mapping) for row in connection.execute(_TODAY)]
