"""``[contracts.NAME]``: what a contract says. Where it lives is in ``log_scopes``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from indexer.abi.columns import FIXED_COLUMNS
from indexer.abi.model import Abi, Event, load_abi
from indexer.abi.names import MOST_COLUMNS, schema_name, schema_problem
from indexer.abi.types import AbiError, Elementary
from indexer.errors import did_you_mean, listed
from indexer.manifest.document import ContractPart
from indexer.manifest.log_scopes import Draft, LogScopes, arguments, find_event, find_selected
from indexer.manifest.model import Chain, Contract, Include
from indexer.manifest.source import KeyPath, ManifestReport

_NO_PATHS = (
    (("[", "{"), "an ABI itself: write it into a file"),
    (("http://", "https://"), "a URL: download it, or let gapless abi fetch ADDRESS -o FILE write it"),
    (("event ", "function "), "a human-readable line: write it into a file"),
)
_INCLUDES: tuple[Include, ...] = get_args(Include)


def read_contracts(
    raw: Mapping[str, Any], chains: Mapping[str, Chain], folder: Path, report: ManifestReport
) -> dict[str, Contract]:
    """Read all contracts. One without a readable ABI is left out, after its problem was reported."""
    abis = _Abis(folder)
    drafts = {name: _draft(name, table, abis, report) for name, table in raw.items()}
    _refuse_shared_schemas(drafts, report)
    places = LogScopes(drafts, chains, report)
    contracts: dict[str, Contract] = {}
    for name, draft in drafts.items():
        deployments = places.of(name)
        if draft.abi is None:
            continue
        contracts[name] = Contract(
            name=name,
            schema_name="" if schema_problem(name) else schema_name(name),
            abi_path=abis.path(draft.part.abi or ""),
            abi=draft.abi,
            events=draft.events,
            deployments=deployments,
            indexes=_read_indexes(draft, report),
            include=_read_include(draft, report),
            tx_hash_index=draft.part.tx_hash_index,
            token_arguments=_read_token_arguments(draft, report),
        )
    return _with_factory_tokens(contracts)


@dataclass
class _Abis:
    """The ABI files, each read once: many contracts may share one."""

    folder: Path

    def __post_init__(self) -> None:
        self._read: dict[str, Abi | AbiError] = {}

    def path(self, text: str) -> Path:
        """The file that ``abi`` names."""
        return self._split(text)[0]

    def load(self, text: str) -> Abi:
        """Read the ABI that ``abi`` names: a path, or ``path:Contract``.

        Raises:
            AbiError: there is none; each problem begins with the path.
        """
        if text not in self._read:
            try:
                self._read[text] = self._load(text)
            except AbiError as error:
                self._read[text] = error
        found = self._read[text]
        if isinstance(found, AbiError):
            raise found
        return found

    def _load(self, text: str) -> Abi:
        for begins, what in _NO_PATHS:
            if text.lstrip().startswith(begins):
                raise AbiError(f"expected the path of a file, found {what}")
        path, contract = self._split(text)
        abi = load_abi(path, contract)
        if not abi.events and not abi.functions:
            raise AbiError(f"{path}: has no event and no function")
        return abi

    def _split(self, text: str) -> tuple[Path, str | None]:
        """The file, and the contract behind a colon where no file bears the whole name."""
        whole = self.folder / text
        at = text.find(":")
        while at > 0:
            if _is_file(self.folder / text[:at]) and not _is_file(whole):
                return self.folder / text[:at], text[at + 1 :]
            at = text.find(":", at + 1)
        return whole, None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False


def _draft(name: str, table: object, abis: _Abis, report: ManifestReport) -> Draft:
    path: KeyPath = ("contracts", name)
    if problem := schema_problem(name):
        report.add(path, problem)
    part = ContractPart.read(table, path, report)
    abi = None
    if (
        part.required("abi", path, report, "the path of a file with an ABI, seen from the manifest's folder")
        and part.abi is not None
    ):
        try:
            abi = abis.load(part.abi)
        except AbiError as error:
            for line in error.problems:
                report.add((*path, "abi"), line)
    return Draft(name, path, part, abi, _read_events(part, abi, path, report))


def _refuse_shared_schemas(drafts: Mapping[str, Draft], report: ManifestReport) -> None:
    owners: dict[str, str] = {}
    for name, draft in drafts.items():
        if schema_problem(name):
            continue
        schema = schema_name(name)
        if schema in owners:
            report.add(
                draft.path, f"its tables would be in the schema {schema}, which is that of contract {owners[schema]}"
            )
        owners.setdefault(schema, name)


def _read_events(part: ContractPart, abi: Abi | None, path: KeyPath, report: ManifestReport) -> tuple[Event, ...]:
    """Return the selected events in the ABI's order: those named, or all where none is named."""
    if abi is None:
        return ()
    if part.events is None:
        for one in abi.events:
            _refuse_too_many(one, (*path, "abi"), report)
        return abi.events
    chosen: list[Event] = []
    for number, name in enumerate(part.events):
        here: KeyPath = (*path, "events", number)
        event = find_event(abi, name, here, report)
        if event is None:
            continue
        if event in chosen:
            report.add(here, "this event is in the list already", name)
        _refuse_too_many(event, here, report)
        chosen.append(event)
    return tuple(event for event in abi.events if event in chosen)


