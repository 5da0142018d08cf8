"""Asking a chain: the endpoint chosen, the question retried within bounds, failed over, and learned from.

Rate errors wait at the endpoint, which knows how long. All others are asked again elsewhere at once; where there is
no other endpoint, at the same one after a pause that doubles, with jitter.
"""

import logging
import random as random_module
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TypeVar

import tenacity

from indexer.chain.records.errors import (
    CallLimitError,
    ChainMismatchError,
    CreditsError,
    FatalError,
    LaggingError,
    NoEndpointError,
    ProviderError,
    RateError,
    Stopped,
    TransientError,
    WrongBlockError,
)
from indexer.chain.records.messages import Call, parse_quantity
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.endpoint_pool import EndpointPool
from indexer.chain.rpc.health import EndpointStatus
from indexer.chain.rpc.refusals import Refusals

_RETRIED = (TransientError, RateError, LaggingError, FatalError, WrongBlockError)
# A node's own limit, and what may be spent at it, is the same at every attempt: another node's may be wider.
_RETRIED_ELSEWHERE = (CallLimitError, CreditsError)
# A node that is told to wait is not failing: these do not count as attempts, only as time.
_MOST_WAITS = 200

logger = logging.getLogger(__name__)

T = TypeVar("T")


def _in_a_thread(job: Callable[[], None]) -> None:
    """Runs a job in a thread of its own, which ends with the process at the latest."""
    threading.Thread(target=job, name="glance", daemon=True).start()


def _retrying(
    settings: ClientSettings,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    random: random_module.Random,
    elsewhere: Callable[[], bool],
    waited: Callable[[], float],
    before_sleep: Callable[[tenacity.RetryCallState], None],
    attempts: int | None = None,
) -> tenacity.Retrying:
    """A retry engine for one question.

    Args:
        settings: bounds and pauses.
        clock: a monotonic clock, seconds.
        sleep: sleeps for seconds, and raises Stopped when the caller wants the answer no more.
        random: the source of jitter.
        elsewhere: whether an endpoint that has not yet failed at this question is there to be asked.
        waited: seconds that the question has waited for credits, which are no failure.
        before_sleep: told of each failure that is retried.
        attempts: fewer attempts than the settings'.
    """
    started = clock()
    counted = 0
    waits = 0

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateError) or elsewhere():
            return 0.0
        pause = min(settings.first_backoff * 2.0 ** max(0, counted - 1), settings.longest_backoff)
        return pause * (0.5 + 0.5 * random.random())

    def stop(state: tenacity.RetryCallState) -> bool:
        nonlocal counted, waits
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateError):
            waits += 1
        else:
            counted += 1
        late = clock() - started - waited() > settings.give_up_after
        return counted >= (attempts or settings.attempts) or waits >= _MOST_WAITS or late

    return tenacity.Retrying(
        sleep=sleep,
        wait=wait,
        stop=stop,
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, _RETRIED) or (isinstance(error, _RETRIED_ELSEWHERE) and elsewhere())
        ),
        before_sleep=before_sleep,
        reraise=True,
    )


