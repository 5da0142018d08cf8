"""The reader of changes: nothing lost, nothing twice, whatever happens while the reader is away."""

import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from api.context import Context, create_context
from api.cursors import Position
from api.errors import ApiError
from api.live.changes import Changes, Scope, end_of, read
from api.live.scopes import event_scope, feed_scope
from api.settings import ApiSettings
from tests.integration.api.growing import grow, headers, swap, transfer, transfers
from tests.integration.api.seed import Seed, block_hash
from tests.integration.api.world import ALICE, FINALIZED, GAP, PAIR_A, START, TIP


class Reader:
    """Stands somewhere, and keeps what a client would keep."""

    def __init__(self, context: Context, scope: Scope, position: Position | None = None) -> None:
        self.context = context
        self.scope = scope
        self.position = position
        self.rows: list[str] = []
        self.reverts: list[int] = []

    def step(self) -> Changes:
        changes = read(self.context.database, self.scope, self.position)
        if changes.common_block is not None:
            self.reverts.append(changes.common_block)
            self.rows = [r for r in self.rows if int(r.partition("-")[0]) <= changes.common_block]
        self.rows += [str(row.position.id) for row in changes.rows]
        assert len(set(self.rows)) == len(self.rows)
        if changes.position is not None:
            # What is kept is a text.
            self.position = Position.parse(str(changes.position))
        return changes

    def catch_up(self) -> Changes:
        for _ in range(1000):
            changes = self.step()
            if not changes.more:
                return changes
        raise AssertionError("never done")


@pytest.fixture
def context(world_url: str, seed: Seed) -> Iterator[Context]:
    headers(seed)
    context = create_context(ApiSettings(api_unindexed_window=50), world_url, None)
    yield context
    context.close()


def scope_of(context: Context, contract: str, event: str, *, limit: int = 500, **values: Any) -> Scope:
    catalog = context.catalog.current()
    return event_scope(
        catalog, catalog.contracts[contract].events[event], catalog.chain("ethereum"), values, window=50, limit=limit
    )


def feed_of(context: Context, *, limit: int = 500, **values: Any) -> Scope:
    catalog = context.catalog.current()
    chain = catalog.chain("ethereum")
    events = [e for c in catalog.contracts.values() if 1 in c.deployments for e in c.events.values()]
    return feed_scope(catalog, events, chain, values, window=50, limit=limit)


def after(block: int) -> Position:
    return end_of(block)


def ids(first: int, last: int) -> list[str]:
    return [f"{block}-{log}" for block in range(first, last + 1) for log in (3, 7)]


@pytest.mark.parametrize("limit", [1, 7, 500])
def test_rows_in_order_up_to_the_tip(context, limit):
    reader = Reader(context, scope_of(context, "usdc", "Transfer", limit=limit), after(1199))
    last = reader.catch_up()
    assert reader.rows == ids(1200, TIP)
    assert (last.through, last.waiting_for) == (TIP, None)
    assert str(reader.position) == f"{TIP}-9223372036854775807.{block_hash(TIP).hex()[:12]}"
    assert not reader.catch_up().rows


def test_a_row_is_what_a_page_has(context, api):
    changes = read(context.database, scope_of(context, "usdc", "Transfer"), after(TIP - 1))
    page = api.get("/v1/contracts/usdc/events/Transfer?limit=2&order=asc&from_block=1299")
    assert [orjson.loads(row.data) for row in changes.rows] == page["data"]
    feed = read(context.database, feed_of(context), after(TIP - 1))
    page = api.get("/v1/events?chain=ethereum&limit=2&order=asc&from_block=1299")
    assert [orjson.loads(row.data) for row in feed.rows] == page["data"]
    assert [(row["contract"], row["event"]) for row in (orjson.loads(row.data) for row in feed.rows)] == [
        ("usdc", "Transfer")
    ] * 2


