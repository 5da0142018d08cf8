"""The manifest of the demo: the template ``demo.toml`` beside this file, filled in."""

import hashlib
import re
from pathlib import Path

from indexer.demo.contracts import ARTIFACTS
from indexer.demo.world import World

TEMPLATE = Path(__file__).with_name("demo.toml")


def manifest_text(world: World) -> str:
    """The manifest that indexes ``world``. It takes the node's URL from the environment, as ``RPC_URL``."""
    values: dict[str, object] = {
        **world.addresses,
        "artifacts": ARTIFACTS.as_posix(),
        "chain_id": world.chain_id,
        "start_block": world.start_block,
    }
    return re.sub(r"@(\w+)@", lambda match: str(values[match[1]]), TEMPLATE.read_text("utf-8"))


def keep_manifest(path: Path, text: str) -> bool:
    """Writes the demo's manifest, where it is not there yet or is still as it was written; an edited one stays.

    Args:
        path: the manifest; what was written there last is noted beside it.
        text: what to write.

    Returns:
        False if it was edited, and left as it is.
    """
    noted = path.with_name(f".{path.name}.sha256")
    if path.exists():
        there = path.read_text("utf-8")
        if there != text and (not noted.exists() or noted.read_text("utf-8") != _digest(there)):
            return False
    # Noted first: cut off in between, the file on disk counts as edited, and is kept.
    noted.write_text(_digest(text), "utf-8")
    path.write_text(text, "utf-8")
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
