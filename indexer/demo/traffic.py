"""Random traffic on the demo's world: seeded, varied, and now and then failing, as on a real chain.

:func:`step` sends one transaction, :func:`run` keeps doing so, :func:`burst` makes a dense history at once. What is
sent depends on the random generator and on the chain's state alone: a seed gives the same burst on a fresh chain again.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from random import Random

import requests
from web3.exceptions import Web3Exception
from web3.types import TxParams

from indexer.demo.actions import ContractCall, choose
from indexer.demo.world import TIP, World, batch, mining_by_hand, request, transaction
from indexer.errors import GaplessError

log = logging.getLogger(__name__)


def step(world: World, random: Random, *, hostile: bool = False) -> str:
    """Send one random transaction, without waiting for it to be mined.

    Args:
        world: where.
        random: decides what.
        hostile: also logs that belie their topic, and texts with a NUL byte.

    Returns:
        The transaction's hash, 0x hex.

    Raises:
        GaplessError: the node refused it.
    """
    call = choose(world, random, hostile=hostile)
    return str(request(world.w3, "eth_sendTransaction", _fields(call, TIP)))


def run(world: World, random: Random, stop: threading.Event, interval: float) -> None:
    """Send a transaction about every ``interval`` seconds until ``stop`` is set.

    A node that does not answer is waited for: traffic is company for the indexer and never a reason to fail.
    """
    while not stop.wait(random.uniform(0.5, 1.5) * interval):
        try:
            step(world, random)
        except (GaplessError, Web3Exception, requests.RequestException) as error:
            log.warning("A transaction of the demo's traffic was not sent, the next one will be tried: %s", error)


def burst(world: World, random: Random, transactions: int, blocks: int, *, hostile: bool = False) -> tuple[int, int]:
    """Make a dense history: ``transactions`` spread unevenly over ``blocks`` new blocks, a second apart.

    The node's own mining is switched off meanwhile and put back afterwards. No other program may send from the world's
    accounts at the same time. The chain's clock has moved ``blocks`` seconds ahead at the end.

    Args:
        world: where.
        random: decides what, and in which block.
        transactions: how many are mined, those that fail included.
        blocks: how many blocks, most of them empty or nearly so where there are few transactions for them.
        hostile: also logs that belie their topic, and texts with a NUL byte.

    Returns:
        The first and the last block made.

    Raises:
        GaplessError: ``blocks`` is not positive, or the node refused something.
    """
    if blocks < 1:
        raise GaplessError(f"A burst needs at least one block, not {blocks}")
    w3 = world.w3
    with mining_by_hand(w3):
        first = w3.eth.block_number + 1
        nonces: dict[str, int] = {a: w3.eth.get_transaction_count(a, "pending") for a in world.accounts}
        for count, size in _runs(_sizes(random, transactions, blocks)):
            _send(world, [choose(world, random, hostile=hostile) for _ in range(size)], nonces)
            request(w3, "anvil_mine", hex(count), "0x1")
    return first, first + blocks - 1


def _sizes(random: Random, transactions: int, blocks: int) -> list[int]:
    """How many transactions each block gets: a few blocks get most of them, many get none."""
    weights = [random.random() ** 4 for _ in range(blocks)]
    chosen = Counter(random.choices(range(blocks), weights, k=transactions))
    return [chosen[block] for block in range(blocks)]


def _runs(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """(number of blocks, transactions in the first of them): empty blocks are mined together with the one before."""
    position = 0
    while position < len(sizes):
        count = 1
        while position + count < len(sizes) and sizes[position + count] == 0:
            count += 1
        yield count, sizes[position]
        position += count


def _send(world: World, calls: list[ContractCall], nonces: dict[str, int]) -> None:
    """Sends a block's transactions in one batch, which fixes their order in it too.

    The node works on the calls of a batch at the same time and orders a block by what is paid, so each transaction has
    its nonce and pays one wei less than the one before.
    """
    sends = []
    for place, call in enumerate(calls):
        fields = {**_fields(call, TIP - place), "nonce": hex(nonces[call.sender])}
        nonces[call.sender] += 1
        sends.append(("eth_sendTransaction", [fields]))
    batch(world.w3, sends)


def _fields(call: ContractCall, tip: int) -> TxParams:
    return transaction(call.sender, call.to, call.data, gas=call.gas, tip=tip)
