"""``[tokens]`` and ``[balances]``: which contracts are tokens to be described, and of which to keep the balances."""

from collections.abc import Callable, Mapping
from typing import Any

from indexer.abi.token_standards import BY_STANDARD, CONSECUTIVE_TRANSFER
from indexer.manifest.document import TrackingPart
from indexer.manifest.locate import KeyPath
from indexer.manifest.model import Chain, Contract, Deployment
from indexer.manifest.report import ManifestReport
from indexer.problems import did_you_mean, listed

Pairs = frozenset[tuple[str, str]]


def read_tokens(
    raw: object,
    declared: Mapping[str, Any],
    chains: Mapping[str, Chain],
    contracts: Mapping[str, Contract],
    report: ManifestReport,
) -> Pairs:
    """Return (contract, chain) of the tokens to describe; where nothing is said: all that are tokens."""
    return _read("tokens", {} if raw is None else raw, _token_problem, declared, chains, contracts, report)


def read_balances(
    raw: object,
    declared: Mapping[str, Any],
    chains: Mapping[str, Chain],
    contracts: Mapping[str, Contract],
    report: ManifestReport,
) -> Pairs:
    """Return (contract, chain) of the tokens whose balances to keep; where nothing is said: none."""
    if raw is None:
        return frozenset()
    return _read("balances", raw, _balance_problem, declared, chains, contracts, report)


def _token_problem(contract: Contract, deployment: Deployment) -> str | None:
    # An address that is listed is a token whichever events are wanted. A factory may have 300,000 children, and at any
    # address there is anything: those are seen as tokens only where their transfers are wanted.
    events = contract.abi.events if deployment.kind == "addresses" else contract.events
    signatures = {event.signature for event in events}
    if any(standard & signatures for standard in BY_STANDARD):
        return None
    return "has none of the transfer events of ERC-20, ERC-721 and ERC-1155"


def _balance_problem(contract: Contract, deployment: Deployment) -> str | None:
    """Say why balances cannot be kept: they are exact only if every transfer is there."""
    events = {event.signature: event for event in contract.events}
    if not any(standard & events.keys() for standard in BY_STANDARD):
        return "has none of the transfer events of ERC-20, ERC-721 and ERC-1155 among its events"
    if all(standard & events.keys() for standard in BY_STANDARD):
        return "has the transfer events of two standards: name it twice, each time with the events of one of them"
    for standard in BY_STANDARD:
        present = standard & events.keys()
        if missing := sorted(standard - present) if present else []:
            return f"must index {listed(missing)} as well: balances need every transfer"
        for signature in sorted(present | ({CONSECUTIVE_TRANSFER} & events.keys() if present else set())):
            if contract.abi.api_name(events[signature]) in deployment.filters:
                return f"filters {events[signature].name}: balances need every transfer"
    if deployment.end_block is not None:
        return "ends at a block: balances need every transfer"
    return None


def _read(
    key: str,
    raw: object,
    problem_of: Callable[[Contract, Deployment], str | None],
    declared: Mapping[str, Any],
    chains: Mapping[str, Chain],
    contracts: Mapping[str, Contract],
    report: ManifestReport,
) -> Pairs:
    path: KeyPath = (key,)
    part = TrackingPart.read(raw, path, report)
    for number, name in enumerate(part.chains or ()):
        if name not in chains:
            report.add((key, "chains", number), f"there is no chain {name}{did_you_mean(name, chains)}")
    for number, name in enumerate(part.contracts or ()):
        if name not in declared:
            report.add((key, "contracts", number), f"there is no contract {name}{did_you_mean(name, declared)}")
    if not part.enabled:
        return frozenset()
    pairs: set[tuple[str, str]] = set()
    for name in contracts if part.contracts is None else part.contracts:
        for deployment in contracts[name].deployments if name in contracts else ():
            if part.chains is not None and deployment.chain not in part.chains:
                continue
            problem = problem_of(contracts[name], deployment)
            if problem is None:
                pairs.add((name, deployment.chain))
            elif part.contracts is not None:
                # Named by hand: it is an error. As one of all, it is simply not meant.
                report.add((key, "contracts", part.contracts.index(name)), f"{name} {problem}")
    return frozenset(pairs)
