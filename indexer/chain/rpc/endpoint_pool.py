"""The endpoints of a chain: which one to ask, and what is said when that changes.

Order of preference: one that may answer at all, healthy before unknown before unhealthy, not behind the block in
question, not ordered to wait, lower priority number, least busy. Questions about the head stay with one endpoint while
it does well, so that two nodes on two branches are not taken for reorgs.
"""

import logging
import random as random_module
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from indexer.chain.records.errors import (
    CreditsError,
    FatalError,
    LaggingError,
    ProviderError,
    RangeError,
    RateError,
    TransientError,
)
from indexer.chain.records.messages import Call, parse_header
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.chain.rpc.credits import LONG_WAIT
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.no_endpoint import nobody

T = TypeVar("T")

logger = logging.getLogger(__name__)

_GET_BLOCK = "eth_getBlockByNumber"
_SAY_AGAIN_AFTER = 60.0
_FIRST_BAN = 30.0
_LONGEST_BAN = 1800.0
# What needs the state at a block, and for how many blocks a node that is no archive keeps it (geth's default).
_STATE_METHODS = frozenset({"eth_call", "eth_getCode", "eth_getBalance", "eth_getStorageAt"})
_STATE_KEPT = 128


@dataclass(slots=True)
class _Ban:
    """How an endpoint that is not used may come back, and when it is asked next."""

    agrees: Callable[[Endpoint], bool]
    due: float
    pause: float = _FIRST_BAN


