"""Which questions sources of one chain share."""

from __future__ import annotations

import pytest

from indexer.addresses import Children, DiscoveryBlocks
from indexer.chain.records.log_filter import LogFilter
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.declaration import Place
from indexer.store.schema.layout import EventTable
from indexer.sync.rows.gaps import log_filters

A, B, C = ("0x" + digit * 40 for digit in "abc")
ONE, TWO = (bytes([number]) * 32 for number in (1, 2))


def source(topic0: bytes, place: Place, contract: int = 1) -> Source:
    event = CatalogEvent(
        event_id=contract * 10 + topic0[0],
        contract_id=contract,
        contract=f"c{contract}",
        name="E",
        api_name="E",
        signature="E()",
        topic0=topic0,
        anonymous=False,
        item={},
        table=EventTable(1, "c", "e", ()),
    )
    return Source(1, 1, event, place, 0, None, (), ())


def hexed(*topics: bytes) -> tuple[str, ...]:
    return tuple("0x" + topic.hex() for topic in topics)


LISTED = Place("addresses", (A, B))
ANY = Place("any", ())
CHILDREN = Place("factory", ())
BORN: Children = {2: DiscoveryBlocks()}
BORN[2][C] = 5


@pytest.mark.parametrize(
    ("sources", "asked"),
    [
        ([source(ONE, LISTED), source(TWO, LISTED)], [LogFilter((A, B), (hexed(ONE, TWO),))]),
        ([source(ONE, CHILDREN, 2), source(TWO, CHILDREN, 2)], [LogFilter((C,), (hexed(ONE, TWO),))]),
        ([source(ONE, CHILDREN, 3)], []),
        # What is asked of any address is not asked of listed ones, nor of children, again.
        ([source(ONE, LISTED), source(ONE, ANY, 4)], [LogFilter(None, (hexed(ONE),))]),
        (
            [source(ONE, LISTED), source(TWO, LISTED), source(ONE, ANY, 4), source(ONE, CHILDREN, 2)],
            [LogFilter((A, B), (hexed(TWO),)), LogFilter(None, (hexed(ONE),))],
        ),
        # But a filtered question at any address does not bring all.
        (
            [source(ONE, LISTED), source(ONE, Place("any", (), filters=({1: hexed(TWO)},)), 4)],
            [LogFilter((A, B), (hexed(ONE),)), LogFilter(None, (hexed(ONE), hexed(TWO)))],
        ),
    ],
)
def test_nothing_is_asked_twice(sources: list[Source], asked: list[LogFilter]) -> None:
    assert list(log_filters(sources, BORN)) == asked
