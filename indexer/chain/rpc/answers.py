"""Answers of one endpoint: whose they are, what a refusal of one or of a batch means, and what to ask for again."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from indexer.chain.records.errors import (
    BatchError,
    FatalError,
    LaggingError,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    TransientError,
)
from indexer.chain.records.messages import Call, Envelope, encode, revert_data
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.exchange import HttpAnswer
from indexer.chain.rpc.failures import Failure, classify

if TYPE_CHECKING:
    from indexer.chain.rpc.endpoint import Endpoint

Answer = msgspec.Raw | ProviderError

# With these statuses a server may mean the batch, not its contents.
_BATCH_STATUSES = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 500, 501})
_ERROR_TEXT = 4000

K = TypeVar("K")
T = TypeVar("T")

# So often in a row nothing more may come, once something came, before the rest is given up.
_FRUITLESS = 2


def refusal(
    method: str, error: object, answer: HttpAnswer, asked: Call | None, redact: Callable[[str], str]
) -> ProviderError:
    """What a JSON-RPC error means. Under an HTTP error status its text decides first, then the code, then the status.

    Args:
        method: the method that was refused, or ``batch``.
        error: the error as it came, in whatever form.
        answer: the HTTP answer that held it.
        asked: the refused question, or the one of a batch that asks for a range.
        redact: takes the endpoint's URL out of a text.
    """
    code, text = _code_and_text(error)
    found = _classified(method, redact(text[:_ERROR_TEXT]), code, answer, asked)
    if isinstance(found, RevertedError):
        found.data = revert_data(error)
    return found


def unreadable(method: str, answer: HttpAnswer, asked: Call | None, redact: Callable[[str], str]) -> ProviderError:
    """What an HTTP answer without any JSON-RPC in it means; arguments as of :func:`refusal`."""
    text = redact(answer.body[:_ERROR_TEXT].decode("utf-8", "replace"))
    error: ProviderError
    if answer.status != 200:
        error = _classified(method, text, None, answer, asked)
        if method == "batch" and answer.status in _BATCH_STATUSES and isinstance(error, TransientError | FatalError):
            error = BatchError(str(error))
    elif asked is not None and answer.body.lstrip()[:1] in b"[{" and answer.body:
        error = RangeError(f"{method}: the answer was cut short after {len(answer.body):,} bytes")
    else:
        error = TransientError(f"{method}: the answer is no JSON: {text[:120]!r}", shrinkable=True)
    return of_a_batch(error) if method == "batch" else error


def _classified(method: str, text: str, code: int | None, answer: HttpAnswer, asked: Call | None) -> ProviderError:
    """What the table says of a refusal, by the words, the codes and the refused question."""
    filters = asked.filters if asked is not None else None
    blocks = asked.blocks if asked is not None else None
    longest = 0 if filters is None else max(len(filters.addresses or ()), filters.longest_topics)
    any_address = filters is not None and filters.addresses is None
    return classify(Failure(method, text, code, answer.status, answer.retry_after, blocks, longest, any_address))


def _code_and_text(error: object) -> tuple[int | None, str]:
    """The code of a JSON-RPC error, where it has one, and its words: the message and the data."""
    if not isinstance(error, dict):
        return None, str(error) if error is not None else "no list was answered to a batch"
    code = error.get("code")
    if not isinstance(code, int | float) and not (isinstance(code, str) and code.lstrip("-").isdigit()):
        code = None
    data = error.get("data")
    shown = data if isinstance(data, str) else encode(data).decode() if data is not None else ""
    return None if code is None else int(code), f"{error.get('message') or ''} {shown}".strip()


def matched(envelopes: Sequence[Envelope], first: int, count: int) -> list[Envelope | None]:
    """The answers to a batch, by the places of its questions, whose ids count up from ``first``.

    None where there is no answer, or an empty one, and where two answers with one id differ: neither is believed.
    """
    found: dict[int, Envelope | None] = {}
    for envelope in envelopes:
        number = number_of_id(envelope.id)
        if not isinstance(number, int) or (envelope.error is None and not memoryview(envelope.result).nbytes):
            continue
        other = found.setdefault(number, envelope)
        if other is None or (bytes(other.result), other.error) != (bytes(envelope.result), envelope.error):
            found[number] = None
    return [found.get(first + place) for place in range(count)]


def of_a_batch(error: ProviderError) -> ProviderError:
    """A refusal of a whole batch in words that no rule knows, as one that may be about the batch."""
    doubtful = isinstance(error, TransientError) and error.shrinkable
    if doubtful or (isinstance(error, FatalError) and error.scope in ("endpoint", "method")):
        return BatchError(error.args[0], host=error.host, code=error.code)
    return error


def refused_for_haste(calls: Sequence[Call], answers: Sequence[Answer]) -> list[int]:
    """The places of calls that were refused for haste while others of their method were answered."""
    answered = {call.method for call, answer in zip(calls, answers, strict=True) if not isinstance(answer, RateError)}
    return [
        position
        for position, (call, answer) in enumerate(zip(calls, answers, strict=True))
        if isinstance(answer, RateError) and call.method in answered
    ]


def number_of_id(found: object) -> object:
    """The id of an answer as the number that it means: some nodes write ``1.0`` or ``"0x1"`` for 1."""
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, str):
        try:
            return int(found, 16) if found.lower().startswith("0x") else int(float(found))
        except (ValueError, OverflowError):
            return found
    return found


@dataclass(frozen=True, slots=True)
class Pieces(Generic[K, T]):
    """What came of some questions.

    Attributes:
        found: the answers, as they were read.
        failed: for every question without one, why, in the order of the questions.
    """

    found: dict[K, T]
    failed: dict[K, ProviderError]

    def whole(self) -> dict[K, T]:
        """All answers.

        Raises:
            ProviderError: the first failure.
        """
        for error in self.failed.values():
            raise error
        return self.found


def ask_in_pieces(
    endpoint: "Endpoint",
    calls: Mapping[K, Call],
    context: RequestContext,
    read: Callable[[K, msgspec.Raw], T],
    *,
    again: Callable[[K, ProviderError], bool] = lambda key, error: True,
    begun: bool = False,
) -> Pieces[K, T]:
    """Ask one endpoint, and ask again at once for what failed as long as the rest was answered.

    A failure that a repetition does not cure (a refusal, a revert) is not asked again.

    Args:
        endpoint: the endpoint to ask.
        calls: the questions, each under a key.
        context: on whose account.
        read: reads and checks one result; raises ProviderError where it is not believed.
        again: whether it is any use to ask again for one that failed.
        begun: whether other parts of the same answer have come already, as :meth:`Endpoint.ask_in_pieces`.

    Raises:
        ProviderError: nothing can be said of single questions, and nothing was answered before.
    """
    found: dict[K, T] = {}
    failed: dict[K, ProviderError] = {}
    open_keys = list(calls)
    fruitless = 0
    while open_keys:
        try:
            answers = endpoint.ask([calls[key] for key in open_keys], context, begun=begun or bool(found))
        except ProviderError as error:
            if not found:
                raise
            failed |= dict.fromkeys(open_keys, error)
            break
        before = len(found)
        for key, answer in zip(open_keys, answers, strict=True):
            try:
                if isinstance(answer, ProviderError):
                    raise answer
                found[key] = read(key, answer)
                failed.pop(key, None)
            except ProviderError as error:
                error.host = error.host or endpoint.host
                failed[key] = error
        fruitless = 0 if len(found) > before else fruitless + 1
        if not found or fruitless >= _FRUITLESS:
            break
        open_keys = [
            key
            for key in open_keys
            if isinstance(failed.get(key), TransientError | LaggingError) and again(key, failed[key])
        ]
    return Pieces(found, {key: failed[key] for key in calls if key in failed})


def ask_abreast(
    endpoint: "Endpoint",
    calls: Mapping[K, Call],
    context: RequestContext,
    read: Callable[[K, msgspec.Raw], T],
    *,
    again: Callable[[K, ProviderError], bool] = lambda key, error: True,
) -> Pieces[K, T]:
    """Ask one endpoint for the rest of an answer of which parts have come already, several batches at once.

    As many are under way as the endpoint's window allows; each waits for it like any other request.

    Args:
        endpoint: the endpoint to ask.
        calls: the questions, each under a key.
        context: on whose account.
        read: as of :func:`ask_in_pieces`; called by several threads.
        again: as of :func:`ask_in_pieces`; called by several threads.

    Raises:
        ProviderError: nothing can be said of single questions of one batch; those not begun are left out.
    """
    keys, size = list(calls), endpoint.max_batch()
    batches = deque(keys[start : start + size] for start in range(0, len(keys), size))
    found: dict[K, T] = {}
    failed: dict[K, ProviderError] = {}
    failures: list[Exception] = []
    lock = threading.Lock()

    def stopped() -> bool:
        return bool(failures) or (context.stopped is not None and context.stopped())

    def work(own: RequestContext) -> None:
        try:
            while not stopped():
                with lock:
                    if not batches:
                        return
                    batch = batches.popleft()
                part = ask_in_pieces(endpoint, {key: calls[key] for key in batch}, own, read, again=again, begun=True)
                with lock:
                    found.update(part.found)
                    failed.update(part.failed)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)

    with endpoint.lock:
        abreast = max(1, min(len(batches), endpoint.rate.window.size))
    own = replace(context, requests=0, bytes=0, stopped=stopped, under_way=None, waited=0.0)
    contexts = [replace(own) for _ in range(abreast)]
    others = [threading.Thread(target=work, args=(own,), name="abreast", daemon=True) for own in contexts[1:]]
    for other in others:
        other.start()
    work(contexts[0])
    for other in others:
        other.join()
    context.requests += sum(own.requests for own in contexts)
    context.bytes += sum(own.bytes for own in contexts)
    context.waited += max(own.waited for own in contexts)
    if failures:
        raise failures[0]
    context.check()
    return Pieces(found, {key: failed[key] for key in calls if key in failed})
