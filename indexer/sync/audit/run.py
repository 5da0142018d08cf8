"""One audit: which checks, of what, what they found; and its report as JSON."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.chain.client import ChainClient
from indexer.intervals import EMPTY, BlockRange, RangeSet, intersect, normalise, size, subtract, union
from indexer.store.integrity import findings
from indexer.store.integrity.findings import Finding, Kind
from indexer.sync.audit import comparison, holdings, table_checks
from indexer.sync.audit.comparison import AgainstCheck, DeepCheck
from indexer.sync.audit.holdings import HoldersCheck
from indexer.sync.audit.program_rows import CheckPrograms, ProgramsCheck
from indexer.sync.audit.scope import AuditScope, load_scope, ranges_of
from indexer.sync.audit.table_checks import DigestCheck

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many blocks are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to audit.

    Attributes:
        contract: only this contract; None: all.
        within: only these blocks; None: all.
        sample: only so many blocks for what asks a node; None: all of them.
        deep: whether blocks are proven.
        again: whether blocks are proven that were proven before.
        random: chooses the sample.
    """

    contract: str | None = None
    within: BlockRange | None = None
    sample: int | None = None
    deep: bool = False
    again: bool = False
    random: Random = field(default_factory=Random)


@dataclass(slots=True)
class Report:
    """What an audit of a chain found.

    Attributes:
        scope: what was audited.
        findings: what is wrong, in the order of the checks.
        digest: the digests that were compared.
        against: the comparison with a second endpoint, if one was asked for.
        deep: the proofs, if they were asked for.
        proven_before: blocks that were not proven anew.
        holders: balances that were compared with what tokens say, with the proofs.
        programs: tables of programs that were compared with a replay, if that was asked for.
        unproven: blocks of which only an endpoint's word is known: nothing here shows that it left no log out.
        unsure: contracts that may be older than they are indexed from, each in a sentence.
    """

    scope: AuditScope
    findings: Sequence[Finding] = ()
    digest: DigestCheck = field(default_factory=DigestCheck)
    against: AgainstCheck | None = None
    deep: DeepCheck | None = None
    proven_before: int = 0
    holders: HoldersCheck | None = None
    programs: ProgramsCheck | None = None
    unproven: int = 0
    unsure: Sequence[str] = ()


def audit(
    engine: Engine,
    chain_id: int,
    chain: str,
    request: Request,
    *,
    client: ChainClient | None = None,
    other: ChainClient | None = None,
    programs: CheckPrograms | None = None,
    stop: threading.Event | None = None,
    on_progress: Progress = lambda *_: None,
) -> Report:
    """Audits a chain, and keeps the findings for ``gapless repair``: each kind as soon as it has been looked for.

    Args:
        engine: the database.
        chain_id: the chain.
        chain: its name.
        request: what to audit.
        client: the chain's nodes; needed for proofs.
        other: a second endpoint to compare with; None: no comparison.
        programs: replays programs; None: they are not looked at.
        stop: ends early when set; what was not looked at is no part of the report.
        on_progress: told how far it is.

    Raises:
        ProviderError: a node is needed and none answers.
        CatalogChangedError: the manifest was applied meanwhile; run it again.
    """
    stop = stop or threading.Event()

    def note(found: Sequence[Finding], examined: Mapping[Kind, RangeSet]) -> None:
        with engine.begin() as connection:
            event_ids = [event.event_id for event in scope.events]
            noted = findings.replace_open(connection, chain_id, examined, event_ids, found)
            report.findings = [*report.findings, *noted]

    found: list[Finding] = []
    with _snapshot(engine) as connection:
        scope = load_scope(connection, chain_id, chain, request.contract, request.within)
        report = Report(scope)
        report.unsure = list(_unsure(connection, scope))
        for kind, check in table_checks.CHECKS:
            on_progress(kind, 0, 0)
            found += check(connection, scope)
        on_progress("digest", 0, 0)
        report.digest = table_checks.check_digests(connection, scope)
        found += report.digest.findings
    examined: dict[Kind, RangeSet] = {kind: (table_checks.looked_at(scope),) for kind, _ in table_checks.CHECKS}
    examined["digest"] = normalise(report.digest.examined)
    # Before any node is asked: one that fails must not take along what the tables alone have told.
    note(found, examined)
    if programs is not None:
        on_progress("program", 0, 0)
        report.programs = programs(scope)
        if not stop.is_set():
            note(report.programs.findings, {"program": (table_checks.looked_at(scope),)})
    if other is not None or request.deep:
        blocks = _chosen(engine, scope, request)
    if other is not None:
        total = size(blocks)
        report.against = comparison.check_against(
            engine, scope, other, blocks, stop=stop, on_progress=lambda n: on_progress("against", n, total)
        )
        note(report.against.findings, {"against": report.against.examined})
    if request.deep:
        assert client is not None, "proofs need a client"
        todo = blocks if request.again else subtract(blocks, scope.proven())
        report.proven_before = size(blocks) - size(todo)
        report.deep = comparison.check_proofs(
            engine, scope, client, todo, stop=stop, on_progress=lambda n: on_progress("proof", n, size(todo))
        )
        note(report.deep.findings, {"proof": report.deep.examined})
        if not stop.is_set():
            on_progress("balances", 0, 0)
            report.holders = holdings.ask(engine, scope, client, most=request.sample, random=request.random)
    covered = union(*scope.looked_at().values())
    report.unproven = size(subtract(covered, union(scope.proven(), report.deep.examined if report.deep else EMPTY)))
    return report


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one moment, so that rows and coverage belong together."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        yield connection
        connection.rollback()


