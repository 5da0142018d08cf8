"""What can go wrong between us and a node, in classes that each have one answer.

========== ==================================== =========================================================
class      what happened                        the answer
========== ==================================== =========================================================
Range      the question asks for too much       ask for less, at once
Rate       we ask too often                     wait, slow this endpoint down, the same question again
Credits    the day's credits are spent          another endpoint; for history, later
Lagging    the node has not reached that block  another endpoint, or the same one a moment later
Fatal      this endpoint will never answer that say so, stop asking it that, probe again much later
Transient  anything else                        the same question again, with backoff, bounded
========== ==================================== =========================================================

Which text, code or status means which class is data: :mod:`indexer.chain.rpc.error_table`. Messages never hold more of
an endpoint than ``https://host/***``.
"""

import re
from typing import TYPE_CHECKING, Literal

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from indexer.chain.records.messages import Call

Limit = Literal["blocks", "results", "bytes", "lists", "history", "unknown"]
Scope = Literal["endpoint", "method", "history", "question"]


class ProviderError(GaplessError):
    """A node did not answer a question, or not in a way that can be believed.

    Attributes:
        host: the endpoint, shown as ``https://host/***``; empty until the transport has added it.
        method: the method that was asked; empty until the transport has added it.
        code: the JSON-RPC error code, or None where the failure was below JSON-RPC.
        call: the question for logs that was refused, alone or in its batch; None for any other question.
        calls: how many calls the refused request held.
        blocks: the range of history (inclusive) that could not be read because of it; None: it is about no range.
    """

    method = ""
    call: "Call | None" = None
    calls = 1
    blocks: tuple[int, int] | None = None

    def __init__(self, message: str, *, host: str = "", code: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.host = host
        self.code = code

    @property
    def words(self) -> str:
        """The node's words without their numbers: what two answers of one kind have in common."""
        said = self.args[0].partition(" refused ")[2]
        text = f"{self.code or ''} {said or self.args[0]}".strip()
        return re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f]*", "#", text, flags=re.IGNORECASE)

    def __str__(self) -> str:
        text = super().__str__()
        if self.method and self.method.split()[-1] not in text:
            text = f"{self.method}: {text}"
        return f"{self.host}: {text}" if self.host else text


class RangeError(ProviderError):
    """An ``eth_getLogs`` asks for too much. Not retried as it is: ask for fewer blocks.

    Attributes:
        limit: what is limited: ``blocks`` and ``lists`` (of addresses, of topics) hold for the endpoint, the others
            only for this part of the chain; ``history``: no endpoint keeps the part that is ``suggested``: ask for it
            apart.
        maximum: the limit's size where the provider names it: blocks in one request (a count), logs, or bytes.
        suggested: a block range (inclusive) that the provider says would work.
        timed_out: whether it was a time-out, which may also mean that the endpoint is ill.
        wording: where it is only a guess that the question asked for too much: the words that no rule knew.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: Limit = "unknown",
        maximum: int | None = None,
        suggested: tuple[int, int] | None = None,
        timed_out: bool = False,
        host: str = "",
        code: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, host=host, code=code, hint=hint)
        self.limit = limit
        self.maximum = maximum
        self.suggested = suggested
        self.timed_out = timed_out
        self.wording: str | None = None


class RateError(ProviderError):
    """Too many requests. Retried after a wait; the range stays.

    Attributes:
        retry_after: the seconds that the provider asked us to wait, or None.
        times: how often the question was refused so before this was raised, one after the other.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        host: str = "",
        code: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, host=host, code=code, hint=hint)
        self.retry_after = retry_after
        self.times = 1


class CreditsError(ProviderError):
    """What may be spent at the endpoint today is spent (``credits_per_day``). Asked elsewhere, or later.

    Nothing was sent.
    """


class LaggingError(ProviderError):
    """The answering node has not reached the block in question. Retried elsewhere, or here a moment later."""


