"""``gapless audit``, ``repair``, ``undecoded``, ``redecode``: is what is covered complete and true, and the mends."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from indexer.chain.client import ChainClient
    from indexer.manifest.model import Chain, Manifest
    from indexer.store.integrity.findings import Finding
    from indexer.sync.audit import Report


FINDINGS_SHOWN = 50
CONTRACTS_SHOWN = 20


def audit(
    contract: Annotated[str | None, typer.Argument(help="Only this contract; left out: all.")] = None,
    first: Annotated[int | None, typer.Option("--from", min=0, help="First block.")] = None,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last block.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Ask nodes about so many blocks only, chosen at random.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="URL", help="Compare with what this endpoint says.", envvar="AUDIT_RPC_URL")
    ] = None,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Prove the logs against the blocks' receipts roots.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Prove also what was proven before.")] = False,
    chain: Annotated[str | None, typer.Option(help="Only this chain; left out: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check coverage, rows and digests; with --against or --deep, compare them with a second endpoint or a proof.

    Findings are listed and kept for gapless repair; the exit status is 1 where there are any, else 0.
    """
    from indexer.cli.context import begin, database, require_applied, servers, until_signal
    from indexer.service.program_audit import ProgramAudit
    from indexer.service.program_tasks import program_tasks
    from indexer.sync import audit as auditing
    from indexer.sync.audit import table_checks
    from indexer.sync.audit.run import report_as_json
    from indexer.sync.setup import network

    settings, manifest = begin()
    chains = chosen_chains(manifest, contract, chain)
    within = None if first is None and last is None else (first or 0, 2**62 if last is None else last)
    if within and within[0] > within[1]:
        raise GaplessError(f"--from {first} lies after --to {last}")
    request = auditing.Request(contract, within, sample, deep, again)
    reports: list[tuple[Chain, Report]] = []
    with (
        until_signal() as stop,
        servers(settings, with_redis=False) as given,
        database(given, application_name="gapless audit") as engine,
    ):
        require_applied(engine, manifest, settings)
        others = second_endpoints(chains, against)
        for one in chains:
            client = network.connect(one, settings, engine) if deep else None
            if client is not None:
                client.check()
            report = auditing.audit(
                engine, one.chain_id, one.name, request, client=client, other=others.get(one.name),
                programs=ProgramAudit(engine, program_tasks(manifest), stop), stop=stop,
            )  # fmt: skip
            table_checks.take_digests(engine, one.chain_id)
            reports.append((one, report))
            if client is not None:
                client.close()
    if as_json:
        typer.echo(json.dumps([report_as_json(one.name, report) for one, report in reports], indent=2))
    else:
        for one, report in reports:
            _print(one, report)
    if any(report.findings for _, report in reports):
        raise typer.Exit(1)


def chosen_chains(manifest: Manifest, contract: str | None, chain: str | None) -> list[Chain]:
    """The chains of a contract (or all), narrowed to one.

    Raises:
        GaplessError: there is no such contract, or it is not on that chain.
    """
    if contract is not None and contract not in manifest.contracts:
        known = ", ".join(manifest.contracts)
        raise GaplessError(f"the manifest has no contract {contract}", hint=f"it has: {known}")
    names = list(manifest.chains)
    if contract is not None:
        names = [deployment.chain for deployment in manifest.contracts[contract].deployments]
    if chain is not None and chain not in names:
        raise GaplessError(f"there is nothing to look at on chain {chain}", hint=f"choose one of: {', '.join(names)}")
    return [manifest.chains[name] for name in names if chain in (None, name)]


def second_endpoints(chains: list[Chain], url: str | None) -> dict[str, ChainClient]:
    """A client of the second endpoint, by the name of the one chain that it serves.

    Raises:
        ProviderError: it does not answer, or serves none of the chains.
    """
    from indexer.chain.client import ChainClient
    from indexer.chain.records.errors import ChainMismatchError, NoEndpointError
    from indexer.chain.rpc.config import EndpointConfig

    if url is None:
        return {}
    mismatch: ChainMismatchError | None = None
    for chain in chains:
        client = ChainClient(chain.name, chain.chain_id, [EndpointConfig(url)])
        try:
            client.check()
        except ChainMismatchError as error:
            mismatch = error
        except NoEndpointError as error:
            hint = "check the second endpoint's URL (--against, AUDIT_RPC_URL), and that a node answers there"
            raise NoEndpointError(str(error), hint=hint) from error
        else:
            return {chain.name: client}
    assert mismatch is not None
    raise mismatch


