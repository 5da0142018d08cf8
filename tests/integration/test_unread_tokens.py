"""Which of a factory's children are looked at for tokens that were not read: not all of them, again and again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.scale import children_idle
from benchmarks.scale._setup import applied, declared
from indexer.chain.client import ChainClient
from indexer.store.apply.apply import apply
from indexer.store.cache import Cache
from indexer.store.catalog.children import adopt
from indexer.store.tokens import metadata
from indexer.sync.tokens import metadata_job
from indexer.sync.tokens.metadata_job import UnreadTokens

FINALIZED = 100


def execute(engine: Engine, text: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(text), values)


def announce(engine: Engine, number: int, block: int) -> None:
    execute(
        engine,
        "INSERT INTO gapless.children (chain_id, contract_id, address, block_number, log_index, factory_address) "
        "SELECT 1, id, decode(lpad(to_hex(CAST(:number AS integer)), 40, '0'), 'hex'), :block, 0, '\\x00' "
        "FROM gapless.contracts WHERE name = 'child'",
        number=number,
        block=block,
    )


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """Twenty children, all of whose tokens were read."""
    with applied(postgres_url, children_idle.MANIFEST, children_idle.ABIS) as one:
        apply(one, declared(children_idle.MANIFEST + children_idle.CHILD, children_idle.ABIS))
        adopt(one, 1, threading.Event())
        execute(
            one,
            "UPDATE gapless.chains SET finalized_number = :number, finalized_hash = '\\x00', tip_number = :number + 5, "
            "tip_hash = '\\x00', tip_time = now()",
            number=FINALIZED,
        )
        for number in range(1, 21):
            announce(one, number, number)
        execute(
            one,
            "INSERT INTO gapless.tokens (chain_id, address, block_number) SELECT 1, address, 1 FROM gapless.children",
        )
        yield one


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of each look: above which block, and how many children it found."""
    looks: list[tuple[int, int]] = []
    unread = metadata.unread

    def spy(*arguments: Any, above: int) -> list[bytes]:
        found = unread(*arguments, above=above)
        looks.append((above, len(found)))
        return []  # nothing is asked of a node

    monkeypatch.setattr(metadata, "unread", spy)
    return looks


def test_children_that_were_read_are_not_looked_at_again(engine: Engine, looked: list[tuple[int, int]]) -> None:
    seen = UnreadTokens()

    def refresh() -> tuple[int, int]:
        metadata_job.refresh(engine, cast(ChainClient, None), 1, frozenset({"child"}), Cache(None), seen)
        return looked[-1]

    assert refresh() == (-1, 0)
    assert refresh() == (FINALIZED, 0)
    announce(engine, 21, FINALIZED + 1)
    assert refresh() == (FINALIZED, 1), "one that the head has announced"
    announce(engine, 22, 50)
    execute(engine, "UPDATE gapless.events SET version = version + 1")
    assert refresh() == (-1, 2), "history has written announcements"
    assert refresh() == (FINALIZED, 1)
    execute(engine, "UPDATE gapless.catalog SET version = version + 1")
    assert refresh() == (-1, 2), "another manifest was applied"
    seen.looked_at -= metadata_job.ALL_EVERY
    assert refresh() == (-1, 2), "those that said nothing are asked again"
