"""What the demo's traffic consists of: each action makes one random call from the chain's state.

Most calls succeed. Some fail on purpose, and some by chance (a portrait that was burned in the same block), which is
wanted too: a failed transaction leaves no log, and no row may come of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from types import MappingProxyType
from typing import Any

from eth_utils.abi import event_abi_to_log_topic
from web3.exceptions import ContractLogicError

from indexer.demo.contracts import artifact
from indexer.demo.values import TEXTS, random_address, random_integer, random_value
from indexer.demo.world import FUNGIBLE, ITEM_IDS, TRADED, World

MAX_UINT256 = 2**256 - 1


@dataclass(frozen=True)
class ContractCall:
    """A call that an account is about to send. Gas is a bound, not an estimate."""

    sender: str
    to: str
    data: bytes
    gas: int = 2_000_000


Action = Callable[[World, Random], ContractCall]


def choose(world: World, random: Random, *, hostile: bool = False) -> ContractCall:
    """One random call; with ``hostile`` also logs that belie their topic and texts with a NUL byte."""
    weights = {**ACTIONS, **HOSTILE_ACTIONS} if hostile else ACTIONS
    [action] = random.choices(list(weights), list(weights.values()))
    return action(world, random)


# ERC-20 ---------------------------------------------------------------------------------------------------------------


def transfer(world: World, random: Random) -> ContractCall:
    """Mostly small and to a neighbour; sometimes nothing at all, to oneself, or to an address never seen."""
    sender = _account(world, random)
    receiver = random.choice((_account(world, random), _account(world, random), random_address(random), sender))
    amount = random.choice((0, 1, random.randrange(10**20)))
    return _call(world, sender, random.choice(FUNGIBLE), "transfer", receiver, amount)


def transfer_too_much(world: World, random: Random) -> ContractCall:
    """Fails: no account has that much."""
    return _call(world, _account(world, random), "gold", "transfer", _account(world, random), MAX_UINT256)


def approve(world: World, random: Random) -> ContractCall:
    """Often without limit, as applications do."""
    amount = random.choice((MAX_UINT256, 0, random.randrange(10**24)))
    return _call(world, _account(world, random), random.choice(TRADED), "approve", _account(world, random), amount)


def transfer_from(world: World, random: Random) -> ContractCall:
    """Succeeds where an approval came before."""
    giver, receiver = _account(world, random), _account(world, random)
    return _call(world, _account(world, random), random.choice(TRADED), "transferFrom", giver, receiver, 10**9)


def mint(world: World, random: Random) -> ContractCall:
    """New money, of any amount that the pools can bear."""
    receiver = random.choice((_account(world, random), random_address(random)))
    return _call(world, _account(world, random), random.choice(FUNGIBLE), "mint", receiver, random.randrange(10**24))


def burn(world: World, random: Random) -> ContractCall:
    """Some money less."""
    return _call(world, _account(world, random), random.choice(TRADED), "burn", random.randrange(10**20))


def spread(world: World, random: Random) -> ContractCall:
    """One transaction with as many logs as receivers, none included."""
    receivers = [random_address(random) for _ in range(random.choice((0, 2, 5, 20)))]
    return _call(world, _account(world, random), random.choice(TRADED), "spread", receivers, random.randrange(10**15))


# ERC-721 --------------------------------------------------------------------------------------------------------------


def nft_mint(world: World, random: Random) -> ContractCall:
    """One, or a few at once."""
    return _call(world, _account(world, random), "nft", "mint", _account(world, random), random.choice((1, 1, 1, 4)))


def nft_transfer(world: World, random: Random) -> ContractCall:
    """From its owner to any account, the owner included."""
    owner, token = _portrait(world, random)
    receiver = random.choice((_account(world, random), owner, random_address(random)))
    return _call(world, owner, "nft", "transferFrom", owner, receiver, token)


def nft_burn(world: World, random: Random) -> ContractCall:
    """By its owner."""
    owner, token = _portrait(world, random)
    return _call(world, owner, "nft", "burn", token)


def nft_approve(world: World, random: Random) -> ContractCall:
    """One portrait, for some account."""
    owner, token = _portrait(world, random)
    return _call(world, owner, "nft", "approve", _account(world, random), token)


def nft_approve_all(world: World, random: Random) -> ContractCall:
    """All portraits, given or taken back."""
    operator = _account(world, random)
    return _call(world, _account(world, random), "nft", "setApprovalForAll", operator, random.random() < 0.7)


def _portrait(world: World, random: Random) -> tuple[str, int]:
    """A portrait and its owner; where that is no account we can send from, some account that will fail."""
    nft = world.contract("nft").functions
    token = random.randint(1, max(1, nft.minted().call()))
    try:
        owner = nft.ownerOf(token).call()
    except ContractLogicError:  # burned
        owner = None
    return (owner if owner in world.accounts else _account(world, random)), token


# ERC-1155 -------------------------------------------------------------------------------------------------------------


def items_mint(world: World, random: Random) -> ContractCall:
    """An ordinary kind, or a kind and an amount of any size."""
    if random.random() < 0.8:
        arguments = (_account(world, random), random.choice(ITEM_IDS), random.randint(1, 1000))
    else:
        arguments = (
            random_address(random),
            random_integer(random, 0, MAX_UINT256),
            random_integer(random, 0, MAX_UINT256),
        )
    return _call(world, _account(world, random), "items", "mint", *arguments)


def items_mint_batch(world: World, random: Random) -> ContractCall:
    """Several kinds, repeated ones too, or none."""
    ids, amounts = _items(random, 1000)
    return _call(world, _account(world, random), "items", "mintBatch", _account(world, random), ids, amounts)


def items_transfer(world: World, random: Random) -> ContractCall:
    """One kind."""
    sender = _account(world, random)
    receiver = random.choice((_account(world, random), sender, random_address(random)))
    arguments = (sender, receiver, random.choice(ITEM_IDS), random.randrange(100), b"")
    return _call(world, sender, "items", "safeTransferFrom", *arguments)


def items_transfer_batch(world: World, random: Random) -> ContractCall:
    """Several kinds; an array of one is still a batch to some contracts, and a single transfer to others."""
    sender = _account(world, random)
    receiver = random.choice((_account(world, random), random_address(random)))
    return _call(world, sender, "items", "safeBatchTransferFrom", sender, receiver, *_items(random, 100), b"")


def items_burn(world: World, random: Random) -> ContractCall:
    """One kind."""
    return _call(world, _account(world, random), "items", "burn", random.choice(ITEM_IDS), random.randrange(50))


def items_burn_batch(world: World, random: Random) -> ContractCall:
    """Several kinds."""
    return _call(world, _account(world, random), "items", "burnBatch", *_items(random, 50))


def items_approve(world: World, random: Random) -> ContractCall:
    """All kinds, given or taken back."""
    operator = _account(world, random)
    return _call(world, _account(world, random), "items", "setApprovalForAll", operator, random.random() < 0.7)


def items_describe(world: World, random: Random) -> ContractCall:
    """A new URI: the one event of the standard with a text."""
    return _call(world, _account(world, random), "items", "describe", random.choice(ITEM_IDS), random.choice(TEXTS))


def _items(random: Random, limit: int) -> tuple[list[int], list[int]]:
    count = random.choice((0, 1, 2, 3, 5))
    return random.choices(ITEM_IDS, k=count), [random.randrange(limit) for _ in range(count)]


# The exchange ---------------------------------------------------------------------------------------------------------


def swap(world: World, random: Random) -> ContractCall:
    """One way or the other, rarely both."""
    amounts = random.choice(((1, 0), (0, 1), (1, 1)))
    arguments = (_pair(world, random), *(n * random.randrange(1, 10**21) for n in amounts), _account(world, random))
    return _call(world, _account(world, random), "trader", "swap", *arguments)


def sweep(world: World, random: Random) -> ContractCall:
    """Many swaps on several pairs in one transaction."""
    pairs = [_pair(world, random) for _ in range(random.randint(1, 3))]
    amount = random.randrange(1, 10**18)
    return _call(world, _account(world, random), "trader", "sweep", pairs, amount, _account(world, random))


def provide(world: World, random: Random) -> ContractCall:
    """Liquidity, the shares of which the trader keeps or an account receives."""
    owner = random.choice((world.addresses["trader"], _account(world, random)))
    amounts = (random.randrange(10**9, 10**22), random.randrange(10**9, 10**22))
    return _call(world, _account(world, random), "trader", "provide", _pair(world, random), *amounts, owner)


def withdraw(world: World, random: Random) -> ContractCall:
    """A part of the trader's liquidity."""
    arguments = (_pair(world, random), random.randint(1, 100), _account(world, random))
    return _call(world, _account(world, random), "trader", "withdraw", *arguments)


