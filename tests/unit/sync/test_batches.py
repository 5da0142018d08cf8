"""The fast way from logs to rows against the slow one, which the decoder's own tests vouch for."""

import struct
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.abi.columns import event_columns
from indexer.abi.model import parse_abi
from indexer.abi.names import table_name
from indexer.chain.records import column_reader
from indexer.chain.records.column_reader import LOG_FORM, Layouts
from indexer.chain.records.log_filter import LogFilter
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.declaration import FactoryRule, Place
from indexer.store.schema.layout import EventTable
from indexer.sync.rows.router import Router
from tests.further import examples

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
CHAIN_ID = 2**31 + 7
ADDRESSES = ["0x" + f"{n:040x}" for n in (0xA1, 0xB2, 0xC3, 2**160 - 1)]

WORD_TYPES = st.one_of(
    st.sampled_from(["address", "bool", "function", "uint256", "int256", "bytes32"]),
    st.builds("{}int{}".format, st.sampled_from(["", "u"]), st.sampled_from(range(8, 257, 8))),
    st.builds("bytes{}".format, st.integers(1, 32)),
)
OTHER_TYPES = st.sampled_from(["string", "bytes", "uint8[]", "uint8[2]", "fixed128x18"])
EDGES = [0, 1, 9_999, 10_000, 10**8 - 1, 10**8, 2**31, 2**32, 2**63, 2**64, 2**96, 10**38, 2**255]
ANY_WORD = st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from([n.to_bytes(32) for n in EDGES]))


def words(parameter):
    """Words for an argument: such as fit it, and such as miss by one bit."""
    of = parameter.type
    if parameter.is_hashed or not getattr(of, "size", 0):
        return ANY_WORD
    if of.kind in ("bytesN", "function"):
        whole = st.binary(min_size=of.size, max_size=of.size).map(lambda raw: raw.ljust(32, b"\0"))
        beyond = st.sampled_from([1 << 8 * (31 - of.size), 1]) if of.size < 32 else st.just(0)
        return st.one_of(
            whole, whole, whole, st.builds(lambda w, bit: (int.from_bytes(w) | bit).to_bytes(32), whole, beyond)
        )
    bits = of.size * 8 if of.kind == "address" else of.size
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if of.kind == "int" else (0, 2**bits - 1)
    fitting = st.integers(low, high) | st.sampled_from([n for m in EDGES for n in (m, -m) if low <= n <= high])
    missing = st.sampled_from([low - 1, high + 1, -1])
    # A log with one bad word says nothing of the others.
    return st.one_of(fitting, fitting, fitting, fitting, missing).map(lambda n: (n % 2**256).to_bytes(32))


@dataclass
class Log:
    address: str
    topics: list[str]
    data: str
    block_number: int
    log_index: int
    tx_hash: str
    tx_index: int


@st.composite
def events(draw, types=WORD_TYPES):
    count = draw(st.integers(0, 6))
    anonymous = draw(st.integers(0, 7)) == 0
    indexed = draw(st.sets(st.integers(0, count - 1), max_size=3 + anonymous)) if count else set()
    inputs = [{"name": f"a{i}", "type": draw(types), "indexed": i in indexed} for i in range(count)]
    return parse_abi([{"type": "event", "name": "E", "inputs": inputs, "anonymous": anonymous}]).events[0]


def catalogued(event, event_id=1, contract="c", contract_id=1):
    table = EventTable(event_id, contract, table_name(event.name, "", overloaded=False, taken=()), event_columns(event))
    return CatalogEvent(
        event_id, contract_id, contract, event.name, event.name, event.signature, event.topic0, event.anonymous,
        event.item, table,
    )  # fmt: skip


@st.composite
def otherwise_indexed(draw, event):
    """The arguments of an event, others of them indexed."""
    count = len(event.inputs)
    indexed = draw(st.sets(st.integers(0, count - 1), max_size=3)) if count else set()
    return [replace(one, indexed=i in indexed) for i, one in enumerate(event.inputs)]