def _refuse_too_many(event: Event, path: KeyPath, report: ManifestReport) -> None:
    most = MOST_COLUMNS - len(FIXED_COLUMNS)
    if len(event.inputs) > most:
        report.add(
            path,
            f"event {event.name} has {len(event.inputs):,} arguments: its table has room for {most:,}; "
            "leave it out by naming the others in events",
        )


def _read_indexes(draft: Draft, report: ManifestReport) -> dict[str, tuple[str, ...]]:
    indexes: dict[str, tuple[str, ...]] = {}
    for name, wanted in (draft.part.indexes or {}).items():
        path: KeyPath = (*draft.path, "indexes", name)
        event = find_selected(draft, name, path, report)
        if event is None or draft.abi is None:
            continue
        known = arguments(event)
        for number, argument in enumerate(wanted):
            if argument not in known:
                report.add(
                    (*path, number),
                    f"{event.name} has no argument {argument}{did_you_mean(argument, known)} (it has: {listed(known)})",
                )
        extra = dict.fromkeys(argument for argument in wanted if argument in known and not known[argument].indexed)
        indexes[draft.abi.api_name(event)] = tuple(extra)
    return indexes


def _read_token_arguments(draft: Draft, report: ManifestReport) -> dict[str, tuple[str, ...]]:
    """Read ``{ Event = ["argument"] }``: which arguments name tokens."""
    found: dict[str, tuple[str, ...]] = {}
    for name, wanted in (draft.part.token_arguments or {}).items():
        path: KeyPath = (*draft.path, "token_arguments", name)
        event = find_selected(draft, name, path, report)
        if event is None or draft.abi is None:
            continue
        known = _addresses(event)
        for number, argument in enumerate(wanted):
            if argument not in known:
                report.add(
                    (*path, number),
                    f"{event.name} has no argument {argument} of type address{did_you_mean(argument, known)} "
                    f"(it has: {listed(known) or 'none'})",
                )
        found[draft.abi.api_name(event)] = tuple(argument for argument in dict.fromkeys(wanted) if argument in known)
    return found


def _addresses(event: Event) -> list[str]:
    """The names of an event's arguments that are addresses."""
    return [
        name
        for name, one in arguments(event).items()
        if isinstance(one.type, Elementary) and one.type.kind == "address"
    ]


def _with_factory_tokens(contracts: dict[str, Contract]) -> dict[str, Contract]:
    """The contracts with the tokens that factories' events name: all of their addresses but the children's.

    What the manifest says of an event holds instead.
    """
    children: dict[tuple[str, str], set[str]] = {}
    events: dict[tuple[str, str], Event] = {}
    for contract in contracts.values():
        for factory in (factory for one in contract.deployments for factory in one.factories):
            if (owner := contracts.get(factory.contract)) is not None:
                key = (factory.contract, owner.abi.api_name(factory.event))
                children.setdefault(key, set()).add(factory.argument.partition(".")[0])
                events[key] = factory.event
    for (name, api_name), own in children.items():
        contract = contracts[name]
        if api_name not in contract.token_arguments:
            traded = tuple(one for one in _addresses(events[name, api_name]) if one not in own)
            known = {**contract.token_arguments, **({api_name: traded} if traded else {})}
            contracts[name] = replace(contract, token_arguments=known)
    return contracts


def _read_include(draft: Draft, report: ManifestReport) -> frozenset[Include]:
    chosen: set[Include] = set()
    for number, name in enumerate(draft.part.include or ()):
        match = next((known for known in _INCLUDES if known == name), None)
        if match is None:
            report.add((*draft.path, "include", number), f"expected one of {listed(_INCLUDES)}", name)
        else:
            chosen.add(match)
    return frozenset(chosen)
