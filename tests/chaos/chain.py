"""A made-up chain with branches: real header hashes, real blooms, and of every log what the tables must hold of it.

Nothing here comes from the program under test: arguments are encoded by eth-abi, headers hashed by rlp and keccak, and
what a log means is known because it was made from its meaning.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from random import Random
from typing import Any

import rlp
from eth_abi import encode
from eth_utils.crypto import keccak
from trie.hexary import HexaryTrie

CHAIN_ID = 2**53
GENESIS_TIME = 1_700_006_400 - 110
"""So that block 55 begins another day."""
SECONDS_A_BLOCK = 2
_EMPTY_LIST_HASH = keccak(rlp.encode([]))


def address_of(name: str) -> str:
    return "0x" + keccak(name.encode())[-20:].hex()


def topic_of(signature: str) -> str:
    return "0x" + keccak(signature.encode()).hex()


TRANSFER = topic_of("Transfer(address,address,uint256)")
APPROVAL = topic_of("Approval(address,address,uint256)")
NOTE = topic_of("Note(address,string,bytes,uint256[])")
OPENED = topic_of("Opened(address)")
BORN = topic_of("Born((address,uint64),uint256)")
SAID = topic_of("Said(uint256,bytes32)")
NAMED = topic_of("Named(address,address,address)")
PAID = topic_of("Paid(address,int128)")
FOREIGN = topic_of("Foreign(uint256)")

COINS = tuple(address_of(f"coin {i}") for i in range(4))
HUB = address_of("hub")
HUBS = (HUB, address_of("second hub"))
PEOPLE = tuple(address_of(f"person {i}") for i in range(8))

# The two kinds of children and what announces them: (kind of child, first topic, announced by; None: the hubs).
FACTORY_RULES = (("branches", OPENED, None), ("kids", BORN, "branches"), ("kids", NAMED, None))


@dataclass(frozen=True)
class Saying:
    """A log without its place.

    Attributes:
        row: what its event's table must hold after the fixed columns; None: it cannot be decoded.
        noted: whether it must stand in ``undecoded_logs``.
        foreign: whether it must be counted in ``foreign_shapes``.
        announces: the addresses that it announces as children, by argument, if it is a factory's event.
    """

    address: str
    topics: tuple[str, ...]
    data: bytes
    row: tuple[Any, ...] | None
    noted: bool = False
    foreign: bool = False
    announces: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Transaction:
    """It may stand in several branches: a reorganisation moves it, or drops it."""

    hash: bytes
    sayings: tuple[Saying, ...]


@dataclass(frozen=True)
class Log:
    saying: Saying
    number: int
    tx_hash: bytes
    tx_index: int
    log_index: int


@dataclass(frozen=True)
class Birth:
    number: int
    log_index: int
    factory: str


@dataclass(eq=False)
class Block:
    """A block, and what is known of children after it, on its branch.

    Attributes:
        first_log: the index of its first log.
        per_transaction: ``logIndex`` counts anew in each transaction.
    """

    number: int
    parent: Block | None
    transactions: tuple[Transaction, ...]
    salt: bytes
    first_log: int = 0
    per_transaction: bool = False
    children: Mapping[str, Mapping[str, Birth]] = field(init=False)
    logs: tuple[Log, ...] = field(init=False)
    hash: bytes = field(init=False)
    bloom: bytes = field(init=False)

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.first_log, self.per_transaction = self.parent.first_log, self.parent.per_transaction
        logs: list[Log] = []
        for position, transaction in enumerate(self.transactions):
            for saying in transaction.sayings:
                within = logs[-1].log_index + 1 if logs and logs[-1].tx_index == position else position * 2**32
                index = within if self.per_transaction else self.first_log + len(logs)
                logs.append(Log(saying, self.number, transaction.hash, position, index))
        self.logs = tuple(logs)
        self.children = self._children()
        self.bloom = _bloom(self.logs)
        self.hash = keccak(rlp.encode(self._fields()))

    @property
    def time(self) -> int:
        return GENESIS_TIME + SECONDS_A_BLOCK * self.number

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def _children(self) -> Mapping[str, Mapping[str, Birth]]:
        """All that any rule announces, with the earliest announcement; which rules count, the manifest says."""
        known: dict[str, Mapping[str, Birth]] = dict(self.parent.children) if self.parent else {}
        for kind in ("branches", "kids"):
            for log in self.logs:
                saying = log.saying
                for its_kind, topic, announced_by in FACTORY_RULES:
                    if its_kind != kind or saying.topics[:1] != (topic,):
                        continue
                    if saying.address not in (HUBS if announced_by is None else known.get(announced_by, {})):
                        continue
                    for _, child in saying.announces:
                        if child not in known.get(kind, {}):
                            birth = Birth(self.number, log.log_index, saying.address)
                            known[kind] = {**known.get(kind, {}), child: birth}
        return known

    def _fields(self) -> list[bytes | int]:
        parent = self.parent.hash if self.parent else bytes(32)
        return [
            parent, _EMPTY_LIST_HASH, bytes(20), keccak(self.salt), self.transactions_root,
            self.receipts_root, self.bloom, 0, self.number, 30_000_000, self.gas_used, self.time, self.salt,
            bytes(32), bytes(8), 7,
        ]  # fmt: skip

    @cached_property
    def transactions_root(self) -> bytes:
        return keccak(b"".join(transaction.hash for transaction in self.transactions))

    @cached_property
    def receipts_root(self) -> bytes:
        """The root of the trie of receipts (EIP-1559's), as every real chain has it."""
        tree = HexaryTrie({})
        for index in range(len(self.transactions)):
            logs = [log for log in self.logs if log.tx_index == index]
            told = [
                [_bytes(log.saying.address), [bytes.fromhex(one[2:]) for one in log.saying.topics], log.saying.data]
                for log in logs
            ]
            tree[rlp.encode(index)] = b"\x02" + rlp.encode([1, 21_000 * (index + 1), _bloom(logs), told])
        return bytes(tree.root_hash)

    def ancestor(self, number: int) -> Block:
        block = self
        while block.number > number:
            assert block.parent is not None
            block = block.parent
        return block

    @cached_property
    def header_json(self) -> dict[str, Any]:
        return {
            "number": hex(self.number),
            "hash": "0x" + self.hash.hex(),
            "parentHash": "0x" + (self.parent.hash if self.parent else bytes(32)).hex(),
            "timestamp": hex(self.time),
            "logsBloom": "0x" + self.bloom.hex(),
            "transactions": ["0x" + transaction.hash.hex() for transaction in self.transactions],
            "sha3Uncles": "0x" + _EMPTY_LIST_HASH.hex(),
            "stateRoot": "0x" + keccak(self.salt).hex(),
            "transactionsRoot": "0x" + self.transactions_root.hex(),
            "receiptsRoot": "0x" + self.receipts_root.hex(),
            "difficulty": "0x0",
            "extraData": "0x" + self.salt.hex(),
            "mixHash": "0x" + bytes(32).hex(),
            "nonce": "0x" + bytes(8).hex(),
            "miner": "0x" + bytes(20).hex(),
            "gasLimit": hex(30_000_000),
            "gasUsed": hex(self.gas_used),
            "baseFeePerGas": hex(7),
        }

    @cached_property
    def whole_json(self) -> dict[str, Any]:
        """The block with whole transactions."""
        return {**self.header_json, "transactions": [self.transaction_json(i) for i in range(len(self.transactions))]}

    @property
    def gas_used(self) -> int:
        return 21_000 * len(self.transactions)

    def gas_of(self, index: int) -> int:
        """What a transaction used: another value in every block that it stands in."""
        return 21_000 + int.from_bytes(keccak(self.hash + bytes([index]))[:3])

    def transaction_json(self, index: int) -> dict[str, Any]:
        return {**facts(self.transactions[index]), **self._place(index, "hash"), "gas": hex(100_000)}

    def receipt_json(self, index: int) -> dict[str, Any]:
        said = facts(self.transactions[index])
        return {
            **self._place(index, "transactionHash"),
            "from": said["from"],
            "to": said["to"],
            "type": "0x2",
            "status": "0x1",
            "gasUsed": hex(self.gas_of(index)),
            "cumulativeGasUsed": hex(21_000 * (index + 1)),
            "logsBloom": "0x" + _bloom(log for log in self.logs if log.tx_index == index).hex(),
            "effectiveGasPrice": "0x8",
            "contractAddress": None,
            "logs": [log for log in self.logs_json if log["transactionIndex"] == hex(index)],
        }

    def _place(self, index: int, name: str) -> dict[str, Any]:
        return {
            name: "0x" + self.transactions[index].hash.hex(),
            "transactionIndex": hex(index),
            "blockHash": "0x" + self.hash.hex(),
            "blockNumber": hex(self.number),
        }

    @cached_property
    def logs_json(self) -> list[dict[str, Any]]:
        return [
            {
                "address": log.saying.address,
                "topics": list(log.saying.topics),
                "data": "0x" + log.saying.data.hex(),
                "blockNumber": hex(self.number),
                "blockHash": "0x" + self.hash.hex(),
                "transactionHash": "0x" + log.tx_hash.hex(),
                "transactionIndex": hex(log.tx_index),
                "logIndex": hex(log.log_index % 2**32 if self.per_transaction else log.log_index),
                "removed": False,
            }
            for log in self.logs
        ]

    def supply(self, address: str) -> int:
        """What ``totalSupply()`` answers at this block: another value on every branch."""
        return int.from_bytes(keccak(self.hash + address.encode())[:16])


@lru_cache(maxsize=100_000)
def _bits(value: str) -> int:
    digest = keccak(bytes.fromhex(value[2:]))
    return sum({1 << (int.from_bytes(digest[i : i + 2]) % 2048) for i in (0, 2, 4)})


def _bloom(logs: Iterable[Log]) -> bytes:
    bits = 0
    for log in logs:
        for value in (log.saying.address, *log.saying.topics):
            bits |= _bits(value)
    return bits.to_bytes(256)


def facts(transaction: Transaction) -> dict[str, str]:
    """What a transaction says of itself, wherever it stands."""
    digest = keccak(transaction.hash)
    return {
        "from": "0x" + digest[:20].hex(),
        "to": "0x" + digest[12:].hex(),
        "value": hex(int.from_bytes(digest)),
        "nonce": hex(digest[0]),
        "type": "0x2",
    }


def symbol_of(coin: str) -> str:
    """What a coin answers when it is asked for its symbol."""
    return "C" + coin[2:6].upper()


def topic(value: str | int) -> str:
    return "0x" + (value[2:].rjust(64, "0") if isinstance(value, str) else f"{value % 2**256:064x}")


def _bytes(address: str) -> bytes:
    return bytes.fromhex(address[2:])


class Author:
    """Makes transactions up.

    Args:
        random: the source of all that is made up.
        hostile: how often a log bears a topic but not its shape, 0 to 1.
        namings: how often a child is announced by another rule, or once more, 0 to 1.
    """

    def __init__(self, random: Random, hostile: float = 0.1, namings: float = 0.0) -> None:
        self.random = random
        self.hostile = hostile
        self.namings = namings
        self._made = 0

    def transactions(self, parent: Block) -> tuple[Transaction, ...]:
        count = self.random.choice((0, 0, 1, 1, 1, 2, 3))
        return tuple(self.transaction(parent) for _ in range(count))

    def transaction(self, parent: Block) -> Transaction:
        random = self.random
        branches = sorted(parent.children.get("branches", {}))
        kids = sorted(parent.children.get("kids", {}))
        sayings: list[Saying] = []
        for _ in range(random.choice((1, 1, 2, 3))):
            if self.namings and random.random() < self.namings:
                sayings += self._naming(branches, kids)
                continue
            kind = random.random()
            if kind < 0.5:
                sayings.append(self._coin(random.choice(COINS)))
            elif kind < 0.56:
                sayings += self._opening()
            elif kind < 0.7 and branches:
                sayings += self._birth(random.choice(branches))
            elif kids:
                sayings.append(self._kid(random.choice(kids)))
            else:
                sayings.append(self._coin(random.choice(COINS)))
        self._made += 1
        return Transaction(random.randbytes(28) + self._made.to_bytes(4), tuple(sayings))

    def _opening(self, branch: str | None = None) -> list[Saying]:
        """A factory is born, and often it brings forth a child, which speaks, in the same transaction."""
        hub = self.random.choice(HUBS) if self.namings else HUB
        branch = branch or "0x" + self.random.randbytes(20).hex()
        opened = Saying(hub, (OPENED, topic(branch)), b"", (_bytes(branch),), announces=(("branch", branch),))
        return [opened, *(self._birth(branch) if self.random.random() < 0.7 else ())]

    def _birth(self, branch: str, kid: str | None = None) -> list[Saying]:
        kid = kid or "0x" + self.random.randbytes(20).hex()
        weight, serial = self.random.getrandbits(64), self._number()
        data = encode(["(address,uint64)", "uint256"], [(kid, weight), serial])
        row = ({"child": kid, "weight": str(weight)}, serial)
        born = Saying(branch, (BORN,), data, row, announces=(("birth.child", kid),))
        return [born, *(self._kid(kid) for _ in range(self.random.randrange(3)))]

    def _naming(self, branches: Sequence[str], kids: Sequence[str]) -> list[Saying]:
        """Children are announced by another rule, two by one log, or once more, before or after the other rules do."""
        random = self.random
        if branches and kids and random.random() < 0.3:
            return self._birth(random.choice(branches), random.choice(kids))
        if branches and random.random() < 0.1:
            return self._opening(random.choice(branches))
        kid, twin = (
            random.choice(kids) if kids and random.random() < 0.5 else "0x" + random.randbytes(20).hex()
            for _ in range(2)
        )
        by = random.choice(PEOPLE)
        topics = (NAMED, topic(kid), topic(by))
        row, announces = (_bytes(kid), _bytes(twin), _bytes(by)), (("kid", kid), ("twin", twin))
        named = Saying(random.choice(HUBS), topics, encode(["address"], [twin]), row, announces=announces)
        sayings = [self._kid(kid), named] if random.random() < 0.2 else [named]
        sayings += [self._kid(one) for one in (kid, twin) if random.random() < 0.5]
        if branches and random.random() < 0.3:
            sayings += self._birth(random.choice(branches), random.choice((kid, twin)))
        return sayings

    def _kid(self, kid: str) -> Saying:
        random = self.random
        if random.random() < 0.5:
            number, word = self._number(), random.randbytes(32)
            return Saying(kid, (SAID, topic(number)), word, (number, word))
        who, amount = random.choice(PEOPLE), random.randrange(-(2**127), 2**127)
        return Saying(kid, (PAID, topic(who)), encode(["int128"], [amount]), (_bytes(who), amount))

    def _coin(self, coin: str) -> Saying:
        random = self.random
        one, other = random.choice(PEOPLE), random.choice(PEOPLE)
        if random.random() < self.hostile:
            return self._hostile(coin, one, other)
        kind = random.random()
        if kind < 0.65:
            value = self._number()
            return Saying(coin, (TRANSFER, topic(one), topic(other)), encode(["uint256"], [value]),
                          (_bytes(one), _bytes(other), value))  # fmt: skip
        if kind < 0.8:
            value = self._number()
            return Saying(coin, (APPROVAL, topic(one), topic(other)), encode(["uint256"], [value]),
                          (_bytes(one), _bytes(other), value))  # fmt: skip
        if kind < 0.95:
            text = random.choice(("", "plain", "größer 🐚", "nul\0nul", "x" * 300))
            blob, amounts = random.randbytes(random.randrange(70)), [self._number() for _ in range(random.randrange(4))]
            data = encode(["string", "bytes", "uint256[]"], [text, blob, amounts])
            return Saying(coin, (NOTE, topic(one)), data, (_bytes(one), text.replace("\0", "\ufffd"), blob, amounts),
                          noted="\0" in text)  # fmt: skip
        return Saying(coin, (FOREIGN,), encode(["uint256"], [1]), None)

    def _hostile(self, coin: str, one: str, other: str) -> Saying:
        """Logs that bear a topic but not its shape."""
        random = self.random
        whole = encode(["string", "bytes", "uint256[]"], ["text", b"data", [1, 2, 3]])
        match random.randrange(5):
            case 0:
                return self._other_indexed(coin, one, other, self._number())
            case 1:
                return Saying(coin, (TRANSFER, topic(one), topic(other)), b"\1" * random.randrange(32), None, True)
            case 2:
                return Saying(coin, (TRANSFER,), encode(["uint256"], [1]), None, noted=True)
            case 3:  # an offset far beyond the end
                return Saying(coin, (NOTE, topic(one)), b"\xff" * 32 + whole[32:], None, noted=True)
            case _:
                return Saying(coin, (NOTE, topic(one)), whole[: random.randrange(96)], None, noted=True)

    def _other_indexed(  # noqa: PLR0911 - one for each
        self, coin: str, one: str, other: str, number: int
    ) -> Saying:
        """Logs that have other arguments as topics than the event, and such as only look like it."""
        none = topic(2**255 + number % 2**255)
        match (number + int(one, 16) + int(other, 16)) % 9:
            case 0 | 1:  # the ERC-721 Transfer: its third argument is a topic
                return Saying(coin, (TRANSFER, topic(one), topic(other), topic(number)), b"", None, foreign=True)
            case 2:
                return Saying(coin, (APPROVAL, topic(one), topic(other), topic(number)), b"", None, foreign=True)
            case 3:
                data = encode(["address", "uint256"], [other, number])
                return Saying(coin, (TRANSFER, topic(one)), data, None, foreign=True)
            case 4:
                data = encode(["address", "address", "uint256"], [one, other, number])
                return Saying(coin, (TRANSFER,), data, None, foreign=True)
            case 5:  # more data than the types need
                topics = (TRANSFER, topic(one), topic(other), topic(number))
                return Saying(coin, topics, encode(["uint256"], [1]), None, noted=True)
            case 6:  # less
                return Saying(coin, (TRANSFER, topic(one)), encode(["uint256"], [number]), None, noted=True)
            case 7:  # no addresses
                return Saying(coin, (TRANSFER, topic(one), none, topic(number)), b"", None, noted=True)
            case _:
                data = encode(["address", "uint256", "uint256"], [one, 2**255, number])
                return Saying(coin, (APPROVAL,), data, None, noted=True)

    def _number(self) -> int:
        return self.random.choice((0, 1, 2**256 - 1, self.random.getrandbits(256), self.random.getrandbits(64)))


class Chain:
    """The canonical branch, the abandoned ones, and what is final.

    Args:
        random: decides everything.
        depth: a reorganisation drops at most so many blocks.
        first_log: the index of every block's first log: some nodes count from 0xffffffe2.
        per_transaction: ``logIndex`` counts anew in each transaction, and ``first_log`` means nothing.
        namings: how often a child is announced by another rule, or once more, 0 to 1.
        null_rounds: how often some numbers are left out before a block (null rounds), 0 to 1.
    """

    def __init__(
        self,
        random: Random,
        *,
        depth: int = 12,
        hostile: float = 0.1,
        first_log: int = 0,
        per_transaction: bool = False,
        namings: float = 0.0,
        null_rounds: float = 0.0,
    ) -> None:
        self.random = random
        self.depth = depth
        self.null_rounds = null_rounds
        self.author = Author(random, hostile, namings)
        self.genesis = Block(0, None, (), b"genesis", first_log, per_transaction)
        self.canonical: list[Block] = [self.genesis]
        self.by_hash: dict[bytes, Block] = {self.genesis.hash: self.genesis}
        self.finalized = 0
        self.abandoned: list[Block] = []

    @property
    def head(self) -> Block:
        return self.canonical[-1]

    def block(self, number: int) -> Block | None:
        return block_at(self.canonical, number)

    def is_canonical(self, block: Block) -> bool:
        return self.block(block.number) is block

    def mine(self, count: int = 1) -> None:
        blocks = list(self.canonical)
        for _ in range(count):
            blocks.append(self._child(blocks[-1], self.author.transactions(blocks[-1])))
        self.canonical = blocks

    def append(self, *transactions: Transaction, skip: int = 0) -> Block:
        """Adds a block with given transactions, and leaves so many numbers out before it."""
        block = self._child(self.head, transactions, skip)
        self.canonical = [*self.canonical, block]
        return block

    def reorganise(self, depth: int | None = None, length: int | None = None) -> int:
        """Replaces the newest blocks by others, of which some transactions are the old ones, moved.

        Args:
            depth: blocks to drop; not below ``finalized``.
            length: blocks to put in their place; at least one.

        Returns:
            How many were dropped.
        """
        random = self.random
        above = len(between(self.canonical, self.finalized + 1, self.head.number))
        most = min(self.depth, above)
        depth = random.randint(1, max(1, most)) if depth is None else depth
        depth = min(depth, above)
        if depth < 1:
            return 0
        length = max(1, depth + random.randint(-2, 3)) if length is None else length
        blocks = list(self.canonical[:-depth])
        homeless = [t for block in self.canonical[-depth:] for t in block.transactions if random.random() < 0.7]
        if random.random() < 0.5:
            random.shuffle(homeless)
        self.abandoned.append(self.head)
        for _ in range(length):
            moved = [homeless.pop(0) for _ in range(min(len(homeless), random.randrange(3)))]
            new = self.author.transactions(blocks[-1]) if random.random() < 0.6 else ()
            blocks.append(self._child(blocks[-1], (*moved, *new)))
        self.canonical = blocks
        return depth

    def flip(self) -> bool:
        """Goes back to a branch that was abandoned, where finality still allows that."""
        while self.abandoned:
            head = self.abandoned.pop(self.random.randrange(len(self.abandoned)))
            if head.number <= self.finalized or head.ancestor(self.finalized) is not self.block(self.finalized):
                continue
            if self.is_canonical(head):
                continue
            self.abandoned = [*self.abandoned[-5:], self.head]
            self.canonical = branch_of(head)
            return True
        return False

    def finalize(self, number: int | None = None) -> None:
        newest = self.head.number - self.random.randint(2, self.depth) if number is None else number
        self.finalized = max(self.finalized, self.head.ancestor(max(0, newest)).number)

    def _child(self, parent: Block, transactions: Sequence[Transaction], skip: int = 0) -> Block:
        seen = set()
        unique = [t for t in transactions if t.hash not in seen and not seen.add(t.hash)]  # type: ignore[func-returns-value]
        if self.null_rounds and self.random.random() < self.null_rounds:
            skip = self.random.choice((1, 1, 1, 2, 3, 7))
        block = Block(parent.number + 1 + skip, parent, tuple(unique), self.random.randbytes(8))
        self.by_hash[block.hash] = block
        return block


def block_at(branch: Sequence[Block], number: int) -> Block | None:
    """The block of a number on a branch; None where the branch leaves the number out, or does not reach it."""
    position = bisect_left(branch, number, key=lambda block: block.number)
    return branch[position] if position < len(branch) and branch[position].number == number else None


def between(branch: Sequence[Block], first: int, last: int) -> Sequence[Block]:
    """The blocks of a branch with these numbers, both ends included."""
    begin = bisect_left(branch, first, key=lambda block: block.number)
    return branch[begin : bisect_right(branch, last, key=lambda block: block.number)]


def branch_of(head: Block) -> list[Block]:
    """All blocks from genesis to a head."""
    blocks = [head]
    while blocks[-1].parent is not None:
        blocks.append(blocks[-1].parent)
    return blocks[::-1]


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
