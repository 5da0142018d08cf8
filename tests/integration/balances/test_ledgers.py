"""Random histories without a node: the store's own writers, a model in Python, every ledger compared after each step.

What happens in which order is decided by a seed: backfill in any order, growth at the head, reorganisations, finality,
changed rows, another manifest, and ledgers that are taken further a few rows at a time.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from random import Random
from typing import Any

import pytest

from indexer.block_records import BlockColumns
from indexer.intervals import intersect, pieces
from indexer.store.apply.apply import apply
from indexer.store.catalog import catalog, ledgers
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.ledgers import Ledger
from indexer.store.catalog.version import load_version
from indexer.store.database import create_engine
from indexer.store.head import branch as head
from indexer.store.head import state
from indexer.store.rows import writer
from indexer.store.rows.blocks import Block
from indexer.store.rows.writer import Rows, WriteOutcome
from indexer.store.tokens import balance_checks, balances, orphan_holdings
from indexer.sync.setup.declaration import declaration
from tests.further import further
from tests.integration.sync.rig import write_manifest

#: The place of a block's first log, of some blocks in a row: real nodes begin at 0xffffffe2, too.
FIRST_PLACES = (0, 0xFFFFFFE2, 2**62, 7)
CHAIN = 7
ZERO = bytes(20)
HOLDERS = [ZERO, *(bytes([n]) * 20 for n in range(1, 7))]
COINS = [bytes([0xC0 + n]) * 20 for n in range(4)]
NFT, ITEMS = bytes([0xAA]) * 20, bytes([0xBB]) * 20
MANIFEST = """
[chains.seven]
id = 7
rpc = ["http://127.0.0.1:1"]

[contracts.coins]
chain = "seven"
abi = "{abis}/erc20.json"
address = [{coins}]
start_block = {start}

[contracts.nft]
chain = "seven"
abi = "{abis}/erc721.json"
address = "0x{nft}"
start_block = 3

[contracts.items]
chain = "seven"
abi = "{abis}/erc1155.json"
address = "0x{items}"
start_block = 0

[balances]
contracts = [{kept}]
daily = [{daily}]
"""

Key = tuple[bytes, int, bytes]
"""Token, token id, holder."""

Move = tuple[str, bytes, bytes, bytes, int, int]
"""Contract, token, from, to, token id, amount."""


def time_of(number: int) -> int:
    """The time of a block, in seconds: four or five of them a day, as ``gapless.day`` has it."""
    return 1_700_000_000 + 18_000 * number


def place_of(number: int, index: int) -> int:
    """The place of a block's log, its ``log_index``; ``index`` counts from 0."""
    return FIRST_PLACES[number % len(FIRST_PLACES)] + index


