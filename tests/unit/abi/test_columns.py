"""How arguments are kept in Postgres and shown by the API."""

import json
import subprocess
import sys

import pytest

from indexer.abi.columns import FIXED_COLUMNS, Column, event_columns, fixed_values, output_columns
from indexer.abi.model import parse_abi


def columns(*inputs, **options):
    items = [{"type": "event", "name": "E", "inputs": list(inputs)}]
    return event_columns(parse_abi(items).events[0], **options)


def parameter(type_, name="x", **more):
    return {"name": name, "type": type_, **more}


PAIR = [parameter("uint256", "amount"), parameter("address", "")]

STORAGE = [
    ("address", "bytea", "hex"),
    ("bytes1", "bytea", "hex"),
    ("bytes32", "bytea", "hex"),
    ("bytes", "bytea", "hex"),
    ("function", "bytea", "hex"),
    ("bool", "boolean", "bool"),
    ("string", "text", "text"),
    ("uint8", "smallint", "integer"),
    ("uint16", "integer", "integer"),
    ("uint24", "integer", "integer"),
    ("uint32", "bigint", "integer"),
    ("uint48", "bigint", "integer"),
    ("uint56", "bigint", "string_integer"),
    ("uint64", "numeric(78,0)", "string_integer"),
    ("uint256", "numeric(78,0)", "string_integer"),
    ("int8", "smallint", "integer"),
    ("int16", "smallint", "integer"),
    ("int24", "integer", "integer"),
    ("int32", "integer", "integer"),
    ("int40", "bigint", "integer"),
    ("int64", "bigint", "string_integer"),
    ("int72", "numeric(78,0)", "string_integer"),
    ("int256", "numeric(78,0)", "string_integer"),
    ("fixed168x10", "numeric(51,10)", "string_decimal"),
    ("ufixed256x18", "numeric(78,18)", "string_decimal"),
    ("ufixed8x80", "numeric(80,80)", "string_decimal"),
    ("address[]", "bytea[]", "hex[]"),
    ("uint256[3]", "numeric(78,0)[]", "string_integer[]"),
    ("uint16[]", "integer[]", "integer[]"),
    ("bool[]", "boolean[]", "bool[]"),
    ("string[]", "text[]", "text[]"),
    ("bytes[2]", "bytea[]", "hex[]"),
    ("uint256[][]", "jsonb", "json"),
    ("uint256[2][2]", "jsonb", "json"),
]


@pytest.mark.parametrize(("abi_type", "pg_type", "rendered"), STORAGE)
def test_types(abi_type, pg_type, rendered):
    [column] = columns(parameter(abi_type))
    assert (column.abi_type, column.pg_type, column.rendering) == (abi_type, pg_type, rendered)
    assert not column.hashed


@pytest.mark.parametrize("bits", range(8, 257, 8))
@pytest.mark.parametrize("kind", ["uint", "int"])
def test_every_value_of_an_integer_has_room_and_no_smaller_type_would_do(kind, bits):
    low, high = (0, 2**bits - 1) if kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    room = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1, "numeric(78,0)": 10**78 - 1}
    smallest = min((t for t in room if room[t] >= high and -room[t] - 1 <= low), key=room.__getitem__)
    assert columns(parameter(f"{kind}{bits}"))[0].pg_type == smallest


@pytest.mark.parametrize("abi_type", ["string", "bytes", "uint256[]", "uint256[2]", "tuple", "tuple[]"])
def test_an_indexed_value_that_fits_no_topic_is_its_hash(abi_type):
    [column] = columns(parameter(abi_type, "name", indexed=True, components=PAIR))
    assert (column.pg_type, column.rendering, column.indexed, column.hashed) == ("bytea", "hex", True, True)
    assert column.components == ()
    assert column.comment.endswith(" name, indexed: the keccak-256 hash of the value")


def test_an_indexed_word_is_itself():
    [column] = columns(parameter("uint96", indexed=True))
    assert (column.pg_type, column.indexed, column.hashed) == ("numeric(78,0)", True, False)
    assert column.comment == "uint96 x, indexed"


def test_tuples_say_what_they_consist_of():
    inner = parameter("tuple[2]", "inner", components=PAIR)
    [column] = columns(parameter("tuple[]", "order", components=[inner, parameter("bool", "inner")]))
    assert (column.name, column.argument, column.pg_type) == ("order_value", "order", "jsonb")
    assert column.abi_type == "((uint256,address)[2],bool)[]"
    assert column.comment == "((uint256 amount, address)[2] inner, bool inner)[] order"
    assert [(c.name, c.abi_type) for c in column.components] == [("inner", "(uint256,address)[2]"), ("inner_2", "bool")]
    assert [(c.name, c.abi_type) for c in column.components[0].components] == [
        ("amount", "uint256"),
        ("arg1", "address"),
    ]


def test_names():
    found = columns(
        parameter("address", "from"),
        parameter("address", "to"),
        parameter("uint256", "value"),
        parameter("uint256", "value"),
        parameter("bool", ""),
        parameter("bool", "txHash"),
        parameter("bool", "_value"),
    )
    assert [(c.argument, c.name) for c in found] == [
        ("from", "from_address"),
        ("to", "to_address"),
        ("value", "value"),
        ("value_2", "value_2"),
        ("arg4", "arg4"),
        ("txHash", "tx_hash_value"),
        ("_value", "value_value"),
    ]


@pytest.mark.promise("M-03")
def test_kept_names_never_change_and_new_ones_go_around_them():
    found = columns(parameter("bool", "a"), parameter("bool", "b"), parameter("bool", "c"), kept=("old", "c"))
    assert [c.name for c in found] == ["old", "c", "c_value"]


def test_a_column_survives_the_catalog():
    nested = parameter("tuple[]", "order", components=[parameter("tuple", "pair", components=PAIR)])
    for column in columns(nested, parameter("string", "s", indexed=True), parameter("uint8[]", "n")):
        assert Column.from_json(json.loads(json.dumps(column.to_json()))) == column


def function(*outputs):
    item = {
        "type": "function",
        "name": "getReserves",
        "inputs": [],
        "outputs": list(outputs),
        "stateMutability": "view",
    }
    return parse_abi([item]).function("getReserves()")


def test_a_single_output_is_named_like_its_function():
    for name in ("", "balance", "chain_id"):
        [column] = output_columns(function(parameter("uint256", name)))
        assert (column.argument, column.name) == ("getReserves", "get_reserves")


def test_several_outputs_keep_their_names_beside_those_of_other_functions():
    outputs = [parameter("uint112", "reserve0"), parameter("uint112", ""), parameter("uint32", "failures")]
    found = output_columns(function(*outputs), taken=["reserve0"])
    assert [(c.argument, c.name) for c in found] == [
        ("reserve0", "reserve0_value"),
        ("arg1", "arg1"),
        ("failures", "failures_value"),
    ]


def test_fixed_values_stand_in_the_order_of_the_fixed_columns():
    names = [column.name for column in FIXED_COLUMNS]
    assert list(fixed_values(**{name: name for name in names})) == names


def test_columns_import_nothing_heavy():
    code = "import sys, indexer.abi.columns; print([m for m in sys.modules if m.startswith(('eth', 'web3', 'Crypto'))])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
