"""What clients write costs no memory for good: neither numbers nor names nor shapes of requests."""

import gc
import tracemalloc

import pytest

from api.access.keys import Keys
from api.app import create_app
from api.bounded_cache import BoundedCache, weight
from api.context import create_context
from api.database import PREPARED_BYTES, Database
from api.errors import ApiError
from api.settings import ApiSettings
from api.sql import source
from indexer.store.access.key_format import new_key
from tests.integration.api.conftest import Client
from tests.integration.api.test_api_every_collection import COLLECTIONS, joined

TRANSFERS = "/v1/contracts/usdc/events/Transfer"


@pytest.fixture
def texts(monkeypatch):
    """The distinct texts of all statements that are run."""
    seen = set()
    query, begin = Database.query, Database.begin

    def watched_query(self, text, values=()):
        if "pg_control_system" not in str(text):  # by the clock: whether the catalog has changed
            seen.add(text)
        return query(self, text, values)

    def watched_begin(self, text, values):
        seen.add(text)
        return begin(self, text, values)

    monkeypatch.setattr(Database, "query", watched_query)
    monkeypatch.setattr(Database, "begin", watched_begin)
    return seen


#: A number that a client chooses, beside what it is asked together with.
NUMBERS = ("limit={}", "from_block=10{}", "to_block=12{}", "at_block=12{}", "min_block={}", "from_time=1680{}00000")


@pytest.mark.parametrize(
    "path", [*COLLECTIONS, "/v1/addresses/0x00000000000000000000000000000000000000aa/balances?chain=1"]
)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_of_a_client_makes_no_other_statement(api, texts, path, number):
    for count in ("none", "exact", "estimated"):
        asked = [joined(path, f"{number.format(value)}&count={count}") for value in range(11, 19)]
        api.ask(asked[0])
        before = len(texts)
        for one in asked[1:]:
            api.ask(one)
        assert len(texts) == before


FIELDS = ("id", "block_number", "block_time", "tx_hash", "tx_index", "log_index", "address", "finality", "args.from",
          "args.to", "args.value")  # fmt: skip


def shapes(count):
    """Requests of so many shapes."""
    for number in range(1, count + 1):
        chosen = ",".join(name for at, name in enumerate(FIELDS) if number >> at & 1)
        yield f"{TRANSFERS}?limit=1&fields={chosen}"


def grown(act):
    """Bytes that Python's memory has grown by."""
    gc.collect()
    tracemalloc.start()
    try:
        act()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_names_that_there_are_not_are_not_kept(api):
    long = "x" * 10_000

    def act():
        for number in range(500):
            api.refused(f"/docs/{long}{number}", 404, "NOT_FOUND")

    api.refused("/docs/nothing", 404, "NOT_FOUND")
    assert grown(act) < 1_000_000  # 5 MB were asked for


def test_headers_are_not_kept(api):
    def act():
        for number in range(200):
            api.refused("/v1/tokens?chain=1", 406, "NOT_ACCEPTABLE", accept=f"text/x{number}{'y' * 10_000}")

    assert grown(act) < 500_000


def test_shapes_have_a_bound_in_bytes_and_the_oldest_goes_first(make_client, monkeypatch):
    monkeypatch.setattr("api.catalog.MOST_SHAPED_BYTES", 100_000)
    monkeypatch.setattr("api.database.PREPARED_BYTES", 100_000)
    client = make_client()
    made = []
    monkeypatch.setattr("api.sql.source.page_statement", _counted(made))
    first, *others = shapes(60)
    for one in others:
        client.get(one)
        client.get(first)  # in use all the while
    assert len(made) == 60
    client.get(others[-1])
    assert len(made) == 60
    client.get(others[0])
    assert len(made) == 61

    def act():
        for one in shapes(300):
            client.get(one)

    assert grown(act) < 1_000_000  # 1.5 MB of texts alone


def _counted(made):
    make = source.page_statement

    def counted(*arguments):
        made.append(arguments)
        return make(*arguments)

    return counted


def test_prepared_statements_have_a_bound_in_bytes(world_url):
    context = create_context(ApiSettings(api_threads=1), world_url, None)
    try:
        client = Client(create_app(context))
        for one in shapes(500):
            client.get(one)
            client.get(one)
        sizes = "SELECT sum(length(statement)), count(*) FROM pg_prepared_statements"
        kept, count = map(int, context.database.query(sizes)[0])
    finally:
        context.close()
    assert count > 100  # the newest, not none
    assert kept <= PREPARED_BYTES


def test_unknown_keys_are_forgotten_one_by_one():
    asked = []

    class Nothing:
        def query(self, _text, values):
            asked.extend(values)
            return []

    keys = Keys(Nothing(), lambda: 0.0)
    texts = [new_key().text for _ in range(60_000)]
    for text in texts:
        with pytest.raises(ApiError):
            keys.find(text)
    assert len(asked) == 60_000
    assert keys.remembered(texts[-1])
    assert keys.remembered(texts[-10_000])
    assert not keys.remembered(texts[0])


def test_a_bounded_cache():
    gone = []
    cache = BoundedCache(4_000, lambda key, _: gone.append(key))
    for number in range(1_000):
        assert cache.put(f"key {number}", b"x" * 100)
        assert cache.get("key 0")
    assert cache.used_bytes <= 4_000
    assert 5 < len(cache) < 20
    assert "key 0" not in gone
    assert gone == sorted(gone, key=lambda name: int(name[4:]))
    assert not cache.put("large", b"x" * 5_000)
    assert cache.get("large") is None
    assert cache.get("key 0")
    assert cache.once("made", lambda: b"y") == cache.once("made", lambda: b"z") == b"y"
    cache.drop("made")
    assert cache.get("made") is None
    assert weight({"a": ("b" * 1_000, [b"c" * 1_000]), "d": frozenset({"e" * 1_000})}) > 3_000