class Model:
    """A chain, and how much of it is in the database."""

    def __init__(self, seed: int, database_url: str, folder: Any, abis: Any) -> None:
        self.random = Random(seed)
        self.folder, self.abis = folder, abis
        self.engine = create_engine(database_url)
        self.coins, self.start, self.kept = COINS[:2], 2, ["coins", "nft", "items"]
        self.daily = ["coins", "nft", "items"]
        self.blocks: dict[int, list[tuple[str, list[Any], list[Move]]]] = {}
        self.branch = 0
        self.hashes: dict[int, bytes] = {}
        self.done: Counter[str] = Counter()
        self.apply()
        for number in range(40):
            self.mine(number)
        self.finalized = self.tip = 39
        with self.engine.begin() as connection:
            self.epoch = state.become_follower(connection, CHAIN, "test")
            head.start(connection, CHAIN, self.epoch, self.hashes[0], self.block(39))

    # -- the chain

    def mine(self, number: int) -> None:
        self.hashes[number] = number.to_bytes(4, "big") + self.branch.to_bytes(4, "big") + bytes(24)
        self.blocks[number] = [self.log() for _ in range(self.random.choice((0, 0, 1, 2, 6)))]

    def log(self) -> tuple[str, list[Any], list[Move]]:
        """An event's label, its arguments, and what it moves."""
        pick = self.random.choice
        giver, receiver = pick(HOLDERS), pick(HOLDERS)
        amount = pick((0, 1, 5, 2**256 - 1))
        match pick(("coins", "coins", "nft", "single", "batch")):
            case "coins":
                move = ("coins", pick(COINS), giver, receiver, 0, amount)
                return "coins.Transfer", [giver, receiver, amount], [move]
            case "nft":
                number = pick((0, 1, 2**255))
                return "nft.Transfer", [giver, receiver, number], [("nft", NFT, giver, receiver, number, 1)]
            case "single":
                number = pick((0, 1, 2**256 - 1))
                move = ("items", ITEMS, giver, receiver, number, amount)
                return "items.TransferSingle", [pick(HOLDERS), giver, receiver, number, amount], [move]
        numbers = [pick((0, 1, 1, 3)) for _ in range(pick((0, 1, 4)))]
        amounts = [pick((0, 1, 7)) for _ in range(pick((len(numbers), len(numbers), 2)))]
        moves: list[Move] = [("items", ITEMS, giver, receiver, n, a) for n, a in zip(numbers, amounts, strict=False)]
        return "items.TransferBatch", [pick(HOLDERS), giver, receiver, numbers, amounts], moves

    def block(self, number: int) -> Block:
        return Block(number, self.hashes[number], time_of(number), self.hashes.get(number - 1))

    def rows(self, sources: list[Source], ranges: Any) -> Rows:
        rows = Rows()
        for number in (n for first, last in ranges for n in range(first, last + 1)):
            time = datetime.fromtimestamp(time_of(number), UTC)
            for index, (label, arguments, moves) in enumerate(self.blocks[number]):
                token = {"coins": moves[0][1] if moves else ZERO, "nft": NFT, "items": ITEMS}[label.split(".")[0]]
                for source in sources:
                    if source.event.label == label and "0x" + token.hex() in source.place.addresses:
                        row = (CHAIN, number, time, bytes(32), 0, place_of(number, index), token, *arguments)
                        table = rows.by_table.setdefault(source.event.event_id, (source.event.table, []))
                        if number in {n for a, b in source.within((number, number)) for n in range(a, b + 1)}:
                            table[1].append(row)
        return rows

    def look(self) -> tuple[int, list[Source], dict[int, CatalogEvent]]:
        with self.engine.connect() as connection:
            version = load_version(connection)
            return version, catalog.load_sources(connection, CHAIN), catalog.load_events(connection)

    def followed(self, sources: list[Source]) -> list[Source]:
        return [s for s in sources if not intersect(s.gap(self.tip), ((self.finalized + 1, self.tip),))]

    # -- what happens

    def apply(self) -> None:
        quoted = ", ".join(f'"0x{coin.hex()}"' for coin in self.coins)
        text = MANIFEST.format(
            abis=self.abis, coins=quoted, start=self.start, nft=NFT.hex(), items=ITEMS.hex(),
            kept=", ".join(f'"{name}"' for name in self.kept),
            daily=", ".join(f'"{name}"' for name in self.daily if name in self.kept),
        )  # fmt: skip
        manifest = write_manifest(text + self.more(), self.folder, "")
        apply(self.engine, declaration(manifest))

    def more(self) -> str:
        """What else stands in the manifest."""
        return ""

    def other_manifest(self) -> None:
        match self.random.choice(("coins", "coins", "start", "kept", "daily")):
            case "coins":
                self.coins = self.random.sample(COINS, self.random.randint(1, 3))
            case "start":
                self.start = self.random.randint(0, 5)
            case "kept":
                self.kept = self.random.sample(["coins", "nft", "items"], self.random.randint(1, 3))
            case "daily":
                self.daily = self.random.sample(["coins", "nft", "items"], self.random.randint(1, 3))
        self.apply()

    def backfill(self) -> None:
        version, sources, _ = self.look()
        gaps = [(s, part) for s in sources for part in pieces(s.gap(self.finalized), self.random.choice((2, 5, 40)))]
        if not gaps:
            return
        source, part = self.random.choice(gaps)
        # Other sources that lack the same go along.
        mine = [s for s in sources if s is source or intersect(s.gap(self.finalized), (part,)) == (part,)]
        with self.engine.begin() as connection:
            outcome = writer.write_history(
                connection, CHAIN, part, mine, rows=self.rows(mine, (part,)),
                blocks=BlockColumns.of({part[1]: (self.hashes[part[1]], time_of(part[1]))}),
                catalog_version=version,
            )  # fmt: skip
        assert outcome is WriteOutcome.WRITTEN

    def grow(self) -> None:
        first, last = self.tip + 1, self.tip + self.random.choice((1, 1, 1, 3))
        for number in range(first, last + 1):
            self.mine(number)
        version, sources, _ = self.look()
        mine = self.followed(sources)
        if mine and self.random.random() < 0.2:
            mine.remove(self.random.choice(mine))  # one that has not joined yet, after a start
        mark = self.follow(mine, version)
        with self.engine.begin() as connection:
            head.extend(
                connection, CHAIN, self.epoch, after=first - 1, blocks=[self.block(n) for n in range(first, last + 1)],
                sources=mine, mark=mark, rows=self.rows(mine, ((first, last),)), catalog_version=version,
            )  # fmt: skip
        self.tip = last

    def follow(self, sources: list[Source], version: int) -> int:
        with self.engine.begin() as connection:
            return state.follow_sources(connection, CHAIN, self.epoch, [s.source_id for s in sources], version)

    def join(self) -> None:
        version, sources, _ = self.look()
        for source in sources:
            if missing := intersect(source.gap(self.tip), ((self.finalized + 1, self.tip),)):
                with self.engine.begin() as connection:
                    head.fill(
                        connection, CHAIN, self.epoch, sources=[source], ranges=missing,
                        rows=self.rows([source], missing), catalog_version=version,
                    )  # fmt: skip

    def swap(self) -> None:
        if self.tip == self.finalized:
            return
        old, common = self.block(self.tip), self.random.randint(self.finalized, self.tip - 1)
        version, sources, events = self.look()
        mine = self.followed(sources)
        self.branch += 1
        last = common + self.random.randint(0, 5)
        for number in range(common + 1, self.tip + 1):
            del self.blocks[number], self.hashes[number]
        for number in range(common + 1, last + 1) if last > common else ():
            self.mine(number)
        blocks = [self.block(n) for n in range(common + 1, last + 1)]
        mark = self.follow(mine, version)
        with self.engine.begin() as connection:
            head.swap(
                connection, CHAIN, self.epoch, common=self.block(common), old_tip=old, blocks=blocks, sources=mine,
                mark=mark, events=events.values(), series=(), catalog_version=version,
                rows=self.rows(mine, ((common + 1, last),) if blocks else ()),
            )  # fmt: skip
        self.tip = last

    def finalize(self) -> None:
        _, sources, _ = self.look()
        if len(self.followed(sources)) == len(sources):
            self.finalized = self.random.randint(self.finalized, self.tip)
            with self.engine.begin() as connection:
                head.finalize(connection, CHAIN, self.epoch, self.block(self.finalized), None)

    def rewrite(self) -> None:
        """As a repair does: other rows in covered blocks."""
        _, sources, _ = self.look()
        source = self.random.choice(sources)
        number = self.random.randint(0, self.finalized)
        if not intersect(source.coverage, ((number, number),)) or source.event.label != "nft.Transfer":
            return
        here = ((number, number),)
        others = [log for log in self.blocks[number] if log[0] != "nft.Transfer"]
        self.blocks[number] = others + [log for log in (self.log() for _ in range(6)) if log[0] == "nft.Transfer"]
        with self.engine.begin() as connection, balances.rewriting(connection, CHAIN, [source.event.event_id], here):
            writer.delete_rows(connection, CHAIN, source.event, source.place, here)
            writer.insert_rows(connection, CHAIN, self.rows([source], here))

    def advance(self) -> None:
        with self.engine.connect() as connection:
            live = [one for one in ledgers.load(connection, CHAIN) if one.live]
        if live:
            with self.engine.begin() as connection:
                one = self.random.choice(live)
                assert balances.advance(connection, CHAIN, one.ledger_id, rows=self.random.choice((1, 5, 1000)))

    def killed(self) -> None:
        """A step of whatever kind that never commits."""
        with self.engine.connect() as connection:
            for one in ledgers.load(connection, CHAIN):
                balances.advance(connection, CHAIN, one.ledger_id)
            connection.rollback()

    def sweep(self) -> None:
        with self.engine.begin() as connection:
            orphan_holdings.sweep(connection)

    # -- what must be

    def truth(self, ledger: Ledger) -> tuple[dict[Key, int], dict[tuple[date, Key], tuple[int, int]]]:
        """Each holder's amount in the end; and for each day that changes it, the amount at its end and the change.

        The days are empty where the ledger keeps none.
        """
        sums: Counter[Key] = Counter()
        before: Counter[Key] = Counter()
        days: dict[tuple[date, Key], tuple[int, int]] = {}
        for number in range(ledger.start_block, ledger.through_block + 1):
            for _, _, moves in self.blocks[number]:
                for contract, token, giver, receiver, token_id, amount in moves:
                    if contract == ledger.contract and "0x" + token.hex() in ledger.place.addresses:
                        sums[token, token_id, giver] -= amount
                        sums[token, token_id, receiver] += amount
            day = datetime.fromtimestamp(time_of(number), UTC).date()
            if number == ledger.through_block or datetime.fromtimestamp(time_of(number + 1), UTC).date() != day:
                changed = {key: sums[key] - before[key] for key in sums if any(key[2]) and sums[key] != before[key]}
                days |= {(day, key): (sums[key], change) for key, change in changed.items()}
                before = sums.copy()
        return {key: amount for key, amount in sums.items() if amount and any(key[2])}, days if ledger.daily else {}

    def days(self, connection: Any, ledger: Ledger) -> dict[tuple[date, Key], tuple[int, int]]:
        rows = connection.exec_driver_sql(
            "SELECT day, token, token_id, holder, amount, change FROM gapless.holdings_daily WHERE ledger_id = %s",
            (ledger.ledger_id,),
        )
        return {(day, (bytes(t), int(i), bytes(h))): (int(a), int(c)) for day, t, i, h, a, c in rows}

    def check(self) -> None:
        with self.engine.connect() as connection:
            every = ledgers.load(connection, CHAIN)
            for ledger in every:
                rows = connection.exec_driver_sql(
                    "SELECT token, token_id, holder, amount FROM gapless.holdings WHERE ledger_id = %s",
                    (ledger.ledger_id,),
                )
                found = {(bytes(t), int(i), bytes(h)): int(a) for t, i, h, a in rows}
                days = self.days(connection, ledger)
                assert (found, days) == self.truth(ledger), ledger
                self.done["days"] += len(days)
                assert ledger.live or ledger.served
                assert ledger.through_block <= max(self.tip, ledger.start_block - 1)
                if ledger.live:
                    assert balance_checks.differences(connection, ledger, 3) == (0, [])
            assert {one.contract for one in every if one.live} == set(self.kept)
            assert {one.contract for one in every if one.served} >= set(self.kept)

    def settle(self) -> None:
        self.join()
        while any(s.gap(self.finalized) for s in self.look()[1]):
            self.backfill()
        with self.engine.connect() as connection:
            live = [one for one in ledgers.load(connection, CHAIN) if one.live]
        for one in live:
            while True:
                with self.engine.begin() as connection:
                    step = balances.advance(connection, CHAIN, one.ledger_id)
                assert step is not None
                if step.is_last:
                    break
        with self.engine.begin() as connection:
            while orphan_holdings.sweep(connection):
                pass
            served = [one for one in ledgers.load(connection, CHAIN) if one.contract in self.kept]
            assert [one.through_block for one in served if one.live and one.served] == [self.tip] * len(self.kept)
            assert len(served) == len(self.kept)
        self.check()


ACTIONS = {
    "backfill": 12, "grow": 10, "advance": 16, "swap": 5, "join": 4, "finalize": 3, "rewrite": 4, "other_manifest": 2,
    "killed": 1, "sweep": 2,
}  # fmt: skip


@pytest.mark.promise("B-03", "B-08")
@pytest.mark.parametrize("seed", [*range(4), *map(further, range(4, 12))])
def test_every_ledger_is_right_at_every_moment(seed, migrated_url, tmp_path, pytestconfig):
    model = Model(seed, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    for _ in range(80):
        (action,) = model.random.choices(list(ACTIONS), list(ACTIONS.values()))
        getattr(model, action)()
        model.done[action] += 1
        model.check()
    model.settle()
    assert model.done["days"]
    model.engine.dispose()
