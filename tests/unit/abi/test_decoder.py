"""Decoders against logs as they are on mainnet, and against logs that somebody made to hurt."""

import pickle
import sys
from decimal import Decimal

import pytest
from eth_abi.abi import encode

from indexer.abi.decoder import WORK_FACTOR, UndecodableLog, compile_decoder, compile_outputs, compile_values
from indexer.abi.model import parse_abi
from indexer.abi.types import MAX_DEPTH


def parameter(type_, name="x", **more):
    return {"name": name, "type": type_, **more}


def decoder(*inputs, name="E", anonymous=False):
    [event] = parse_abi([{"type": "event", "name": name, "inputs": list(inputs), "anonymous": anonymous}]).events
    return compile_decoder(event)


def decode(*inputs, data, topics=(), notes=None):
    """The values of a log whose topics behind topic0 are given."""
    made = decoder(*inputs)
    return made.decode([made.event.topic0, *topics], data, [] if notes is None else notes)


def words(*values):
    return b"".join(v if isinstance(v, bytes) else (v % 2**256).to_bytes(32) for v in values)


def reason(*inputs, data=b"", topics=()):
    with pytest.raises(UndecodableLog) as caught:
        decode(*inputs, data=data, topics=topics)
    return caught.value.reason


FROM, TO = parameter("address", "from", indexed=True), parameter("address", "to", indexed=True)
ERC20 = decoder(FROM, TO, parameter("uint256", "value"), name="Transfer")
ERC721 = decoder(FROM, TO, parameter("uint256", "tokenId", indexed=True), name="Transfer")
TOPIC0 = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
ALICE, BOB = bytes.fromhex("11" * 20), bytes.fromhex("22" * 20)
PADDED_ALICE, PADDED_BOB = bytes(12) + ALICE, bytes(12) + BOB


class TestTransfers:
    """Three shapes of one topic, all of them on mainnet: ERC-20, ERC-721, and CryptoKitties, which indexed nothing."""

    def test_erc20(self):
        log = ([TOPIC0, PADDED_ALICE, PADDED_BOB], words(10**18))
        assert ERC20.decode(*log, []) == (ALICE, BOB, 10**18)
        with pytest.raises(UndecodableLog, match=r"^3 topics instead of 4$"):
            ERC721.decode(*log, [])

    def test_erc721(self):
        log = ([TOPIC0, PADDED_ALICE, PADDED_BOB, words(7)], b"")
        assert ERC721.decode(*log, []) == (ALICE, BOB, 7)
        with pytest.raises(UndecodableLog, match=r"^4 topics instead of 3$"):
            ERC20.decode(*log, [])

    def test_a_transfer_that_indexed_nothing(self):
        with pytest.raises(UndecodableLog, match=r"^1 topics instead of 3$"):
            ERC20.decode([TOPIC0], words(PADDED_ALICE, PADDED_BOB, 7), [])

    def test_too_little_data(self):
        for data in (b"", bytes(31)):
            with pytest.raises(UndecodableLog, match=r"^data shorter than the 32 bytes of the arguments' heads$"):
                ERC20.decode([TOPIC0, PADDED_ALICE, PADDED_BOB], data, [])

    def test_bytes_behind_the_data_are_nobodys(self):
        assert ERC20.decode([TOPIC0, PADDED_ALICE, PADDED_BOB], words(5) + b"more", [])[2] == 5

    def test_another_events_topic(self):
        with pytest.raises(UndecodableLog, match=r"^topic0 is another event's$"):
            ERC20.decode([bytes(32), PADDED_ALICE, PADDED_BOB], words(5), [])

    @pytest.mark.parametrize("topic", [b"", bytes(31), bytes(33)])
    def test_topics_that_are_none(self, topic):
        with pytest.raises(UndecodableLog, match=r"^a topic is not 32 bytes long$"):
            ERC20.decode([TOPIC0, topic, PADDED_BOB], words(5), [])

    @pytest.mark.parametrize("topic", [None, 5, "x" * 32])
    def test_topics_that_are_not_even_bytes(self, topic):
        with pytest.raises(UndecodableLog):
            ERC20.decode([TOPIC0, topic, PADDED_BOB], words(5), [])

    @pytest.mark.parametrize("log", [(None, b""), (5, b""), ([], None), ([TOPIC0, PADDED_ALICE, PADDED_BOB], "x" * 32)])
    def test_what_is_no_log_at_all(self, log):
        with pytest.raises(UndecodableLog):
            ERC20.decode(*log, [])


