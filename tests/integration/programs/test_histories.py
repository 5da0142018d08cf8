"""Random histories without a node: the store's own writers, and a program compared with a plain replay at every moment.

What happens in which order is decided by a seed, as for ledgers: backfill in any order, growth, reorganisations,
finality, changed rows, another manifest, other code, and steps of the program that are killed before they commit.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa

from indexer.programs import module
from indexer.programs.runner import ProgramRunner
from indexer.store.programs import program_generations, program_tables
from indexer.store.programs.program_generations import ProgramGeneration
from tests.integration.balances.test_ledgers import ACTIONS, CHAIN, NFT, ZERO, Model, place_of

HERE = Path(__file__).parent
State = tuple[dict[tuple[bytes, bytes], int], dict[bytes, tuple[bytes, int, int]]]


class KilledHereError(Exception):
    """The process ends here."""


class ProgramModel(Model):
    """The chain of the ledgers' tests, with a program."""

    def __init__(self, seed: int, database_url: str, folder: Any, abis: Any) -> None:
        super().__init__(seed, database_url, folder, abis)
        self.codes = 0
        self.other_code()
        self.runner = self.run_anew()

    def other_code(self) -> None:
        self.codes += 1
        path = self.folder / "chained.py"
        path.write_text((HERE / "chained.py").read_text() + f"\n# {self.codes}\n")
        self.loaded = module.load(path)
        self.runner = self.run_anew()

    def run_anew(self) -> ProgramRunner:
        """As a process that has just started: nothing is in memory."""
        pick = self.random.choice
        return ProgramRunner(
            self.engine, "chained", self.loaded, CHAIN,
            working_set=pick((4, 12, 1000)), step_rows=pick((1, 5, 1000)), write_rows=pick((1, 10, 1000)),
        )  # fmt: skip

    def restart(self) -> None:
        self.runner = self.run_anew()

    def step(self) -> None:
        for _ in range(self.random.choice((1, 3, 20))):
            self.done[f"step {self.runner.step()}"] += 1

    def killed_step(self) -> None:
        """A process that ends in the middle of writing."""
        points = ["write", "forget_before"] if self.random.random() < 0.5 else ["write"]
        point = self.random.choice(points)
        before = getattr(program_tables, point)

        def write(*arguments: Any) -> None:
            before(*arguments)
            raise KilledHereError

        with mock.patch.object(program_tables, point, write):
            try:
                self.step()
            except KilledHereError:
                self.done["killed while writing"] += 1
        self.restart()

    def swapped_meanwhile(self) -> None:
        """A reorganisation, or growth, between what a step reads and what it writes."""
        before = ProgramRunner._write
        moved = []

        def write(runner: ProgramRunner, work: Any) -> None:
            if not moved:
                moved.append(self.random.choice(("swap", "swap", "grow", "rewrite", "other_manifest")))
                getattr(self, moved[0])()
            before(runner, work)

        with mock.patch.object(ProgramRunner, "_write", write):
            self.step()
        self.done.update(f"meanwhile {one}" for one in moved)

    # -- what must be

    def replay(self, first: int, last: int) -> State:
        held: Counter[tuple[bytes, bytes]] = Counter()
        trails: dict[bytes, tuple[bytes, int, int]] = {}
        for number in range(first, last + 1):
            for index, (label, arguments, moves) in enumerate(self.blocks[number]):
                if label == "coins.Transfer":
                    token, amount, start = moves[0][1], arguments[2], self.start
                    if token not in self.coins:
                        continue
                elif label == "nft.Transfer":
                    token, amount, start = NFT, 1, 3
                else:
                    continue
                if number < start:
                    continue
                giver, receiver = arguments[:2]
                held[giver, token] -= amount
                held[receiver, token] += amount
                digest, count, _ = trails.get(token, (bytes(32), 0, 0))
                said = b"%d %d " % (number, place_of(number, index)) + giver + receiver
                trails[token] = hashlib.sha256(digest + said).digest(), count + 1, number
        return {key: n % 2**256 for key, n in held.items() if n % 2**256 and key[0] != ZERO}, trails

    def stored(self, driver: Any, names: list[str]) -> State:
        held, trails = names
        rows = driver.exec_driver_sql(f"SELECT holder, token, amount FROM derived.{held}")
        holdings = {(bytes(h), bytes(t)): int(n) for h, t, n in rows}
        rows = driver.exec_driver_sql(f"SELECT token, digest, moves, last_block FROM derived.{trails}")
        return holdings, {bytes(t): (bytes(d), int(n), b) for t, d, n, b in rows}

    def check(self) -> None:
        super().check()
        with self.engine.connect() as connection:
            connection.execution_options(isolation_level="REPEATABLE READ")
            states = {
                row.name: row for row in connection.execute(sa.text("SELECT * FROM gapless.program_states")).all()
            }
            for one in program_generations.load(connection):
                self.check_one(connection, one)
                if one.served and not states["chained"].stale:
                    assert self.stored(connection, ["held", "trail"]) == self.replay(
                        one.start_block, states["chained"].block_number
                    )
                    self.done["fresh"] += 1

    def check_one(self, connection: Any, one: ProgramGeneration) -> None:
        assert one.through_block <= max(self.tip, one.start_block - 1)
        disturbed = connection.execute(
            sa.text("SELECT count(*) FROM gapless.program_disturbances WHERE program_id = :id AND first_block <= :at"),
            {"id": one.program_id, "at": one.through_block},
        ).scalar_one()
        if one.live and not disturbed:
            found = self.stored(connection, [table.stored_as for table in one.tables])
            assert found == self.replay(one.start_block, one.through_block), one
            self.done["checked"] += 1

    def live(self, rounds: int = 3, actions: int = 20) -> None:
        """Lets much happen to a program that has come to the tip before."""
        for _ in range(rounds):
            self.settle()
            for _ in range(actions):
                (action,) = self.random.choices(list(MOVES), list(MOVES.values()))
                getattr(self, action)()
                self.done[action] += 1
                self.check()
        self.settle()

    def settle(self) -> None:
        super().settle()
        for _ in range(500):
            self.done["settled"] += 1
            if self.runner.step() == "idle":
                break
        with self.engine.connect() as connection:
            (one,) = program_generations.load(connection)
            assert (one.live, one.served, one.through_block, one.problem) == (True, True, self.tip, None)
            tables = connection.execute(
                sa.text("SELECT count(*) FROM pg_class WHERE relnamespace = 'derived'::regnamespace AND relkind = 'r'")
            )
            assert tables.scalar_one() == 4, "tables of former generations are gone"
        self.check()


MOVES = {
    **{name: weight for name, weight in ACTIONS.items() if name not in ("advance", "killed", "sweep")},
    "step": 20, "restart": 2, "killed_step": 4, "swapped_meanwhile": 4, "other_code": 1,
}  # fmt: skip


@pytest.mark.promise("Q-01", "Q-02", "Q-03")
@pytest.mark.parametrize("seed", [3, 13])
def test_a_program_is_what_a_plain_replay_gives_at_every_moment(seed, migrated_url, tmp_path, pytestconfig):
    model = ProgramModel(seed, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    model.live()
    assert model.done["checked"] > 20
    assert model.done["step moved"]
    model.engine.dispose()