def share_approve(world: World, random: Random) -> ContractCall:
    """A pair is a token of its own, with approvals of its own."""
    data = artifact("Pair").encode("approve", _account(world, random), random.choice((0, MAX_UINT256)))
    return ContractCall(_account(world, random), _pair(world, random), data)


def launch(world: World, random: Random) -> ContractCall:
    """A new token and its pair, which speaks in the very transaction in which the factory announces it."""
    number = random.randrange(10_000)
    arguments = (
        f"Launched {number}",
        f"L{number}",
        world.addresses[random.choice(TRADED)],
        random.randrange(10**9, 10**24),
    )
    call = _call(world, _account(world, random), "trader", "launch", *arguments)
    return ContractCall(call.sender, call.to, call.data, gas=5_000_000)


def create_pair_twice(world: World, random: Random) -> ContractCall:
    """Fails: the pair exists since the beginning."""
    tokens = (world.addresses["gold"], world.addresses["silver"])
    return _call(world, _account(world, random), "factory", "createPair", *tokens)


def _pair(world: World, random: Random) -> str:
    factory = world.contract("factory").functions
    return str(factory.allPairs(random.randrange(factory.allPairsLength().call())).call())


# The zoo --------------------------------------------------------------------------------------------------------------


def zoo(world: World, random: Random) -> ContractCall:
    """Any event of the zoo, with random arguments."""
    signature = random.choice(_emitters())
    inputs = artifact("Zoo").functions[signature]["inputs"]
    return _call(world, _account(world, random), "zoo", signature, *(random_value(random, i) for i in inputs))


