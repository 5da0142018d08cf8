"""The status page's HTML."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from api.page import running
from api.page.amounts import amount_argument, decimals_of, human
from api.page.bar import bar
from api.page.facts import LATEST, Coverage, Facts, Latest
from api.page.html import Child, Html, document, h, said, style
from api.page.parts import number, section, state, table, time
from api.page.verdict import Verdict, ago, judge
from api.sql.statement import identifier
from indexer.intervals import format_ranges, union
from indexer.redact import redact

_CSS: Final = (Path(__file__).parent / "status.css").read_text("utf-8")

#: Nothing is loaded, nothing runs, nobody frames it; the one style sheet is known by its hash.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_CSS.encode()).digest()).decode()}'"
)

#: With more events than this on the page, each contract shows its own bar first.
OPEN_EVENTS: Final = 12

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
              running.endpoints(facts), running.snapshots(facts), running.jobs(facts), running.reorgs(facts)),
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
        h("p", "as of ", time(at), class_="muted") if at else None,
    )


def _chains(facts: Facts) -> Html:
    rows: list[list[Child]] = []
    for chain in facts.chains:
        lag = chain["lag_seconds"]
        rows.append(
            [
                said(chain["name"]),
                state(chain["state"]),
                number(chain["head_block"]),
                number(chain["indexed_block"]),
                number(chain["finalized_block"]),
                "unknown" if lag is None else ago(lag),
                f"{chain['reorgs']:,}",
            ]
        )
    sql = (
        "SELECT chain_id, name, state, head_number, tip_number, finalized_number, head_seen_at\n"
        "FROM gapless.chains WHERE active ORDER BY chain_id;"
    )
    heads = ("chain", "state", "head", "indexed", "finalized", "behind by", "reorgs")
    return section("Chains", table(heads, rows) if rows else h("p", "None yet."), sql=sql)


def _coverage(facts: Facts) -> Html:
    sql = (
        "SELECT c.name, e.api_name, s.chain_id, s.start_block, s.end_block, s.verified,\n"
        "       gapless.covered(s.coverage, s.end_block, n.tip_number)\n"
        "FROM gapless.sources s JOIN gapless.chains n USING (chain_id) JOIN gapless.events e ON e.id = s.event_id\n"
        "JOIN gapless.contracts c ON c.id = e.contract_id WHERE s.active ORDER BY 1, 2, 3;"
    )
    by_contract: dict[tuple[str, str], list[Coverage]] = {}
    for one in facts.coverage:
        by_contract.setdefault((one.event.contract, one.chain.name), []).append(one)
    open_all = len(facts.coverage) <= OPEN_EVENTS
    parts = [_contract(*key, events, opened=open_all) for key, events in by_contract.items()]
    return section("Coverage", parts if parts else h("p", "No events yet."), sql=sql)


def _contract(contract: str, chain: str, events: Sequence[Coverage], *, opened: bool) -> Html:
    """A contract's events; where there are many on the page, its own bar stands for them until it is opened."""
    wanted = union(*[one.wanted for one in events])
    missing = union(*[one.missing for one in events])
    blocks, lacking = (sum(getattr(one, part) for one in events) for part in ("wanted_blocks", "missing_blocks"))
    shown = _percent(blocks, lacking)
    return h(
        "details",
        h(
            "summary",
            h("b", said(contract)),
            h("span", " on ", said(chain), f", {len(events)} event{'s' * (len(events) > 1)}", class_="muted"),
            h("span", shown, class_="percent good" if not lacking else "percent partly"),
            bar(wanted, missing, f"{contract}: {shown}"),
        ),
        h("p", h("a", "addresses, ABI, tables", href=f"/v1/contracts/{contract}"), class_="small"),
        h("ul", [_covered(one) for one in events], class_="coverage"),
        class_="contract",
        open=opened,
    )


def _percent(wanted: int, missing: int) -> str:
    """Rounded down: what is not whole is never shown as 100 %."""
    if not wanted:
        return "nothing to do yet"
    return "100 %" if not missing else f"{10_000 * (wanted - missing) // wanted / 100:.2f} %"


def _covered(one: Coverage) -> Html:
    shown = _percent(one.wanted_blocks, one.missing_blocks)
    if not one.wanted_blocks:
        words = "its first block is still to come"
    else:
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
                h("a", number(row["block_number"]), href=f"{path}?chain={latest.chain.chain_id}"),
                time(row["block_time"]),
                h("span", said(row["contract"]), ".", said(row["event"]), " ", _finality(row["finality"])),
                arguments or "none",
            ]
        )
    sql = "\n".join(
        f"SELECT * FROM {table} WHERE chain_id = {latest.chain.chain_id} "
        f"ORDER BY block_number DESC, log_index DESC LIMIT {LATEST};"
        for table in tables.values()
    )
    body = table(("block", "time", "event", "arguments"), rows) if rows else h("p", "None yet.")
    return section(f"Last events on {latest.chain.name}", body, sql=sql or None)


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


def _finality(finality: str) -> Html | None:
    return None if finality == "finalized" else h("span", finality, class_="tag")