@st.composite
def logs_of(draw, event):
    """Logs that bear the event's topic, most of them its shape too."""
    made = []
    capitals = draw(st.booleans())
    for position in range(draw(st.integers(1, 8))):
        topics = [] if event.anonymous else [event.topic0]
        # Some have other arguments as topics.
        inputs = draw(otherwise_indexed(event)) if draw(st.integers(0, 4)) == 0 else event.inputs
        topics += [draw(words(p)) for p in inputs if p.indexed]
        data = b"".join(draw(words(p)) for p in inputs if not p.indexed for _ in range(p.type.head_size // 32))
        match draw(st.integers(0, 9)):
            case 0:
                data = data[: draw(st.integers(0, len(data)))]
            case 1:
                data += draw(st.binary(max_size=70))
            case 2 if len(topics) > 1:
                topics.pop()
            case 3 if topics and len(topics) < 4:
                topics.append(draw(ANY_WORD))
        upper = capitals and draw(st.booleans())
        made.append(
            Log(
                draw(st.sampled_from(ADDRESSES)),
                ["0x" + t.hex() if i == 0 or not upper else "0x" + t.hex().upper() for i, t in enumerate(topics)],
                "0x" + (data.hex().upper() if upper else data.hex()),
                draw(st.integers(1, 30)),
                position,
                "0x" + draw(st.binary(min_size=32, max_size=32)).hex(),
                draw(st.integers(0, 2**31 - 1)),
            )
        )
    return sorted(made, key=lambda log: (log.block_number, log.log_index))


def read(pg_type, raw):
    """A value in Postgres' binary form."""
    match pg_type:
        case "smallint" | "integer" | "bigint":
            return int.from_bytes(raw, signed=True)
        case "boolean":
            return raw == b"\1"
        case "bytea":
            return raw
        case "timestamptz":
            return datetime.fromtimestamp(int.from_bytes(raw, signed=True) // 10**6 + 946_684_800, UTC)
        case "numeric":
            count, weight, sign, scale, *digits = struct.unpack(f">{len(raw) // 2}H", raw)
            assert (count, weight, scale) == (len(digits), len(digits) - 1, 0)
            value = 0
            for digit in digits:
                assert digit < 10_000
                value = value * 10_000 + digit
            return -value if sign else value
    raise AssertionError(pg_type)


WIDTHS = {"smallint": 2, "integer": 4, "bigint": 8, "timestamptz": 8, "boolean": 1}


def unpacked(table, batch):
    raw, at, rows = bytes(batch.data), 0, []
    for _ in range(batch.count):
        assert raw[at : at + 2] == struct.pack(">h", len(table.column_types))
        at += 2
        row = []
        for pg_type in table.column_types:
            (size,) = struct.unpack_from(">i", raw, at)
            assert size == WIDTHS.get(pg_type, size)
            row.append(read(pg_type, raw[at + 4 : at + 4 + size]))
            at += 4 + size
        rows.append(tuple(row))
    assert at == len(raw)
    return rows


def everything(rows):
    """All that rows hold, in a form and an order that do not tell how they were made."""
    tables = {event_id: (table, list(made)) for event_id, (table, made) in rows.by_table.items()}
    for event_id, (table, batches) in rows.binary.items():
        for batch in batches:
            tables.setdefault(event_id, (table, []))[1].extend(unpacked(table, batch))
    return (
        {event_id: sorted(made, key=lambda row: (row[1], row[5])) for event_id, (_, made) in tables.items() if made},
        sorted(rows.undecoded, key=lambda log: (log.event_id, log.block_number, log.log_index)),
        Counter(
            (logs.event_id, logs.block_number, logs.topics, one) for logs in rows.foreign for one in logs.addresses
        ),
        rows.count,
    )


def both_ways(sources, among, logs, children=lambda: {}):
    times = {log.block_number: 1_600_000_000 + log.block_number for log in logs}
    slow = Router(CHAIN_ID, sources, children(), among=among).rows(logs, times)
    columns = in_columns(logs)
    if columns is None:
        return None
    clock = np.array([times[number] for number in columns.block_numbers.tolist()])
    fast = Router(CHAIN_ID, sources, children(), among=among).columns(columns, clock)
    assert everything(fast) == everything(slow)
    return fast


def in_columns(logs):
    """The logs as an answer that was read in columns; None where they cannot be (capitals)."""
    answer = [
        {
            "address": log.address,
            "topics": log.topics,
            "data": log.data,
            "blockNumber": f"{log.block_number:#06x}",
            "blockHash": f"0x{log.block_number:064x}",
            "transactionHash": log.tx_hash,
            "transactionIndex": f"{log.tx_index:#010x}",
            "logIndex": f"{log.log_index:#06x}",
        }
        for log in logs
    ]
    return column_reader.read(msgspec.json.encode(answer), 0, 100, LogFilter(), Layouts(LOG_FORM), least=0, few=0)


@pytest.mark.promise("R-06")
@settings(RELAXED, max_examples=examples(300))
@given(st.data())
def test_one_event_anywhere(data):
    event = data.draw(events())
    logs = data.draw(logs_of(event))
    source = Source(1, CHAIN_ID, catalogued(event), Place("any"), 0, None, (), ())
    both_ways([source], [source], logs)


@settings(RELAXED, max_examples=examples(60))
@given(st.data())
def test_an_event_with_more_than_words(data):
    event = data.draw(events(st.one_of(WORD_TYPES, OTHER_TYPES)))
    logs = data.draw(logs_of(event))
    source = Source(1, CHAIN_ID, catalogued(event), Place("any"), 0, None, (), ())
    both_ways([source], [source], logs)


@pytest.mark.promise("R-06")
@settings(RELAXED, max_examples=examples(200))
@given(st.data())
def test_several_sources_with_bounds_and_filters(data):
    first, second = data.draw(events()), data.draw(events())
    logs = sorted(
        [*data.draw(logs_of(first)), *data.draw(logs_of(second))], key=lambda log: (log.block_number, log.log_index)
    )
    for position, log in enumerate(logs):
        log.log_index = position
    sources = []
    for number, event in enumerate([first, second, first], 1):
        addresses = tuple(sorted(data.draw(st.sets(st.sampled_from(ADDRESSES), min_size=1))))
        topics = st.sampled_from([t.lower() for log in logs for t in log.topics[1:]] or ["0x" + "0" * 64])
        filters = data.draw(st.lists(st.dictionaries(st.integers(1, 3), st.tuples(topics), min_size=1), max_size=2))
        place = Place(data.draw(st.sampled_from(["addresses", "any"])), filters=tuple(filters))
        if place.kind == "addresses":
            place = Place("addresses", addresses, filters=tuple(filters))
        end = data.draw(st.none() | st.integers(1, 30))
        start = data.draw(st.integers(0, 20))
        contract = f"c{number}"
        sources.append(Source(number, CHAIN_ID, catalogued(event, number, contract, number), place, start, end, (), ()))
    both_ways(sources, sources, logs)


@pytest.mark.promise("R-06")
@settings(RELAXED, max_examples=examples(150))
@given(st.data())
def test_children_of_a_factory_from_their_birth_on(data):
    created = parse_abi(
        [{"type": "event", "name": "Created", "inputs": [{"name": "child", "type": "address", "indexed": True}]}]
    ).events[0]
    event = data.draw(events())
    births = [
        Log(
            ADDRESSES[0], ["0x" + created.topic0.hex(), "0x" + child[2:].rjust(64, "0")], "0x",
            data.draw(st.integers(1, 30)), 0, "0x" + "ab" * 32, 0,
        )
        for child in data.draw(st.lists(st.sampled_from(ADDRESSES), max_size=4))
    ]  # fmt: skip
    logs = sorted([*births, *data.draw(logs_of(event))], key=lambda log: log.block_number)
    for position, log in enumerate(logs):
        log.log_index = position
    factory = Source(1, CHAIN_ID, catalogued(created), Place("addresses", (ADDRESSES[0],)), 0, None, (), ())
    place = Place("factory", factories=(FactoryRule("c", created.signature, "child"),))
    child = Source(2, CHAIN_ID, catalogued(event, 2, "d", 2), place, 0, None, (), ())
    known = data.draw(st.dictionaries(st.sampled_from(ADDRESSES), st.integers(1, 30), max_size=2))
    # At the head they are learned from the very logs; history is asked for what children said once all are known.
    learned = {2: dict(known)}
    Router(CHAIN_ID, [factory, child], learned, among=[factory, child]).learn(logs)
    both_ways([factory, child], [factory, child], logs, lambda: {2: dict(learned[2])})


def test_plain_logs_take_the_fast_way():
    inputs = [{"name": "from", "type": "address", "indexed": True}, {"name": "value", "type": "uint256"}]
    event = parse_abi([{"type": "event", "name": "E", "inputs": inputs}]).events[0]
    topics = ["0x" + event.topic0.hex(), "0x" + "ee".rjust(64, "0")]
    logs = [Log(ADDRESSES[0], list(topics), f"0x{n:064x}", 5, n, "0x" + "ab" * 32, 3) for n in range(20)]
    logs[7].topics[1] = "0x" + "f" * 64  # no address
    source = Source(1, CHAIN_ID, catalogued(event), Place("any"), 0, None, (), ())
    rows = both_ways([source], [source], logs)
    assert rows is not None
    assert [batch.count for _, batches in rows.binary.values() for batch in batches] == [19]
    assert not rows.by_table
    assert len(rows.undecoded) == 1


def test_foreign_shapes_are_counted_by_block_and_address():
    kinds = (("from", "address", True), ("to", "address", True), ("value", "uint256", False))
    inputs = [{"name": name, "type": kind, "indexed": indexed} for name, kind, indexed in kinds]
    event = parse_abi([{"type": "event", "name": "Transfer", "inputs": inputs}]).events[0]
    topic0, one, other = "0x" + event.topic0.hex(), "0x" + "ee".rjust(64, "0"), "0x" + "dd".rjust(64, "0")

    def log(number, index, address, topics, words):
        data = "0x" + "".join(f"{word:064x}" for word in words)
        return Log(ADDRESSES[address], [topic0, *topics], data, number, index, "0x" + "ab" * 32, 3)

    logs = [
        log(5, 0, 0, [one, other], [7]),
        log(5, 1, 1, [one, other, one], []),
        log(5, 2, 1, [one, other, one], []),
        log(5, 3, 2, [one, other, one], []),
        log(5, 4, 1, [one, other, one], [7]),  # as many topics as an ERC-721 Transfer has, and data besides
        log(6, 0, 1, [one, other, one], []),
        log(6, 1, 1, [], [1, 2, 3]),
        log(6, 2, 1, [one], [2**160, 3]),  # no address
        log(6, 3, 1, [one], [2, 3]),
    ]
    source = Source(1, CHAIN_ID, catalogued(event), Place("any"), 0, None, (), ())
    rows = both_ways([source], [source], logs)
    names = [bytes.fromhex(address[2:]) for address in ADDRESSES]
    assert everything(rows)[2] == {
        (1, 5, 4, names[1]): 2,
        (1, 5, 4, names[2]): 1,
        (1, 6, 4, names[1]): 1,
        (1, 6, 1, names[1]): 1,
        (1, 6, 2, names[1]): 1,
    }
    assert [(log.block_number, log.log_index) for log in rows.undecoded] == [(5, 4), (6, 2)]
    assert rows.count == 1
