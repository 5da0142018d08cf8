"""An ABI: events, functions and errors, from the items that a compiler writes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from eth_hash.auto import keccak

from indexer.abi.forms import find_abi, read_document, uniform
from indexer.abi.types import AbiError, Parameter, parse_name, parse_parameter

Item: TypeAlias = Mapping[str, Any]
Mutability = Literal["pure", "view", "nonpayable", "payable"]

_ITEM_KINDS = ("event", "function", "error", "constructor", "fallback", "receive")
_Described = TypeVar("_Described", "Event", "Function", "CustomError")


@dataclass(frozen=True)
class Event:
    """An event of an ABI.

    Attributes:
        name: as in the ABI.
        inputs: its arguments, in order, indexed ones among them.
        anonymous: whether its logs have no topic0: all their topics are indexed arguments.
        item: its item of the ABI, as given.
    """

    name: str
    inputs: tuple[Parameter, ...]
    anonymous: bool = False
    item: Item = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def signature(self) -> str:
        """``Transfer(address,address,uint256)``."""
        return _signature(self.name, self.inputs)

    @cached_property
    def topic0(self) -> bytes:
        """Keccak-256 of the signature; an anonymous event has it too, but its logs do not bear it."""
        return keccak(self.signature.encode())

    @property
    def selector(self) -> str:
        """The first eight hex digits of topic0: ``ddf252ad``."""
        return self.topic0[:4].hex()

    @property
    def indexed(self) -> tuple[Parameter, ...]:
        """The arguments that are topics, in order."""
        return tuple(p for p in self.inputs if p.indexed)


@dataclass(frozen=True)
class Function:
    """A function of an ABI.

    Attributes:
        name: as in the ABI.
        inputs: its arguments, in order.
        outputs: what it returns, in order.
        mutability: pure, view, nonpayable or payable.
        item: its item of the ABI, as given.
    """

    name: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    mutability: Mutability
    item: Item = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def signature(self) -> str:
        """``balanceOf(address)``."""
        return _signature(self.name, self.inputs)

    @cached_property
    def selector(self) -> bytes:
        """The four bytes with which a call of it begins."""
        return keccak(self.signature.encode())[:4]

    @property
    def is_view(self) -> bool:
        """Whether it only reads."""
        return self.mutability in ("view", "pure")


@dataclass(frozen=True)
class CustomError:
    """An error with which a contract reverts.

    Attributes:
        name: as in the ABI.
        inputs: its arguments, in order.
        item: its item of the ABI, as given.
    """

    name: str
    inputs: tuple[Parameter, ...]
    item: Item = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def signature(self) -> str:
        """``ERC20InsufficientBalance(address,uint256,uint256)``."""
        return _signature(self.name, self.inputs)

    @cached_property
    def selector(self) -> bytes:
        """The four bytes with which the revert data begins."""
        return keccak(self.signature.encode())[:4]


@dataclass(frozen=True)
class Abi:
    """What a contract can say and answer.

    Attributes:
        events: in the ABI's order, one a signature.
        functions: likewise.
        errors: likewise.
        ignored: functions and errors that cannot be called or decoded from outside, such as a library's with storage
            references, each with its path and why.
        document: the list of items as given.
    """

    events: tuple[Event, ...] = ()
    functions: tuple[Function, ...] = ()
    errors: tuple[CustomError, ...] = ()
    ignored: tuple[str, ...] = ()
    document: tuple[Item, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def _event_counts(self) -> Counter[str]:
        return Counter(e.name for e in self.events)

    def is_overloaded(self, event: Event) -> bool:
        """Whether this ABI has several events of that name."""
        return self._event_counts[event.name] > 1

    def api_name(self, event: Event) -> str:
        """The event's name in the API and the manifest: ``Transfer``, or ``Transfer~ddf252ad`` where overloaded."""
        return f"{event.name}~{event.selector}" if self.is_overloaded(event) else event.name

    def event(self, name: str) -> Event:
        """The event of that name, ``Name~selector`` or signature.

        Raises:
            AbiError: there is none, or several; the message lists what there is.
        """
        found = [e for e in self.events if name in (e.name, f"{e.name}~{e.selector}", e.signature)]
        if len(found) == 1:
            return found[0]
        choices = ", ".join(self.api_name(e) for e in found or self.events) or "no event at all"
        if found:
            raise AbiError(f"event {name} is overloaded: choose one of {choices}")
        raise AbiError(f"the ABI has no event {name}: it has {choices}")

    def function(self, signature: str) -> Function:
        """The function of that signature, ``balanceOf(address)``, or of that name where there is only one.

        Raises:
            AbiError: there is none, or several; the message lists what there is.
        """
        wanted = "".join(signature.split())
        found = [f for f in self.functions if wanted in (f.signature, f.name)]
        if len(found) == 1:
            return found[0]
        name = wanted.partition("(")[0]
        alike = [f.signature for f in self.functions if f.name == name] or [f.signature for f in self.functions]
        choices = ", ".join(alike) or "no function at all"
        if found:
            raise AbiError(f"function {signature} is overloaded: choose one of {choices}")
        ignored = "".join(f"; ignored: {line}" for line in self.ignored if f" {name}:" in line)
        raise AbiError(f"the ABI has no function {signature}: it has {choices}{ignored}")


