"""Workers that can do nothing now are not asked again and again at once."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

from indexer.sync import workers
from indexer.sync.backfill import Progress, Selection
from indexer.sync.workers import Job, run_with


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


def test_a_round_that_fills_nothing_is_followed_by_a_pause(monkeypatch):
    fills = iter([0, 0, 5, 0])
    monkeypatch.setattr(workers, "fill", lambda _job: Progress(blocks=next(fills)))
    gap = SimpleNamespace(ranges=((0, 9),), blocks=10)
    plans = iter([[gap]] * 4 + [[]])
    stop = Stop()
    work = SimpleNamespace(
        stop=stop,
        progress=Progress(),
        plan=lambda: SimpleNamespace(gaps=next(plans)),
        put_indexes_off=lambda _gap: None,
        build_indexes=lambda _plan: None,
        on_progress=lambda _progress: None,
    )
    job = Job(**dict.fromkeys(Job.__dataclass_fields__) | {"selection": Selection()})  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as executor:
        assert run_with(executor, cast(Any, work), job, workers=1, piece=10).blocks == 5
    assert stop.waits == [0.2, 0.4, 0.2]
