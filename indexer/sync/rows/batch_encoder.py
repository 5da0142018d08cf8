"""Logs of one event straight to rows in COPY's binary form: matrices of bytes to columns, columns to rows.

No object is made for a log or a value. What is not of one width in all logs of the event (dynamic arguments), and
every log that is odd in any way, is left to the slow path (:meth:`indexer.sync.rows.router.Router.rows`), which must
give the same rows.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.abi.batch import BatchDecoder, ForeignShapes, Values, Wide, compile_batch
from indexer.abi.columns import fixed_values
from indexer.abi.model import Event
from indexer.chain.records.log_columns import LogColumns
from indexer.store.rows import copy_binary
from indexer.store.rows.copy_binary import BinaryRows
from indexer.store.rows.undecoded_logs import ForeignLogs
from indexer.store.schema.layout import EventTable


class BatchEncoder:
    """Makes the rows of one event's table."""

    def __init__(self, chain_id: int, table: EventTable, decoder: BatchDecoder) -> None:
        self._chain_id = chain_id
        self._decoder = decoder
        self._types = table.column_types
        self._first_topic = 0 if decoder.event.anonymous else 1
        self._topics = self._first_topic + decoder.indexed

    def encode(
        self, logs: LogColumns, rows: NDArray[np.int64], times: NDArray[np.int64]
    ) -> tuple[list[BinaryRows], NDArray[np.int64]]:
        """Encodes logs of the event.

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
            fixed = fixed_values(
                chain_id=np.full(len(at), self._chain_id, dtype=np.int64),
                block_number=logs.numbers[at],
                block_time=copy_binary.timestamps(times[logs.block_of[at]]),
                tx_hash=logs.tx_hashes[at],
                tx_index=logs.tx_indexes[at],
                log_index=logs.log_indexes[at],
                contract_address=logs.addresses()[logs.kinds[at]],
            )
            columns: list[Values] = [*fixed, *arguments]
            if not good.all():
                odd.append(at[~good])
                columns = [_selected(column, good) for column in columns]
            if (encoded := self._rows(columns, int(good.sum()))) is not None:
                made.append(encoded)
        return made, np.sort(np.concatenate(odd)) if odd else np.zeros(0, dtype=np.int64)

    def _rows(self, columns: Sequence[Values], count: int) -> BinaryRows | None:
        return copy_binary.encode(list(zip(self._types, columns, strict=True)), count) if count else None


def encoder(chain_id: int, event: Event, table: EventTable) -> BatchEncoder | None:
    """The batch encoder of an event, or None where its logs must take the slow path."""
    decoder = compile_batch(event)
    return None if decoder is None else BatchEncoder(chain_id, table, decoder)


def foreign_logs(
    shapes: ForeignShapes, event_id: int, logs: LogColumns, rows: NDArray[np.int64]
) -> tuple[list[ForeignLogs], NDArray[np.int64]]:
    """Takes the logs of foreign shapes from among an event's logs.

    Args:
        shapes: of the event.
        event_id: the event.
        logs: among others, those of the event.
        rows: which they are, ascending.

    Returns:
        The logs of foreign shapes, by block, and which the others are.
    """
    left = np.zeros(len(logs), dtype=np.bool_)
    left[rows] = True
    found: list[ForeignLogs] = []
    for group in logs.alike:
        count = group.topics.shape[1]
        if not shapes.may_be(count, group.data.shape[1]):
            continue
        inside = left[group.rows]
        own = group if inside.all() else group.picked(inside)
        at = own.rows[shapes.fits(own.topics, own.data)]
        if not len(at):
            continue
        left[at] = False
        names = [bytes.fromhex(address[2:]) for address, _ in logs.names]
        addresses = [names[kind] for kind in logs.kinds[at].tolist()]
        numbers = logs.numbers[at]
        bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(at)]
        found += [
            ForeignLogs(event_id, int(numbers[first]), count, addresses[first:stop])
            for first, stop in itertools.pairwise(bounds)
        ]
    return found, np.flatnonzero(left)


def _selected(column: Values, good: NDArray[np.bool_]) -> Values:
    if isinstance(column, Wide):
        return Wide(column.limbs[good], None if column.negative is None else column.negative[good])
    return column[good]