def refuse(world: World, random: Random) -> ContractCall:
    """Fails after it has emitted an event."""
    return _call(world, _account(world, random), "zoo", "refuse", random.choice(TEXTS))


def truncated(world: World, random: Random) -> ContractCall:
    """A log of the zoo's with a part of its data missing, or data that points outside itself."""
    events: list[Any] = [item for item in artifact("Zoo").abi if item["type"] == "event" and not item["anonymous"]]
    event = random.choice(events)
    topics = [event_abi_to_log_topic(event)] + [random.randbytes(32) for i in event["inputs"] if i["indexed"]]
    data = random.choice((b"", random.randbytes(31), random.randbytes(95), b"\xff" * 320))
    return _call(world, _account(world, random), "zoo", "rawLog", topics[: random.randint(1, 4)], data)


def nul_text(world: World, random: Random) -> ContractCall:
    """A text that Postgres cannot store as it is."""
    return _call(world, _account(world, random), "zoo", "emitTexts", f"before\0after {random.random()}", b"\0")


@cache
def _emitters() -> list[str]:
    return sorted(signature for signature in artifact("Zoo").functions if signature.startswith("emit"))


def _account(world: World, random: Random) -> str:
    return random.choice(world.accounts)


def _call(world: World, sender: str, name: str, function: str, *arguments: Any) -> ContractCall:
    return ContractCall(sender, world.addresses[name], world.artifacts[name].encode(function, *arguments))


ACTIONS: Mapping[Action, int] = MappingProxyType(
    {
        transfer: 20,
        approve: 4,
        transfer_from: 4,
        mint: 4,
        burn: 4,
        spread: 3,
        nft_mint: 5,
        nft_transfer: 8,
        nft_burn: 2,
        nft_approve: 2,
        nft_approve_all: 2,
        items_mint: 4,
        items_mint_batch: 3,
        items_transfer: 5,
        items_transfer_batch: 5,
        items_burn: 2,
        items_burn_batch: 2,
        items_approve: 2,
        items_describe: 1,
        swap: 15,
        sweep: 3,
        provide: 5,
        withdraw: 5,
        share_approve: 2,
        launch: 2,
        zoo: 30,
        transfer_too_much: 2,
        create_pair_twice: 1,
        refuse: 2,
    }
)
HOSTILE_ACTIONS: Mapping[Action, int] = MappingProxyType({truncated: 6, nul_text: 3})
