"""Where a test writes its manifest: a folder with the shipped ABIs and an odd one."""

from pathlib import Path

import pytest

from indexer.errors import Problem
from indexer.manifest import ManifestErrors, load_manifest
from indexer.manifest.model import Manifest

REPOSITORY = Path(__file__).resolve().parents[3]

ENVIRON = {"RPC_URL": "https://eth.example/v2/SECRETKEY", "SECOND_RPC_URL": "https://user:SECRETKEY@two.example/"}

ETHEREUM = '[chains.ethereum]\nid = 1\nrpc = ["${RPC_URL}"]\n'
USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


def parameter(kind: str, name: str = "", *, indexed: bool = False, components: list[object] | None = None) -> object:
    return {"name": name, "type": kind, "indexed": indexed, **({"components": components} if components else {})}


def event(name: str, *inputs: object, anonymous: bool = False) -> object:
    return {"type": "event", "name": name, "inputs": list(inputs), "anonymous": anonymous}


def function(name: str, inputs: list[object], outputs: list[object], mutability: str = "view") -> object:
    return {"type": "function", "name": name, "inputs": inputs, "outputs": outputs, "stateMutability": mutability}


_KEY = [parameter("address", "currency0"), parameter("uint24", "fee")]

ODD_ABI = [
    event("Moved", parameter("address", "who", indexed=True), parameter("uint256", "amount")),
    event("Moved", parameter("address", "who", indexed=True), parameter("bytes32", "name", indexed=True)),
    event("Created", parameter("tuple", "key", components=_KEY), parameter("address[]", "all")),
    event(
        "Hashed", parameter("tuple", "key", indexed=True, components=_KEY), parameter("string", "text", indexed=True)
    ),
    event("Counted", parameter("uint256", "number", indexed=True), parameter("bool", "flag", indexed=True)),
    event("Ghost", parameter("address", "who", indexed=True), anonymous=True),
    event("Unnamed", parameter("address", indexed=True), parameter("address")),
    function("poke", [], [], "nonpayable"),
    function("silent", [], [], "view"),
    function("at", [parameter("uint256")], [parameter("address")]),
    function("at", [parameter("bytes32")], [parameter("address")]),
    function("sum", [parameter("int8"), parameter("bool"), parameter("uint256[2]")], [parameter("int256")], "pure"),
    function(
        "find", [parameter("tuple", components=_KEY), parameter("bytes"), parameter("string")], [parameter("bool")]
    ),
]


PROGRAM = """
from indexer.programs import Program, Table, address, key, uint256

class Position(Table):
    owner: address = key()
    amount: uint256 = 0

program = Program(tables=[Position])

@program.on("pair.Transfer")
def moved(event, db):
    pass
"""


class Desk:
    """Where manifests are written and read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str) -> Path:
        path = self.folder / "indexer.toml"
        path.write_text(text)
        return path

    def load(self, text: str, environ: dict[str, str] | None = None) -> Manifest:
        return load_manifest(self.write(text), ENVIRON if environ is None else environ)

    def problems(self, text: str, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
        with pytest.raises(ManifestErrors) as caught:
            self.load(text, environ)
        assert "SECRETKEY" not in str(caught.value)
        return caught.value.problems