def parse_abi(document: object, contract: str | None = None) -> Abi:
    """Read an ABI.

    Args:
        document: parsed JSON, or text, in any of the forms of :mod:`indexer.abi.forms`.
        contract: which of the contracts of a compiler's output; None: the only one with events.

    Raises:
        AbiError: it is none, or an event of it cannot be understood; all problems at once, each with its path.
    """
    found = find_abi(document, contract)
    items = [(path, uniform(item)) for path, item in found.items]
    reader = _Reader()
    for path, item in items:
        reader.read(item, path)
    if problems := (*reader.problems, *found.problems):
        raise AbiError(*problems)
    return Abi(
        events=tuple(reader.events.values()),
        functions=tuple(reader.functions.values()),
        errors=tuple(reader.errors.values()),
        ignored=tuple(reader.ignored),
        document=tuple(item for _, item in items),
    )


def load_abi(path: Path | str, contract: str | None = None) -> Abi:
    """Read an ABI from a file.

    Args:
        path: the file.
        contract: as of :func:`parse_abi`.

    Raises:
        AbiError: there is no such file, or it holds no ABI; every line of the message begins with the path.
    """
    path = Path(path)
    try:
        return parse_abi(read_document(path.read_bytes()), contract)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AbiError(f"{path}: cannot be read: {reason}") from error
    except AbiError as error:
        raise AbiError(*(f"{path}: {problem}" for problem in error.problems)) from error


class _Reader:
    """Takes in items, one after the other, and remembers what is wrong."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.functions: dict[str, Function] = {}
        self.errors: dict[str, CustomError] = {}
        self.ignored: list[str] = []
        self.problems: list[str] = []

    def read(self, item: object, path: str) -> None:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or kind not in _ITEM_KINDS:
            self.problems.append(
                f"{path}: an item of an ABI is an object whose type is one of {', '.join(_ITEM_KINDS)}"
            )
            return
        try:
            if kind == "event":
                self._add_event(_parse_event(item, path), path)
            elif kind == "function":
                self._add_other(self.functions, _parse_function, item, path)
            elif kind == "error":
                self._add_other(self.errors, _parse_error, item, path)
        except AbiError as error:
            self.problems.extend(error.problems)

    def _add_event(self, event: Event, path: str) -> None:
        # The compiler repeats an event that a library declares too, and people merge ABIs: the first one's names count.
        first = self.events.setdefault(event.signature, event)
        shape, first_shape = ((e.anonymous, *(p.indexed for p in e.inputs)) for e in (event, first))
        if shape != first_shape:
            raise AbiError(
                f"{path}: event {event.signature} is there twice with different indexed arguments: "
                "their logs share topic0, so that an ABI can have only one of them"
            )

    def _add_other(
        self, known: dict[str, _Described], parse: Callable[[Item, str], _Described], item: Item, path: str
    ) -> None:
        try:
            found = parse(item, path)
        except AbiError as error:
            self.ignored.extend(f"{path} {item.get('name')}: {problem}" for problem in error.problems)
        else:
            known.setdefault(found.signature, found)


def _parse_event(item: Item, path: str) -> Event:
    anonymous = item.get("anonymous", False)
    if not isinstance(anonymous, bool):
        raise AbiError(f"{path}.anonymous: true or false, found {anonymous!r}")
    event = Event(_parse_item_name(item, path), _parse_parameters(item, "inputs", path), anonymous, item)
    most = 4 if anonymous else 3
    if len(event.indexed) > most:
        raise AbiError(f"{path}.inputs: {len(event.indexed)} indexed arguments, a log has room for {most}")
    return event


def _parse_function(item: Item, path: str) -> Function:
    # Compilers before 0.4.16 wrote constant and payable in place of stateMutability.
    old = "view" if item.get("constant") is True else "payable" if item.get("payable") is True else "nonpayable"
    mutability = item.get("stateMutability", old)
    if mutability not in get_args(Mutability):
        raise AbiError(f"{path}.stateMutability: one of {', '.join(get_args(Mutability))}, found {mutability!r}")
    return Function(
        _parse_item_name(item, path),
        _parse_parameters(item, "inputs", path),
        _parse_parameters(item, "outputs", path),
        mutability,
        item,
    )


def _parse_error(item: Item, path: str) -> CustomError:
    return CustomError(_parse_item_name(item, path), _parse_parameters(item, "inputs", path), item)


def _parse_item_name(item: Item, path: str) -> str:
    name = parse_name(item.get("name"), path)
    if not name or any(c in "(),~" or c.isspace() for c in name):
        raise AbiError(f"{path}.name: a name, found {item.get('name')!r}")
    return name


def _parse_parameters(item: Item, key: str, path: str) -> tuple[Parameter, ...]:
    documents = item.get(key, [])
    if not isinstance(documents, list):
        raise AbiError(f"{path}.{key}: a list of parameters, found {documents!r}")
    problems: list[str] = []
    found: list[Parameter] = []
    for i, document in enumerate(documents):
        try:
            found.append(parse_parameter(document, f"{path}.{key}[{i}]"))
        except AbiError as error:
            problems.extend(error.problems)
    if problems:
        raise AbiError(*problems)
    return tuple(found)


def _signature(name: str, inputs: Iterable[Parameter]) -> str:
    return f"{name}({','.join(p.type.canonical for p in inputs)})"
