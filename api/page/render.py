"""The status page's HTML."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from api.page.amounts import amount_argument, decimals_of, human
from api.page.bar import bar
from api.page.facts import LATEST, Coverage, Facts, Latest
from api.page.html import Child, Html, document, h, said, style
from api.page.verdict import Verdict, ago, judge
from api.sql.statement import identifier
from indexer.intervals import format_ranges
from indexer.redact import redact

_CSS: Final = (Path(__file__).parent / "status.css").read_text("utf-8")

#: Nothing is loaded, nothing runs, nobody frames it; the one style sheet is known by its hash.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_CSS.encode()).digest()).decode()}'"
)

_HEX: Final = re.compile(r"0x[0-9a-f]{16,}")


def page(facts: Facts, version: str) -> bytes:
    """The page.

    Args:
        facts: what it tells.
        version: of Gapless.
    """
    events = [{"missing_blocks": c.missing_blocks, "indexes_put_off": c.indexes_put_off} for c in facts.coverage]
    verdict = judge(facts.chains, events, facts.findings)
    return _document(
        [
            _header(verdict, facts.at, version),
            h("main", _chains(facts), _coverage(facts), *[_latest(facts, latest) for latest in facts.latest],
              _endpoints(facts), _snapshots(facts), _reorgs(facts)),
        ]
    )  # fmt: skip


def failure(message: str, version: str) -> bytes:
    """The page where the database does not answer."""
    verdict = Verdict("bad", "How it stands cannot be told", [("bad", message)])
    return _document([_header(verdict, None, version)])


def _document(body: list[Html]) -> bytes:
    head = [
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="robots", content="noindex"),
        h("title", "Gapless: how it stands"),
        style(_CSS),
    ]
    return document(head, body)


def _header(verdict: Verdict, at: str | None, version: str) -> Html:
    links = [
        ("/docs", "API"),
        ("/openapi.json", "OpenAPI"),
        ("/v1/contracts", "contracts"),
        ("/status", "status as JSON"),
    ]
    reasons = [h("li", said(redact(reason), 300), class_=level) for level, reason in verdict.reasons]
    return h(
        "header",
        h("p", h("strong", "Gapless"), f" {version}", class_="brand"),
        h("nav", [h("a", text, href=to) for to, text in links]),
        h("h1", verdict.title, class_=f"verdict {verdict.level}"),
        h("ul", reasons, class_="reasons") if reasons else None,
        h("p", "as of ", _time(at), class_="muted") if at else None,
    )


def _section(title: str, *children: Child, sql: str | None = None) -> Html:
    shown = h("details", h("summary", "the same in SQL"), h("pre", h("code", sql))) if sql else None
    return h("section", h("h2", title), *children, shown)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """A table; on a narrow screen each cell is a line of its own beside its column's name."""
    body = [
        h("tr", [h("td", h("div", cell), data_head=head) for head, cell in zip(heads, row, strict=True)])
        for row in rows
    ]
    return h("table", h("thead", h("tr", [h("th", head, scope="col") for head in heads])), h("tbody", body))


def _chains(facts: Facts) -> Html:
    rows: list[list[Child]] = []
    for chain in facts.chains:
        lag = chain["lag_seconds"]
        rows.append(
            [
                said(chain["name"]),
                _state(chain["state"]),
                _number(chain["head_block"]),
                _number(chain["indexed_block"]),
                _number(chain["finalized_block"]),
                "unknown" if lag is None else ago(lag),
                f"{chain['reorgs']:,}",
            ]
        )
    sql = (
        "SELECT chain_id, name, state, head_number, tip_number, finalized_number, head_seen_at\n"
        "FROM gapless.chains WHERE active ORDER BY chain_id;"
    )
    heads = ("chain", "state", "head", "indexed", "finalized", "behind by", "reorgs")
    return _section("Chains", _table(heads, rows) if rows else h("p", "None yet."), sql=sql)


def _coverage(facts: Facts) -> Html:
    sql = (
        "SELECT c.name, e.api_name, s.chain_id, s.start_block, s.end_block, s.coverage, s.verified\n"
        "FROM gapless.sources s JOIN gapless.events e ON e.id = s.event_id\n"
        "JOIN gapless.contracts c ON c.id = e.contract_id WHERE s.active ORDER BY 1, 2, 3;"
    )
    by_contract: dict[tuple[str, str], list[Coverage]] = {}
    for one in facts.coverage:
        by_contract.setdefault((one.event.contract, one.chain.name), []).append(one)
    parts = [
        part
        for (contract, chain), events in by_contract.items()
        for part in (
            h(
                "h3",
                h("a", said(contract), href=f"/v1/contracts/{contract}"),
                h("span", " on ", said(chain), class_="muted"),
            ),
            h("ul", [_covered(one) for one in events], class_="coverage"),
        )
    ]
    return _section("Coverage", parts if parts else h("p", "No events yet."), sql=sql)


