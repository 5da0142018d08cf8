"""The API over a real chain that was really indexed: the demo's contracts after a busy history, balances at the tip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from api.app import create_app
from api.context import create_context
from api.settings import ApiSettings
from indexer.sync.tokens import balances
from tests import databases
from tests.integration.api.conftest import Client
from tests.integration.balances import oracle
from tests.integration.balances.conftest import text_of
from tests.integration.sync.rig import Rig, rig
from tests.world import History


@dataclass(frozen=True)
class RealChain:
    """What was indexed, of which chain, and the API over it."""

    api: Client
    rig: Rig
    history: History
    _said: dict[int, oracle.Holdings] = field(default_factory=dict)

    def said(self, block: int, name: str | None = None) -> oracle.Holdings:
        """What the tokens themselves say that everybody has at a block; of all, or of one."""
        if block not in self._said:
            self._said[block] = oracle.on_chain(self.history.world, block)
        token = None if name is None else bytes.fromhex(self.history.world.addresses[name][2:])
        return {key: amount for key, amount in self._said[block].items() if token in (None, key[0])}

    def walk(self, path: str) -> list[dict[str, Any]]:
        """The rows of all pages."""
        found: list[dict[str, Any]] = []
        joint = "&" if "?" in path else "?"
        cursor = ""
        while True:
            answer = self.api.get(f"{path}{joint}{cursor}" if cursor else path)
            found += answer["data"]
            if answer["page"]["next"] is None:
                return found
            cursor = f"after={answer['page']['next']}"


@pytest.fixture(scope="module")
def real(postgres_url: str, shared_history: History, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealChain]:
    """Only to be read."""
    url = databases.create(postgres_url, prefix="real")
    node = str(shared_history.world.w3.provider.endpoint_uri)
    with rig(text_of(shared_history), tmp_path_factory.mktemp("real"), node, url) as one:
        follower = one.follower()
        one.catch_up(follower)
        balances.catch_up(one.engine, one.chain.chain_id)
        follower.close()
        context = create_context(ApiSettings(api_unindexed_window=100), url, None)
        yield RealChain(Client(create_app(context)), one, shared_history)
        context.close()
    databases.drop(postgres_url, url)