def _print(chain: Chain, report: Report) -> None:
    scope, digest = report.scope, report.digest
    first, last = scope.within
    blocks = f"blocks {first:,} to {last:,}" if first <= last else f"no block from {first:,} on is indexed yet"
    typer.echo(f"{chain.name}: {len(scope.events)} events, {len(scope.sources)} sources, {blocks}")
    _print_where(report)
    line = f"  digests: {digest.rows:,} rows unchanged since they were digested"
    if digest.without:
        line += f"; {digest.without:,} blocks had no digest yet"
    if digest.incomparable:
        line += f"; {digest.incomparable} digests of another version of Postgres cannot be compared"
    typer.echo(line)
    if report.against is not None:
        typer.echo(f"  second endpoint: {report.against.blocks:,} blocks, {report.against.logs:,} logs compared")
    if report.deep is not None:
        deep = report.deep
        typer.echo(
            f"  proof: {deep.proven:,} blocks with {deep.logs:,} logs proven, {deep.links:,} linked to the one before"
            + (f"; {report.proven_before:,} were proven before" if report.proven_before else "")
        )
        for reason, count in deep.unproven.most_common():
            typer.echo(f"  not provable here: {count:,} blocks (block {deep.examples[reason]:,}: {reason})")
    if report.holders is not None and (report.holders.compared or report.holders.unasked):
        typer.echo(f"  balances: {report.holders.compared:,} compared with what the tokens say")
        for mark in report.holders.marked:
            typer.echo(f"  marked: {mark.contract}, token 0x{mark.token.hex()}: {mark.detail}")
        for contract, reason in report.holders.unasked.items():
            typer.echo(f"  not compared: the balances of {contract}: {reason}")
    _print_programs(report)
    for finding in report.findings[:FINDINGS_SHOWN]:
        typer.echo(f"  {finding.kind:9} {finding.label} {_blocks(finding)}: {finding.detail}")
    if len(report.findings) > FINDINGS_SHOWN:
        typer.echo(f"  and {len(report.findings) - FINDINGS_SHOWN} more (see the table gapless.findings)")
    if report.findings:
        typer.echo(f"  {len(report.findings)} findings. To repair them: gapless repair")
    else:
        typer.echo("  nothing is wrong")


def _print_programs(report: Report) -> None:
    if report.programs is not None and (report.programs.rows or report.programs.told):
        events = f"a replay of {report.programs.events:,} events"
        typer.echo(f"  programs: {report.programs.rows:,} rows compared with {events}")
        for program, told in report.programs.told.items():
            typer.echo(f"  program {program}: {told}")


def _print_where(report: Report) -> None:
    """Which blocks the report is about, and what it does not show of them."""
    from indexer.intervals import format_ranges

    looked_at = report.scope.looked_at()
    for contract in list(looked_at)[:CONTRACTS_SHOWN]:
        typer.echo(f"  {contract}: looked at blocks {format_ranges(looked_at[contract])}")
    if len(looked_at) > CONTRACTS_SHOWN:
        typer.echo(f"  and at {len(looked_at) - CONTRACTS_SHOWN} more contracts (--json names all)")
    for sentence in report.unsure:
        typer.echo(f"  not sure: {sentence}")
    if report.unproven:
        typer.echo(
            f"  not proven: {report.unproven:,} blocks are as endpoints told them; that no log of them was left out, "
            "only --deep shows"
        )


def _blocks(finding: Finding) -> str:
    if finding.first == finding.last:
        return f"block {finding.first}"
    return f"blocks {finding.first}-{finding.last}"