def _covered(one: Coverage) -> Html:
    there = one.wanted_blocks - one.missing_blocks
    if not one.wanted_blocks:
        shown, words = "nothing to do yet", "its first block is still to come"
    else:
        hundredths = 10_000 * there // one.wanted_blocks  # rounded down: what is not whole is never shown as 100 %
        shown = "100 %" if not one.missing_blocks else f"{hundredths / 100:.2f} %"
        words = f"blocks {one.wanted[0][0]:,} to {one.wanted[-1][1]:,}"
        if one.missing:
            words += f"; missing: {format_ranges(one.missing, most=3)}"
        elif one.verified_blocks:
            words += f"; proven: {100 * one.verified_blocks // one.wanted_blocks} %"
    path = f"/v1/contracts/{one.event.contract}/events/{one.event.api_name}?chain={one.chain.chain_id}"
    return h(
        "li",
        h("span", h("a", said(one.event.api_name), href=path), class_="event"),
        h("span", shown, class_="percent good" if not one.missing_blocks else "percent partly"),
        bar(one.wanted, one.missing, f"{one.event.api_name}: {shown}"),
        h("span", words, class_="muted small"),
    )


def _latest(facts: Facts, latest: Latest) -> Html:
    rows: list[list[Child]] = []
    tables: dict[str, str] = {}
    for row in latest.rows:
        event = facts.catalog.contracts[row["contract"]].events[row["event"]]
        tables[f"{event.contract}.{event.api_name}"] = identifier(event.schema_name, event.table_name)
        path = f"/v1/contracts/{row['contract']}/events/{row['event']}/{row['id']}"
        token = latest.tokens.get(row["address"])
        amount = amount_argument(event.signature, event.columns)
        arguments = [
            h("span", h("i", said(name)), " ", _value(value, token if name == amount else None), class_="argument")
            for name, value in row["args"].items()
        ]
        rows.append(
            [
                h("a", _number(row["block_number"]), href=f"{path}?chain={latest.chain.chain_id}"),
                _time(row["block_time"]),
                h("span", said(row["contract"]), ".", said(row["event"]), " ", _finality(row["finality"])),
                arguments or "none",
            ]
        )
    sql = "\n".join(
        f"SELECT * FROM {table} WHERE chain_id = {latest.chain.chain_id} "
        f"ORDER BY block_number DESC, log_index DESC LIMIT {LATEST};"
        for table in tables.values()
    )
    body = _table(("block", "time", "event", "arguments"), rows) if rows else h("p", "None yet.")
    return _section(f"Last events on {latest.chain.name}", body, sql=sql or None)


def _value(value: Any, token: Mapping[str, Any] | None) -> Html:
    decimals = decimals_of(token)
    if token is not None and decimals is not None and isinstance(value, str):
        symbol = [said(token["symbol"], 16)] if token.get("symbol") else []
        return h(
            "span",
            h("b", human(int(value), decimals)),
            " ",
            symbol,
            title=f"{value} of its smallest unit; {decimals} decimals",
        )
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if _HEX.fullmatch(text):
        return h("code", f"{text[:8]}…{text[-6:]}", title=text if len(text) <= 200 else None)
    return h("span", said(text, 80))  # as long as any number


def _endpoints(facts: Facts) -> Html:
    rows: list[list[Child]] = [
        [said(chain["name"]), said(redact(one["host"])), _state(one["state"]), _number(one["head_block"]),
         _time(one["updated_at"])]
        for chain in facts.chains
        for one in chain["endpoints"]
    ]  # fmt: skip
    sql = "SELECT chain_id, host, state, head_number, details, updated_at FROM gapless.endpoints ORDER BY 1, position;"
    body = _table(("chain", "endpoint", "state", "head", "seen"), rows) if rows else h("p", "None was asked yet.")
    return _section("Endpoints", body, sql=sql)


def _snapshots(facts: Facts) -> Html:
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
                _number(one["block"]) if one["block"] is not None else "not yet",
                _time(one["taken_at"]),
            ]
        )
    tables = dict.fromkeys((one["schema_name"], one["table_name"]) for one in facts.series)
    sql = "\n".join(f"SELECT * FROM {identifier(*t)} ORDER BY block_number DESC LIMIT 10;" for t in tables)
    heads = ("snapshot", "contract", "calls", "every", "last block", "taken")
    body = _table(heads, rows) if rows else h("p", "The manifest asks for none.")
    return _section("Snapshots", body, sql=sql or None)


def _reorgs(facts: Facts) -> Html:
    rows: list[list[Child]] = [
        [_time(one["detected_at"]), said(one["chain"]), _number(one["common_block"]), _number(one["depth"]),
         f"{one['rows_removed']:,} / {one['rows_added']:,}"]
        for one in facts.reorgs
    ]  # fmt: skip
    sql = "SELECT * FROM gapless.reorgs ORDER BY id DESC LIMIT 10;"
    heads = ("seen", "chain", "last common block", "depth", "rows out / in")
    return _section("Reorganisations", _table(heads, rows) if rows else h("p", "None so far."), sql=sql)


def _state(state: str) -> Html:
    level = {"following": "good", "healthy": "good", "halted": "bad", "unhealthy": "bad"}.get(state, "partly")
    return h("span", said(state), class_=f"state {level}")


def _finality(finality: str) -> Html | None:
    return None if finality == "finalized" else h("span", finality, class_="tag")


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _time(text: str | None) -> Html:
    if text is None:
        return h("span", "never")
    moment = datetime.fromisoformat(text)
    return h("time", f"{moment:%Y-%m-%d %H:%M:%S} UTC", datetime=text)
