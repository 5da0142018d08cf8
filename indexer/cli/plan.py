"""``gapless plan``: what is missing, and what filling it will take."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from indexer.sync.history.estimate import Forecast
    from indexer.sync.history.estimate_credits import CreditCost


# Lines of a table; all are in the JSON.
_MOST_UNREAD = 20
# Requests at once that the estimated time counts on: how many pay shows only on the way.
_AT_ONCE = 4


def plan(
    chain: Annotated[str | None, typer.Option(help="Only this chain.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show the gaps of every event, and the requests, bytes and time that filling them will take.

    So for what include names, and for the past of snapshots; and the blocks that derived tables and programs have left,
    of builds that an apply would begin too. Nothing is changed: a manifest that was not applied yet is
    planned as if it were. The nodes are asked for small samples of the missing ranges.
    """
    from indexer.chain.records.errors import ProviderError
    from indexer.cli import print_error
    from indexer.cli.context import as_if_applied, begin, database, servers
    from indexer.sync.head.finality import FinalBlocks
    from indexer.sync.history.estimate import forecast, load
    from indexer.sync.history.estimate_credits import cost
    from indexer.sync.setup import network

    settings, manifest = begin()
    if chain is not None and chain not in manifest.chains:
        raise GaplessError(f"the manifest has no chain {chain}", hint=f"it has: {', '.join(manifest.chains)}")
    found: list[Forecast] = []
    failed: list[ProviderError] = []
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless plan") as engine:
        for name, one in manifest.chains.items():
            if chain not in (None, name):
                continue
            try:
                with closing(network.connect(one, settings, engine)) as client:
                    client.check()
                    final = FinalBlocks(client, name, one.finality).first(client.head())
                    finalized = 0 if final is None else final.number
                    with as_if_applied(engine, manifest, settings) as (connection, planned):
                        known = load(connection, manifest, one, finalized, planned(one.chain_id))
                    history = network.history(one, settings, client, engine)
                    found.append(
                        forecast(
                            client,
                            name,
                            known,
                            finalized,
                            in_flight=min(settings.backfill_in_flight, _AT_ONCE),
                            history=history,
                        )
                    )
                    if history is not None:
                        history.close()
            except ProviderError as error:
                # One chain's trouble hides no other's plan.
                failed.append(error)
    costs = {one.chain: cost(manifest.chains[one.chain], one.calls) for one in found}
    if as_json:
        typer.echo(json.dumps([_plain(one, costs[one.chain]) for one in found], indent=2))
    else:
        _print(found, costs)
    for one_error in failed:
        print_error(one_error)
    if failed:
        raise typer.Exit(1)


def _plain(one: Forecast, costs: Sequence[CreditCost]) -> dict[str, Any]:
    return {
        "chain": one.chain,
        "finalized": one.finalized,
        "gaps": [
            {
                "event": gap.label,
                "place": gap.place,
                "blocks": gap.blocks,
                "ranges": [{"from": first, "to": last} for first, last in gap.missing],
                "waits_for_factory": gap.waits,
            }
            for gap in one.gaps
        ],
        "fetches": [
            {
                "events": list(fetch.labels),
                "blocks": fetch.estimate.blocks,
                "logs": fetch.estimate.logs,
                "requests": fetch.estimate.requests,
                "check_requests": fetch.estimate.check_requests,
                "bytes": fetch.estimate.bytes,
                "seconds": round(fetch.estimate.seconds, 1),
                "sampled_blocks": fetch.estimate.sampled_blocks,
                "by_source": [
                    {**dataclasses.asdict(other), "seconds": round(other.seconds, 1)} for other in fetch.by_source
                ],
            }
            for fetch in one.fetches
        ],
        "calls": dict(one.calls),
        "credits": [dataclasses.asdict(each) for each in costs],
        "unread": [
            {
                "event": f"{unread.contract}.{unread.event}",
                "from": unread.first,
                "to": unread.last,
                "failures": unread.failures,
                "retry_at": unread.retry_at.isoformat(),
                "reason": unread.reason,
            }
            for unread in one.unread
        ],
        "includes": [
            {
                "contract": include.contract,
                "include": sorted(include.include),
                "blocks": include.blocks,
                "transactions": include.transactions,
                "receipts": include.receipts,
                "questions": include.questions,
                "requests": include.requests,
                "waits_for_factory": include.waits,
            }
            for include in one.includes
        ],
        "snapshots": [
            {
                "snapshot": past.label,
                "points": past.points,
                "calls": past.calls,
                "requests": past.requests,
                "remark": past.remark or None,
            }
            for past in one.pasts
            if past.points
        ],
        "derived": [
            {
                "name": left.name,
                "kind": left.kind,
                "blocks": left.blocks,
                "waiting_for_events": left.waiting,
                "remark": left.remark or None,
            }
            for left in one.backlogs
        ],
    }


def _print(found: Iterable[Forecast], costs: Mapping[str, Sequence[CreditCost]]) -> None:
    from rich.console import Console

    console = Console()
    for one in found:
        if one.unread:
            _print_unread(console, one)
        if one.gaps:
            _print_gaps(console, one)
        elif not one.unread:
            console.print(f"{one.chain}: nothing is missing up to the finalized block {one.finalized:,}.")
        if one.includes:
            _print_includes(console, one)
        if any(past.points for past in one.pasts):
            _print_pasts(console, one)
        if any(one.calls.values()):
            _print_credits(console, one, costs[one.chain])
        if one.backlogs:
            _print_backlogs(console, one)


