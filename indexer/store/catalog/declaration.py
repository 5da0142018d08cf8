"""What is wanted: the manifest as the store understands it; and what applying it changes, as people are told.

``sync.setup`` makes a :class:`Declaration` from the manifest and its ABIs; ``store.apply`` compares it with the
catalog and makes the difference, which is a list of :class:`Change`. Plain data: this module knows neither files nor
databases.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

from indexer.abi.columns import Column

PlaceKind: TypeAlias = Literal["addresses", "factory", "any"]
Renamed: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]
"""By contract and event signature: the arguments that the ABI names otherwise now, from the old name to the new one."""

_SIGNS = {"add": "+", "remove": "-", "change": "~"}
_MOST_NAMES = 6
_MOST_DETAILS = 3


class Announcing(Protocol):
    """An event, as far as factories are concerned."""

    @property
    def contract(self) -> str:
        """Its contract's name."""

    @property
    def signature(self) -> str:
        """Name and types."""


@dataclass(frozen=True, slots=True)
class FactoryRule:
    """A rule that finds addresses: an argument of an event of another contract of the same chain.

    Attributes:
        contract: the announcing contract's name.
        event: the announcing event's signature.
        argument: the ABI's name of an address argument; ``key.currency0`` for a component of a tuple.
    """

    contract: str
    event: str
    argument: str

    def announced_by(self, event: "Announcing") -> bool:
        """Whether it is this event that announces the children."""
        return event.contract == self.contract and event.signature == self.event

    def renamed(self, renamed: Renamed) -> "FactoryRule":
        """The same rule, by the names that arguments have now."""
        first, dot, path = self.argument.partition(".")
        names = renamed.get((self.contract, self.event), {})
        return replace(self, argument=names.get(first, first) + dot + path)

    def to_json(self) -> dict[str, str]:
        """The form kept in ``sources.place`` and ``deployments.factories``."""
        return {"contract": self.contract, "event": self.event, "argument": self.argument}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source's logs come from. In which order things are given says nothing, and is not kept.

    Attributes:
        kind: an address list, factory rules, or any address.
        addresses: ``0x`` + 40 lower-case hex digits, ascending; empty unless ``kind`` is ``addresses``.
        factories: the rules, ascending; empty unless ``kind`` is ``factory``.
        filters: alternatives, each from a topic's position (1 to 3) to the allowed topics (``0x`` + 64 hex digits);
            empty: no filter.
    """

    kind: PlaceKind
    addresses: tuple[str, ...] = ()
    factories: tuple[FactoryRule, ...] = ()
    filters: tuple[Mapping[int, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", tuple(sorted(set(self.addresses))))
        rules = sorted(set(self.factories), key=lambda rule: (rule.contract, rule.event, rule.argument))
        object.__setattr__(self, "factories", tuple(rules))
        alternatives = {
            tuple((position, tuple(sorted(set(topics)))) for position, topics in sorted(one.items()))
            for one in self.filters
        }
        object.__setattr__(self, "filters", tuple(dict(one) for one in sorted(alternatives)))

    def renamed(self, renamed: Renamed) -> "Place":
        """The same place, by the names that arguments have now."""
        if not self.factories or not renamed:
            return self
        return replace(self, factories=tuple(rule.renamed(renamed) for rule in self.factories))

    def overlaps(self, other: "Place") -> bool:
        """Whether a log may belong to both; only lists of addresses are known not to."""
        return not (self.addresses and other.addresses and set(self.addresses).isdisjoint(other.addresses))

    def to_json(self) -> dict[str, Any]:
        """The form kept in ``sources.place``; equal places give equal JSON."""
        body: dict[str, Any] = {"kind": self.kind}
        if self.addresses:
            body["addresses"] = list(self.addresses)
        if self.factories:
            body["factories"] = [factory.to_json() for factory in self.factories]
        if self.filters:
            body["filters"] = [{str(k): list(v) for k, v in sorted(f.items())} for f in self.filters]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Place":
        """Reads what :meth:`to_json` wrote."""
        return cls(
            kind=body["kind"],
            addresses=tuple(body.get("addresses", ())),
            factories=tuple(FactoryRule(**factory) for factory in body.get("factories", ())),
            filters=tuple({int(k): tuple(v) for k, v in f.items()} for f in body.get("filters", ())),
        )


@dataclass(frozen=True, slots=True)
class ChainDeclaration:
    """One network."""

    chain_id: int
    name: str
    bloom_checks: bool = True
    dev: bool = False


@dataclass(frozen=True, slots=True)
class EventDeclaration:
    """One event of a contract and the table it is to have.

    Attributes:
        indexes: arguments that get an index besides the indexed ones.
        tx_hash_index: whether ``tx_hash`` has one.
    """

    name: str
    api_name: str
    signature: str
    topic0: bytes
    anonymous: bool
    item: Mapping[str, Any]
    table_name: str
    columns: tuple[Column, ...]
    indexes: tuple[str, ...] = ()
    tx_hash_index: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredDeployment:
    """Where a contract lives on one chain, and from which block to which (None: for ever); ``chain`` is for people."""

    chain_id: int
    place: Place
    start_block: int
    end_block: int | None = None
    filters: Mapping[bytes, tuple[Mapping[int, tuple[str, ...]], ...]] = field(default_factory=dict)
    chain: str = ""

    def place_of(self, topic0: bytes) -> Place:
        """The place of one event: the contract's, narrowed by that event's topic filters."""
        if not (filters := self.filters.get(topic0, ())) and not self.place.filters:
            return self.place
        return Place(self.place.kind, self.place.addresses, self.place.factories, filters)


@dataclass(frozen=True, slots=True)
class ContractDeclaration:
    """A name, an ABI, the events wanted of it, and where it lives."""

    name: str
    schema_name: str
    abi: list[Any]
    events: tuple[EventDeclaration, ...]
    deployments: tuple[DeclaredDeployment, ...]
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesDeclaration:
    """A snapshot: calls of a contract's functions, on a schedule."""

    name: str
    contract: str
    calls: tuple[str, ...]
    every: str
    table_name: str
    columns: tuple[Column, ...]
    definition: Mapping[str, Any] = field(default_factory=dict)
    """Arguments and names of the calls, and the query: with others, rows would mean something else."""


