"""What several threads touch: each such object is used by all of them at once, as hard as they can."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from indexer.chain.records.column_reader import LOG_FORM, Layouts
from indexer.chain.records.errors import FatalError, LaggingError, ProviderError, RateError, TransientError
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.endpoint_pool import EndpointPool
from indexer.chain.rpc.no_endpoint import nobody
from indexer.service.jobs import Defects
from indexer.sync.head.decisions import PollSchedule

TURNS = 3000


@pytest.fixture(autouse=True)
def _threads_take_turns_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hammer(*works: Callable[[int], object], turns: int = TURNS) -> None:
    """Runs each work on a thread of its own, with the turn's number; all begin together.

    Raises:
        Exception: the first that one of them raised.
    """
    together = threading.Barrier(len(works))
    failures: list[Exception] = []

    def run(work: Callable[[int], object]) -> None:
        together.wait()
        try:
            for turn in range(turns):
                work(turn)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def test_the_pace_of_a_chain() -> None:
    """The follower tells it; the scheduler's own thread asks it, and nothing runs any more if that thread dies."""
    pace = PollSchedule()
    turns = 100_000
    ask = [lambda turn: pace.wait(turn * 0.5) for _ in range(3)]
    hammer(lambda turn: pace.saw(turn, turn * 0.5), *ask, turns=turns)
    assert pace.wait(turns * 0.5) > 0


def test_an_endpoint_pool() -> None:
    """Jobs ask through it, scans learn by it, metrics and the status look at it."""
    pool = EndpointPool(
        "demo",
        [EndpointConfig("http://one"), EndpointConfig("http://two")],
        ClientSettings(),
        clock=time.monotonic,
        sleep=time.sleep,
        random=random.Random(1),
        spawn=lambda _job: None,
    )
    one, two = pool.endpoints
    errors: list[ProviderError] = [
        TransientError("away"),
        RateError("too many"),
        LaggingError("behind"),
        TransientError("away"),
    ]

    def learn(turn: int) -> None:
        error = errors[turn % len(errors)]
        if turn % 5 == 0:
            error = FatalError("no such method", scope="method")

        def fail(_endpoint: object) -> None:
            raise error

        with pytest.raises(ProviderError):
            pool.ask(one, fail, f"eth_{turn}", turn)

    def answer(turn: int) -> None:
        pool.ask(two, lambda _endpoint: None, "eth_getLogs")
        with two.lock:
            two.health.saw(turn)
            two.health.lacks(turn, 1e12)

    def count(turn: int) -> None:
        with one.lock:
            one.rate.started(float(turn))
            one.rate.finished()

    hammer(
        learn,
        answer,
        count,
        lambda turn: pool.choose("eth_getBlockByNumber", turn, sticky=bool(turn % 2)),
        lambda turn: (
            pool.lags(one, turn),
            pool.lags(two, turn),
            nobody(pool.name, pool.endpoints, "eth_x", turn, 0.0),
        ),
        lambda turn: [endpoint.status() for endpoint in pool.endpoints],
    )


def test_the_layouts_of_an_endpoints_logs() -> None:
    import numpy as np

    layouts = Layouts(LOG_FORM)

    def log(data: int) -> np.ndarray:
        text = (
            f'{{"address":"0x{"1" * 40}","topics":["0x{"2" * 64}"],"data":"0x{"00" * data}","blockNumber":"0x1",'
            f'"transactionHash":"0x{"3" * 64}","transactionIndex":"0x1","blockHash":"0x{"4" * 64}","logIndex":"0x1",'
            '"removed":false}'
        )
        return np.frombuffer(text.encode(), np.uint8)

    logs = [log(length) for length in range(40)]
    hammer(*[lambda turn: layouts.of(logs[turn % len(logs)]) for _ in range(3)])
    assert layouts.of(logs[0]) is not None


def test_what_is_said_of_defects(caplog: pytest.LogCaptureFixture) -> None:
    defects = Defects()
    error = ValueError("always the same")
    hammer(*[lambda turn: defects.saw("a job", error, 0.0) for _ in range(3)])
    assert [record.message for record in caplog.records] == ["job a job failed: always the same"]
    defects.saw("a job", error, defects.AGAIN_AFTER)
    assert caplog.records[-1].message == (
        f"job a job failed {3 * TURNS} times more in the same way, {3 * TURNS + 1} in all: always the same"
    )
    assert caplog.records[-1].exc_info is None
