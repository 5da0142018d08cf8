"""Foreign shapes against the decoders of all declarations that differ in what is indexed."""

from dataclasses import replace
from itertools import combinations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.abi.batch import ForeignShapes, compile_batch
from indexer.abi.decoder import UndecodableLog, compile_decoder
from indexer.abi.model import parse_abi
from tests.further import examples

TYPES = st.sampled_from(
    ["address", "bool", "uint256", "int256", "uint8", "int64", "bytes32", "bytes4", "string", "uint8[]", "uint8[2]"]
)
WORDS = st.one_of(
    st.sampled_from([n.to_bytes(32) for n in (0, 1, 2, 255, 256, 2**160 - 1, 2**160, 2**256 - 1)]),
    st.sampled_from([b"\1" * 4 + bytes(28), b"\1" * 5 + bytes(27)]),
    st.binary(min_size=32, max_size=32),
)


def fits_another_declaration(event, topics, data):
    """By trying them all: those with another number of topics, whose arguments are one word each, and nothing after."""
    for indexed in range(4):
        if indexed == len(event.indexed):
            continue
        for chosen in combinations(range(len(event.inputs)), indexed):
            inputs = tuple(replace(one, indexed=i in chosen) for i, one in enumerate(event.inputs))
            declared = replace(event, inputs=inputs)
            if compile_batch(declared) is None or len(data) != 32 * (len(inputs) - indexed):
                continue
            try:
                compile_decoder(declared).decode(topics, data, [])
            except UndecodableLog:
                continue
            return True
    return False


@settings(deadline=None, max_examples=examples(400), suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_log_fits_if_a_declaration_with_other_topics_decodes_it(data):
    types = data.draw(st.lists(TYPES, max_size=5))
    flags = data.draw(st.sets(st.integers(0, max(0, len(types) - 1)), max_size=3))
    inputs = [{"name": f"a{i}", "type": one, "indexed": i in flags} for i, one in enumerate(types)]
    event = parse_abi([{"type": "event", "name": "E", "inputs": inputs}]).events[0]
    indexed = data.draw(st.integers(0, 3))
    topics = [event.topic0, *(data.draw(WORDS) for _ in range(indexed))]
    words = max(0, len(types) - indexed + data.draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1])))
    octets = b"".join(data.draw(WORDS) for _ in range(words)) + data.draw(st.sampled_from([b"", b"", b"", b"", b"\0"]))
    assert ForeignShapes(event).fit([(topics, octets)])[0] == fits_another_declaration(event, topics, octets)


def fit(event, log):
    return ForeignShapes(event).fit([log])[0]


def test_transfers_of_two_standards_are_told_apart():
    def transfer(*indexed):
        inputs = [
            {"name": name, "type": kind, "indexed": name in indexed}
            for name, kind in (("from", "address"), ("to", "address"), ("value", "uint256"))
        ]
        return parse_abi([{"type": "event", "name": "Transfer", "inputs": inputs}]).events[0]

    coin, piece = transfer("from", "to"), transfer("from", "to", "value")
    person, amount = bytes(12) + b"\7" * 20, (2**255).to_bytes(32)
    of_coin, of_piece = ([coin.topic0, person, person], amount), ([coin.topic0, person, person, amount], b"")
    assert fit(coin, of_piece)
    assert fit(piece, of_coin)
    assert not fit(coin, of_coin)
    assert not fit(piece, of_piece)
    # The amount cannot be an address, whichever of the arguments are topics.
    assert not fit(piece, ([coin.topic0, person, amount], amount))
    assert not fit(coin, ([coin.topic0, person, amount, person], b""))
    # One with as many topics as declared is never another's, though other arguments might be indexed.
    assert not fit(coin, ([coin.topic0, person, amount], person))