class FatalError(ProviderError):
    """This endpoint will not answer this, however often it is asked.

    Attributes:
        scope: ``endpoint`` (nothing at all: a wrong key, another chain), ``method`` (not this method), ``history``
            (not for a block that old), or ``question`` (not this kind of question: logs of any address).
        up_to: where history is refused and it is known up to which block: that block.
    """

    up_to: int | None = None

    def __init__(
        self,
        message: str,
        *,
        scope: Scope = "endpoint",
        host: str = "",
        code: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, host=host, code=code, hint=hint)
        self.scope: Scope = scope


class TransientError(ProviderError):
    """Something that a repetition may cure. Retried with backoff.

    Attributes:
        shrinkable: whether a smaller range may cure it too (an unknown text, a gateway's 502), as opposed to an
            endpoint that cannot be reached. The second such answer to an ``eth_getLogs`` over several blocks makes the
            range smaller.
    """

    def __init__(
        self,
        message: str,
        *,
        shrinkable: bool = False,
        host: str = "",
        code: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, host=host, code=code, hint=hint)
        self.shrinkable = shrinkable


class AnswerError(TransientError):
    """An answer that contradicts its question or itself.

    It is thrown away whole, counted against the endpoint, and the question asked again, elsewhere if there is another.
    """


class OtherBlockError(AnswerError):
    """A block was asked for by its hash, and the answer is about another one."""


class BatchError(ProviderError):
    """A JSON-RPC batch was refused as such. Never leaves the transport, which asks in smaller batches instead.

    Attributes:
        maximum: the number of calls that the provider allows in a batch, where it says so.
        unanswered: whether it was no refusal, but an answer without an answer to any of the calls.
    """

    def __init__(
        self,
        message: str,
        *,
        maximum: int | None = None,
        unanswered: bool = False,
        host: str = "",
        code: int | None = None,
    ) -> None:
        super().__init__(message, host=host, code=code)
        self.maximum = maximum
        self.unanswered = unanswered


class RevertedError(ProviderError):
    """An ``eth_call`` that was executed and reverted. The client turns it into :class:`CallReverted`.

    Attributes:
        data: the revert data.
    """

    data = b""


class CallLimitError(ProviderError):
    """A node gave up on an ``eth_call``: its own limit of time, gas or size, or its own fault, not the contract's word.

    Another endpoint may have other limits and is asked; the same one is not. The node's health is not in question.
    """


class WrongBlockError(ProviderError):
    """An ``eth_call`` was answered with the state of another block than the one asked for.

    The answer is thrown away and the call asked again, elsewhere if there is another endpoint. What the endpoint says
    otherwise is not in question.
    """


class NoEndpointError(ProviderError):
    """No endpoint of the chain can answer the question. Not retried; the message lists each endpoint's own reason."""


class NoHistoryError(NoEndpointError):
    """As far as is known, no endpoint of the chain keeps history that old, though they answer otherwise."""


def is_too_old(error: ProviderError) -> bool:
    """Whether an error means that what was asked for is older than what the chain's endpoints keep, or tell."""
    if isinstance(error, FatalError):
        return error.scope == "history"
    return isinstance(error, NoHistoryError | WrongBlockError)


class ChainMismatchError(ProviderError):
    """Every endpoint that answers serves another chain than the manifest says. Not retried."""


class BranchMovedError(ProviderError):
    """The chain moved while a branch was being read: its parts do not belong together. The caller reads it again."""


class CallReverted(GaplessError):  # noqa: N818 - an answer, not an error
    """An ``eth_call`` was executed and reverted: an answer, not a failure, so never retried.

    Attributes:
        data: the revert data (``Error(string)``, ``Panic(uint256)``, a custom error), empty where the node gave none.
    """

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class Stopped(GaplessError):  # noqa: N818 - an order, not an error
    """The caller's stop event was set while a question was waiting to be asked."""


def without_numbers(text: str) -> str:
    """A text with its numbers left out: the same for all messages of one kind."""
    return re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f]*", "#", text, flags=re.IGNORECASE)


BranchMoved = BranchMovedError
