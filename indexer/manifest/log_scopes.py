"""Where each contract lives: chains, addresses, factories, first and last block, and the values of indexed arguments.

A contract is a *draft* here, half read: what its own table says is known, what other contracts say is not yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from indexer.abi.model import Abi, Event
from indexer.abi.names import argument_names
from indexer.abi.topics import topic_value
from indexer.abi.types import AbiError, Elementary, Parameter, Tuple
from indexer.errors import did_you_mean, listed
from indexer.manifest.document import ContractPart, FactoryPart, PlacePart, parse_address
from indexer.manifest.model import Chain, Deployment, Factory, StartBlock, TopicFilter
from indexer.manifest.source import KeyPath, ManifestReport

_WHERE = 'an address, a list of addresses, or "any"'
_LAST_BLOCK = 2**63 - 2  # a bigint, and the end of a half-open range above it still is one


@dataclass(frozen=True)
class Draft:
    """One contract of the manifest.

    Attributes:
        path: where its table stands.
        part: its table.
        abi: its ABI, or None where that cannot be read (a problem that was reported).
        events: the selected events, in the ABI's order.
    """

    name: str
    path: KeyPath
    part: ContractPart
    abi: Abi | None
    events: tuple[Event, ...]


def find_event(abi: Abi, name: str, path: KeyPath, report: ManifestReport) -> Event | None:
    """Return the ABI's event of that name, ``Name~selector`` or signature, or report that there is none."""
    wanted = "".join(name.split())
    try:
        return abi.event(wanted)
    except AbiError as error:
        near = (
            ""
            if any(event.name == wanted for event in abi.events)
            else did_you_mean(wanted.partition("(")[0], (event.name for event in abi.events))
        )
        report.add(path, f"{error}{near}", name)
        return None


def find_selected(draft: Draft, name: str, path: KeyPath, report: ManifestReport) -> Event | None:
    """Return the event, if it is also among those that the contract selects."""
    if draft.abi is None:
        return None
    event = find_event(draft.abi, name, path, report)
    if event is not None and event not in draft.events:
        if not draft.part.refused("events"):
            report.add(path, f"{name} is not among the contract's events: add it to contracts.{draft.name}.events")
        return None
    return event


def arguments(event: Event) -> dict[str, Parameter]:
    """Return an event's arguments by the names that the API gives them (an unnamed one is ``arg0``, by position)."""
    return dict(zip(argument_names(parameter.name for parameter in event.inputs), event.inputs, strict=True))


def _read_filters(
    raw: Mapping[str, Any], draft: Draft, path: KeyPath, report: ManifestReport
) -> dict[str, tuple[TopicFilter, ...]]:
    """Read ``{ Event = { argument = value or [values] } }``, or a list of such alternatives for an event."""
    filters: dict[str, tuple[TopicFilter, ...]] = {}
    for name, value in raw.items():
        here: KeyPath = (*path, name)
        event = find_selected(draft, name, here, report)
        if event is None or draft.abi is None:
            continue
        api_name = draft.abi.api_name(event)
        if api_name in filters:
            report.add(here, "this event has a filter already, under another spelling of its name")
            continue
        alternatives: list[tuple[Any, KeyPath]] = [(value, here)]
        if isinstance(value, list):
            alternatives = [(item, (*here, at)) for at, item in enumerate(value)]
        if not alternatives:
            report.add(here, "the list is empty: nothing would pass it")
        filters[api_name] = tuple(
            _read_alternative(item, arguments(event), event.name, where, report) for item, where in alternatives
        )
    return filters


