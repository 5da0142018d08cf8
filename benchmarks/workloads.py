"""Chains made up from a seed, each written as the answers that a node will give, with the sum of the right rows.

A workload is a folder: for each stream of logs a file of their JSON in the order of the chain, and the offset at which
each block begins, so that a range of blocks is a slice of the file. ``workload.json`` says the rest.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from eth_utils.crypto import keccak

CHAIN_ID = 31_337
BLOCK_SECONDS = 12
GENESIS_TIME = 1_600_000_000
FIRST_BLOCK = 1

_TRANSFER = "Transfer(address,address,uint256)"
_SYNC = "Sync(uint112,uint112)"
_SWAP = "Swap(address,uint256,uint256,uint256,uint256,address)"
_CREATED = "PairCreated(address,address,address,uint256)"


@dataclass
class Table:
    """What an event's table must hold in the end.

    Attributes:
        columns: the arguments' columns as SQL that gives their text.
        rows: how many.
        checksum: the sum, over the rows, of the first 60 bits of the MD5 of all columns' text.
    """

    columns: list[str]
    rows: int = 0
    checksum: int = 0


@dataclass
class Stream:
    """The logs of some contracts.

    Attributes:
        addresses: lower-case; a question for one of them is for this stream.
        name: of its files.
    """

    addresses: list[str]
    name: str


@dataclass
class Workload:
    """A made-up chain. ``events`` counts the logs, ``last`` is the newest block, final like all others."""

    name: str
    about: str
    manifest: str
    last: int
    events: int = 0
    streams: list[Stream] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Workload":
        """The workload that :func:`make` wrote."""
        document = json.loads((folder / "workload.json").read_text())
        streams = [Stream(**stream) for stream in document.pop("streams")]
        tables = {name: Table(**table) for name, table in document.pop("tables").items()}
        return cls(**document, streams=streams, tables=tables)


def block_hash(number: int) -> str:
    """The hash of a made-up block."""
    return "0x" + hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).hexdigest()


def block_time(number: int) -> int:
    """Its Unix time."""
    return GENESIS_TIME + number * BLOCK_SECONDS


def make(name: str, folder: Path, *, scale: float = 1.0) -> Workload:
    """Writes a workload.

    Args:
        name: dense, factory, sparse or many.
        folder: where to; created.
        scale: 1.0 is the size that the results are given for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    workload = WORKLOADS[name](folder, scale)
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    return workload


def _dense(folder: Path, scale: float) -> Workload:
    """One ERC-20, 1,000,000 Transfers over 100,000 blocks."""
    return _token(folder, "dense", int(1_000_000 * scale), int(100_000 * scale))


def _sparse(folder: Path, scale: float) -> Workload:
    """One ERC-20, 300,000 Transfers over 2,000,000 blocks."""
    return _token(folder, "sparse", int(300_000 * scale), int(2_000_000 * scale))


def _token(folder: Path, name: str, events: int, blocks: int) -> Workload:
    random = Random(name)
    token = _address(random)
    manifest = f"""
        [contracts.token]
        chain = "bench"
        abi = "abis/erc20.json"
        address = "{token}"
        start_block = {FIRST_BLOCK}
        events = ["Transfer"]
    """
    about = f"one ERC-20, {events:,} Transfers over {blocks:,} blocks"
    workload = Workload(name, about, manifest, FIRST_BLOCK + blocks - 1)
    holders = [_address(random) for _ in range(20_000)]
    writer = _Writer(workload, folder, Stream([token], "token"), random)
    for number in _places(random, events, blocks):
        writer.add(number, "token.transfer", token, *_transfer(random, holders))
    writer.close()
    return workload


