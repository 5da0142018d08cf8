"""ABIs in the forms in which people have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.abi.forms import TAKEN
from indexer.abi.model import Abi, load_abi, parse_abi
from indexer.abi.types import AbiError

EVENT = {
    "type": "event", "name": "Moved", "anonymous": False,
    "inputs": [
        {"name": "who", "type": "address", "indexed": True},
        {"name": "much", "type": "uint256", "indexed": False},
    ],
}  # fmt: skip
READ = {
    "type": "function", "name": "much", "stateMutability": "view",
    "inputs": [{"name": "who", "type": "address"}], "outputs": [{"name": "", "type": "uint256"}],
}  # fmt: skip
ITEMS = [EVENT, READ]
OTHER = [{**EVENT, "name": "Other"}]
WANTED = parse_abi(ITEMS)
TEXT = json.dumps(ITEMS)
TRON = [
    {"type": "Event", "name": "Moved", "inputs": [{"indexed": True, "name": "who", "type": "address"},
                                                  {"name": "much", "type": "trcToken"}]},
    {"type": "Function", "name": "much", "constant": True, "stateMutability": "View",
     "inputs": [{"name": "who", "type": "address"}], "outputs": [{"type": "uint256"}]},
]  # fmt: skip
LINES = [
    "event Moved(address indexed who, uint256 much)",
    "function much(address who) external view returns (uint256)",
]
PRINTED = f"\n======= src/Token.sol:Token =======\nContract JSON ABI\n{TEXT}\n\n"

FORMS: dict[str, Any] = {
    "a list": ITEMS,
    "one item alone, without the function": EVENT,
    "an artifact": {"contractName": "Token", "abi": ITEMS, "bytecode": "0x"},
    "JSON in a string": TEXT,
    "JSON in a string in a string": json.dumps(TEXT),
    "an artifact whose abi is a text": {"abi": TEXT},
    "Etherscan's getabi": {"status": "1", "message": "OK", "result": TEXT},
    "Etherscan's getsourcecode": {
        "status": "1", "message": "OK", "result": [{"SourceCode": "x", "ABI": TEXT, "ContractName": "Token"}],
    },
    "Sourcify's contract": {"match": "exact_match", "abi": ITEMS, "address": "0x00"},
    "metadata": {"compiler": {}, "language": "Solidity", "output": {"abi": ITEMS, "devdoc": {}}, "sources": {},
                 "settings": {"compilationTarget": {"src/Token.sol": "Token"}}},
    "Sourcify's files": {"status": "full", "files": [
        {"name": "Token.sol", "content": "contract Token {}"},
        {"name": "metadata.json", "content": json.dumps({"output": {"abi": ITEMS}})},
    ]},
    "standard output": {"sources": {}, "contracts": {"src/Token.sol": {"Token": {"abi": ITEMS, "evm": {}}}}},
    "build info": {"input": {"sources": {}}, "output": {"contracts": {"a.sol": {"Token": {"abi": ITEMS}}}}},
    "combined output": {"version": "0.8", "contracts": {"src/Token.sol:Token": {"abi": ITEMS}}},
    "combined output of old solc": {"version": "0.4", "contracts": {"src/Token.sol:Token": {"abi": TEXT}}},
    "solc-js of old": {"contracts": {":Token": {"interface": TEXT, "bytecode": ""}}},
    "Vyper's combined output": {"token.vy": {"abi": ITEMS, "bytecode": "0x"}, "version": "0.3"},
    "only one with events": {"contracts": {"a.sol": {"Math": {"abi": []}, "Token": {"abi": ITEMS}}}},
    "Tron": {"entrys": TRON},
    "Tron's contract": {"bytecode": "60", "abi": {"entrys": TRON}},
    "lines": LINES,
    "lines as a text": ";\n".join(LINES) + ";\n",
    "lines and items": [LINES[0], READ],
    "what solc prints": PRINTED,
}  # fmt: skip


def _said(abi: Abi) -> list[tuple[str, list[bool]]]:
    return [(event.signature, [p.indexed for p in event.inputs]) for event in abi.events]


@pytest.mark.parametrize("form", FORMS)
def test_it_is_taken(form: str, tmp_path: Path) -> None:
    path = tmp_path / "abi"
    document = FORMS[form]
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    found = load_abi(path)
    assert _said(found) == _said(WANTED)
    if "without the function" not in form:
        (function,) = found.functions
        assert (function.signature, function.is_view) == ("much(address)", True)
        assert [one.type.canonical for one in function.outputs] == ["uint256"]
    # What the catalog keeps is read again by every process.
    assert parse_abi(list(found.document)) == found


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_the_encodings_of_other_systems_are_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "abi.json").write_text(TEXT, encoding=encoding)
    assert load_abi(tmp_path / "abi.json") == WANTED


SEVERAL: dict[str, Any] = {
    "standard": {"contracts": {"src/Token.sol": {"Token": {"abi": ITEMS}}, "src/B.sol": {"B": {"abi": OTHER}}}},
    "combined": {"contracts": {"src/Token.sol:Token": {"abi": ITEMS}, "src/B.sol:B": {"abi": json.dumps(OTHER)}}},
    "printed": PRINTED + f"======= src/B.sol:B =======\nContract JSON ABI\n{json.dumps(OTHER)}\n",
}


@pytest.mark.parametrize("form", SEVERAL)
def test_of_several_contracts_one_is_named(form: str) -> None:
    document = SEVERAL[form]
    assert parse_abi(document, "Token") == parse_abi(document, "src/Token.sol:Token") == WANTED
    assert _said(parse_abi(document, "B")) == _said(parse_abi(OTHER))
    with pytest.raises(AbiError, match=r"several contracts.* of src/Token\.sol:Token, src/B\.sol:B"):
        parse_abi(document)
    with pytest.raises(AbiError, match=r"no contract Tokn: it has src/Token\.sol:Token, src/B\.sol:B"):
        parse_abi(document, "Tokn")


def test_a_name_that_two_files_have_is_asked_for_with_its_file() -> None:
    document = {"contracts": {"a.sol": {"T": {"abi": ITEMS}}, "b.sol": {"T": {"abi": OTHER}}}}
    with pytest.raises(AbiError, match=r"several contracts of the name T: choose one of a\.sol:T, b\.sol:T"):
        parse_abi(document, "T")
    assert parse_abi(document, "a.sol:T") == WANTED


def test_a_contract_of_a_lone_abi_is_refused_if_it_is_another() -> None:
    with pytest.raises(AbiError, match="leave out :Token"):
        parse_abi(ITEMS, "Token")
    assert parse_abi({"contractName": "Token", "abi": ITEMS}, "Token") == WANTED


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("export const abi = [\n] as const\n", "TypeScript or JavaScript"),
        ("import { parseAbi } from 'viem'", "TypeScript or JavaScript"),
        ("module.exports = []", "TypeScript or JavaScript"),
        ("abi:\n  - type: event\n    name: Moved\n", "YAML"),
        ("- type: event\n  name: Moved\n", "YAML"),
        ("// SPDX-License-Identifier: MIT\npragma solidity ^0.8.0;\ncontract T { event Moved(); }", "Solidity source"),
        ("interface T {\n event Moved();\n}", "Solidity source"),
        ("<!DOCTYPE html><html></html>", "a web page"),
        ("0x6080604052348015600e575f5ffd5b50603e80601a5f395ff3fe", "bytecode"),
        ("hello", "a text that begins with 'hello'"),
        ('{"language": "Solidity", "sources": {}}', "the input of a compiler"),
        ('{"errors": [{"severity": "error"}], "sources": {}}', "the output of a compiler that found errors"),
        ('{"_format": "hh-sol-dbg-1", "buildInfo": "x"}', "Hardhat's .dbg.json"),
        ('{"address": "0x00", "network": 1}', "an object with the keys address, network"),
        ("{}", "an empty object"),
        ("[1, 2]", "a list of ints"),
        ("null", "nothing"),
    ],
)
def test_another_shape_is_named_with_what_is_taken(text: str, shape: str, tmp_path: Path) -> None:
    (tmp_path / "abi.json").write_text(text)
    with pytest.raises(AbiError) as caught:
        load_abi(tmp_path / "abi.json")
    (problem,) = caught.value.problems
    assert shape in problem
    assert problem.startswith(f"{tmp_path}/abi.json: ")
    assert problem.endswith(TAKEN)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"status": "0", "message": "NOTOK", "result": "Contract source code not verified"}, "Etherscan.*not verified"),
        ({"contracts": {"a.sol": {"T": {"evm": {}}}}}, "ask the compiler for abi"),
        ({"contracts": {"a.sol:T": {"bin": "60"}}}, "ask the compiler for abi"),
        ({"status": "1", "result": "[{"}, "result: not JSON"),
        ({"status": "1", "result": {"a": 1}}, "result: not an ABI but an object with the keys a"),
    ],
)
def test_a_known_form_without_an_abi_says_why(document: Any, says: str) -> None:
    with pytest.raises(AbiError, match=says):
        parse_abi(document)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "abi.json").write_text(" \n")
    with pytest.raises(AbiError, match=r"abi\.json: not JSON: it is empty"):
        load_abi(tmp_path / "abi.json")


# -- human-readable lines


@pytest.mark.parametrize(
    ("line", "signature", "indexed"),
    [
        ("event Transfer(address indexed from, address indexed to, uint value)", "Transfer(address,address,uint256)",
         [True, True, False]),
        ("event E(address indexed, address payable to,bytes32[2][] x);", "E(address,address,bytes32[2][])",
         [True, False, False]),
        ("event E(tuple(uint8 a, (string b, bytes c)[2] d)[] indexed list)", "E((uint8,(string,bytes)[2])[])", [True]),
        ("  event\tE ( )  ; // nothing", "E()", []),
        ("event E(/* who */ address who)", "E(address)", [False]),
    ],
)  # fmt: skip
def test_an_event_of_a_line(line: str, signature: str, indexed: list[bool]) -> None:
    (event,) = parse_abi([line]).events
    assert (event.signature, [p.indexed for p in event.inputs], event.anonymous) == (signature, indexed, False)


def test_an_anonymous_event_of_a_line() -> None:
    assert parse_abi(["event E(uint8 indexed a) anonymous"]).events[0].anonymous


@pytest.mark.parametrize(
    ("line", "signature", "outputs", "mutability"),
    [
        ("function f()", "f()", [], "nonpayable"),
        ("function f(uint a) view returns (uint b)", "f(uint256)", ["uint256"], "view"),
        ("function f(bytes calldata a) external payable virtual override(A, B) returns (bytes memory, bool);",
         "f(bytes)", ["bytes", "bool"], "payable"),
        ("function f(address) constant returns (address) @29000000", "f(address)", ["address"], "view"),
        ("function error(function a) public pure", "error(function)", [], "pure"),
    ],
)  # fmt: skip
def test_a_function_of_a_line(line: str, signature: str, outputs: list[str], mutability: str) -> None:
    (function,) = parse_abi([line]).functions
    found = (function.signature, [p.type.canonical for p in function.outputs], function.mutability)
    assert found == (signature, outputs, mutability)


def test_structs_are_put_in_wherever_they_are_defined(tmp_path: Path) -> None:
    text = """
        // What is moved, and by whom.
        event Moved(
            Order indexed order, // hashed
            Part[] parts
        );
        function order(uint256 id)
            external
            view
            returns (Order memory);
        struct Order { address maker; Part[2] parts; }
        struct Part {
            uint256 id;
            bool done;
        }
        error Failed(Part part);
        constructor(address owner) payable
        receive() external payable
        fallback(bytes calldata input) external returns (bytes memory)
    """
    (tmp_path / "abi.txt").write_text(text)
    found = load_abi(tmp_path / "abi.txt")
    order = "(address,(uint256,bool)[2])"
    assert [event.signature for event in found.events] == [f"Moved({order},(uint256,bool)[])"]
    assert [one.type.canonical for one in found.function("order(uint256)").outputs] == [order]
    assert [one.signature for one in found.errors] == ["Failed((uint256,bool))"]

    assert parse_abi(list(found.document)) == found


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("event Moved(address who", r"\[1\]: 'event Moved\(address who': ends where"),
        ("event (address who)", r"\[1\]: .*expected a name, found '\('"),
        ("event Moved(address indexed who much)", r"\[1\]: .*'much' is not understood"),
        ("event Moved(address who) anonymus", r"\[1\]: .*'anonymus' is not understood"),
        ("event Moved(adress who)", r"\[1\]\.inputs\[0\]\.type: unknown type 'adress'"),
        ("Moved(address who)", r"\[1\]: .*begins with 'Moved', not with one of event, function"),
        ("modifier only()", r"\[1\]: .*begins with 'modifier'"),
        ("event Moved(address = who)", r"\[1\]: .*the character '=' has no place"),
        ("struct A { A a; } event E(A a)", r"\[1\]: a struct holds itself"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, says: str) -> None:
    with pytest.raises(AbiError, match=says):
        parse_abi(["event Right()", line])


def test_a_line_of_a_file_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "abi.txt").write_text("event A()\n\nevent B(uint8 a,)\n")
    with pytest.raises(AbiError, match=r"abi\.txt: line 3: 'event B\(uint8 a,\)': expected a type, found '\)'"):
        load_abi(tmp_path / "abi.txt")


def test_structs_of_structs_of_structs_end() -> None:
    lines = ["struct S0 { uint8 a; }", *(f"struct S{n} {{ S{n - 1} a; S{n - 1} b; }}" for n in range(1, 30))]
    with pytest.raises(AbiError, match="holds itself, or too many others"):
        parse_abi([*lines, "event E(S29 s)"])


# -- items as some tools write them


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ({**EVENT, "anonymous": "false", "inputs": [{"name": "who", "type": "address", "indexed": "true"}]},
         {**EVENT, "inputs": [{"name": "who", "type": "address", "indexed": True}]}),
        ({**EVENT, "type": "Event"}, EVENT),
        ({key: value for key, value in EVENT.items() if key != "type"}, EVENT),
        ({"name": "Moved", "inputs": EVENT["inputs"]}, EVENT),
        ({**READ, "stateMutability": "View"}, READ),
        ({**READ, "stateMutability": None, "constant": "true", "type": None}, READ),
        ({**READ, "stateMutability": "", "constant": True}, READ),
    ],
)  # fmt: skip
def test_what_is_written_oddly_is_what_it_means_and_stays_so(item: Any, wanted: Any) -> None:
    found = parse_abi([item])
    assert (found.events, found.functions) == (parse_abi([wanted]).events, parse_abi([wanted]).functions)
    assert parse_abi(list(found.document)) == found
    for event in found.events:
        assert parse_abi([event.item]).events == (event,)