def _table(title: str, *columns: str, left: int = 1) -> Table:
    """A table whose first columns are words, and the last, where it is called remarks; the others are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for at, column in enumerate(columns):
        is_text = at < left or column == "remarks"
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table


def _print_gaps(console: Console, one: Forecast) -> None:
    from indexer.intervals import format_ranges

    gaps = _table(
        f"{one.chain}: missing up to the finalized block {one.finalized:,}",
        *("event", "where", "blocks", "ranges", "remarks"),
        left=2,
    )
    gaps.columns[3].justify = "left"
    for gap in one.gaps:
        remark = "after its factory's history" if gap.waits else ""
        gaps.add_row(gap.label, gap.place, f"{gap.blocks:,}", format_ranges(gap.missing, most=3), remark)
    console.print(gaps)
    has_sources = any(fetch.by_source for fetch in one.fetches)
    costs = _table(
        f"{one.chain}: what that takes" + (" from nodes alone" if has_sources else "") + ", by samples",
        *("events fetched together", "blocks", "logs", "requests", "bytes", "time"),
    )
    for fetch in one.fetches:
        e = fetch.estimate
        numbers = (f"{e.blocks:,}", f"{e.logs:,}", f"{e.requests:,}", _bytes(e.bytes), _duration(e.seconds))
        costs.add_row(", ".join(fetch.labels), *numbers)
    console.print(costs)
    if has_sources:
        _print_sources(console, one)
    if check := sum(fetch.estimate.check_requests for fetch in one.fetches):
        console.print(f"{check:,} of these requests compare the blooms of headers: check_history of this chain.")
    if any(gap.waits for gap in one.gaps):
        console.print("What waits for its factory is not in these numbers: its addresses are not known yet.")


def _print_sources(console: Console, one: Forecast) -> None:
    table = _table(
        f"{one.chain}: what that takes from the sources of history, by samples",
        *("events fetched together", "source", "blocks", "logs", "requests", "to nodes", "bytes", "time", "remarks"),
        left=2,
    )
    for fetch in one.fetches:
        for s in fetch.by_source:
            lacking = fetch.estimate.blocks - s.blocks
            remark = s.problem or (f"{lacking:,} blocks from nodes" if lacking else "")
            numbers = (f"{s.blocks:,}", f"{s.logs:,}", f"{s.requests:,}", f"{s.node_requests:,}", _bytes(s.bytes))
            table.add_row(", ".join(fetch.labels), s.host, *numbers, _duration(s.seconds), remark)
    console.print(table)


def _print_unread(console: Console, one: Forecast) -> None:
    from indexer.intervals import format_ranges

    table = _table(
        f"{one.chain}: history that nodes did not give; not in the numbers below",
        *("event", "blocks", "asked again at", "tried", "remarks"),
        left=3,
    )
    for unread in one.unread[:_MOST_UNREAD]:
        blocks = format_ranges(((unread.first, unread.last),))
        again = f"{unread.retry_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(f"{unread.contract}.{unread.event}", blocks, again, str(unread.failures), unread.reason)
    console.print(table)
    if len(one.unread) > _MOST_UNREAD:
        console.print(f"and {len(one.unread) - _MOST_UNREAD} more: gapless plan --json")


def _print_includes(console: Console, one: Forecast) -> None:
    table = _table(
        f"{one.chain}: what include adds, by samples; less where contracts share transactions",
        *("contract", "blocks", "transactions", "receipts", "questions", "requests", "remarks"),
    )
    for include in one.includes:
        numbers = (include.blocks, include.transactions, include.receipts, include.questions, include.requests)
        remark = "no children are known yet" if include.waits else ""
        table.add_row(include.contract, *("" if include.waits else f"{number:,}" for number in numbers), remark)
    console.print(table)


def _print_pasts(console: Console, one: Forecast) -> None:
    table = _table(
        f"{one.chain}: the past of snapshots, read a few points at a time",
        *("snapshot", "points", "calls", "requests", "remarks"),
    )
    for past in one.pasts:
        if past.points:
            table.add_row(past.label, f"{past.points:,}", f"{past.calls:,}", f"{past.requests:,}", past.remark)
    console.print(table)


def _print_credits(console: Console, one: Forecast, costs: Sequence[CreditCost]) -> None:
    if all(each.per_day is None and not each.money and not each.provider for each in costs):
        return  # a call is a call
    has_sources = any(fetch.by_source for fetch in one.fetches)
    table = _table(
        f"{one.chain}: what all of this costs" + (" from nodes alone" if has_sources else "") + ", at one of them",
        *("endpoint", "prices", "credits", "money", "a day", "days"),
        left=2,
    )
    for each in costs:
        per_day, days = ("" if number is None else f"{number:,}" for number in (each.per_day, each.days))
        table.add_row(each.host, each.provider, f"{each.credits:,}", each.money, per_day, days)
    console.print(table)


def _print_backlogs(console: Console, one: Forecast) -> None:
    table = _table(
        f"{one.chain}: what derived tables and programs have left, up to the finalized block {one.finalized:,}",
        *("name", "kind", "blocks", "of them waiting for events", "remarks"),
        left=2,
    )
    for left in one.backlogs:
        table.add_row(left.name, left.kind, f"{left.blocks:,}", f"{left.waiting:,}", left.remark)
    console.print(table)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
