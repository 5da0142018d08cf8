"""CSV and NDJSON of what is no event: tokens, snapshots, days."""

import json
from typing import Any

import pytest

from tests.integration.api.seed import hex_of
from tests.integration.api.test_api_exports import lines, table
from tests.integration.api.world import GOLD, SILVER

DAILY = "/v1/contracts/usdc/events/Transfer/daily"
SUPPLY = "/v1/contracts/coins/snapshots/supply"


def as_cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return str(value) if isinstance(value, int) else json.dumps(value)


@pytest.mark.promise("A-06")
@pytest.mark.parametrize("path", [
    "/v1/tokens?chain=1", "/v1/tokens?chain=1&order=desc&kind=erc20",
    SUPPLY, f"{SUPPLY}?order=asc&address={hex_of(GOLD)}",
    f"{SUPPLY}?from_block=1130&to_block=1160", f"{SUPPLY}/latest", f"{SUPPLY}/latest?at_block=1155", DAILY,
    f"{DAILY}?sum=value&order=asc",
])  # fmt: skip
def test_they_are_the_rows_of_all_pages(api, path):
    joint = "&" if "?" in path else "?"
    rows = api.get(f"{path}{joint}limit=1000")["data"]
    assert rows
    assert lines(api.ask(f"{path}{joint}format=ndjson").text) == rows
    assert lines(api.ask(f"{path}{joint}format=ndjson&limit=1").text) == rows[:1]
    result = api.ask(f"{path}{joint}format=csv")
    assert result.headers["content-type"] == "text/csv; charset=utf-8"
    assert result.headers["content-disposition"].endswith('.csv"')
    cells = table(result.text)
    assert len(cells) == len(rows)
    for found, row in zip(cells, rows, strict=True):
        flat = {name: value for name, value in row.items() if name not in ("values", "sums")}
        for group in ("values", "sums"):
            flat |= {f"{group}.{name}": value for name, value in row.get(group, {}).items()}
        assert {name: json.loads(v) if v[:1] == "{" else v for name, v in found.items()} == {
            name: value if isinstance(value, dict) else as_cell(value) for name, value in flat.items()
        }


def test_they_go_on_after_a_row(api):
    first = api.get("/v1/tokens?chain=1&limit=1")
    rest = api.get("/v1/tokens?chain=1")["data"][1:]
    assert lines(api.ask(f"/v1/tokens?chain=1&format=ndjson&after={first['page']['next']}").text) == rest
    cursor = api.get(f"{SUPPLY}?limit=3")["page"]["next"]
    rows = lines(api.ask(f"{SUPPLY}?format=ndjson&after={cursor}").text)
    assert rows == api.get(f"{SUPPLY}?limit=1000")["data"][3:]


def test_what_they_say_of_themselves(api):
    headers = api.ask(f"{DAILY}?format=csv").headers
    assert (headers["x-complete"], headers["x-indexed-block"]) == ("false", "1299")
    assert api.ask(f"{DAILY}?format=csv&from_block=1050").headers["x-complete"] == "true"
    headers = api.ask(f"{SUPPLY}?format=csv").headers
    # A series has points, not coverage.
    assert ("x-complete" in headers, headers["x-indexed-block"]) == (False, "1299")
    assert "x-complete" not in api.ask("/v1/tokens?chain=1&format=csv").headers
    assert api.ask("/v1/tokens?chain=1", accept="application/x-ndjson").text.count("\n") == 3
    assert hex_of(SILVER) in api.ask("/v1/tokens?chain=1", accept="text/csv").text


def test_what_makes_no_sense_in_them(api):
    api.refused(f"{DAILY}?format=csv&before=2023-01-01", 400, "INVALID_PARAMETER")
    api.refused(f"{DAILY}?format=csv&at_block=1300", 409, "BLOCK_NOT_INDEXED")
    api.refused(f"{SUPPLY}?format=csv&at_block=1300", 409, "BLOCK_NOT_INDEXED")
    api.refused(f"{SUPPLY}?format=csv&before=1100-{hex_of(GOLD)}-0", 400, "INVALID_PARAMETER")
    api.refused(f"{SUPPLY}?format=csv&after=1299-{hex_of(GOLD)}-0.0102030405ff", 400, "INVALID_CURSOR")
    api.refused(f"/v1/tokens?chain=1&format=csv&before={hex_of(GOLD)}", 400, "INVALID_PARAMETER")
    api.refused("/v1/tokens?chain=1&format=xml", 400, "INVALID_PARAMETER")


def test_nothing_found_is_a_head_or_nothing(api):
    assert api.ask("/v1/tokens?chain=1&format=csv&kind=erc721").text == (
        "address,kind,name,symbol,decimals,problems,block_number\n"
    )
    assert api.ask("/v1/tokens?chain=1&format=ndjson&kind=erc721").text == ""
    assert api.ask(f"{DAILY}?format=csv&sum=value&to_block=1").text == "date,events,sums.value\n"
