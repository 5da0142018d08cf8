"""When a question is asked again: tenacity's engine, our rules.

Rate errors wait at the endpoint, which knows how long. All others are asked again elsewhere at once; where there is
no other endpoint, at the same one after a pause that doubles, with jitter.
"""

import random as random_module
from collections.abc import Callable

import tenacity

from indexer.chain.records.errors import (
    CallLimitError,
    FatalError,
    LaggingError,
    RateError,
    TransientError,
    WrongBlockError,
)
from indexer.chain.rpc.config import ClientSettings

RETRIED = (TransientError, RateError, LaggingError, FatalError, WrongBlockError)
# A node's own limit is the same at every attempt: another node's may be wider.
RETRIED_ELSEWHERE = (CallLimitError,)
# A node that is told to wait is not failing: these do not count as attempts, only as time.
_MOST_WAITS = 200


def retrying(
    settings: ClientSettings,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    random: random_module.Random,
    elsewhere: Callable[[], bool],
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
        late = clock() - started > settings.give_up_after
        return counted >= (attempts or settings.attempts) or waits >= _MOST_WAITS or late

    return tenacity.Retrying(
        sleep=sleep,
        wait=wait,
        stop=stop,
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, RETRIED) or (isinstance(error, RETRIED_ELSEWHERE) and elsewhere())
        ),
        before_sleep=before_sleep,
        reraise=True,
    )
