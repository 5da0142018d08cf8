"""Random histories without a node: every derived table compared after each step with what Python makes of the rows.

What happens in which order is decided by a seed, as for ledgers: backfill in any order, growth at the head,
reorganisations, changed rows, other addresses, other rules, and steps of a few rows at a time.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from indexer.intervals import intersect, subtract
from indexer.store.database import psycopg_connection
from indexer.store.derived import counting, generations, recount, steps
from indexer.store.rows import writer
from indexer.store.tokens import balances
from tests.integration.balances.test_ledgers import ACTIONS, CHAIN, Model

RULES = """
[derived.flow]
from = "coins.Transfer"
where = "from_address <> to_address"
key = {{ holder = "to_address", bucket = "block_number / 10" }}
count = "moves"
sum = {{ total = "value {sign} 1" }}
average = {{ mean = "value" }}
min = {{ least = "value" }}
max = {{ most = "value % 7" }}
first = {{ opened = "from_address" }}
last = {{ closed = "from_address" }}

[derived.moves]
from = ["coins.Transfer", "nft.Transfer"]
key = ["to_address"]
count = "moves"

[derived.big]
from = "coins.Transfer"
where = "value > {least}"
select = {{ twice = "value * 2" }}
stored = true
index = ["from_address"]

[derived.tokens]
from = "big"
key = {{ token = "contract_address" }}
sum = {{ twice = "twice" }}
last = {{ newest = "twice" }}

[derived.owned]
from = "coins.Transfer"
lookup = {{ nft = {{ event = "nft.Transfer", on = "to_address = to_address" }} }}
key = {{ nft = "coalesce(nft.token_id, -1)" }}
count = "moves"
sum = {{ total = "value" }}

[derived.crowd]
from = "flow"
where = "moves {sign} 1 <> 1"
key = {{ bucket = "bucket" }}
count = "holders"
sum = {{ total = "total" }}
average = {{ mean = "moves" }}

[derived.crowds]
from = "crowd"
key = {{ large = "holders > 2" }}
count = "buckets"
sum = {{ total = "total + coalesce(mean, 0) * 0" }}

[derived.busy]
from = "moves"
key = {{ third = "moves % 3" }}
count = "holders"
sum = {{ share = "60 / moves" }}
average = {{ mean = "nullif(moves, 2)" }}

[derived.holders]
sql = "SELECT chain_id, holder, sum(total) AS total FROM derived.flow GROUP BY 1, 2"
key = ["holder"]
"""

Row = dict[str, Any]


class DerivedModel(Model):
    sign, least, with_rules = "+", 0, True

    def more(self) -> str:
        return RULES.format(sign=self.sign, least=self.least) if self.with_rules else ""

    # -- what happens

    def step(self) -> None:
        with self.engine.connect() as connection:
            every = [one for one in generations.progress(connection, CHAIN) if one.generation.active]
        if every:
            one = self.random.choice(every).generation.derived_id
            with self.engine.begin() as connection:
                assert steps.advance(connection, CHAIN, one, rows=self.random.choice((1, 5, 1000)))

    def serve(self) -> None:
        steps.serve_caught_up(self.engine)

    def other_rules(self) -> None:
        match self.random.choice(("sign", "least", "without")):
            case "sign":
                self.sign = self.random.choice("+-")
            case "least":
                self.least = self.random.choice((0, 1, 5))
            case "without":
                self.with_rules = self.random.random() < 0.6
        self.apply()

    def killed(self) -> None:
        super().killed()
        with self.engine.connect() as connection:
            for one in generations.progress(connection, CHAIN):
                steps.advance(connection, CHAIN, one.generation.derived_id)
            connection.rollback()

    def rewrite(self) -> None:
        _, sources, _ = self.look()
        source, number = self.random.choice(sources), self.random.randint(0, self.finalized)
        here = ((number, number),)
        if not intersect(source.coverage, here) or source.event.label == "items.TransferBatch":
            return
        for at, (label, *_) in enumerate(self.blocks[number]):
            while label == source.event.label:
                other = self.log()
                if other[0] == label:
                    self.blocks[number][at] = other
                    break
        ids = [source.event.event_id]
        with (
            self.engine.begin() as connection,
            balances.rewriting(connection, CHAIN, ids, here),
            counting.rewriting(connection, CHAIN, ids, here),
        ):
            writer.delete_rows(connection, CHAIN, source.event, source.place, here)
            writer.insert_rows(connection, CHAIN, self.rows([source], here))

    # -- what must be

    def check(self) -> None:
        super().check()
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            driver = psycopg_connection(connection)
            every = generations.progress(connection, CHAIN)
            coins, nft = (_rows(driver, f"{name}.transfer") for name in ("coins", "nft"))
            for one in every:
                counted = {n for a, b in one.coverage for n in range(a, b + 1)}
                assert one.problem is None
                assert recount.differences(connection, one, 3) == (0, [])
                if one.generation.served:
                    shown = driver.execute(f"SELECT * FROM derived.{one.generation.name}")
                    found = sorted(tuple(map(_plain, row[1:])) for row in shown)
                    inside = [[row for row in rows if row["block_number"] in counted] for rows in (coins, nft)]
                    assert found == sorted(_truth(one.generation, *inside, nft)), one
            names = {one.generation.name for one in every if one.generation.served}
            if self.with_rules:
                assert names == {"flow", "moves", "big", "tokens", "owned", "crowd", "crowds", "busy"}
                driver.execute("SELECT * FROM derived.holders")
            connection.rollback()

    def settle(self) -> None:
        self.with_rules = True
        self.apply()
        super().settle()
        with self.engine.connect() as connection:
            waiting = [one.generation.derived_id for one in steps.waiting(connection, CHAIN)]
        for one in waiting:
            done = None
            while done is None or not done.is_last:
                with self.engine.begin() as connection:
                    done = steps.advance(connection, CHAIN, one, rows=7)
        steps.serve_caught_up(self.engine)
        with self.engine.connect() as connection:
            every = generations.progress(connection, CHAIN)
            assert all(one.generation.served and one.generation.active for one in every), every
            assert len(every) == 8
            for one in every:
                assert not subtract(steps.covered(connection, one), one.coverage)
                assert one.coverage[-1][1] == self.tip
        self.check()


def _rows(driver: Any, table: str) -> list[Row]:
    cursor = driver.execute(f"SELECT * FROM {table} ORDER BY block_number, log_index")
    names = [column.name for column in cursor.description]
    return [dict(zip(names, map(_plain, row), strict=True)) for row in cursor]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return bytes(value) if isinstance(value, bytes | memoryview) else value


def _truth(
    one: generations.Generation, coins: list[Row], nft: list[Row], every_nft: list[Row]
) -> list[tuple[Any, ...]]:
    """What a derived table shows, without the chain, of the rows that are counted."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    match one.name:
        case "flow":
            return _flow(one.rule, coins)
        case "crowd" | "crowds":
            crowd = _crowd(one.rule, coins)
            return crowd if one.name == "crowd" else _crowds(crowd)
        case "moves" | "busy":
            moves = _moves(coins + nft)
            return moves if one.name == "moves" else _busy(moves)
        case "owned":
            for row in coins:
                before = [
                    other["token_id"]
                    for other in every_nft
                    if other["to_address"] == row["to_address"] and _place(other) < _place(row)
                ]
                groups[before[-1] if before else -1,].append(row)
            return [(*key, len(rows), sum(row["value"] for row in rows)) for key, rows in groups.items()]
    assert one.rule.layer is not None
    where = (one.rule if one.name == "big" else one.rule.layer.below).layer.where
    big = [row | {"twice": row["value"] * 2} for row in coins if row["value"] > int(where.split(">")[1])]
    if one.name == "big":
        return [tuple(row.values())[1:] for row in big]
    for row in big:
        groups[row["contract_address"],].append(row)
    return [(*key, sum(row["twice"] for row in rows), rows[-1]["twice"]) for key, rows in groups.items()]


