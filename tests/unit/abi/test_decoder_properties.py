"""Decoders against eth-abi, the other opinion: random ABIs, random data, and random damage to it."""

import json
from dataclasses import dataclass
from decimal import Context, Decimal

import pytest
from eth_abi import codec, grammar
from eth_abi.abi import encode
from eth_abi.exceptions import DecodingError
from eth_abi.registry import registry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.abi.columns import event_columns
from indexer.abi.decoder import WORK_FACTOR, UndecodableLog, compile_decoder
from indexer.abi.model import Event, parse_abi
from tests.further import examples

ELEMENTARY = st.one_of(
    st.sampled_from(["address", "bool", "function", "bytes", "string", "bytes32", "uint256", "int256"]),
    st.builds("{}int{}".format, st.sampled_from(["", "u"]), st.sampled_from(range(8, 257, 8))),
    st.builds("bytes{}".format, st.integers(1, 32)),
    st.builds("{}fixed{}x{}".format, st.sampled_from(["", "u"]), st.sampled_from([8, 128, 256]), st.integers(1, 80)),
)
NAMES = st.sampled_from(["", "from", "to", "value", "value", "tokenId", "价格", "x" * 100, "order"])


@st.composite
def parameters(draw, depth=3):
    """A parameter as an ABI writes it: any type, tuples and arrays inside one another."""
    made = {"name": draw(NAMES), "type": draw(ELEMENTARY)}
    if depth and draw(st.integers(0, 3)) == 0:
        made["type"] = "tuple"
        made["components"] = draw(st.lists(parameters(depth=depth - 1), min_size=1, max_size=4))
    brackets = st.sampled_from(["[]", "[1]", "[2]", "[3]"])
    made["type"] += "".join(draw(st.lists(brackets, max_size=min(depth, 2)) if depth else st.just([])))
    return made


def values(abi_type):  # noqa: PLR0911 - a table
    """Any value of a type, as eth-abi takes it."""
    if abi_type.arrlist:
        [*_, length] = abi_type.arrlist
        size = {"min_size": length[0], "max_size": length[0]} if length else {"max_size": 3}
        return st.lists(values(abi_type.item_type), **size)
    if isinstance(abi_type, grammar.TupleType):
        return st.tuples(*(values(c) for c in abi_type.components))
    match abi_type.base:
        case "uint":
            return st.integers(0, 2**abi_type.sub - 1)
        case "int":
            return st.integers(-(2 ** (abi_type.sub - 1)), 2 ** (abi_type.sub - 1) - 1)
        case "ufixed" | "fixed":
            bits, places = abi_type.sub
            low, high = (0, 2**bits - 1) if abi_type.base == "ufixed" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            return st.integers(low, high).map(lambda n: decimal(n, places))
        case "address":
            return st.binary(min_size=20, max_size=20)
        case "bool":
            return st.booleans()
        case "function":
            return st.binary(min_size=24, max_size=24)
        case "string":
            return st.text(max_size=70)
        case "bytes" if abi_type.sub is None:
            return st.binary(max_size=70)
    return st.binary(min_size=abi_type.sub, max_size=abi_type.sub)


def decimal(number, places):
    return Decimal((number < 0, tuple(int(d) for d in str(abs(number))), -places))


def expected(parameter, value, *, as_json):  # noqa: PLR0911 - a table
    """What a column holds, from what eth-abi decoded: the rules of the tables once more, in the plainest way."""
    text = parameter["type"]
    if text.endswith("]"):
        item = {**parameter, "type": text[: text.rindex("[")]}
        inside = as_json or item["type"].endswith("]") or item["type"] == "tuple"
        return [expected(item, v, as_json=inside) for v in value]
    if text == "tuple":
        return {
            name: expected(c, v, as_json=True)
            for (name, c), v in zip(unique(parameter["components"]), value, strict=True)
        }
    if isinstance(value, bool):
        return value
    if text == "string":
        return value.replace("\0", "\ufffd")
    if text == "address":
        value = bytes.fromhex(value[2:])
    if isinstance(value, bytes):
        return "0x" + value.hex() if as_json else value
    if isinstance(value, Decimal) and as_json:
        places = int(text.rpartition("x")[2])
        return f"{value.quantize(Decimal(1).scaleb(-places), context=Context(prec=100)):f}"
    if isinstance(value, Decimal):
        return value
    return str(value) if as_json and int(text.lstrip("uint")) > 48 else value


def unique(components):
    seen = {c["name"] for c in components}
    names = []
    for i, component in enumerate(components):
        name = wanted = component["name"] or f"arg{i}"
        number = 2
        while name in names or (name in seen and name != component["name"]):
            name, number = f"{wanted}_{number}", number + 1
        names.append(name)
    return list(zip(names, components, strict=True))


@dataclass(frozen=True)
class Log:
    """An event, a log of it, and what its columns should hold."""

    event: Event
    topics: list[bytes]
    data: bytes
    values: tuple[object, ...]
    data_types: list[str]


def canonical(event, parameter):
    return next(
        p.type.canonical for p, given_ in zip(event.inputs, event.item["inputs"], strict=True) if given_ is parameter
    )