def test_every_static_type_from_data_and_from_topics():
    cases = {
        "uint8": (255, words(255)),
        "uint256": (2**256 - 1, words(-1)),
        "int8": (-128, words(-128)),
        "int256": (-(2**255), words(2**255)),
        "bool": (True, words(1)),
        "address": (ALICE, PADDED_ALICE),
        "bytes4": (b"abcd", b"abcd" + bytes(28)),
        "bytes32": (b"x" * 32, b"x" * 32),
        "function": (b"f" * 24, b"f" * 24 + bytes(8)),
        "fixed168x10": (Decimal("-1.5"), words(-15_000_000_000)),
        "ufixed256x80": (Decimal(2**256 - 1).scaleb(-80), words(-1)),
    }
    for abi_type, (value, word) in cases.items():
        if abi_type != "ufixed256x80":
            assert decode(parameter(abi_type), data=word) == (value,)
            assert decode(parameter(abi_type, indexed=True), data=b"", topics=[word]) == (value,)
    [exact] = decode(parameter("ufixed256x80"), data=words(-1))
    assert exact.as_tuple() == (0, tuple(map(int, str(2**256 - 1))), -80)


def test_values_stand_in_the_abis_order():
    inputs = [
        parameter("bool"),
        parameter("uint8", indexed=True),
        parameter("string"),
        parameter("bytes", indexed=True),
    ]
    data = encode(["bool", "string"], [True, "text"])
    assert decode(*inputs, data=data, topics=[words(7), b"h" * 32]) == (True, 7, "text", b"h" * 32)


def test_anonymous_events_have_no_topic0():
    made = decoder(parameter("uint8", indexed=True), parameter("uint8"), anonymous=True)
    assert made.decode([words(1)], words(2), []) == (1, 2)
    with pytest.raises(UndecodableLog, match=r"^2 topics instead of 1$"):
        made.decode([made.event.topic0, words(1)], words(2), [])


def test_events_without_arguments():
    assert decode(data=b"") == ()
    assert decode(data=b"anything") == ()
    assert decoder(anonymous=True).decode([], b"", []) == ()


def test_jsonb_columns_get_plain_json():
    components = [
        parameter("uint8", "small"),
        parameter("int256", "big"),
        parameter("address", ""),
        parameter("bytes", "raw"),
        parameter("bytes2", "raw"),
        parameter("fixed128x2", "price"),
        parameter("bool", "yes"),
        parameter("string[2]", "from"),
        parameter("tuple", "pair", components=[parameter("uint8"), parameter("uint8")]),
    ]
    value = (7, -(2**255), ALICE, b"\xab\xcd", b"\x01\x02", Decimal("-0.05"), True, ["a", "b"], (1, 2))
    types = "(uint8,int256,address,bytes,bytes2,fixed128x2,bool,string[2],(uint8,uint8))[]"
    assert decode(parameter("tuple[]", components=components), data=encode([types], [[value]])) == (
        [
            {
                "small": 7,
                "big": str(-(2**255)),
                "arg2": "0x" + "11" * 20,
                "raw": "0xabcd",
                "raw_2": "0x0102",
                "price": "-0.05",
                "yes": True,
                "from": ["a", "b"],
                "pair": {"x": 1, "x_2": 2},
            }
        ],
    )


def test_arrays_of_arrays_are_json_and_arrays_are_lists():
    data = encode(["uint256[][2]", "address[]", "bool[2]"], [[[1], [2, 3]], [ALICE], [True, False]])
    inputs = [parameter("uint256[][2]"), parameter("address[]"), parameter("bool[2]")]
    assert decode(*inputs, data=data) == ([["1"], ["2", "3"]], [ALICE], [True, False])


