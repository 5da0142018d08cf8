"""``[programs.NAME]``: Python code that keeps tables of its own by handling events.

What a program declares is found out in a process of its own: its code may hang, or end the process.
"""

import functools
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from indexer.abi.names import RESERVED_WORDS
from indexer.errors import did_you_mean, listed
from indexer.manifest.derived import STORED_NAME
from indexer.manifest.document import ProgramPart
from indexer.manifest.model import Contract, ManifestProgram
from indexer.manifest.source import KeyPath, ManifestReport

WORKING_SET: Final = 500_000
"""Rows in memory where the manifest does not say another number; as in :mod:`indexer.programs.memory`."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DESCRIBED_WITHIN: Final = 30.0


def read_programs(
    raw: Mapping[str, Any],
    folder: Path,
    declared: Mapping[str, Any],
    contracts: Mapping[str, Contract],
    taken: Mapping[str, str],
    report: ManifestReport,
) -> dict[str, ManifestProgram]:
    """Read all programs.

    Args:
        raw: the tables.
        folder: that of the manifest: paths are relative to it.
        declared: everything that stands under ``contracts``: what could not be read is not reported again.
        contracts: the contracts that could be read.
        taken: by the name of a table in the schema ``derived``: what in the manifest has it.
        report: where problems go.
    """
    programs: dict[str, ManifestProgram] = {}
    tables = dict(taken)
    for name, table in raw.items():
        path: KeyPath = ("programs", name)
        part = ProgramPart.read(table, path, report)
        if not _NAME.fullmatch(name):
            report.add(path, "expected lower-case letters, digits and _, at most 40, starting with a letter")
        if not part.required("module", path, report, "the file of its code") or part.module is None:
            continue
        file = (folder / part.module).resolve()
        found = _described(file, (*path, "module"), part.module, report)
        if found is None:
            continue
        for each in found["tables"]:
            _take_name(each["name"], name, tables, (*path, "module"), report)
        known = [event for event in found["events"] if _is_known(event, declared, contracts, (*path, "module"), report)]
        chains = _read_chains(part, known, contracts, path, report)
        programs[name] = ManifestProgram(
            name, file, tuple(known), tuple(each["name"] for each in found["tables"]), chains,
            part.working_set or WORKING_SET, found["code_hash"],
        )  # fmt: skip
    return programs


def _take_name(table: str, program: str, tables: dict[str, str], path: KeyPath, report: ManifestReport) -> None:
    if table in RESERVED_WORDS:
        report.add(path, f'{table} is a reserved word of SQL: name the table otherwise: class X(Table, name="…")')
    elif STORED_NAME.fullmatch(table):
        report.add(
            path, f"{table} is called like a generation's table: name it without _g or _p and a number at its end"
        )
    elif table in tables:
        report.add(path, f"the table derived.{table} is that of {tables[table]}: choose another name")
    else:
        tables[table] = f"programs.{program}"


def _is_known(
    event: str, declared: Mapping[str, Any], contracts: Mapping[str, Contract], path: KeyPath, report: ManifestReport
) -> bool:
    contract, _, name = event.partition(".")
    if contract not in declared:
        report.add(path, f"it handles {event}: there is no contract {contract}{did_you_mean(contract, declared)}")
        return False
    if contract not in contracts:
        return False
    known = [contracts[contract].abi.api_name(each) for each in contracts[contract].events]
    if name not in known:
        near = did_you_mean(name, known)
        report.add(path, f"it handles {event}: {contract} has no event {name}{near} (it has: {listed(known)})")
        return False
    return True


def _read_chains(
    part: ProgramPart, events: list[str], contracts: Mapping[str, Contract], path: KeyPath, report: ManifestReport
) -> tuple[str, ...]:
    named = {event.partition(".")[0] for event in events}
    there = {one.chain: None for name in contracts if name in named for one in contracts[name].deployments}
    if part.chains is None:
        return tuple(there)
    for number, chain in enumerate(part.chains):
        if chain not in there:
            report.add((*path, "chains", number), f"none of its contracts is on chain {chain} ({listed(there)})")
    return tuple(chain for chain in there if chain in part.chains)


def _described(file: Path, path: KeyPath, written: str, report: ManifestReport) -> Mapping[str, Any] | None:
    try:
        digest = hashlib.sha256(b"".join(each.read_bytes() for each in sorted(file.parent.glob("*.py")))).hexdigest()
        file.stat()
    except OSError as error:
        report.add(path, f"cannot be read: {error.strerror}", written)
        return None
    found = _describe(file, digest)
    if "problem" in found:
        report.add(path, str(found["problem"]))
        return None
    return found


@functools.lru_cache(maxsize=64)
def _describe(file: Path, digest: str) -> Mapping[str, Any]:
    del digest  # another one makes it another question
    command = [sys.executable, "-m", "indexer.programs.describe", str(file)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DESCRIBED_WITHIN,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"its code does not come to an end within {_DESCRIBED_WITHIN:.0f} s of being imported"}
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"problem": f"its code ended the process that imported it, with status {done.returncode}"}
    return found
