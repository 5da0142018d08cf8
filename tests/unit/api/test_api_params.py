from typing import Annotated

import pytest
from pydantic import Field

from api.arguments import filters
from api.errors import ApiError
from api.parameters import Parameters, joined
from api.values import ADDRESS, BLOCK, list_of, text
from indexer.abi.columns import Column


class Example(Parameters):
    limit: Annotated[int, BLOCK] = Field(100, description="How many.")
    address: Annotated[list[bytes] | None, list_of(ADDRESS)] = Field(None, description="Of which contracts.")
    symbol: Annotated[str | None, text()] = Field(None, description="Which.")
    giver: Annotated[bytes | None, ADDRESS] = Field(None, alias="from", description="Who gave.")


def refusal(query: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        Example.read(query)
    return caught.value


def test_reads_what_is_given_and_what_has_a_default():
    assert Example.read("").given() == {"limit": 100}
    assert Example.read("limit=5&symbol=a%20b%2Bc+d%C3%A9").given() == {"limit": 5, "symbol": "a b+c dé"}


def test_a_list_is_given_with_commas_or_value_by_value():
    # As clients write it that are generated from the document and do not know `explode: false`.
    one, other = (f"0x{digits * 20}" for digits in ("ab", "cd"))
    for query in (
        f"address={one},{other}",
        f"address={one}&limit=5&address={other}",
        f"address={one}&address={one},{other}",
    ):
        assert Example.read(query).address == [b"\xab" * 20, b"\xcd" * 20]
    assert refusal(f"address={one}&address=").details[0].parameter == "address"
    assert refusal("&".join([f"address={one}"] * 101)).details[0].message == "must not have more than 100 values"
    assert [p.message for p in refusal("limit=5&limit=5").details] == ["is given twice"]


def test_a_parameter_has_its_name_in_the_url_alone():
    assert Example.read(f"from=0x{'ab' * 20}").given() == {"limit": 100, "from": b"\xab" * 20}
    assert refusal(f"giver=0x{'ab' * 20}").code == "UNKNOWN_PARAMETER"


def test_a_required_parameter():
    class Needed(Parameters):
        time: Annotated[int, BLOCK] = Field(description="When.")

    with pytest.raises(ApiError, match="time: is required"):
        Needed.read("")
    assert Needed.read("time=7").time == 7
    assert Needed.openapi() == [
        {"name": "time", "in": "query", "description": "When.", "schema": dict(BLOCK.schema), "required": True}
    ]


def test_models_are_joined_in_order():
    class Other(Parameters):
        flag: Annotated[int | None, BLOCK] = Field(None, description="One more.")

    both = joined("Both", Other, Example)
    assert both.names() == ["flag", "limit", "address", "symbol", "from"]
    assert both.read("flag=1").given() == {"flag": 1, "limit": 100}


def test_reports_everything_that_is_wrong_at_once():
    error = refusal("limit=x&address=0x1&nonsense=1")
    assert [(p.parameter, p.code) for p in error.details] == [
        ("limit", "INVALID_PARAMETER"),
        ("address", "INVALID_ADDRESS"),
        ("nonsense", "UNKNOWN_PARAMETER"),
    ]
    assert error.code == "INVALID_PARAMETER"
    assert error.status == 400


def test_a_typo_is_refused_with_a_hint():
    error = refusal("adress=0x1")
    assert error.code == "UNKNOWN_PARAMETER"
    assert "did you mean address?" in error.message


def test_a_repeated_parameter_is_refused():
    assert refusal("limit=1&limit=1").code == "UNKNOWN_PARAMETER"


@pytest.mark.parametrize(
    "query", ["symbol=%zz", "symbol=%", "symbol=%f", "symbol=%ff", "symbol=%c3", "symbol=%00", "symbol="]
)
def test_refuses_what_is_no_text(query):
    assert refusal(query).code == "INVALID_PARAMETER"


@pytest.mark.parametrize("query", ["&", "limit=1&", "&&limit=1"])
def test_an_empty_parameter_is_unknown(query):
    assert refusal(query).code == "UNKNOWN_PARAMETER"


def column(name: str, abi_type: str, json: str, *, hashed: bool = False) -> Column:
    return Column(f"{name}_value", name, abi_type, "numeric(78,0)", hashed, hashed, json, "")


@pytest.mark.parametrize(
    ("described", "operators"),
    [
        (("to", "address", "hex"), {"", ".in", ".ne"}),
        (("value", "uint256", "string_integer"), {"", ".in", ".ne", ".gt", ".gte", ".lt", ".lte"}),
        (("flag", "bool", "bool"), {""}),
        (("label", "string", "text"), {"", ".ne"}),
        (("data", "bytes", "hex"), {"", ".in", ".ne"}),
        (("list", "uint8[]", "integer[]"), set()),
        (("point", "(uint8,uint8)", "json"), set()),
    ],
)
def test_each_type_has_its_operators(described, operators):
    name = described[0]
    assert {key.removeprefix(f"arg.{name}") for key in filters((column(*described),))} == operators


@pytest.mark.parametrize(
    ("abi_type", "json", "good", "bad"),
    [
        ("uint8", "integer", "255", "256"),
        ("int8", "integer", "-128", "-129"),
        ("uint256", "string_integer", str(2**256 - 1), str(2**256)),
        ("bytes4", "hex", "0xdeadbeef", "0xdeadbe"),
        ("address", "hex", "0x" + "ab" * 20, "0x" + "ab" * 32),
        ("function", "hex", "0x" + "ab" * 24, "0x" + "ab" * 20),
        ("fixed128x18", "string_decimal", "1.5", "1,5"),
        ("bool", "bool", "true", "1"),
    ],
)
def test_values_are_held_to_the_type(abi_type, json, good, bad):
    item = filters((column("x", abi_type, json),))["arg.x"]
    item.kind.parse(good)
    with pytest.raises(ValueError, match="must"):
        item.kind.parse(bad)


def test_a_hashed_argument_is_found_by_its_hash():
    item = filters((column("label", "string", "hex", hashed=True),))["arg.label"]
    assert item.kind.parse("0x" + "ab" * 32) == b"\xab" * 32
