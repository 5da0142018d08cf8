"""``include``: the blocks, transactions and receipts of events, fetched right behind the events themselves."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.surroundings import Surroundings, Wanted
from indexer.store import catalog, included
from indexer.store.catalog import CatalogChangedError

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

        Returns:
            How many blocks were asked for.

        Raises:
            ProviderError: the nodes could not be asked; what was written before stays.
        """
        done = 0
        while not self.stop.is_set():
            with self.engine.connect() as connection:
                version = catalog.load_version(connection)
                task = included.next_task(connection, self.chain_id, MOST_BLOCKS)
            if task is None:
                break
            found = self._fetch(task.bearers)
            try:
                with self.engine.begin() as connection:
                    kept = included.store(
                        connection,
                        self.chain_id,
                        task,
                        catalog_version=version,
                        blocks=found.blocks,
                        transactions=found.transactions,
                        receipts=found.receipts,
                    )
            except CatalogChangedError:
                break
            if not kept:
                break
            done += len(task.bearers)
        return done

    def _fetch(self, bearers: Sequence[included.Bearer]) -> Surroundings:
        if not bearers:
            return Surroundings()
        return self.client.surroundings(
            [Wanted(b.number, b.hash, b.block, dict(b.transactions), dict(b.receipts)) for b in bearers]
        )
