"""ABIs, as compilers write them and as people break them."""

import json

import pytest
from eth_utils.crypto import keccak

from indexer.abi.model import load_abi, parse_abi
from indexer.abi.types import MAX_DEPTH, AbiError


def event(name, *inputs, **more):
    return {"type": "event", "name": name, "inputs": list(inputs), **more}


def parameter(type_, name="x", **more):
    return {"name": name, "type": type_, **more}


def indexed(type_, name="x"):
    return parameter(type_, name, indexed=True)


TRANSFER = event("Transfer", indexed("address", "from"), indexed("address", "to"), parameter("uint256", "value"))
NFT_TRANSFER = event("Transfer", indexed("address", "from"), indexed("address", "to"), indexed("uint256", "tokenId"))


def test_an_event_knows_its_signature_and_topic():
    [found] = parse_abi([TRANSFER]).events
    assert found.signature == "Transfer(address,address,uint256)"
    assert found.topic0.hex() == "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert found.selector == "ddf252ad"
    assert [p.name for p in found.inputs] == ["from", "to", "value"]
    assert [p.name for p in found.indexed] == ["from", "to"]
    assert not found.anonymous
    assert found.item == TRANSFER


def test_an_anonymous_event_has_a_topic_too_and_room_for_four():
    [found] = parse_abi([event("LogNote", *[indexed("bytes32", f"arg{i}") for i in range(4)], anonymous=True)]).events
    assert found.anonymous
    assert found.topic0 == keccak(text="LogNote(bytes32,bytes32,bytes32,bytes32)")


def test_an_artifact_holds_the_abi():
    assert parse_abi({"abi": [TRANSFER], "bytecode": "0x"}) == parse_abi([TRANSFER])


def test_tuples_are_written_out_in_signatures():
    inner = parameter("tuple[2]", "inner", components=[parameter("bytes"), parameter("uint")])
    [found] = parse_abi([event("E", parameter("tuple[]", components=[parameter("address"), inner]))]).events
    assert found.signature == "E((address,(bytes,uint256)[2])[])"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("uint", "uint256"),
        ("int", "int256"),
        ("byte", "bytes1"),
        ("fixed", "fixed128x18"),
        ("ufixed", "ufixed128x18"),
        ("fixed168x10", "fixed168x10"),
        ("function", "function"),
        ("uint8[3][]", "uint8[3][]"),
        ("uint[]", "uint256[]"),
    ],
)
def test_types_have_canonical_names(written, canonical):
    assert parse_abi([event("E", parameter(written))]).events[0].signature == f"E({canonical})"


def test_overloaded_events_are_told_apart_by_their_selector():
    abi = parse_abi([TRANSFER, event("Transfer", indexed("address")), event("Sync", parameter("uint112"))])
    assert [abi.api_name(e) for e in abi.events] == ["Transfer~ddf252ad", "Transfer~2d339b1e", "Sync"]
    assert abi.event("Transfer~ddf252ad") is abi.events[0]
    assert abi.event("Transfer(address)") is abi.events[1]
    assert abi.event("Sync") is abi.events[2]
    assert abi.event("Sync~" + abi.events[2].selector) is abi.events[2]
    with pytest.raises(AbiError, match="overloaded: choose one of Transfer~ddf252ad, Transfer~2d339b1e"):
        abi.event("Transfer")
    with pytest.raises(AbiError, match="no event Swap: it has Transfer~ddf252ad, Transfer~2d339b1e, Sync"):
        abi.event("Swap")


def test_an_event_that_is_repeated_is_one_event():
    again = event("Transfer", indexed("address", "src"), indexed("address", "dst"), parameter("uint256", "wad"))
    abi = parse_abi([TRANSFER, again, TRANSFER])
    assert [e.inputs[0].name for e in abi.events] == ["from"]
    assert abi.api_name(abi.events[0]) == "Transfer"


@pytest.mark.parametrize("other", [NFT_TRANSFER, {**TRANSFER, "anonymous": True}])
def test_two_shapes_of_one_topic_are_refused(other):
    with pytest.raises(AbiError, match=r"\[1\]: event Transfer\(address,address,uint256\) is there twice"):
        parse_abi([TRANSFER, other])


def test_functions_and_errors():
    abi = parse_abi(
        [
            {"type": "constructor", "inputs": []},
            {"type": "fallback"},
            {"type": "receive", "stateMutability": "payable"},
            {
                "type": "function",
                "name": "balanceOf",
                "inputs": [parameter("address")],
                "outputs": [parameter("uint256", "")],
                "stateMutability": "view",
            },
            {"name": "old", "constant": True, "inputs": [], "outputs": []},
            {"type": "function", "name": "pay", "payable": True, "inputs": []},
            {"type": "function", "name": "f", "inputs": [parameter("uint8")], "stateMutability": "nonpayable"},
            {"type": "function", "name": "f", "inputs": [parameter("int8")], "stateMutability": "pure"},
            {"type": "error", "name": "Panic", "inputs": [parameter("uint256", "code")]},
        ]
    )
    balance_of = abi.function("balanceOf(address)")
    assert balance_of.selector.hex() == "70a08231"
    assert abi.function("balanceOf") is abi.function("balanceOf( address )") is balance_of
    assert [p.type.canonical for p in balance_of.outputs] == ["uint256"]
    assert [f.mutability for f in abi.functions] == ["view", "view", "payable", "nonpayable", "pure"]
    assert [f.is_view for f in abi.functions] == [True, True, False, False, True]
    assert [(e.signature, e.selector.hex()) for e in abi.errors] == [("Panic(uint256)", "4e487b71")]
    with pytest.raises(AbiError, match=r"overloaded: choose one of f\(uint8\), f\(int8\)"):
        abi.function("f")
    with pytest.raises(AbiError, match=r"no function f\(bool\): it has f\(uint8\), f\(int8\)"):
        abi.function("f(bool)")


