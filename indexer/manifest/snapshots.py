"""``[snapshots.NAME]``: series of reads of view functions."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from indexer.abi.model import Abi, Function
from indexer.abi.names import RESERVED_WORDS, table_name
from indexer.abi.types import AbiError, Array, Elementary, Tuple, Type
from indexer.errors import did_you_mean, listed
from indexer.manifest.document import CallPart, SnapshotPart, parse_address, parse_schedule
from indexer.manifest.model import Contract, Schedule, Snapshot, SnapshotCall
from indexer.manifest.source import KeyPath, ManifestReport

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COLUMN = re.compile(r"\$[a-z_][a-z0-9_]*")
_CALL = '"totalSupply()" or { call = "balanceOf(address)", args = ["0x…"], name = "…" }'


def read_snapshots(
    raw: Mapping[str, Any], declared: Mapping[str, Any], contracts: Mapping[str, Contract], report: ManifestReport
) -> dict[str, Snapshot]:
    """Read all snapshots.

    Args:
        raw: the tables.
        declared: everything that stands under ``contracts``: what is there but could not be read is not reported again.
        contracts: the contracts that could be read.
        report: where problems go.
    """
    snapshots: dict[str, Snapshot] = {}
    for name, table in raw.items():
        path: KeyPath = ("snapshots", name)
        part = SnapshotPart.read(table, path, report)
        _check_name(name, path, report)
        every = _read_schedule(part, path, report)
        contract = _find_contract(part, path, declared, contracts, report)
        given = part.required("calls", path, report, f"a list of {_CALL}")
        query = _read_query(part, path, report)
        if contract is None:
            continue
        _refuse_event_table(name, contract, path, report)
        calls = _read_calls(part.calls or [], contract.abi, (*path, "calls"), report) if given else ()
        _check_query_columns(calls, query, path, report)
        chains = _read_chains(part, contract, path, report)
        _check_any(contract, chains, query, path, report)
        snapshots[name] = Snapshot(name, contract.name, chains, calls, every, part.start_block, query)
    return snapshots


def _check_name(name: str, path: KeyPath, report: ManifestReport) -> None:
    if not _NAME.fullmatch(name) or name in RESERVED_WORDS:
        report.add(
            path,
            "a snapshot's name is the name of its table: lower-case letters, digits and _, at most 63, "
            "starting with a letter, and no reserved word of SQL",
        )


def _refuse_event_table(name: str, contract: Contract, path: KeyPath, report: ManifestReport) -> None:
    tables: list[str] = []
    for event in contract.abi.events:
        overloaded = contract.abi.is_overloaded(event)
        tables.append(table_name(event.name, event.selector, overloaded=overloaded, taken=tables))
    if name in tables:
        report.add(path, f"the table {contract.schema_name}.{name} is that of an event: choose another name")


def _find_contract(
    part: SnapshotPart,
    path: KeyPath,
    declared: Mapping[str, Any],
    contracts: Mapping[str, Contract],
    report: ManifestReport,
) -> Contract | None:
    if not part.required("contract", path, report, "the name of a contract in this manifest") or part.contract is None:
        return None
    if part.contract not in declared:
        near = did_you_mean(part.contract, declared)
        report.add((*path, "contract"), f"there is no contract {part.contract}{near}")
    return contracts.get(part.contract)


def _read_schedule(part: SnapshotPart, path: KeyPath, report: ManifestReport) -> Schedule:
    if part.required("every", path, report, 'such as "100 blocks"') and part.every is not None:
        try:
            return parse_schedule(part.every)
        except ValueError as error:
            report.add((*path, "every"), str(error), part.every)
    return Schedule("blocks", 1, None, "")


def _read_query(part: SnapshotPart, path: KeyPath, report: ManifestReport) -> str | None:
    if part.for_each is None:
        return None
    query = part.for_each.strip().rstrip(";").rstrip()
    if not re.match(r"(?:select|with)\b", query, re.IGNORECASE):
        report.add((*path, "for_each"), "expected a SELECT whose columns the calls use as $name", part.for_each)
    return query


def _check_query_columns(
    calls: Sequence[SnapshotCall], query: str | None, path: KeyPath, report: ManifestReport
) -> None:
    used = any(isinstance(arg, str) and _COLUMN.fullmatch(arg) for call in calls for arg in call.args)
    if used and query is None:
        report.add((*path, "calls"), "a $name is a column of the query in for_each, and there is none")
    if query is not None and calls and not used:
        report.add((*path, "for_each"), 'no call uses a column of it: write args = ["$name"]')


def _read_chains(part: SnapshotPart, contract: Contract, path: KeyPath, report: ManifestReport) -> tuple[str, ...]:
    known = tuple(deployment.chain for deployment in contract.deployments)
    if part.chains is None:
        return known
    if not part.chains:
        report.add((*path, "chains"), f"the list is empty: leave it out, or name some of {listed(known)}")
    for number, name in enumerate(part.chains):
        if name not in known:
            report.add((*path, "chains", number), f"{contract.name} is not on chain {name} (it is on: {listed(known)})")
    return tuple(chain for chain in known if chain in part.chains)


def _check_any(
    contract: Contract, chains: Sequence[str], query: str | None, path: KeyPath, report: ManifestReport
) -> None:
    if (
        any(((place := contract.deployment(chain)) is not None and place.kind == "any") for chain in chains)
        and query is None
    ):
        report.add((*path, "contract"), f"{contract.name} has no address to call: it is at any address")


def _read_calls(raw: Sequence[Any], abi: Abi, path: KeyPath, report: ManifestReport) -> tuple[SnapshotCall, ...]:
    if not raw:
        report.add(path, f"the list is empty: expected {_CALL}")
    calls: list[SnapshotCall] = []
    for number, item in enumerate(raw):
        here: KeyPath = (*path, number)
        if isinstance(item, str):
            part = CallPart(call=item)
        elif isinstance(item, dict):
            part = CallPart.read(item, here, report)
        else:
            report.add(here, f"expected {_CALL}", item)
            continue
        call = _read_call(part, abi, here, report)
        if call is None:
            continue
        if any(_names(call) == _names(other) for other in calls):
            report.add(here, "its columns would be named like those of another call: give it a name of its own")
        calls.append(call)
    return tuple(calls)


def _names(call: SnapshotCall) -> str:
    return call.name or call.function.name


def _read_call(part: CallPart, abi: Abi, path: KeyPath, report: ManifestReport) -> SnapshotCall | None:
    if not part.required("call", path, report, "a function's signature") or part.call is None:
        return None
    if part.name is not None and not _NAME.fullmatch(part.name):
        report.add((*path, "name"), "expected lower-case letters, digits and _, starting with a letter", part.name)
    function = _find_function(abi, part.call, path, report)
    if function is None:
        return None
    given = part.args or []
    if len(given) != len(function.inputs):
        if not part.refused("args"):
            report.add(path, f"{function.signature} takes {len(function.inputs)} arguments, args has {len(given)}")
        return None
    args: list[object] = []
    for number, (value, parameter) in enumerate(zip(given, function.inputs, strict=True)):
        try:
            args.append(read_argument(parameter.type, value))
        except ValueError as error:
            report.add((*path, "args", number), str(error), value)
    return SnapshotCall(function, tuple(args), part.name)


def _find_function(abi: Abi, signature: str, path: KeyPath, report: ManifestReport) -> Function | None:
    try:
        function = abi.function(signature)
    except AbiError as error:
        report.add(path, str(error), signature)
        return None
    if not function.is_view:
        report.add(
            path, f"{function.signature} is {function.mutability}: a snapshot calls view and pure functions only"
        )
    elif not function.outputs:
        report.add(path, f"{function.signature} returns nothing")
    return function


def read_argument(kind: Type, value: object) -> object:
    """Read an argument of a call as eth-abi takes it; a string ``$name`` is left for the query's column.

    Raises:
        ValueError: the value is not of the type.
    """
    if isinstance(value, str) and _COLUMN.fullmatch(value):
        return value
    match kind:
        case Elementary():
            return _read_elementary(kind, value)
        case Array() if isinstance(value, list) and kind.length in (None, len(value)):
            return tuple(read_argument(kind.item, item) for item in value)
        case Tuple() if isinstance(value, list) and len(value) == len(kind.components):
            return tuple(
                read_argument(component.type, item) for component, item in zip(kind.components, value, strict=True)
            )
    raise ValueError(f"expected a list for {kind.canonical}")


def _read_elementary(kind: Elementary, value: object) -> object:
    if kind.kind == "address":
        return parse_address(value)
    if kind.kind in ("uint", "int"):
        return _read_integer(kind, value)
    if kind.kind == "bool" and isinstance(value, bool):
        return value
    if kind.kind == "string" and isinstance(value, str):
        return value
    if (
        kind.kind in ("bytesN", "bytes", "function")
        and isinstance(value, str)
        and re.fullmatch("0x([0-9a-fA-F]{2})*", value)
    ):
        raw = bytes.fromhex(value[2:])
        if kind.kind == "bytes" or len(raw) == kind.size:
            return raw
    raise ValueError(f"expected a value of type {kind.canonical}")


def _read_integer(kind: Elementary, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value):
        value = int(value)  # TOML's integers end at 63 bits
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"expected a number, or its decimal digits as a string, for {kind.canonical}")
    signed = kind.kind == "int"
    low, high = (-(1 << kind.size - 1), 1 << kind.size - 1) if signed else (0, 1 << kind.size)
    if not low <= value < high:
        raise ValueError(f"does not fit into {kind.canonical}")
    return value
