"""The manifest of the demo: the template ``demo.toml`` beside this file, filled in."""

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