def _flow(rule: Any, coins: list[Row]) -> list[tuple[Any, ...]]:
    sign = 1 if "+" in rule.folds["sum"]["total"] else -1
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in coins:
        if row["from_address"] != row["to_address"]:
            groups[row["to_address"], row["block_number"] // 10].append(row)
    return [
        (
            *key, len(rows), sum(row["value"] + sign for row in rows),
            _mean([row["value"] for row in rows]), min(row["value"] for row in rows),
            max(row["value"] % 7 for row in rows), rows[0]["from_address"], rows[-1]["from_address"],
        )
        for key, rows in groups.items()
    ]  # fmt: skip


def _moves(transfers: list[Row]) -> list[tuple[Any, ...]]:
    groups: dict[bytes, int] = defaultdict(int)
    for row in transfers:
        groups[row["to_address"]] += 1
    return list(groups.items())


def _crowd(rule: Any, coins: list[Row]) -> list[tuple[Any, ...]]:
    flow, crowd, *_ = rule.levels
    sign = 1 if "+" in crowd.layer.where else -1
    groups = defaultdict(list)
    for _, bucket, moves, total, *_ in _flow(flow, coins):
        if moves + sign != 1:
            groups[bucket].append((moves, total))
    return [
        (bucket, len(some), sum(total for _, total in some), _mean([moves for moves, _ in some]))
        for bucket, some in groups.items()
    ]


def _crowds(crowd: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    groups = defaultdict(list)
    for _, holders, total, _ in crowd:
        groups[holders > 2].append(total)
    return [(large, len(totals), sum(totals)) for large, totals in groups.items()]


def _busy(moved: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    groups = defaultdict(list)
    for _, moves in moved:
        groups[moves % 3].append(moves)
    return [
        (
            third,
            len(some),
            sum(60 // moves for moves in some),
            _mean(rest) if (rest := [moves for moves in some if moves != 2]) else None,
        )
        for third, some in groups.items()
    ]


def _place(row: Row) -> tuple[int, int]:
    return row["block_number"], row["log_index"]


class _Close:
    """A quotient, which Postgres rounds."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return abs(float(self.value) - float(other)) <= 1e-9 * max(1.0, float(self.value))  # type: ignore[arg-type]

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other)

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > other)

    __hash__ = None  # type: ignore[assignment]


def _mean(values: list[Any]) -> _Close:
    return _Close(sum(values) / len(values))


DERIVED_ACTIONS = {**ACTIONS, "advance": 2, "step": 18, "serve": 3, "other_rules": 3, "rewrite": 8}


@pytest.mark.promise("D-01")
@pytest.mark.parametrize("seed", range(3))
def test_every_derived_table_is_right_at_every_moment(seed, migrated_url, tmp_path, pytestconfig):
    model = DerivedModel(seed, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    for _ in range(45):
        (action,) = model.random.choices(list(DERIVED_ACTIONS), list(DERIVED_ACTIONS.values()))
        getattr(model, action)()
        model.done[action] += 1
        model.check()
    model.settle()
    model.engine.dispose()
