"""When ``gapless status`` may say that everything is there."""

from datetime import UTC, datetime

import pytest

from indexer.intervals import RangeSet
from indexer.store.status import ChainOverview, EventOverview, Overview


def overview(tips: list[int | None], missing: list[RangeSet]) -> Overview:
    chains = [
        ChainOverview(number, "a chain", "following", None, tip, tip, tip, None, True, None, 0, None)
        for number, tip in enumerate(tips)
    ]
    events = [EventOverview(0, "coins", "Transfer", 10, 10, ranges, 0, 0, 0) for ranges in missing]
    return Overview(datetime(2026, 1, 1, tzinfo=UTC), chains, events, [], [], [])


@pytest.mark.parametrize(
    ("tips", "missing", "complete"),
    [
        ([10], [(), ()], True),
        ([10], [(), ((3, 4),)], False),
        ([None], [()], False),  # nobody has looked at the chain: nothing is known to be wanted
        ([10, None], [()], False),
        ([], [], True),
    ],
)
def test_complete_is_what_has_been_looked_at_and_lacks_nothing(tips, missing, complete) -> None:
    assert overview(tips, missing).is_complete is complete
