"""Puts the manifest together: reads the file, checks every part of it, and reports all problems at once."""

from collections.abc import Mapping
from pathlib import Path

from indexer.manifest.chains import read_chains
from indexer.manifest.contracts import read_contracts
from indexer.manifest.document import ManifestPart
from indexer.manifest.locate import KeyPath
from indexer.manifest.model import Chain, Contract, Manifest, Snapshot
from indexer.manifest.report import ManifestReport
from indexer.manifest.snapshots import read_snapshots
from indexer.manifest.source import read_toml
from indexer.manifest.tracking import read_balances, read_tokens
from indexer.problems import Problem, ProblemsError


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
    _refuse_idle(contracts, snapshots, report)
    return Manifest(
        path=path,
        chains=chains,
        contracts=contracts,
        snapshots=snapshots,
        tokens=read_tokens(part.tokens, declared, chains, contracts, report),
        balances=read_balances(part.balances, declared, chains, contracts, report),
    )


def _refuse_idle(contracts: Mapping[str, Contract], snapshots: Mapping[str, Snapshot], report: ManifestReport) -> None:
    read = {snapshot.contract for snapshot in snapshots.values()}
    for contract in contracts.values():
        if not contract.abi.events and contract.name not in read:
            report.add(("contracts", contract.name, "abi"), "it has no events, and no snapshot calls its functions")
