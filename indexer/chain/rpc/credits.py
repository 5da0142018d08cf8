"""Paying for what is sent to an endpoint, before it is sent.

What a request costs is taken from the endpoint's account. What history asks waits there until it may be spent, or goes
to another endpoint that has credits; all else is refused where nothing is left, and asked elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from indexer.chain.records.errors import CreditsError
from indexer.chain.records.messages import Call

if TYPE_CHECKING:
    from indexer.chain.rpc.config import EndpointConfig, RequestContext

SPENT: Final = "its credits_per_day are spent; it is asked again after 00:00 UTC"

LONG_WAIT: Final = 1.0
"""Seconds for which history waits at an endpoint while another has credits."""

_LOOK_AGAIN = 5.0


class CreditGate:
    """The way to one endpoint's account. Thread-safe.

    Args:
        config: the endpoint.
        sleep: sleeps for seconds.
    """

    def __init__(self, config: "EndpointConfig", sleep: Callable[[float], object]) -> None:
        self._prices = config.prices
        self._account = config.credits
        self._host = config.host
        self._sleep = sleep

    def pay(self, calls: Sequence[Call], context: "RequestContext") -> None:
        """Takes the credits of a request; history waits for them.

        Args:
            calls: what is to be sent.
            context: on whose account.

        Raises:
            CreditsError: nothing is left, or another endpoint has credits now.
            Stopped: the caller wants it no more.
        """
        if self._account is None:
            return
        cost = self._prices.of(call.method for call in calls)
        while (wait := self._account.take(cost, history=context.history)) > 0:
            if not context.history or (wait > LONG_WAIT and context.elsewhere is not None and context.elsewhere()):
                raise CreditsError(SPENT, host=self._host)
            wait = min(wait, _LOOK_AGAIN)
            context.pause(wait, self._sleep)
            context.waited += wait

    def delay(self, *, history: bool) -> float:
        """Seconds for which nothing is to be had, as far as is known."""
        return 0.0 if self._account is None else self._account.delay(history=history)

    @property
    def is_spent(self) -> bool:
        """Whether nothing may be asked any more today, as far as is known."""
        return self.delay(history=False) > 0

    def largest_batch(self) -> int | None:
        """The most calls of a batch, so that none is dearer than what is given at once; None: any number."""
        most = None if self._account is None else self._account.most_at_once
        return None if most is None else max(1, most // max(1, self._prices.dearest))

    def close(self) -> None:
        """Closes the account; it may still be used."""
        if self._account is not None:
            self._account.close()