class EndpointPool:
    """All endpoints of one chain. Thread-safe.

    Args:
        name: the chain's name in the manifest, for messages.
        endpoints: their configuration, at least one.
        settings: the chain's settings.
        clock, sleep, random, spawn: as of the :class:`~indexer.chain.rpc.requester.Requester`.
    """

    def __init__(
        self,
        name: str,
        endpoints: Sequence[EndpointConfig],
        settings: ClientSettings,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        random: random_module.Random,
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        if not endpoints:
            raise ValueError(f"chain {name} has no endpoint")
        self.name = name
        self.endpoints = [Endpoint(config, settings, clock=clock, sleep=sleep, random=random) for config in endpoints]
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._current = self.endpoints[0]
        self._said: dict[tuple[str, str], float] = {}
        self._bans: dict[Endpoint, _Ban] = {}
        self._spawn = spawn
        self._surveyed_at = float("-inf")

    @property
    def best_head(self) -> int | None:
        """The newest block that any endpoint has shown."""
        newest = max((e.health.seen for e in self.endpoints if not e.health.is_banned), default=-1)
        return newest if newest >= 0 else None

    @property
    def latency(self) -> float | None:
        """Seconds that a request to the endpoint in use usually takes, or None before the first."""
        return self._current.latency

    def choose(
        self,
        method: str,
        block: int | None = None,
        *,
        oldest: int | None = None,
        failed: Collection[Endpoint] = (),
        sticky: bool = True,
        history: bool = False,
    ) -> Endpoint:
        """The endpoint to ask.

        Args:
            method: what it is to be asked.
            block: the newest block that the answer needs, where there is one.
            oldest: the oldest block that it needs, where that is another one.
            failed: endpoints that have just failed at this very question: the others come first.
            sticky: stay with the endpoint in use while none is clearly better; else spread the load.
            history: it is asked for history, which waits for credits; all else goes where there are some.

        Raises:
            NoEndpointError: every endpoint has refused this for good.
        """
        now = self._clock()
        oldest = block if oldest is None else oldest
        able = [e for e in self.endpoints if self._able(e, method, oldest, now) and (history or not e.credits.is_spent)]
        if not able:
            lacking = self._lacks_up_to(method, now)
            if block is not None and oldest is not None and lacking is not None and oldest <= lacking < block:
                text = f"{method}: history is kept only above block {lacking:,}"
                raise RangeError(text, limit="history", suggested=(oldest, lacking))
            raise nobody(self.name, self.endpoints, method, block, now)

        def merit(endpoint: Endpoint) -> tuple[bool, bool, bool, bool, bool, int]:
            ill = endpoint.health.state == "unhealthy"
            waits = max(endpoint.rate.delay(now), endpoint.credits.delay(history=history)) > LONG_WAIT
            behind = self.lags(endpoint, block)
            return (ill, behind, endpoint in failed, endpoint.admission.hanging > 0, waits, endpoint.config.priority)

        merits = [merit(endpoint) for endpoint in able]  # once: other threads learn of endpoints meanwhile
        equal = [endpoint for endpoint, its in zip(able, merits, strict=True) if its == min(merits)]
        idle = min(equal, key=lambda one: (one.rate.under_way / one.rate.window.size, one.latency or 0.0))
        if not sticky:
            return idle
        with self._lock:
            chosen = self._current if self._current in equal else idle
            if chosen is not self._current and not failed:
                was, self._current = self._current, chosen
                logger.info("%s: the head is read from %s now, no longer from %s", self.name, chosen.host, was.host)
        return chosen

    def promising(
        self,
        method: str,
        block: int | None,
        failed: Collection[Endpoint],
        oldest: int | None = None,
        *,
        history: bool = False,
    ) -> bool:
        """Whether there is an endpoint that may well answer and has not just failed at this question."""
        now = self._clock()
        return any(
            endpoint not in failed
            and endpoint.health.state != "unhealthy"
            and self._able(endpoint, method, block if oldest is None else oldest, now)
            and not self.lags(endpoint, block)
            and endpoint.credits.delay(history=history) <= (LONG_WAIT if history else 0.0)
            for endpoint in self.endpoints
        )

    def ask(self, endpoint: Endpoint, question: Callable[[Endpoint], T], method: str, block: int | None = None) -> T:
        """Lets one endpoint answer a question, and learns from how it goes.

        Args:
            endpoint: the endpoint.
            question: asks it.
            method: the method that the question is about.
            block: the newest block that it needs.

        Raises:
            ProviderError: what the question raised.
        """
        try:
            answer = question(endpoint)
        except ProviderError as error:
            error.host = error.host or endpoint.host
            error.method = error.method or method
            self._learn(endpoint, error, method, block)
            raise
        self._answered(endpoint)
        return answer

    def probe_due(self, block: int | None, context: RequestContext) -> None:
        """Probes endpoints whose pause is over, with the very block that is about to be read.

        Args:
            block: that block, or None for the head.
            context: on whose account.
        """
        now = self._clock()
        for endpoint in self.endpoints:
            with endpoint.lock:
                if not endpoint.health.due(now):
                    continue
                endpoint.health.probing(now)
            if any(other.health.state == "healthy" for other in self.endpoints):
                # The caller need not wait for one that may hang.
                self._spawn(partial(self._glance, endpoint, block, RequestContext()))
            else:
                self._glance(endpoint, block, context)

    def survey_due(self, chosen: Endpoint) -> None:
        """Asks the endpoints not in use for their heads, when it is time to: the first time at once, then beside."""
        now = self._clock()
        with self._lock:
            if len(self.endpoints) == 1 or now - self._surveyed_at < self._settings.survey_every:
                return
            first = self._surveyed_at == float("-inf")
            self._surveyed_at = now
        if first:
            self._survey(chosen)
        else:
            self._spawn(partial(self._survey, chosen))

    def lags(self, endpoint: Endpoint, block: int | None = None) -> bool:
        """Whether the endpoint is known to lack a block; for a question about no block: to be far behind the others."""
        head, newest = endpoint.health.head, self.best_head
        if block is None:
            return head is not None and newest is not None and newest - head > self._settings.lag_blocks
        return endpoint.health.behind(block, self._clock()) or (
            head is not None and newest is not None and head < block <= newest
        )

    def _survey(self, but: Endpoint) -> None:
        for endpoint in self.endpoints:
            if endpoint is not but and not endpoint.health.is_out and endpoint.health.state != "unhealthy":
                self._glance(endpoint, None, RequestContext())
        for endpoint in self.endpoints:
            head, best = endpoint.health.head, self.best_head
            if self.lags(endpoint) and self._may_say(endpoint, "lagging"):
                logger.warning("%s: %s lags: its head is %s, the newest is %s", self.name, endpoint.host, head, best)

    def _glance(self, endpoint: Endpoint, block: int | None, context: RequestContext) -> None:
        """Asks for one header, with little patience, to learn how the endpoint does."""
        try:
            self.ask(endpoint, lambda e: self._look(e, block, context), _GET_BLOCK, block)
        except ProviderError as error:
            logger.debug("%s: a glance: %s", self.name, error)

    def ban(self, endpoint: Endpoint, reason: str, agrees: Callable[[Endpoint], bool]) -> None:
        """Asks nothing of an endpoint any more, until it serves the chain again.

        Args:
            endpoint: the endpoint.
            reason: what it serves instead, for people.
            agrees: asks it whether it serves the chain again; may raise ProviderError.
        """
        with self._lock:
            known = endpoint in self._bans
            if not known:
                self._bans[endpoint] = _Ban(agrees, self._clock() + _FIRST_BAN)
        with endpoint.lock:
            endpoint.health.banned(reason)
        if not known:
            logger.error(
                "%s: %s is not used: %s. It is asked again with growing pauses", self.name, endpoint.host, reason
            )

    def reconsider(self, *, at_once: bool = False) -> None:
        """Asks endpoints that are not used whether they serve the chain again, when it is time to.

        Args:
            at_once: it is time for all of them.
        """
        now = self._clock()
        with self._lock:
            due = [(endpoint, ban) for endpoint, ban in self._bans.items() if at_once or now >= ban.due]
            for _, ban in due:
                ban.pause = min(2 * ban.pause, _LONGEST_BAN)
                ban.due = now + ban.pause
        for endpoint, ban in due:
            try:
                agrees = ban.agrees(endpoint)
            except ProviderError as error:
                logger.debug("%s: %s", self.name, error)
                continue
            if agrees:
                with endpoint.lock:
                    endpoint.health.restored()
                with self._lock:
                    self._bans.pop(endpoint, None)
                logger.info("%s: %s serves the chain again, and is used again", self.name, endpoint.host)

    def _look(self, endpoint: Endpoint, block: int | None, context: RequestContext) -> None:
        if block is not None and endpoint.null_blocks:
            block = None  # the number may have no block, which says nothing of the endpoint
        call = Call(_GET_BLOCK, ("latest" if block is None else hex(block), False))
        header = parse_header(endpoint.ask_one(call, context, timeout=self._settings.probe_timeout))
        with endpoint.lock:
            if header is None:
                if block is not None:
                    endpoint.health.lacks(block, self._clock())
            elif block is None:
                endpoint.health.said_head(header.number)
            else:
                endpoint.health.saw(header.number)

    def _answered(self, endpoint: Endpoint) -> None:
        with endpoint.lock:
            was = endpoint.health.state
            seen_before = bool(endpoint.health.reason) or was == "unhealthy"
            changed = endpoint.health.succeeded()
            endpoint.rate.succeeded(self._clock())
        if changed and seen_before and self._may_say(endpoint, "back"):
            logger.info("%s: %s is back", self.name, endpoint.host)

    def _learn(self, endpoint: Endpoint, error: ProviderError, method: str, block: int | None) -> None:
        now = self._clock()
        match error:
            case RateError():
                slower = endpoint.slow_down(error, error.calls)
                if slower and self._may_say(endpoint, "rate"):
                    logger.warning(
                        "%s: %s says we ask too often: slowed to %.1f calls a second, %d at once",
                        *(self.name, endpoint.host, endpoint.rate.pace or 0.0, endpoint.rate.window.size),
                    )
            case CreditsError():
                pass  # it was not asked
            case LaggingError():
                with endpoint.lock:
                    if block is not None:
                        endpoint.health.lacks(block, now)
                self._answered(endpoint)
                if self._may_say(endpoint, "lagging"):
                    logger.warning("%s: %s lags: it lacks block %s", self.name, endpoint.host, block)
            case FatalError(scope="endpoint"):
                reason = f"{error} ({error.hint})" if error.hint else str(error)
                with endpoint.lock:
                    changed = endpoint.health.ended(now, reason)
                if changed:
                    logger.error("%s: %s; it is left out for now", self.name, reason)
            case FatalError():
                self._learn_refusal(endpoint, error, method, block)
            case TransientError() | RangeError(timed_out=True):
                with endpoint.lock:
                    changed = endpoint.health.failed(now, str(error))
                if changed and self._may_say(endpoint, "ill"):
                    logger.warning("%s: %s; it is left out for a while", self.name, error)
            case _:
                # Any other refusal (too large a range, a revert) is an answer.
                self._answered(endpoint)

    def _learn_refusal(self, endpoint: Endpoint, error: FatalError, method: str, block: int | None) -> None:
        self._answered(endpoint)
        if error.scope == "history" and block is None:
            # State that is missing at the head is there a moment later.
            return
        # Only up to what was really refused: a node that lacks the beginning of a range may well have its end.
        oldest = (block if error.up_to is None else error.up_to) if error.scope == "history" else None
        if oldest is not None:
            method = method.split(" ", maxsplit=1)[0]
        elif error.scope == "question" and error.call is not None:
            method = error.call.kind
        with endpoint.lock:
            endpoint.health.refuses(method, oldest, self._clock())
        if self._may_say(endpoint, f"refuses {method}"):
            below = "" if oldest is None else f" for blocks up to {oldest:,}"
            logger.warning("%s: %s is not asked for %s%s: %s", self.name, endpoint.host, method, below, error)

    def _able(self, endpoint: Endpoint, method: str, block: int | None, now: float) -> bool:
        """Whether the endpoint does this at all, as far as the operator has said and its answers have shown."""
        old = block is not None and block <= (self.best_head or 0) - _STATE_KEPT
        if old and method in _STATE_METHODS and endpoint.config.archive is False:
            return False
        return not endpoint.health.is_out and endpoint.health.allows(method, block, now)

    def _lacks_up_to(self, kind: str, now: float) -> int | None:
        """The block up to which every endpoint lacks history, as far as is known; None where that is no question."""
        method = kind.split(" ", maxsplit=1)[0]
        refused = [endpoint.health.refusals(now) for endpoint in self.endpoints if not endpoint.health.is_out]
        blocks = [one.get(method) for one in refused if kind == method or kind not in one]
        return min((block for block in blocks if block is not None), default=None)

    def _may_say(self, endpoint: Endpoint, what: str) -> bool:
        """Whether something was not said within the last minute: a log tells a story, not every beat of it."""
        now, key = self._clock(), (endpoint.config.url, what)
        with self._lock:
            if now - self._said.get(key, float("-inf")) < _SAY_AGAIN_AFTER:
                return False
            self._said[key] = now
            return True
