"""One endpoint: questions in, raw results or classified errors out, and what is learned about it. It asks once."""

import dataclasses
import itertools
import logging
import random as random_module
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from indexer.chain.records.column_reader import LOG_FORM
from indexer.chain.records.completeness import BloomTrust, EndMarkers, HashFilter, Refused
from indexer.chain.records.errors import (
    AnswerError,
    BatchError,
    FatalError,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    TransientError,
)
from indexer.chain.records.messages import Call, Envelope, encode_batch, encode_call, parse_envelopes
from indexer.chain.records.range_control import BlockLimit
from indexer.chain.records.spared_questions import SparedQuestions
from indexer.chain.records.text_layout import Layouts
from indexer.chain.rpc.answers import Answer, matched, number_of_id, of_a_batch, refusal, refused_for_haste, unreadable
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.chain.rpc.credits import CreditGate
from indexer.chain.rpc.exchange import HttpAnswer
from indexer.chain.rpc.health import EndpointHealth, EndpointStatus, MethodCount
from indexer.chain.rpc.ipc import transport_of
from indexer.chain.rpc.list_limits import ListLimits
from indexer.chain.rpc.rate_control import Admission, BatchSize, RateControl
from indexer.log import Troubles

logger = logging.getLogger(__name__)

# So often in a row a part of several questions may be refused for haste before the whole is given up.
_WAITS_IN_A_ROW, _WAITS_FOR_A_RANGE = 5, 1
# A batch's ids count up from a multiple of this, so that no two requests of an endpoint share an id.
_IDS_PER_REQUEST = 4096

# An endpoint that left logs out of history is asked last for so many seconds.
_DISTRUST = 3600.0
# With these refusals of one question a server may refuse the batch that holds it.
_MAY_FAIL_A_BATCH = (TransientError, RateError, RangeError, FatalError)