@st.composite
def logs(draw):
    inputs = draw(st.lists(parameters(), max_size=5))
    anonymous = draw(st.booleans())
    for i in draw(st.sets(st.integers(0, len(inputs) - 1), max_size=3 + anonymous)) if inputs else ():
        inputs[i]["indexed"] = True
    [event] = parse_abi([{"type": "event", "name": "E", "inputs": inputs, "anonymous": anonymous}]).events
    topics = [] if anonymous else [event.topic0]
    held, data_types, data_values = [], [], []
    for parameter, given_ in zip(event.inputs, inputs, strict=True):
        if parameter.is_hashed:
            topics.append(draw(st.binary(min_size=32, max_size=32)))
            held.append(topics[-1])
            continue
        value = draw(values(grammar.parse(parameter.type.canonical)))
        shown = ("0x" + value.hex()) if given_["type"] == "address" else value
        if parameter.indexed:
            topics.append(encode([parameter.type.canonical], [value]))
            held.append(expected(given_, shown, as_json=False))
        else:
            data_types.append(parameter.type.canonical)
            data_values.append(value)
            held.append(None)
    data = encode(data_types, data_values)
    seen = iter(codec.ABIDecoder(registry).decode(data_types, data))
    for i, (parameter, given_) in enumerate(zip(event.inputs, inputs, strict=True)):
        if not parameter.indexed:
            as_json = given_["type"] == "tuple"
            held[i] = expected(given_, next(seen), as_json=as_json)
    return Log(event, topics, data, tuple(held), data_types)


RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.promise("R-05")
@settings(RELAXED, max_examples=examples(300))
@given(logs())
def test_every_value_is_what_eth_abi_says(log):
    assert compile_decoder(log.event).decode(log.topics, log.data, []) == log.values


@settings(RELAXED, max_examples=examples(150))
@given(logs())
def test_every_value_is_of_its_columns_type(log):
    python = {"smallint": int, "integer": int, "bigint": int, "bytea": bytes, "boolean": bool, "text": str}
    values_ = compile_decoder(log.event).decode(log.topics, log.data, [])
    for column, value in zip(event_columns(log.event), values_, strict=True):
        if column.pg_type == "jsonb":
            assert json.loads(json.dumps(value)) == value
            continue
        kind = column.pg_type.removesuffix("[]")
        wanted = (Decimal if column.rendering.startswith("string_decimal") else int) if "(" in kind else python[kind]
        items = value if column.pg_type.endswith("[]") else [value]
        assert all(type(item) is wanted for item in items)


INTERESTING = st.sampled_from(
    [0, 1, 2, 31, 32, 33, 64, 96, 128, 2**16, 2**32, 2**63, 2**64, 2**255, 2**256 - 32, 2**256 - 1]
)


@st.composite
def damaged(draw):
    """A log of which some words, bytes or the end are another's."""
    log = draw(logs())
    data = bytearray(log.data)
    for _ in range(draw(st.integers(1, 6))):
        match draw(st.sampled_from(["word", "byte", "cut", "grow", "copy"])):
            case "word" if len(data) >= 32:
                at = 32 * draw(st.integers(0, len(data) // 32 - 1))
                data[at : at + 32] = draw(INTERESTING).to_bytes(32)
            case "byte" if data:
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
            case "cut" if data:
                del data[draw(st.integers(0, len(data) - 1)) :]
            case "grow":
                data += draw(st.binary(max_size=64))
            case "copy" if len(data) >= 64:
                source, target = (32 * draw(st.integers(0, len(data) // 32 - 1)) for _ in range(2))
                data[target : target + 32] = data[source : source + 32]
    return Log(log.event, log.topics, bytes(data), (), log.data_types)


def size(value):
    """How much a value holds, in words: what the data must at least have said."""
    match value:
        case dict():
            return sum(map(size, value.values()))
        case list():
            return sum(map(size, value))
        case str() | bytes():
            return len(value) // 64
    return 1


def decoded_or_refused(made, topics, data):
    """The values, or None for a log that was refused for a reason that a check gave."""
    try:
        return made.decode(topics, data, [])
    except UndecodableLog as error:
        reason = error.reason
    assert not reason.startswith("the decoder failed")
    return None


def eth_abi_says(data_types, data):
    """What eth-abi makes of the data, or None where it refuses it."""
    try:
        return codec.ABIDecoder(registry).decode(data_types, data)
    except (DecodingError, UnicodeDecodeError, OverflowError, MemoryError, ValueError):
        return None


@pytest.mark.promise("R-05", "S-12")
@settings(RELAXED, max_examples=examples(400))
@given(damaged())
def test_damage_is_decoded_as_eth_abi_does_or_refused_in_time(log):
    other = eth_abi_says(log.data_types, log.data)
    found = decoded_or_refused(compile_decoder(log.event), log.topics, log.data)
    if found is None:
        assert other is None, "refused what eth-abi accepts"
        return
    heads = sum(p.type.head_size for p in log.event.inputs)
    assert sum(map(size, found)) <= WORK_FACTOR * len(log.data) // 32 + heads // 32 + len(found)
    if other is not None:
        seen = iter(other)
        for parameter, given_, value in zip(log.event.inputs, log.event.item["inputs"], found, strict=True):
            if not parameter.indexed:
                assert value == expected(given_, next(seen), as_json=given_["type"] == "tuple")


@pytest.mark.promise("R-04")
@settings(RELAXED, max_examples=examples(200))
@given(logs(), st.lists(st.binary(max_size=33), max_size=5), st.binary(max_size=600))
def test_noise_is_refused_or_decoded_and_never_anything_else(log, topics, data):
    made = compile_decoder(log.event)
    for mixed in (topics, log.topics, [*log.topics, *topics]):
        decoded_or_refused(made, mixed, data)
