"""The simulation with balances: at every moment they are the sum of the rows, whatever befalls those who keep them."""

from __future__ import annotations

import pytest

from tests.chaos.simulation import Simulation
from tests.further import further


@pytest.mark.promise("B-01", "B-08")
@pytest.mark.parametrize("seed", [1, further(4)])  # of those that settle soon
def test_balances_are_the_sum_of_the_rows(seed, chaos):
    with chaos.database() as (url, folder):
        tale = Simulation(seed, chaos.server, url, folder, balances=True).run(again=25)
    assert tale.events["ledgers read"] > 10
    assert tale.events["days of holders"] >= 5
