"""The parts of an answer that every question has: whose it is, and what a refusal of one or of a batch says."""

from collections.abc import Sequence

import msgspec

from indexer.chain.records.errors import BatchError, FatalError, ProviderError, RateError, TransientError
from indexer.chain.records.messages import Call, Envelope, encode
from indexer.chain.rpc.error_table import Failure

Answer = msgspec.Raw | ProviderError


def failure(
    method: str, text: str, code: int | None, status: int, retry_after: float | None, asked: Call | None
) -> Failure:
    """A refusal, with what the table asks of the refused question."""
    filters = asked.filters if asked is not None else None
    blocks = asked.blocks if asked is not None else None
    if filters is None:
        return Failure(method, text, code, status, retry_after, blocks)
    longest = max(len(filters.addresses or ()), filters.longest_topics)
    return Failure(method, text, code, status, retry_after, blocks, longest, filters.addresses is None)


def code_and_text(error: object) -> tuple[int | None, str]:
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
