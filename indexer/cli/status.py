"""``gapless status``: how the indexing stands."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from indexer.store.status import ChainOverview, EventOverview, Overview


_MOST_UNREAD = 20


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show chains, coverage of every event, endpoints and snapshots, and what is kept though it is no longer wanted."""
    from indexer import log
    from indexer.cli.context import database, servers
    from indexer.settings import load_settings
    from indexer.store import status
    from indexer.store.apply import migrate

    settings = load_settings()
    log.configure("WARNING", settings.log_format)
    with servers(settings, with_redis=False) as given, database(given, application_name="gapless status") as engine:
        migrate.require_current(engine)
        with engine.begin() as connection:
            found = status.load_overview(connection)
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=2, default=str))
    else:
        _print(found)


def _plain(found: Overview) -> dict[str, Any]:
    plain = dataclasses.asdict(found)
    plain["complete"] = found.is_complete
    for event in plain["events"]:
        event["missing"] = [{"from": first, "to": last} for first, last in event["missing"]]
    return plain


def _print(found: Overview) -> None:
    from rich.console import Console
    from rich.table import Table

    from indexer.intervals import format_ranges

    console = Console()
    names = {chain.chain_id: chain.name for chain in found.chains}

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
        for column in columns:
            name, _, right = column.partition(">")
            made.add_column(name, justify="right" if right else "left", overflow="fold")
        return made

    chains = table("Chains", "chain", "state", "head>r", "indexed>r", "finalized>r", "lag>r", "reorgs>r", "remarks")
    for chain in found.chains:
        remarks = [chain.reason or "", "" if chain.bloom_checks else "bloom checks are off", compared(chain)]
        chains.add_row(
            chain.name,
            chain.state,
            _number(chain.head),
            _number(chain.tip),
            _number(chain.finalized),
            "" if chain.lag_seconds is None else f"{chain.lag_seconds:.0f} s",
            f"{chain.reorgs}" + (f" (deepest {chain.deepest_reorg})" if chain.deepest_reorg else ""),
            "; ".join(filter(None, remarks)),
        )
    console.print(chains)
    events = table(
        "Events",
        "contract",
        "event",
        "chain",
        "covered>r",
        "proven>r",
        "missing blocks",
        "rows (about)>r",
        "undecoded>r",
        "foreign shapes>r",
    )
    for event in found.events:
        events.add_row(
            event.contract,
            event.event,
            names.get(event.chain_id, str(event.chain_id)),
            _covered(event),
            _proven(event),
            format_ranges(event.missing, most=3) if event.missing else "",
            f"{event.rows:,}",
            f"{event.undecoded:,}" if event.undecoded else "",
            f"{event.foreign:,}" if event.foreign else "",
        )
    console.print(events)
    for each in [
        *_unread(found, table),
        *_sources(found, table),
        *_endpoints(found, table),
        *_credits(found, table),
        *_derived(found, table),
        *_programs(found, table),
    ]:
        console.print(each)
    series = table("Snapshots", "snapshot", "contract", "every", "points>r", "last block>r")
    for one in found.series:
        series.add_row(one["name"], one["contract"], one["every"], _number(one["points"]), _number(one["last_block"]))
    if found.series:
        console.print(series)
    balances = table("Balances", "contract", "chain", "kind", "true at block>r", "blocks behind>r", "remarks")
    for one in found.balances:
        remarks = [
            one["remark"] or "",
            "" if one["rebuilt_to"] is None else f"built anew up to block {one['rebuilt_to']:,}",
            f"{one['marked_tokens']} tokens marked by audits" if one["marked_tokens"] else "",
        ]
        balances.add_row(
            one["contract"],
            one["chain"],
            one["kind"],
            _number(one["true_at_block"]),
            _number(one["blocks_behind"]),
            "; ".join(filter(None, remarks)),
        )
    if found.balances:
        console.print(balances)
    amiss = table("Indexes to come or to go", "index", "state")
    for one in found.indexes:
        done = "" if one["percent"] is None else f" ({one['percent']:.0f} %)"
        amiss.add_row(one["index"], one["state"] + done)
    if found.indexes:
        console.print(amiss)
    retired = table("No longer in the manifest", "name", "kind", "rows (about)>r")
    for one in found.retired:
        retired.add_row(one["name"], one["kind"], _number(one["rows"]))
    if found.retired:
        console.print(retired)
        console.print("Kept until: gapless drop NAME")


def _unread(found: Overview, table: Callable[..., Table]) -> Iterator[Table]:
    from indexer.intervals import format_ranges

    made = table("History that cannot be read", "contract", "event", "chain", "blocks", "tried>r", "again at", "reason")
    for one in found.unread[:_MOST_UNREAD]:
        blocks = format_ranges(((one.first, one.last),))
        again = f"{one.retry_at:%Y-%m-%d %H:%M:%S}"
        made.add_row(one.contract, one.event, one.chain, blocks, str(one.failures), again, one.reason)
    if found.unread:
        yield made
    made = table("What include asks for and no node gives", "chain", "what", "count>r", "blocks", "again at", "reason")
    for each in found.missing_details:
        blocks = format_ranges(((each.first, each.last),))
        again = f"{each.retry_at:%Y-%m-%d %H:%M:%S}"
        made.add_row(each.chain, each.kind, f"{each.count:,}", blocks, again, each.reason)
    if found.missing_details:
        yield made


