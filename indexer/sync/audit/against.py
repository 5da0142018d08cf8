"""A second opinion: the same blocks read from another endpoint, and compared with the tables."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.intervals import EMPTY, RangeSet, size, union
from indexer.store.integrity.findings import Finding
from indexer.sync.audit import truth
from indexer.sync.audit.scope import Scope
from indexer.sync.rows.log_filters import log_filters


@dataclass(slots=True)
class AgainstCheck:
    """What became of it.

    Attributes:
        findings: the blocks that the other endpoint says otherwise.
        examined: the blocks that were compared.
        logs: the logs that the other endpoint gave for them.
    """

    findings: list[Finding] = field(default_factory=list)
    examined: RangeSet = EMPTY
    logs: int = 0

    @property
    def blocks(self) -> int:
        """How many blocks were compared."""
        return size(self.examined)


def check(
    engine: Engine,
    scope: Scope,
    client: ChainClient,
    blocks: RangeSet,
    *,
    stop: threading.Event,
    on_progress: Callable[[int], None] = lambda _: None,
) -> AgainstCheck:
    """Compares blocks of history with what another endpoint says of them.

    Args:
        engine: the database.
        scope: what is audited.
        client: of the other endpoint.
        blocks: finalized ones.
        stop: ends it early when set.
        on_progress: told how many blocks are done.

    Raises:
        ProviderError: that endpoint does not answer.
        CatalogChangedError: the manifest was applied meanwhile.
    """
    done = AgainstCheck()
    filters = log_filters(scope.sources, scope.children)
    if not filters or not blocks:
        return done
    for chunk in client.scan(blocks, filters, in_flight=2, stop=stop):
        block_range: RangeSet = ((chunk.first, chunk.last),)
        times = {number: time for number, (_, time) in chunk.blocks.items()}
        hashes = {number: block_hash for number, (block_hash, _) in chunk.blocks.items()}
        done.findings += truth.compare_hashes(engine, scope, "against", hashes, "the other endpoint")
        done.findings += truth.compare(engine, scope, "against", block_range, chunk.logs, times)
        done.examined = union(done.examined, block_range)
        done.logs += len(chunk.logs)
        on_progress(done.blocks)
    return done
