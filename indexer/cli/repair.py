"""``gapless repair``: fetch anew what an audit found wrong, or a range by hand."""

from typing import Annotated

import typer

from indexer.errors import GaplessError


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
    from indexer.cli.audit import chosen_chains, second_endpoints
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
            client = network.connect(one, settings)
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