E = TypeVar("E", bound=ProviderError)


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
        self.provider = transport_of(config, settings, clock)
        self.health = EndpointHealth()
        ceiling, permits = config.requests_per_second, config.permits
        self.rate = RateControl(ceiling=ceiling, most=config.max_concurrency, is_shared=permits is not None)
        self.block_limit = BlockLimit()
        self.lists = ListLimits()
        # Faults of its answers that have been told.
        self.troubles = Troubles(clock)
        # How many calls it has answered with a result.
        self.answered = 0
        # The width of the last range that a refusal named as one that would work, without a reason.
        self.suggested_width: int | None = None
        self.latency: float | None = None
        # Cleared when a log's blockTimestamp contradicts its block's header: from then on headers are asked for.
        self.log_times_hold = True
        # Whether it answers null where there are no logs; None: not known yet.
        self.null_means_no_logs: bool | None = None
        # The chain numbers the logs of each transaction anew.
        self.log_index_per_transaction = settings.log_index_per_transaction
        # The chain leaves block numbers out, as is declared or was found by a link.
        self.null_blocks = settings.null_blocks
        # Numbers that no link passes over, as far as was looked, and when: pruned, or lost in a moment's confusion.
        self.unlinked: tuple[int, int, float] | None = None
        # What its blooms are worth, whether it filters logs by a block's hash, what need not be asked.
        self.blooms = BloomTrust()
        self.hash_filter = HashFilter()
        self.spared = SparedQuestions()
        # It left logs out of history, or made some up: for a while it is asked last.
        self.history = Refused(_DISTRUST)
        # How the ends of its ranges are proven, where it answers one question at a time.
        self.end_markers = EndMarkers()
        # How it writes logs.
        self.layouts = Layouts(LOG_FORM)
        # Wordings that no table knows and that a smaller range cured: from then on they mean "too much".
        self.cured_by_shrinking: set[str] = set()
        # Words of haste with which it refuses a question while it answers others: smaller ones are being tried.
        self.suspected: set[str] = set()
        self.lock = threading.Condition()
        self._settings = settings
        self.clock = clock
        self.admission = Admission(self.rate, self.lock, clock, sleep, permits)
        self.credits = CreditGate(config, sleep)
        self._random = random or random_module.Random()
        self._ids = itertools.count(1)
        self._counts: dict[str, MethodCount] = defaultdict(MethodCount)
        self._http_requests = 0
        self._batch_size = BatchSize(settings.batch_size)

    def ask_one(self, call: Call, context: RequestContext, *, timeout: float | None = None) -> msgspec.Raw:
        """Asks one question.

        Returns:
            The result's raw JSON.

        Raises:
            ProviderError: one of the classes of :mod:`indexer.chain.records.errors`.
        """
        answer = self._single(call, context, timeout)
        if isinstance(answer, ProviderError):
            raise answer
        return answer

    def ask(self, calls: Sequence[Call], context: RequestContext, *, begun: bool = False) -> list[Answer]:
        """Asks several questions in as few requests as the endpoint allows: one batch, smaller ones, or one by one.

        Args:
            calls: the questions.
            context: on whose account.
            begun: whether other parts of the same answer have come already, so that a refusal for haste is waited for
                here.

        Returns:
            For each question, in order, the result's raw JSON or that question's own error.

        Raises:
            ProviderError: nothing can be said of single questions (no connection, too many requests, ...).
        """
        answers = self._in_batches(calls, context, begun)
        while (hasty := refused_for_haste(calls, answers)) and len(hasty) < len(calls):
            # Others of their kind were answered: each call of a batch is charged, and the rest goes more slowly.
            error = answers[hasty[0]]
            assert isinstance(error, RateError)
            self.slow_down(error, len(calls))
            again = self._in_batches([calls[position] for position in hasty], context, begun=True)
            for position, answer in zip(hasty, again, strict=True):
                answers[position] = answer
            if all(isinstance(answer, RateError) for answer in again):
                break
        return answers

    def slow_down(self, error: RateError, calls: int) -> bool:
        """Learns from a refusal of so many calls for haste. Returns whether this made the endpoint slower."""
        with self.lock:
            return self.rate.limited(self.clock(), error.retry_after, self._random.random(), calls)

    def forgive(self) -> None:
        """The refusals since the last answer were about the question, not about haste."""
        with self.lock:
            self.rate.forgiven(self.clock())

    def _in_batches(self, calls: Sequence[Call], context: RequestContext, begun: bool) -> list[Answer]:
        answers: list[Answer] = []
        waits = 0
        while len(answers) < len(calls):
            part = calls[len(answers) : len(answers) + self.max_batch()]
            refused: RateError | None = None
            try:
                found = self._several(part, context)
            except RateError as error:
                refused, found = error, []
            else:
                refused = next((answer for answer in found if isinstance(answer, RateError)), None)
            if refused is None or (found and not all(isinstance(answer, RateError) for answer in found)):
                answers += found
                waits = 0
                continue
            # What came is kept: asked for from the start, more than a bucket holds would never come.
            waits += 1
            refused.times = waits
            patience = _WAITS_FOR_A_RANGE if any(call.blocks for call in part) else _WAITS_IN_A_ROW
            if (answers or begun) and waits <= patience:
                self.slow_down(refused, refused.calls)
            elif found:
                answers += found
            else:
                raise refused
        return answers

    def max_batch(self) -> int:
        """The most calls to put in one batch now."""
        with self.lock:
            sizes = self._batch_size.at(self.clock()), self.rate.largest_batch(), self.credits.largest_batch()
            return min(size for size in sizes if size is not None)

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
                max_batch=self._batch_size.largest,
                max_blocks=self.block_limit.known,
                concurrency=self.rate.window.size,
                pace=self.rate.pace,
                refuses=self.health.refusals(now),
            )

    def _several(self, calls: Sequence[Call], context: RequestContext) -> list[Answer]:
        if len(calls) == 1:
            return [self._single(calls[0], context)]
        try:
            answers = self._batch(calls, context)
        except BatchError as error:
            named = error.maximum
            with self.lock:
                is_rule = not error.unanswered or self._batch_size.unanswered()
        else:
            if any(answer is None for answer in answers):
                return self._rest(calls, answers, context)
            with self.lock:
                self._batch_size.worked(len(calls), self.clock())
            return [answer for answer in answers if answer is not None]
        last: list[Answer] = []
        rest = calls
        if named is None:
            # Nothing says that it is the batch: one of its calls alone tells it from a node that is ill.
            last = [self._single(calls[-1], context)]
            if isinstance(last[0], TransientError | RateError):
                raise last[0]
            rest = calls[:-1]
        size = max(1, min(named, len(calls) - 1) if named is not None else len(calls) // 2)
        smaller: list[Answer] = []
        while len(smaller) < len(rest):
            # What the first part has shown holds for those after it.
            step = min(size, self.max_batch())
            smaller += self._several(rest[len(smaller) : len(smaller) + step], context)
        smaller += last
        # A part that fails alone too may be what made the whole fail.
        if is_rule and not any(isinstance(answer, _MAY_FAIL_A_BATCH) for answer in smaller):
            with self.lock:
                self._batch_size.refused_above(size, self.clock())
        return smaller

    def _single(self, call: Call, context: RequestContext, timeout: float | None = None) -> Answer:
        number = next(self._ids) * _IDS_PER_REQUEST
        answer = self._post([call], encode_call(call, number), context, timeout)
        envelope = self._envelopes([call], answer, call.method, call if call.blocks else None)
        if isinstance(envelope, list):
            raise self._count_error([call], AnswerError(f"{call.method}: a list was answered to a single question"))
        if envelope.error is None and number_of_id(envelope.id) != number:
            raise self._count_error([call], AnswerError(f"{call.method}: the answer bears another question's id"))
        return self._result(call, envelope, answer)

    def _batch(self, calls: Sequence[Call], context: RequestContext) -> list[Answer | None]:
        ranged = next((call for call in calls if call.blocks), None)
        first = next(self._ids) * _IDS_PER_REQUEST
        try:
            answer = self._post(calls, encode_batch(calls, first), context)
        except TransientError as error:
            unanswered = of_a_batch(error)
        else:
            return self._matched(calls, answer, first, ranged)
        raise unanswered

    def _matched(
        self, calls: Sequence[Call], answer: HttpAnswer, first: int, ranged: Call | None
    ) -> list[Answer | None]:
        """The answers to a batch, each with its question, whose ids count up from ``first``; None: there is none."""
        envelopes = self._envelopes(calls, answer, "batch", ranged)
        if isinstance(envelopes, Envelope):
            raise self._count_error(
                calls, of_a_batch(refusal("batch", envelopes.error, answer, ranged, self.provider.redact))
            )
        found = matched(envelopes, first, len(calls))
        if not any(found):
            lone = next((e for e in envelopes if e.id is None and e.error is not None), None)
            if lone is not None:
                raise self._count_error(
                    calls, of_a_batch(refusal("batch", lone.error, answer, ranged, self.provider.redact))
                )
            raise self._count_error(calls, BatchError(f"no answers to a batch of {len(calls)}", unanswered=True))
        return [
            None if envelope is None else self._result(call, envelope, answer)
            for call, envelope in zip(calls, found, strict=True)
        ]

    def _rest(self, calls: Sequence[Call], answers: Sequence[Answer | None], context: RequestContext) -> list[Answer]:
        """Ask for what a batch did not answer; what it did is kept."""
        absent = [place for place, answer in enumerate(answers) if answer is None]
        with self.lock:
            self._batch_size.cut_at(absent[0] if absent[0] + len(absent) == len(calls) else 0, self.clock())
            for place in absent:
                self._counts[calls[place].method].errors += 1
        if not self.troubles.met("batches cut"):
            logger.warning(
                "%s: it answered %d of %d questions of a batch; the others are asked again",
                *(self.host, len(calls) - len(absent), len(calls)),
            )
        rest: list[Answer]
        try:
            rest = self._several([calls[place] for place in absent], context)
        except ProviderError as error:
            rest = [error] * len(absent)
        again = iter(rest)
        return [next(again) if answer is None else answer for answer in answers]

    def _envelopes(
        self, calls: Sequence[Call], answer: HttpAnswer, method: str, ranged: Call | None
    ) -> Envelope | list[Envelope]:
        try:
            parsed = parse_envelopes(answer.body)
        except msgspec.DecodeError:
            pass
        else:
            if any(one.error is None for one in (parsed if isinstance(parsed, list) else [parsed])):
                with self.lock:
                    self.rate.answered(self.clock(), answer.begun, len(calls), len(answer.body))
            if answer.status == 200 or (isinstance(parsed, Envelope) and parsed.error is not None):
                return parsed
            if isinstance(parsed, list) and parsed:
                return parsed
        raise self._count_error(calls, unreadable(method, answer, ranged, self.provider.redact))

    def _result(self, call: Call, envelope: Envelope, answer: HttpAnswer) -> Answer:
        with self.lock:
            self._counts[call.method].bytes += memoryview(envelope.result).nbytes
        if envelope.error is not None:
            return self._count_error([call], refusal(call.method, envelope.error, answer, call, self.provider.redact))
        if not memoryview(envelope.result).nbytes:
            return self._count_error([call], AnswerError(f"{call.method}: neither a result nor an error"))
        with self.lock:
            self.answered += 1
        return envelope.result

    def _post(
        self, calls: Sequence[Call], body: bytes, context: RequestContext, timeout: float | None = None
    ) -> HttpAnswer:
        self.credits.pay(calls, context)
        begun = self.admission.wait(len(calls), context)
        started = self.clock()
        with self.lock:
            self._http_requests += 1
            for call in calls:
                self._counts[call.method].requests += 1
        context.requests += 1
        timeout = context.timeout if timeout is None else timeout
        context.under_way = self.admission.begin(self)
        try:
            answer = self.provider.exchange(body, ranged=any(call.blocks for call in calls), timeout=timeout)
        except ProviderError as error:
            self._count_error(calls, error)
            raise
        finally:
            context.under_way.ended()
            context.under_way = None
        context.bytes += len(answer.body)
        took = self.clock() - started
        with self.lock:
            self.latency = took if self.latency is None else 0.8 * self.latency + 0.2 * took
        return dataclasses.replace(answer, begun=begun)

    def _count_error(self, calls: Sequence[Call], error: E) -> E:
        with self.lock:
            if isinstance(error, RateError) and not any(call.blocks for call in calls):
                # What refuses the smallest questions as well is about haste.
                self.suspected.discard(error.words)
                self.cured_by_shrinking.discard(error.words)
            for call in calls:
                # A revert is an answer; only the caller knows whether it is a bad one.
                self._counts[call.method].errors += not isinstance(error, RevertedError)
                self._counts[call.method].limited += isinstance(error, RateError)
        error.host, error.calls = self.host, len(calls)
        error.method = calls[0].method if len(calls) == 1 else f"batch of {len(calls)} {calls[0].method}"
        error.call = next((call for call in calls if call.blocks), None)
        return error