def _unsure(connection: Connection, scope: AuditScope) -> Iterator[str]:
    """Contracts with ``start_block = "auto"`` of which it is not known whether they emitted logs before that block."""
    rows = connection.execute(
        sa.text("SELECT address, block_number, checked_from FROM gapless.deployment_blocks WHERE chain_id = :chain_id"),
        {"chain_id": scope.chain_id},
    )
    told = {bytes(row.address): row for row in rows if row.checked_from != 0}
    starts = {(s.event.contract, address): s.start_block for s in scope.sources for address in s.place.addresses}
    for (contract, address), start in starts.items():
        row = told.get(bytes.fromhex(address[2:]))
        if row is not None and row.block_number == start:
            since = row.block_number if row.checked_from is None else row.checked_from
            yield (
                f"{contract}: {address} is indexed from block {row.block_number:,}, where nodes first have code of it; "
                f"whether it spoke before block {since:,} was not asked"
            )


def _chosen(engine: Engine, scope: AuditScope, request: Request) -> RangeSet:
    """The covered blocks of history that nodes are asked about: all, or a sample, half of it blocks that bore logs."""
    blocks = scope.history_of_all()
    if request.sample is None or request.sample >= size(blocks):
        return blocks
    if not blocks:
        return EMPTY
    chosen: set[int] = set()
    with engine.connect() as connection:
        for number in _random_blocks(blocks, request.sample // 2, request.random):
            bearing = connection.execute(
                sa.text("""
                    SELECT number FROM gapless.blocks WHERE chain_id = :chain_id AND number >= :number
                    ORDER BY number LIMIT 1
                """),
                {"chain_id": scope.chain_id, "number": number},
            ).scalar_one_or_none()
            if bearing is not None and intersect(blocks, ((bearing, bearing),)):
                chosen.add(bearing)
    while len(chosen) < request.sample:
        chosen.update(_random_blocks(blocks, request.sample - len(chosen), request.random))
    return ranges_of(chosen)


def _random_blocks(blocks: RangeSet, count: int, random: Random) -> list[int]:
    """So many of the blocks, each as likely as any other."""
    places = random.sample(range(size(blocks)), count)
    found: list[int] = []
    for place in places:
        left = place
        for first, last in blocks:
            if left <= last - first:
                found.append(first + left)
                break
            left -= last - first + 1
    return found


def report_as_json(chain: str, report: Report, most_findings: int | None = None) -> dict[str, Any]:
    """A report.

    Args:
        chain: the chain's name.
        report: of it.
        most_findings: show no more of them; None: all.
    """
    deep, other, digest, holders, programs = (
        report.deep, report.against, report.digest, report.holders, report.programs,
    )  # fmt: skip
    return {
        "chain": chain,
        "blocks": report.scope.within,
        "looked_at": {contract: list(ranges) for contract, ranges in report.scope.looked_at().items()},
        "blocks_not_proven": report.unproven,
        "unsure": list(report.unsure),
        "findings": _findings_as_json(report.findings[:most_findings]),
        "digest": {"rows": digest.rows, "blocks_without": digest.without, "incomparable": digest.incomparable},
        "against": None if other is None else {"blocks": other.blocks, "logs": other.logs},
        "balances": None
        if holders is None
        else {
            "compared": holders.compared,
            "marked": [
                {"contract": mark.contract, "token": f"0x{mark.token.hex()}", "detail": mark.detail}
                for mark in holders.marked
            ],
            "not_compared": holders.unasked,
        },
        "programs": None
        if programs is None
        else {"events": programs.events, "rows": programs.rows, "told": dict(programs.told)},
        "proof": None
        if deep is None
        else {
            "blocks": deep.proven,
            "logs": deep.logs,
            "links": deep.links,
            "before": report.proven_before,
            "not_provable": dict(deep.unproven),
        },
    }


def _findings_as_json(found: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "id": finding.finding_id,
            "kind": finding.kind,
            "subject": finding.label,
            "first_block": finding.first,
            "last_block": finding.last,
            "count": finding.count,
            "detail": finding.detail,
        }
        for finding in found
    ]
