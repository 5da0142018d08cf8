"""Puts the manifest together: reads the file, checks every part of it, and reports all problems at once."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from indexer.abi.token_standards import BY_STANDARD, CONSECUTIVE_TRANSFER
from indexer.errors import Problem, ProblemsError, did_you_mean, listed
from indexer.manifest.chains import read_chains
from indexer.manifest.contracts import read_contracts
from indexer.manifest.derived import read_derived
from indexer.manifest.document import BalancesPart, ManifestPart, TrackingPart
from indexer.manifest.model import Chain, Contract, Deployment, Manifest, Snapshot
from indexer.manifest.programs import read_programs
from indexer.manifest.snapshots import read_snapshots
from indexer.manifest.source import KeyPath, ManifestReport, read_toml

_Pairs = frozenset[tuple[str, str]]


def _token_arguments(part: ManifestPart, contracts: Mapping[str, Contract]) -> _Pairs:
    """Return (contract, chain) where arguments name tokens, as far as ``[tokens]`` lets them be described."""
    tracking = TrackingPart.read({} if part.tokens is None else part.tokens, ("tokens",), ManifestReport({}))
    if not tracking.enabled:
        return frozenset()
    return frozenset(
        (contract.name, one.chain)
        for contract in contracts.values()
        if contract.token_arguments and (tracking.contracts is None or contract.name in tracking.contracts)
        for one in contract.deployments
        if tracking.chains is None or one.chain in tracking.chains
    )


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


def _read_pairs(
    key: str,
    raw: object,
    problem_of: Callable[[Contract, Deployment], str | None],
    declared: Mapping[str, Any],
    chains: Mapping[str, Chain],
    contracts: Mapping[str, Contract],
    report: ManifestReport,
) -> _Pairs:
    """Return (contract, chain) of the tokens that ``[tokens]`` or ``[balances]`` means."""
    path: KeyPath = (key,)
    part = (BalancesPart if key == "balances" else TrackingPart).read(raw, path, report)
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
            elif part.contracts is not None and not (key == "tokens" and contracts[name].token_arguments):
                # Named by hand: it is an error. As one of all, it is simply not meant.
                report.add((key, "contracts", part.contracts.index(name)), f"{name} {problem}")
    return frozenset(pairs)


def _read_daily(raw: object, kept: _Pairs, report: ManifestReport) -> _Pairs:
    """Return (contract, chain) of those kept by ``[balances]`` whose balances at the ends of days are kept, too."""
    part = BalancesPart.read({} if raw is None else raw, ("balances",), ManifestReport({}))
    names = {name for name, _ in kept}
    if part.enabled:
        for number, name in enumerate(part.daily or ()):
            if name not in names:
                detail = f"no balances are kept of {name}{did_you_mean(name, names)}"
                report.add(("balances", "daily", number), detail)
    return frozenset(pair for pair in kept if pair[0] in (part.daily or ()))


class ManifestErrors(ProblemsError):  # noqa: N818 - it is many
    """The manifest is wrong; ``problems`` has everything that is."""


def load_manifest(path: Path | str, environ: Mapping[str, str]) -> Manifest:
    """Read and check a manifest.

    Nothing outside is touched but the file and the ABI files that it names (relative to its own folder).

    Args:
        path: the TOML file.
        environ: what ``${NAME}`` in endpoint URLs stands for; see :func:`indexer.settings.environment`.

    Raises:
        ManifestErrors: with every problem that was found, each with key, value and line.
    """
    path = Path(path)
    subject = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        hint = "Name the file as an argument or in GAPLESS_MANIFEST." if isinstance(error, FileNotFoundError) else None
        raise ManifestErrors(subject, [Problem("", f"cannot be read: {error.strerror}")], hint=hint) from error
    except UnicodeDecodeError as error:
        raise ManifestErrors(subject, [Problem("", f"not UTF-8 text: {error.reason}")]) from error
    document, report = read_toml(text)
    manifest = _build(path, document, environ, report) if document or not report.problems() else None
    if problems := report.problems():
        raise ManifestErrors(subject, problems)
    assert manifest is not None
    return manifest


def load_chains(path: Path | str, environ: Mapping[str, str]) -> Mapping[str, Chain]:
    """Read only the chains of a manifest: for what helps to write the rest of it.

    Raises:
        ManifestErrors: what is wrong with them.
    """
    try:
        document, report = read_toml(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestErrors(str(path), [Problem("", f"cannot be read: {error}")]) from error
    raw = document.get("chains")
    chains = read_chains(raw, environ, report) if isinstance(raw, dict) else {}
    if not chains:
        report.add((), "there is no chain: write [chains.NAME] with its id and rpc")
    if problems := report.problems():
        raise ManifestErrors(str(path), problems)
    return chains


def _build(path: Path, document: Mapping[str, object], environ: Mapping[str, str], report: ManifestReport) -> Manifest:
    root: KeyPath = ()
    part = ManifestPart.read(document, root, report)
    if not part.chains and not part.refused("chains"):
        report.add(root, "there is no chain: write [chains.NAME] with its id and rpc")
    if not part.contracts and not part.refused("contracts"):
        report.add(root, "there is no contract: write [contracts.NAME] with its abi and address")
    declared = part.contracts or {}
    chains = read_chains(part.chains or {}, environ, report)
    contracts = read_contracts(declared, chains, path.parent, report)
    snapshots = read_snapshots(part.snapshots or {}, declared, contracts, report)
    taken = {name: f"derived.{name}" for name in part.derived or {}}
    programs = read_programs(part.programs or {}, path.parent, declared, contracts, taken, report)
    _refuse_idle(contracts, snapshots, report)
    pairs = partial(_read_pairs, declared=declared, chains=chains, contracts=contracts, report=report)
    balances: _Pairs = frozenset()
    if part.balances is not None:
        balances = pairs("balances", part.balances, _balance_problem)
    return Manifest(
        path=path,
        chains=chains,
        contracts=contracts,
        snapshots=snapshots,
        # Where nothing is said, all that are tokens are described, and no balances are kept.
        tokens=pairs("tokens", {} if part.tokens is None else part.tokens, _token_problem),
        balances=balances,
        daily_balances=_read_daily(part.balances, balances, report),
        token_arguments=_token_arguments(part, contracts),
        derived=read_derived(part.derived or {}, contracts, declared, report),
        programs=programs,
    )


def _refuse_idle(contracts: Mapping[str, Contract], snapshots: Mapping[str, Snapshot], report: ManifestReport) -> None:
    read = {snapshot.contract for snapshot in snapshots.values()}
    for contract in contracts.values():
        if not contract.abi.events and contract.name not in read:
            report.add(("contracts", contract.name, "abi"), "it has no events, and no snapshot calls its functions")
