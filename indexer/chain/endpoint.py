"""One endpoint: questions in, raw results or classified errors out. It asks once; the client retries.

Here is also what is learned about an endpoint: how large a batch it takes, how many blocks one ``eth_getLogs`` may
span, how fast it may be asked, and what it costs (calls and bytes by method).
"""

import dataclasses
import itertools
import random as random_module
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from indexer.chain.blooms import BloomTrust
from indexer.chain.columnar import Layouts
from indexer.chain.config import ClientSettings, EndpointConfig, Errand
from indexer.chain.error_table import Failure, classify
from indexer.chain.errors import (
    AnswerError,
    BatchError,
    FatalError,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    TransientError,
)
from indexer.chain.hash_filter import HashFilter
from indexer.chain.health import Health, State
from indexer.chain.provider import HttpAnswer, RawProvider
from indexer.chain.range_control import BlockLimit
from indexer.chain.rate_control import RateControl
from indexer.chain.wire import Call, Envelope, encode, encode_batch, encode_call, parse_envelopes, revert_data

# With these statuses a server may mean the batch, not its contents.
_BATCH_STATUSES = frozenset({400, 404, 405, 413, 415, 422, 501})
_TRY_LARGER_AFTER = 50
_TRY_LARGER_LATER = 3600.0
_ERROR_TEXT = 4000
# Seconds that the head waits for a place among the requests under way.
_URGENT_AFTER = 1.0

# A batch's ids count up from a multiple of this, so that no two requests of an endpoint share an id.
_IDS_PER_REQUEST = 4096

E = TypeVar("E", bound=ProviderError)
Answer = msgspec.Raw | ProviderError


