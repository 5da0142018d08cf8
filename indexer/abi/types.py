"""The types of the Solidity ABI as a small frozen tree.

Source of all rules: the Solidity documentation, "Contract ABI Specification".
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from indexer.errors import GaplessError

WORD = 32
NUMBER_BITS = 48
"""Integers of wider types are strings in JSON: a JavaScript number holds 53 bits exactly."""
MAX_HEAD_SIZE = 2**27
"""Bytes of one value without its tails. No log is that large (8 gas a byte): a longer fixed array is a mistake."""
MAX_DEPTH = 32
"""Arrays and tuples inside one another. The deepest on mainnet have six; the bound keeps recursion small."""

Kind = Literal["uint", "int", "ufixed", "fixed", "address", "bool", "bytesN", "function", "bytes", "string"]


class AbiError(GaplessError):
    """An ABI, or a part of it, that cannot be understood.

    Attributes:
        problems: each with the path of the part, such as ``[3].inputs[1]``.
    """

    def __init__(self, *problems: str, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Elementary:
    """A type without parts.

    Attributes:
        canonical: its name in signatures: ``uint`` is ``uint256`` there.
        kind: what it is.
        size: bits of a number, bytes of bytesN, function (24) and address (20), 0 otherwise.
        places: decimal places of a fixed-point number.
    """

    canonical: str
    kind: Kind
    size: int = 0
    places: int = 0

    @property
    def is_dynamic(self) -> bool:
        """Whether its encoding has a tail: an offset in the head, the value elsewhere."""
        return self.kind in ("bytes", "string")

    @property
    def head_size(self) -> int:
        """Bytes that it takes where it stands: its own, or those of the offset."""
        return WORD


@dataclass(frozen=True, slots=True)
class Array:
    """An array, of a fixed length or, with length None, a dynamic one."""

    item: "Type"
    length: int | None = None

    @property
    def canonical(self) -> str:
        """Its name in signatures, such as ``(address,uint256)[3][]``."""
        return f"{self.item.canonical}[{'' if self.length is None else self.length}]"

    @property
    def is_dynamic(self) -> bool:
        """Whether its encoding has a tail."""
        return self.length is None or self.item.is_dynamic

    @property
    def head_size(self) -> int:
        """Bytes that it takes where it stands."""
        return WORD if self.is_dynamic else self.item.head_size * (self.length or 0)


@dataclass(frozen=True, slots=True)
class Tuple:
    """A struct."""

    components: "tuple[Parameter, ...]"

    @property
    def canonical(self) -> str:
        """Its name in signatures, such as ``(address,uint256)``."""
        return f"({','.join(c.type.canonical for c in self.components)})"

    @property
    def is_dynamic(self) -> bool:
        """Whether its encoding has a tail."""
        return any(c.type.is_dynamic for c in self.components)

    @property
    def head_size(self) -> int:
        """Bytes that it takes where it stands."""
        return WORD if self.is_dynamic else heads_size(self.components)


Type: TypeAlias = Elementary | Array | Tuple


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named value of a type: an argument of an event or function, or a component of a tuple.

    Attributes:
        name: as in the ABI; may be empty, and need not be unique.
        type: its type.
        indexed: whether an event's argument is a topic.
    """

    name: str
    type: Type
    indexed: bool = False

    @property
    def is_hashed(self) -> bool:
        """Whether the log holds only the hash of the value: an indexed argument that does not fit into a topic."""
        return self.indexed and (not isinstance(self.type, Elementary) or self.type.is_dynamic)


def heads_size(parameters: tuple[Parameter, ...]) -> int:
    """Bytes of the heads of these parameters, one after the other."""
    return sum(p.type.head_size for p in parameters)


