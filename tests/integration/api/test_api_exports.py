"""CSV and NDJSON: all rows, one snapshot, nothing left behind."""

import csv
import gzip
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

import falcon.testing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.app import create_app
from api.context import create_context
from api.door import Patience
from api.http_server import Server
from api.server import listen
from api.settings import ApiSettings
from tests.integration.api import world
from tests.integration.api.seed import Seed, hex_of
from tests.integration.api.test_api_server import running
from tests.integration.api.world import ALICE, GOLD, USDC

TRANSFERS = "/v1/contracts/usdc/events/Transfer"
EVERYTHING = "/v1/contracts/zoo/events/Everything"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def lines(text: str) -> list:
    # Not splitlines: it takes U+2028, which is text, for a line's end.
    return [json.loads(line) for line in text.split("\n") if line]


def test_ndjson_is_the_rows_of_all_pages(api):
    result = api.ask(f"{TRANSFERS}?format=ndjson&order=asc")
    assert result.headers["content-type"] == "application/x-ndjson"
    rows = lines(result.text)
    assert [row["id"] for row in rows] == [f"{t['block']}-{t['log']}" for t in world.transfers()]
    assert rows[:100] == api.get(f"{TRANSFERS}?order=asc")["data"]


def test_csv_is_the_same_in_columns(api):
    result = api.ask(f"{TRANSFERS}?format=csv")
    assert result.headers["content-type"] == "text/csv; charset=utf-8"
    assert result.headers["content-disposition"] == 'attachment; filename="usdc-Transfer.csv"'
    rows = table(result.text)
    first = api.get(f"{TRANSFERS}?limit=1")["data"][0]
    assert rows[0] == {
        **{name: str(first[name]) for name in first if name != "args"},
        **{f"args.{name}": value for name, value in first["args"].items()},
    }
    assert len(rows) == len(world.transfers())


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_every_type_survives(api, form):
    text = api.ask(f"{EVERYTHING}?format={form}").text
    (row,) = api.get(EVERYTHING)["data"]
    if form == "ndjson":
        # One line, whatever line ends are in a text.
        assert text.count("\n") == 1
        assert json.loads(text) == row
        return
    (cells,) = table(text)
    for name, value in row["args"].items():
        cell = cells[f"args.{name}"]
        assert (cell if isinstance(value, str) else json.loads(cell)) == value


def test_parquet_has_the_columns_of_a_csv_with_types(api):
    for path in (TRANSFERS, EVERYTHING, "/v1/tokens?chain=1", "/v1/contracts/coins/snapshots/supply"):
        joint = "&" if "?" in path else "?"
        result = api.ask(f"{path}{joint}format=parquet")
        assert result.headers["content-type"] == "application/vnd.apache.parquet"
        found = pq.read_table(pa.BufferReader(result.content))
        rows = table(api.ask(f"{path}{joint}format=csv").text)
        assert found.column_names == list(rows[0])
        assert found.num_rows == len(rows)
        for name in found.column_names:
            values = found.column(name).to_pylist()
            assert [shown(value) for value in values] == [row[name] for row in rows], name
    result = api.ask(f"{TRANSFERS}?format=parquet&limit=5&order=asc", accept_encoding="gzip")
    assert "content-encoding" not in result.headers
    found = pq.read_table(pa.BufferReader(result.content))
    assert found.num_rows == 5
    assert found.schema.field("block_time").type == pa.timestamp("us", "UTC")
    assert found.schema.field("block_number").type == pa.int64()
    assert found.schema.field("args.value").type == pa.string()
    empty = pq.read_table(pa.BufferReader(api.ask(f"{TRANSFERS}?format=parquet&to_block=1").content))
    assert (empty.num_rows, empty.schema) == (0, found.schema)


