"""Logs of one event straight to rows in COPY's binary form: matrices of bytes to columns, columns to rows.

No object is made for a log or a value. What is not of one width in all logs of the event (dynamic arguments), and
every log that is odd in any way, is left to the slow path (:meth:`indexer.sync.rows.Router.rows`), which must give the
same rows.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.abi.batch import BatchDecoder, Values, Wide, compile_batch
from indexer.abi.model import Event
from indexer.chain.log_columns import LogColumns
from indexer.store import binary
from indexer.store.binary import BinaryRows
from indexer.store.layout import FIXED_COLUMNS, EventTable


class Log(Protocol):
    """A checked log (``chain.logs.RawLog``): the address and the first topic lower-case, other hex in any case."""

    address: str
    topics: list[str]
    data: str
    block_number: int
    log_index: int
    tx_hash: str
    tx_index: int


class BatchEncoder:
    """Makes the rows of one event's table."""

    def __init__(self, chain_id: int, table: EventTable, decoder: BatchDecoder) -> None:
        self._chain_id = chain_id
        self._decoder = decoder
        self._types = table.column_types
        self._first_topic = 0 if decoder.event.anonymous else 1
        self._topics = self._first_topic + decoder.indexed
        self._data_length = 2 + 2 * decoder.data_size

    def encode(self, logs: Sequence[Log], times: Mapping[int, int]) -> tuple[BinaryRows | None, Sequence[Log]]:
        """Encodes logs of the event.

        Args:
            logs: claimed by one of its sources.
            times: Unix seconds of their blocks.

        Returns:
            The rows of those that are as they should be, in the order given, and the others.
        """
        topics, length = self._topics, self._data_length
        plain = [log for log in logs if len(log.topics) == topics and len(log.data) == length]
        odd = (
            [log for log in logs if len(log.topics) != topics or len(log.data) != length]
            if len(plain) < len(logs)
            else []
        )
        if not plain:
            return None, odd
        try:
            columns, good = self._columns(plain, times)
        except ValueError:
            # Something that is no hex: the slow path finds out what.
            return None, logs
        if not good.all():
            odd += [log for log, fits in zip(plain, good.tolist(), strict=True) if not fits]
            columns = [_selected(column, good) for column in columns]
        return self._rows(columns, int(good.sum())), odd

    def encode_columns(
        self, logs: LogColumns, rows: NDArray[np.int64], times: NDArray[np.int64]
    ) -> tuple[list[BinaryRows], NDArray[np.int64]]:
        """Encodes logs of the event that are in columns already.

        Args:
            logs: among others, those to encode.
            rows: which they are, ascending: claimed by one of the event's sources.
            times: Unix seconds of the blocks that bear them.

        Returns:
            The rows of those that are as they should be, in the order given, and which the others are.
        """
        wanted = np.zeros(len(logs), dtype=np.bool_)
        wanted[rows] = True
        made, odd = [], []
        for group in logs.alike:
            inside = wanted[group.rows]
            if not inside.any():
                continue
            own = group if inside.all() else group.picked(inside)
            if own.topics.shape[1] != self._topics or own.data.shape[1] != self._decoder.data_size:
                odd.append(own.rows)
                continue
            topics = [own.topics[:, i] for i in range(self._first_topic, self._topics)]
            arguments, good = self._decoder.decode(topics, own.data)
            at = own.rows
            columns = self._fixed(
                numbers=logs.numbers[at],
                times=times[logs.block_of[at]],
                tx_hashes=logs.tx_hashes[at],
                tx_indexes=logs.tx_indexes[at],
                log_indexes=logs.log_indexes[at],
                addresses=logs.addresses()[logs.kinds[at]],
            )
            columns += arguments
            if not good.all():
                odd.append(at[~good])
                columns = [_selected(column, good) for column in columns]
            if (encoded := self._rows(columns, int(good.sum()))) is not None:
                made.append(encoded)
        return made, np.sort(np.concatenate(odd)) if odd else np.zeros(0, dtype=np.int64)

    def _rows(self, columns: Sequence[Values], count: int) -> BinaryRows | None:
        return binary.encode(list(zip(self._types, columns, strict=True)), count) if count else None

    def _fixed(
        self,
        *,
        numbers: NDArray[np.int64],
        times: NDArray[np.int64],
        tx_hashes: NDArray[np.uint8],
        tx_indexes: NDArray[np.int64],
        log_indexes: NDArray[np.int64],
        addresses: NDArray[np.uint8],
    ) -> list[Values]:
        fixed: dict[str, Values] = {
            "chain_id": np.full(len(numbers), self._chain_id, dtype=np.int64),
            "block_number": numbers,
            "block_time": binary.timestamps(times),
            "tx_hash": tx_hashes,
            "tx_index": tx_indexes,
            "log_index": log_indexes,
            "contract_address": addresses,
        }
        return [fixed[name] for name, _, _ in FIXED_COLUMNS]

    def _columns(self, logs: Sequence[Log], times: Mapping[int, int]) -> tuple[list[Values], NDArray[np.bool_]]:
        first = self._first_topic
        topics = [_octets([log.topics[i] for log in logs], 32) for i in range(first, self._topics)]
        data = _octets([log.data for log in logs], self._decoder.data_size)
        arguments, good = self._decoder.decode(topics, data)
        numbers = [log.block_number for log in logs]
        addresses = [log.address for log in logs]
        known = {address: bytes.fromhex(address[2:]) for address in set(addresses)}
        fixed = self._fixed(
            numbers=np.array(numbers, dtype=np.int64),
            times=np.array([times[number] for number in numbers], dtype=np.int64),
            tx_hashes=_octets([log.tx_hash for log in logs], 32),
            tx_indexes=np.array([log.tx_index for log in logs], dtype=np.int64),
            log_indexes=np.array([log.log_index for log in logs], dtype=np.int64),
            addresses=np.frombuffer(b"".join([known[a] for a in addresses]), np.uint8).reshape(-1, 20),
        )
        return [*fixed, *arguments], good


def encoder(chain_id: int, event: Event, table: EventTable) -> BatchEncoder | None:
    """The batch encoder of an event, or None where its logs must take the slow path."""
    decoder = compile_batch(event)
    return None if decoder is None else BatchEncoder(chain_id, table, decoder)


def _selected(column: Values, good: NDArray[np.bool_]) -> Values:
    if isinstance(column, Wide):
        return Wide(column.limbs[good], None if column.negative is None else column.negative[good])
    return column[good]


def _pairs() -> NDArray[np.int16]:
    """Two characters of hex, read as one number of the machine's, to the byte they mean; -1 where they mean none."""
    table = np.full(1 << 16, -1, dtype=np.int16)
    digits = b"0123456789abcdefABCDEF"
    for high in digits:
        for low in digits:
            table[int(np.frombuffer(bytes([high, low]), np.uint16)[0])] = int(bytes([high, low]), 16)
    return table


_BYTE_OF = _pairs()


def _octets(texts: Sequence[str], width: int) -> NDArray[np.uint8]:
    """Texts of ``0x`` and twice ``width`` digits as a matrix of bytes.

    Raises:
        ValueError: one is something else.
    """
    pairs = np.frombuffer("".join(texts).encode("ascii"), np.uint16).reshape(len(texts), 1 + width)
    octets = _BYTE_OF.take(pairs[:, 1:])
    if octets.size and octets.min() < 0:
        raise ValueError("not hex")
    result: NDArray[np.uint8] = octets.astype(np.uint8)
    return result
