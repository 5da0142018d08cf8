"""The simulation with balances: at every moment they are the sum of the rows, whatever befalls those who keep them."""

from __future__ import annotations

from random import Random
from typing import Any
from unittest import mock

import pytest

from indexer.store import balances as store
from indexer.store import ledgers
from indexer.store.database import create_engine
from indexer.sync import balances
from tests.chaos import manifests
from tests.chaos.chain import CHAIN_ID
from tests.chaos.simulation import Simulation, Tale
from tests.chaos.truth import Picture, WrongError


class Bookkeeping(Simulation):
    """A seed in which the balances of all tokens are kept as well."""

    def run(self, steps: int = 60) -> Tale:
        self.dice = Random(self.tale.seed)
        self._auditor = create_engine(self.database_url, application_name="chaos auditor")
        self._engines.append(self._auditor)
        written = manifests.manifest

        def manifest(*arguments: Any, **named: Any) -> str:
            return written(*arguments, **named) + "\n[balances]\n"

        with mock.patch.object(manifests, "manifest", manifest):
            return super().run(steps)

    def _step(self) -> None:
        super()._step()
        if self.dice.random() < 0.6:
            self._keep(self.dice.choice(("one", "two")))

    def _keep(self, name: str) -> None:
        rows = self.dice.choice((2, 20, 1000))
        self._try(name, lambda p: balances.catch_up(p.engine, CHAIN_ID, step_rows=rows), "balances")

    def _read(self) -> Picture:
        picture = super()._read()
        self._check_ledgers()
        return picture

    def _settle(self) -> None:
        super()._settle()
        self._keep("one")
        tip = self._check_ledgers()
        with self._auditor.connect() as connection:
            live = [ledger for ledger in ledgers.load(connection, CHAIN_ID) if ledger.live]
        for ledger in live:
            if not ledger.served or ledger.through_block != tip:
                raise WrongError(f"the tip is {tip}, and the balances never come to it: {ledger}")
        self.tale.events["ledgers"] = len(live)

    def _check_ledgers(self) -> int:
        with self._auditor.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            every = ledgers.load(connection, CHAIN_ID)
            tip = connection.exec_driver_sql("SELECT coalesce(max(tip_number), -1) FROM gapless.chains").scalar_one()
            for ledger in every:
                if ledger.through_block > max(tip, ledger.start_block - 1):
                    raise WrongError(f"balances are beyond the tip {tip}: {ledger}")
                if not ledger.live:
                    continue
                count, differences = store.differences(connection, ledger, 3)
                if count:
                    raise WrongError(f"{count} balances of {ledger} are wrong: {differences}")
                self.tale.events["ledgers read"] += ledger.through_block >= ledger.start_block
            connection.rollback()
        return int(tip)


@pytest.mark.parametrize("seed", range(1, 5))
def test_balances_are_the_sum_of_the_rows(seed, chaos):
    with chaos.database() as (url, folder):
        tale = Bookkeeping(seed, chaos.server, url, folder).run()
    assert tale.events["ledgers read"] > 10