class ComparedHistory:
    """Counts the blocks of history that were compared with blooms, until they are taken. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = 0, 0

    def add(self, compared: int, undecided: int) -> None:
        """So many more were compared, and so many of those that were to be could not be decided."""
        with self._lock:
            self._counts = self._counts[0] + compared, self._counts[1] + undecided

    def take(self) -> tuple[int, int]:
        """The counts since the last time: compared, undecided."""
        with self._lock:
            counts, self._counts = self._counts, (0, 0)
        return counts


@dataclass(eq=False, repr=False)
class Requester:
    """All endpoints of one chain, and how a question is put to them. Thread-safe.

    Args:
        name: the chain's name in the manifest, for messages.
        chain_id: the chain's id, which every endpoint must serve.
        endpoints: where to ask, at least one.
        settings: time-outs, bounds and targets.
        clock: a monotonic clock, seconds.
        sleep: sleeps for seconds.
        random: the source of jitter.
        spawn: runs a job beside (a probe, a survey of heads), without waiting for it.
    """

    name: str
    chain_id: int
    endpoints: InitVar[Sequence[EndpointConfig]]
    _: KW_ONLY
    settings: ClientSettings = field(default_factory=ClientSettings)
    clock: Callable[[], float] = time.monotonic
    sleep: InitVar[Callable[[float], object]] = time.sleep
    random: InitVar[random_module.Random | None] = None
    spawn: InitVar[Callable[[Callable[[], None]], object]] = _in_a_thread

    def __post_init__(
        self,
        endpoints: Sequence[EndpointConfig],
        sleep: Callable[[float], object],
        random: random_module.Random | None,
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        self._aborted = threading.Event()

        def pause(seconds: float) -> None:
            sleep(seconds)
            if self._aborted.is_set():
                raise Stopped("a question to a node was given up, since its work is to end")

        self._sleep = pause
        self._random = random or random_module.Random()
        self.compared = ComparedHistory()
        self.pool = EndpointPool(
            self.name, endpoints, self.settings, clock=self.clock, sleep=pause, random=self._random, spawn=spawn
        )

    def check(self) -> None:
        """Asks every endpoint for its chain id. One with another id is not used until it has the right one.

        Raises:
            ChainMismatchError: every endpoint that answers serves another chain.
            NoEndpointError: no endpoint answers.
        """
        reasons = []
        wrong = 0
        right = 0
        self.pool.reconsider(at_once=True)
        for endpoint in self.pool.endpoints:
            if endpoint.health.is_banned:
                reasons.append(endpoint.health.reason)
                wrong += 1
                continue
            try:
                found = self._chain_id_of(endpoint)
            except ProviderError as error:
                reasons.append(str(error) + (f" ({error.hint})" if error.hint else ""))
                continue
            if found == self.chain_id:
                right += 1
            else:
                wrong += 1
                reason = f"{endpoint.host}: it serves chain id {found}, the manifest says {self.chain_id}"
                reasons.append(reason)
                self.pool.ban(endpoint, reason, lambda one: self._chain_id_of(one) == self.chain_id)
        if right:
            return
        text = f"chain {self.name}: no endpoint can be used. " + "; ".join(reasons)
        if wrong:
            raise ChainMismatchError(text, hint="correct the chain's id or its rpc URLs in the manifest")
        raise NoEndpointError(text, hint="check the chain's rpc URLs, and that a node answers there")

    def _chain_id_of(self, endpoint: Endpoint) -> int:
        return self.run(
            lambda e: parse_quantity(e.ask_one(Call("eth_chainId", ()), RequestContext())),
            "eth_chainId",
            only=endpoint,
            attempts=3,
        )

    def describe(self) -> list[EndpointStatus]:
        """Every endpoint: state, head, errors, latency, cost by method, limits learned."""
        return [endpoint.status() for endpoint in self.pool.endpoints]

    def has_room(self, under_way: int) -> bool:
        """Whether the endpoints that share the work can do with more than what is under way.

        Args:
            under_way: questions under way for one purpose, each of which may take several requests.
        """
        able = [e for e in self.pool.endpoints if not e.health.is_out and e.health.state != "unhealthy"]
        first = min((endpoint.config.priority for endpoint in able), default=0)
        shared = [endpoint for endpoint in able if endpoint.config.priority == first]
        places = sum(endpoint.rate.window.size for endpoint in shared)
        return under_way < max(1, places) and sum(endpoint.admission.waiting for endpoint in shared) < places

    def at_most(self) -> tuple[int, int]:
        """What one ``eth_getLogs`` may ask for at the endpoint that takes most, as far as their answers have shown.

        Returns:
            Addresses and blocks.
        """
        endpoints = [one for one in self.pool.endpoints if not one.health.is_out] or self.pool.endpoints
        most = self.settings.addresses_per_request
        addresses = max(min(most, endpoint.lists.addresses or most) for endpoint in endpoints)
        return addresses, max(endpoint.block_limit.known or self.settings.max_blocks for endpoint in endpoints)

    def close(self) -> None:
        """Closes idle connections. The client can still be used."""
        for endpoint in self.pool.endpoints:
            endpoint.provider.close()
            endpoint.credits.close()
            if endpoint.config.permits is not None:
                endpoint.config.permits.close()

    def abort(self) -> None:
        """Ends all questions at once, those that wait and those to come: each raises Stopped."""
        self._aborted.set()
        for endpoint in self.pool.endpoints:
            endpoint.provider.abort()

    def run(
        self,
        question: Callable[[Endpoint], T],
        method: str,
        *,
        block: int | None = None,
        oldest: int | None = None,
        context: RequestContext | None = None,
        sticky: bool = True,
        only: Endpoint | None = None,
        attempts: int | None = None,
        avoid: Collection[Endpoint] = (),
    ) -> T:
        """Has a question answered: chooses the endpoint, retries, fails over.

        Args:
            question: asks it of one endpoint, in as many requests as it takes, and checks the answer.
            method: the method that it is about; for logs, the kind of question (``LogFilter.kind``).
            block: the newest block that it needs, where there is one.
            oldest: the oldest block that it needs, where that is another one.
            context: on whose account; knows when to stop.
            sticky: stay with the endpoint in use.
            only: ask no other endpoint.
            attempts: fewer attempts than the settings'.
            avoid: endpoints that are asked already: others come first.

        Raises:
            RangeError: the question asks for too much; not retried.
            NoEndpointError: no endpoint can answer it.
            TransientError, RateError, LaggingError: the last attempt's error.
            Stopped: the errand was called off.
        """
        context = context or RequestContext()
        failed: set[Endpoint] = set(avoid)

        def elsewhere() -> bool:
            return only is None and self.pool.promising(method, block, failed, oldest, history=context.history)

        def others(tried: Endpoint) -> bool:
            others = {*failed, tried}
            return only is None and self.pool.promising(method, block, others, oldest, history=context.history)

        refusals = Refusals(context, others, lambda: self.pool.best_head)

        def judged(endpoint: Endpoint) -> T:
            while True:
                try:
                    return question(endpoint)
                except ProviderError as error:
                    meant = refusals.meaning(endpoint, error)
                if meant is not None:
                    raise meant

        def told(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            logger.debug("%s: attempt %d: %s; it is asked again", self.name, state.attempt_number, error)

        def attempt() -> T:
            context.check()
            if only is None:
                self.pool.probe_due(block, context)
            endpoint = only or self.pool.choose(
                method, block, oldest=oldest, failed=failed, sticky=sticky, history=context.history
            )
            context.elsewhere = lambda: others(endpoint)
            try:
                return self.pool.ask(endpoint, judged, method, block)
            except ProviderError:
                failed.add(endpoint)
                raise

        engine = _retrying(
            self.settings,
            clock=self.clock,
            sleep=lambda seconds: context.pause(seconds, self._sleep),
            random=self._random,
            elsewhere=elsewhere,
            waited=lambda: context.waited,
            before_sleep=told,
            attempts=attempts,
        )
        return engine(attempt)
