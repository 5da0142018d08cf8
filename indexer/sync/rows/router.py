"""From checked logs to rows: which tables a log belongs to, decoded once for each.

A log may belong to none of the sources it was fetched with (one request serves many, by the union of their addresses
and topics), to one, or to several (two contracts of the manifest may share an address).

There are two ways to the same rows. :meth:`Router.rows` decodes log by log and takes everything. For history,
:meth:`Router.columns` takes logs that never were objects, because the answer could be read in columns.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.abi.batch import ForeignShapes
from indexer.abi.columns import fixed_values, kept_parameters
from indexer.abi.decoder import Decoder, UndecodableLog, compile_decoder
from indexer.abi.model import parse_abi
from indexer.addresses import Children, DiscoveryBlocks
from indexer.chain.records.log_columns import LogColumns
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.declaration import FactoryRule
from indexer.store.rows.undecoded_logs import ForeignLogs, UndecodedLog
from indexer.store.rows.writer import Rows
from indexer.sync.rows.batch_encoder import BatchEncoder, encoder, foreign_logs


class Log(Protocol):
    """A checked log (``chain.logs.RawLog``): the address and the first topic lower-case, other hex in any case."""

    address: str
    topics: list[str]
    data: str
    block_number: int
    log_index: int
    tx_hash: str
    tx_index: int


class _Codec:
    """What an event's logs are decoded by; generated when the first of them comes, since most events may be silent."""

    def __init__(self, chain_id: int, event: CatalogEvent) -> None:
        self._chain_id = chain_id
        self._event = event

    @functools.cached_property
    def decoder(self) -> Decoder:
        return decoder_of(self._event)

    @functools.cached_property
    def encoder(self) -> BatchEncoder | None:
        return encoder(self._chain_id, self.decoder.event, self._event.table)

    @functools.cached_property
    def shapes(self) -> ForeignShapes | None:
        return shapes_of(self.decoder)


@dataclass(frozen=True, slots=True)
class _Target:
    """One source that may claim a log."""

    source: Source
    codec: _Codec
    born: Mapping[str, int] | None
    """For a factory's source: its children; None: any address that leads here is right."""

    named: frozenset[str] = frozenset()
    """For an anonymous event: the first topics of its contract's other events. Nothing else tells its logs apart."""

    def claims(self, log: Log) -> bool:
        source = self.source
        if log.block_number < source.start_block or (
            source.end_block is not None and log.block_number > source.end_block
        ):
            return False
        if self.born is not None:
            birth = self.born.get(log.address)
            if birth is None or log.block_number < birth:
                return False
        return not source.place.filters or any(_passes(log, f) for f in source.place.filters)

    def claims_all(self, address: str, first: int, last: int) -> bool:
        """Whether it claims every log of an address in these blocks that leads here; False if that is not sure."""
        source = self.source
        if source.place.filters or first < source.start_block:
            return False
        if source.end_block is not None and last > source.end_block:
            return False
        return self.born is None or self.born.get(address, first + 1) <= first


@dataclass(frozen=True, slots=True)
class _FactoryRule:
    """How a child's address is found in a factory's event."""

    contract_id: int
    position: int
    path: tuple[str, ...]


