"""What a wrong manifest is told: key, line, what was found, what is allowed; and all of it at once."""

import json
from collections.abc import Callable

import pytest
from manifest_desk import ETHEREUM, REPOSITORY, USDC, Desk, event, parameter
from manifest_mistakes import BASE, ERC20, FACTORY, ODD, ONE_PROBLEM, child

from indexer.errors import Problem
from indexer.manifest import ManifestErrors, load_manifest

Read = Callable[[str], Problem]


@pytest.mark.promise("M-01")
def test_all_problems_at_once_each_with_its_line(desk: Desk) -> None:
    (desk.folder / "abis/broken.json").write_text("{}")
    problems = desk.problems(
        """
[chains.ethereum]
id = 1
rpc = ["${NOT_SET}"]
bloom_cheks = true
[contracts.usdc]
abi = "abis/erc20.json"
address = "0xa0B86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
events = ["Transfer", "Transferred"]
start_block = 10
end_block = 9
[contracts.short]
abi = "abis/missing.json"
address = "0x1234"
[contracts.usdc]
abi = "abis/erc20.json"
[contracts.broken]
abi = "abis/broken.json"
address = "any"
"""
    )
    assert [(problem.line, problem.key) for problem in problems] == [
        (4, "chains.ethereum.rpc[0]"),
        (5, "chains.ethereum.bloom_cheks"),
        (8, "contracts.usdc.address"),
        (9, "contracts.usdc.events[1]"),
        (10, "contracts.usdc.start_block"),
        (13, "contracts.short.abi"),
        (14, "contracts.short.address"),
        (15, "contracts.usdc"),
        (18, "contracts.broken.abi"),
    ]
    told = [problem.message for problem in problems]
    assert "NOT_SET is not set" in told[0]
    assert "did you mean bloom_checks?" in told[1]
    assert "checksum" in told[2]
    assert "did you mean Transfer?" in told[3]
    assert "start_block 10, end_block 9" in told[4]
    assert "cannot be read" in told[5]
    assert "40 hexadecimal digits" in told[6]
    assert "twice" in told[7]
    assert "not an ABI" in told[8]


def test_the_message_holds_every_problem(desk: Desk) -> None:
    path = desk.write(ETHEREUM + ERC20 + "start = 5\nevent = []\n")
    with pytest.raises(ManifestErrors) as caught:
        load_manifest(path, {})
    assert str(caught.value).splitlines() == [
        f"{path} has 3 problems:",
        "  line 3: chains.ethereum.rpc[0]: environment variable RPC_URL is not set: export it, or put it into .env"
        ' (found "${RPC_URL}")',
        *(f"  {problem}" for problem in caught.value.problems[1:]),
    ]
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(("text", "key", "message"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_one_problem(desk: Desk, problem: Read, text: str, key: str, message: str) -> None:
    (desk.folder / "abis/empty.json").write_text("[]")
    (desk.folder / "abis/functions.json").write_text('[{"type": "function", "name": "f", "stateMutability": "view"}]')
    found = problem(text)
    assert found.key == key
    assert message in found.message
    assert not found.message.startswith(("ishould", "nput")), "words of pydantic are cut where a word ends"
    if key:
        assert found.line is not None


def test_problems_in_an_abi_are_all_told(desk: Desk) -> None:
    (desk.folder / "abis/bad.json").write_text(
        '[{"type": "event", "name": "A", "inputs": [{"type": "x"}]}, {"type": "b"}]'
    )
    problems = desk.problems(ETHEREUM + ERC20.replace("erc20", "bad"))
    assert [problem.key for problem in problems] == ["contracts.usdc.abi"] * 2
    assert "[0].inputs[0].type" in problems[0].message
    assert "[1]" in problems[1].message


def test_a_mistake_in_one_contract_is_not_told_again_for_its_children(problem: Read) -> None:
    rule = '{ contract = "factory", event = "PairCreated", argument = "pair" }'
    assert problem(ETHEREUM + FACTORY.replace("v2_factory", "v9") + child(rule)).key == "contracts.factory.abi"
    assert problem(ETHEREUM + FACTORY + 'chain = "none"\n' + child(rule)).key == "contracts.factory.chain"
    assert problem(ETHEREUM + BASE + FACTORY + child(rule)).key == "contracts.factory"


def test_factories_in_a_circle(desk: Desk) -> None:
    problems = desk.problems(
        ETHEREUM
        + ODD.replace(f'address = "{USDC}"', 'factory = { contract = "two", event = "Unnamed", argument = "arg0" }')
        + ODD.replace("odd]", "two]").replace(
            f'address = "{USDC}"', 'factory = { contract = "odd", event = "Unnamed", argument = "arg0" }'
        )
    )
    assert "odd -> two -> odd" in "\n".join(problem.message for problem in problems)


def test_a_file_that_is_not_there(desk: Desk) -> None:
    with pytest.raises(ManifestErrors, match="No such file") as caught:
        load_manifest(desk.folder / "none.toml", {})
    assert "GAPLESS_MANIFEST" in str(caught.value.hint)


def test_a_file_that_is_no_text(desk: Desk) -> None:
    path = desk.write("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestErrors, match="UTF-8"):
        load_manifest(path, {})


def test_an_empty_variable_counts_as_unset(desk: Desk) -> None:
    (problem,) = desk.problems(ETHEREUM + ERC20, {"RPC_URL": " "})
    assert "RPC_URL is empty" in problem.message


@pytest.mark.parametrize(
    "value", ["SECRETKEY", "eth.example/v2/SECRETKEY", "https://[SECRETKEY", "https://h:SECRETKEY/"]
)
def test_a_variable_that_is_no_url_is_not_shown(desk: Desk, value: str) -> None:
    (problem,) = desk.problems(ETHEREUM + ERC20, {"RPC_URL": value})
    assert "not a URL (the value of the environment variable)" in problem.message


@pytest.mark.parametrize(
    "line",
    [
        'rcp = ["https://eth.example/v2/SECRETKEY"]',
        'rcp = ["SECRETKEY"]',
        'rpc = "SECRETKEY"',
        'rpc = ["SECRETKEY"]',
        'rpc = [{ url = ["SECRETKEY"] }]',
        'rpc = [{ ulr = "SECRETKEY" }]',
        'rpc = ["SECRETKEY${RPC_URL_2}"]',
        'rpc = ["${RPC_URL_2}SECRETKEY"]',
        'rpc = ["${RPC URL}SECRETKEY"]',
    ],
)
def test_no_key_is_ever_shown(desk: Desk, line: str) -> None:
    desk.problems(f"[chains.ethereum]\nid = 1\n{line}\n{ERC20}")  # which asserts it


def test_the_shipped_manifest_asks_for_its_variable() -> None:
    with pytest.raises(ManifestErrors, match="RPC_URL is not set"):
        load_manifest(REPOSITORY / "indexer.toml", {})


def test_an_event_with_more_arguments_than_a_table_has_columns_is_named(desk: Desk) -> None:
    wide = [event("Wide", *[parameter("bool") for _ in range(1594)]), event("Slim", parameter("bool"))]
    (desk.folder / "wide.json").write_text(json.dumps(wide))
    contract = f'{ETHEREUM}[contracts.wide]\nabi = "wide.json"\naddress = "any"\nstart_block = 1\n'
    (problem,) = desk.problems(contract)
    assert problem.key == "contracts.wide.abi"
    assert "event Wide has 1,594 arguments" in problem.message
    (problem,) = desk.problems(contract + 'events = ["Slim", "Wide"]\n')
    assert problem.key == "contracts.wide.events[1]"
    desk.load(contract + 'events = ["Slim"]\n')
