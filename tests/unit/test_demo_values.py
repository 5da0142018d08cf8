"""The random values that the zoo's events are fed with."""

from random import Random

import pytest
from eth_abi.abi import decode, encode
from eth_utils.abi import collapse_if_tuple

from indexer.demo.contracts import artifact
from indexer.demo.values import random_value


@pytest.mark.parametrize("kind", ["uint8", "uint256", "int8", "int24", "int256"])
def test_integers_reach_both_ends_and_never_leave_them(kind):
    bits = int(kind.lstrip("uint"))
    low, high = (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    random = Random(1)
    values = [random_value(random, {"type": kind}) for _ in range(500)]
    assert (min(values), max(values)) == (low, high)
    assert len(set(values)) > 20


def test_every_argument_of_the_zoo_gets_values_that_its_type_can_hold():
    random = Random(1)
    inputs = [each for item in artifact("Zoo").abi if item["type"] == "function" for each in item["inputs"]]
    assert len(inputs) > 50
    for parameter in inputs:
        kind = collapse_if_tuple(parameter)
        for _ in range(5):
            [back] = decode([kind], encode([kind], [random_value(random, parameter)]))
            assert back is not None


def test_arrays_nest_and_keep_their_fixed_sizes():
    value = random_value(Random(2), {"type": "uint8[2][3]"})
    assert [len(row) for row in value] == [2, 2, 2]
    lengths = {len(random_value(Random(seed), {"type": "string[]"})) for seed in range(50)}
    assert {0, 1} < lengths


def test_a_seed_gives_the_same_values_again():
    parameter = {"type": "tuple[]", "components": [{"name": "a", "type": "bytes"}, {"name": "b", "type": "address"}]}
    assert random_value(Random(7), parameter) == random_value(Random(7), parameter)


def test_a_type_that_it_does_not_know_is_named():
    with pytest.raises(ValueError, match="fixed128x18"):
        random_value(Random(1), {"type": "fixed128x18"})