def _read_alternative(
    raw: object, known: Mapping[str, Parameter], event: str, path: KeyPath, report: ManifestReport
) -> TopicFilter:
    indexed = [name for name, parameter in known.items() if parameter.indexed]
    if not isinstance(raw, dict) or not raw:
        report.add(path, "expected { argument = value } or { argument = [values] }", raw)
        return TopicFilter({}, ())
    chosen: dict[str, tuple[str | int | bool, ...]] = {}
    topics: dict[str, tuple[bytes, ...]] = {}
    for name, value in raw.items():
        here: KeyPath = (*path, name)
        if name not in known:
            near = did_you_mean(name, known)
            report.add(here, f"{event} has no argument {name}{near} (indexed arguments: {listed(indexed)})")
        elif name not in indexed:
            report.add(
                here, f"{name} of {event} is not indexed: a node cannot search for it (indexed: {listed(indexed)})"
            )
        else:
            chosen[name], topics[name] = _read_values(value, known[name], here, report)
    return TopicFilter(chosen, tuple(topics.get(name) for name in indexed))


def _read_values(
    value: object, parameter: Parameter, path: KeyPath, report: ManifestReport
) -> tuple[tuple[str | int | bool, ...], tuple[bytes, ...]]:
    items: list[tuple[Any, KeyPath]] = [(value, path)]
    if isinstance(value, list):
        items = [(item, (*path, at)) for at, item in enumerate(value)]
    if not items:
        report.add(path, "the list is empty: nothing would pass it")
    shown: list[str | int | bool] = []
    topics: list[bytes] = []
    for item, here in items:
        try:
            topic = topic_value(parameter, item)
        except AbiError as error:
            report.add(here, str(error), item)
            continue
        if topic in topics:
            report.add(here, "this value is in the list already", item)
            continue
        topics.append(topic)
        shown.append(item.lower() if isinstance(item, str) and parameter.type.canonical != "string" else item)
    return tuple(shown), tuple(topics)


