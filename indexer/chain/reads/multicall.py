"""Many contract reads at one block: Multicall3 through our own client, with its retries, limits and failover.

Calls go in batches through ``aggregate3`` (:mod:`indexer.chain.reads.contract_reads`). What a batch does not prove is
asked again: one that fails whole, or whose calls used the gas up, in halves; a call that failed without a word alone,
so that the node's words for it are known. Before Multicall3 stood on the chain, where it is missing, and where
something else stands at its address, calls go one by one in JSON-RPC batches.

Each call has its own result. What came is kept, only the rest is asked again; a call that no node will run, while the
nodes run others at that block, is told as such (:attr:`CallResult.refusal`). Only what concerns all calls is an error:
no endpoint, too many requests, a block whose state is gone, answers from another block.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from indexer.chain.reads import contract_reads
from indexer.chain.reads.contract_reads import (
    MAX_CALLS,
    MULTICALL3,
    WITNESS_CODE,
    Aggregate,
    CallResult,
    ExecutedAt,
    ExecutingBlocks,
    batches,
    decode_aggregate3,
    encode_aggregate3,
)
from indexer.chain.records.errors import (
    AnswerError,
    CallLimitError,
    FatalError,
    LaggingError,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    TransientError,
    WrongBlockError,
)
from indexer.chain.records.messages import parse_hex_bytes
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester

log = logging.getLogger(__name__)

Pair = tuple[bytes, bytes]
"""An address, 20 bytes, and call data."""

_USELESS_AFTER = 3
_TRIED_AGAIN_AFTER = 20
_MOST_REFUSED = 20
_SAY_AGAIN_AFTER = 60.0


@dataclass(slots=True)
class Multicall3State:
    """What is known of Multicall3 on a chain, and of how its nodes run calls. Thread-safe.

    Attributes:
        present_from: the lowest block at which it is known to stand.
        absent_up_to: the highest block at which it is known to be missing.
        size: how many calls to put in a batch: fewer after batches that failed whole.
        witnesses: what is known of ``block.number``.
        witnessless: hosts that do not run the code of the witness.
    """

    present_from: int | None = None
    absent_up_to: int | None = None
    size: int = MAX_CALLS
    witnesses: ExecutingBlocks = field(default_factory=ExecutingBlocks)
    witnessless: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _garbage: int = 0
    _passed_over: int = 0
    _said: dict[str, float] = field(default_factory=dict)

    def may_say(self, host: str, now: float) -> bool:
        """Whether nothing was said of a host within the last minute."""
        with self.lock:
            if now - self._said.get(host, float("-inf")) < _SAY_AGAIN_AFTER:
                return False
            self._said[host] = now
            return True

    def known(self, block: int) -> bool | None:
        """Whether it stands at a block, or None where that is not known yet."""
        with self.lock:
            if self.present_from is not None and block >= self.present_from:
                return True
            if self.absent_up_to is not None and block <= self.absent_up_to:
                return False
            return None

    def learned(self, block: int, present: bool) -> None:
        """Remembers whether it stands at a block."""
        with self.lock:
            if present:
                self.present_from = block if self.present_from is None else min(self.present_from, block)
            else:
                self.absent_up_to = block if self.absent_up_to is None else max(self.absent_up_to, block)

    @property
    def is_doubtful(self) -> bool:
        """Whether the last answer was not Multicall3's."""
        return self._garbage > 0

    def is_worth_asking(self) -> bool:
        """Whether to ask it now: seldom, after some answers in a row that were not Multicall3's."""
        with self.lock:
            if self._garbage < _USELESS_AFTER:
                return True
            self._passed_over += 1
            return self._passed_over % _TRIED_AGAIN_AFTER == 0

    def answered(self, calls: int, *, as_multicall3: bool) -> None:
        """Remembers how an answer to so many calls looked."""
        with self.lock:
            self._garbage = 0 if as_multicall3 else self._garbage + 1
            if as_multicall3 and calls >= self.size:
                self.size = min(MAX_CALLS, self.size * 2)

    def failed(self, calls: int) -> None:
        """Remembers that a batch of so many calls failed whole."""
        with self.lock:
            self.size = max(1, min(self.size, calls // 2))


def read(
    requester: Requester, deployment: Multicall3State, calls: Sequence[Pair], block: int, *, light: bool = False
) -> list[CallResult]:
    """Reads many calls at one block. See :meth:`ChainClient.multicall`."""
    if not calls:
        return []
    present = deployment.known(block)
    if present is None:
        present = _stands(requester, block)
        deployment.learned(block, present)
    reading = _MulticallReading(requester, deployment, block, light, present)
    results: list[CallResult] = []
    while len(results) < len(calls):
        part = batches(calls[len(results) : len(results) + deployment.size])[0]
        results += reading.part(part)
    return results


def _stands(requester: Requester, block: int) -> bool:
    try:
        return bool(contract_reads.code(requester, MULTICALL3, block))
    except FatalError as error:
        if error.scope != "method":
            raise
        return True  # its answers will tell


_MULTICALL3_WITNESS = contract_reads.ExecutingBlockCall(contract_reads.hex_address(MULTICALL3), encode_aggregate3([]))
_CODE_WITNESS = contract_reads.ExecutingBlockCall(None, WITNESS_CODE)


@dataclass(slots=True)
class _MulticallReading:
    """One read of many calls at one block."""

    requester: Requester
    deployment: Multicall3State
    block: int
    light: bool
    present: bool
    answered: int = 0
    refused: int = 0

    def part(self, calls: Sequence[Pair]) -> list[CallResult]:
        """Reads a batch, through Multicall3 where that can be."""
        if not self.present or not self.deployment.is_worth_asking():
            return self.singly(calls)
        try:
            found = self._aggregate(calls)
        except (RevertedError, RangeError, CallLimitError):
            return self._in_halves(calls)
        except (TransientError, LaggingError) as error:
            self._see_that_others_run(error)
            return self._in_halves(calls)
        self.deployment.answered(len(calls), as_multicall3=found is not None)
        if found is None:
            return self.singly(calls)
        if found.is_starved:
            return self._in_halves(calls)
        self.answered += len(calls)
        results = list(found.results)
        if not (self.light and found.is_proven):
            # Without a word: it may have wanted more gas than was left, or the node's whole gas.
            mute = [i for i, result in enumerate(results) if not result.success and not result.data]
            for i, result in zip(mute, self.singly([calls[i] for i in mute]), strict=True):
                results[i] = result
        return results

    def singly(self, calls: Sequence[Pair]) -> list[CallResult]:
        """Reads calls one by one, in JSON-RPC batches; each answer that comes is kept."""
        results: dict[int, CallResult] = {}
        words: dict[int, ProviderError] = {}
        while len(results) < len(calls):
            before = len(results)
            try:
                self._ask_singly(calls, results, words)
            except (CallLimitError, TransientError, LaggingError, RangeError) as error:
                if len(results) > before:
                    continue
                if not isinstance(error, CallLimitError):
                    self._see_that_others_run(error)
                missing = [i for i in range(len(calls)) if i not in results]
                if len(missing) > 1 and not words.keys() >= set(missing):
                    # Nothing was said of single calls: one of them may keep the others from being answered.
                    middle = len(missing) // 2
                    for half in (missing[:middle], missing[middle:]):
                        results |= dict(zip(half, self.singly([calls[i] for i in half]), strict=True))
                else:
                    results |= {i: self._refused(words.get(i, error)) for i in missing}
        self.answered += sum(not result.refusal for result in results.values())
        return [results[i] for i in range(len(calls))]

    def _refused(self, error: ProviderError) -> CallResult:
        self.refused += 1
        if self.answered == 0 and self.refused >= _MOST_REFUSED:
            raise error
        return CallResult(False, b"", str(error))

    def _in_halves(self, calls: Sequence[Pair]) -> list[CallResult]:
        self.deployment.failed(len(calls))
        if len(calls) == 1:
            return self.singly(calls)
        middle = len(calls) // 2
        return self.part(calls[:middle]) + self.part(calls[middle:])

    def _aggregate(self, calls: Sequence[Pair]) -> Aggregate | None:
        """One question for all calls; None where what answers is no Multicall3, which is not the endpoint's fault."""
        context = RequestContext()
        question = contract_reads.eth_call(MULTICALL3, encode_aggregate3(calls), self.block)

        def ask(endpoint: Endpoint) -> Aggregate | None:
            raw = endpoint.ask_one(question, context)
            try:
                found = decode_aggregate3(parse_hex_bytes(raw), len(calls))
            except (AnswerError, ValueError):
                return None
            self._check(endpoint, found.seen, context)
            return found

        return self.requester.run(ask, "eth_call", block=self.block, context=context, attempts=3)

    def _ask_singly(
        self, calls: Sequence[Pair], results: dict[int, CallResult], words: dict[int, ProviderError]
    ) -> None:
        context = RequestContext()

        def ask(endpoint: Endpoint) -> None:
            missing = [i for i in range(len(calls)) if i not in results]
            questions = [contract_reads.eth_call(*calls[i], self.block) for i in missing]
            is_watched = endpoint.host not in self.deployment.witnessless
            if is_watched:
                questions.insert(0, self._witness().at(self.block))
            answers = endpoint.ask(questions, context)
            if is_watched:
                seen = contract_reads.executed_at(answers.pop(0))
                if seen is None and not self._has_multicall3:
                    self.deployment.witnessless.add(endpoint.host)
                self._check(endpoint, seen, context)
            errors = []
            for i, answer in zip(missing, answers, strict=True):
                outcome = _outcome(answer, endpoint)
                if isinstance(outcome, CallResult):
                    results[i] = outcome
                else:
                    words[i] = outcome
                    errors.append(outcome)
            _raise_worst(errors, nothing_came=len(errors) == len(missing))

        self.requester.run(ask, "eth_call", block=self.block, context=context)

    def _see_that_others_run(self, error: ProviderError) -> None:
        """Raises an error unless the nodes do run calls at this block: then it was about the calls it came for.

        Any address may be asked for that: one without code answers nothing, which is an answer.
        """
        context = RequestContext()

        def ask(endpoint: Endpoint) -> None:
            parse_hex_bytes(endpoint.ask_one(_MULTICALL3_WITNESS.at(self.block), context))

        try:
            self.requester.run(ask, "eth_call", block=self.block, context=context, attempts=3)
        except (RevertedError, CallLimitError):
            return
        except ProviderError:
            raise error from None

    @property
    def _has_multicall3(self) -> bool:
        return self.present and not self.deployment.is_doubtful

    def _witness(self) -> contract_reads.ExecutingBlockCall:
        return _MULTICALL3_WITNESS if self._has_multicall3 else _CODE_WITNESS

    def _check(self, endpoint: Endpoint, seen: ExecutedAt | None, context: RequestContext) -> None:
        head = self.requester.pool.best_head
        try:
            self.deployment.witnesses.check(endpoint, self.block, seen, head, self._witness(), context)
        except WrongBlockError as error:
            if self.deployment.may_say(endpoint.host, self.requester.clock()):
                log.warning("%s: %s; its calls at old blocks are not believed", self.requester.name, error)
            raise


def _outcome(answer: Answer, endpoint: Endpoint) -> CallResult | ProviderError:
    if isinstance(answer, RevertedError):
        return CallResult(False, answer.data)
    if isinstance(answer, ProviderError):
        return answer
    try:
        return CallResult(True, parse_hex_bytes(answer))
    except AnswerError as error:
        error.host = endpoint.host
        return error


def _raise_worst(errors: Sequence[ProviderError], *, nothing_came: bool) -> None:
    """Raises the error that decides how calls without an answer are asked again; not where simply asking them will do.

    Too many requests: the endpoint wants to be left alone. Only limits: another endpoint may have others.
    """
    rest = [error for error in errors if not isinstance(error, CallLimitError)]
    for error in rest:
        if isinstance(error, RateError):
            raise error
    if errors and not rest:
        raise errors[0]
    if rest and nothing_came:
        raise rest[0]
