"""The simulation with derived tables: at every moment they are what their rules make of the rows that they count."""

from __future__ import annotations

import pytest

from tests.chaos.simulation import Simulation


@pytest.mark.promise("D-01", "D-02")
@pytest.mark.parametrize("seed", range(1, 2))
def test_derived_tables_follow_from_the_rows(seed, chaos):
    with chaos.database() as (url, folder):
        tale = Simulation(seed, chaos.server, url, folder, derives=True, balances=False).run(25)
    assert tale.events["derived tables read"] > 0
