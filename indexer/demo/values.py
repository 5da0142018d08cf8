"""Random values for ABI types, with a liking for the edges: what an indexer gets wrong lies there."""

import re
from collections.abc import Mapping
from random import Random
from typing import Any

_ARRAY = re.compile(r"^(?P<element>.*)\[(?P<size>\d*)\]$")
_INTEGER = re.compile(r"^(?P<unsigned>u?)int(?P<bits>\d+)$")

TEXTS = (
    "",
    " ",
    "plain",
    "null",
    "\\N",  # COPY's null
    "\\x00\\",
    "tab\tnewline\nreturn\rbackspace\b",
    "'; drop table zoo.texts; --",
    '{"json": ["quoted \\"text\\""]}',
    "<script>alert('zoo')</script>",
    "naïve café Ελληνικά 漢字 עברית",
    "\U0001f981\U0001f9d1\u200d\U0001f680\u202e\u202c",  # beyond the basic plane, joined, with direction marks
    "exactly thirty-two bytes of text",
    "long " * 100,
)


def random_value(random: Random, parameter: Mapping[str, Any]) -> Any:
    """A value of an ABI parameter, as eth-abi encodes it.

    Args:
        random: decides everything; the same state gives the same value.
        parameter: an item of an ABI's ``inputs``: ``type``, and ``components`` for tuples.
    """
    return _value(random, parameter["type"], parameter.get("components", ()))


def random_integer(random: Random, low: int, high: int) -> int:
    """An integer in ``low..high`` (both included): an end, a small one, or any, every size as likely as another."""
    kind = random.randrange(5)
    if kind == 0:
        return random.choice((low, high))
    if kind == 1:
        value = random.randrange(-3, 4)
    else:
        value = random.getrandbits(random.randint(1, high.bit_length())) * random.choice((1, -1))
    return min(max(value, low), high)


def random_address(random: Random) -> str:
    """An address that was never seen before."""
    return "0x" + random.randbytes(20).hex()


def _value(random: Random, kind: str, components: Any) -> Any:
    if array := _ARRAY.match(kind):
        size = int(array["size"]) if array["size"] else random.choice((0, 1, 2, 3, 3, 7))
        return [_value(random, array["element"], components) for _ in range(size)]
    if kind == "tuple":
        return tuple(random_value(random, component) for component in components)
    if integer := _INTEGER.match(kind):
        bits = int(integer["bits"])
        return (
            random_integer(random, 0, 2**bits - 1)
            if integer["unsigned"]
            else random_integer(random, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
    return _elementary(random, kind)


def _elementary(random: Random, kind: str) -> Any:
    match kind:
        case "bool":
            return random.random() < 0.5
        case "address":
            return random.choice(("0x" + "00" * 20, "0x" + "ff" * 20, random_address(random)))
        case "string":
            return random.choice(TEXTS)
        case "bytes":
            return random.randbytes(random.choice((0, 1, 31, 32, 33, 100)))
    if kind.startswith("bytes"):
        size = int(kind.removeprefix("bytes"))
        return random.choice((b"\0" * size, b"\xff" * size, random.randbytes(size)))
    raise ValueError(f"no random values for the ABI type {kind!r}")