def shown(value: object) -> str:
    """A value of Parquet as a CSV has it."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def test_parquet_without_pyarrow_is_refused_with_what_to_do(api, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "gapless[files]" in api.refused(f"{TRANSFERS}?format=parquet", 406, "NOT_ACCEPTABLE")["error"]


def test_filters_bounds_and_limits_hold(api):
    query = f"arg.from={hex_of(ALICE)}&from_block=1100&to_block=1199"
    expected = [row["id"] for row in api.get(f"{TRANSFERS}?{query}&limit=1000")["data"]]
    assert expected
    for form, read in (("csv", table), ("ndjson", lines)):
        assert [r["id"] for r in read(api.ask(f"{TRANSFERS}?{query}&format={form}").text)] == expected
        cut = api.ask(f"{TRANSFERS}?{query}&format={form}&limit=5&after={expected[2]}").text
        assert [r["id"] for r in read(cut)] == expected[3:8]
    text = world.EVERYTHING["label"].encode().hex()
    escaped = "".join(f"%{text[i : i + 2]}" for i in range(0, len(text), 2))
    window = "from_block=1000&to_block=1010"
    assert len(lines(api.ask(f"{EVERYTHING}?format=ndjson&arg.label={escaped}&{window}").text)) == 1
    assert not lines(api.ask(f"{EVERYTHING}?format=ndjson&arg.label=%27%3B--%5C&{window}").text)
    both = f"address={hex_of(GOLD)},{hex_of(USDC)}"
    assert len(table(api.ask(f"/v1/contracts/coins/events/Transfer?format=csv&{both}").text)) == 50


def test_fields_choose_columns(api):
    rows = table(api.ask(f"{TRANSFERS}?format=csv&limit=1&fields=args.value,tx_index").text)
    assert list(rows[0]) == ["tx_index", "args.value"]
    rows = lines(api.ask(f"{TRANSFERS}?format=ndjson&limit=1&fields=args.value").text)
    assert list(rows[0]) == ["args"]


def test_nothing_found_is_a_header_or_nothing(api):
    assert api.ask(f"{TRANSFERS}?format=csv&to_block=1").text.startswith("id,block_number,")
    assert api.ask(f"{TRANSFERS}?format=csv&to_block=1").text.count("\n") == 1
    assert api.ask(f"{TRANSFERS}?format=ndjson&to_block=1").text == ""


def test_completeness_is_in_the_headers(api):
    headers = api.ask(f"{TRANSFERS}?format=csv").headers
    assert (headers["x-complete"], headers["x-indexed-block"]) == ("false", "1299")
    assert api.ask(f"{TRANSFERS}?format=csv&from_block=1050").headers["x-complete"] == "true"
    assert (
        "X-Complete"
        in api.ask(f"{TRANSFERS}?format=csv", origin="https://a.example").headers["access-control-expose-headers"]
    )


@pytest.mark.parametrize(("accept", "content_type"), [
    ("text/csv", "text/csv"),
    ("application/x-ndjson", "application/x-ndjson"),
    ("text/csv;q=0.5, application/json", "application/json"),
    ("text/*", "text/csv"),
])  # fmt: skip
def test_accept_chooses_the_format(api, accept, content_type):
    found = api.ask(f"{TRANSFERS}?limit=1", accept=accept).headers["content-type"]
    assert found.partition(";")[0] == content_type


def test_what_makes_no_sense_in_an_export(api):
    for query in ("before=1200-3", "include=token", "count=exact"):
        api.refused(f"{TRANSFERS}?format=csv&{query}", 400, "INVALID_PARAMETER")
    api.refused(f"{TRANSFERS}?format=csv&at_block=1300", 409, "BLOCK_NOT_INDEXED")
    api.refused(f"{TRANSFERS}?format=csv&arg.value=5", 422, "QUERY_TOO_EXPENSIVE")
    api.refused(f"{TRANSFERS}?format=csv&after=1299-3.0102030405ff", 400, "INVALID_CURSOR")
    api.refused("/v1/contracts?format=csv", 400, "UNKNOWN_PARAMETER")


def test_exports_can_be_compressed(api):
    plain = api.ask(f"{TRANSFERS}?format=csv")
    packed = api.ask(f"{TRANSFERS}?format=csv", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content


def test_slots_are_given_back(make_client):
    client = make_client(api_export_slots=1)
    for _ in range(3):
        assert client.ask(f"{TRANSFERS}?format=csv").status_code == 200
        assert client.ask(f"{TRANSFERS}?format=csv", "HEAD").status_code == 200
        client.refused(f"{TRANSFERS}?format=csv&at_block=1300", 409, "BLOCK_NOT_INDEXED")


def test_an_export_is_under_way_until_it_is_sent(make_client):
    client = make_client(api_client_concurrency=1)
    environ = falcon.testing.create_environ(TRANSFERS, query_string="format=csv")
    body = client.http.app(environ, lambda status, headers, error=None: None)
    client.refused(TRANSFERS, 503, "OVERLOADED")
    body.close()
    for _ in range(2):
        assert client.get(TRANSFERS)["data"]
        assert client.ask(f"{TRANSFERS}?format=csv").text
        assert client.ask(f"{TRANSFERS}?format=csv", "HEAD").status_code == 200


def test_too_many_exports_at_once_are_refused(make_client):
    client = make_client(api_export_slots=1)
    # The stream is not read, so its export is not at its end.
    app = client.http.app
    environ = falcon.testing.create_environ(TRANSFERS, query_string="format=csv")
    body = app(environ, lambda status, headers, error=None: None)
    client.refused(f"{TRANSFERS}?format=csv", 503, "OVERLOADED")
    assert client.get(TRANSFERS)["data"]
    body.close()
    assert client.ask(f"{TRANSFERS}?format=csv").status_code == 200


@pytest.fixture(scope="module")
def big_url(copy_world, tmp_path_factory) -> str:
    """A world with enough rows that an export outgrows every buffer."""
    url = copy_world()
    seed = Seed(url, tmp_path_factory.mktemp("big"))
    seed.execute(
        "INSERT INTO usdc.transfer SELECT 1, 1050 + i / 1000, '2023-01-01', sha256(int8send(i)), 0, "
        "1000 + mod(i, 1000), contract_address, from_address, to_address, i FROM generate_series(0::bigint, 199999) i, "
        "(SELECT * FROM usdc.transfer LIMIT 1) t"
    )
    seed.close()
    return url


def active_copies(seed: Seed) -> int:
    row = seed.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND application_name = 'gapless exports'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_large_export_arrives_whole(big_url, tmp_path):
    with running(big_url) as server:
        status, headers, body = server.get(f"{TRANSFERS}?format=csv")
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert body.count(b"\n") == 1 + 200_000 + len(world.transfers())


def test_a_client_that_leaves_ends_its_export(big_url, tmp_path):
    seed = Seed(big_url, tmp_path)
    with running(big_url, API_EXPORT_SLOTS="1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {TRANSFERS}?format=ndjson HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            assert active_copies(seed) == 1
        deadline = time.monotonic() + 20
        while active_copies(seed):
            assert time.monotonic() < deadline
        while server.get(f"{TRANSFERS}?format=csv&limit=1")[0] != 200:
            assert time.monotonic() < deadline
    seed.close()


@pytest.mark.promise("A-06")
def test_an_export_that_breaks_is_noticed(big_url, tmp_path):
    """Its status is sent already: the missing end mark tells the client."""
    seed = Seed(big_url, tmp_path)
    with running(big_url) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", f"{TRANSFERS}?format=ndjson")
        response = connection.getresponse()
        response.read(100)
        seed.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gapless exports'"
        )
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()
    seed.close()


def held_snapshots(seed: Seed) -> int:
    """Sessions of exports that keep Postgres from removing old rows."""
    row = seed.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL "
        "AND application_name = 'gapless exports'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def begin_export(stack: ExitStack, port: int, form: str) -> socket.socket:
    """Ask for everything, and take the first bytes."""
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET {TRANSFERS}?format={form} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def sip(connections: list[socket.socket]) -> None:
    """Take a few bytes: such clients are never silent."""
    for connection in connections:
        connection.setblocking(False)
        with suppress(BlockingIOError, ConnectionError):
            connection.recv(50)
        connection.setblocking(True)


def sip_until_released(seed: Seed, connections: list[socket.socket]) -> None:
    deadline = time.monotonic() + 30
    while active_copies(seed) or held_snapshots(seed):
        assert time.monotonic() < deadline, "the exports hold their snapshots"
        sip(connections)
        time.sleep(0.2)


@pytest.mark.promise("S-14")
def test_slow_readers_do_not_keep_slots_and_snapshots_beyond_the_deadline(big_url, tmp_path):
    seed = Seed(big_url, tmp_path)
    settings = {"API_EXPORT_SLOTS": "4", "API_EXPORT_TIMEOUT": "3", "API_LEAST_PACE": "0"}
    with running(big_url, **settings) as server, ExitStack() as stack:
        readers = [begin_export(stack, server.port, form) for form in ("csv", "ndjson")]
        assert held_snapshots(seed) == 2
        assert server.get(f"{TRANSFERS}?format=csv&limit=1")[0] == 503
        sip_until_released(seed, readers)
        assert server.get(f"{TRANSFERS}?format=csv&limit=1")[0] == 200
    seed.close()


@contextmanager
def served_here(url: str, patience: Patience) -> Iterator[int]:
    """The port of an API in this process."""
    settings = ApiSettings(api_threads=4, api_export_slots=4)
    context = create_context(settings, url, None)
    listener = listen("127.0.0.1", 0)
    server = Server(create_app(context), listener, settings, patience=patience)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield listener.getsockname()[1]
    server.stop()
    thread.join()
    context.close()


@pytest.mark.promise("S-14")
def test_readers_below_the_least_pace_lose_their_exports_and_the_others_do_not(big_url, tmp_path):
    seed = Seed(big_url, tmp_path)
    patience = Patience(queue=10, head=10, body=10, answer=600, pace=1_000, window=1.0)
    with served_here(big_url, patience) as port, ExitStack() as stack:
        slow = [begin_export(stack, port, "csv")]
        fast = begin_export(stack, port, "ndjson")
        sip_until_released_beside(seed, slow, fast)
    seed.close()


def sip_until_released_beside(seed: Seed, slow: list[socket.socket], fast: socket.socket) -> None:
    """Read one export in pieces, slower than it comes, until only it is left; then to its end."""
    deadline = time.monotonic() + 30
    while active_copies(seed) != 1:
        assert time.monotonic() < deadline, "the slow one is still there"
        sip(slow)
        fast.recv(8192)
        time.sleep(0.05)
    rest = b""
    while piece := fast.recv(1 << 20):
        rest = (rest + piece)[-5:]
    assert rest == b"0\r\n\r\n"


@pytest.mark.promise("S-14")
def test_clients_that_ask_on_and_on_and_read_nothing_hold_no_thread(big_url):
    page = f"GET {TRANSFERS}?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with running(big_url, API_THREADS="2", API_QUEUE_SECONDS="2", API_LEAST_PACE="0") as server, ExitStack() as stack:
        clients = []
        for number in range(4):
            client = stack.enter_context(socket.socket())
            if number:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            client.connect(("127.0.0.1", server.port))
            client.sendall(page * 25)
            clients.append(client)
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        for _ in range(10):
            assert server.get(f"{TRANSFERS}?limit=1")[0] == 200
        # What they asked for is still there once they read.
        answer, deadline = b"", time.monotonic() + 60
        while answer.count(b"HTTP/1.1 200") < 24:
            assert time.monotonic() < deadline
            answer += clients[0].recv(1 << 20)
