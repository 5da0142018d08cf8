"""The demo's contracts: Solidity sources, and the artifacts that :mod:`indexer.demo.contracts.compile` made of them."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from indexer.errors import GaplessError

SOURCES = Path(__file__).parent
ARTIFACTS = SOURCES / "artifacts"


@dataclass(frozen=True)
class Artifact:
    """One compiled contract.

    Attributes:
        name: the contract's name in its source.
        path: the JSON file it was read from; its key ``abi`` makes it usable as an ABI file of a manifest.
        abi: the ABI as the compiler wrote it.
        bytecode: creation code without constructor arguments.
        deployed_bytecode: what ``eth_getCode`` answers once it is deployed (there are no immutables in it).
    """

    name: str
    path: Path
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed_bytecode: bytes


@cache
def artifact(name: str) -> Artifact:
    """Reads the artifact of the contract ``name``, for example ``"DemoToken"``.

    Raises:
        GaplessError: there is no such artifact; the sources have not been compiled, or the name is wrong.
    """
    path = ARTIFACTS / f"{name}.json"
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise GaplessError(
            f"No compiled contract {name!r} in {ARTIFACTS}",
            hint="python -m indexer.demo.contracts.compile makes the artifacts of all contracts (needs Node).",
        ) from None
    return Artifact(
        name=name,
        path=path,
        abi=document["abi"],
        bytecode=bytes.fromhex(document["bytecode"].removeprefix("0x")),
        deployed_bytecode=bytes.fromhex(document["deployedBytecode"].removeprefix("0x")),
    )
