"""The rows of ``benchmarks.scale``, small: each of them measures something, and what it measures is there."""

import pytest

from benchmarks import scale


@pytest.mark.parametrize("name", scale.names())
def test_a_row_is_measured(name: str, postgres_url: str) -> None:
    row = scale.measure(name, postgres_url, small=True)
    assert row.name
    assert row.unit
    assert row.measured >= 0
    assert row.bar > 0


def test_a_figure_is_on_one_side_of_its_bar() -> None:
    assert scale.Row("", 2, 1, "ms").holds is False
    assert scale.Row("", 2, 1, "chains", at_least=True).holds is True
