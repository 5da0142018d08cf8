"""The tables compared with what nodes say: decoded by the same router, summed up by the same SQL.

* *Against* (:func:`check_against`): the same blocks read from another endpoint, a second opinion.
* *Proof* (:func:`check_proofs`): logs that follow from the hashes of their blocks (:class:`Prover`).
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection, Engine

from indexer.chain.client import ChainClient
from indexer.chain.proof import ProvenBlock, prove
from indexer.chain.records.errors import FatalError, LaggingError, NoEndpointError, ProviderError, is_too_old
from indexer.chain.records.header_hash import NotProvableError, check_header, octets, quantity
from indexer.chain.records.validation import RawLog
from indexer.intervals import EMPTY, RangeSet, intersect, size, subtract, union
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import writing_by
from indexer.store.integrity import checks, digests, findings
from indexer.store.integrity.compare import Expected
from indexer.store.integrity.findings import Finding, Kind
from indexer.sync.audit.scope import AuditScope, ranges_of
from indexer.sync.rows.gaps import log_filters

LINES_SHOWN = 5

IN_FLIGHT = 4

BLOCKS_AT_ONCE = 64


def compare(
    engine: Engine,
    scope: AuditScope,
    kind: Kind,
    blocks: RangeSet,
    logs: Sequence[RawLog],
    times: Mapping[int, int],
    *,
    proven: bool = False,
) -> list[Finding]:
    """Compares what the tables hold of some blocks with what logs from elsewhere say.

    Args:
        engine: the database.
        scope: what is audited.
        kind: how the findings are called.
        blocks: those that ``logs`` are complete for.
        logs: in order.
        times: Unix seconds of the blocks that bore them.
        proven: whether the logs are proven: then the blocks that agree are noted as verified, the others as not.

    Raises:
        CatalogChangedError: the manifest was applied meanwhile.
    """
    rows = scope.rows(logs, times, scope.sources)
    found: list[Finding] = []
    with engine.begin() as connection, writing_by(connection, scope.version):
        digests.lock_rewrites(connection, [source.source_id for source in scope.sources])
        expected = Expected(connection, rows)
        for source in scope.sources:
            ranges = intersect(scope.covered_history(source), blocks)
            differing = expected.differing(source, ranges)
            if differing:
                found += _findings(scope, source, kind, expected, differing)
            if proven:
                _note_proven(connection, source, ranges, ranges_of(differing))
    return found


def compare_hashes(
    engine: Engine, scope: AuditScope, kind: Kind, hashes: Mapping[int, bytes], whose: str
) -> list[Finding]:
    """Compares the stored hashes of blocks with those that another source has."""
    if not hashes:
        return []
    with engine.connect() as connection:
        stored = {n: block_hash for n, (block_hash, _) in checks.blocks(connection, scope.chain_id, hashes).items()}
    return [
        about_chain(
            scope, kind, number, f"block 0x{stored[number].hex()} is stored, {whose} has 0x{hashes[number].hex()}"
        )
        for number in sorted(stored.keys() & hashes.keys())
        if stored[number] != hashes[number]
    ]


def about_chain(scope: AuditScope, kind: Kind, number: int, detail: str) -> Finding:
    """A finding about a block, whatever it bore."""
    return Finding(kind, scope.chain_id, scope.chain, None, None, number, number, 1, detail)


def _findings(
    scope: AuditScope, source: Source, kind: Kind, expected: Expected, differing: Sequence[int]
) -> Iterable[Finding]:
    for first, last in ranges_of(differing):
        lines = expected.describe(source, range(first, last + 1))
        shown = "; ".join(lines[:LINES_SHOWN])
        more = f"; and {len(lines) - LINES_SHOWN} more" if len(lines) > LINES_SHOWN else ""
        yield scope.finding(kind, source, first, last, max(1, len(lines)), shown + more)


def _note_proven(connection: Connection, source: Source, ranges: RangeSet, differing: RangeSet) -> None:
    findings.add_proven(connection, source.source_id, subtract(ranges, differing))
    findings.remove_proven(connection, source.source_id, differing)


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


def check_against(
    engine: Engine,
    scope: AuditScope,
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
        done.findings += compare_hashes(engine, scope, "against", hashes, "the other endpoint")
        done.findings += compare(engine, scope, "against", block_range, chunk.logs, times)
        done.examined = union(done.examined, block_range)
        done.logs += len(chunk.logs)
        on_progress(done.blocks)
    return done


@dataclass(frozen=True, slots=True)
class Unproven:
    """A block that cannot be proven here, which says nothing against it."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class NoBlock:
    """A number that has no block, proven by the link over it."""

    number: int


