"""How fast the generated decoders are, beside eth-abi, on one core.

Run: ``python benchmarks/decode.py``. Every decoder's values are first compared with eth-abi's, argument by argument.
The ratios are the result: absolute numbers are the machine's.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode, encode

from indexer.abi.decoder import Decoder, compile_decoder
from indexer.abi.model import Event, parse_abi

LOGS = 2_000
SECONDS = 1.0

Log = tuple[list[bytes], bytes]


@dataclass(frozen=True)
class Workload:
    """An event, its arguments as ``type [indexed] name``, and how to make a random value of each."""

    name: str
    arguments: Sequence[str]
    values: Callable[[random.Random], Sequence[Any]]


def _amount(rng: random.Random) -> int:
    return rng.getrandbits(rng.choice((32, 64, 90)))


WORKLOADS = (
    Workload(
        "Transfer",
        ("address indexed from", "address indexed to", "uint256 value"),
        lambda rng: (rng.randbytes(20), rng.randbytes(20), _amount(rng)),
    ),
    Workload(
        "Swap",
        (
            "address indexed sender",
            "uint256 amount0In",
            "uint256 amount1In",
            "uint256 amount0Out",
            "uint256 amount1Out",
            "address indexed to",
        ),
        lambda rng: (rng.randbytes(20), *(_amount(rng) for _ in range(4)), rng.randbytes(20)),
    ),
    Workload(
        "SwapV3",
        (
            "address indexed sender",
            "address indexed recipient",
            "int256 amount0",
            "int256 amount1",
            "uint160 sqrtPriceX96",
            "uint128 liquidity",
            "int24 tick",
        ),
        lambda rng: (
            rng.randbytes(20),
            rng.randbytes(20),
            _amount(rng),
            -_amount(rng),
            rng.getrandbits(160),
            rng.getrandbits(128),
            rng.randint(-887272, 887272),
        ),
    ),
    Workload(
        "TransferBatch",
        (
            "address indexed operator",
            "address indexed from",
            "address indexed to",
            "uint256[] ids",
            "uint256[] values",
        ),
        lambda rng: (*(rng.randbytes(20) for _ in range(3)), *([_amount(rng) for _ in range(5)] for _ in range(2))),
    ),
    Workload(
        "Texts",
        ("uint256 indexed id", "string name", "bytes data", "address[] owners"),
        lambda rng: (
            _amount(rng),
            "name " * rng.randint(0, 20),
            rng.randbytes(rng.randint(0, 100)),
            [rng.randbytes(20) for _ in range(3)],
        ),
    ),
)


def make_event(workload: Workload) -> Event:
    """The workload's event, as from an ABI."""
    inputs = []
    for argument in workload.arguments:
        type_, *indexed, name = argument.split()
        inputs.append({"name": name, "type": type_, "indexed": bool(indexed)})
    return parse_abi([{"type": "event", "name": workload.name, "inputs": inputs}]).events[0]


def make_logs(workload: Workload, event: Event, rng: random.Random) -> list[Log]:
    """Random logs, encoded by eth-abi."""
    logs = []
    for _ in range(LOGS):
        pairs = list(zip(event.inputs, workload.values(rng), strict=True))
        topics = [encode([p.type.canonical], [v]) for p, v in pairs if p.indexed]
        held = [(p.type.canonical, v) for p, v in pairs if not p.indexed]
        logs.append(([event.topic0, *topics], encode([t for t, _ in held], [v for _, v in held])))
    return logs


def eth_abi_decoder(event: Event) -> Callable[[list[bytes], bytes], tuple[Any, ...]]:
    """The same work by eth-abi's own functions: every topic, then the data."""
    topic_types = [[p.type.canonical] for p in event.indexed]
    data_types = [p.type.canonical for p in event.inputs if not p.indexed]
    is_indexed = [p.indexed for p in event.inputs]

    def decode_log(topics: list[bytes], data: bytes) -> tuple[Any, ...]:
        indexed = iter([decode(t, topic)[0] for t, topic in zip(topic_types, topics[1:], strict=True)])
        held = iter(decode(data_types, data))
        return tuple(next(indexed if i else held) for i in is_indexed)

    return decode_log


def plain(value: Any) -> Any:
    """eth-abi's value as Gapless has it: addresses are bytes, tuples of items lists."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        return bytes.fromhex(value[2:])
    return value


def check(decoder: Decoder, logs: Sequence[Log]) -> None:
    """Assert that every value of every log is eth-abi's."""
    other = eth_abi_decoder(decoder.event)
    for topics, data in logs:
        notes: list[str] = []
        found, expected = decoder.decode(topics, data, notes), other(topics, data)
        assert list(found) == plain(expected), (decoder.event.signature, found, expected)
        assert notes == []


def rate(function: Callable[..., object], logs: Sequence[tuple[Any, ...]]) -> float:
    """Logs a second, the best of five goes."""
    best = 0.0
    for _ in range(5):
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < SECONDS / 5:
            for log in logs:
                function(*log)
            done += len(logs)
        best = max(best, done / spent)
    return best


def main() -> None:
    """Print a line for each workload."""
    rng = random.Random(7)
    print(f"{'event':<14}{'gapless/s':>12}{'eth-abi/s':>12}{'ratio':>8}")
    for workload in WORKLOADS:
        event = make_event(workload)
        decoder, logs = compile_decoder(event), make_logs(workload, event, rng)
        check(decoder, logs)
        notes: list[str] = []
        ours = rate(decoder.decode, [(*log, notes) for log in logs])
        theirs = rate(eth_abi_decoder(event), logs)
        print(f"{workload.name:<14}{ours:>12,.0f}{theirs:>12,.0f}{ours / theirs:>8.1f}")


if __name__ == "__main__":
    main()
