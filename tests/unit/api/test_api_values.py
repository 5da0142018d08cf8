import pytest

from api import values
from api.cursors import CursorError, Position

CHECKSUMMED = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"

GOOD = [
    (values.BLOCK, "0", 0),
    (values.BLOCK, "17009997", 17009997),
    (values.integer(-5, 5), "-5", -5),
    (values.integer(0, 2**256 - 1), str(2**256 - 1), 2**256 - 1),
    (values.decimal(18), "-0.000000000000000001", "-0.000000000000000001"),
    (values.ADDRESS, CHECKSUMMED, bytes.fromhex(CHECKSUMMED[2:])),
    (values.ADDRESS, CHECKSUMMED.lower(), bytes.fromhex(CHECKSUMMED[2:])),
    (values.ADDRESS, "0x" + CHECKSUMMED[2:].upper(), bytes.fromhex(CHECKSUMMED[2:])),
    (values.HASH, "0x" + "aB" * 32, b"\xab" * 32),
    (values.hex_bytes(), "0x", b""),
    (values.text(), "é 🦊", "é 🦊"),
    (values.DATE, "2024-02-29", "2024-02-29"),
    (values.list_of(values.BLOCK), "3,1,3", [3, 1]),
    (values.words(("id", "args")), "args,id", frozenset(("id", "args"))),
]

BAD = [
    *(
        (values.BLOCK, text)
        for text in ("", "-1", "1_0", "٣", "１", "+1", " 1", "1 ", "01", "1.0", "1e3", "0x10", "-0")
    ),
    (values.BLOCK, str(2**63)),
    (values.BLOCK, str(2**63 - 1)),
    (values.BLOCK, "9" * 5000),
    (values.integer(0, 2**256 - 1), str(2**256)),
    (values.decimal(2), "1.234"),
    (values.decimal(2), "NaN"),
    (values.decimal(2), "1e5"),
    (values.HASH, "ab" * 32),
    (values.HASH, "0x" + "ab" * 31),
    (values.HASH, "0X" + "ab" * 32),
    (values.hex_bytes(), "0xa"),
    (values.hex_bytes(), "0x" + "ab" * 2000),
    (values.text(), "a\0b"),
    (values.text(), ""),
    (values.text(3), "four"),
    (values.BOOL, "True"),
    (values.BOOL, "1"),
    (values.DATE, "2023-02-29"),
    (values.DATE, "2023-2-1"),
    (values.list_of(values.BLOCK), "1,,2"),
    (values.list_of(values.BLOCK), ",".join(map(str, range(101)))),
    (values.words(("id",)), "id,ID"),
]

BAD_ADDRESSES = [
    "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB4a",  # one character mistyped
    CHECKSUMMED.swapcase().replace("0X", "0x"),
    CHECKSUMMED[2:],
    CHECKSUMMED[:-1],
    CHECKSUMMED + "0",
    "0x" + "g" * 40,
    "0x" + "٣" * 40,
    "vitalik.eth",
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_reads(kind, text, value):
    assert kind.parse(text) == value


@pytest.mark.parametrize(("kind", "text"), BAD)
def test_refuses(kind, text):
    with pytest.raises(values.BadValueError) as caught:
        kind.parse(text)
    assert caught.value.code == "INVALID_PARAMETER"


@pytest.mark.parametrize(
    "text",
    [
        CHECKSUMMED,
        CHECKSUMMED.lower(),
        "0x" + CHECKSUMMED[2:].upper(),
        "0x5aaEB6053f3e94c9b9a09f33669435E7ef1bEAeD",  # EIP-1191, Rootstock
        "0x5aAeb6053F3e94c9b9A09F33669435E7EF1BEaEd",  # EIP-1191, its test network
    ],
)
def test_reads_addresses_with_the_checksum_of_any_chain(text):
    assert values.parse_address(text).hex() == text[2:].lower()


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_refuses_addresses_by_a_code_of_their_own(text):
    with pytest.raises(values.BadValueError) as caught:
        values.parse_address(text)
    assert caught.value.code == "INVALID_ADDRESS"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-04-02T09:19:24Z", 1680427164),
        ("2023-04-02T11:19:24+02:00", 1680427164),
        ("2023-04-02", 1680393600),
        ("1680427164", 1680427164),
    ],
)
def test_reads_times(text, seconds):
    assert values.parse_time(text).timestamp() == seconds


@pytest.mark.parametrize(
    "text",
    ["", "now", "2023-13-01", "2023-04-02T09:19:24", "2023-04-02 09:19:24Z", "2023-04-02T25:00:00Z", "-1",
     "1680427164.5", "253402300800", "٣", "20230402", "2023-W10-1", "0000-01-01", "0001-01-01T00:00:00+14:00"],
)  # fmt: skip
def test_refuses_times(text):
    with pytest.raises(values.BadValueError):
        values.parse_time(text)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("17009997-12", Position(17009997, 12)),
        ("0-0", Position(0, 0)),
        ("5-4-3", Position(5, 4, 3)),
        ("5-4.0102030405ff", Position(5, 4, None, b"\1\2\3\4\5\xff")),
        ("5-4-3.0102030405ff", Position(5, 4, 3, b"\1\2\3\4\5\xff")),
        (f"{2**63 - 1}-{2**63 - 1}", Position(2**63 - 1, 2**63 - 1)),
        (f"5-{0xFFFFFFE2}", Position(5, 0xFFFFFFE2)),
    ],
)
def test_cursors_read_back_as_written(text, position):
    assert Position.parse(text) == position
    assert str(position) == text


@pytest.mark.parametrize(
    "text",
    ["", "5", "5-", "-4", "05-4", "5-04", "5-4.", "5-4.01", "5-4.0102030405FF", "5-4-", "5_0-4", "٣-4", "5-4\n", " 5-4",
     f"{2**63}-0", f"0-{2**63}", f"0-0-{2**31}"],
)  # fmt: skip
def test_refuses_what_is_no_cursor(text):
    with pytest.raises(CursorError):
        Position.parse(text)


def test_an_id_carries_no_branch():
    assert Position.parse_id("5-4") == Position(5, 4)
    with pytest.raises(CursorError):
        Position.parse_id("5-4.0102030405ff")
