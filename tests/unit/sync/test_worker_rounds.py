"""One round after the other of a backfill's workers: what comes of a round that fills nothing, or fails."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indexer.errors import GaplessError
from indexer.sync.history import workers
from indexer.sync.history.backfill import Progress, Selection
from indexer.sync.history.workers import WorkerJob, run_with


class Stop:
    """An event that notes for how long it was waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def is_set(self) -> bool:
        """Nobody stops."""
        return False

    def wait(self, seconds: float) -> bool:
        """Returns at once."""
        self.waits.append(seconds)
        return False


def rounds(monkeypatch: pytest.MonkeyPatch, fill: Callable[[], Progress], count: int) -> tuple[Progress, Stop]:
    """Runs so many rounds of one piece each."""
    monkeypatch.setattr(workers, "fill", lambda _job: fill())
    gap = SimpleNamespace(ranges=((0, 9),), blocks=10)
    plans = iter([[gap]] * count + [[]])
    stop = Stop()
    work = SimpleNamespace(
        stop=stop,
        progress=Progress(),
        plan=lambda: SimpleNamespace(gaps=next(plans)),
        put_indexes_off=lambda _gap: None,
        build_indexes=lambda _plan: None,
        require_read=lambda: None,
        on_progress=lambda _progress: None,
    )
    job = WorkerJob(**dict.fromkeys(WorkerJob.__dataclass_fields__) | {"selection": Selection()})  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as executor:
        return run_with(executor, cast(Any, work), job, workers=1, piece=10), stop


def test_one_that_fills_nothing_is_followed_by_a_pause(monkeypatch):
    filled = iter([0, 0, 5, 0])
    progress, stop = rounds(monkeypatch, lambda: Progress(blocks=next(filled)), 4)
    assert progress.blocks == 5
    assert stop.waits == [0.2, 0.4, 0.2]


def test_what_a_cluster_says_of_itself_is_told_with_what_to_do(monkeypatch):
    killed = type("KilledWorker", (Exception,), {"__module__": "distributed.scheduler"})

    def fill() -> Progress:
        raise killed("4 workers died while running it")

    with pytest.raises(GaplessError, match="4 workers died") as caught:
        rounds(monkeypatch, fill, 1)
    assert "run it again" in str(caught.value.hint)


def test_any_other_failure_is_as_it_was(monkeypatch):
    def fill() -> Progress:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        rounds(monkeypatch, fill, 1)
