"""Very many addresses: whatever is done to them, they are what a dict of them would be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import addresses as module
from indexer.addresses import Addresses, DiscoveryBlocks, united


def name(number: int) -> str:
    # Zeros at the end and at the beginning: numpy does not show the former.
    return "0x" + (number * 0x01_00_03 % 257).to_bytes(2, "big").hex() + "00" * 16 + (number % 3 << 8).to_bytes(2).hex()


@pytest.fixture(autouse=True, scope="module")
def _few():
    """Three are many, so that a short history has all of it."""
    before, module.FEW = module.FEW, 3
    yield
    module.FEW = before


def births(known: dict[str, int]) -> DiscoveryBlocks:
    inorder = sorted(known)
    return DiscoveryBlocks(
        bytes.fromhex("".join(address[2:] for address in inorder)),
        b"".join(known[address].to_bytes(8, "big") for address in inorder),
    )


numbers = st.integers(0, 40)
steps = st.lists(st.tuples(st.sampled_from(["birth", "death", "until", "copy", "update"]), numbers, st.integers(0, 30)))


@given(st.dictionaries(numbers.map(name), st.integers(0, 30)), steps)
@settings(max_examples=150, deadline=None)
def test_they_are_a_dict(known: dict[str, int], history: list[tuple[str, int, int]]) -> None:
    one, model = births(known), dict(known)
    for what, number, block in history:
        address = name(number)
        match what:
            case "birth":
                one[address] = model[address] = block
            case "death" if address in model:
                del one[address], model[address]
            case "until":
                one, model = one.until(block), {a: b for a, b in model.items() if b <= block}
            case "update":
                more = {name(n): block for n in range(number, number + block // 3)}
                one.update(births(more))
                model.update(more)
            case "copy":
                before, one = one, one.copy()
                before["0x" + "77" * 20] = 1
        assert dict(one.items()) == model
        assert len(one) == len(model)
        assert {name(n): one.get(name(n)) for n in range(41)} == {name(n): model.get(name(n)) for n in range(41)}
        assert list(one.addresses()) == sorted(model)
        assert one.addresses() is one.addresses()


def test_what_is_no_address_is_not_there() -> None:
    one = births({name(n): n for n in range(20)})
    listed = one.addresses()
    assert isinstance(listed, Addresses)
    for wrong in ("", "0x", "0x" + "zz" * 20, name(1) + "00", None):
        assert wrong not in one
        assert wrong not in listed
    with pytest.raises(KeyError):
        one["0x" + "99" * 20]
    with pytest.raises(KeyError):
        del one["0x" + "99" * 20]


def test_lists_are_sorted_whole_and_alike() -> None:
    every = sorted({name(n) for n in range(40)})
    half, rest = births(dict.fromkeys(every[::2], 1)).addresses(), tuple(every[1::2])
    whole = united([half, rest])
    assert list(whole) == every
    assert whole == united([rest, half])
    assert hash(whole) == hash(united([rest, half]))
    assert whole == tuple(every)
    assert whole != half
    assert list(whole[3:7]) == every[3:7]
    assert [whole[n] for n in range(len(every))] == every
    assert every[5].upper().replace("0X", "0x") in whole
    assert united([half]) is half
    assert united([tuple(every[:2]), tuple(every[1:3])]) == tuple(every[:3])