class TestPadding:
    """A word with bits that its type does not have is refused: which part was meant cannot be known."""

    @pytest.mark.parametrize(
        ("abi_type", "word"),
        [
            ("address", b"\1" + bytes(11) + ALICE),
            ("uint8", words(256)),
            ("uint8", words(2**255)),
            ("uint128", words(2**128)),
            ("int8", words(128)),
            ("int8", words(-129)),
            ("int128", words(2**127)),
            ("int248", words(2**255)),
            ("bool", words(2)),
            ("bool", words(1 << 255)),
            ("bytes4", b"abcd" + bytes(27) + b"\1"),
            ("bytes31", b"x" * 32),
            ("function", b"x" * 32),
            ("fixed128x18", words(2**127)),
        ],
    )
    def test_dirty_words(self, abi_type, word):
        found = {
            reason(parameter(abi_type, "a"), data=word),
            reason(parameter(abi_type, "a", indexed=True), topics=[word]),
            reason(parameter("tuple", "a", components=[parameter(abi_type)]), data=word).replace("a.x:", "a:"),
            reason(parameter(f"{abi_type}[1]", "a"), data=word).replace("a[]:", "a:"),
            reason(parameter(f"{abi_type}[]", "a"), data=words(32, 1, word)).replace("a[]:", "a:"),
        }
        assert len(found) == 1
        assert found.pop().startswith("argument a: ")

    def test_a_tail_that_is_not_padded_is_valid(self):
        # As the multi-signature wallets of 2015 emitted it: SingleTransact(owner, value, to, data).
        inputs = [
            parameter("address", "owner"),
            parameter("uint256"),
            parameter("address", "to"),
            parameter("bytes", "data"),
        ]
        data = words(PADDED_ALICE, 5, PADDED_BOB, 128, 4) + b"\xa9\x05\x9c\xbb"
        assert len(data) % 32
        assert decode(*inputs, data=data) == (ALICE, 5, BOB, b"\xa9\x05\x9c\xbb")

    def test_what_follows_a_value_in_its_last_word_is_no_part_of_it(self):
        assert decode(parameter("string"), data=words(32, 2, b"ok" + b"\xff" * 30)) == ("ok",)


