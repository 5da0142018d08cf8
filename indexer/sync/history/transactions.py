"""``include``: the blocks, transactions and receipts of events, fetched right behind the events themselves."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from indexer.block_records import TransactionDetails
from indexer.chain.client import ChainClient
from indexer.chain.reads.transactions import DetailsRequest
from indexer.store.catalog.version import CatalogChangedError, load_version
from indexer.store.rows import transaction_rows
from indexer.store.rows import transactions as included

log = logging.getLogger(__name__)

MOST_BLOCKS = 200
"""Blocks that bore events and are asked for in one go: a few batches."""


@dataclass(slots=True)
class Includer:
    """Fetches what ``include`` names, on one chain.

    Attributes:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.
        stop: when set, ends after the part at hand.
    """

    engine: Engine
    client: ChainClient
    chain_id: int
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> int:
        """Works until nothing is lacking, or until the chain moves under it: the next run goes on.

        What no node gives is noted, holds up nothing, and is asked for again with growing pauses.

        Returns:
            How many blocks were asked for.

        Raises:
            ProviderError: the nodes could not be asked; what was written before stays.
        """
        done = 0
        while not self.stop.is_set():
            with self.engine.connect() as connection:
                version = load_version(connection)
                task = included.next_task(connection, self.chain_id, MOST_BLOCKS)
            if task is None:
                break
            found = self._fetch(task.incomplete)
            try:
                with self.engine.begin() as connection:
                    kept = included.store(
                        connection,
                        self.chain_id,
                        task,
                        catalog_version=version,
                        facts=found,
                    )
            except CatalogChangedError:
                break
            if not kept:
                break
            done += len(task.incomplete)
            self._tell(found)
        return done + self._ask_again()

    def _ask_again(self) -> int:
        """Ask for what no node gave before, where it is time to."""
        done = 0
        while not self.stop.is_set():
            with self.engine.connect() as connection:
                due = transaction_rows.due_again(connection, self.chain_id, MOST_BLOCKS)
            if not due:
                break
            incomplete: dict[int, included.IncompleteBlock] = {}
            for one in due:
                block = incomplete.setdefault(
                    one.number, included.IncompleteBlock(one.number, one.block_hash, one.time, block=False)
                )
                match one.kind:
                    case "block":
                        block.block = True
                    case "transaction":
                        block.transactions[one.index] = one.hash
                    case _:
                        block.receipts[one.index] = one.hash
            found = self._fetch(list(incomplete.values()))
            with self.engine.begin() as connection:
                included.store_again(connection, self.chain_id, due, found)
            done += len(incomplete)
        return done

    def _tell(self, found: TransactionDetails) -> None:
        for one in found.missing[:1]:
            more = f" and {len(found.missing) - 1} more" if len(found.missing) > 1 else ""
            log.warning(
                "%s: no node gives the %s 0x%s of block %d%s: %s; the rest goes on, and it is asked for again later",
                *(self.client.name, one.kind, one.hash.hex(), one.number, more, one.reason),
            )

    def _fetch(self, incomplete: Sequence[included.IncompleteBlock]) -> TransactionDetails:
        if not incomplete:
            return TransactionDetails()
        return self.client.transaction_details(
            [DetailsRequest(b.number, b.hash, b.block, dict(b.transactions), dict(b.receipts)) for b in incomplete]
        )