@dataclass(slots=True)
class MethodCount:
    """What a method has cost at one endpoint.

    Attributes:
        requests: calls asked.
        errors: calls failed, for whatever reason.
        bytes: of results.
        limited: calls failed because too many were asked.
    """

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    limited: int = 0


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What an operator wants to know of one endpoint.

    Attributes:
        host: ``https://host/***``.
        state: ``healthy``, ``unhealthy`` or ``unknown``.
        reason: why it is unhealthy, or empty.
        priority: as configured.
        head: its newest known block.
        error_rate: the share of failures among the last answers, 0 to 1.
        latency: seconds for a request, a running mean, or None before the first.
        http_requests: HTTP requests so far.
        counts: method -> calls, failures and bytes.
        max_batch: the most calls it takes in a batch (1: none).
        max_blocks: the most blocks it allows in one ``eth_getLogs``, or None where no limit is known.
        concurrency: the requests that may be under way at once now.
        pace: calls a second that it allows, or None where no limit is known.
        refuses: method -> the block at or below which it is refused (None: at every block).
    """

    host: str
    state: State
    reason: str
    priority: int
    head: int | None
    error_rate: float
    latency: float | None
    http_requests: int
    counts: dict[str, MethodCount]
    max_batch: int
    max_blocks: int | None
    concurrency: int
    pace: float | None
    refuses: dict[str, int | None]


class UnderWay:
    """A request that is being answered. It holds one of the places that the endpoint's concurrency allows."""

    def __init__(self, endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.since = time.monotonic()
        self._superseded = False

    def supersede(self) -> None:
        """Another request asks the same: this one gives its place away, and is counted as hanging."""
        with self.endpoint.lock:
            if not self._superseded:
                self._superseded = True
                self.endpoint.hanging += 1
                self.endpoint.rate.finished()
                self.endpoint.lock.notify_all()

    def ended(self) -> None:
        """It was answered, or given up."""
        with self.endpoint.lock:
            if self._superseded:
                self.endpoint.hanging -= 1
            else:
                self.endpoint.rate.finished()
                self.endpoint.lock.notify_all()


class Endpoint:
    """One endpoint of a chain. Thread-safe.

    Args:
        config: its URL and limits.
        settings: the chain's settings.
        clock: a monotonic clock, seconds.
        sleep: sleeps for seconds.
        random: the source of jitter.
    """

    def __init__(
        self,
        config: EndpointConfig,
        settings: ClientSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: random_module.Random | None = None,
    ) -> None:
        self.config = config
        self.host = config.host
        self.provider = RawProvider(config, settings, clock=clock)
        self.health = Health()
        self.rate = RateControl(ceiling=config.requests_per_second, most=config.max_concurrency)
        self.block_limit = BlockLimit()
        self.latency: float | None = None
        # Requests that were not answered in time, and have not ended yet.
        self.hanging = 0
        # Cleared when a log's blockTimestamp contradicts its block's header: from then on headers are asked for.
        self.log_times_hold = True
        # What its blooms are worth, and whether it filters logs by a block's hash.
        self.blooms = BloomTrust()
        self.hash_filter = HashFilter()
        # How it writes logs.
        self.layouts = Layouts()
        # Wordings that no table knows and that a smaller range cured: from then on they mean "too much".
        self.cured_by_shrinking: set[str] = set()
        self.lock = threading.Condition()
        self._settings = settings
        self.clock = clock
        self._sleep = sleep
        self._random = random or random_module.Random()
        self._ids = itertools.count(1)
        self._counts: dict[str, MethodCount] = defaultdict(MethodCount)
        self._http_requests = 0
        self._line: deque[object] = deque()
        self._max_batch = settings.batch_size
        self._batch_learned_at = 0.0
        self._batches_since = 0

    def ask_one(self, call: Call, errand: Errand, *, timeout: float | None = None) -> msgspec.Raw:
        """Asks one question.

        Returns:
            The result's raw JSON.

        Raises:
            ProviderError: one of the classes of :mod:`indexer.chain.errors`.
        """
        answer = self._single(call, errand, timeout)
        if isinstance(answer, ProviderError):
            raise answer
        return answer

    def ask(self, calls: Sequence[Call], errand: Errand, *, timeout: float | None = None) -> list[Answer]:
        """Asks several questions in as few requests as the endpoint allows: one batch, smaller ones, or one by one.

        Returns:
            For each question, in order, the result's raw JSON or that question's own error.

        Raises:
            ProviderError: nothing can be said of single questions (no connection, too many requests, ...).
        """
        answers: list[Answer] = []
        while len(answers) < len(calls):
            answers += self._several(calls[len(answers) : len(answers) + self.max_batch()], errand, timeout)
        return answers

    def ask_all(self, calls: Sequence[Call], errand: Errand) -> list[msgspec.Raw]:
        """Like :meth:`ask`, but the first error among the answers is raised: all results or none."""
        results: list[msgspec.Raw] = []
        for answer in self.ask(calls, errand):
            if isinstance(answer, ProviderError):
                raise answer
            results.append(answer)
        return results

    def max_batch(self) -> int:
        """The most calls to put in one batch now."""
        with self.lock:
            small = self._max_batch < self._settings.batch_size
            if small and self.clock() - self._batch_learned_at > _TRY_LARGER_LATER:
                self._set_max_batch(self._max_batch * 2)
            return self._max_batch

    def status(self) -> EndpointStatus:
        """What is known of the endpoint now."""
        with self.lock:
            now = self.clock()
            return EndpointStatus(
                host=self.host,
                state=self.health.state,
                reason=self.health.reason,
                priority=self.config.priority,
                head=self.health.head,
                error_rate=self.health.error_rate,
                latency=self.latency,
                http_requests=self._http_requests,
                counts={name: dataclasses.replace(count) for name, count in sorted(self._counts.items())},
                max_batch=self._max_batch,
                max_blocks=self.block_limit.known,
                concurrency=int(self.rate.concurrency),
                pace=self.rate.pace,
                refuses=self.health.refusals(now),
            )

    def _several(self, calls: Sequence[Call], errand: Errand, timeout: float | None) -> list[Answer]:
        if len(calls) == 1:
            return [self._single(calls[0], errand, timeout)]
        try:
            answers = self._batch(calls, errand, timeout)
        except BatchError as refusal:
            named = refusal.maximum
        else:
            self._batch_worked()
            return answers
        size = max(1, min(named, len(calls) - 1) if named is not None else len(calls) // 2)
        smaller: list[Answer] = []
        for start in range(0, len(calls), size):
            smaller += self._several(calls[start : start + size], errand, timeout)
        # Only a real answer proves that it was the batch, and not a node that is ill.
        proven = any(not isinstance(answer, ProviderError) for answer in smaller)
        with self.lock:
            if proven and size < self._max_batch:
                self._set_max_batch(size)
        return smaller

    def _set_max_batch(self, size: int) -> None:
        self._max_batch = max(1, min(size, self._settings.batch_size))
        self._batch_learned_at = self.clock()
        self._batches_since = 0

    def _batch_worked(self) -> None:
        with self.lock:
            self._batches_since += 1
            if self._batches_since >= _TRY_LARGER_AFTER and 1 < self._max_batch < self._settings.batch_size:
                self._set_max_batch(self._max_batch * 2)

    def _single(self, call: Call, errand: Errand, timeout: float | None) -> Answer:
        number = next(self._ids) * _IDS_PER_REQUEST
        answer = self._post([call], encode_call(call, number), errand, timeout)
        envelope = self._envelopes([call], answer, call.method, call.blocks)
        if isinstance(envelope, list):
            raise self._count_error([call], AnswerError(f"{call.method}: a list was answered to a single question"))
        if envelope.error is None and str(envelope.id) != str(number):
            raise self._count_error([call], AnswerError(f"{call.method}: the answer bears another question's id"))
        return self._result(call, envelope, answer.status, answer.retry_after)

    def _batch(self, calls: Sequence[Call], errand: Errand, timeout: float | None) -> list[Answer]:
        blocks = next((call.blocks for call in calls if call.blocks), None)
        first = next(self._ids) * _IDS_PER_REQUEST
        answer = self._post(calls, encode_batch(calls, first), errand, timeout)
        envelopes = self._envelopes(calls, answer, "batch", blocks)
        if isinstance(envelopes, Envelope):
            error = self._refusal("batch", envelopes.error, answer, blocks)
            if isinstance(error, TransientError) and error.shrinkable and answer.status < 500:
                error = BatchError(str(error))
            raise self._count_error(calls, error)
        by_id = {str(envelope.id): envelope for envelope in envelopes}
        matched = [by_id.get(str(first + position)) for position in range(len(calls))]
        if any(envelope is None for envelope in matched):
            lone = next((e for e in envelopes if e.id is None and e.error is not None), None)
            if lone is not None:
                error = self._refusal("batch", lone.error, answer, blocks)
                raise self._count_error(
                    calls, error if not isinstance(error, TransientError) else BatchError(str(error))
                )
            found = sum(envelope is not None for envelope in matched)
            raise self._count_error(calls, BatchError(f"{found} answers to a batch of {len(calls)}"))
        return [
            self._result(call, envelope, answer.status, answer.retry_after)
            for call, envelope in zip(calls, matched, strict=True)
            if envelope is not None
        ]

    def _envelopes(
        self, calls: Sequence[Call], answer: HttpAnswer, method: str, blocks: tuple[int, int] | None
    ) -> Envelope | list[Envelope]:
        try:
            parsed = parse_envelopes(answer.body)
        except msgspec.DecodeError:
            pass
        else:
            if answer.status == 200 or (isinstance(parsed, Envelope) and parsed.error is not None):
                return parsed
            if isinstance(parsed, list) and parsed:
                return parsed
        text = self.provider.redact(answer.body[:_ERROR_TEXT].decode("utf-8", "replace"))
        if answer.status != 200:
            error = classify(Failure(method, text, None, answer.status, answer.retry_after, blocks))
            if (
                method == "batch"
                and answer.status in _BATCH_STATUSES
                and isinstance(error, TransientError | FatalError)
            ):
                error = BatchError(str(error))
        elif blocks is not None and answer.body.lstrip()[:1] in b"[{" and answer.body:
            error = RangeError(f"{method}: the answer was cut short after {len(answer.body):,} bytes", host=self.host)
        else:
            error = TransientError(f"{method}: the answer is no JSON: {text[:120]!r}", shrinkable=True)
        raise self._count_error(calls, error)

    def _result(self, call: Call, envelope: Envelope, status: int, retry_after: float | None) -> Answer:
        with self.lock:
            self._counts[call.method].bytes += memoryview(envelope.result).nbytes
        if envelope.error is not None:
            error = self._refusal(call.method, envelope.error, HttpAnswer(status, b"", retry_after), call.blocks)
            return self._count_error([call], error)
        if not memoryview(envelope.result).nbytes:
            return self._count_error(
                [call], AnswerError(f"{call.method}: neither a result nor an error", host=self.host)
            )
        return envelope.result

    def _refusal(self, method: str, error: object, answer: HttpAnswer, blocks: tuple[int, int] | None) -> ProviderError:
        code: int | None = None
        text = str(error) if error is not None else "no list was answered to a batch"
        if isinstance(error, dict):
            raw_code = error.get("code")
            if isinstance(raw_code, int | float) or (isinstance(raw_code, str) and raw_code.lstrip("-").isdigit()):
                code = int(raw_code)
            data = error.get("data")
            shown = data if isinstance(data, str) else encode(data).decode() if data is not None else ""
            text = f"{error.get('message') or ''} {shown}".strip()
        text = self.provider.redact(text[:_ERROR_TEXT])
        # A JSON-RPC error under an HTTP error status: the text decides first, then the code, then the status.
        refusal = classify(Failure(method, text, code, answer.status, answer.retry_after, blocks))
        refusal.host = self.host
        if isinstance(refusal, RevertedError):
            refusal.data = revert_data(error)
        return refusal

    def _post(self, calls: Sequence[Call], body: bytes, errand: Errand, timeout: float | None) -> HttpAnswer:
        self._admit(len(calls), errand)
        started = self.clock()
        with self.lock:
            self._http_requests += 1
            for call in calls:
                self._counts[call.method].requests += 1
        errand.requests += 1
        timeout = errand.timeout if timeout is None else timeout
        errand.under_way = UnderWay(self)
        try:
            answer = self.provider.exchange(body, ranged=any(call.blocks for call in calls), timeout=timeout)
        except ProviderError as error:
            self._count_error(calls, error)
            raise
        finally:
            errand.under_way.ended()
            errand.under_way = None
        errand.bytes += len(answer.body)
        took = self.clock() - started
        with self.lock:
            self.latency = took if self.latency is None else 0.8 * self.latency + 0.2 * took
        return answer

    def _admit(self, calls: int, errand: Errand) -> None:
        """Waits for the endpoint's pace, in the order of arrival: where all raced, one could wait for ever."""
        place = object()
        since = time.monotonic()
        with self.lock:
            self._line.append(place)
        try:
            while True:
                errand.check()
                with self.lock:
                    now = self.clock()
                    delay = self.rate.delay(now)
                    # Requests that are never answered may hold all places: the head does not wait for them.
                    hurried = errand.urgent and delay <= 0 and time.monotonic() - since > _URGENT_AFTER
                    if not hurried and (self._line[0] is not place or (delay <= 0 and self.rate.full())):
                        self.lock.wait(0.1)
                        continue
                    if delay <= 0:
                        self.rate.started(now, calls)
                        return
                errand.pause(delay, self._sleep)
        finally:
            with self.lock:
                self._line.remove(place)
                self.lock.notify_all()

    def _count_error(self, calls: Sequence[Call], error: E) -> E:
        with self.lock:
            for call in calls:
                # A revert is an answer; only whoever asked knows whether it is a bad one.
                self._counts[call.method].errors += not isinstance(error, RevertedError)
                self._counts[call.method].limited += isinstance(error, RateError)
        error.host = self.host
        return error
