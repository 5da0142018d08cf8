"""The status page: true, whole, without script, and safe to look at whatever a token calls itself."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from indexer.intervals import contains, intersect, normalise
from tests.integration.api.world import GAP, SILVER, TIP, USDC

VOID = {"meta", "link"}


class Page(HTMLParser):
    """Reads a page, and insists that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        # A browser draws nothing that lies inside a rect: one that is not closed would hide all cells behind it.
        assert tag != "rect" or self.open[-1] == "svg"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def links(self) -> list[str]:
        return [attributes["href"] or "" for tag, attributes in self.tags if tag == "a"]


def page(client, status: int = 200) -> Page:
    result = client.ask("/")
    assert result.status_code == status, result.text
    assert result.headers["content-type"].startswith("text/html")
    return Page(result.text)


def test_it_tells_what_is_there_and_what_is_not(own, seed):
    # The world may be minutes old by now, and a chain of which nothing is heard for so long is in a bad way.
    seed.execute("UPDATE gapless.chains SET head_seen_at = now()")
    text = page(own).text
    assert "Right as far as it goes, and not complete yet" in text
    assert f"{GAP[1] - GAP[0] + 1} blocks" in text
    assert f"{GAP[0]}" in text
    assert "96.66 %" in text  # 290 of 300 blocks, rounded down
    for shown in ("ethereum", "base", "usdc", "Transfer", "supply", "every", "Reorganisations", "Endpoints"):
        assert shown in text
    assert f"{TIP:,}" in text


def test_amounts_are_for_people_and_exact_ones_are_kept(own, seed):
    seed.rows("usdc", "Transfer", [{"block": TIP, "log": 30, "address": USDC, "from": USDC, "to": USDC, "value": 1}])
    seen = page(own)
    assert "0.000001 USDC" in seen.text
    assert any("1 of its smallest unit; 6 decimals" in (a.get("title") or "") for _, a in seen.tags)


def test_unknown_decimals_are_not_guessed(own, seed):
    seed.rows(
        "coins", "Transfer", [{"block": TIP, "log": 31, "address": SILVER, "from": USDC, "to": USDC, "value": 12345}]
    )
    assert "value 12345" in page(own).text


HOSTILE = "<script>alert(1)</script>\"'&\u202egpj.exe\x07" + "Z" + "\u0301" * 50 + "A" * 10_000


@pytest.mark.promise("S-10")
def test_a_hostile_token_is_nothing_but_text(own, seed):
    seed.execute("UPDATE gapless.tokens SET symbol = %s WHERE address = %s", ('<b>"x\u202e\u0007', USDC))
    result = own.ask("/")
    seen = Page(result.text)
    assert "<b>&quot;" not in result.text
    assert "\u202e" not in result.text
    assert '<b>"x' in seen.text


@pytest.mark.promise("S-10")
def test_hostile_text_is_cut_and_cleaned():
    from api.page.render import environment
    from api.page.text import said

    made = said(HOSTILE)
    assert "<script" not in made
    assert "\u202e" not in made
    assert "\x07" not in made
    assert len(made) < 300
    assert said("e" + "\u0301" * 50).count("\u0301") == 2
    made = environment().from_string('<p title="{{ it }}">{{ it }}</p>').render(it='"<&')
    assert made == '<p title="&#34;&lt;&amp;">&#34;&lt;&amp;</p>'


def test_whatever_halts_a_chain_stands_first(own, seed):
    seed.execute("UPDATE gapless.chains SET state = 'halted', state_reason = %s WHERE chain_id = 1",
                 ("https://node.example/v2/SECRETKEY0123456789 lies <i>",))  # fmt: skip
    result = own.ask("/")
    assert "Something is wrong" in result.text
    assert "ethereum is halted" in result.text
    assert "SECRETKEY" not in result.text
    assert "<i>l" not in result.text


@pytest.mark.promise("O-05")
def test_an_indexer_that_stands_still_is_seen(own, seed):
    seed.execute("UPDATE gapless.chains SET head_seen_at = now() - interval '3 hours'")
    assert "nothing was heard of its nodes for 3 h" in page(own).text


def test_findings_and_reorgs_are_told(own, seed):
    seed.execute("INSERT INTO gapless.findings (chain_id, kind, first_block, last_block, count, detail) "
                 "VALUES (1, 'digest', 1, 2, 7, 'x')")  # fmt: skip
    seed.reorg(1290, TIP, branch=1)
    text = page(own).text
    assert "an audit found 7 × digest" in text
    assert "1,290" in text


def test_endpoints_say_what_they_were_asked_and_why_they_are_ill(own, seed):
    counts = {
        "eth_getLogs": {"requests": 1200, "bytes": 3_400_000, "errors": 0},
        "eth_call": {"requests": 34, "bytes": 600, "errors": 5},
    }
    seed.execute(
        "INSERT INTO gapless.endpoints (chain_id, position, host, state, head_number, details) "
        "VALUES (1, 7, 'node.example', 'unhealthy', 5, %s)",
        (Jsonb({"reason": "https://node.example/SECRETKEY0123456789 timed out", "counts": counts}),),
    )
    result = own.ask("/")
    text = Page(result.text).text
    assert "1,234 requests, 3.4 MB" in text
    assert text.index("eth_getLogs 1,200, 3.4 MB") < text.index("eth_call 34, 600 B, 5 refused")
    assert "timed out" in text
    assert "SECRETKEY" not in result.text


