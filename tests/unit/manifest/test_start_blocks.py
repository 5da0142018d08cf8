"""``start_block = "auto"`` with a number in its place, and what waits for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.errors import GaplessError
from indexer.manifest import load_manifest
from indexer.manifest.model import Manifest, settled
from indexer.service.manifest_watcher import RETRY_EVERY, ManifestWatcher, PartialManifestWatcher

REPOSITORY = Path(__file__).resolve().parents[3]

TEXT = """
[chains.one]
id = 1
rpc = ["http://127.0.0.1:1"]
[chains.two]
id = 2
rpc = ["http://127.0.0.1:2"]

[contracts.maker]
abi = "{abis}/uniswap_v2_factory.json"
chains = ["one", "two"]
address = "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f"
start_block = "auto"

[contracts.pair]
abi = "{abis}/uniswap_v2_pair.json"
factory = {{ contract = "maker", event = "PairCreated", argument = "pair" }}
events = ["Swap"]
start_block = 7

[contracts.coin]
abi = "{abis}/erc20.json"
chain = "two"
address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
start_block = 9

[snapshots.reserves]
contract = "pair"
calls = ["getReserves()"]
every = "10 blocks"
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    path = tmp_path / "indexer.toml"
    path.write_text(TEXT.format(abis=(REPOSITORY / "abis").as_posix()))
    return load_manifest(path, {})


def starts(manifest: Manifest) -> dict[tuple[str, str], int | str]:
    return {(c.name, d.chain): d.start_block for c in manifest.contracts.values() for d in c.deployments}


def test_numbers_take_its_place_and_what_waits_takes_its_children_with_it(manifest: Manifest) -> None:
    whole = settled(manifest, {("maker", "one"): 5, ("maker", "two"): 6, ("coin", "two"): 1})
    assert starts(whole)["maker", "one"] == 5
    assert starts(whole)["coin", "two"] == 9, "what has a number keeps it"
    assert set(starts(whole)) == set(starts(manifest))
    part = settled(manifest, {("maker", "one"): 5})
    assert starts(part) == {("maker", "one"): 5, ("pair", "one"): 7, ("coin", "two"): 9}
    assert part.snapshots["reserves"].chains == ("one",)
    assert ("pair", "two") not in part.tokens
    none = settled(manifest, {})
    assert starts(none) == {("coin", "two"): 9}
    assert not none.snapshots


def test_what_waits_is_tried_again_and_given_out_when_it_is_there(manifest: Manifest) -> None:
    known: dict[tuple[str, str], int] = {("maker", "one"): 5}
    now, failing = [0.0], [False]

    def settle(given: Manifest) -> tuple[Manifest, dict[str, str]]:
        if failing[0]:
            raise GaplessError("no code")
        return settled(given, known), {} if ("maker", "two") in known else {"two": "nobody answers"}

    watch = PartialManifestWatcher(
        ManifestWatcher(manifest, lambda: load_manifest(manifest.path, {})), manifest, settle, lambda: now[0]
    )
    assert ("maker", "two") not in starts(watch.manifest)
    known["maker", "two"] = 6
    assert watch.look() is None
    now[0] = RETRY_EVERY
    found = watch.look()
    assert found is not None
    assert starts(found)["maker", "two"] == 6
    assert watch.look() is None
    # A manifest that cannot be settled is tried again, though its file did not change since.
    manifest.path.write_text(manifest.path.read_text().replace("start_block = 9", "start_block = 10"))
    failing[0] = True
    with pytest.raises(GaplessError):
        watch.look()
    failing[0] = False
    found = watch.look()
    assert found is not None
    assert starts(found)["coin", "two"] == 10
