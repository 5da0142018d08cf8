"""A number without a block is known by a link, in whatever words a node speaks of it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.reads import null_blocks
from indexer.chain.records.errors import AnswerError, FatalError, LaggingError, ProviderError, TransientError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from tests.chaos.chain import CHAIN_ID, Chain
from tests.chaos.node import NULL_WORDINGS, Node, RpcError, Server, serving
from tests.chaos.stage import Twist

LAST_BEFORE, FIRST_AFTER = 10, 14


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture
def chain() -> Chain:
    """Blocks 0 to 10 and 14 to 24."""
    made = Chain(Random(5))
    made.mine(LAST_BEFORE)
    made.append(skip=FIRST_AFTER - LAST_BEFORE - 1)
    made.mine(10)
    return made


@pytest.fixture(params=NULL_WORDINGS)
def node(request, chain) -> Node:
    made = Node(chain, liar=Twist())
    made.null_wording = request.param
    return made


def client(server: Server, node: Node, **more) -> ChainClient:
    settings = ClientSettings(attempts=2, first_backoff=0.01, longest_backoff=0.02, **more)
    return ChainClient("sim", CHAIN_ID, [EndpointConfig(server.add("null", node))], settings=settings)


@pytest.mark.parametrize("number", [11, 12, 13])
def test_the_blocks_around_a_number_without_one(server, node, chain, number):
    made = client(server, node)
    made.head()
    assert made.header(number) is None
    found = made.at_or_below(number)
    assert found is not None
    assert found.hash == chain.block(LAST_BEFORE).hash
    run = made.null_run(number)
    assert (run.below.number, run.above.number) == (LAST_BEFORE, FIRST_AFTER)
    assert made.pool.endpoints[0].null_blocks, "it is not asked twice for the next one"


def test_a_number_with_a_block_and_one_beyond_the_head(server, node, chain):
    made = client(server, node)
    made.head()
    (endpoint,) = made.pool.endpoints
    for number in (LAST_BEFORE, FIRST_AFTER, chain.head.number, chain.head.number + 3):
        assert null_blocks.find(endpoint, number, RequestContext()) is None
    assert made.at_or_below(chain.head.number + 3) is None


def test_silence_of_a_block_that_is_there_proves_nothing(server, node):
    """Its child is shown, and the child's parent is the very block."""
    hidden = FIRST_AFTER + 4
    node.liar.lie = lambda node, call, result: (
        None if call["method"] == "eth_getBlockByNumber" and call["params"][0] == hex(hidden) else result
    )
    made = client(server, node)
    made.head()
    assert made.null_run(hidden) is None
    with pytest.raises(LaggingError):
        made.branch(FIRST_AFTER, hidden + 2, LogFilter())
    with pytest.raises(LaggingError):
        list(made.scan([(FIRST_AFTER, hidden)], LogFilter()))


def test_a_parent_that_is_not_shown_proves_nothing(server, node):
    node.liar.lie = lambda node, call, result: None if call["method"] == "eth_getBlockByHash" else result
    made = client(server, node)
    made.head()
    assert null_blocks.find(made.pool.endpoints[0], 12, RequestContext()) is None


@pytest.mark.parametrize(("first", "last"), [(8, 16), (11, 16), (8, 12), (8, 10), (14, 16), (13, 14)])
def test_a_branch_passes_over_the_run(server, node, chain, first, last):
    made = client(server, node)
    made.head()
    parent = chain.head.ancestor(first - 1)
    found = made.branch(first, last, LogFilter(), parent_hash=parent.hash)
    expected = [block for block in chain.canonical if first <= block.number <= last]
    assert [header.hash for header in found.headers] == [block.hash for block in expected]
    assert len(found.logs) == sum(len(block.logs) for block in expected)


def test_a_branch_of_no_block_goes_on_to_the_next_one(server, node, chain):
    made = client(server, node)
    made.head()
    found = made.branch(11, 12, LogFilter(), parent_hash=chain.block(LAST_BEFORE).hash)
    assert [header.number for header in found.headers] == [FIRST_AFTER]
    assert len(found.logs) == len(chain.block(FIRST_AFTER).logs)


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_scan_covers_the_run(server, node, chain, width, batch_size):
    made = client(server, node, start_blocks=width, max_blocks=width, batch_size=batch_size)
    chunks = list(made.scan([(3, 20)], LogFilter()))
    assert [chunk.first for chunk in chunks] == [3, *(chunk.last + 1 for chunk in chunks[:-1])]
    assert chunks[-1].last == 20
    expected = [block for block in chain.canonical if 3 <= block.number <= 20]
    assert [log.block_number for chunk in chunks for log in chunk.logs] == [b.number for b in expected for _ in b.logs]
    for chunk in chunks:
        assert chunk.end.hash == chain.head.ancestor(chunk.last).hash, "the newest block at or below the last number"


def test_code_and_calls_at_a_number_without_a_block(server, node, chain):
    made = client(server, node)
    made.head()
    said = made.eth_call(b"\1" * 20, bytes.fromhex("18160ddd"), 12)
    assert int.from_bytes(said) == chain.block(LAST_BEFORE).supply("0x" + "01" * 20)
    assert made.code(b"\1" * 20, 12) == b""


def test_which_errors_may_be_about_a_number_without_a_block():
    assert null_blocks.may_be(LaggingError("null"))
    assert null_blocks.may_be(AnswerError("another block"))
    assert null_blocks.may_be(TransientError("no words that are known", code=-32000))
    assert not null_blocks.may_be(TransientError("the connection was closed"))
    assert not null_blocks.may_be(FatalError("a wrong key"))


def test_a_refusal_that_is_about_something_else_stands(server, node):
    """The range begins at a number without a block, and the node refuses it for another reason."""

    def refuses(node: Node, call, result):
        if call["method"] == "eth_getLogs":
            raise RpcError(-32000, "quite unheard of")
        return result

    node.liar.lie = refuses
    made = client(server, node)
    with pytest.raises(ProviderError, match=r"unheard of|there is nothing|null round"):
        made.branch(11, 16, LogFilter())
