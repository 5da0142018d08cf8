"""Very many addresses in little memory: a factory's children, each with the block of its birth.

A ``dict`` of 300,000 addresses takes 60 MB, and each list or set of them some more. Here an address that was there at
the start takes 28 bytes, in arrays that are sorted; those that came lately stay in a ``dict`` until they are many, too.
Few addresses are nothing but a ``dict`` and a ``tuple``.
"""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Any, TypeAlias, cast, overload

import numpy as np
from numpy.typing import NDArray

FEW = 4_096
"""So many are kept as a ``dict`` and given out as a ``tuple``."""

_LENGTH = 42  # 0x and 40 digits
_REMEMBERED = 20_000
_AT_ONCE = 1_000

_Array: TypeAlias = NDArray[np.bytes_]
_NONE: _Array = np.empty(0, "S20")


class Addresses(Sequence[str]):
    """Sorted addresses, each once: ``0x`` and 40 lower-case digits. It never changes."""

    def __init__(self, array: _Array) -> None:
        """Takes an array of 20 bytes each, sorted, without duplicates."""
        self._array = array
        self._asked: dict[str, bool] = {}
        self._json: bytes | None = None

    def json(self) -> bytes:
        """A JSON list of them, made once: the same slice is sent again and again."""
        if self._json is None:
            self._json = b'["' + '","'.join(self).encode() + b'"]'
        return self._json

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Addresses": ...
    def __getitem__(self, index: int | slice) -> "str | Addresses":
        if isinstance(index, slice):
            return Addresses(self._array[index])
        return _text(self._array[index])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._array), _AT_ONCE):
            digits = self._array[start : start + _AT_ONCE].tobytes().hex()
            yield from ("0x" + digits[at : at + 40] for at in range(0, len(digits), 40))

    def __contains__(self, address: object) -> bool:
        """Whether an address is among them, in any case of hex."""
        if not isinstance(address, str):
            return False
        known = self._asked.get(address)
        if known is None:
            known = _place(self._array, address) is not None
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            self._asked[address] = known
        return known

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Addresses):
            return self is other or np.array_equal(self._array, other._array)
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash((len(self._array), bytes(self._array[:1]), bytes(self._array[-1:])))

    def __repr__(self) -> str:
        return f"<{len(self):,} addresses>"


AddressList: TypeAlias = tuple[str, ...] | Addresses
"""Addresses in a question: few as a tuple, many in little memory."""


def united(lists: Sequence[AddressList]) -> AddressList:
    """All addresses of some lists, sorted, each once."""
    if len(lists) == 1 and isinstance(lists[0], Addresses):
        return lists[0]
    if sum(map(len, lists)) <= FEW:
        return tuple(sorted({address for one in lists for address in one}))
    arrays = [one._array if isinstance(one, Addresses) else _array(one) for one in lists]
    return Addresses(np.unique(np.concatenate(arrays)))


