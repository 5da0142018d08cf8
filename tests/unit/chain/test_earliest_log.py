"""Whether an address spoke before a block: one wide question, and narrower ones where that is refused."""

from collections.abc import Callable

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.logs.earliest_log import EarliestLog
from tests.providers.history import TOKEN, History
from tests.providers.node import Fragments, Node, Refusal

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]
ADDRESS = bytes.fromhex(TOKEN[2:])


def at_most(blocks: int) -> Callable[[Node, int, int], None]:
    def limit(_node: Node, first: int, last: int) -> None:
        if last - first + 1 > blocks:
            raise Refusal(-32005, f"exceed maximum block range: {blocks}")

    return limit


def test_one_wide_question_finds_it(serve: Serve, connect: Connect) -> None:
    node = serve(fragments=Fragments(History(2_000, (700, 700, 900))))
    assert connect(node).earliest_log(ADDRESS, 1_500) == EarliestLog(700, 0)
    assert connect(node).earliest_log(ADDRESS, 699) == EarliestLog(None, 0)
    assert len(node.ranges) == 2


@pytest.mark.parametrize(("blocks", "found"), [(500, EarliestLog(None, 1_001)), (1_000, EarliestLog(700, 501))])
def test_under_a_limit_it_says_how_far_it_looked(
    serve: Serve, connect: Connect, blocks: int, found: EarliestLog
) -> None:
    node = serve(fragments=Fragments(History(2_000, (700, 700, 900))), limit=at_most(blocks))
    assert connect(node).earliest_log(ADDRESS, 1_500) == found
    assert len(node.ranges) <= 3


def test_a_node_that_refuses_everything_has_looked_at_nothing(serve: Serve, connect: Connect) -> None:
    node = serve(fragments=Fragments(History(2_000, (700,))), limit=at_most(0))
    assert connect(node).earliest_log(ADDRESS, 1_500) == EarliestLog(None, 1_501)
