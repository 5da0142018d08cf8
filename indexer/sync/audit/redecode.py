"""Retrying the logs that could not be decoded, after an ABI was mended or a decoder has learned."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection, Engine

from indexer.abi.columns import fixed_values
from indexer.abi.decoder import UndecodableLog
from indexer.intervals import normalise, union
from indexer.store.catalog import catalog, children, ledgers
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.version import load_version, writing_by
from indexer.store.derived import counting
from indexer.store.head import state as head_state
from indexer.store.integrity import digests
from indexer.store.rows import transactions, undecoded_logs, writer
from indexer.store.rows.undecoded_logs import Decoded, StoredLog
from indexer.store.tokens import balances
from indexer.sync.rows.router import decoder_of, shapes_of


@dataclass(slots=True)
class Redecoded:
    """What became of the undecoded logs.

    Attributes:
        rows: by ``contract.Event``: how many are rows now.
        counted: by ``contract.Event``: how many have a foreign shape, and are counted now.
        still: by ``contract.Event``: how many still cannot be decoded, or stored.
        taken: events of a factory's children that the new rows announce: what they have said since is fetched anew.
        waiting: logs that are not finalized yet, and were left alone.
    """

    rows: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    still: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)
    waiting: int = 0


def redecode(engine: Engine, contract: str | None = None) -> Redecoded:
    """Decodes the kept raw logs again and moves those that succeed into their tables, an event at a time.

    Those of foreign shapes, which earlier versions kept raw, are counted instead. They never come back: the arguments
    that a table takes as indexed cannot be changed; an event that was dropped and is declared with others is fetched
    anew. A transaction for each event and chain: its logs are in ``undecoded_logs`` or where they belong, never in both
    or neither.

    Args:
        engine: the database.
        contract: only this contract's events; None: all.

    Raises:
        CatalogChangedError: the manifest was applied meanwhile; run it again.
    """
    done = Redecoded()
    with engine.connect() as connection:
        version = load_version(connection)
        # A retired source may come back, and its digests with it.
        every, events = catalog.load_with_events(connection, retired=True)
        # An event that a manifest has added since is left to the next run.
        waiting = [
            one
            for one in undecoded_logs.waiting_events(connection)
            if one[0] in events and contract in (None, events[one[0]].contract)
        ]
    for event_id, chain_id in waiting:
        mine = [s for s in every if s.event.event_id == event_id and s.chain_id == chain_id]
        with engine.begin() as connection, writing_by(connection, version) as writing:
            writing.forgets = _retry(connection, events[event_id], chain_id, mine, done)
        # What this has made outdated is what others hold in memory: the events are the same.
        version += writing.forgets
    return done


def _retry(
    connection: Connection, event: CatalogEvent, chain_id: int, sources: Sequence[Source], done: Redecoded
) -> bool:
    """Returns whether what others hold in memory is outdated now."""
    digests.lock_rewrites(connection, [source.source_id for source in sources])
    ledgers.lock(connection, chain_id)  # before the logs, as a reorganisation does
    finalized = head_state.load_state(connection, chain_id).finalized
    decoder = decoder_of(event)
    shapes = shapes_of(decoder)
    decoded: list[Decoded] = []
    foreign: list[StoredLog] = []
    every = list(undecoded_logs.load_undecoded(connection, event.event_id, chain_id))
    final = [log for log in every if finalized is not None and log.block_number <= finalized]
    done.waiting += len(every) - len(final)  # the follower's, who may take them back
    fits = shapes.fit([(log.topics, log.data) for log in final]) if shapes is not None else [False] * len(final)
    for log, is_foreign in zip(final, fits, strict=True):
        if is_foreign:
            foreign.append(log)
            continue
        notes: list[str] = []
        try:
            values = decoder.decode(log.topics, log.data, notes)
        except UndecodableLog as error:
            done.still[event.label] += 1
            if str(error) != log.reason:
                undecoded_logs.note_undecoded(connection, log, str(error), has_row=False)
            continue
        fixed = fixed_values(
            chain_id=chain_id,
            block_number=log.block_number,
            block_time=log.block_time,
            tx_hash=log.tx_hash,
            tx_index=log.tx_index,
            log_index=log.log_index,
            contract_address=log.contract_address,
        )
        decoded.append(Decoded(log, (*fixed, *values), "; ".join(notes)))
    if not decoded and not foreign:
        return False
    ranges = normalise((log.block_number, log.block_number) for log, *_ in decoded)
    changed_ranges = union(ranges, normalise((log.block_number, log.block_number) for log in foreign))
    with ExitStack() as stack:
        stack.enter_context(balances.rewriting(connection, chain_id, [event.event_id], ranges))
        stack.enter_context(counting.rewriting(connection, chain_id, [event.event_id], ranges))
        for source in sources:
            stack.enter_context(digests.rewriting(connection, source, changed_ranges))
        undecoded_logs.count_foreign(connection, chain_id, foreign)
        refused = undecoded_logs.move_decoded(connection, event.table, decoded)
    done.counted[event.label] += len(foreign)
    if not decoded:
        return False
    transactions.forget(connection, chain_id, event.contract_id, ranges)
    writer.bump_versions(connection, [event.event_id], rewritten=True)
    changed = children.reconcile(connection, chain_id, children.announcing([event]), ranges, rewritten=True)
    done.taken |= set(changed.taken)
    done.still[event.label] += refused
    done.rows[event.label] += len(decoded) - refused
    return changed.outdated
