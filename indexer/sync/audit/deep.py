"""Proof: the tables compared with logs that follow from the hashes of their blocks."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.proof import ProvenBlock
from indexer.intervals import EMPTY, RangeSet, union
from indexer.store.integrity import checks
from indexer.store.integrity.findings import Finding
from indexer.sync.audit import truth
from indexer.sync.audit.proving import NoBlock, Prover, Unproven
from indexer.sync.audit.scope import Scope, ranges_of

BLOCKS_AT_ONCE = 64


@dataclass(slots=True)
class DeepCheck:
    """What became of it.

    Attributes:
        findings: proven blocks that the tables, or the stored hashes, say otherwise.
        proven: blocks that were proven, and numbers that were proven to have none.
        logs: all logs in them, wanted or not.
        links: how many of them were proven to be the child of the proven block before.
        unproven: reasons, each with how many blocks.
        examples: for each reason one block.
        examined: the blocks that were proven.
    """

    findings: list[Finding] = field(default_factory=list)
    proven: int = 0
    logs: int = 0
    links: int = 0
    unproven: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)
    examined: RangeSet = EMPTY


def check(
    engine: Engine,
    scope: Scope,
    client: ChainClient,
    blocks: RangeSet,
    *,
    stop: threading.Event,
    on_progress: Callable[[int], None] = lambda _: None,
) -> DeepCheck:
    """Proves blocks of history, compares them with the tables, and notes those that agree as verified.

    Args:
        engine: the database.
        scope: what is audited.
        client: the chain's nodes.
        blocks: finalized ones.
        stop: ends it early when set; what was noted stays noted.
        on_progress: told how many blocks are done.

    Raises:
        ProviderError: no node answers.
        CatalogChangedError: the manifest was applied meanwhile.
    """
    done = DeepCheck()
    prover = Prover(client)
    numbers = (number for first, last in blocks for number in range(first, last + 1))
    previous: ProvenBlock | None = None
    absent = 0
    while not stop.is_set() and (batch := list(islice(numbers, BLOCKS_AT_ONCE))):
        proven: list[ProvenBlock] = []
        without: list[int] = []
        for answer in prover.read(batch):
            if isinstance(answer, Unproven):
                done.unproven[answer.reason] += 1
                done.examples.setdefault(answer.reason, answer.number)
                continue
            if isinstance(answer, NoBlock):
                without.append(answer.number)
                absent += 1
                continue
            if previous is not None and previous.number + absent + 1 == answer.number:
                done.findings += _link(scope, previous, answer)
                done.links += previous.hash == answer.parent_hash
            previous, absent = answer, 0
            proven.append(answer)
        examined = ranges_of(sorted([*without, *(block.number for block in proven)]))
        logs = [log for block in proven for log in block.logs]
        times = {block.number: block.time for block in proven}
        done.findings += truth.compare_hashes(
            engine, scope, "proof", {block.number: block.hash for block in proven}, "the proven one"
        )
        done.findings += _times(engine, scope, proven)
        done.findings += truth.compare(engine, scope, "proof", examined, logs, times, proven=True)
        done.proven += len(proven) + len(without)
        done.logs += len(logs)
        done.examined = union(done.examined, examined)
        on_progress(done.proven + done.unproven.total())
    return done


def _link(scope: Scope, parent: ProvenBlock, child: ProvenBlock) -> Iterator[Finding]:
    if child.parent_hash != parent.hash:
        yield truth.about_chain(
            scope,
            "proof",
            child.number,
            f"its proven parent is 0x{child.parent_hash.hex()}, but block {parent.number} is 0x{parent.hash.hex()}",
        )


def _times(engine: Engine, scope: Scope, proven: list[ProvenBlock]) -> Iterator[Finding]:
    if not proven:
        return
    with engine.connect() as connection:
        stored = checks.blocks(connection, scope.chain_id, [block.number for block in proven])
    for block in proven:
        _, time = stored.get(block.number, (block.hash, block.time))
        if time != block.time:
            told, true = (datetime.fromtimestamp(t, UTC) for t in (time, block.time))
            yield truth.about_chain(scope, "proof", block.number, f"its stored time is {told}, its proven one {true}")