def test_jobs_are_shown(own, seed):
    seed.execute(
        "INSERT INTO gapless.jobs (kind, parameters, state, progress, error, created_by) VALUES "
        "('repair', %s, 'failed', %s, 'the <b>node</b> is gone', 'key 3')",
        (Jsonb({"contract": "usdc", "from_block": 5, "to_block": None}), Jsonb({"done": 7})),
    )
    result = own.ask("/")
    text = Page(result.text).text
    for shown in ("repair", "failed"):
        assert shown in text
    for hidden in ("from_block", "done 7", "node</b> is gone", "key 3"):
        assert hidden not in text, "what was asked for is told to administrators alone"


def test_many_contracts_are_shown_by_their_own_bars_first(api):
    seen = page(api)
    contracts = [attributes for tag, attributes in seen.tags if attributes.get("class") == "contract"]
    assert len(contracts) == 8  # seven, of which one is on two chains
    assert all("open" not in attributes for attributes in contracts)
    assert "usdc on ethereum, 2 events" in seen.text


def test_every_link_leads_somewhere(api):
    links = set(page(api).links())
    assert "/docs" in links
    assert any("/events/" in link for link in links)
    for link in links:
        assert api.ask(link).status_code == 200, link


@pytest.mark.promise("S-10")
def test_the_policy_allows_its_own_style_sheet_and_nothing_else(api):
    result = api.ask("/")
    policy = result.headers["content-security-policy"]
    css = re.search(r"<style>(.*?)</style>", result.text, re.DOTALL)
    assert css
    assert b64encode(sha256(css[1].encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes in Page(result.text).tags:
        assert tag not in ("script", "iframe", "img", "link", "object")
        assert not any(name == "style" or name.startswith("on") for name in attributes)


def test_the_sql_that_it_shows_runs(own, seed):
    shown = re.findall(r"<code>((?:SELECT).*?)</code>", own.ask("/").text, re.DOTALL)
    assert len(shown) >= 5
    import html

    for statements in shown:
        for statement in html.unescape(statements).split(";"):
            if statement.strip():
                seed.execute(statement)


def test_the_database_is_away(make_client):
    away = make_client(url="postgresql://nobody@127.0.0.1:1/nothing")
    assert "How it stands cannot be told" in page(away, 503).text


def test_it_takes_no_parameters_and_answers_head(api):
    api.refused("/?x=1", 400, "UNKNOWN_PARAMETER")
    result = api.ask("/", "HEAD")
    assert (result.status_code, result.text) == (200, "")


@pytest.mark.parametrize(("units", "decimals", "shown"), [
    (0, 18, "0"), (1, 18, "0.000000…"), (10**18, 18, "1"), (1234567 * 10**6, 6, "1,234,567"),
    (1_500_000, 6, "1.5"), (-1_500_000, 6, "-1.5"), (7, 0, "7"), (2**256 - 1, 77, "1.157920…"),
])  # fmt: skip
def test_human_amounts(units, decimals, shown):
    from api.page.text import human

    assert human(units, decimals) == shown


def test_the_smallest_gap_is_seen_in_the_bar():
    from api.page.render import runs

    assert runs(((0, 999_999),), ()) == [(0, 200, "whole")]
    assert runs(((0, 999_999),), ((500_000, 500_000),)) == [(0, 100, "whole"), (100, 1, "part"), (101, 99, "whole")]
    assert runs(((0, 9),), ((5, 9),)) == [(0, 5, "whole"), (5, 5, "none")]
    assert runs((), ()) == []


_RANGES = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 40)), max_size=8).map(
    lambda parts: normalise((low, low + length) for low, length in parts)
)


@given(wanted=_RANGES, lacking=_RANGES, cells=st.integers(1, 60))
def test_each_cell_of_the_bar_says_what_its_blocks_are(wanted, lacking, cells):
    from api.page.render import runs

    missing = intersect(wanted, lacking)
    shown = [kind for _, length, kind in runs(wanted, missing, cells) for _ in range(length)]
    if not wanted:
        assert shown == []
        return
    first, end = wanted[0][0], wanted[-1][1] + 1
    assert len(shown) == min(cells, end - first)
    for cell, kind in enumerate(shown):
        low, high = (first + edge * (end - first) // len(shown) for edge in (cell, cell + 1))
        blocks = {block for block in range(low, high) if contains(wanted, (block, block))}
        gone = {block for block in blocks if contains(missing, (block, block))}
        assert kind == ("whole" if not gone else "none" if gone == blocks else "part")


def test_the_last_hour_is_drawn(own, seed):
    seed.execute("DELETE FROM gapless.samples")
    # A minute is missing, and Postgres' statistics began anew in the next to last one.
    for ago, lag, requests, rows in (
        (9, 2, 100, 1000),
        (8, 14, 160, 1600),
        (6, 3, 400, 8800),
        (5, 4, 10, 50),
        (4, 1, 70, 170),
    ):
        seed.execute(
            "INSERT INTO gapless.samples (chain_id, minute, lag_seconds, requests, rows_written) "
            f"SELECT chain_id, date_trunc('minute', now()) - interval '{ago} minutes', {lag}, {requests}, {rows} "
            "FROM gapless.chains WHERE name = 'ethereum'"
        )
    seen = page(own)
    labels = [
        attributes["aria-label"] for tag, attributes in seen.tags if tag == "svg" and attributes["class"] == "curve"
    ]
    assert labels == [
        "rows a minute: 120 now, 3,600 at most",
        "behind by: 1 s now, 14 s at most",
        "requests to nodes a minute: 60 now, 120 at most",
    ]
    lines = [attributes["points"] for tag, attributes in seen.tags if tag == "polyline"]
    assert lines[0] == "51,8.3 51,8.3"  # the minute after is missing: a line is not drawn over it
    assert lines[1] == "53,0.0 53,0.0"
    assert "not known yet" in seen.text  # of the other chain
