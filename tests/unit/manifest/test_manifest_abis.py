"""``abi = "..."``: which file, which of its contracts, and what is said of a file that has none."""

import json
import re

import pytest
from manifest_desk import ETHEREUM, USDC, Desk, event, function, parameter

TOKEN = [event("Moved", parameter("address", "who", indexed=True)), function("total", [], [parameter("uint256")])]
OTHER = [event("Other", parameter("address", "who", indexed=True))]
OUTPUT = {"contracts": {"src/Token.sol": {"Token": {"abi": TOKEN}}, "src/B.sol": {"B": {"abi": OTHER}}}}


def contract(name: str, abi: str) -> str:
    return f"[contracts.{name}]\nabi = {json.dumps(abi)}\naddress = '{USDC}'\n"


def test_contracts_of_one_file_are_named_behind_a_colon(desk: Desk) -> None:
    (desk.folder / "out.json").write_text(json.dumps(OUTPUT))
    manifest = desk.load(ETHEREUM + contract("token", "out.json:Token") + contract("b", "out.json:src/B.sol:B"))
    found = {name: [one.name for one in each.events] for name, each in manifest.contracts.items()}
    assert found == {"token": ["Moved"], "b": ["Other"]}
    # Both are read anew when the one file changes.
    assert {one.abi_path for one in manifest.contracts.values()} == {desk.folder / "out.json"}


def test_a_file_whose_name_has_a_colon_is_that_file(desk: Desk) -> None:
    (desk.folder / "out.json").write_text(json.dumps(OUTPUT))
    (desk.folder / "out.json:Token").write_text(json.dumps(OTHER))
    manifest = desk.load(ETHEREUM + contract("token", "out.json:Token"))
    assert [one.name for one in manifest.contracts["token"].events] == ["Other"]


def test_lines_of_a_text_file_are_an_abi(desk: Desk) -> None:
    (desk.folder / "token.txt").write_text(
        "event Moved(address indexed who)\nfunction total() view returns (uint256)\n"
    )
    manifest = desk.load(
        ETHEREUM + contract("token", "token.txt")
        + '[snapshots.total]\ncontract = "token"\ncalls = ["total()"]\nevery = "100 blocks"\n'
    )  # fmt: skip
    assert [one.signature for one in manifest.contracts["token"].events] == ["Moved(address)"]


@pytest.mark.parametrize(
    ("abi", "says"),
    [
        ("out.json", r"out\.json: holds the ABIs of several contracts: .* of src/Token\.sol:Token, src/B\.sol:B"),
        ("out.json:Tok", r"out\.json: holds no contract Tok: it has"),
        ("abis/erc20.json:Token", r"erc20\.json: holds one ABI .* leave out :Token"),
        ("nothing.json:Token", "nothing.json:Token: cannot be read: No such file"),
        ("abi.ts", r"abi\.ts: not an ABI but TypeScript or JavaScript: taken are"),
        ("abi.yaml", r"abi\.yaml: not an ABI but YAML: taken are"),
        ("bad.txt", r"bad\.txt: line 2: 'event B\(uint8': ends where ',' is expected"),
        ("odd.json", r"odd\.json: \[0\]\.anonymous: true or false, found 'perhaps'"),
        (json.dumps(TOKEN), "expected the path of a file, found an ABI itself"),
        ("event Moved(address who)", "expected the path of a file, found a human-readable line"),
        ("https://node.example/SECRETKEY", "expected the path of a file, found a URL"),
        ("abis", "abis: cannot be read: Is a directory"),
        ("a\0b", "cannot be read"),
        ("x" * 5000, "cannot be read: File name too long"),
    ],
)
def test_check_names_the_file_and_the_place(desk: Desk, abi: str, says: str) -> None:
    (desk.folder / "out.json").write_text(json.dumps(OUTPUT))
    (desk.folder / "abi.ts").write_text("export const abi = [] as const")
    (desk.folder / "abi.yaml").write_text("- type: event\n  name: Moved\n")
    (desk.folder / "bad.txt").write_text("event A()\nevent B(uint8")
    (desk.folder / "odd.json").write_text(json.dumps([{"type": "event", "name": "E", "anonymous": "perhaps"}]))
    (problem,) = desk.problems(ETHEREUM + contract("token", abi))
    assert (problem.key, problem.line) == ("contracts.token.abi", 5)
    assert re.search(says, problem.message)