class TestText:
    """What Postgres cannot store is replaced, and the row's note says so."""

    @pytest.mark.parametrize(
        ("raw", "text", "note"),
        [
            ("emoji 🦄 and 价格".encode(), "emoji 🦄 and 价格", []),
            (b"", "", []),
            (b"a\0b\0", "a\ufffdb\ufffd", ["argument name: NUL replaced"]),
            (b"\xff\xfe", "\ufffd\ufffd", ["argument name: invalid UTF-8 replaced"]),
            (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd", ["argument name: invalid UTF-8 replaced"]),
            (b"\xc3", "\ufffd", ["argument name: invalid UTF-8 replaced"]),
            (b"\xff\0", "\ufffd\ufffd", ["argument name: invalid UTF-8 replaced", "argument name: NUL replaced"]),
        ],
    )
    def test_strings(self, raw, text, note):
        notes = []
        assert decode(parameter("string", "name"), data=encode(["bytes"], [raw]), notes=notes) == (text,)
        assert notes == note

    def test_one_note_an_argument_however_often(self):
        notes = []
        inner = parameter("tuple[]", "b", components=[parameter("string", "c")])
        data = encode(["bytes[]", "(bytes)[]"], [[b"\0"] * 100, [(b"\0",)] * 100])
        first, second = decode(parameter("string[]", "a"), inner, data=data, notes=notes)
        assert first == ["\ufffd"] * 100
        assert second == [{"c": "\ufffd"}] * 100
        assert notes == ["argument a[]: NUL replaced", "argument b[].c: NUL replaced"]


HUGE = [2**255, 2**256 - 1, 2**256 - 32, 2**64, 2**63, 2**32, 1000]
BEYOND = "argument a: its offset or length points beyond the data"


class TestOffsetsAndLengths:
    @pytest.mark.parametrize("huge", HUGE)
    @pytest.mark.parametrize("abi_type", ["string", "bytes", "uint256[]", "string[]", "uint256[][]", "string[2]"])
    def test_absurd_offsets(self, abi_type, huge):
        assert reason(parameter(abi_type, "a"), data=words(huge, 0, 0, 0)) == BEYOND

    @pytest.mark.parametrize("huge", HUGE)
    @pytest.mark.parametrize("abi_type", ["string", "bytes", "uint256[]", "string[]", "uint256[][]", "uint8[4][]"])
    def test_absurd_lengths(self, abi_type, huge):
        assert reason(parameter(abi_type, "a"), data=words(32, huge, 0, 0)) == BEYOND

    @pytest.mark.parametrize("offset", [*HUGE, 32, 33])
    def test_a_tuple_beyond_the_data(self, offset):
        components = [parameter("uint8"), parameter("string", "s")]
        assert reason(parameter("tuple", "a", components=components), data=words(offset, 5)) == BEYOND

    @pytest.mark.parametrize("huge", HUGE)
    def test_absurd_offsets_within(self, huge):
        components = [parameter("uint8"), parameter("string", "s")]
        found = reason(parameter("tuple[]", "a", components=components), data=words(32, 1, 32, 5, huge, 0))
        assert found == "argument a[].s: its offset or length points beyond the data"

    def test_the_last_byte_counts(self):
        whole = encode(["string", "uint256[]"], ["x" * 33, [1, 2]])
        inputs = [parameter("string"), parameter("uint256[]")]
        assert decode(*inputs, data=whole) == ("x" * 33, [1, 2])
        for size in range(len(whole)):
            reason(*inputs, data=whole[:size])

    def test_shared_tails_are_valid(self):
        # Offsets are followed wherever they point, as Solidity's own decoder follows them.
        data = words(64, 64, 2) + b"ok" + bytes(30)
        assert decode(parameter("string"), parameter("bytes"), data=data) == ("ok", b"ok")
        assert decode(parameter("uint256[]"), data=words(0)) == ([],)


def leaves(value):
    match value:
        case dict():
            return sum(map(leaves, value.values()))
        case list() | tuple():
            return 1 + sum(map(leaves, value))
    return 1


def work(function):
    """How many calls, Python's and C's, a function makes until it returns or raises."""
    calls = 0

    def count(_frame, what, _argument):
        nonlocal calls
        calls += what in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    except UndecodableLog:
        pass
    finally:
        sys.setprofile(None)
    return calls


class TestBombs:
    """Small data that says it is large. Work is counted, not timed."""

    @pytest.mark.parametrize("depth", [2, 3, 5, 10, MAX_DEPTH])
    @pytest.mark.parametrize("item", ["uint256", "string", "bytes", "address"])
    def test_arrays_of_offsets_to_one_another(self, item, depth):
        # Each level holds sixteen offsets, all to the next level: 16 ** depth items in depth * 544 bytes.
        width = 16
        level = 32 + 32 * width
        arrays = [words(width, *[32 * width] * width) for _ in range(depth - 1)]
        data = words(32) + b"".join(arrays) + words(width, *[0] * width)
        assert len(data) <= 64 + depth * level
        made = decoder(parameter(item + "[]" * depth, "a"))
        assert work(lambda: made.decode([made.event.topic0], data, [])) < len(data)
        if depth > 2:
            with pytest.raises(UndecodableLog, match="offsets overlap so often"):
                made.decode([made.event.topic0], data, [])

    def test_arrays_that_hold_themselves(self):
        made = decoder(parameter("uint256" + "[]" * MAX_DEPTH, "a"))
        data = words(0, *[0] * 78)
        assert work(lambda: made.decode([made.event.topic0], data, [])) < len(data)
        data = words(32, 2, 0, 0, *[2] * 76)
        assert work(lambda: made.decode([made.event.topic0], data, [])) < len(data)

    def test_a_long_text_that_a_thousand_offsets_share(self):
        made = decoder(parameter("string[]", "a"))
        data = words(32, 1000, *[32_000] * 1000, 100_000) + b"x" * 100_000
        with pytest.raises(UndecodableLog, match="offsets overlap so often"):
            made.decode([made.event.topic0], data, [])

    def test_what_is_decoded_is_bounded_by_the_data(self):
        made = decoder(parameter("uint256[][]", "a"))
        data = words(32, 3, 96, 96, 96, 40, *range(40))
        [value] = made.decode([made.event.topic0], data, [])
        assert leaves(value) == 124 <= WORK_FACTOR * len(data) // 32

    def test_honest_data_is_never_too_much(self):
        nested = [[[i] * 10 for i in range(10)] for _ in range(20)]
        data = encode(["uint256[][][]"], [nested])
        [value] = decode(parameter("uint256[][][]"), data=data)
        assert value == [[[str(i)] * 10 for i in range(10)] for _ in range(20)]

    def test_megabytes_are_decoded_once_over(self):
        made = decoder(parameter("uint256[]"), parameter("bytes"))
        data = encode(["uint256[]", "bytes"], [[7] * 20_000, b"x" * 1_000_000])
        assert work(lambda: made.decode([made.event.topic0], data, [])) < 21_000

    def test_the_deepest_types_that_are_allowed(self):
        for brackets in ("[]", "[1]"):
            value, data = 7, encode(["uint256" + brackets * MAX_DEPTH], [nest(7)])
            [found] = decode(parameter("uint256" + brackets * MAX_DEPTH), data=data)
            for _ in range(MAX_DEPTH):
                [found] = found
            assert found == str(value)
        nested = parameter("uint256")
        for _ in range(MAX_DEPTH):
            nested = parameter("tuple", components=[nested])
        [found] = decode(nested, data=words(7))
        for _ in range(MAX_DEPTH):
            found = found["x"]
        assert found == "7"

    def test_a_tuple_of_a_thousand_components(self):
        components = [parameter("uint8", f"c{i}") for i in range(1000)]
        [found] = decode(parameter("tuple", components=components), data=words(*[7] * 1000))
        assert found == {f"c{i}": 7 for i in range(1000)}

    def test_a_fixed_array_longer_than_any_log(self):
        assert reason(parameter("uint8[4000000]"), data=bytes(64)).startswith("data shorter than the 128000000 bytes")


def nest(value):
    for _ in range(MAX_DEPTH):
        value = [value]
    return value


@pytest.mark.parametrize(
    "name", ["", "x" * 100, "from", "import", "价格", "'", '"', "\\", "{x}", "__class__", "a.b", "🦄"]
)
def test_names_never_get_into_the_code(name):
    pair = parameter("tuple", name, components=[parameter("string", name), parameter("string", name)])
    data = encode(["(string,string)", "string[]", "bool"], [("a", "b"), ["c"], True])
    values = decode(pair, parameter("string[]", name), parameter("bool", name), data=data)
    assert [list(values[0].values()), *values[1:]] == [["a", "b"], ["c"], True]
    assert name == "" or name in values[0]


def test_a_decoder_travels_to_another_process():
    made = pickle.loads(pickle.dumps(ERC20))
    assert made.source == ERC20.source
    assert made.decode([TOPIC0, PADDED_ALICE, PADDED_BOB], words(5), []) == (ALICE, BOB, 5)


def test_outputs_and_errors_are_values_without_topics():
    item = {"name": "getReserves", "inputs": [], "outputs": [parameter("uint112", ""), parameter("string", "")]}
    outputs = compile_outputs(parse_abi([item]).function("getReserves()"))
    data = encode(["uint112", "string"], [7, "ok"])
    assert outputs.decode(data, []) == pickle.loads(pickle.dumps(outputs)).decode(data, []) == (7, "ok")
    with pytest.raises(UndecodableLog, match="data shorter than the 64 bytes"):
        outputs.decode(b"", [])
    assert compile_values(()).decode(b"", []) == ()
