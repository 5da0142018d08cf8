"""The sections about what runs: endpoints, snapshots, jobs, reorganisations."""

from collections.abc import Mapping
from typing import Any

import orjson

from api.page.facts import Facts
from api.page.html import Child, Html, h, said
from api.page.parts import number, section, state, table, time, volume
from api.sql.statement import identifier
from indexer.redact import redact


def endpoints(facts: Facts) -> Html:
    """The nodes: how they are, and what was asked of them, by method."""
    rows: list[list[Child]] = []
    for chain in facts.chains:
        for position, one in enumerate(chain["endpoints"]):
            traffic = facts.traffic.get(f"{chain['chain_id']}/{position}") or {}
            rows.append(
                [
                    said(chain["name"]),
                    said(redact(one["host"])),
                    h("span", state(one["state"]), _reason(traffic.get("reason"))),
                    number(one["head_block"]),
                    _asked(traffic.get("counts") or {}),
                    time(one["updated_at"]),
                ]
            )
    sql = "SELECT chain_id, host, state, head_number, details, updated_at FROM gapless.endpoints ORDER BY 1, position;"
    heads = ("chain", "endpoint", "state", "head", "asked", "seen")
    return section("Endpoints", table(heads, rows) if rows else h("p", "None was asked yet."), sql=sql)


def _reason(reason: Any) -> list[Html] | None:
    return [h("div", said(redact(str(reason)), 120), class_="muted small")] if reason else None


def _asked(counts: Mapping[str, Mapping[str, int]]) -> Html:
    """Requests and bytes since the indexer was started."""
    if not counts:
        return h("span", "nothing yet")
    sums = {part: sum(int(of.get(part) or 0) for of in counts.values()) for part in ("requests", "bytes", "errors")}
    methods = sorted(counts.items(), key=lambda item: -int(item[1].get("requests") or 0))
    return h(
        "details",
        h("summary", f"{sums['requests']:,} requests, {volume(sums['bytes'])}"),
        h("ul", [h("li", said(method), " ", _count(of)) for method, of in methods], class_="methods"),
        class_="asked",
    )


def _count(of: Mapping[str, int]) -> str:
    errors = int(of.get("errors") or 0)
    shown = f"{int(of.get('requests') or 0):,}, {volume(int(of.get('bytes') or 0))}"
    return shown + (f", {errors:,} refused" if errors else "")


def snapshots(facts: Facts) -> Html:
    """The series of multicall reads, and how far they are."""
    rows: list[list[Child]] = []
    for one in facts.series:
        path = f"/v1/contracts/{one['contract']}/snapshots/{one['name']}/latest"
        calls = ", ".join(map(str, one["calls"]))
        rows.append(
            [
                h("a", said(one["name"]), href=path),
                h("span", said(one["contract"]), " on ", said(one["chain"])),
                said(calls, 120),
                said(one["every"]),
                number(one["block"]) if one["block"] is not None else "not yet",
                time(one["taken_at"]),
            ]
        )
    tables = dict.fromkeys((one["schema_name"], one["table_name"]) for one in facts.series)
    sql = "\n".join(f"SELECT * FROM {identifier(*t)} ORDER BY block_number DESC LIMIT 10;" for t in tables)
    heads = ("snapshot", "contract", "calls", "every", "last block", "taken")
    body = table(heads, rows) if rows else h("p", "The manifest asks for none.")
    return section("Snapshots", body, sql=sql or None)


def jobs(facts: Facts) -> Html:
    """What was asked for over the API: waiting, under way, and what ended last."""
    rows: list[list[Child]] = [
        [
            f"{one['id']}",
            h("span", said(one["kind"]), " ", _members(one["parameters"])),
            h("span", state(one["state"]), _reason(one["error"])),
            _members(one["progress"]) or "",
            time(one["created_at"]),
            time(one["ended_at"]) if one["ended_at"] else "",
        ]
        for one in facts.jobs
    ]
    sql = (
        "SELECT id, kind, parameters, state, progress, error, created_at, ended_at\n"
        "FROM gapless.jobs ORDER BY id DESC LIMIT 10;"
    )
    heads = ("job", "kind", "state", "progress", "asked for", "ended")
    return section("Jobs", table(heads, rows) if rows else h("p", "None was asked for."), sql=sql)


def _members(value: Mapping[str, Any] | None) -> Html | None:
    if not value:
        return None
    shown = [
        h("span", h("i", said(name)), " ", said(each if isinstance(each, str) else orjson.dumps(each).decode(), 80))
        for name, each in value.items()
        if each is not None
    ]
    return h("span", [Html(f"{part} ") for part in shown], class_="argument")


def reorgs(facts: Facts) -> Html:
    """The newest reorganisations."""
    rows: list[list[Child]] = [
        [time(one["detected_at"]), said(one["chain"]), number(one["common_block"]), number(one["depth"]),
         f"{one['rows_removed']:,} / {one['rows_added']:,}"]
        for one in facts.reorgs
    ]  # fmt: skip
    sql = "SELECT * FROM gapless.reorgs ORDER BY id DESC LIMIT 10;"
    heads = ("seen", "chain", "last common block", "depth", "rows out / in")
    return section("Reorganisations", table(heads, rows) if rows else h("p", "None so far."), sql=sql)