def repair(
    contract: Annotated[str | None, typer.Argument(help="Only this contract; left out: all.")] = None,
    first: Annotated[int | None, typer.Option("--from", min=0, help="First block of a range, by hand.")] = None,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last block of a range, by hand.")] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A second endpoint, for chains where nothing can be proven.", envvar="AUDIT_RPC_URL"
        ),
    ] = None,
    chain: Annotated[str | None, typer.Option(help="Only this chain; left out: all.")] = None,
) -> None:
    """Fetch anew exactly what gapless audit found, or the range given by --from and --to, and replace what differs.

    Exits with status 1 where something could not be repaired, and says why.
    """
    from indexer.cli.context import begin, database, require_applied, servers, until_signal
    from indexer.sync.audit.repair import Repair
    from indexer.sync.setup import network

    settings, manifest = begin()
    chains = chosen_chains(manifest, contract, chain)
    by_hand = first is not None or last is not None
    if first is not None and last is not None and first > last:
        raise GaplessError(f"--from {first} lies after --to {last}")
    if by_hand and (contract is None or first is None or last is None):
        raise GaplessError(
            "a range by hand needs a contract, --from and --to",
            hint="such as: gapless repair usdc --from 19000000 --to 19000100",
        )
    left = False
    with (
        until_signal() as stop,
        servers(settings, with_redis=False) as given,
        database(given, application_name="gapless repair") as engine,
    ):
        require_applied(engine, manifest, settings)
        others = second_endpoints(chains, against)
        for one in chains:
            client = network.connect(one, settings, engine)
            client.check()
            work = Repair(engine, client, one.chain_id, one.name, others.get(one.name), stop)
            if first is not None and last is not None and contract is not None:
                done = work.range(contract, first, last)
            else:
                done = work.findings(contract)
            client.close()
            typer.echo(
                f"{one.name}: {done.checked:,} blocks fetched anew, rows of {done.blocks:,} blocks replaced, "
                f"{done.removed:,} orphan rows deleted, {done.filled:,} blocks of gaps filled; "
                f"{len(done.repaired)} findings settled"
            )
            for line in done.left:
                typer.echo(f"  left: {line}", err=True)
            left = left or bool(done.left)
    if left:
        raise typer.Exit(1)


def undecoded(
    contract: Annotated[str | None, typer.Argument(help="Only this contract; left out: all.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the logs that could not be decoded, by reason.

    They are kept raw in gapless.undecoded_logs, but for those that another declaration's indexed arguments explain:
    these are counted in gapless.foreign_shapes.
    """
    from indexer.cli.context import begin, database, require_contract, servers
    from indexer.store.apply import migrate
    from indexer.store.rows.undecoded_logs import reasons

    settings, _ = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless undecoded") as engine:
        migrate.require_current(engine)
        with engine.connect() as connection:
            require_contract(connection, contract)
            found = reasons(connection, contract)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    for one in found:
        kept = " (the row is there, with a text altered)" if one.has_row else " (only counted)" if one.counted else ""
        typer.echo(
            f"{one.logs:>8,}  {one.chain} {one.contract}.{one.event}, blocks {one.first}-{one.last}: {one.reason}{kept}"
        )
    if not found:
        typer.echo("every log was decoded")


def redecode(
    contract: Annotated[str | None, typer.Argument(help="Only this contract; left out: all.")] = None,
) -> None:
    """Decode the undecoded logs again, and move those that succeed into their tables.

    After an ABI was mended, gapless migrate (or a start of gapless run) makes it known first.
    """
    from indexer.cli.context import begin, database, require_contract, servers
    from indexer.store.apply import migrate
    from indexer.sync.audit.redecode import redecode as retry

    settings, _ = begin()
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless redecode") as engine:
        migrate.require_current(engine)
        with engine.connect() as connection:
            require_contract(connection, contract)
        done = retry(engine, contract)
    for label in sorted(done.rows.keys() | done.still.keys() | done.counted.keys()):
        counted = f"{done.counted[label]:,} counted as foreign shapes, " if done.counted[label] else ""
        typer.echo(f"{label}: {done.rows[label]:,} rows now, {counted}{done.still[label]:,} still undecoded")
    if done.waiting:
        typer.echo(f"{done.waiting:,} logs are not finalized yet; try again later")
    for label in sorted(done.taken):
        typer.echo(f"{label}: its factory announces more now; its history is filled in anew by gapless run or backfill")
    if not (done.rows or done.still or done.counted or done.waiting):
        typer.echo("there is nothing to decode")