class Router:
    """Sorts logs into tables.

    It lives as long as its set of sources; :meth:`learn` adds the children that logs announce.
    """

    def __init__(
        self, chain_id: int, sources: Sequence[Source], children: Children, *, among: Sequence[Source]
    ) -> None:
        """Prepares for some sources of one chain.

        Args:
            chain_id: goes into every row.
            sources: those that rows are wanted for.
            children: known so far; :meth:`learn` adds to it.
            among: all sources of factories' children of the chain: their rules say which events announce children.
        """
        self._chain_id = chain_id
        self._children = children
        self._placed: dict[tuple[str, str], list[_Target]] = {}
        self._anywhere: dict[str, list[_Target]] = {}
        self._anonymous: dict[str, list[_Target]] = {}
        self._anonymous_anywhere: list[_Target] = []
        self._rules: dict[int, list[_FactoryRule]] = {}
        self._codecs: dict[int, _Codec] = {}
        for source in sources:
            event = source.event
            if event.event_id not in self._codecs:
                self._codecs[event.event_id] = _Codec(chain_id, event)
            self._add(source, self._codecs[event.event_id])
        self._add_rules(sources, among)

    def _add(self, source: Source, codec: _Codec) -> None:
        event, place = source.event, source.place
        topic0 = "0x" + event.topic0.hex()
        born = self._children.setdefault(event.contract_id, DiscoveryBlocks()) if place.kind == "factory" else None
        target = _Target(source, codec, born, _named_topics(event))
        if place.kind == "addresses":
            for address in place.addresses:
                if event.anonymous:
                    self._anonymous.setdefault(address, []).append(target)
                else:
                    self._placed.setdefault((topic0, address), []).append(target)
        elif event.anonymous:
            self._anonymous_anywhere.append(target)
        else:
            self._anywhere.setdefault(topic0, []).append(target)

    def _add_rules(self, sources: Sequence[Source], among: Sequence[Source]) -> None:
        done: set[tuple[int, FactoryRule]] = set()
        announcing = {(s.event.contract, s.event.signature): s.event for s in reversed(sources)}
        for source in among:
            for factory in source.place.factories:
                event = announcing.get((factory.contract, factory.event))
                if event is None or (source.event.contract_id, factory) in done:
                    continue
                done.add((source.event.contract_id, factory))
                name, *path = factory.argument.split(".")
                position = [column.argument for column in event.table.columns].index(name)
                rule = _FactoryRule(source.event.contract_id, position, tuple(path))
                self._rules.setdefault(event.event_id, []).append(rule)

    def learn(self, logs: Iterable[Log]) -> None:
        """Add the children that these logs announce, so that their own logs are claimed.

        At the head, for logs of blocks whose children are not known yet. History is read for a child only in blocks
        where all children are known: nothing need be learned from it.
        """
        for log in logs if self._rules else ():
            self._learn(log)

    def rows(self, logs: Sequence[Log], times: Mapping[int, int]) -> Rows:
        """Decodes logs into rows.

        Args:
            logs: of one range, each once.
            times: Unix seconds of every block that bore one of them.

        Returns:
            Rows, undecoded logs and those of foreign shapes, each in the order of the logs.
        """
        clock = {number: datetime.fromtimestamp(time, UTC) for number, time in times.items()}
        rows = Rows(logs=logs)
        for log in logs:
            for target in self._targets(log.address, log.topics[0] if log.topics else None):
                if target.claims(log):
                    self._decode(target, log, clock[log.block_number], rows)
        self._count_foreign(rows)
        return rows

    def columns(self, logs: LogColumns, times: NDArray[np.int64]) -> Rows:
        """Does what :meth:`rows` does with logs in columns: without an object for any but the odd ones.

        Args:
            logs: of one range.
            times: Unix seconds of each of their blocks.
        """
        rows = Rows()
        targets = [list(self._targets(*name)) for name in logs.names]
        for target, claimed in self._claimed(logs, targets).values():
            event, odd = target.source.event, np.flatnonzero(claimed)
            encode = self._codecs[event.event_id].encoder
            if encode is not None:
                made, odd = encode.encode(logs, odd, times)
                if made:
                    rows.binary[event.event_id] = event.table, made
            if len(odd) and (shapes := self._codecs[event.event_id].shapes) is not None:
                found, odd = foreign_logs(shapes, event.event_id, logs, odd)
                rows.foreign += found
            if not len(odd):
                continue
            objects = logs.logs(odd)
            for log, time in zip(objects, times[logs.block_of[odd]].tolist(), strict=True):
                self._decode(target, log, datetime.fromtimestamp(time, UTC), rows)
            rows.logs = [*rows.logs, *objects]
        if not rows.by_table:
            rows.logs = ()
        return rows

    @staticmethod
    def _claimed(
        logs: LogColumns, targets: Sequence[Sequence[_Target]]
    ) -> dict[int, tuple[_Target, NDArray[np.bool_]]]:
        """For each event one of its targets, and which logs are claimed."""
        claimed: dict[int, tuple[_Target, NDArray[np.bool_]]] = {}
        if not len(logs):
            return claimed
        bounds = int(logs.numbers[0]), int(logs.numbers[-1])
        whole: dict[int, NDArray[np.bool_]] = {}
        unsure: dict[int, list[_Target]] = {}
        for kind, some in enumerate(targets):
            for target in some:
                event_id = target.source.event.event_id
                if event_id not in claimed:
                    claimed[event_id] = target, np.zeros(len(logs), dtype=np.bool_)
                    whole[event_id] = np.zeros(len(targets), dtype=np.bool_)
                if target.claims_all(logs.names[kind][0], *bounds):
                    whole[event_id][kind] = True
                else:
                    unsure.setdefault(kind, []).append(target)
        if unsure:
            # All at once: a factory's children are thousands of kinds in one answer.
            looked_at = np.zeros(len(targets), dtype=np.bool_)
            looked_at[list(unsure)] = True
            rows = np.flatnonzero(looked_at[logs.kinds])
            for row, kind, log in zip(rows.tolist(), logs.kinds[rows].tolist(), logs.logs(rows), strict=True):
                for target in unsure[kind]:
                    if target.claims(log):
                        claimed[target.source.event.event_id][1][row] = True
        for event_id, kinds in whole.items():
            claimed[event_id][1][kinds[logs.kinds]] = True
        return claimed

    def _targets(self, address: str, topic0: str | None) -> Iterator[_Target]:
        """Who may claim the logs of an address that bear a first topic."""
        if topic0 is not None:
            yield from self._placed.get((topic0, address), ())
            yield from self._anywhere.get(topic0, ())
        for target in (*self._anonymous.get(address, ()), *self._anonymous_anywhere):
            if topic0 not in target.named:
                yield target

    def _decode(self, target: _Target, log: Log, time: datetime, rows: Rows) -> None:
        event = target.source.event
        notes: list[str] = []
        topics = [bytes.fromhex(topic[2:]) for topic in log.topics]
        data = bytes.fromhex(log.data[2:])
        tx_hash, address = bytes.fromhex(log.tx_hash[2:]), bytes.fromhex(log.address[2:])
        has_row = True
        try:
            values = target.codec.decoder.decode(topics, data, notes)
        except UndecodableLog as error:
            notes.append(str(error))
            has_row = False
        else:
            fixed = fixed_values(
                chain_id=self._chain_id,
                block_number=log.block_number,
                block_time=time,
                tx_hash=tx_hash,
                tx_index=log.tx_index,
                log_index=log.log_index,
                contract_address=address,
            )
            rows.by_table.setdefault(event.event_id, (event.table, []))[1].append((*fixed, *values))
        if notes:
            rows.undecoded.append(
                UndecodedLog(
                    event_id=event.event_id,
                    block_number=log.block_number,
                    log_index=log.log_index,
                    block_time=time,
                    tx_hash=tx_hash,
                    tx_index=log.tx_index,
                    contract_address=address,
                    topics=topics,
                    data=data,
                    reason="; ".join(notes),
                    has_row=has_row,
                )
            )

    def _count_foreign(self, rows: Rows) -> None:
        """Takes the logs of foreign shapes from among the undecoded ones."""
        positions: dict[int, list[int]] = {}
        for position, log in enumerate(rows.undecoded):
            if not log.has_row:
                positions.setdefault(log.event_id, []).append(position)
        taken: set[int] = set()
        for event_id, own in positions.items():
            if (shapes := self._codecs[event_id].shapes) is not None:
                fits = shapes.fit([(rows.undecoded[at].topics, rows.undecoded[at].data) for at in own])
                taken.update(at for at, one in zip(own, fits, strict=True) if one)
        if taken:
            found = [rows.undecoded[at] for at in sorted(taken)]
            rows.foreign += [
                ForeignLogs(log.event_id, log.block_number, len(log.topics), [log.contract_address]) for log in found
            ]
            rows.undecoded = [log for at, log in enumerate(rows.undecoded) if at not in taken]

    def _learn(self, log: Log) -> None:
        """Takes in the children that a log announces."""
        for target in self._targets(log.address, log.topics[0] if log.topics else None):
            rules = self._rules.get(target.source.event.event_id)
            if not rules or not target.claims(log):
                continue
            try:
                values = target.codec.decoder.decode(
                    [bytes.fromhex(topic[2:]) for topic in log.topics], bytes.fromhex(log.data[2:]), []
                )
            except UndecodableLog:
                continue
            for rule in rules:
                address = _address(values[rule.position], rule.path)
                if (known := self._children.get(rule.contract_id)) is None:
                    known = self._children[rule.contract_id] = DiscoveryBlocks()
                if log.block_number < known.get(address, log.block_number + 1):
                    known[address] = log.block_number


def _named_topics(event: CatalogEvent) -> frozenset[str]:
    if event.contract_abi is None:
        return frozenset()
    return frozenset("0x" + e.topic0.hex() for e in parse_abi(list(event.contract_abi)).events if not e.anonymous)


def decoder_of(event: CatalogEvent) -> Decoder:
    """The decoder for an event of the catalog; tuples get the names of components that the table began with."""
    parsed = parse_abi([event.item]).events[0]
    return compile_decoder(replace(parsed, inputs=kept_parameters(parsed.inputs, event.table.columns)))


def shapes_of(decoder: Decoder) -> ForeignShapes | None:
    """The foreign shapes of a decoder's event; None: an anonymous event has none that could be told."""
    return None if decoder.event.anonymous else ForeignShapes(decoder.event)


def _passes(log: Log, topic_filter: Mapping[int, Sequence[str]]) -> bool:
    return all(
        position < len(log.topics) and log.topics[position].lower() in allowed
        for position, allowed in topic_filter.items()
    )


def _address(value: Any, path: Iterable[str]) -> str:
    for key in path:
        value = value[key]
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