def test_from_now(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer"))
    assert not reader.catch_up().rows
    assert reader.position == end_of(TIP, block_hash(TIP)[:6])
    grow(seed, TIP + 1)
    reader.catch_up()
    assert reader.rows == ids(TIP + 1, TIP + 1)


def test_a_gap_holds_up_what_is_behind_it(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer"), after(GAP[0] - 11))
    last = reader.catch_up()
    assert reader.rows == ids(GAP[0] - 10, GAP[0] - 1)
    assert (last.through, last.waiting_for) == (GAP[0] - 1, GAP[0])
    assert str(reader.position) == f"{GAP[0] - 1}-9223372036854775807"
    # A part of it is filled, then all of it.
    seed.rows("usdc", "Transfer", [transfer(1040, 1), transfer(1049, 1)])
    seed.cover("usdc", (START, 1044), (1050, TIP))
    assert reader.catch_up().waiting_for == 1045
    assert reader.rows[-1] == "1040-1"
    seed.cover("usdc", (START, TIP))
    assert reader.catch_up().waiting_for is None
    assert reader.rows == [*ids(GAP[0] - 10, GAP[0] - 1), "1040-1", "1049-1", *ids(GAP[1] + 1, TIP)]


def test_in_the_feed_one_source_holds_up_all(context, seed):
    reader = Reader(context, feed_of(context), after(1034))
    assert reader.catch_up().waiting_for == GAP[0]
    # The rows of other events beyond the gap were not told.
    assert all(int(row.partition("-")[0]) < GAP[0] for row in reader.rows)
    seed.cover("usdc", (START, TIP))
    reader.catch_up()
    blocks = [int(row.partition("-")[0]) for row in reader.rows]
    assert blocks == sorted(blocks)
    sync = context.catalog.current().contracts["pair"].events["Sync"].event_id
    assert f"1060-5-{sync}" in reader.rows


def test_an_end_and_a_start_of_what_is_wanted_are_no_gap(context, seed):
    seed.execute("UPDATE gapless.sources SET end_block = 1250, coverage = '{[1000,1251)}' WHERE chain_id = 1")
    reader = Reader(context, scope_of(context, "usdc", "Transfer"), after(500))
    last = reader.catch_up()
    assert (last.through, last.waiting_for) == (TIP, None)
    assert reader.rows[0] == "1000-3"


def test_a_retired_source_holds_nothing_up(context, seed):
    seed.execute(
        "UPDATE gapless.sources s SET active = false, coverage = '{[1000,1101)}' FROM gapless.events e "
        "WHERE e.id = s.event_id AND e.api_name = 'Sync'"
    )
    seed.cover("usdc", (START, TIP))
    reader = Reader(context, feed_of(context), after(1080))
    assert reader.catch_up().through == TIP
    assert Reader(context, scope_of(context, "pair", "Sync"), after(1080)).catch_up().through == TIP


@pytest.mark.parametrize("limit", [1, 500])
def test_a_reorganisation_while_away(context, seed, limit):
    reader = Reader(context, scope_of(context, "usdc", "Transfer", limit=limit), after(1279))
    reader.catch_up()
    swap(seed, 1290, TIP, TIP + 1, branch=1)
    reader.catch_up()
    assert reader.reverts == [1290]
    assert reader.rows == ids(1280, TIP + 1)
    assert reader.position == end_of(TIP + 1, block_hash(TIP + 1, 1)[:6])


def test_a_shorter_branch(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer"), after(1279))
    reader.catch_up()
    swap(seed, 1290, TIP, 1292, branch=1)
    reader.catch_up()
    assert (reader.reverts, reader.rows) == ([1290], ids(1280, 1292))
    swap(seed, 1285, 1292, 1285, branch=2)  # nothing follows yet
    reader.catch_up()
    assert (reader.reverts, reader.rows) == ([1290, 1285], ids(1280, 1285))


def test_several_reorganisations_while_away(context, seed):
    for depths in ((1290, 1280), (1280, 1290), (1295, 1290, 1270)):
        tip = seed.execute("SELECT tip_number FROM gapless.chains WHERE chain_id = 1").fetchone()[0]
        reader = Reader(context, scope_of(context, "usdc", "Transfer"), after(1259))
        reader.catch_up()
        for number, common in enumerate(depths, 1):
            swap(seed, common, tip, tip, branch=10 * depths[0] + number)
        reader.catch_up()
        assert reader.reverts == [min(depths)]
        assert reader.rows == ids(1260, tip)


def test_a_reorganisation_above_the_position_is_nothing_to_it(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer", limit=4), after(1284))
    reader.step()
    assert reader.rows == ids(1285, 1286)
    swap(seed, 1290, TIP, TIP, branch=1)
    reader.catch_up()
    assert (reader.reverts, reader.rows) == ([], ids(1285, TIP))


def test_a_reorganisation_of_the_row_where_the_reader_stands(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer", limit=3), after(1284))
    reader.step()
    assert str(reader.position) == f"1286-3.{block_hash(1286).hex()[:12]}"
    swap(seed, 1285, TIP, TIP, branch=1)
    reader.catch_up()
    assert (reader.reverts, reader.rows) == ([1285], ids(1285, TIP))


def test_a_branch_that_came_back_loses_nothing(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer"), after(1279))
    reader.catch_up()
    swap(seed, 1290, TIP, TIP, branch=1)
    swap(seed, 1290, TIP, TIP, branch=0)
    reader.catch_up()
    assert (reader.reverts, reader.rows) == ([], ids(1280, TIP))


def test_the_end_of_a_block_without_rows_is_noticed_too(context, seed):
    scope = scope_of(context, "usdc", "Approval")
    reader = Reader(context, scope)
    reader.catch_up()
    swap(seed, 1290, TIP, TIP, branch=1)
    assert reader.step().common_block == 1290
    assert reader.position == end_of(1290, block_hash(1290)[:6])
    reader.catch_up()
    assert reader.position == end_of(TIP, block_hash(TIP, 1)[:6])


def test_down_to_the_finalized_block(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer"), after(1199))
    reader.catch_up()
    swap(seed, FINALIZED, TIP, TIP, branch=1)
    reader.step()
    assert reader.position == end_of(FINALIZED)
    reader.catch_up()
    assert reader.rows == ids(1200, TIP)


def test_a_position_that_became_final_goes_on(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer"))
    reader.catch_up()
    seed.head(TIP, finalized=TIP, safe=TIP)
    assert reader.catch_up().common_block is None


def test_only_what_is_final(context, seed):
    reader = Reader(context, scope_of(context, "usdc", "Transfer", finality="finalized"), after(1190))
    reader.catch_up()
    assert reader.rows == ids(1191, FINALIZED)
    assert str(reader.position) == f"{FINALIZED}-9223372036854775807"
    swap(seed, FINALIZED, TIP, TIP, branch=1)
    seed.head(TIP, branch=1, finalized=1210)
    reader.catch_up()
    assert (reader.reverts, reader.rows) == ([], ids(1191, 1210))


def test_before_anything_is_indexed_there_is_no_now(context, seed):
    seed.execute("UPDATE gapless.chains SET tip_number = NULL, finalized_number = NULL WHERE chain_id = 1")
    seed.execute("UPDATE gapless.sources SET coverage = '{}' WHERE chain_id = 1")
    reader = Reader(context, scope_of(context, "usdc", "Transfer"))
    assert reader.step().position is None
    asked = read(context.database, reader.scope, after(1200))
    assert (asked.position, list(asked.rows), asked.more) == (after(1200), [], False)


def test_a_filter_without_an_index_goes_on_in_steps(context):
    reader = Reader(context, scope_of(context, "usdc", "Transfer", **{"arg.value": 10**30 + 12903}), after(1049))
    steps = 0
    while reader.step().more:
        steps += 1
    assert steps == 4
    assert reader.rows == ["1290-3"]
    assert reader.position == end_of(TIP, block_hash(TIP)[:6])


def test_filters(context):
    scope = scope_of(context, "usdc", "Transfer", **{"arg.from": ALICE})
    some = Reader(context, scope, after(1199))
    some.catch_up()
    assert 0 < len(some.rows) < len(ids(1200, TIP))
    scope = scope_of(context, "usdc", "Transfer", address=[PAIR_A])
    nothing = Reader(context, scope, after(1199))
    assert nothing.catch_up().rows == []


@pytest.mark.parametrize("block", [TIP + 1000, 2**63 - 1])
def test_a_position_in_the_future_waits(context, block):
    changes = read(context.database, scope_of(context, "usdc", "Transfer"), Position(block, 2**63 - 1))
    assert (changes.position, list(changes.rows), changes.more) == (Position(block, 2**63 - 1), [], False)


def test_a_position_of_another_database_is_refused(context):
    with pytest.raises(ApiError) as refused:
        read(context.database, scope_of(context, "usdc", "Transfer"), Position(TIP, 3, None, b"abcdef"))
    assert refused.value.code == "INVALID_CURSOR"


@pytest.mark.promise("L-01")
@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("merged", [False, True])
def test_whatever_happens_a_reader_has_what_is_there(context, seed, number, merged):
    """Blocks come, branches are swapped, history is filled in; the reader looks when it likes."""
    chance = random.Random(number)
    seed.cover("usdc", (START, TIP))
    tip, branch, floor = TIP, 0, FINALIZED

    def some() -> tuple[int, ...]:
        return (3, 7) if chance.random() < 0.6 else ()

    make = feed_of if merged else (lambda c, **v: scope_of(c, "usdc", "Transfer", **v))
    readers = [Reader(context, make(context, limit=chance.choice((1, 3, 50))), after(1189)) for _ in range(3)]
    for _ in range(40):
        match chance.choice(("grow", "grow", "swap", "finalize", "read", "read")):
            case "grow":
                tip += 1
                grow(seed, tip, branch=branch, finalized=floor, logs=some())
            case "swap":
                branch += 1
                common = max(floor, tip - chance.randrange(12))
                new_tip = common + chance.randrange(12)
                logs = {block: some() for block in range(common + 1, new_tip + 1)}
                swap(seed, common, tip, new_tip, branch=branch, finalized=floor, logs=logs)
                tip = new_tip
            case "finalize":
                floor = min(tip, floor + chance.randrange(4))
                seed.head(tip, branch=branch, finalized=floor, safe=floor)
            case "read":
                chance.choice(readers).step()
    truth = transfers(seed, 1190)
    for reader in readers:
        reader.catch_up()
        mine = [row.rpartition("-")[0] if merged else row for row in reader.rows]
        usdc = [row for row in mine if row.endswith(("-3", "-7"))]
        assert usdc == truth