_ARRAYS = re.compile(r"(?:\[(?:[1-9][0-9]{0,77})?\])*")
_ALIASES = {"uint": "uint256", "int": "int256", "fixed": "fixed128x18", "ufixed": "ufixed128x18", "byte": "bytes1"}
_PLAIN: dict[str, Elementary] = {
    "address": Elementary("address", "address", 20),
    "bool": Elementary("bool", "bool"),
    "function": Elementary("function", "function", 24),
    "bytes": Elementary("bytes", "bytes"),
    "string": Elementary("string", "string"),
}
_PLAIN |= {f"bytes{n}": Elementary(f"bytes{n}", "bytesN", n) for n in range(1, 33)}
_PLAIN |= {f"uint{n}": Elementary(f"uint{n}", "uint", n) for n in range(8, 257, 8)}
_PLAIN |= {f"int{n}": Elementary(f"int{n}", "int", n) for n in range(8, 257, 8)}
_FIXED = re.compile(r"(u?fixed)([1-9][0-9]{0,2})x([1-9][0-9]?)")


def parse_parameter(document: object, path: str, *, depth: int = 0) -> Parameter:
    """Read one parameter of an ABI, with its components.

    Args:
        document: the JSON object: ``{"name", "type", "components", "indexed"}``.
        path: where it stands, for messages.
        depth: how many arrays and tuples it stands in.

    Raises:
        AbiError: it is none; the message bears the path.
    """
    if not isinstance(document, Mapping):
        raise AbiError(f"{path}: a parameter is an object, found {_shown(document)}")
    name = parse_name(document.get("name", ""), path)
    indexed = document.get("indexed", False)
    if not isinstance(indexed, bool):
        raise AbiError(f"{path}.indexed: true or false, found {_shown(indexed)}")
    return Parameter(name, _parse_type(document, path, depth), indexed)


def parse_name(name: object, path: str) -> str:
    """Check a name of an ABI: any text (null is an empty one) that Postgres can hold.

    Raises:
        AbiError: no text, or with characters that no text in Postgres can have.
    """
    if name is None:
        return ""
    if not isinstance(name, str):
        raise AbiError(f"{path}.name: a text, found {_shown(name)}")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise AbiError(f"{path}.name: {name!r} holds control characters or halves of characters")
    return name


def _parse_type(document: Mapping[str, object], path: str, depth: int) -> Type:
    text = document.get("type")
    if not isinstance(text, str):
        raise AbiError(f"{path}.type: a text, found {_shown(text)}")
    base, bracket, rest = text.partition("[")
    arrays = bracket + rest
    if not _ARRAYS.fullmatch(arrays):
        raise AbiError(f"{path}.type: {_shown(text)} is no type: an array is [] or [length], the length 1 or more")
    depth += arrays.count("[") + (base == "tuple")
    if depth > MAX_DEPTH:
        raise AbiError(f"{path}.type: more than {MAX_DEPTH} arrays and tuples inside one another")
    found: Type
    if base == "tuple":
        components = document.get("components")
        if not isinstance(components, list) or not components:
            raise AbiError(
                f"{path}.components: a tuple has a list of one component or more, found {_shown(components)}"
            )
        found = Tuple(
            tuple(parse_parameter(c, f"{path}.components[{i}]", depth=depth) for i, c in enumerate(components))
        )
    else:
        found = parse_elementary(base, f"{path}.type")
    for length in re.findall(r"\[([0-9]*)\]", arrays):
        found = Array(found, int(length) if length else None)
        if (found.length or 0) * found.item.head_size > MAX_HEAD_SIZE:
            raise AbiError(f"{path}.type: {_shown(text)} is larger than any log")
    return found


def parse_elementary(text: str, path: str) -> Elementary:
    """Read the name of an elementary type.

    Raises:
        AbiError: there is no such type.
    """
    text = _ALIASES.get(text, text)
    if known := _PLAIN.get(text):
        return known
    if match := _FIXED.fullmatch(text):
        bits, places = int(match[2]), int(match[3])
        if bits % 8 == 0 and bits <= 256 and places <= 80:
            return Elementary(text, "fixed" if match[1] == "fixed" else "ufixed", bits, places)
    raise AbiError(f"{path}: unknown type {_shown(text)}")


def _shown(value: object) -> str:
    """A value in a message, cut to a length that can be read."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