@dataclass(frozen=True, slots=True)
class DerivedDeclaration:
    """A table that follows from events by a rule.

    Attributes:
        definition: the rule, complete; with another one, rows mean something else.
        comment: of the whole; ``comments``: of its columns.
    """

    name: str
    kind: Literal["rows", "aggregate", "view"]
    definition: Mapping[str, Any]
    comment: str = ""
    comments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that a manifest asks for."""

    chains: tuple[ChainDeclaration, ...]
    contracts: tuple[ContractDeclaration, ...]
    series: tuple[SeriesDeclaration, ...] = ()
    balances: frozenset[tuple[str, int]] = frozenset()
    """Contract and chain id of all whose balances are kept."""
    daily_balances: frozenset[tuple[str, int]] = frozenset()
    """Those among them whose balances at the ends of days are kept, too."""
    derived: tuple[DerivedDeclaration, ...] = ()
    programs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Programs, each with the tables that it keeps. Their own processes make them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference that was made.

    Attributes:
        action: what was done.
        kind: to what.
        name: ``usdc`` of a contract, ``usdc.Transfer`` of an event or its source, ``usdc.Transfer(value)`` of an index.
        detail: more, for people.
    """

    action: Literal["add", "remove", "change"]
    kind: Literal["chain", "contract", "event", "source", "snapshot", "index", "balances", "derived"]
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{_SIGNS[self.action]} {self.kind} {self.name}" + (f": {self.detail}" if self.detail else "")

    @property
    def owner(self) -> tuple[str, str]:
        """What it belongs to: changes of one contract are read together."""
        if self.kind in ("contract", "event", "source", "index", "balances"):
            return "contract", self.name.partition(".")[0]
        return self.kind, self.name


def summary(changes: Iterable[Change]) -> list[str]:
    """Changes as lines for people: one for each contract and action, however many events it has."""
    groups: dict[tuple[str, tuple[str, str]], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.action, change.owner), []).append(change)
    return [str(group[0]) if len(group) == 1 else _line(group) for group in groups.values()]


def _line(group: Sequence[Change]) -> str:
    first = group[0]
    of_kind = {
        kind: [change for change in group if change.kind == kind]
        for kind in ("contract", "event", "source", "index", "balances")
    }
    noun = "contract " if of_kind["contract"] else ""
    said = [change.detail for change in (*of_kind["contract"], *of_kind["event"]) if change.detail]
    parts = [_short(dict.fromkeys(said), _MOST_DETAILS)]
    if of_kind["event"]:
        parts.append(f"{_count(of_kind['event'], 'event')} ({_names(of_kind['event'])})")
    events = {change.name for change in of_kind["event"]}
    if of_kind["source"]:
        of_new = [change for change in of_kind["source"] if change.name in events]
        of_known = [change for change in of_kind["source"] if change.name not in events]
        parts.append(_details(of_new))
        if of_known:
            parts.append(": ".join(filter(None, [f"history of {_names(of_known)}", _details(of_known)])))
    if of_kind["index"]:
        parts.append(f"{_count(of_kind['index'], 'index', 'indexes')} ({_names(of_kind['index'])})")
    if of_kind["balances"]:
        parts.append(
            f"balances {_short(dict.fromkeys(change.detail for change in of_kind['balances']), _MOST_DETAILS)}"
        )
    return f"{_SIGNS[first.action]} {noun}{first.owner[1]}: {'; '.join(filter(None, parts))}"


def _details(changes: Sequence[Change]) -> str:
    return _short(dict.fromkeys(change.detail for change in changes if change.detail), _MOST_DETAILS)


def _names(changes: Sequence[Change]) -> str:
    return _short(dict.fromkeys(change.name.partition(".")[2] for change in changes), _MOST_NAMES)


def _short(texts: Iterable[str], most: int) -> str:
    texts = list(texts)
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _count(changes: Sequence[Change], noun: str, plural: str = "") -> str:
    return f"{len(changes)} {noun if len(changes) == 1 else plural or noun + 's'}"


def abi_difference(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """What two versions of an ABI do not have in common: ``ABI: + event Paused, - function pause``."""
    before, after = _items(old), _items(new)
    lines = [f"+ {name}" for name in after if name not in before]
    lines += [f"- {name}" for name in before if name not in after]
    lines += [f"~ {name}" for name in after if name in before and before[name] != after[name]]
    return f"ABI: {_short(lines, _MOST_NAMES)}" if lines else ""


def _items(abi: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {
        f"{item.get('type', 'function')} {item.get('name', '')}({_types(item.get('inputs', ()))})": item for item in abi
    }


def _types(inputs: Sequence[Mapping[str, Any]]) -> str:
    return ",".join(str(argument.get("type", "")) for argument in inputs)
