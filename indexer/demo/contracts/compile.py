"""Compiles the demo's contracts: ``python -m indexer.demo.contracts.compile``.

Only needed after a change of a ``.sol`` file; the artifacts are kept in the repository and are all that runs. It needs
Node's ``npm`` and ``node`` on the path and fetches exactly the two packages named below into a temporary directory.
The versions stand here and not in a lock file, and the compiler's metadata hash is left out of the bytecode, so the
same sources give the same artifacts everywhere.
"""

import hashlib
import json
import logging
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from indexer.demo.contracts import ARTIFACTS, SOURCES
from indexer.errors import GaplessError

SOLC = "0.8.37"
OPENZEPPELIN = "5.7.0"

SETTINGS: dict[str, Any] = {
    # The oldest version with MCOPY, which OpenZeppelin's memory helpers use.
    "evmVersion": "cancun",
    # The events of Zoo have more arguments than the stack has reach: only the IR pipeline compiles them.
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 200},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode"]}},
}

# solc's JavaScript build takes the standard JSON input and asks back for imports that are not in it.
_COMPILE_JS = """
const fs = require("fs");
const solc = require("solc");
const found = (path) => {
  try { return { contents: fs.readFileSync("node_modules/" + path, "utf8") }; }
  catch { return { error: "not found: " + path }; }
};
const output = JSON.parse(solc.compile(fs.readFileSync(0, "utf8"), { import: found }));
process.stdout.write(JSON.stringify({ version: solc.version(), ...output }));
"""

log = logging.getLogger(__name__)


def compile_sources(directory: Path = SOURCES) -> dict[str, dict[str, Any]]:
    """Compiles every ``.sol`` file of ``directory``.

    Returns:
        Artifact documents by contract name, abstract contracts and those of imported packages left out.

    Raises:
        GaplessError: the compiler found errors; its own messages are in the text.
        subprocess.CalledProcessError: npm or node failed.
    """
    sources = {path.name: {"content": path.read_text("utf-8")} for path in sorted(directory.glob("*.sol"))}
    request = {"language": "Solidity", "sources": sources, "settings": SETTINGS}
    with tempfile.TemporaryDirectory() as work:
        install = ["npm", "install", "--no-save", "--no-package-lock", "--ignore-scripts", "--silent", "--prefix", work]
        subprocess.run([*install, f"solc@{SOLC}", f"@openzeppelin/contracts@{OPENZEPPELIN}"], check=True)
        answer = subprocess.run(
            ["node", "-e", _COMPILE_JS],
            cwd=work,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=True,
        )
    output = json.loads(answer.stdout)
    errors = [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]
    if errors:
        raise GaplessError("The demo's contracts do not compile:\n" + "\n".join(errors))
    return {
        name: _artifact(name, file, compiled, output["version"])
        for file in sources
        for name, compiled in output["contracts"].get(file, {}).items()
        if compiled["evm"]["bytecode"]["object"]
    }


def _artifact(name: str, file: str, compiled: dict[str, Any], version: str) -> dict[str, Any]:
    deployed = compiled["evm"]["deployedBytecode"]
    if deployed["immutableReferences"]:
        # The world recognises its contracts by their code, which immutables would change.
        raise GaplessError(f"{name} has immutable variables: make them ordinary ones")
    return {
        "contractName": name,
        "sourceName": file,
        "sourcesDigest": sources_digest(),
        "compiler": f"solc {version}",
        "settings": {key: value for key, value in SETTINGS.items() if key != "outputSelection"},
        "abi": compiled["abi"],
        "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + deployed["object"],
    }


def sources_digest(directory: Path = SOURCES) -> str:
    """A digest of all sources, kept in every artifact: a test compares it, so that no artifact grows stale unseen."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.sol")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> None:
    """Compiles all and rewrites the artifacts directory."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    documents = compile_sources()
    ARTIFACTS.mkdir(exist_ok=True)
    for old in ARTIFACTS.glob("*.json"):
        if old.stem not in documents:
            old.unlink()
    for name, document in documents.items():
        (ARTIFACTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        log.info("%-14s %6d bytes deployed", name, len(document["deployedBytecode"]) // 2 - 1)


if __name__ == "__main__":
    main()