def _factory(folder: Path, scale: float) -> Workload:
    """A factory, 500 pairs, 600,000 Swap, Sync and Transfer logs of them over 60,000 blocks."""
    random = Random("factory")
    pairs, events, blocks = max(2, int(500 * scale)), int(600_000 * scale), int(60_000 * scale)
    factory = _address(random)
    children = [_address(random) for _ in range(pairs)]
    manifest = f"""
        [contracts.factory]
        chain = "bench"
        abi = "abis/uniswap_v2_factory.json"
        address = "{factory}"
        start_block = {FIRST_BLOCK}

        [contracts.pair]
        chain = "bench"
        abi = "abis/uniswap_v2_pair.json"
        factory = {{ contract = "factory", event = "PairCreated", argument = "pair" }}
        start_block = {FIRST_BLOCK}
        events = ["Swap", "Sync", "Transfer"]
    """
    about = f"{pairs} pairs of a factory, {events:,} Swap, Sync and Transfer logs over {blocks:,} blocks"
    workload = Workload("factory", about, manifest, FIRST_BLOCK + blocks - 1)
    births = _Writer(workload, folder, Stream([factory], "factory"), random)
    # All pairs are born within the first hundredth of the chain, and nothing is said of one before.
    born = max(1, blocks // 100)
    for position, child in enumerate(children):
        number = FIRST_BLOCK + position * born // pairs
        tokens = _address(random), _address(random)
        values = [tokens[0][2:], tokens[1][2:], child[2:], str(position + 1)]
        data = child[2:].rjust(64, "0") + _word(position + 1)
        births.add(number, "factory.pair_created", factory, _CREATED, tokens, data, values)
    births.close()
    traders = [_address(random) for _ in range(5_000)]
    writer = _Writer(workload, folder, Stream(children, "pairs"), random)
    for number in _places(random, events, blocks - born):
        kind = random.random()
        make_log, table = (
            (_swap, "pair.swap") if kind < 0.4 else (_sync, "pair.sync") if kind < 0.8 else (_transfer, "pair.transfer")
        )
        writer.add(number + born, table, random.choice(children), *make_log(random, traders))
    writer.close()
    return workload


def _many(folder: Path, scale: float) -> Workload:
    """200 tokens, each a contract with a table of its own, 400,000 Transfers over 40,000 blocks."""
    random = Random("many")
    tokens, events, blocks = 200, int(400_000 * scale), int(40_000 * scale)
    addresses = [_address(random) for _ in range(tokens)]
    manifest = "".join(
        f"""
        [contracts.token{number}]
        chain = "bench"
        abi = "abis/erc20.json"
        address = "{address}"
        start_block = {FIRST_BLOCK}
        events = ["Transfer"]
    """
        for number, address in enumerate(addresses)
    )
    about = f"{tokens} tokens with a table each, {events:,} Transfers over {blocks:,} blocks"
    workload = Workload("many", about, manifest, FIRST_BLOCK + blocks - 1)
    holders = [_address(random) for _ in range(5_000)]
    writer = _Writer(workload, folder, Stream(addresses, "tokens"), random)
    for number in _places(random, events, blocks):
        token = random.randrange(tokens)
        writer.add(number, f"token{token}.transfer", addresses[token], *_transfer(random, holders))
    writer.close()
    return workload


WORKLOADS: dict[str, Callable[[Path, float], Workload]] = {
    "dense": _dense,
    "factory": _factory,
    "sparse": _sparse,
    "many": _many,
}

# An event's signature, its indexed addresses, the words of its data, and the text of each column.
_Log = tuple[str, Sequence[str], str, list[str]]


def _transfer(random: Random, holders: Sequence[str]) -> _Log:
    topics, value = (random.choice(holders), random.choice(holders)), _amount(random)
    return _TRANSFER, topics, _word(value), [topics[0][2:], topics[1][2:], str(value)]


def _swap(random: Random, holders: Sequence[str]) -> _Log:
    topics, paid, got = (random.choice(holders), random.choice(holders)), _amount(random), _amount(random)
    amounts = [paid, 0, 0, got] if random.random() < 0.5 else [0, paid, got, 0]
    data = "".join(_word(amount) for amount in amounts)
    return _SWAP, topics, data, [topics[0][2:], *map(str, amounts), topics[1][2:]]


def _sync(random: Random, _holders: Sequence[str]) -> _Log:
    reserves = random.getrandbits(100), random.getrandbits(85)
    return _SYNC, (), _word(reserves[0]) + _word(reserves[1]), list(map(str, reserves))


def _amount(random: Random) -> int:
    return random.getrandbits(random.choice((24, 64, 80, 90)))


def _word(value: int) -> str:
    return f"{value:064x}"


def _address(random: Random) -> str:
    return "0x" + random.randbytes(20).hex()


def _places(random: Random, events: int, blocks: int) -> Iterator[int]:
    """For each log its block, ascending: every block has its share, give or take."""
    previous = FIRST_BLOCK
    for position in range(events):
        number = FIRST_BLOCK + int((position + random.random()) * blocks / events)
        previous = max(previous, min(number, FIRST_BLOCK + blocks - 1))
        yield previous


# The columns that the ABIs above give; those of bytea are shown as hex.
_COLUMNS = {
    "transfer": ["encode(from_address, 'hex')", "encode(to_address, 'hex')", "value"],
    "pair.sync": ["reserve0", "reserve1"],
    "pair.swap": [
        "encode(sender, 'hex')", "amount0_in", "amount1_in", "amount0_out", "amount1_out", "encode(to_address, 'hex')",
    ],
    "factory.pair_created": ["encode(token0, 'hex')", "encode(token1, 'hex')", "encode(pair, 'hex')", "arg3"],
}  # fmt: skip
FIXED = [
    "chain_id", "block_number", "extract(epoch FROM block_time)::bigint", "encode(tx_hash, 'hex')", "tx_index",
    "log_index", "encode(contract_address, 'hex')",
]  # fmt: skip


def _kind(table: str) -> str:
    """What its columns are found by: Transfers are the same everywhere."""
    schema, name = table.split(".")
    return name if name == "transfer" else f"{schema}.{name}"


class _Writer:
    """Writes the logs of one stream, and sums up the rows that they must become."""

    def __init__(self, workload: Workload, folder: Path, stream: Stream, random: Random) -> None:
        workload.streams.append(stream)
        self._workload = workload
        self._random = random
        self._path = folder / stream.name
        self._file = self._path.with_suffix(".logs").open("wb")
        self._at = 0
        # The offset at which each block's logs begin; one more for the end of the last.
        self._offsets = array("Q", [0] * (FIRST_BLOCK + 1))
        self._tx_index = self._log_index = 0
        self._block = -1
        self._pieces: list[bytes] = []
        self._topics: dict[str, str] = {}

    def add(
        self, number: int, table: str, address: str, signature: str, topics: Sequence[str], data: str, values: list[str]
    ) -> None:
        """Adds a log, at or after the block of the one before."""
        random = self._random
        if number != self._block:
            self._offsets.extend([self._at] * (number + 1 - len(self._offsets)))
            self._block, self._tx_index, self._log_index = number, -1, -1
            self._hash = block_hash(number)
            self._block_fields = (
                f'"blockNumber":"{number:#x}","blockHash":"{self._hash}","blockTimestamp":"{block_time(number):#x}"'
            )
        self._tx_index += random.randint(1, 8)
        self._log_index += random.randint(1, 12)
        tx_hash = random.randbytes(32).hex()
        if signature not in self._topics:
            self._topics[signature] = "0x" + keccak(signature.encode()).hex()
        words = [self._topics[signature], *("0x" + topic[2:].rjust(64, "0") for topic in topics)]
        piece = (
            f'{{"address":"{address}","topics":["{chr(34).join(_joined(words))}"],"data":"0x{data}",'
            f'{self._block_fields},"transactionHash":"0x{tx_hash}","transactionIndex":"{self._tx_index:#x}",'
            f'"logIndex":"{self._log_index:#x}","removed":false}},'
        ).encode()
        self._at += len(piece)
        self._pieces.append(piece)
        if len(self._pieces) == 10_000:
            self._flush()
        row = [
            str(CHAIN_ID), str(number), str(block_time(number)), tx_hash, str(self._tx_index), str(self._log_index),
            address[2:], *values,
        ]  # fmt: skip
        expected = self._workload.tables.setdefault(table, Table(FIXED + _COLUMNS[_kind(table)]))
        expected.rows += 1
        expected.checksum += int(hashlib.md5("|".join(row).encode(), usedforsecurity=False).hexdigest()[:15], 16)
        self._workload.events += 1

    def _flush(self) -> None:
        self._file.write(b"".join(self._pieces))
        self._pieces.clear()

    def close(self) -> None:
        """Writes what is left, and the offsets."""
        self._flush()
        self._file.close()
        self._offsets.extend([self._at] * (self._workload.last + 2 - len(self._offsets)))
        with self._path.with_suffix(".offsets").open("wb") as file:
            self._offsets.tofile(file)


def _joined(words: Sequence[str]) -> list[str]:
    """The words with a comma between them, for quotes to stand around each."""
    return [part for word in words for part in (",", word)][1:]
