"""Several questions to one endpoint, of which some fail: what came is kept, and only the rest is asked for again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from indexer.chain.records.errors import LaggingError, ProviderError, TransientError
from indexer.chain.records.messages import Call
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

K = TypeVar("K")
T = TypeVar("T")

# So often in a row nothing more may come, once something came, before the rest is given up.
_FRUITLESS = 2


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


def ask(
    endpoint: Endpoint,
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
        begun: whether other parts of the same answer have come already, as :meth:`Endpoint.ask`.

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