class Prover:
    """Asks for headers and receipts, and proves them."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client
        self._block_receipts = True
        self._per_transaction = client.settings.log_index_per_transaction

    def read(self, numbers: Iterable[int]) -> Iterator[ProvenBlock | NoBlock | Unproven]:
        """Reads and proves blocks, a few at a time, in the given order.

        Raises:
            ProviderError: no node answers.
        """
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="prove") as pool:
            yield from pool.map(self.read_one, numbers)

    def read_one(self, number: int) -> ProvenBlock | NoBlock | Unproven:
        """Reads and proves a block, or that there is none of its number. Raises ProviderError."""
        try:
            block = self._block(number)
            if block is None:
                return self._absent(number)
            proven = prove(block, self._receipts(number, block), per_transaction=self._per_transaction)
        except NotProvableError as error:
            return Unproven(number, str(error))
        except LaggingError:
            return Unproven(number, "the node does not have the block's receipts")
        except ProviderError as error:
            if not is_too_old(error):
                raise
            return Unproven(number, "no endpoint keeps the block and its receipts any more")
        return proven if proven.number == number else Unproven(number, "the node answered with another block")

    def _block(self, number: int) -> dict[str, Any] | None:
        try:
            return self._client.block(number)
        except ProviderError as error:
            # Some nodes answer an error for a number that has no block.
            if is_too_old(error) or self._client.null_run(number) is None:
                raise
            return None

    def _absent(self, number: int) -> NoBlock | Unproven:
        """Proves by two blocks' own hashes that one is the child of the other, and that the number lies between."""
        run = self._client.null_run(number)
        if run is None:
            return Unproven(number, "the node does not have the block")
        below, above = (self._client.block(header.hash) for header in (run.below, run.above))
        if below is None or above is None:
            return Unproven(number, "the node does not have the blocks around a number without one")
        is_linked = check_header(below) == run.below.hash == octets(above, "parentHash", 32)
        if not is_linked or check_header(above) != run.above.hash:
            return Unproven(number, "the blocks around a number without one are not parent and child")
        between = quantity(below, "number") < number < quantity(above, "number")
        return NoBlock(number) if between else Unproven(number, "the node answered with another block")

    def _receipts(self, number: int, block: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self._block_receipts:
            try:
                return self._client.receipts(number)
            except (NoEndpointError, FatalError) as error:
                if is_too_old(error):
                    raise
                self._block_receipts = False  # no endpoint has the method
        hashes = [one if isinstance(one, str) else one.get("hash") for one in block.get("transactions", ())]
        found = [self._client.raw("eth_getTransactionReceipt", [one], block=number) for one in hashes]
        if not all(isinstance(one, dict) for one in found):
            raise NotProvableError("the node does not have all receipts of the block")
        return found


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


def check_proofs(
    engine: Engine,
    scope: AuditScope,
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
                done.findings += _link_findings(scope, previous, answer)
                done.links += previous.hash == answer.parent_hash
            previous, absent = answer, 0
            proven.append(answer)
        examined = ranges_of(sorted([*without, *(block.number for block in proven)]))
        logs = [log for block in proven for log in block.logs]
        times = {block.number: block.time for block in proven}
        done.findings += compare_hashes(
            engine, scope, "proof", {block.number: block.hash for block in proven}, "the proven one"
        )
        done.findings += _time_findings(engine, scope, proven)
        done.findings += compare(engine, scope, "proof", examined, logs, times, proven=True)
        done.proven += len(proven) + len(without)
        done.logs += len(logs)
        done.examined = union(done.examined, examined)
        on_progress(done.proven + done.unproven.total())
    return done


def _link_findings(scope: AuditScope, parent: ProvenBlock, child: ProvenBlock) -> Iterator[Finding]:
    if child.parent_hash != parent.hash:
        yield about_chain(
            scope,
            "proof",
            child.number,
            f"its proven parent is 0x{child.parent_hash.hex()}, but block {parent.number} is 0x{parent.hash.hex()}",
        )


def _time_findings(engine: Engine, scope: AuditScope, proven: list[ProvenBlock]) -> Iterator[Finding]:
    if not proven:
        return
    with engine.connect() as connection:
        stored = checks.blocks(connection, scope.chain_id, [block.number for block in proven])
    for block in proven:
        _, time = stored.get(block.number, (block.hash, block.time))
        if time != block.time:
            told, true = (datetime.fromtimestamp(t, UTC) for t in (time, block.time))
            yield about_chain(scope, "proof", block.number, f"its stored time is {told}, its proven one {true}")
