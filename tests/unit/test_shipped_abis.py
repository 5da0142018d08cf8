"""The ABI files that are shipped: each event's topic must be the one that the live contracts emit."""

import json
import tomllib
from pathlib import Path

import pytest
from eth_utils.abi import event_abi_to_log_topic
from eth_utils.address import is_checksum_address

ROOT = Path(__file__).parents[2]

# As seen in the logs of the contracts named in abis/README.md.
TOPICS = {
    "Transfer": "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
    "Approval": "8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925",
    "ApprovalForAll": "17307eab39ab6107e8899845ad3d59bd9653f200f220920489ca2b5937696c31",
    "TransferSingle": "c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62",
    "TransferBatch": "4a39dc06d4c0dbc64b70af90fd698a233a518aa5d07e595d983b8c0526c8f7fb",
    "URI": "6bb7ff708619ba0610cba295a58592e0451dee2622938c8755667688daf3529b",
    "PairCreated": "0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9",
    "Sync": "1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1",
    "PoolCreated": "783cca1c0412dd0d695e784568c96da2e9c22ff989357a2e8b1d9b2b4e6b7118",
    "Withdrawal": "7fcf532c15f0a6db0bd6d0e038bea71d30d808c7d98cb3bf7268a95bf5081b65",
}
TOPICS_OF_FILE = {
    ("weth9.json", "Deposit"): "e1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c",
    ("erc4626.json", "Deposit"): "dcbc1c05240f31ff3ad067ef1ee35ce4997762752e3a095284754544f4c709d7",
    ("erc4626.json", "Withdraw"): "fbde797d201c681b91056529119e0b02407c7bb96a4a2c75c01fc9667232c8db",
    ("uniswap_v2_pair.json", "Swap"): "d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822",
    ("uniswap_v2_pair.json", "Mint"): "4c209b5fc8ad50758f13e2e1088ba56a560dff690a1c6fef26394f4c03821c4f",
    ("uniswap_v2_pair.json", "Burn"): "dccd412f0b1252819cb1fd330b93224ca42612892bb3f4f789976e6d81936496",
    ("uniswap_v3_pool.json", "Swap"): "c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67",
    ("uniswap_v3_pool.json", "Mint"): "7a53080ba414158be7ec69b987b5fb7d07dee101fe85488f0853ae16239d0bde",
    ("uniswap_v3_pool.json", "Burn"): "0c396cd989a39f4459b5fa1aed6a9a8dcdbc45908acfd67e028cd568da98982c",
}
# ERC-721's Transfer and Approval have the topics of ERC-20's: `indexed` is no part of a signature.
INDEXED = {
    ("erc20.json", "Transfer"): 2,
    ("erc721.json", "Transfer"): 3,
    ("erc1155.json", "URI"): 1,
    ("uniswap_v2_factory.json", "PairCreated"): 2,
    ("uniswap_v2_pair.json", "Burn"): 2,
    ("weth9.json", "Deposit"): 1,
}


def abi_files() -> list[Path]:
    return sorted((ROOT / "abis").glob("*.json"))


def events_of(path: Path) -> dict[str, dict]:
    return {item["name"]: item for item in json.loads(path.read_text("utf-8")) if item["type"] == "event"}


@pytest.mark.parametrize("path", abi_files(), ids=lambda path: path.stem)
def test_topics_are_those_of_the_live_contracts(path):
    for name, item in events_of(path).items():
        expected = TOPICS_OF_FILE.get((path.name, name)) or TOPICS.get(name)
        if expected is not None:
            assert event_abi_to_log_topic(item).hex() == expected, name


@pytest.mark.parametrize(("file", "event"), sorted(TOPICS_OF_FILE.keys() | INDEXED.keys()))
def test_every_known_event_is_in_its_file(file, event):
    assert event in events_of(ROOT / "abis" / file)


@pytest.mark.parametrize(("file", "event", "count"), [(*key, count) for key, count in INDEXED.items()])
def test_indexed_arguments_are_counted_right(file, event, count):
    item = events_of(ROOT / "abis" / file)[event]
    assert sum(argument["indexed"] for argument in item["inputs"]) == count


def test_readme_names_every_file_and_every_address_has_its_checksum():
    readme = (ROOT / "abis" / "README.md").read_text("utf-8")
    for path in abi_files():
        assert f"`{path.name}`" in readme
    addresses = [word.strip("`") for word in readme.split() if word.startswith("`0x")]
    assert addresses
    assert all(is_checksum_address(address) for address in addresses)


def test_shipped_manifest_names_files_events_and_addresses_that_exist():
    manifest = tomllib.loads((ROOT / "indexer.toml").read_text("utf-8"))
    assert manifest["chains"]["ethereum"] == {"id": 1, "rpc": ["${RPC_URL}"]}
    for name, contract in manifest["contracts"].items():
        known = events_of(ROOT / contract["abi"])
        assert set(contract.get("events", [])) <= known.keys(), name
        if "factory" in contract:
            rule = contract["factory"]
            parent = events_of(ROOT / manifest["contracts"][rule["contract"]]["abi"])
            assert rule["argument"] in [argument["name"] for argument in parent[rule["event"]]["inputs"]]
        else:
            assert is_checksum_address(contract["address"])
            assert contract["start_block"] > 0
