"""The demo's contracts: Solidity sources, and the artifacts that ``compile`` made of them."""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import abi_to_signature, function_abi_to_4byte_selector, get_abi_input_types

from indexer.errors import GaplessError

SOURCES = Path(__file__).parent
ARTIFACTS = SOURCES / "artifacts"


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def functions(self) -> dict[str, Any]:
        """The ABI's functions by signature, for example ``"mint(address,uint256)"``."""
        functions: list[Any] = [item for item in self.abi if item["type"] == "function"]
        return {abi_to_signature(item): item for item in functions}

    def encode(self, function: str, *arguments: object) -> bytes:
        """The calldata of a call.

        Args:
            function: a name, or a signature where the name is overloaded.
            arguments: Python values as eth-abi takes them.

        Raises:
            KeyError: the ABI has no such function, or several of that name.
        """
        candidates = [item for signature, item in self.functions.items() if function in (signature, item["name"])]
        if len(candidates) != 1:
            raise KeyError(f"{self.name} has {len(candidates)} functions {function!r}; it has {sorted(self.functions)}")
        item = candidates[0]
        return function_abi_to_4byte_selector(item) + encode(get_abi_input_types(item), arguments)

    def creation(self, *arguments: object) -> bytes:
        """The data of a transaction that deploys the contract."""
        constructor: Any = next((item for item in self.abi if item["type"] == "constructor"), {"inputs": []})
        return self.bytecode + encode([argument["type"] for argument in constructor["inputs"]], arguments)


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
