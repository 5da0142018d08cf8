"""COPY's binary form, as made from columns of arrays, in a real Postgres: every type of one word, at its extremes."""

from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from indexer.abi.columns import event_columns
from indexer.abi.model import parse_abi
from indexer.store.rows import copy_binary as binary
from indexer.store.rows.copy_binary import copy_batches
from indexer.store.schema.layout import EventTable, create_event_table, create_schema
from indexer.sync.rows.batch_encoder import encoder
from tests.unit.sync.test_batches import ADDRESSES, CHAIN_ID, Log, in_columns


def extremes():
    for bits in range(8, 257, 8):
        yield f"uint{bits}", [0, 1, 2**bits - 1]
        yield f"int{bits}", [-(2 ** (bits - 1)), -1, 2 ** (bits - 1) - 1]
    for power in (4, 8, 16, 36, 76):
        yield "uint256", [10**power - 1, 10**power, 10**power + 1]


def test_integers_at_their_extremes(database_url):
    types = list(extremes())
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        for statement in create_schema("s", ""):
            connection.execute(statement)
        for position, (abi_type, numbers) in enumerate(types):
            event = parse_abi([{"type": "event", "name": "E", "inputs": [{"name": "value", "type": abi_type}]}]).events[
                0
            ]
            table = EventTable(1, "s", f"t{position}", event_columns(event))
            for statement in create_event_table(table, event.signature):
                connection.execute(statement)
            logs = [
                Log(
                    ADDRESSES[3],
                    ["0x" + event.topic0.hex()],
                    f"0x{number % 2**256:064x}",
                    77,
                    i,
                    "0x" + "ab" * 32,
                    7,
                )
                for i, number in enumerate(numbers)
            ]
            made = encoder(CHAIN_ID, event, table)
            assert made is not None
            columns = in_columns(logs)
            assert columns is not None
            times = np.full(len(logs), 1_700_000_001)
            rows, odd = made.encode(columns, np.arange(len(logs)), times)
            assert not len(odd)
            copy_batches(connection, table, rows)
            found = connection.execute(f"SELECT * FROM s.t{position} ORDER BY log_index").fetchall()
            time = datetime.fromtimestamp(1_700_000_001, UTC)
            assert found == [
                (CHAIN_ID, 77, time, b"\xab" * 32, 7, i, b"\xff" * 20, number) for i, number in enumerate(numbers)
            ]


def test_one_numeric_is_stored_alike_beside_small_and_beside_large_ones(database_url):
    """Zeros in front, which a batch's width brings, are not kept: equal values have equal bytes."""

    def limbs(*numbers):
        return np.frombuffer(b"".join(n.to_bytes(32) for n in numbers), ">u4").reshape(-1, 8).astype(np.uint32)

    class Wide:
        negative = None

        def __init__(self, *numbers):
            self.limbs = limbs(*numbers)

    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE t (n numeric(78,0))")
        for numbers in ([5, 0], [5, 0, 2**256 - 1]):
            rows = binary.encode([("numeric", Wide(*numbers))], len(numbers))
            with connection.cursor().copy("COPY t FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(binary.SIGNATURE + bytes(rows.data) + binary.TRAILER)
        sizes = connection.execute("SELECT n, array_agg(DISTINCT pg_column_size(n)) FROM t GROUP BY n ORDER BY n")
        assert [(int(n), len(found)) for n, found in sizes] == [(0, 1), (5, 1), (2**256 - 1, 1)]


def test_what_has_no_form_of_one_width_is_refused():
    with pytest.raises(ValueError, match="text"):
        binary.encode([("text", np.zeros(1, np.uint8))], 1)