class LogScopes:
    """Resolves the deployments of contracts; a factory's before those of its children."""

    def __init__(self, drafts: Mapping[str, Draft], chains: Mapping[str, Chain], report: ManifestReport) -> None:
        self._drafts = drafts
        self._chains = chains
        self._report = report
        self._known: dict[str, tuple[Deployment, ...]] = {}
        self._open: list[str] = []

    def of(self, name: str) -> tuple[Deployment, ...]:
        """Return a contract's deployments, in the order of the manifest's chains."""
        if name not in self._known:
            self._open.append(name)
            try:
                self._known[name] = self._resolve(self._drafts[name])
            finally:
                self._open.pop()
        return self._known[name]

    def _resolve(self, draft: Draft) -> tuple[Deployment, ...]:
        places = self._places(draft)
        found = {
            chain: self._deployment(draft, self._chains[chain], part, path) for chain, (part, path) in places.items()
        }
        return tuple(deployment for chain in self._chains if (deployment := found.get(chain)) is not None)

    def _places(self, draft: Draft) -> dict[str, tuple[PlacePart, KeyPath]]:
        """Return the contract's chains, each with what the manifest says about that chain alone."""
        part, path = draft.part, draft.path
        if part.chain is not None and part.chains is not None:
            self._report.add((*path, "chain"), "write either chain or chains")
        if part.chain is not None:
            known = self._is_chain(part.chain, (*path, "chain"))
            return {part.chain: (PlacePart(), path)} if known else {}
        match part.chains:
            case None:
                return {} if part.refused("chain", "chains") else self._implied_chains(draft)
            case [_, *_] as names if all(isinstance(name, str) for name in names):
                unique = dict.fromkeys(names)
                if len(unique) < len(names):
                    self._report.add((*path, "chains"), "a chain is in the list twice", names)
                checked = [name for at, name in enumerate(names) if self._is_chain(name, (*path, "chains", at))]
                return {name: (PlacePart(), path) for name in checked}
            case dict() as tables if tables:
                places = {}
                for name, table in tables.items():
                    here: KeyPath = (*path, "chains", name)
                    if self._is_chain(name, here):
                        places[name] = (PlacePart.read(table, here, self._report), here)
                return places
        self._report.add((*path, "chains"), "expected a list of chain names, or a table for each chain", part.chains)
        return {}

    def _implied_chains(self, draft: Draft) -> dict[str, tuple[PlacePart, KeyPath]]:
        """Return the chains of a contract that names none: the only one, or those of its factories."""
        names = list(self._chains)
        if len(names) > 1:
            if draft.part.factory is None:
                self._report.add(draft.path, f"chain is missing: one or more of {listed(self._chains)}")
                return {}
            rules = self._read_factories(draft.part.factory, None, (*draft.path, "factory"))
            names = [deployment.chain for rule in rules for deployment in self.of(rule.contract)]
        return {name: (PlacePart(), draft.path) for name in names}

    def _is_chain(self, name: str, path: KeyPath) -> bool:
        if name in self._chains:
            return True
        near = did_you_mean(name, self._chains)
        self._report.add(path, f"there is no chain {name}{near} (there is: {listed(self._chains)})")
        return False

    def _deployment(self, draft: Draft, chain: Chain, own: PlacePart, path: KeyPath) -> Deployment | None:
        # What is said of one chain stands above what is said of all; an address there replaces a factory here as well.
        place: PlacePart | ContractPart = own if own.address is not None or own.factory is not None else draft.part
        where = path if place is own else draft.path
        kind: Literal["addresses", "factory", "any"] = "addresses"
        addresses: tuple[bytes, ...] = ()
        factories: tuple[Factory, ...] = ()
        if place.address is not None and place.factory is not None:
            self._report.add(where, "write either address or factory")
        elif place.factory is not None:
            kind, factories = "factory", self._read_factories(place.factory, chain, (*where, "factory"))
        elif place.address == "any":
            kind = "any"
            self._refuse_anonymous(draft)
        elif place.address is not None:
            addresses = self._read_addresses(place.address, (*where, "address"))
        elif not own.refused("address", "factory") and not draft.part.refused("address", "factory"):
            self._report.add(where, f"address is missing: {_WHERE}; or a factory")
        start = self._read_start(draft, own, path, kind, self._inherited_start(factories, chain))
        end = own.end_block if own.end_block is not None else draft.part.end_block
        if end is not None and isinstance(start, int) and start > end:
            at = path if own.end_block is not None or own.start_block is not None else draft.path
            self._report.add((*at, "start_block"), f"starts after its end: start_block {start}, end_block {end}")
        filters, filters_path = (own.filters, path) if own.filters is not None else (draft.part.filters, draft.path)
        return Deployment(
            chain=chain.name,
            chain_id=chain.chain_id,
            kind=kind,
            addresses=addresses,
            factories=factories,
            start_block=start,
            end_block=end,
            filters=_read_filters(filters or {}, draft, (*filters_path, "filters"), self._report),
        )

    def _read_addresses(self, value: object, path: KeyPath) -> tuple[bytes, ...]:
        items: list[tuple[object, KeyPath]] = [(value, path)]
        if isinstance(value, list):
            items = [(item, (*path, at)) for at, item in enumerate(value)]
        if not items:
            self._report.add(path, f"the list is empty: expected {_WHERE}")
        addresses: list[bytes] = []
        for item, here in items:
            try:
                address = parse_address(item)
            except ValueError as error:
                self._report.add(here, str(error), item)
                continue
            if address in addresses:
                self._report.add(here, "this address is in the list already", item)
            addresses.append(address)
        return tuple(addresses)

    def _refuse_anonymous(self, draft: Draft) -> None:
        """An anonymous event has no topic to ask for: at any address, that would be every log of the chain."""
        for event in draft.events:
            if event.anonymous:
                self._report.add(
                    (*draft.path, "events"),
                    f"the anonymous event {event.name} has no topic to find it by at any address: list other events",
                )

    def _read_start(self, draft: Draft, own: PlacePart, path: KeyPath, kind: str, inherited: StartBlock) -> StartBlock:
        value, where = (own.start_block, path) if own.start_block is not None else (draft.part.start_block, draft.path)
        match value:
            case None:
                return inherited
            case "auto" if kind == "any":
                self._report.add(
                    (*where, "start_block"), '"auto" finds where an address was deployed: there is none here'
                )
                return 0
            case "auto":
                return inherited if kind == "factory" else "auto"
            case bool():
                pass
            case int() if 0 <= value <= _LAST_BLOCK:
                return value
        self._report.add((*where, "start_block"), 'expected a block number or "auto"', value)
        return 0

    def _inherited_start(self, factories: tuple[Factory, ...], chain: Chain) -> StartBlock:
        """Return the block before which no child can exist: the earliest start of its factories."""
        starts = [
            place.start_block for rule in factories for place in self.of(rule.contract) if place.chain == chain.name
        ]
        numbers = [start for start in starts if start != "auto"]
        return "auto" if len(numbers) < len(starts) else min(numbers, default=0)

    def _read_factories(self, value: object, chain: Chain | None, path: KeyPath) -> tuple[Factory, ...]:
        rules: list[tuple[Any, KeyPath]] = [(value, path)]
        if isinstance(value, list):
            rules = [(rule, (*path, at)) for at, rule in enumerate(value)]
        if not rules:
            self._report.add(path, "the list is empty: expected { contract, event, argument }")
        found = [self._read_factory(rule, chain, here) for rule, here in rules]
        return tuple(dict.fromkeys(factory for factory in found if factory is not None))

    def _read_factory(self, rule: object, chain: Chain | None, path: KeyPath) -> Factory | None:
        part = FactoryPart.read(rule, path, self._report)
        complete = [
            part.required("contract", path, self._report, "the factory's name in this manifest"),
            part.required("event", path, self._report, "the event that announces a child"),
            part.required("argument", path, self._report, "its argument that is the child's address"),
        ]
        if not all(complete) or part.contract is None or part.event is None or part.argument is None:
            return None
        draft = self._find_factory(part.contract, chain, (*path, "contract"))
        event = None if draft is None else find_selected(draft, part.event, (*path, "event"), self._report)
        if event is None:
            return None
        positions = self._find_argument(event, part.argument, (*path, "argument"))
        return None if positions is None else Factory(part.contract, event, part.argument, positions)

    def _find_factory(self, name: str, chain: Chain | None, path: KeyPath) -> Draft | None:
        """Return the contract that announces children on a chain (None: on any), or report why it cannot."""
        if name not in self._drafts:
            self._report.add(path, f"there is no contract {name}{did_you_mean(name, self._drafts)}")
            return None
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            self._report.add(path, f"factories in a circle: {circle}")
            return None
        chains = {deployment.chain for deployment in self.of(name)}
        if chains and chain is not None and chain.name not in chains:
            self._report.add(path, f"{name} is not on chain {chain.name}")
        return self._drafts[name] if chains else None  # on no chain: for a mistake of its own, which was reported

    def _find_argument(self, event: Event, argument: str, path: KeyPath) -> tuple[int, ...] | None:
        """Return the positions that lead to an address argument, ``key.currency0`` into a tuple."""
        parameters: tuple[Parameter, ...] = event.inputs
        positions: list[int] = []
        for name in argument.split("."):
            names = argument_names(parameter.name for parameter in parameters)
            if name not in names:
                near = did_you_mean(name, names)
                self._report.add(path, f"{event.name} has no argument {argument}{near} (there is: {listed(names)})")
                return None
            positions.append(names.index(name))
            parameter = parameters[positions[-1]]
            if parameter.is_hashed:
                self._report.add(
                    path, f"{name} of {event.name} is indexed and a {parameter.type.canonical}: logs hold its hash only"
                )
                return None
            parameters = parameter.type.components if isinstance(parameter.type, Tuple) else ()
        if not isinstance(parameter.type, Elementary) or parameter.type.kind != "address":
            self._report.add(path, f"{argument} of {event.name} is no address: it is {parameter.type.canonical}")
            return None
        return tuple(positions)
