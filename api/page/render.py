"""The status page's HTML: what ``status.html`` makes of the facts, with its bars of coverage."""

from base64 import b64encode
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from api.page import text
from api.page.facts import LATEST, Coverage, Facts, Latest
from api.page.text import amount_argument
from api.page.verdict import Verdict, ago, judge
from api.sql.statement import identifier
from api.sql.status import TREND_MINUTES
from indexer.intervals import RangeSet, format_ranges, union
from indexer.redact import redact

#: Parts of a bar; each stands for so many blocks that no page gets large.
CELLS: Final = 200

_HERE: Final = Path(__file__).parent
_CSS: Final = (_HERE / "status.css").read_text("utf-8")

#: Nothing is loaded, nothing runs, no page frames it; the one style sheet is known by its hash.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_CSS.encode()).digest()).decode()}'"
)

#: With more events than this on the page, each contract shows its own bar first.
OPEN_EVENTS: Final = 12


def runs(wanted: RangeSet, missing: RangeSet, cells: int = CELLS) -> list[tuple[int, int, str]]:
    """The bar as ``(first cell, cells, kind)``; kinds are ``whole``, ``part`` and ``none``.

    A cell in which one block is missing is not whole: the smallest gap can be seen.
    """
    if not wanted:
        return []
    first, end = wanted[0][0], wanted[-1][1] + 1
    cells = min(cells, end - first)
    if not missing:
        return [(0, cells, "whole")]
    edges = [first + cell * (end - first) // cells for cell in range(cells + 1)]
    found: list[tuple[int, int, str]] = []
    for cell, (inside, lacking) in enumerate(zip(_inside(wanted, edges), _inside(missing, edges), strict=True)):
        kind = "whole" if not lacking else "none" if lacking >= inside else "part"
        if found and found[-1][2] == kind:
            start, length, _ = found.pop()
            found.append((start, length + 1, kind))
        else:
            found.append((cell, 1, kind))
    return found


def _inside(ranges: RangeSet, edges: Sequence[int]) -> list[int]:
    """How many blocks of the ranges lie in each cell; cell ``i`` is ``edges[i]`` to ``edges[i + 1] - 1``."""
    counts = [0] * (len(edges) - 1)
    for low, high in ranges:
        cell = bisect_right(edges, low) - 1
        while cell < len(counts) and edges[cell] <= high:
            counts[cell] += min(high + 1, edges[cell + 1]) - max(low, edges[cell])
            cell += 1
    return counts


def environment() -> Environment:
    """Make the templates' environment: everything is escaped but what is markup already, and nothing is undefined."""
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    made.globals |= {"css": Markup(_CSS), "LATEST": LATEST}  # noqa: S704 - our own file
    made.filters |= {
        "said": text.said, "number": text.number, "volume": text.volume, "ago": ago, "redact": redact,
        "moment": _moment,
    }  # fmt: skip
    return made


def _moment(text: str) -> str:
    # Not read as a time: Postgres knows more of them than Python does.
    return f"{text.removesuffix('Z').replace('T', ' ')} UTC"


_STATUS: Final = environment().get_template("status.html")


def page(facts: Facts, version: str) -> bytes:
    """The page.

    Args:
        facts: what it tells.
        version: of Gapless.
    """
    events = [{"missing_blocks": c.missing_blocks, "indexes_put_off": c.indexes_put_off} for c in facts.coverage]
    return _STATUS.render(
        verdict=judge(facts.chains, events, facts.findings),
        version=version,
        facts=facts,
        contracts=_contracts(facts.coverage),
        open_all=len(facts.coverage) <= OPEN_EVENTS,
        latest=[_latest(facts, one) for one in facts.latest],
        endpoints=_endpoints(facts),
        trends=[(chain["name"], _trends(facts.trends.get(str(chain["chain_id"]), ()))) for chain in facts.chains],
        series_tables=dict.fromkeys(identifier(one["schema_name"], one["table_name"]) for one in facts.series),
    ).encode()


def failure(message: str, version: str) -> bytes:
    """The page where the database does not answer."""
    verdict = Verdict("bad", "How it stands cannot be told", [("bad", message)])
    return _STATUS.render(verdict=verdict, version=version, facts=None).encode()


def not_yet(version: str) -> bytes:
    """The page while the first one is made; a browser asks again by itself."""
    verdict = Verdict("partly", "How it stands is being read", [("partly", "the page shows itself in a moment")])
    return _STATUS.render(verdict=verdict, version=version, facts=None).encode()


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of some wanted blocks is there.

    Attributes:
        percent: in words.
        is_whole: whether none is missing.
        runs: the bar's parts, as :func:`api.page.render.runs` has them.
    """

    percent: str
    is_whole: bool
    runs: Sequence[tuple[int, int, str]]

    @property
    def cells(self) -> int:
        """How wide the bar is."""
        return max(1, sum(length for _, length, _ in self.runs))


def _bar(wanted: RangeSet, missing: RangeSet, wanted_blocks: int, missing_blocks: int) -> Bar:
    return Bar(text.percent(wanted_blocks, missing_blocks), not missing_blocks, runs(wanted, missing))


def _contracts(coverage: Sequence[Coverage]) -> list[dict[str, Any]]:
    by_contract: dict[tuple[str, str], list[Coverage]] = {}
    for one in coverage:
        by_contract.setdefault((one.event.contract, one.chain.name), []).append(one)
    return [
        {
            "name": name,
            "chain": chain,
            "bar": _bar(
                union(*[one.wanted for one in events]),
                union(*[one.missing for one in events]),
                sum(one.wanted_blocks for one in events),
                sum(one.missing_blocks for one in events),
            ),
            "events": [
                {
                    "name": one.event.api_name,
                    "path": f"/v1/contracts/{name}/events/{one.event.api_name}?chain={one.chain.chain_id}",
                    "bar": _bar(one.wanted, one.missing, one.wanted_blocks, one.missing_blocks),
                    "words": _words(one),
                }
                for one in events
            ],
        }
        for (name, chain), events in by_contract.items()
    ]


def _words(one: Coverage) -> str:
    if not one.wanted_blocks:
        return "its first block is still to come"
    words = f"blocks {one.wanted[0][0]:,} to {one.wanted[-1][1]:,}"
    if one.missing:
        return f"{words}; missing: {format_ranges(one.missing, most=3)}"
    return f"{words}; proven: {100 * one.verified_blocks // one.wanted_blocks} %" if one.verified_blocks else words


def _latest(facts: Facts, latest: Latest) -> dict[str, Any]:
    rows, tables = [], {}
    for row in latest.rows:
        event = facts.catalog.contracts[row["contract"]].events[row["event"]]
        tables[f"{event.contract}.{event.api_name}"] = identifier(event.schema_name, event.table_name)
        amount = amount_argument(event.signature, event.columns)
        token = latest.tokens.get(row["address"])
        rows.append(
            {
                **row,
                "path": f"/v1/contracts/{row['contract']}/events/{row['event']}/{row['id']}"
                f"?chain={latest.chain.chain_id}",
                "arguments": {
                    name: text.argument(value, token if name == amount else None) for name, value in row["args"].items()
                },
            }
        )
    return {"chain": latest.chain, "rows": rows, "tables": tables.values()}


@dataclass(frozen=True, slots=True)
class Trend:
    """One number over the last hour.

    Attributes:
        latest, most: as the page writes them.
        lines: the points of each unbroken line, ``x,y x,y``: x in minutes, y from 0 (the most) to 10 (nothing).
    """

    latest: str
    most: str
    lines: Sequence[str]


def _trends(minutes: Sequence[Mapping[str, Any]]) -> list[Trend | None]:
    """Rows a minute, lag, requests a minute; None for what is not known."""
    return [
        _trend(minutes, "rows", text.number),
        _trend(minutes, "lag", ago),
        _trend(minutes, "requests", text.number),
    ]


def _trend(minutes: Sequence[Mapping[str, Any]], name: str, written: Callable[[int], object]) -> Trend | None:
    known = [(TREND_MINUTES - 1 - one["ago"], round(one[name])) for one in minutes if one[name] is not None]
    if not known:
        return None
    most = max(value for _, value in known)
    lines: list[list[str]] = []
    before = None
    for minute, value in known:
        if before is None or minute - before > 1:
            lines.append([])
        lines[-1].append(f"{minute},{10 - 10 * value / max(1, most):.1f}")
        before = minute
    return Trend(
        latest=str(written(known[-1][1])),
        most=str(written(most)),
        lines=[" ".join([*line, *line[:1]] if len(line) == 1 else line) for line in lines],
    )


def _endpoints(facts: Facts) -> list[dict[str, Any]]:
    found = []
    for chain in facts.chains:
        for position, one in enumerate(chain["endpoints"]):
            traffic = facts.traffic.get(f"{chain['chain_id']}/{position}") or {}
            counts: Mapping[str, Mapping[str, int]] = traffic.get("counts") or {}
            methods = [
                (method, int(of.get("requests") or 0), int(of.get("bytes") or 0), int(of.get("errors") or 0))
                for method, of in counts.items()
            ]
            methods.sort(key=lambda method: -method[1])
            found.append({**one, "chain": chain["name"], "reason": traffic.get("reason"), "methods": methods})
    return found
