"""The rows of ``benchmarks.scale``, small: each of them measures something, and what it measures is there."""

import threading

import pytest

from benchmarks import scale
from benchmarks.scale import token_discovery
from benchmarks.scale._setup import applied
from indexer.store.catalog import catalog
from indexer.store.rows import indexes
from indexer.store.tokens import metadata


@pytest.mark.parametrize("name", scale.names())
def test_a_row_is_measured(name: str, postgres_url: str) -> None:
    row = scale.measure(name, postgres_url, small=True)
    assert row.name
    assert row.unit
    assert row.measured >= 0
    assert row.bar > 0


def test_tokens_are_looked_for_once_their_addresses_have_an_index(postgres_url: str) -> None:
    with applied(postgres_url, token_discovery.MANIFEST, token_discovery.ABIS) as engine:
        with engine.begin() as connection:
            (event,) = catalog.load_events(connection).values()
            token_discovery.fill(connection, rows=100, emitters=3)
            assert len(metadata.unread_emitters(connection, 1, event, 10)) == 3
            indexes.put_off(connection, {event.event_id})
            assert metadata.unread_emitters(connection, 1, event, 10) == []
            indexes.call_for(connection, {event.event_id})
        indexes.build(engine, threading.Event())
        with engine.connect() as connection:
            assert len(metadata.unread_emitters(connection, 1, event, 10)) == 3


def test_a_figure_is_on_one_side_of_its_bar() -> None:
    assert scale.Row("", 2, 1, "ms").holds is False
    assert scale.Row("", 2, 1, "chains", at_least=True).holds is True
