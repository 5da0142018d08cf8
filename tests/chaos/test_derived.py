"""The simulation with derived tables: at every moment they are what their rules make of the rows that they count."""

from __future__ import annotations

import pytest

from tests.chaos.simulation import Simulation


@pytest.mark.promise("D-01", "D-02")
def test_derived_tables_follow_from_the_rows(chaos):
    for seed in range(1, 6):
        with chaos.database() as (url, folder):
            tale = Simulation(seed, chaos.server, url, folder, derives=True, balances=False).run(25)
        if tale.events["derived tables read"]:  # by the order of threads, a seed may read before there is any
            return
    pytest.fail("in no seed was a derived table read")