def test_a_librarys_storage_function_does_not_spoil_its_events():
    lookup = {"type": "function", "name": "find", "inputs": [parameter("Lib.Map storage")]}
    abi = parse_abi([TRANSFER, lookup])
    assert len(abi.events) == 1
    assert abi.functions == ()
    assert abi.ignored == ("[1] find: [1].inputs[0].type: unknown type 'Lib.Map storage'",)
    with pytest.raises(AbiError, match=r"no function find\(\).*ignored: .*unknown type"):
        abi.function("find()")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([parameter("uint7")], "[0].inputs[0].type: unknown type 'uint7'"),
        ([parameter("uint264")], "unknown type 'uint264'"),
        ([parameter("uint08")], "unknown type 'uint08'"),
        ([parameter("bytes0")], "unknown type 'bytes0'"),
        ([parameter("bytes33")], "unknown type 'bytes33'"),
        ([parameter("fixed128x81")], "unknown type 'fixed128x81'"),
        ([parameter("fixed127x8")], "unknown type 'fixed127x8'"),
        ([parameter("")], "unknown type ''"),
        ([parameter("Uint256")], "unknown type 'Uint256'"),
        ([parameter("uint256 ")], "unknown type 'uint256 '"),
        ([parameter("uint256[0]")], "no type: an array is [] or [length]"),
        ([parameter("uint256[-1]")], "no type"),
        ([parameter("uint256[")], "no type"),
        ([parameter("uint256[]x")], "no type"),
        ([parameter("uint256[٣]")], "no type"),
        ([parameter("uint256[99999999]")], "larger than any log"),
        ([parameter("string[99999999]")], "larger than any log"),
        ([parameter("uint256[9999][9999][9999]")], "larger than any log"),
        ([parameter("uint256[" + "9" * 78 + "]")], "larger than any log"),
        ([parameter("uint256[" + "9" * 10_000 + "]")], "no type"),
        ([parameter("uint256" + "[]" * (MAX_DEPTH + 1))], f"more than {MAX_DEPTH} arrays and tuples"),
        ([parameter("tuple")], "[0].inputs[0].components: a tuple has a list of one component or more, found nothing"),
        ([parameter("tuple", components=[])], "one component or more"),
        ([parameter("tuple", components=[parameter("uint7")])], "[0].inputs[0].components[0].type: unknown type"),
        ([parameter(None)], "[0].inputs[0].type: a text, found nothing"),
        ([parameter("bool", 5)], "[0].inputs[0].name: a text, found 5"),
        ([parameter("bool", "a\0b")], "control characters"),
        ([parameter("bool", "a\x85b")], "control characters"),
        ([parameter("bool", "a\x7fb")], "control characters"),
        ([parameter("bool", "a\ud800b")], "halves of characters"),
        ([parameter("bool", indexed="yes")], "[0].inputs[0].indexed: true or false, found 'yes'"),
        (["bool"], "[0].inputs[0]: a parameter is an object, found 'bool'"),
        ("bool", "[0].inputs: a list of parameters, found 'bool'"),
        ([indexed("bool")] * 4, "4 indexed arguments, a log has room for 3"),
    ],
)
def test_events_that_cannot_be_understood_are_named(inputs, message):
    with pytest.raises(AbiError) as caught:
        parse_abi([{"type": "event", "name": "E", "inputs": inputs}])
    assert message in str(caught.value)


def test_tuples_cannot_be_nested_without_end():
    nested = parameter("bool")
    for _ in range(500):
        nested = parameter("tuple", components=[nested])
    with pytest.raises(AbiError, match="inside one another"):
        parse_abi([event("E", nested)])


def test_all_problems_are_told_at_once():
    items = [event("A", parameter("uint7"), parameter("bool"), parameter("hash")), TRANSFER, event(""), "x"]
    with pytest.raises(AbiError) as caught:
        parse_abi(items)
    assert [p.partition(":")[0] for p in caught.value.problems] == [
        "[0].inputs[0].type",
        "[0].inputs[2].type",
        "[2].name",
        "[3]",
    ]


@pytest.mark.parametrize("document", [None, 5, "abc", {}, {"abi": None}, {"abi": {"abi": 5}}, [5]])
def test_what_is_no_abi_is_refused(document):
    with pytest.raises(AbiError, match="not an ABI"):
        parse_abi(document)


@pytest.mark.parametrize("name", [None, "", "a b", "f(x)", "a,b", "a~b", 7])
def test_an_event_needs_a_name(name):
    with pytest.raises(AbiError, match=r"\[0\].name: a"):
        parse_abi([{"type": "event", "name": name, "inputs": []}])


def test_files(tmp_path):
    path = tmp_path / "erc20.json"
    with pytest.raises(AbiError, match=r"erc20.json: cannot be read: No such file"):
        load_abi(path)
    path.write_text("{")
    with pytest.raises(AbiError, match=r"erc20.json: not JSON"):
        load_abi(path)
    path.write_bytes(b'["\xff"]')
    with pytest.raises(AbiError, match=r"erc20.json: not JSON"):
        load_abi(path)
    path.write_text("[" * 100_000)
    with pytest.raises(AbiError, match=r"erc20.json: not JSON"):
        load_abi(path)
    path.write_text(json.dumps({"abi": [event("E", parameter("uint7"))]}))
    with pytest.raises(AbiError, match=r"erc20.json: abi\[0\].inputs\[0\].type: unknown type 'uint7'"):
        load_abi(path)
    path.write_text(json.dumps([TRANSFER]))
    assert load_abi(path) == load_abi(str(path)) == parse_abi([TRANSFER])
