"""Events as handlers get them: a row of an event's table, read by names.

An event and its arguments are views of one tuple, made by C code: a program handles tens of thousands a second.
"""

import keyword
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Final

ZERO: Final = bytes(20)
"""The zero address."""

FIELDS: Final = ("block_number", "log_index", "kind", "block_time", "tx_hash", "tx_index", "address")
"""What stands before the arguments in a row."""


class _Arguments(tuple[Any, ...]):
    """The arguments of an event, by their names in the ABI or in Postgres; ``args.from_`` where that is a keyword."""

    __slots__ = ()
    known: dict[str, int]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the event has no argument {name} (it has: {', '.join(self.known)})")

    def __repr__(self) -> str:
        """For people."""
        return f"({', '.join(f'{name}={self[at]!r}' for name, at in self.known.items())})"


class ProgramEvent(tuple[Any, ...]):
    """An event.

    Attributes:
        name: ``contract.Event``, as in the manifest.
        chain_id: of its chain.
        block_number: the block that bore it.
        block_time: the block's timestamp, in seconds since 1970.
        tx_hash: of its transaction, 32 bytes.
        tx_index: the position of the transaction in the block.
        log_index: its position in the block.
        address: the contract that emitted it, 20 bytes.
        args: its arguments, as attributes: addresses and bytes as ``bytes``, integers as ``int``.
    """

    __slots__ = ()
    name: str
    chain_id: int
    arguments: type[_Arguments]
    block_number = property(itemgetter(0))
    log_index = property(itemgetter(1))
    block_time = property(itemgetter(3))
    tx_hash = property(itemgetter(4))
    tx_index = property(itemgetter(5))
    address = property(itemgetter(6))

    @property
    def args(self) -> Any:
        """Its arguments."""
        return tuple.__new__(self.arguments, self)

    def __repr__(self) -> str:
        """For people."""
        return f"{self.name} in block {self.block_number}, log {self.log_index}: {self.args!r}"


@dataclass(frozen=True, slots=True)
class EventArguments:
    """An event that a program handles.

    Attributes:
        label: ``contract.Event``.
        names: of each argument in order: what it may be called.
    """

    label: str
    names: Sequence[Sequence[str]]


def event_type(of: EventArguments, chain_id: int) -> Callable[[tuple[Any, ...]], ProgramEvent]:
    """What makes an event of a row: the values of :data:`FIELDS`, then those of the arguments."""
    positions: dict[str, int] = {}
    for at, names in enumerate(of.names, start=len(FIELDS)):
        for name in names:
            positions.setdefault(f"{name}_" if keyword.iskeyword(name) else name, at)
    members: dict[str, Any] = {name: property(itemgetter(at)) for name, at in positions.items()}
    arguments = type("Arguments", (_Arguments,), {**members, "__slots__": (), "known": positions})
    made = type(
        "Event", (ProgramEvent,), {"__slots__": (), "name": of.label, "chain_id": chain_id, "arguments": arguments}
    )
    return partial(tuple.__new__, made)
