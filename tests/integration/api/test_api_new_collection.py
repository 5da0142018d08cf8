"""A new collection is one short module: pages, counts, exports, cursors and the document follow from it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import ROUTES, create_app
from api.context import create_context
from api.settings import ApiSettings
from tests.integration.api import reserves
from tests.integration.api.conftest import Client
from tests.integration.api.plans import asked_for_pages
from tests.integration.api.seed import Seed, hex_of
from tests.integration.api.test_api_exports import lines, table
from tests.integration.api.world import PAIR_A

ALL = "/v1/reserves?chain=1"


def client_of(url: str) -> Iterator[Client]:
    context = create_context(ApiSettings(), url, None)
    yield Client(create_app(context, routes=(*ROUTES, ("/v1/reserves", reserves.Reserves))))
    context.close()


@pytest.fixture(scope="module")
def client(copy_world: Callable[[], str]) -> Iterator[Client]:
    yield from client_of(copy_world())


@pytest.fixture
def changing(world_url: str) -> Iterator[Client]:
    yield from client_of(world_url)


def test_its_module_is_short():
    assert len(Path(reserves.__file__).read_text().splitlines()) < 120


def test_pages_walk_both_ways(client):
    whole = [row["block_number"] for row in client.get(f"{ALL}&limit=1000")["data"]]
    assert whole == list(range(1089, 1059, -1))
    there, page = [], client.get(f"{ALL}&limit=7")
    while page["data"]:
        there += [row["block_number"] for row in page["data"]]
        page = client.get(f"{ALL}&limit=7&after={page['page']['last']}")
    assert there == whole
    back: list[int] = []
    page = client.get(f"{ALL}&limit=7&before=1060-5")
    while page["data"]:
        back = [row["block_number"] for row in page["data"]] + back
        page = client.get(f"{ALL}&limit=7&before={page['page']['prev']}") if page["page"]["prev"] else {"data": []}
    assert back == whole[:-1]


def test_rows_are_counted_and_complete(client):
    for query in ("count=exact", "count=estimated"):
        answer = client.get(f"{ALL}&limit=2&{query}")
        assert (answer["page"]["count"], answer["page"]["count_is"]) == (30, "exact")
        assert answer["meta"]["complete"]


def test_filters_and_what_is_none(client):
    assert [row["first"] for row in client.get(f"{ALL}&least=1087&order=asc")["data"]] == ["1087", "1088", "1089"]
    assert {row["pair"] for row in client.get(f"{ALL}&address={hex_of(PAIR_A)}")["data"]} == {hex_of(PAIR_A)}
    assert [row["block_number"] for row in client.get(f"{ALL}&to_block=1061")["data"]] == [1061, 1060]
    assert client.get(f"{ALL}&limit=1&fields=first")["data"] == [{"first": "1089"}]
    assert "tokens" in client.get(f"{ALL}&limit=1&include=token")
    client.refused(f"{ALL}&leest=5", 400, "UNKNOWN_PARAMETER")
    client.refused(f"{ALL}&after=5", 400, "INVALID_CURSOR")
    client.refused(f"{ALL}&at_block=5000", 409, "BLOCK_NOT_INDEXED")


def test_exports_hold_what_pages_hold(client):
    rows = client.get(f"{ALL}&limit=1000")["data"]
    assert lines(client.ask(f"{ALL}&format=ndjson").text) == rows
    found = table(client.ask(f"{ALL}&format=csv").text)
    assert [row["second"] for row in found] == [row["second"] for row in rows]
    assert list(found[0]) == ["block_number", "pair", "first", "second"]
    assert len(lines(client.ask(f"{ALL}&format=ndjson&limit=4").text)) == 4


def test_a_tag_holds_until_a_row_comes(changing, seed: Seed):
    tag = changing.ask(ALL).headers["etag"]
    assert changing.ask(ALL, if_none_match=tag).status_code == 304
    seed.rows("pair", "Sync", [{"block": 1200, "log": 5, "address": PAIR_A, "reserve0": 9, "reserve1": 9}])
    assert changing.ask(ALL, if_none_match=tag).status_code == 200


def test_the_document_has_it(client):
    document = client.get("/openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/v1/reserves"]["get"]
    names = [parameter["$ref"].rpartition("/")[2] for parameter in operation["parameters"] if "$ref" in parameter]
    assert {"least", "limit", "from_block", "count"} <= set(names)
    answer = operation["responses"]["200"]["content"]
    assert set(answer) == {"application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.parquet"}
    row = answer["application/json"]["schema"]["properties"]["data"]["items"]
    assert list(row["properties"]) == ["block_number", "pair", "first", "second"]


@pytest.mark.parametrize(
    "path", [ALL, "/v1/events?chain=1", "/v1/contracts/usdc/events/Transfer", "/v1/tokens?chain=1"]
)
def test_pages_of_all_sizes_are_one_statement(client, monkeypatch, path):
    joined = "&" if "?" in path else "?"
    sizes = [f"{path}{joined}limit={limit}" for limit in (1, 2, 50, 1000)]
    texts = {text for _, text, _ in asked_for_pages(client, monkeypatch, sizes)}
    assert len(texts) == 1