class DiscoveryBlocks(MutableMapping[str, int]):
    """The children of a factory: by address (``0x`` and 40 lower-case digits) the block of the birth."""

    def __init__(self, addresses: bytes = b"", blocks: bytes = b"") -> None:
        """Begins with those that are known already.

        Args:
            addresses: 20 bytes of each, sorted, without duplicates.
            blocks: 8 bytes of each, big-endian, in the same order.
        """
        self._old: _Array = np.frombuffer(addresses, "S20")
        self._blocks = np.frombuffer(blocks, ">i8").astype("i8")
        self._young: dict[str, int] = {}
        self._listed: AddressList | None = None
        if len(self._old) <= FEW:
            self._young = dict(zip(Addresses(self._old), self._blocks.tolist(), strict=True))
            self._old, self._blocks = _NONE, np.empty(0, "i8")
        self._asked: dict[str, int | None] = {}

    def __getitem__(self, address: str) -> int:
        block: int | None = self.get(address)
        if block is None:
            raise KeyError(address)
        return block

    def get(self, address: str, default: Any = None) -> Any:
        """The block of a child's birth."""
        block = self._young.get(address)
        if block is None and len(self._old):
            block = self._asked.get(address, -1)
            if block == -1:
                place = _place(self._old, address)
                block = None if place is None else int(self._blocks[place])
                if len(self._asked) >= _REMEMBERED:
                    self._asked.clear()
                self._asked[address] = block
        return default if block is None else block

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and self.get(address) is not None

    def __setitem__(self, address: str, block: int) -> None:
        if address not in self:
            self._listed = None
        self._young[address] = block
        if len(self._young) > max(FEW, len(self._old) // 8):
            self._settle()

    def __delitem__(self, address: str) -> None:
        if address not in self:
            raise KeyError(address)
        self._settle()
        place = _place(self._old, address)
        assert place is not None
        self._take(np.delete(self._old, place), np.delete(self._blocks, place))

    def __iter__(self) -> Iterator[str]:
        yield from Addresses(self._old)
        yield from [address for address in self._young if _place(self._old, address) is None]

    def __len__(self) -> int:
        return len(self.addresses())

    def addresses(self) -> AddressList:
        """The addresses alone, sorted. The same object until a child is born."""
        if self._listed is None:
            old: list[AddressList] = [Addresses(self._old)] if len(self._old) else []
            self._listed = united([*old, tuple(self._young)] if self._young or not old else old)
        return self._listed

    def update(self, other: Any = (), /, **more: int) -> None:
        """Takes others in, many at once where they are many."""
        if not isinstance(other, DiscoveryBlocks) or more or not len(other._old):
            super().update(other, **more)
            return
        self._settle()
        kept = ~np.isin(self._old, other._old, assume_unique=True)
        every = np.concatenate([other._old, self._old[kept]])
        order = np.argsort(every, kind="stable")
        self._take(every[order], np.concatenate([other._blocks, self._blocks[kept]])[order])
        super().update(other._young)

    def until(self, block: int) -> "DiscoveryBlocks":
        """Those that were born up to a block."""
        if len(self._old) and self._young:
            self._settle()
        born = DiscoveryBlocks()
        kept = self._blocks <= block
        born._take(self._old[kept], self._blocks[kept])
        born._young = {address: birth for address, birth in self._young.items() if birth <= block}
        return born

    def copy(self) -> "DiscoveryBlocks":
        """Another one, that grows by itself."""
        return self.until(2**62)

    def _take(self, old: _Array, blocks: NDArray[np.int64]) -> None:
        self._old, self._blocks = old, blocks
        self._asked.clear()
        self._listed = None

    def _settle(self) -> None:
        """Takes the young ones into the arrays."""
        young = _array(self._young)
        blocks = np.fromiter(self._young.values(), "i8", len(young))
        replaced = np.isin(self._old, young, assume_unique=True)
        every = np.concatenate([self._old[~replaced], young])
        order = np.argsort(every, kind="stable")
        self._young = {}
        self._take(every[order], np.concatenate([self._blocks[~replaced], blocks])[order])


Children: TypeAlias = dict[int, DiscoveryBlocks]
"""By contract id: the addresses that its factories announced, each with the block of its birth."""


def _array(addresses: Iterable[str]) -> _Array:
    return np.frombuffer(bytes.fromhex("".join(address[2:] for address in addresses)), "S20")


def _place(array: _Array, address: str) -> int | None:
    """Where an address lies in a sorted array; None: nowhere, or it is no address."""
    if len(address) != _LENGTH:
        return None
    try:
        wanted = bytes.fromhex(address[2:])
    except ValueError:
        return None
    place = int(np.searchsorted(array, cast(Any, wanted)))
    # numpy leaves zeros at the end out of what it gives.
    return place if place < len(array) and bytes(array[place]) == wanted.rstrip(b"\0") else None


def _text(item: np.bytes_) -> str:
    return "0x" + bytes(item).ljust(20, b"\0").hex()