def _derived(found: Overview, table: Callable[..., Table]) -> Iterator[Table]:
    """How far what follows from events is counted."""
    made = table("Derived tables", "name", "kind", "build>r", "chain", "counted>r", "remarks")
    for one in found.derived:
        remarks = [
            "" if one["served"] else "not served yet",
            one["remark"] or "",
            "" if one["problem"] is None else f"stopped at block {one['problem_block']}: {one['problem']}",
        ]
        share = _share(one["wanted_blocks"] - one["missing_blocks"], one["wanted_blocks"])
        made.add_row(
            *(one["name"], one["kind"], str(one["generation"]), one["chain"], share), "; ".join(filter(None, remarks))
        )
    if found.derived:
        yield made


def _programs(found: Overview, table: Callable[..., Table]) -> Iterator[Table]:
    """How far programs have come, and why those that stand still do."""
    made = table("Programs", "program", "chain", "tables", "true at block>r", "blocks behind>r", "remarks")
    for one in found.programs:
        remarks = [
            f"stale: {one['problem']}" if one["stale"] else "",
            "" if one["rebuilt_to"] is None else f"built anew up to block {one['rebuilt_to']:,}",
        ]
        made.add_row(
            *(one["name"], one["chain"], ", ".join(one["tables"])),
            *(_number(one["block_number"]), _number(one["blocks_behind"]), "; ".join(filter(None, remarks))),
        )
    if found.programs:
        yield made


def _sources(found: Overview, table: Callable[..., Table]) -> Iterator[Table]:
    """What portals gave of history, and what nodes had to give in their place."""
    made = table(
        "Sources of history",
        "chain",
        "source",
        "blocks>r",
        "compared>r",
        "from nodes instead>r",
        "wrong>r",
        "last problem",
    )
    for one in found.history_sources:
        numbers = (one.blocks, one.compared, one.fallback_blocks, one.contradictions)
        made.add_row(one.chain, one.host, *(f"{number:,}" for number in numbers), one.last_problem or "")
    if found.history_sources:
        yield made


def _endpoints(found: Overview, table: Callable[..., Table]) -> list[Table]:
    """How the nodes do, and what they were asked."""
    endpoints = table("Endpoints", "chain", "endpoint", "state", "head>r", "requests>r", "errors>r", "remarks")
    asked = table(
        "Questions since the indexer started", "chain", "endpoint", "method", "asked>r", "failed>r", "bytes>r"
    )
    for endpoint in found.endpoints:
        details = endpoint["details"]
        endpoints.add_row(
            endpoint["chain"],
            endpoint["host"],
            endpoint["state"],
            _number(endpoint["head"]),
            _number(details.get("http_requests")),
            "" if "pushes" in details else f"{100 * details.get('error_rate', 0):.0f} %",
            "; ".join(filter(None, [details.get("reason") or "", *learned(details)])),
        )
        for method, count in sorted(details.get("counts", {}).items()):
            numbers = (_number(count[what]) for what in ("requests", "errors", "bytes"))
            asked.add_row(endpoint["chain"], endpoint["host"], method, *numbers)
    return [each for each in (endpoints, asked) if each.row_count]


def _credits(found: Overview, table: Callable[..., Table]) -> Iterator[Table]:
    """What endpoints have cost today."""
    made = table(
        "Credits since 00:00 UTC", "chain", "endpoint", "used>r", "by the head>r", "a day>r", "money>r", "remarks"
    )
    for one in found.credits:
        numbers = (_number(one[what]) for what in ("used", "head", "budget"))
        made.add_row(one["chain"], one["host"], *numbers, one["money"] or "", one["remark"] or "")
    if found.credits:
        yield made


def compared(chain: ChainOverview) -> str:
    """What comparing history with blooms could not decide; never rounded down to nothing."""
    undecided, of = chain.history_undecided, max(chain.history_compared, chain.history_undecided)
    if not undecided:
        return ""
    share = max(100 * undecided / of, 0.01)
    return f"check_history: {share:.2f} % of {of:,} blocks are undecided"


def learned(details: dict[str, Any]) -> Iterator[str]:
    """What was found out about an endpoint, for people."""
    if (pushes := details.get("pushes")) is not None:
        yield {"confirmed": "pushes new heads", "subscribed": "pushes new heads, not confirmed yet"}.get(
            pushes, "is subscribed to"
        )
        if details["renewals"]:
            why = f", last since {details['last_reason']}" if details["last_reason"] and not details["reason"] else ""
            yield f"subscribed to again {details['renewals']:,} times{why}"
    if details.get("max_blocks") is not None:
        yield f"at most {details['max_blocks']:,} blocks of logs"
    if details.get("max_batch") == 1:
        yield "no batches"
    if details.get("pace") is not None:
        yield f"{details['pace']:.1f} calls a second"
    for method, block in sorted((details.get("refuses") or {}).items()):
        yield f"no {method}" + ("" if block is None else f" up to block {block:,}")


def _covered(event: EventOverview) -> str:
    """Never rounded up to "all", and no "all" of nothing: what is not complete does not say so."""
    return _share(event.covered, event.wanted)


def _share(covered: int, wanted: int) -> str:
    if not wanted:
        return "nothing yet"
    return f"{min(100 * covered / wanted, 99.99):.2f} %" if covered < wanted else "100 %"


def _proven(event: EventOverview) -> str:
    """The share of what is covered that receipts prove; never rounded up to all."""
    return _share(event.proven, event.covered) if event.proven else ""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
